"""Many services in one dump, whose prefill workers name no model: each has the numbers that it has alone."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from end_to_end import fleets
from end_to_end.runs import SAMPLES, Finished, Run, here, run

from hs_analysis.pipeline.results import sections
from hs_analysis.pipeline.summary import facts_section
from hs_analysis.pipeline.tables import read_entries
from hs_analysis.schema.frames import label_map

OPTIONS = SAMPLES["dynamo-pd"]


@pytest.fixture(scope="session")
def capture(root: Path) -> Path:
    """The recorded service, one file; its three prefill workers name no model, its four decode workers do."""
    return root / "data_samples" / "dynamo-pd" / "query_range.core.json.gz"


@pytest.fixture(scope="session")
def alone(finished: Finished, capture: Path) -> Run:
    """The service by itself."""
    return finished(capture.parent, *OPTIONS)


def derived(source: Path, folder: Path) -> Path:
    """Read a fleet and judge its services, without a replay."""
    here("ingest", source, "--run-dir", folder, "-q")
    here("derive", folder, "-q", *OPTIONS)
    return folder


def numbers(folder: Path) -> dict[str, Any]:
    """Return what was found of every service, without its name."""
    found = [facts_section(entry) for entry in read_entries(folder)]
    for stage in ("study", "derive"):
        found = [one | more for one, more in zip(found, sections(folder, stage), strict=True)]
    return {one["service"]: fleets.numbers_of(one, one["service"]) for one in found}


def instances(folder: Path) -> dict[tuple[str | None, str], int]:
    """Return the instances per service and role that does work."""
    series = pl.read_parquet(folder / "data" / "series.parquet")
    series = series.filter(pl.col("emitter_role").is_in(["prefill", "decode", "frontend"]))
    counts = series.group_by("service", "emitter_role").agg(pl.col("instance").n_unique())
    return {(service, role): count for service, role, count in counts.iter_rows()}


def pools(services: int, name: str) -> Mapping[tuple[str | None, str], int]:
    """Return the instances of a fleet that lost none; ``name`` is a service with its number left open."""
    each = {"prefill": 3, "decode": 4, "frontend": 1}
    return {(name.format(i), role): count for i in range(services) for role, count in each.items()}


def told(folder: Path, lines: list[str]) -> Path:
    """Write hsa.toml with lines under [services]."""
    path = folder / "hsa.toml"
    path.write_text("\n".join(["[services]", *lines]), "utf-8")
    return path


def lines_of(text: str) -> list[str]:
    """Return the lines for [services] that warnings propose, as a user copies them."""
    return re.findall(r"under \[services\] in hsa\.toml: (.*)", text)


def test_two_services_have_the_numbers_that_each_has_alone(capture: Path, alone: Run, tmp_path: Path) -> None:
    """Joined by the discovery's namespace; no pool is lost, and no digit differs."""
    source = fleets.fleet(capture, tmp_path / "dumps", range(2), fleets.by_dynamo_namespace)
    folder = derived(source, tmp_path / "run")
    assert instances(folder) == pools(2, "-/sim-llama-8b-v{}")
    (reference,) = numbers(alone.folder).values()
    assert list(numbers(folder).values()) == [reference] * 2


def test_a_pool_that_may_be_anyones_comes_with_the_line_that_doctor_proposes(
    capture: Path, tmp_path: Path
) -> None:
    """Two services share a namespace and say nothing of their prefill workers: none is guessed."""
    source = fleets.fleet(capture, tmp_path / "dumps", range(2), fleets.in_one_namespace)
    here("ingest", source, "--run-dir", tmp_path / "before", "-q")
    assert instances(tmp_path / "before") == {
        (None, "prefill"): 6,
        **{key: n for key, n in pools(2, "serving/sim-llama-8b-v{}").items() if key[1] != "prefill"},
    }
    said = json.loads(here("doctor", tmp_path / "before", "-q", "-o", "json").stdout)
    proposed = lines_of("\n".join(one["text"] for one in said["findings"]))
    assert proposed == [
        '"^pod=ctx0-" = "serving/sim-llama-8b-v0"  # or "serving/sim-llama-8b-v1"',
        '"^pod=ctx1-" = "serving/sim-llama-8b-v1"  # or "serving/sim-llama-8b-v0"',
    ]
    config = told(tmp_path, proposed)
    here("ingest", source, "--run-dir", tmp_path / "after", "--config", config, "-q")
    assert instances(tmp_path / "after") == pools(2, "serving/sim-llama-8b-v{}")
    series = pl.read_parquet(tmp_path / "after" / "data" / "series.parquet")
    for labels, service in (
        series.filter(pl.col("emitter_role") == "prefill").select("labels", "service").rows()
    ):
        assert label_map(labels)["pod"].startswith(f"ctx{service[-1]}-")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("services", "form", "name"),
    [
        (2, fleets.by_owner, "serving/sim-llama-8b-v{}"),
        (24, fleets.by_namespace, "team-{0}/sim-llama-8b-v{0}"),
        (60, fleets.by_dynamo_namespace, "-/sim-llama-8b-v{}"),
    ],
)
def test_many_services_have_the_numbers_that_each_has_alone(
    capture: Path, alone: Run, tmp_path: Path, services: int, form: fleets.Rename, name: str
) -> None:
    """By owner, by namespace, by the discovery's namespace; verdicts, capacities, targets and ratios."""
    source = fleets.fleet(capture, tmp_path / "dumps", range(services), form)
    folder = derived(source, tmp_path / "run")
    assert instances(folder) == pools(services, name)
    (reference,) = numbers(alone.folder).values()
    found = numbers(folder)
    assert len(found) == services
    assert [one for one, numbers in found.items() if numbers != reference] == []


@pytest.mark.slow
def test_the_answer_begins_with_a_lost_pool_and_the_proposed_lines_mend_it(
    capture: Path, alone: Run, tmp_path: Path
) -> None:
    """First lines, low confidence; with the lines of the answer, policies and numbers are those of alone."""
    source = fleets.fleet(capture, tmp_path / "dumps", range(2), fleets.in_one_namespace)
    said = here("run", source, "--run-dir", tmp_path / "before", "-q", *OPTIONS).stdout
    first = said.splitlines()[:2]
    assert all(line.startswith("WARNING: 3 prefill instances of namespace serving") for line in first)
    assert (tmp_path / "before" / "policy.yaml").read_text("utf-8").count("confidence: low") == 2
    config = told(tmp_path, lines_of("\n".join(first)))
    mended = run(source, tmp_path / "after", "--config", str(config), *OPTIONS)
    assert not [w for w in mended.summary["warnings"] if "belong to no service" in w["text"]]
    reference = fleets.numbers_of(alone.service, alone.service["service"])
    for one in mended.summary["services"]:
        assert fleets.numbers_of(one, one["service"]) == reference
