"""Stages read the settings they declare, write the files they declare, and hand on what they were given."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal
from typer.testing import CliRunner

from hs_analysis.cli.app import app
from hs_analysis.pipeline import manifest as manifests
from hs_analysis.pipeline.chain import STAGES
from hs_analysis.pipeline.inputs import list_inputs
from hs_analysis.pipeline.stages import Silent, Work, by_name
from hs_analysis.pipeline.tables import read_frames, split, write_aligned
from hs_analysis.schema.aligned import ServiceFrame
from hs_analysis.schema.settings import Beside, Reading, Settings, Slo


class Watch:
    """Builds settings that note which of their values are read."""

    def __init__(self) -> None:
        self.read: set[str] = set()

    def settings(self) -> Settings:
        """Return watched settings with limits."""
        note = self.read.add
        slo_names, names = {f.name for f in fields(Slo)}, {f.name for f in fields(Settings)}
        reading_names = {f.name for f in fields(Reading)}
        beside_names = {f.name for f in fields(Beside)}

        class WatchedSlo(Slo):
            def __getattribute__(self, name: str) -> Any:
                if name in slo_names:
                    note(f"slo.{name}")
                return super().__getattribute__(name)

        class WatchedReading(Reading):
            def __getattribute__(self, name: str) -> Any:
                if name in reading_names:
                    note(f"reading.{name}")
                return super().__getattribute__(name)

        class WatchedBeside(Beside):
            def __getattribute__(self, name: str) -> Any:
                if name in beside_names:
                    note(f"beside.{name}")
                return super().__getattribute__(name)

        class WatchedSettings(Settings):
            def __getattribute__(self, name: str) -> Any:
                copied = sys._getframe(1).f_globals["__name__"] == "dataclasses"  # replace() copies all
                if name in names and name not in ("slo", "reading", "beside") and not copied:
                    note(name)
                return super().__getattribute__(name)

        slo = WatchedSlo(ttft_s=2.5, tbt_s=0.05)
        return WatchedSettings(
            slo=slo, startup_s={"prefill": 120.0}, draws=20, reading=WatchedReading(), beside=WatchedBeside()
        )


def test_stages_read_only_settings_they_declare(dumps: Path, tmp_path: Path) -> None:
    """An undeclared setting would leave stale results behind when it changes."""
    watch = Watch()
    settings = watch.settings()
    work = Work(
        tmp_path, tmp_path, settings, (dumps,), list_inputs([dumps]), "run", "sha", Silent()
    )  # fmt: skip
    undeclared = {}
    for stage in STAGES:
        watch.read.clear()
        stage.run(work)
        extra = {name for name in watch.read if not _declared(name, stage.settings)}
        if extra:
            undeclared[stage.name] = extra
    assert undeclared == {}


def _declared(name: str, declared: tuple[str, ...]) -> bool:
    return name in declared or name.partition(".")[0] in declared


def test_stages_stand_in_order_and_own_their_files() -> None:
    """Each needs only what is before it, names settings that exist, and no file has two owners."""
    by_name(STAGES)
    patterns = [pattern for stage in STAGES for pattern in stage.writes]
    assert len(patterns) == len(set(patterns))
    for stage in STAGES:
        for name in stage.settings:
            value: Any = Settings()
            for part in name.split("."):
                value = getattr(value, part)


def test_aligned_frames_survive_the_disk(
    dumps: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the study reads is what alignment made: values, order of columns, gaps, and all that is known."""
    from hs_analysis.pipeline import ingest_stages

    made: list[Any] = []

    def keep(folder: Path, aligned: Any) -> None:
        made.append(aligned)
        write_aligned(folder, aligned)

    monkeypatch.setattr(ingest_stages, "write_aligned", keep)
    work = Work(
        tmp_path, tmp_path, Settings(slo=Slo(2.5, 0.05)), (dumps,), list_inputs([dumps]), "", "", Silent()
    )
    ingest_stages.ingest_inputs(work)
    ingest_stages.align_services(work)
    for before, after in zip(made[0].frames, read_frames(tmp_path), strict=True):
        assert_frame_equal(before.table, after.table)
        for field in fields(ServiceFrame):
            if field.name != "table":
                assert getattr(before, field.name) == getattr(after, field.name)


