"""New days added to a run: the tables are those of a run over all of them, byte by byte."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import seeds

from hs_analysis.errors import RunFolderError
from hs_analysis.pipeline import manifest
from hs_analysis.pipeline.chain import STAGES
from hs_analysis.pipeline.session import Asked, extend_run, run_inputs
from hs_analysis.pipeline.stages import Silent
from hs_analysis.schema.settings import Reading, Settings

STEP_S = 30
FIRST_S = 1_772_409_600
SEAM, END = 480, 720
"""Steps of the first part, and of both."""

Values = np.ndarray
Steps = tuple[int, int]
Series = Mapping[tuple[str, str], Values]
"""Metric and pod → values on the grid, NaN where there is none."""


class Told(Silent):
    """Keeps what a run remarks."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def noted(self, text: str) -> None:
        """Keep it."""
        self.notes.append(text)


def fleet() -> dict[tuple[str, str], Values]:
    """Return six pods of a service: one ends at the seam, one comes there, one restarts, one stands still."""
    rng = np.random.default_rng(0)
    made: dict[tuple[str, str], Values] = {}
    for number in range(6):
        pod = f"chat-{'prefill' if number < 2 else 'decode'}-{number}"
        tokens = np.cumsum(rng.integers(100, 900, END)).astype(float)
        made["vllm:generation_tokens_total", pod] = tokens
        made["vllm:prompt_tokens_total", pod] = np.cumsum(rng.integers(100, 900, END)).astype(float)
        made["vllm:num_requests_running", pod] = rng.integers(1, 30, END).astype(float)
        made["vllm:kv_cache_usage_perc", pod] = rng.random(END)
    for (metric, pod), values in made.items():
        if pod.endswith("-2"):
            values[SEAM:] = np.nan
        elif pod.endswith("-3"):
            values[:SEAM] = np.nan
        elif pod.endswith("-4") and metric.endswith("_total"):
            values[SEAM:] -= values[SEAM] - 5.0
        elif pod.endswith("-5"):
            values[SEAM - 60 : SEAM + 40] = values[SEAM - 60]
    return made


def watched(made: dict[tuple[str, str], Values]) -> dict[tuple[str, str], Values]:
    """Return the fleet with its targets, some of which do not answer for a while.

    While they don't, values are held: before the seam, over it, after it, and until the first sample after.
    """
    fails: dict[str, tuple[Steps, ...]] = {
        "0": ((100, 110), (SEAM - 20, SEAM - 10)), "1": ((SEAM - 8, SEAM + 12), (600, 620)),
        "3": ((SEAM + 30, SEAM + 45),), "4": ((200, 215), (SEAM, SEAM + 9)),
    }  # fmt: skip
    pods = {pod: pod.rpartition("-")[2] for _, pod in made}
    for pod, number in pods.items():
        made["up", pod] = np.ones(END)
        for first, after in fails.get(number, ()):
            for (metric, other), values in made.items():
                if other == pod:
                    values[first:after] = 0.0 if metric == "up" else values[first - 1]
    return made


def write(
    folder: Path, series: Series, steps: Sequence[int], *, one_file: bool = False, models: bool = False
) -> Path:
    """Write some steps of the series as answers to range queries, one file a metric; return the folder.

    With ``models`` the pods whose names begin with ``a-`` are of another model.
    """
    folder.mkdir(parents=True)
    by_file: dict[str, list[dict[str, object]]] = {}
    for (metric, pod), values in series.items():
        points = [[FIRST_S + STEP_S * k, repr(float(values[k]))] for k in steps if not np.isnan(values[k])]
        model = "a" if models and pod.startswith("a-") else "m"
        labels = {"__name__": metric, "pod": pod, "namespace": "shop", "model_name": model}
        if points and pod.endswith("-0"):
            points.append([FIRST_S + STEP_S * steps[-1] + 1, "oops"])  # a row that is rejected
        if points:
            name = "all" if one_file else metric.replace(":", "_")
            by_file.setdefault(name, []).append({"metric": labels, "values": points})
    for name, result in by_file.items():
        answer = {"status": "success", "data": {"resultType": "matrix", "result": result}}
        (folder / f"{name}.json").write_text(json.dumps(answer), "utf-8")
    return folder


def run(folder: Path, inputs: Sequence[Path], target: str = "ingest") -> Path:
    """Read the inputs into a new run folder."""
    return run_inputs(inputs, target, Settings(), stages=STAGES, progress=Silent(), run_dir=folder).folder


