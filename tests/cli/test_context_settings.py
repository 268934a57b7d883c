"""A run remembers its settings: looking changes nothing, other settings are refused or announced."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from hs_analysis.cli.app import app
from hs_analysis.pipeline import doctor_stage

OTHER = ("--slo", "ttft=9s")
STAGES = ("study", "derive", "select", "policy", "replay", "export", "report", "plan-test")


def call(*arguments: str | Path, **more: Any) -> Result:
    """Run a command in this process."""
    return CliRunner().invoke(app, [str(a) for a in arguments], catch_exceptions=False, **more)


def _rooms() -> Path:
    return doctor_stage.cache_folder() / doctor_stage.LOOKED_AT


def files_of(folder: Path) -> dict[str, bytes]:
    """Return every file of a folder with its bytes; the lock is no result."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != ".lock")
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def stages_of(folder: Path) -> dict[str, dict[str, Any]]:
    """Return the stage records of a run's manifest."""
    return dict(json.loads((folder / "manifest.json").read_text())["stages"])


@pytest.fixture
def run(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A finished run in the folder that the command line chooses for its dumps; one stands above it."""
    monkeypatch.chdir(tmp_path)
    name = f"{Path(json.loads((finished / 'manifest.json').read_text())['arguments'][0]).name}"
    return Path(shutil.copytree(finished, Path("reports") / f"{name}-20260701T0000-20260701T1159"))


@pytest.mark.parametrize("command", [*STAGES, "doctor"])
def test_a_stage_refuses_other_settings_and_changes_nothing(run: Path, command: str) -> None:
    """Exit 1 and one line: which setting, from what to what, where it was given, and what to type."""
    before = files_of(run)
    flags = ("--slo", "ttft=9s") if command != "doctor" else OTHER
    done = call(command, run, *flags)
    assert (done.exit_code, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"hsa {command}: {run}: the run was made with other settings: ")
    assert "slo.ttft 2.5 s → 9 s (--slo ttft); nothing was changed" in line
    for way in ("hsa run INPUT", "--force", "--run-dir DIR"):
        assert way in line
    assert files_of(run) == before


@pytest.mark.parametrize("command", ["doctor", "ingest"])
def test_inputs_of_a_run_find_it_with_its_settings(run: Path, dumps: Path, command: str) -> None:
    """The README's next command, without the flags of the first, leaves every file as it is."""
    before = files_of(run)
    done = call(command, dumps)
    assert done.exit_code == 0, done.output
    after = files_of(run)
    assert set(after) == set(before)
    assert {name for name in before if after[name] != before[name]} <= (
        {"manifest.json"} if command == "ingest" else set()  # the command that came last
    )
    assert stages_of(run) == json.loads(before["manifest.json"])["stages"]
    assert [path.name for path in Path("reports").iterdir()] == [run.name]


@pytest.mark.parametrize("command", ["doctor", "ingest"])
def test_inputs_with_other_settings_are_refused(run: Path, dumps: Path, command: str) -> None:
    """What only hsa run may change, other commands refuse on INPUT, too."""
    before = files_of(run)
    done = call(command, dumps, "--on-conflict", "last")
    assert done.exit_code == 1
    assert "reading.on_conflict reject → last (--on-conflict)" in done.stderr
    assert files_of(run) == before


def test_run_again_without_flags_does_nothing(run: Path, dumps: Path) -> None:
    """What is not given is the run's: the same answer, and only the manifest says which command came last."""
    before = files_of(run)
    done = call("run", dumps)
    assert done.exit_code == 0, done.output
    after = files_of(run)
    assert {name for name in after if after[name] != before.get(name)} <= {"manifest.json"}
    assert stages_of(run) == json.loads(before["manifest.json"])["stages"]


def test_run_says_what_changes_and_writes_again_from_there(run: Path, dumps: Path) -> None:
    """One line with old and new value and the first stage concerned; what stands before it is kept."""
    records = stages_of(run)
    done = call("run", dumps, "--startup", "300s")
    assert done.exit_code == 0, done.output
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("settings change: ")]
    assert "startup.prefill 120 s → 300 s" in line
    assert line.endswith("; written again from doctor on")
    after = stages_of(run)
    assert after["align"] == records["align"]
    assert after["study"] == records["study"]
    assert after["report"]["fingerprint"] != records["report"]["fingerprint"]
    assert not any(record["stale"] for record in after.values())
    settings = json.loads((run / "manifest.json").read_text())["settings"]
    assert settings["slo"]["ttft_s"] == 2.5  # not given again, so the run's