def test_split_is_by_time_over_all_captures() -> None:
    """The first share of the rows in time, whatever capture they lie in; no row is lost or shared."""
    t = pl.Series("t", [0, 60, 120, 180, 30, 90, 150, 210, 240, 270]).cast(pl.Datetime("us", "UTC"))
    table = pl.DataFrame({"capture": ["a"] * 4 + ["b"] * 6}).with_columns(
        (t.dt.epoch("us") * 1_000_000).cast(t.dtype).alias("t")
    )
    frame = ServiceFrame("s", 30.0, "production", "offered", table, (), {}, {})
    train, test = split(frame, 0.6)
    assert train.table.height == 6
    assert max(train.seconds()) < min(test.seconds())
    assert sorted([*train.seconds(), *test.seconds()]) == sorted(frame.seconds())
    assert split(frame.rows(np.zeros(10, bool)), 0.6)[0].table.height == 0


@pytest.mark.parametrize(
    ("hours", "tested"), [(47, 24), (48, 24), (60, 24), (24 * 7, 72), (24 * 14, 144), (30, 12)]
)
def test_the_rest_is_whole_days(hours: int, tested: int) -> None:
    """From two days on, an hour of which may lack; a shorter history is cut by its share."""
    t = pl.Series("t", np.arange(hours) * 3_600_000_000).cast(pl.Datetime("us", "UTC"))
    frame = ServiceFrame("s", 3600.0, "production", "offered", pl.DataFrame({"t": t}), (), {}, {})
    assert [part.table.height for part in split(frame, 0.6)] == [hours - tested, tested]


def test_a_gap_does_not_cut_a_part_short() -> None:
    """One lone day a month before: by whole days it alone would be learnt on."""
    hours = np.r_[np.arange(24), 24 * 30 + np.arange(72)]
    t = pl.Series("t", hours * 3_600_000_000).cast(pl.Datetime("us", "UTC"))
    frame = ServiceFrame("s", 3600.0, "production", "offered", pl.DataFrame({"t": t}), (), {}, {})
    assert split(frame, 0.6)[0].table.height == 57


def test_short_history_still_leaves_with_a_policy(small_dumps: Callable[[int], Path], tmp_path: Path) -> None:
    """When only the whole window passes the gates, selection uses it and says so.

    No unseen hours are left for a backtest: the policy is judged block by block on those it was fitted on.
    """
    folder = tmp_path / "run"
    limits = ("--slo", "ttft=2.5s", "--slo", "tbt=50ms", "--startup", "120s")
    arguments = ["run", str(small_dumps(8)), "--run-dir", str(folder), "-q", *limits]
    assert CliRunner().invoke(app, arguments, catch_exceptions=False).exit_code == 0
    summary = json.loads((folder / "summary.json").read_text())
    (service,) = summary["services"]
    chosen = [row for row in service["selection"] if row["chosen"]]
    assert len(chosen) == 1
    assert "not_backtested" in {warning["code"] for warning in summary["warnings"]}
    assert chosen[0]["policy"] not in {row["policy"] for row in service["replay"]["policies"]}
    assert "mode: metric" in (folder / "policy.yaml").read_text()
    decision = service["decision"]
    assert decision["by_blocks"]
    assert decision["hours_saved_ratio"] is None
    assert decision["hours_saved_ci"] is not None
    assert decision["slo_risk"]["recorded"] is not None
    assert "not_backtested" in {reason["code"] for reason in decision["confidence_reasons"]}
    assert decision["confidence"] == "low"


def test_code_hash_covers_queries_and_modules(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A changed query, module or template of the report makes every result stale."""
    import hs_analysis

    package = tmp_path / "hs_analysis"
    (tmp_path / "queries").mkdir()
    package.mkdir()
    (package / "__init__.py").write_text("")
    monkeypatch.setattr(hs_analysis, "__file__", str(package / "__init__.py"))
    seen = set()
    sources = (package / "a.py", tmp_path / "queries" / "b.sql", package / "c.yaml", package / "d.jinja")
    for path in sources:
        path.write_text("x")
        manifests.code_sha256.cache_clear()
        seen.add(manifests.code_sha256())
    manifests.code_sha256.cache_clear()
    assert len(seen) == len(sources)
