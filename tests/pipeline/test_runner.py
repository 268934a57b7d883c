"""Stages are skipped when nothing they depend on has changed, and leave no half-written file."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hs_analysis.errors import RunFolderError
from hs_analysis.pipeline import manifest as manifests
from hs_analysis.pipeline.records import changed, to_plain
from hs_analysis.pipeline.runner import Ran
from hs_analysis.pipeline.session import Asked, run_folder, run_inputs
from hs_analysis.pipeline.stages import Outcome, Silent, Stage, by_name, following, leading_to
from hs_analysis.schema.settings import CountLimits, Settings, Slo


@pytest.fixture
def dump(tmp_path: Path) -> Path:
    """A folder with one input file."""
    folder = tmp_path / "dumps"
    folder.mkdir()
    (folder / "a.json").write_text("abc")
    return folder


def first(counting: Any, dump: Path, target: str = "tell", **more: Any) -> Ran:
    """Run the fake stages from the inputs."""
    run_dir = more.pop("run_dir", dump.parent / "run")
    settings = more.pop("settings", Settings())
    return run_inputs(
        [dump], target, settings, stages=counting.stages(), progress=Silent(), run_dir=run_dir, **more
    )


def again(counting: Any, dump: Path, target: str, **given: Any) -> Ran:
    """Run the fake stages in the folder that `first` made, as a stage command does."""
    return run_folder(
        dump.parent / "run",
        target,
        given,
        stages=counting.stages(),
        progress=Silent(),
        asked=Asked(("hsa", target)),
    )


def changed_run(counting: Any, dump: Path, target: str = "tell", **given: Any) -> Ran:
    """Run the fake stages from the inputs with some settings given otherwise, as hsa run does."""
    return first(counting, dump, target, asked=Asked(("hsa", "run"), given=given, changes_settings=True))


def test_same_inputs_and_settings_do_nothing(counting: Any, dump: Path) -> None:
    """The second run skips every stage and changes no file."""
    assert first(counting, dump).worked == ("ingest", "judge", "tell")
    before = {
        p: p.stat().st_mtime_ns for p in (dump.parent / "run").rglob("*") if p.is_file() and p.name != ".lock"
    }
    ran = first(counting, dump)
    assert (ran.worked, ran.skipped) == ((), ("ingest", "judge", "tell"))
    assert counting.worked == {"ingest": 1, "judge": 1, "tell": 1}
    assert before == {p: p.stat().st_mtime_ns for p in before}


def test_changed_setting_reruns_its_stage_and_what_had_been_made_from_it(counting: Any, dump: Path) -> None:
    """Another SLO given to hsa run runs judge and tell again; ingest and side stay."""
    first(counting, dump)
    again(counting, dump, "side")
    counting.worked.clear()
    ran = changed_run(counting, dump, **{"slo.ttft_s": 1.5})
    assert ran.worked == ("judge", "tell")
    assert ran.skipped == ("ingest", "side")
    assert (dump.parent / "run" / "told.txt").read_text() == "ABC 1.5"
    assert ran.manifest.stages["judge"].settings == {"slo.ttft_s": 1.5}


def test_setting_no_stage_depends_on_runs_nothing(counting: Any, dump: Path) -> None:
    """A value that no stage reads is recorded and changes no file."""
    first(counting, dump)
    assert again(counting, dump, "tell", headroom_ratio=0.5).worked == ()
    recorded = manifests.read(dump.parent / "run")
    assert recorded is not None
    assert recorded.settings["headroom_ratio"] == 0.5


def test_later_stage_that_never_ran_is_left_alone(counting: Any, dump: Path) -> None:
    """Only what had been made before is made again."""
    first(counting, dump, "judge")
    assert changed_run(counting, dump, "judge", **{"slo.ttft_s": 2.0}).worked == ("judge",)


def test_a_stage_refuses_settings_that_finished_stages_had_otherwise(counting: Any, dump: Path) -> None:
    """Nothing is written; what no finished stage depends on is free, and what is equal is no difference."""
    first(counting, dump, "judge", settings=Settings(slo=Slo(1.0)))
    before = manifests.read(dump.parent / "run")
    with pytest.raises(RunFolderError, match=r"slo\.ttft 1 s → 2 s; nothing was changed"):
        again(counting, dump, "judge", **{"slo.ttft_s": 2.0})
    assert manifests.read(dump.parent / "run") == before
    assert again(counting, dump, "tell", **{"slo.ttft_s": 1.0, "seed": 4}).worked == ("tell",)
    assert again(counting, dump, "side").manifest.settings["seed"] == 4


def for_a_controller(counting: Any) -> tuple[Stage, ...]:
    """Return the fake stages with the names and settings of selection and policy."""
    ingest, judge, tell, _ = counting.stages()
    select = replace(judge, name="select", settings=("slo.ttft_s", "target"))
    return ingest, select, replace(tell, name="policy", needs=("select",), settings=("policy_mode",))


def on(counting: Any, dump: Path, command: str, **given: Any) -> Ran:
    """Run a command on the folder of the stages of `for_a_controller`."""
    stages = for_a_controller(counting)
    asked = Asked(("hsa", command))
    return run_folder(
        dump.parent / "run", command, given, stages=stages, progress=Silent(), asked=asked
    )  # fmt: skip


def test_only_select_and_run_take_another_controller(counting: Any, dump: Path) -> None:
    """It is never compared: select chooses again and marks what follows, later commands keep the one chosen.

    A run that has selected nothing yet takes the one that is given, whatever command gives it.
    """
    stages, folder = for_a_controller(counting), dump.parent / "run"
    run_inputs([dump], "ingest", Settings(), stages=stages, progress=Silent(), run_dir=folder)
    assert on(counting, dump, "policy", target="hpa").worked == ("select", "policy")
    later = on(counting, dump, "policy", target="keda")
    assert (later.worked, later.manifest.settings["target"]) == ((), "hpa")
    assert on(counting, dump, "select", target="hpa").worked == ()
    chosen = on(counting, dump, "select", target="keda").manifest.stages
    assert chosen["select"].settings["target"] == "keda"
    assert chosen["policy"].stale == "select was written again after it"
    assert on(counting, dump, "policy").worked == ("policy",)
    asked = Asked(("hsa", "run"), given={"target": "heteroscale"}, changes_settings=True)
    ran = run_inputs(
        [dump], "policy", Settings(), stages=stages, progress=Silent(), run_dir=folder, asked=asked
    )
    assert ran.worked == ("select", "policy")
    assert ran.manifest.stages["select"].settings["target"] == "heteroscale"


def test_the_mode_of_the_policy_is_that_of_its_command(counting: Any, dump: Path) -> None:
    """hsa policy changes it and nothing before it; another command leaves it."""
    stages, folder = for_a_controller(counting), dump.parent / "run"
    run_inputs([dump], "policy", Settings(), stages=stages, progress=Silent(), run_dir=folder)
    assert on(counting, dump, "select", policy_mode="periodic").worked == ()
    ran = on(counting, dump, "policy", policy_mode="periodic")
    assert ran.worked == ("policy",)
    assert ran.manifest.stages["policy"].settings == {"policy_mode": "periodic"}


def test_limits_of_counts_are_compared(counting: Any, dump: Path) -> None:
    """They are the run's: a stage refuses others with both in words, and none of the user's is no limit."""
    ingest, select, policy = for_a_controller(counting)
    stages = (ingest, replace(select, settings=("bounds", "gpus_limit")), policy)
    folder = dump.parent / "run"
    settings = Settings(bounds={"decode": CountLimits(2, 40)})
    run_inputs([dump], "policy", settings, stages=stages, progress=Silent(), run_dir=folder)
    given = {"bounds.decode": CountLimits(2, 30), "bounds.prefill": CountLimits(None, 9), "gpus_limit": 8}
    with pytest.raises(RunFolderError) as caught:
        run_folder(folder, "policy", given, stages=stages, progress=Silent())
    for text in (
        "bounds.decode 2..40 → 2..30", "bounds.prefill not given → ..9", "bounds.gpus not given → 8",
    ):  # fmt: skip
        assert text in str(caught.value)
    same = {"bounds.decode": CountLimits(2, 40)}
    assert run_folder(folder, "policy", same, stages=stages, progress=Silent()).worked == ()


def test_a_stage_marks_what_was_made_from_what_it_writes_again(
    counting: Any, dump: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Kept byte for byte, with the reason; made again when it is asked for, and the mark is gone."""
    first(counting, dump)
    again(counting, dump, "side")
    monkeypatch.setattr(manifests, "code_sha256", lambda: "other")
    ran = again(counting, dump, "judge")
    assert ran.worked == ("ingest", "judge")
    marks = {name: record.stale for name, record in ran.manifest.stages.items() if record.stale}
    assert marks == dict.fromkeys(("tell", "side"), "ingest was written again after it")
    assert (dump.parent / "run" / "told.txt").read_text() == "ABC NONE"
    ran = again(counting, dump, "tell")
    assert [name for name, record in ran.manifest.stages.items() if record.stale] == ["side"]