def test_a_stage_keeps_what_follows_and_marks_it(run: Path) -> None:
    """Faults run the replay again; policy, exports and report stay as they were, named stale everywhere."""
    before = files_of(run)
    done = call("replay", run, "--fault", "metric_gap")
    assert done.exit_code == 0, done.output
    after = files_of(run)
    kept = [name for name in before if not name.startswith(("data/replay", "manifest", "run.duckdb"))]
    assert {name: after[name] for name in kept} == {name: before[name] for name in kept}
    replayed = [name for name in after if name.startswith("data/replay")]
    assert {name: after[name] for name in replayed} != {name: before.get(name) for name in replayed}
    marks = {name: record["stale"] for name, record in stages_of(run).items() if record["stale"]}
    assert marks == dict.fromkeys(("policy", "export", "report"), "replay was written again after it")
    assert "stale, kept as before: policy, export, report (replay was written again after it)" in done.stderr
    link = json.loads(before["summary.json"])["services"][0]["pd_ratio"]["evidence"]
    assert "stale, kept as before" in call("explain", link, "--run-dir", run).stderr
    assert files_of(run) == after
    done = call("report", run, "-q")
    assert done.exit_code == 0, done.output
    assert not any(record["stale"] for record in stages_of(run).values())
    faults = json.loads((run / "manifest.json").read_text())["settings"]["beside"]["faults"]
    assert faults == ["metric_gap"]  # a command's own setting is recorded, and used again


def test_select_for_another_controller_marks_what_follows(run: Path) -> None:
    """It is recorded with the stage, and nothing before it is made again."""
    assert stages_of(run)["select"]["counts"] == {"target": "keda"}
    records = stages_of(run)
    done = call("select", run, "--target", "hpa")
    assert done.exit_code == 0, done.output
    after = stages_of(run)
    assert after["select"]["settings"]["target"] == "hpa"
    assert after["select"]["counts"] == {"target": "hpa"}
    assert after["derive"] == records["derive"]
    marks = {name: record["stale"] for name, record in after.items() if record["stale"]}
    assert marks == dict.fromkeys(
        ("replay", "policy", "export", "report"), "select was written again after it"
    )
    assert json.loads((run / "manifest.json").read_text())["origins"]["target"] == "--target"
    assert call("select", run, "--target", "kda").stderr.startswith("hsa select: --target: 'kda' is none of")


def test_the_server_of_the_file_is_in_the_objects(run: Path) -> None:
    """A name that the dump does not tell changes the exports and nothing before them."""
    records = stages_of(run)
    Path("hsa.toml").write_text("[export]\nserver_address = 'http://thanos.metrics:10902'\n")
    done = call("export", run, "--target", "keda")
    assert done.exit_code == 0, done.output
    after = stages_of(run)
    assert {name for name in after if after[name]["files"] != records[name]["files"]} == {"export"}
    (text,) = [path.read_text() for path in sorted((run / "exports" / "keda").glob("*scaledobject*"))][:1]
    assert "serverAddress: http://thanos.metrics:10902" in text


