"""A whole run on a small history, through the commands a user types."""

from __future__ import annotations

import csv
import io
import json
import shutil
import subprocess
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pytest
from jsonschema import Draft202012Validator
from ruamel.yaml import YAML
from typer.testing import CliRunner, Result

from hs_analysis.cli.app import app
from hs_analysis.schema.names import EXPORT_TARGETS

Hsa = Callable[..., subprocess.CompletedProcess[str]]
LIMITS = ("--slo", "ttft=2.5s", "--slo", "tbt=50ms", "--startup", "120s")


def call(*arguments: str | Path) -> Result:
    """Run a command in this process."""
    return CliRunner().invoke(app, [str(a) for a in arguments], catch_exceptions=False)


def summary_of(folder: Path) -> dict[str, Any]:
    """Return summary.json."""
    found: dict[str, Any] = json.loads((folder / "summary.json").read_text())
    return found


@pytest.fixture
def copied(finished: Path, tmp_path: Path) -> Path:
    """A copy of the finished run that a test may change."""
    return Path(shutil.copytree(finished, tmp_path / "run"))


def test_summary_keeps_its_schema(finished: Path) -> None:
    """The written file follows the JSON Schema that ships in the package."""
    schema = json.loads(files("hs_analysis.schema").joinpath("summary.schema.json").read_text())
    errors = [
        f"{e.json_path}: {e.message}" for e in Draft202012Validator(schema).iter_errors(summary_of(finished))
    ]
    assert errors == []


def test_run_folder_holds_what_it_should(finished: Path) -> None:
    """The files of the contract, none under a temporary name, and no clock time outside the manifest."""
    names = {p.relative_to(finished).as_posix() for p in finished.rglob("*") if p.is_file()}
    wanted = {
        "manifest.json", "summary.json", "policy.yaml", "report.html", "run.duckdb", "data/series.parquet",
        "data/samples/part-0.parquet", "data/rejected.parquet", "data/signals.parquet", "data/study.parquet",
        "data/select.parquet", "data/findings.parquet", "data/derived/capacity.parquet",
        "data/replay/policies.parquet",
    }  # fmt: skip
    assert wanted <= names
    exported = {n.split("/")[1] for n in names if n.startswith("exports/") and n.count("/") == 2}
    assert exported == set(EXPORT_TARGETS)
    assert not [n for n in names if ".staging-" in n or n.endswith(".unfinished")]
    manifest = json.loads((finished / "manifest.json").read_text())
    written = [file["path"] for stage in manifest["stages"].values() for file in stage["files"]]
    assert set(written) == names - {"manifest.json", "run.duckdb", ".lock"}


def test_manifest_counts_rows(finished: Path) -> None:
    """Rows read are rows stored, duplicates and rejected, per file and in all."""
    ingest = json.loads((finished / "manifest.json").read_text())["stages"]["ingest"]
    for counts in (*ingest["inputs"], ingest["counts"]):
        assert counts["rows_read"] == counts["rows_stored"] + counts["duplicates"] + counts["rows_rejected"]
    assert ingest["counts"]["rows_read"] == sum(file["rows_read"] for file in ingest["inputs"]) > 10_000
    assert ingest["counts"]["skipped"] == ["notes.md"]