def test_missing_predecessors_run_first(counting: Any, dump: Path) -> None:
    """Asking for the last stage of a folder that was only ingested runs all between."""
    first(counting, dump, "ingest")
    assert again(counting, dump, "tell").worked == ("judge", "tell")


@pytest.mark.parametrize("damage", ["deleted", "edited"])
def test_touched_output_is_made_again(counting: Any, dump: Path, damage: str) -> None:
    """A file that is gone or was edited by hand is written again, and so is what was made from it."""
    first(counting, dump)
    file = dump.parent / "run" / "judged.txt"
    file.unlink() if damage == "deleted" else file.write_text("xyz 1234")
    assert again(counting, dump, "tell").worked == ("judge", "tell")
    assert file.read_text() == "abc None"


def test_copied_folder_is_current(counting: Any, dump: Path) -> None:
    """New modification times alone make nothing stale."""
    first(counting, dump)
    text = (dump.parent / "run" / "judged.txt").read_text()
    (dump.parent / "run" / "judged.txt").write_text(text)
    assert again(counting, dump, "tell").worked == ()


def test_other_code_runs_everything_again(counting: Any, dump: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Results of another version of the program are not taken for current."""
    first(counting, dump)
    monkeypatch.setattr(manifests, "code_sha256", lambda: "other")
    assert again(counting, dump, "tell").worked == ("ingest", "judge", "tell")


def test_failed_stage_leaves_the_folder_as_it_was(counting: Any, dump: Path) -> None:
    """A stage that breaks after writing leaves no file and no staging folder; the old result stands."""
    first(counting, dump)
    counting.fail_in = "judge"
    with pytest.raises(RuntimeError, match="judge broke"):
        changed_run(counting, dump, "judge", **{"slo.ttft_s": 1.0})
    run = dump.parent / "run"
    assert (run / "judged.txt").read_text() == "abc None"
    assert (run / "told.txt").read_text() == "ABC NONE"
    assert not list(run.glob(".staging-*"))


def test_later_files_are_marked_when_a_run_ends_between_two_stages(counting: Any, dump: Path) -> None:
    """When tell breaks after judge was made again, the old told.txt is kept, and marked as old."""
    first(counting, dump)
    counting.fail_in = "tell"
    with pytest.raises(RuntimeError, match="tell broke"):
        changed_run(counting, dump, **{"slo.ttft_s": 1.0})
    assert (dump.parent / "run" / "judged.txt").read_text() == "abc 1.0"
    assert (dump.parent / "run" / "told.txt").read_text() == "ABC NONE"
    left = manifests.read(dump.parent / "run")
    assert left is not None
    assert left.stages["tell"].stale == "judge was written again after it"
    counting.fail_in = ""
    ran = again(counting, dump, "tell")
    assert (ran.worked, ran.manifest.stages["tell"].stale) == (("tell",), "")


def test_file_the_stage_no_longer_writes_is_removed(counting: Any, dump: Path) -> None:
    """Another seed writes side-1.txt; side-0.txt of the earlier run must not stay."""
    first(counting, dump, "side")
    changed_run(counting, dump, "side", seed=1)
    assert [p.name for p in (dump.parent / "run").glob("side-*")] == ["side-1.txt"]


def test_a_stage_that_is_no_more_leaves_its_run_with_its_files(counting: Any, dump: Path) -> None:
    """A run of an earlier version: its record, which could never be current again, and its files go."""
    first(counting, dump)
    ran = again(counting, dump, "side")
    (file,) = ran.manifest.stages["side"].files
    assert (ran.folder / file.path).is_file()
    stages = tuple(stage for stage in counting.stages() if stage.name != "side")
    ran = run_folder(ran.folder, "tell", {}, stages=stages, progress=Silent(), asked=Asked(("hsa", "tell")))
    assert list(ran.manifest.stages) == ["ingest", "judge", "tell"]
    assert not (ran.folder / file.path).exists()
    kept = manifests.read(ran.folder)
    assert kept is not None
    assert "side" not in kept.stages


def test_undeclared_file_is_a_bug(dump: Path) -> None:
    """A stage may write only what it declares."""

    def run(work: Any) -> Outcome:
        (work.out / "other.txt").write_text("")
        return Outcome()

    stages = (Stage("ingest", "reading", (), (), ("data/*",), run),)
    with pytest.raises(AssertionError, match=r"other\.txt"):
        run_inputs(
            [dump], "ingest", Settings(), stages=stages, progress=Silent(), run_dir=dump.parent / "run"
        )


def test_interrupted_runs_leftovers_are_swept(counting: Any, dump: Path) -> None:
    """Staging folders of a killed process disappear with the next run."""
    first(counting, dump)
    left = dump.parent / "run" / ".staging-dead"
    left.mkdir()
    (left / "judged.txt").write_text("half")
    again(counting, dump, "tell")
    assert not left.exists()


def test_other_inputs_need_force(counting: Any, dump: Path) -> None:
    """A folder made from other inputs is refused by name; with force it starts again."""
    first(counting, dump)
    (dump / "b.json").write_text("new")
    with pytest.raises(RunFolderError, match=r"b\.json is new.*--run-dir.*--force"):
        first(counting, dump)
    ran = first(counting, dump, force=True)
    assert ran.worked == ("ingest", "judge", "tell")
    assert (dump.parent / "run" / "told.txt").read_text() == "ABCNEW NONE"


def test_force_keeps_files_of_others(counting: Any, dump: Path) -> None:
    """Starting over removes what the run wrote and nothing else."""
    first(counting, dump)
    notes = dump.parent / "run" / "notes.md"
    notes.write_text("mine")
    first(counting, dump, "ingest", force=True)
    assert notes.read_text() == "mine"
    assert not (dump.parent / "run" / "told.txt").exists()


def test_folder_that_is_no_run_is_refused(counting: Any, dump: Path) -> None:
    """A --run-dir full of other things is never written to, not even with force."""
    with pytest.raises(RunFolderError, match=r"not a run folder and not empty \(it holds a\.json\)"):
        first(counting, dump, run_dir=dump, force=True)


def test_failed_first_run_leaves_no_folder(counting: Any, dump: Path) -> None:
    """When nothing came of it, the folder the command made is removed again."""
    counting.fail_in = "ingest"
    with pytest.raises(RuntimeError, match="ingest broke"):
        first(counting, dump)
    assert not (dump.parent / "run").exists()


def test_ingest_again_refuses_inputs_that_changed(
    counting: Any, dump: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When a folder has to be read again, its inputs must be those it was made from."""
    first(counting, dump)
    monkeypatch.setattr(manifests, "code_sha256", lambda: "other")
    (dump / "a.json").write_text("abd")
    with pytest.raises(RunFolderError, match=r"a\.json: the input has changed"):
        again(counting, dump, "judge")
    (dump / "a.json").unlink()
    with pytest.raises(RunFolderError, match=r"a\.json: the input is gone"):
        again(counting, dump, "judge")


def test_default_folder_is_named_for_input_and_window(
    counting: Any, dump: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """reports/<name>-<window>, found again for the same inputs wherever they lie, and cut by --from."""
    monkeypatch.chdir(dump.parent)
    ran = first(counting, dump, run_dir=None)
    assert ran.folder == Path("reports/dumps-20260701T0000-20260702T0000")
    assert first(counting, dump, run_dir=None).worked == ()
    later = Settings(start="2026-07-01T12:00:00Z")
    ran = first(counting, dump, run_dir=None, settings=later)
    assert ran.folder == Path("reports/dumps-20260701T1200-20260702T0000")
    assert sorted(p.name for p in Path("reports").iterdir()) == [
        "dumps-20260701T0000-20260702T0000", "dumps-20260701T1200-20260702T0000",
    ]  # fmt: skip


def test_default_folder_of_other_inputs_needs_force(
    counting: Any, dump: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Same name and window but other bytes: refused, and nothing is left behind; replaced with force."""
    monkeypatch.chdir(dump.parent)
    first(counting, dump, run_dir=None)
    (dump / "a.json").write_text("xyz")
    with pytest.raises(RunFolderError, match=r"dumps-2026.*made from other inputs.*--force"):
        first(counting, dump, run_dir=None)
    assert len(list(Path("reports").iterdir())) == 1
    ran = first(counting, dump, run_dir=None, force=True)
    assert (ran.folder / "told.txt").read_text() == "XYZ NONE"
    assert len(list(Path("reports").iterdir())) == 1


def test_manifest_tells_versions_command_and_files(counting: Any, dump: Path) -> None:
    """What made the folder is written down, credentials masked."""
    first(counting, dump, asked=Asked(("hsa", "run", "http://me:pw@host/x", "--header=Bearer abc")))
    data = json.loads((dump.parent / "run" / "manifest.json").read_text())
    assert data["command"] == ["hsa", "run", "http://***@host/x", "--header=Bearer ***"]
    assert data["inputs"][0]["name"] == "a.json"
    assert data["inputs"][0]["size"] == 3
    assert {"hs-analysis", "python", "polars"} <= set(data["versions"])
    assert [file["path"] for file in data["stages"]["judge"]["files"]] == ["judged.txt"]
    assert data["stages"]["ingest"]["counts"]["start"] == "2026-07-01T00:00:00Z"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not a manifest"),
        ('{"a": 1}', "not a manifest"),
        ('{"schema_version": 99, "stages": {}}', "later hsa"),
    ],
)
def test_broken_manifest_is_an_error(tmp_path: Path, text: str, message: str) -> None:
    """A manifest that can't be understood is never overwritten."""
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(RunFolderError, match=message):
        manifests.read(tmp_path)


def test_run_id_follows_inputs_settings_and_version(counting: Any, dump: Path) -> None:
    """Equal runs have equal names; another SLO has another."""
    one = first(counting, dump).manifest
    assert manifests.run_id(one) == manifests.run_id(
        first(counting, dump, run_dir=dump.parent / "other").manifest
    )
    assert manifests.run_id(replace(one, settings=to_plain(Settings(slo=Slo(1.0))))) != manifests.run_id(one)


def test_stage_order_is_checked(counting: Any) -> None:
    """A stage that needs a later one is a mistake in the table."""
    stages = counting.stages()
    assert [s.name for s in leading_to("tell", stages)] == ["ingest", "judge", "tell"]
    assert [s.name for s in following({"ingest"}, stages)] == ["judge", "tell", "side"]
    with pytest.raises(ValueError, match="needs"):
        by_name(stages[::-1])


def test_settings_change_by_dotted_name() -> None:
    """Only the named values change."""
    start = Settings(slo=Slo(ttft_s=1.0, tbt_s=0.05), startup_s={"prefill": 10.0})
    new = changed(start, {"slo.ttft_s": 2.0, "startup_s.decode": 20.0, "seed": 3})
    assert new.slo == Slo(ttft_s=2.0, tbt_s=0.05)
    assert new.startup_s == {"prefill": 10.0, "decode": 20.0}
    assert new.seed == 3
    assert start.startup_s == {"prefill": 10.0}