def test_a_settings_file_of_the_folder_counts_as_given(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """hsa.toml and HSA_* that differ are refused with their place; prices reach only what uses them."""
    before = files_of(run)
    Path("hsa.toml").write_text("[slo]\ntbt = '70ms'\n")
    done = call("study", run)
    assert done.exit_code == 1
    assert "slo.tbt 0.05 s → 0.07 s (hsa.toml line 2)" in done.stderr
    Path("hsa.toml").write_text("[prices]\n'NVIDIA H20' = 1.0\n")
    monkeypatch.setenv("HSA_SEED", "5")
    assert "seed 0 → 5 (HSA_SEED)" in call("derive", run).stderr
    monkeypatch.delenv("HSA_SEED")
    done = call("study", run)
    assert "study: nothing to do" in done.stderr
    assert "stale" not in done.stderr
    assert files_of(run).keys() == before.keys()
    assert not any(record["stale"] for record in stages_of(run).values())


def test_a_folder_that_was_only_ingested_takes_any_setting(dumps: Path, tmp_path: Path) -> None:
    """Nothing has been made with the default SLO yet, so giving one changes nothing."""
    run = tmp_path / "run"
    assert call("ingest", dumps, "--run-dir", run, "-q").exit_code == 0
    assert call("study", run, "-q", *OTHER).exit_code == 0
    assert call("study", run, "-q").exit_code == 0
    done = call("study", run, "--slo", "ttft=1s")
    assert (done.exit_code, "slo.ttft 9 s → 1 s" in done.stderr) == (1, True)


def test_doctor_leaves_no_run_folder(dumps: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a run the input is read in a cache, once; settings are free there, and a run is not made."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    first, again = call("doctor", dumps), call("doctor", dumps, *OTHER)
    assert (first.exit_code, again.exit_code) == (0, 0), first.output + again.output
    assert "ingest: nothing to do" in again.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["cache"]
    (room,) = _rooms().iterdir()
    assert room.stat().st_mode & 0o077 == 0  # metrics of a fleet are for their owner


def test_doctor_of_an_ingested_run_does_not_write_into_it(
    dumps: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is missing for the answer is made beside the run; a home that can't be written is no hindrance."""
    run = tmp_path / "run"
    assert call("ingest", dumps, "--run-dir", run, "-q").exit_code == 0
    before = files_of(run)
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    done = call("doctor", run, "-o", "json")
    assert done.exit_code == 0, done.output
    assert {row["state"] for row in json.loads(done.stdout)["signals"]} == {"found", "missing"}
    assert files_of(run) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "run"]


def test_the_cache_keeps_few_inputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The ones looked at longest ago go; the one in use stays."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    rooms = []
    for number in range(doctor_stage.MOST_CACHED + 2):
        with doctor_stage._room(str(number)) as room:
            (room / "x").touch()
            rooms.append(room)
            assert room.is_dir()
    assert [room.is_dir() for room in rooms[-doctor_stage.MOST_CACHED :]] == [True] * doctor_stage.MOST_CACHED
    assert len(list(_rooms().iterdir())) == doctor_stage.MOST_CACHED


@pytest.mark.parametrize("command", ["run", "ingest"])
def test_a_run_folder_is_no_input(run: Path, command: str) -> None:
    """What it is, and what to type."""
    before = files_of(run)
    done = call(command, run)
    assert done.exit_code == 1
    assert f"{run}: this is a run folder, not an INPUT; hsa report {run} brings it up to date" in done.stderr
    assert files_of(run) == before


@pytest.mark.slow
def test_an_interrupted_run_is_finished_by_the_next(run: Path, dumps: Path) -> None:
    """After an end between two stages, what follows is marked; looking leaves it so, hsa run goes on."""
    from hs_analysis.pipeline import report_stages

    def stop(*_: Any) -> Any:
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(report_stages, "write_report", stop)
        CliRunner().invoke(app, ["run", str(dumps), "--startup", "300s", "-q"])
    assert {name: bool(record["stale"]) for name, record in stages_of(run).items()}["report"]
    assert not list(run.glob(".staging-*"))
    before = files_of(run)
    assert call("doctor", dumps).exit_code == 0
    assert files_of(run) == before
    done = call("run", dumps)
    assert done.exit_code == 0, done.output
    assert "export: nothing to do" in done.stderr
    assert not any(record["stale"] for record in stages_of(run).values())
