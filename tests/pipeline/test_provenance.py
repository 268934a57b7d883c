"""What an explanation or a report names as the maker of a number has run in that run."""

from __future__ import annotations

import re
from collections.abc import Mapping
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from cli.conftest import small_history, write_dumps
from end_to_end.runs import Run, run
from pipeline.traced import traced

from hs_analysis.pipeline import provenance
from hs_analysis.pipeline.provenance import MAKERS, made_by, name_of
from hs_analysis.pipeline.results import explained
from hs_analysis.report.explain import kinds

ELSEWHERE = {"bench_sweeps"}
"""Kinds that the run here does not have: benchmark points (test_ratio_tests) and an optional package."""

HOURS = 3
DAY_S = 86_400


def splits(folder: Path) -> Path:
    """Write two captures of a service with two GPU types, the second with a prefill pod less."""
    for number, gone in enumerate(("", "m-prefill-2")):
        history: dict[str, list[dict[str, Any]]] = {}
        for name, series in small_history(HOURS).items():
            history[name] = [one for one in series if one["metric"].get("pod") != gone or not gone]
            for one in history[name]:
                one["values"] = [[t + number * DAY_S, value] for t, value in one["values"]]
                pod = one["metric"].get("pod", "")
                if pod.startswith("m-decode"):
                    one["metric"]["gpu_type"] = "H100" if pod.endswith("0") else "A100"
        for part in ("sum", "count"):
            of = "dynamo_frontend_{}_sequence_tokens_" + part
            name = of.format("input")
            history[name] = [
                {**one, "metric": {**one["metric"], "__name__": name}} for one in history[of.format("output")]
            ]
        write_dumps(folder / f"split-{number}", history)
    return folder


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, set[str]]:
    """A whole run, and which of the named functions and queries ran."""
    place = tmp_path_factory.mktemp("provenance")
    options = ("--slo", "ttft=2.5s", "--slo", "tbt=50ms", "--startup", "120s", "--pressure-test")
    with traced() as ran:
        return run(splits(place / "in"), place / "run", *options), ran


def links(summary: Mapping[str, Any]) -> list[str]:
    """Return every evidence link of a summary."""
    found: list[str] = []
    waiting: list[Any] = [summary]
    while waiting:
        one = waiting.pop()
        if isinstance(one, dict):
            found += [one["evidence"]] if one.get("evidence") else []
            waiting += one.values()
        elif isinstance(one, list):
            waiting += one
    return sorted(set(found))


def test_the_run_here_has_every_kind_of_number(seen: tuple[Run, set[str]]) -> None:
    """No kind is left untraced."""
    done, _ = seen
    assert kinds(done.summary) == set(MAKERS) - ELSEWHERE


def test_every_name_in_an_explanation_ran(seen: tuple[Run, set[str]]) -> None:
    """`hsa explain` names makers for each link of the summary, and nothing that did not run."""
    done, ran = seen
    for link in links(done.summary):
        explanation, _ = explained(link, done.folder)
        assert explanation["made_by"], link
        assert set(explanation["made_by"]) <= ran, link


def test_every_name_in_the_report_ran(seen: tuple[Run, set[str]]) -> None:
    """The method section names makers of the kinds of number that the run has, and nothing else."""
    done, ran = seen
    page = (done.folder / "report.html").read_text("utf-8")
    named = {
        unescape(name)
        for line in re.findall(r"Made by: (.*?)\. ", page)
        for name in re.findall("<code>(.*?)</code>", line)
    }
    assert named == {name for kind in kinds(done.summary) for name in made_by()[kind]}
    assert named <= ran
    assert not set(re.findall(r"queries/\w+/\w+\.sql|hs_analysis\.[\w.]+:[\w.]+", page)) - named


def test_every_shipped_query_is_asked_for_by_the_program(root: Path) -> None:
    """A query that no code names never runs; it belongs to the tests. The pack's run by their names."""
    code = "\n".join(path.read_text("utf-8") for path in (root / "hs_analysis").rglob("*.py"))
    shipped = [f"{path.parent.name}/{path.stem}" for path in sorted(root.glob("queries/*/*.sql"))]
    shipped = [name for name in shipped if not name.startswith("operators/")]
    assert [name for name in shipped if f'"{name}"' not in code] == []


def test_names_come_from_the_objects() -> None:
    """A function that moves takes its name along."""
    assert name_of(made_by) == f"{provenance.__name__}:made_by"
    assert name_of("align/totals") == "queries/align/totals.sql"