def extend(folder: Path, inputs: Sequence[Path], target: str = "ingest") -> list[str]:
    """Add inputs to a run; return what was remarked."""
    told = Told()
    extend_run(folder, inputs, target, stages=STAGES, progress=told)
    return told.notes


def assert_same(one: Path, other: Path) -> None:
    """All tables have the same bytes; samples, which may lie in several files, the same rows."""
    names = [
        sorted(
            path.relative_to(folder).as_posix()
            for path in (folder / "data").rglob("*")
            if path.is_file() and path.parent.name != "samples"
        )
        for folder in (one, other)
    ]
    assert names[0] == names[1]
    differ = [name for name in names[0] if (one / name).read_bytes() != (other / name).read_bytes()]
    assert differ == []
    assert list(rows(one)) == list(rows(other))


def rows(folder: Path) -> Iterator[tuple[object, ...]]:
    """Yield the samples of a run in order."""
    parts = sorted((folder / "data" / "samples").glob("*.parquet"))
    yield from pl.read_parquet(parts).sort("series_id", "t").iter_rows()


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Return the dumps of both parts; the second begins with the last moment of the first."""
    made = tmp_path_factory.mktemp("dumps")
    first = write(made / "first", fleet(), range(SEAM))
    return first, write(made / "second", fleet(), range(SEAM - 1, END))


@pytest.fixture(scope="module")
def whole(parts: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a run over both parts."""
    return run(tmp_path_factory.mktemp("whole") / "run", parts, "align")