def test_views_open_from_any_directory(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """run.duckdb has a view per table."""
    monkeypatch.chdir(tmp_path)
    with duckdb.connect(str(finished / "run.duckdb"), read_only=True) as connection:
        rows = connection.execute("SELECT count(*) FROM study WHERE fit = 'whole'").fetchone()
        samples = connection.execute("SELECT count(*) FROM samples").fetchone()
    assert rows is not None
    assert rows[0] == len(summary_of(finished)["services"][0]["signals"])
    assert samples is not None
    assert samples[0] > 10_000


def test_second_run_does_nothing_and_answers_the_same(copied: Path, dumps: Path) -> None:
    """Every stage says that it had nothing to do, stdout is the same, no result is touched."""
    before = {
        p: p.stat().st_mtime_ns
        for p in copied.rglob("*")
        if p.is_file() and p.suffix in (".parquet", ".html")
    }
    first = call("run", dumps, "--run-dir", copied, *LIMITS)
    again = call("run", dumps, "--run-dir", copied, *LIMITS)
    assert first.exit_code == again.exit_code == 0
    assert first.stdout == again.stdout
    assert again.stderr.count("nothing to do, same inputs and settings") == 10
    assert before == {p: p.stat().st_mtime_ns for p in before}


@pytest.mark.slow
def test_equal_inputs_give_equal_bytes(finished: Path, dumps: Path, tmp_path: Path) -> None:
    """Another place, another time, without the file that is no dump: the same results to the byte.

    Only the list of skipped files tells them apart.
    """
    moved = tmp_path / "elsewhere" / "dumps"
    shutil.copytree(dumps, moved)
    (moved / "notes.md").unlink()
    folder = tmp_path / "again"
    assert call("run", moved, "--run-dir", folder, "-q", *LIMITS).exit_code == 0
    one, two = summary_of(finished), summary_of(folder)
    assert one["coverage"].pop("skipped") == ["notes.md"]
    assert two["coverage"].pop("skipped") == []
    assert json.dumps(one) == json.dumps(two)
    names = sorted(p.relative_to(finished) for p in finished.glob("exports/*/*"))
    for name in (Path("policy.yaml"), *names):
        assert (finished / name).read_bytes() == (folder / name).read_bytes()


@pytest.mark.slow
def test_another_limit_runs_from_align_on(copied: Path, dumps: Path) -> None:
    """A run with another SLO reads no input again, and the folder stays whole: so is the report."""
    result = call("run", dumps, "--run-dir", copied, "--slo", "ttft=1s")
    assert result.exit_code == 0
    assert "ingest: nothing to do" in result.stderr
    for stage in ("align", "study", "derive", "select", "replay", "policy", "export", "report"):
        assert f"\n{stage}: " in f"\n{result.stderr}"
        assert f"{stage}: nothing to do" not in result.stderr
    manifest = json.loads((copied / "manifest.json").read_text())
    assert manifest["settings"]["slo"]["ttft_s"] == 1.0
    assert manifest["settings"]["slo"]["tbt_s"] == 0.05
    assert manifest["settings"]["startup_s"]["decode"] == 120.0
    assert "ttft=1s" in (copied / "report.html").read_text()


@pytest.mark.slow
def test_another_seed_leaves_alignment_alone(copied: Path, dumps: Path) -> None:
    """Only what depends on the seed is made again."""
    result = call("run", dumps, "--run-dir", copied, "--seed", "5")
    assert "align: nothing to do" in result.stderr
    assert "study: signals" in result.stderr


@pytest.mark.parametrize(
    "command", ["study", "derive", "select", "replay", "policy", "report", "export", "doctor"]
)
@pytest.mark.parametrize("form", ["table", "json", "yaml", "csv"])
def test_stdout_is_the_result_and_nothing_else(finished: Path, command: str, form: str) -> None:
    """Every command in every form parses with a standard parser; notes are on stderr."""
    result = call(command, finished, "-o", form)
    assert result.exit_code == 0
    assert "nothing to do" in result.stderr
    assert "nothing to do" not in result.stdout
    if form == "json":
        assert json.loads(result.stdout)
    elif form == "yaml":
        assert YAML(typ="safe").load(result.stdout)
    elif form == "csv":
        rows = list(csv.reader(io.StringIO(result.stdout)))
        assert len({len(row) for row in rows}) == 1
    else:
        assert result.stdout.strip()


def test_forms_agree_with_summary(finished: Path) -> None:
    """What a stage prints is its part of summary.json."""
    service = summary_of(finished)["services"][0]
    for command, keys in (
        ("study", ("signals", "recommended")),
        ("derive", ("capacity", "demand", "thresholds", "pd_ratio", "refusals")),
        ("select", ("selection", "drivers")),
        ("replay", ("replay",)),
    ):
        (printed,) = json.loads(call(command, finished, "-o", "json", "-q").stdout)["services"]
        for key in keys:
            assert _near(printed[key], service[key]), f"{command}: {key}"


def _near(one: Any, two: Any) -> bool:
    """Equal but for the digits that summary.json rounds away."""
    if isinstance(one, float) and isinstance(two, float):
        return one == pytest.approx(two, rel=1e-11)
    if isinstance(one, dict) and isinstance(two, dict):
        return list(one) == list(two) and all(_near(one[key], two[key]) for key in one)
    if isinstance(one, list) and isinstance(two, list):
        return len(one) == len(two) and all(_near(a, b) for a, b in zip(one, two, strict=True))
    return bool(one == two)


def test_run_prints_the_answers(finished: Path, dumps: Path) -> None:
    """Signal, target, ratio, saving, refusals; the report's path last, and as a key of JSON."""
    service = summary_of(finished)["services"][0]
    result = call("run", dumps, "--run-dir", finished, "-v", *LIMITS)
    lines = result.stdout.splitlines()
    assert lines[-1] == f"report: {finished / 'report.html'}"
    text = result.stdout
    assert f"recommended signal: {service['recommended']['signal']}@{service['recommended']['role']}" in text
    assert "selected policy: " in text
    assert "per instance, " in text
    assert "P/D ratio: " in text
    assert service["pd_ratio"]["status"] in text
    assert "backtest: saves " in text
    for refusal in service["refusals"]:
        assert f"not answered: {refusal['what']} ({refusal['code']})" in text
        assert refusal["collect"] in text
    found = json.loads(call("run", dumps, "--run-dir", finished, "-q", "-o", "json", *LIMITS).stdout)
    assert found["report"] == str(finished / "report.html")
    assert found["summary"] == summary_of(finished)
    (answer,) = found["answers"]
    assert answer["pd_ratio_status"] == service["pd_ratio"]["status"]
    assert answer["selected_policy"] == next(s["policy"] for s in service["selection"] if s["chosen"])


def test_quiet_leaves_stderr_empty(finished: Path, hsa: Hsa) -> None:
    """-q silences progress, not the result or its refusals."""
    done = hsa("derive", finished, "-q")
    assert done.returncode == 0
    assert done.stderr == ""
    assert "not answered: " in done.stdout


def test_explain_tells_the_number_of_the_summary(finished: Path) -> None:
    """A link from summary.json leads to the very number, as a path, a permalink or a report's address."""
    ratio = summary_of(finished)["services"][0]["pd_ratio"]
    run = YAML(typ="safe").load((finished / "policy.yaml").read_text())["metadata"]["run"]
    for link in (ratio["evidence"], f"hsa:{run}/{ratio['evidence']}"):
        found = json.loads(call("explain", link, "--run-dir", finished, "-o", "json").stdout)
        assert found["value"] == ratio["value"]
    address = f"{finished}/report.html#/{ratio['evidence']}"
    assert json.loads(call("explain", address, "-o", "json").stdout)["value"] == ratio["value"]
    other = call("explain", f"hsa:0123/{ratio['evidence']}", "--run-dir", finished)
    assert "the link was seen in run 0123" in other.stderr


def test_explain_folds_the_inputs_under_the_hash_that_the_policy_names(finished: Path) -> None:
    """One line for all files with their common hash; -v lists each with its own."""
    found = summary_of(finished)
    meta = YAML(typ="safe").load((finished / "policy.yaml").read_text())["metadata"]
    link, files = found["services"][0]["pd_ratio"]["evidence"], found["inputs"]
    folded = call("explain", link, "--run-dir", finished).stdout
    assert f"{len(files)} input files" in folded
    assert f"sha256 of all {meta['inputs_sha256']}" in folded
    assert files[0]["sha256"] not in folded
    listed = call("explain", link, "--run-dir", finished, "-v").stdout
    assert all(f"{file['name']}  {file['size']:,} bytes  sha256 {file['sha256']}" in listed for file in files)


def test_explain_finds_the_run_by_its_hash(copied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A permalink needs no folder when its run lies in reports/; one that is not there is told."""
    reports = copied.parent / "reports"
    reports.mkdir()
    copied.rename(reports / "mine")
    monkeypatch.chdir(reports.parent)
    summary = summary_of(reports / "mine")
    link = summary["services"][0]["pd_ratio"]["evidence"]
    run = YAML(typ="safe").load((reports / "mine" / "policy.yaml").read_text())["metadata"]["run"]
    assert call("explain", f"hsa:{run}/{link}").exit_code == 0
    assert call("explain", link).exit_code == 0
    missing = call("explain", f"hsa:0123/{link}")
    assert missing.exit_code == 2
    assert "no run 0123" in missing.stderr


def test_policy_is_printed_as_it_was_written(finished: Path) -> None:
    """The table form is the file itself, comments included."""
    assert call("policy", finished, "-q").stdout == (finished / "policy.yaml").read_text()


def test_policy_changed_by_hand_is_said(copied: Path) -> None:
    """A file that is written again although someone edited it is named."""
    path = copied / "policy.yaml"
    path.write_text(path.read_text() + "# mine\n")
    result = call("policy", copied)
    assert "policy.yaml was changed by hand" in result.stderr
    assert "# mine" not in path.read_text()


def test_export_prints_files_and_losses(finished: Path) -> None:
    """Only the targets asked for; each file is there."""
    found = json.loads(call("export", finished, "--target", "keda", "-q", "-o", "json").stdout)["exports"]
    assert {entry["target"] for entry in found} == {"keda"}
    assert all(Path(path).is_file() for entry in found for path in entry["files"])
    assert all(entry["losses"] for entry in found)


def test_doctor_names_what_is_missing(finished: Path) -> None:
    """Found and missing per signal and role, with the switch that gives what is missing."""
    found = json.loads(call("doctor", finished, "-q", "-o", "json").stdout)
    states = {(row["signal"], row["role"]): row["state"] for row in found["signals"]}
    assert states["decode_tps", "decode"] == "found"
    assert states["kv_usage", "decode"] == "missing"
    missing = summary_of(finished)["coverage"]["missing"]
    assert {(m["signal"], m["role"]) for m in missing} == {
        k for k, state in states.items() if state == "missing"
    }
    assert all(m["how_to_enable"] for m in missing)
    assert {row["level"] for row in found["findings"]} <= {"pass", "warn", "fail"}


def test_doctor_refuses_flags_of_input_on_a_run(finished: Path) -> None:
    """A flag that would do nothing is refused."""
    result = call("doctor", finished, "--run-dir", "other")
    assert result.exit_code == 2
    assert "--run-dir: is for INPUT" in result.stderr


def test_bounds_cut_the_history(dumps: Path, tmp_path: Path) -> None:
    """--from and --to bound the aligned window; outside of the data they are an error."""
    folder = tmp_path / "run"
    bounds = ("--from", "2026-07-01T02:00:00Z", "--to", "2026-07-01T11:00:00Z")
    assert call("ingest", dumps, "--run-dir", folder, "-q").exit_code == 0
    assert call("study", folder, "-q", *bounds).exit_code == 0
    with duckdb.connect() as connection:
        path = folder / "data" / "signals.parquet"
        rows = connection.execute(f"SELECT min(epoch(t)), max(epoch(t)) FROM '{path}'").fetchone()
    assert rows == (1_782_864_000 + 2 * 3600 - 60, 1_782_864_000 + 11 * 3600 - 60)
    late = call(
        "run", dumps, "--run-dir", folder, "--from", "2027-01-01T00:00:00Z", "--to", "2027-01-02T00:00:00Z"
    )
    assert late.exit_code == 1
    assert "no sample lies between" in late.stderr
    assert late.stdout == ""


def test_summary_lists_the_candidates_that_no_other_beats_and_counts_the_rest(finished: Path) -> None:
    """The chosen one first, the front, and the default HPA; the table holds all of them."""
    (service,) = json.loads((finished / "summary.json").read_text())["services"]
    table = pl.read_parquet(finished / "data" / "select.parquet")
    shown = table.filter(pl.col("chosen") | pl.col("front") | (pl.col("policy") == "hpa"))
    names = [one["policy"] for one in service["selection"]]
    assert sorted(names) == sorted(shown["policy"])
    assert [one["chosen"] for one in service["selection"]] == [True, *([False] * (len(names) - 1))]
    assert service["selection_left_out"] == table.height - len(names) > 0


def test_no_two_candidates_are_the_same(finished: Path) -> None:
    """Candidates differ in what they follow, and their names tell the range that is read."""
    table = pl.read_parquet(finished / "data" / "select.parquet")
    settings = (
        "signal", "role", "reading_s", "surge_s", "scale_out_ratio", "scale_in_ratio", "over_s",
        "counts_waiting",
    )  # fmt: skip
    assert table.select(settings).is_unique().all()
    named = table.filter(pl.col("policy").str.contains(" s mean"))
    for name, *ranges in named.select("policy", "reading_s", "surge_s").rows():
        shown = "/".join(f"{one:g}" for one in ranges if one is not None)
        assert f", {shown} s mean" in name
