"""The package from Python: doctests, one set of answers with the commands, figures, errors."""

from __future__ import annotations

import contextlib
import csv
import doctest
import io
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path

import polars as pl
import pytest
from end_to_end.runs import SAMPLES, Finished, here
from report import sample as samples
from report.unpacked import charts

from hs_analysis import HsError, api, as_frame, derive, frame_of, load_run, replay, run, study, with_targets
from hs_analysis.pipeline.chain import STAGES
from hs_analysis.pipeline.study_stages import read_all_verdicts, read_derived
from hs_analysis.policy import dump
from hs_analysis.report.figures import figures
from hs_analysis.settings.registry import SETTINGS
from hs_analysis.settings.sections import SECTIONS

SAMPLE = "dynamo-pd"


@pytest.fixture(scope="module")
def folder(root: Path, finished: Finished) -> Path:
    """The run of the sample with both pools; tests only read it."""
    return finished(root / "data_samples" / SAMPLE, *SAMPLES[SAMPLE]).folder


@cache
def replayed(history: api.Run) -> api.Replayed:
    """Return the replay of a run, made once: nothing that is asked of one changes it."""
    return replay(history)


@pytest.fixture
def beside_a_run(root: Path, folder: Path, tmp_path: Path) -> Iterator[Path]:
    """A current folder with the dumps of the sample and its run below reports/, as the examples name them."""
    shutil.copytree(root / "data_samples" / SAMPLE, tmp_path / SAMPLE)
    shutil.copytree(folder, tmp_path / "reports" / SAMPLE)
    with contextlib.chdir(tmp_path):
        yield tmp_path


def test_examples_of_the_docstrings_hold(beside_a_run: Path) -> None:
    """Every public function has an example, and each prints what its docstring says."""
    names = {"pl": pl, **{name: getattr(api, name) for name in dir(api) if not name.startswith("_")}}
    found = doctest.DocTestFinder(exclude_empty=False).find(api, globs=names)
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    for one in found:
        runner.run(one)
    assert runner.summarize(verbose=False).failed == 0
    shown = {one.name.removeprefix("hs_analysis.api.") for one in found if one.examples}
    assert shown >= {"load_run", "run", "frame_of", "study", "derive", "replay", "with_targets", "as_frame"}


def test_own_policy_has_the_row_of_the_command(folder: Path, tmp_path: Path) -> None:
    """An edited target replayed from Python gives, in every column, the row of `hsa replay --policy FILE`."""
    history = load_run(folder)
    before = state_of(folder)
    own = with_targets(history.policy(), {"decode": 500.0})
    found = replay(history, {"own.yaml": own})
    assert state_of(folder) == before
    (tmp_path / "own.yaml").write_text(dump(own))
    assert replay(history, tmp_path / "own.yaml").row("own.yaml") == found.row("own.yaml")
    shutil.copytree(folder, tmp_path / "run")
    here("replay", tmp_path / "run", "--policy", tmp_path / "own.yaml", "-q")
    with pytest.warns(UserWarning, match="stale, kept as before: policy, export, report"):
        written = load_run(tmp_path / "run")
    theirs = written.table("replay_policies").drop("fit")
    assert found.policies.equals(theirs)
    assert found.row("own.yaml")["instance_hours"] != found.row(found.selected)["instance_hours"]
    assert found.timeline.equals(written.table("timeline"))
    assert (found.own, found.row()["policy"]) == (("own.yaml",), "own.yaml")
    drawn = {row["series"] for row in found.figure("decode").to_dict()["datasets"]["main"]}
    assert {"own.yaml", "recorded"} < drawn


def state_of(folder: Path) -> dict[str, tuple[int, int]]:
    """Return size and time of change of every file."""
    files = {path: path.stat() for path in folder.rglob("*") if path.is_file()}
    return {str(path): (stat.st_size, stat.st_mtime_ns) for path, stat in files.items()}