@pytest.fixture(scope="module")
def begun(parts: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a run over the first part; tests work on copies."""
    return run(tmp_path_factory.mktemp("begun") / "run", parts[:1], "align")


def copied(begun: Path, to: Path) -> Path:
    """Return a copy of a run."""
    return Path(shutil.copytree(begun, to))


def test_an_extended_run_has_the_tables_of_a_whole_one(
    parts: tuple[Path, Path], begun: Path, whole: Path, tmp_path: Path
) -> None:
    """At the seam a counter restarts, pods come, end and stand still, and a moment is there twice."""
    folder = copied(begun, tmp_path / "run")
    notes = extend(folder, parts[1:], "align")
    assert_same(folder, whole)
    assert not any("read again" in note for note in notes)
    assert {path.name for path in (folder / "data" / "samples").iterdir()} == {
        "part-0.parquet",
        "part-1.parquet",
    }


def test_files_that_were_read_need_not_be_there(
    parts: tuple[Path, Path], begun: Path, whole: Path, tmp_path: Path
) -> None:
    """Only the new ones are opened."""
    away = parts[0].with_name("away")
    parts[0].rename(away)
    try:
        folder = copied(begun, tmp_path / "run")
        extend(folder, parts[1:], "align")
    finally:
        away.rename(parts[0])
    assert_same(folder, whole)


def test_what_lies_beside_files_that_were_read_need_not_be_there(tmp_path: Path) -> None:
    """The list of hashes of a pull goes with the files that it names."""
    first, second = (
        write(tmp_path / name, fleet(), moments)
        for name, moments in (("one", range(SEAM)), ("two", range(SEAM, END)))
    )
    for dumps in (first, second):
        (dumps / "SHA256SUMS").write_text("")
    folder = run(tmp_path / "run", [first], "ingest")
    shutil.rmtree(first)
    assert not any("read again" in note for note in extend(folder, [second], "ingest"))


def test_a_run_can_be_extended_day_by_day(tmp_path: Path) -> None:
    """Every time what is new alone is read."""
    bounds = [0, 240, 480, 600, END]
    days = [write(tmp_path / f"day-{k}", fleet(), range(*bounds[k : k + 2]), one_file=True) for k in range(4)]
    folder = run(tmp_path / "run", days[:1])
    for day in days[1:]:
        assert not any("read again" in note for note in extend(folder, [day]))
    assert_same(folder, run(tmp_path / "whole", days))


@pytest.mark.parametrize("late", [False, True])
def test_targets_that_fail_before_over_and_after_the_seam(tmp_path: Path, late: bool) -> None:
    """Values that are held meanwhile are no measurement, whichever files bring them; pods may come late.

    A pod whose samples come later than those of the others has some in stretches that were looked at before.
    """
    made = watched(fleet())
    parts = [{}, made]
    for key, values in made.items():
        first = values.copy()
        if late and key[1].endswith("-4") and key[0] != "up":
            first[150:] = np.nan
        parts[0][key] = first
    end = END if late else SEAM
    if late:  # the second part brings what the first lacks of one pod
        parts[1] = {
            key: np.where(np.arange(END) < 150, np.nan, values)
            for key, values in made.items()
            if key[1].endswith("-4") and key[0] != "up"
        }
    one = write(tmp_path / "one", parts[0], range(end))
    other = write(tmp_path / "other", parts[1], range(0 if late else SEAM, END))
    folder = run(tmp_path / "run", [one])
    assert not any("read again" in note for note in extend(folder, [other]))
    assert_same(folder, run(tmp_path / "whole", [one, other]))
    frozen = pl.read_parquet(folder / "data" / "frozen_series.parquet").filter(pl.col("told_by") == "up")
    assert {name[-1] for name in frozen["instance"]} == {"0", "1", "3", "4"}


def test_a_service_that_comes_with_the_later_days(tmp_path: Path) -> None:
    """Its series come between those that are there, which get other numbers."""
    made = watched(fleet())
    first = write(tmp_path / "first", made, range(SEAM))
    for (metric, pod), values in list(made.items()):
        if pod.endswith(("-0", "-1", "-4")):
            made[metric, f"a-{pod}"] = np.where(np.arange(END) < SEAM + 3, np.nan, values)
    second = write(tmp_path / "second", made, range(SEAM, END), models=True)
    folder = run(tmp_path / "run", [first], "align")
    assert not any("read again" in note for note in extend(folder, [second], "align"))
    assert_same(folder, run(tmp_path / "whole", [first, second], "align"))
    assert pl.read_parquet(folder / "data" / "series.parquet")["service"].n_unique() == 2


def test_metrics_of_the_same_days_can_be_added(tmp_path: Path) -> None:
    """They have no samples yet that theirs would have to follow."""
    made = fleet()
    gauges = {key: values for key, values in made.items() if "running" in key[0]}
    counters = {key: values for key, values in made.items() if "running" not in key[0]}
    one, other = (
        write(tmp_path / name, some, range(END)) for name, some in (("one", counters), ("other", gauges))
    )
    folder = run(tmp_path / "run", [one])
    extend(folder, [other])
    assert_same(folder, run(tmp_path / "whole", [one, other]))


def test_days_that_are_scraped_at_another_interval(tmp_path: Path) -> None:
    """Later days are so many that the usual interval and the windows' width change for all of the history."""
    made = fleet()
    one, other = (
        write(tmp_path / name, made, steps, one_file=True)
        for name, steps in (("one", range(0, 200, 4)), ("other", range(200, END)))
    )
    folder = run(tmp_path / "run", [one], "align")
    before = json.loads((folder / "data" / "services.json").read_text("utf-8"))
    assert not any("read again" in note for note in extend(folder, [other], "align"))
    assert_same(folder, run(tmp_path / "whole", [one, other], "align"))
    after = json.loads((folder / "data" / "services.json").read_text("utf-8"))
    assert (before[0]["window_s"], after[0]["window_s"]) == (240.0, 60.0)


def shaken(seed: int) -> tuple[dict[tuple[str, str], Values], int]:
    """Return a fleet in which anything may happen anywhere, most of it near a seam, and the seam."""
    rng = np.random.default_rng(seed)
    made, seam = fleet(), int(rng.integers(200, END - 100))
    pods = sorted({pod for _, pod in made})
    for _ in range(6):
        pod, what = pods[rng.integers(len(pods))], rng.choice(["restart", "hole", "hold", "end", "come"])
        at = int(rng.integers(0, END) if rng.random() < 0.3 else seam + rng.integers(-12, 13))
        until = min(at + int(rng.choice([1, 4, 25])), END)
        for (metric, other), values in made.items():
            if other != pod and not (what == "hole" and at % 5 == 0):  # a hole of all pods is one of scrapes
                continue
            if what == "restart" and metric.endswith("_total"):
                values[at:] -= np.nan_to_num(values[at])
            elif what == "hole":
                values[at:until] = np.nan
            elif what == "hold":
                values[at:until] = values[at]
            elif what in ("end", "come"):
                values[slice(at, None) if what == "end" else slice(0, at)] = np.nan
    return made, seam


@pytest.mark.parametrize("seed", seeds.first(1, range(24)))
def test_whatever_happens_about_the_seam(tmp_path: Path, seed: int) -> None:
    """Restarts, holes, held values, pods that come and end: the aligned tables are those of a whole run."""
    made, seam = shaken(seed)
    one, other = (
        write(tmp_path / name, made, steps, one_file=True)
        for name, steps in (("one", range(seam)), ("other", range(seam - seed % 2, END)))
    )
    folder = run(tmp_path / "run", [one], "align")
    extend(folder, [other], "align")
    assert_same(folder, run(tmp_path / "whole", [one, other], "align"))


@pytest.mark.parametrize("case", ["earlier", "overlapping", "contradicting", "gap"])
def test_what_changes_stored_samples_is_read_as_a_whole(tmp_path: Path, case: str) -> None:
    """Days before the run, or over its end, other values at its end, and a scrape gap there; that is said."""
    made = fleet()
    cut = {"overlapping": SEAM - 20, "contradicting": SEAM - 1}.get(case, SEAM)
    if case == "gap":
        for values in made.values():
            values[SEAM - 5 : SEAM + 5] = values[SEAM - 6]
    first = write(tmp_path / "first", made, range(SEAM))
    if case == "contradicting":
        made["vllm:num_requests_running", "chat-decode-4"][SEAM - 1] += 1.0
    second = write(tmp_path / "second", made, range(cut, END))
    old, new = (second, first) if case == "earlier" else (first, second)
    folder = run(tmp_path / "run", [old])
    assert [note for note in extend(folder, [new]) if note.startswith("all inputs are read again: ")]
    assert_same(folder, run(tmp_path / "whole", [first, second]))


def test_an_input_that_is_gone_and_needed_is_named(tmp_path: Path) -> None:
    """Nothing is lost: the run is marked as unfinished with its inputs."""
    later = write(tmp_path / "later", fleet(), range(SEAM, END))
    folder = run(tmp_path / "run", [later])
    shutil.rmtree(later)
    earlier = write(tmp_path / "earlier", fleet(), range(SEAM))
    with pytest.raises(RunFolderError, match="gone and has to be read again"):
        extend(folder, [earlier])


def test_a_changed_input_is_refused(parts: tuple[Path, Path], begun: Path, tmp_path: Path) -> None:
    """Only new files can be added; the run stays as it was."""
    folder = copied(begun, tmp_path / "run")
    file = next(iter(sorted(parts[0].iterdir())))
    text = file.read_text("utf-8")
    file.write_text(text.replace("shop", "mall"), "utf-8")
    before = (folder / "manifest.json").read_bytes()
    try:
        with pytest.raises(RunFolderError, match="has changed: only new files can be added"):
            extend(folder, [parts[0]])
    finally:
        file.write_text(text, "utf-8")
    assert (folder / "manifest.json").read_bytes() == before


def test_other_settings_are_refused(parts: tuple[Path, Path], begun: Path, tmp_path: Path) -> None:
    """A run is extended with the settings that it was made with."""
    folder = copied(begun, tmp_path / "run")
    asked = Asked(given={"reading": Reading(tz="Europe/Berlin")})
    with pytest.raises(RunFolderError, match="tz"):
        extend_run(folder, parts[1:], "ingest", stages=STAGES, progress=Silent(), asked=asked)


def test_nothing_new_leaves_a_run_alone(parts: tuple[Path, Path], begun: Path, tmp_path: Path) -> None:
    """The same inputs again."""
    folder = copied(begun, tmp_path / "run")
    before = (folder / "manifest.json").read_bytes()
    extend(folder, parts[:1])
    assert (folder / "manifest.json").read_bytes() == before


def test_files_of_one_name_have_their_own_hashes(whole: Path) -> None:
    """Two inputs may hold files of one name."""
    files = json.loads((whole / "data" / "inputs.json").read_text("utf-8"))["files"]
    assert len({file["name"] for file in files}) == len(files) / 2
    assert len({file["sha256"] for file in files}) == len(files)


def test_a_run_of_another_version_is_read_as_a_whole(
    parts: tuple[Path, Path], begun: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it left is not built upon, and its inputs are checked."""
    folder = copied(begun, tmp_path / "run")
    monkeypatch.setattr(manifest, "code_sha256", lambda: "other")
    notes = extend(folder, parts[1:], "align")
    assert "all inputs are read again: the run is unfinished, or another version made it" in notes
    assert_same(folder, whole)