def drawn_in(page: str) -> dict[str, str]:
    """Return the CSV behind each chart of a page by the name of its figure."""
    return {name: chart["csv"] for name, chart in charts(page).items()}


def test_every_figure_of_the_report_is_an_altair_chart(folder: Path) -> None:
    """The figures are those of report.html, with its rows, colours written out; Altair accepts each."""
    history = load_run(folder)
    page = drawn_in((folder / "report.html").read_text("utf-8"))
    listed = history.figures()
    assert len(page) == listed.height > 8
    for name, count, title in listed.select("figure", "rows", "title").iter_rows():
        (text,) = [text for key, text in page.items() if key.endswith(f"-{name}")]
        wanted = list(csv.DictReader(io.StringIO(text.lstrip("\n"))))
        chart = history.figure(name).to_dict()
        rows = history.figure_rows(name)
        assert len(wanted) == rows.height == len(chart["datasets"]["main"]) == count
        for theirs, ours in zip(wanted, chart["datasets"]["main"], strict=True):
            assert theirs == {key: said(value, theirs[key]) for key, value in ours.items()}
        assert " ".join(chart["title"]["text"]) == title
        assert chart["background"] == "#ffffff"
        assert "var(--" not in json.dumps(chart)


def said(value: object, csv_text: str) -> str:
    """Return a value of a chart as the CSV says it, which is rounded to digits and leaves seconds out."""
    if value is None:
        return ""
    if isinstance(value, float):
        return csv_text if csv_text and float(csv_text) == value else repr(value)
    return (
        csv_text
        if re.fullmatch(r"[\d-]+T[\d:]+Z", csv_text) and csv_text[:16] == str(value)[:16]
        else str(value)
    )


@pytest.mark.parametrize("sample", SAMPLES)
def test_stages_give_what_the_run_says(root: Path, finished: Finished, sample: str) -> None:
    """study and derive of a run are the verdicts and numbers that its tables hold."""
    folder = finished(root / "data_samples" / sample, *SAMPLES[sample]).folder
    history = load_run(folder)
    (service,) = history.services
    found = study(history)
    assert found.verdicts == read_all_verdicts(folder, service)
    assert derive(history).derived == read_derived(folder, service)
    of_a_type = replace(found.verdict_of("kv_usage", "decode"), verdict="proportional", gpu_type="NVIDIA H20")
    typed = replace(found, verdicts=(*found.verdicts, of_a_type))
    assert derive(history, studied=typed).derived == read_derived(folder, service)
    table = as_frame(found.verdicts)
    assert (
        table["signal"].to_list()
        == history.table("study").filter(pl.col("fit") == "whole")["signal"].to_list()
    )


def test_a_table_of_ones_own_is_studied_and_replayed(folder: Path) -> None:
    """The aligned table alone gives the verdicts of its service, and a policy can be replayed on it."""
    history = load_run(folder)
    table, policy = history.signals(), history.policy()
    gaps = table.filter(pl.int_range(pl.len()) % 7 != 3)
    whole = frame_of(gaps, policy.service, kind="pressure_test").table
    assert whole["t"].equals(table["t"])
    made = frame_of(table.sample(fraction=1.0, shuffle=True, seed=1), policy.service, kind="pressure_test")
    assert made.table.select(table.columns).equals(table)
    ours = {(v.signal, v.role): v.verdict for v in study(made, draws=50).verdicts}
    theirs = {(v.signal, v.role): v.verdict for v in study(history.frame(), draws=50).verdicts}
    assert ours == theirs
    slo = {"ttft": "2s", "tbt": "50ms"}
    found = replay(table, {"mine": policy}, slo=slo, draws=50, history={"kind": "pressure_test"})
    assert found.service == policy.service
    assert found.row("mine")["instance_hours"] > 0
    assert {"mine", "recorded", "static_peak"} <= set(found.policies["policy"])


def test_import_is_cheap_and_its_order_does_not_matter() -> None:
    """`import hs_analysis` loads nothing; a stage can be called whichever of its two meanings came first."""
    code = """
import sys, hs_analysis
heavy = [n for n in ("polars", "altair", "numpy", "scipy", "duckdb", "typer") if n in sys.modules]
assert not heavy, heavy
import hs_analysis.study.verdict
from hs_analysis import study, derive, replay
import hs_analysis.replay.score
import inspect
print([callable(one) for one in (study, derive, replay)], "altair" in sys.modules)
print(inspect.getdoc(study).splitlines()[0][:40])
print(list(inspect.signature(replay).parameters), hs_analysis.replay is replay, replay.score.__name__)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "[True, True, True] False",
        "Judge every signal of a service: ``propo",
        "['data', 'policies', 'service', 'settings'] True hs_analysis.replay.score",
    ]


def test_settings_of_a_call_are_those_of_the_settings_file() -> None:
    """Every section and key above the first section of hsa.toml is a keyword, and nothing else is."""
    keys = {one.key.partition(".")[0] for one in SETTINGS} | {one.name for one in SECTIONS}
    assert set(api.GivenSettings.__annotations__) == keys


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda it: load_run("nowhere"), "nowhere: no such run folder; make one with hsa run INPUT"),
        (lambda it: it.table("thresold"), "no such table 'thresold'; did you mean thresholds?"),
        (lambda it: it.figure("capacity"), "no such figure 'capacity'; did you mean capacity-"),
        (lambda it: it.policy("a/b"), "no such service 'a/b'; known: -/sim-llama-8b"),
        (lambda it: study(it, seed=1), "seed: a run keeps the settings that it was made with"),
        (lambda it: with_targets(it.policy(), {"decod": 1.0}), "decod: the policy has no such primary"),
        (lambda it: it.figure("scatter-kv_usage-prefil"), "? (.signals() has every signal to plot)"),
        (lambda it: with_targets(it.policy(), {"decode": 0.0}), "target of decode: 0.0 is not above"),
        (lambda it: with_targets(it.policy(), {"decode": "-10%"}), "; give tokens/s of one instance, now "),
        (lambda it: with_targets(it.policy(), {"decode": 0.9}), "; for a share of it give 0.9 * "),
        (lambda it: replay(it, "gone.yaml"), "gone.yaml: can't be read (No such file or directory)"),
        (lambda it: replayed(it).figure("decode", ["recorded", "no"]), "no such policy 'no'; known: "),
        (lambda it: replayed(it).figure("decod"), "figure: no such pool 'decod'; did you mean decode?"),
        (lambda it: replayed(it).figure("mixed"), "figure: no such pool 'mixed'; known: prefill, decode"),
        (lambda it: replayed(it).row("selected"), " (Replayed.selected names that of the run)"),
        (lambda it: replay(it.signals().select("t", "tbt@decode")).row(), "no pool with instance counts and"),
        (lambda it: replayed(it).row("mine"), "no such policy 'mine'; known: "),
        (lambda it: replay(it, replace(it.policy(), service="a/b")), "no such service 'a/b'; kno"),
        (lambda it: replay(it, replace(it.policy(), service="a/b"), *it.services), "own policy: is a policy"),
        (lambda it: replay(it, {"a/b": it.policy()}), "policies: no name of a row: 'a/b'; take one"),
        (lambda it: it.table("sweeps", "-/sim-llama-8b"), "table 'sweeps' is about the run; name no service"),
        (lambda it: study(it.signals().lazy()), "data: expected a run, an aligned service or a polars.Data"),
        (lambda it: run([], "r"), "inputs: no INPUT is named; name files or folders of dumps"),
        (lambda it: run("gone", "r"), "gone: no such file or folder"),
        (lambda it: run("gone", "r", until="al"), "until: no such stage 'al'; known: ingest, "),
        (lambda it: run("gone", "r", slo={"tft": "1s"}), "settings: slo.tft: no such key 'tft' in [slo]"),
        (lambda it: study(it.signals(), slo={"ttft": 2}), "settings: slo.ttft: expected duration, found 2"),
        (lambda it: study("reports/mine"), "found str; give load_run(DIR), "),
        (lambda it: study(it.signals().drop("t")), "table, column t: no such column; "),
        (lambda it: study(it.signals().rename({"t": "time"})), '; table.rename({"time": "t"})'),
        (lambda it: study(it.signals().with_columns(pl.col("t").cast(pl.String))), "t\").str.to_datetime"),
        (lambda it: study(it.signals().with_columns(load=1.0)), "the load is offered_tps@decode"),
        (lambda it: study(it.signals().rename({"tbt@decode": "tbd@decode"})), "column tbd@decode: no"),
        (lambda it: study(it.signals().with_columns(pl.col("t").cast(pl.Datetime("us")))), "a zone"),
    ],
)  # fmt: skip
def test_errors_are_the_lines_of_the_command(folder: Path, call: object, said: str) -> None:
    """What a user can mend is an HsError in one line that says where, what, and what to do."""
    with pytest.raises(HsError) as caught:
        call(load_run(folder))  # type: ignore[operator]
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_one_name_draws_one_policy(folder: Path) -> None:
    """The name of a row is no sequence of letters: its figure is that of a list of one."""
    found = replayed(load_run(folder))
    alone = found.figure("decode", "recorded").to_dict()
    assert alone == found.figure("decode", ["recorded"]).to_dict()


def test_a_missing_run_reads_as_it_does_on_the_command_line(tmp_path: Path) -> None:
    """The text of the error is the line that `hsa report` prints, after the name of the command."""
    from typer.testing import CliRunner

    from hs_analysis.cli.app import app

    done = CliRunner().invoke(app, ["report", str(tmp_path / "none")])
    with pytest.raises(HsError) as caught:
        load_run(tmp_path / "none")
    assert done.stderr.strip().endswith(str(caught.value))


def test_a_run_that_stopped_early_says_which_stage_is_missing(folder: Path, tmp_path: Path) -> None:
    """What a run does not hold yet is an error that names the stage and the command."""
    shutil.copytree(folder, tmp_path / "run")
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
    for until, ask, said in (
        ("derive", lambda it: replay(it, load_run(folder).policy()), "select has not run yet; hsa select "),
        ("derive", lambda it: it.policy(), "policy has not run yet; hsa policy "),
        ("derive", lambda it: it.figures(), "report has not run yet; hsa report "),
        ("align", lambda it: derive(it), "study has not run yet; hsa study "),
        ("ingest", lambda it: it.signals(), "align has not run yet; hsa study "),
    ):
        names = [stage.name for stage in STAGES]
        kept = set(names[: names.index(until) + 1])
        stages = {name: record for name, record in manifest["stages"].items() if name in kept}
        (tmp_path / "run" / "manifest.json").write_text(json.dumps(manifest | {"stages": stages}))
        with pytest.raises(HsError, match=said):
            ask(load_run(tmp_path / "run"))


def test_tables_are_cut_to_a_service(folder: Path) -> None:
    """Rows of a service are found by its name, samples by their series."""
    history = load_run(folder)
    (service,) = history.services
    mine = history.table("samples", service)
    known = history.table("series", service)["series_id"]
    assert 0 < mine.height <= history.table("samples").height
    assert set(mine["series_id"]) <= set(known)
    assert history.table("study", service).equals(history.table("study"))


def test_figures_of_many_services_carry_their_service() -> None:
    """Every service has its own figures, by the same names, and ratio tests belong to the run."""
    summary, details, policies, findings, signals = samples.many(3).arguments()[:5]
    found = figures(summary, details, policies, findings, signals)
    names = {
        one["service"]: [f.name for f in found if f.service == one["service"]] for one in summary["services"]
    }
    assert len(names) == 3
    assert all(len(set(listed)) == len(listed) > 5 for listed in names.values())
    assert len({tuple(listed) for listed in names.values()}) == 1
    assert {f.service for f in found} <= {*names, ""}
