"""What stages hand on in memory: taken while it is what the files hold, else read."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from hs_analysis.pipeline import handover, tables
from hs_analysis.pipeline.handover import handed, handing_on
from hs_analysis.schema.results import Refusal

ROWS = [{"service": "a", "fit": "whole", "what": "ratio", "code": "no_load", "text": "t", "collect": "c"}]


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Tables that were read from their files."""
    found: list[Path] = []
    read = tables.read_table
    monkeypatch.setattr(tables, "read_table", lambda path: (found.append(path), read(path))[1])
    return found


def test_a_table_that_was_written_is_not_read_back(tmp_path: Path, reads: list[Path]) -> None:
    """It is handed on with what was made of it, also to a folder that was renamed."""
    with handing_on():
        tables.write_rows(tmp_path / "out", "refusals", ROWS)
        (tmp_path / "out").rename(tmp_path / "run")
        first = tables.read_rows(tmp_path / "run", "refusals", Refusal, "a")
        assert tables.read_rows(tmp_path / "run", "refusals", Refusal, "a") is first
        frame = tables.read(tmp_path / "run", "refusals")
    assert not reads
    assert tables.read(tmp_path / "run", "refusals").equals(frame)
    assert len(reads) == 1


def test_no_reader_changes_what_the_next_one_gets(tmp_path: Path) -> None:
    """Frames can be changed in place; those that are kept are not."""
    with handing_on():
        tables.write_rows(tmp_path, "refusals", ROWS)
        tables.read(tmp_path, "refusals").replace_column(0, pl.Series("service", ["b"]))
        assert tables.read(tmp_path, "refusals")["service"].to_list() == ["a"]


def test_a_table_that_was_written_again_is_read_again(tmp_path: Path, reads: list[Path]) -> None:
    """What is kept lasts no longer than its file, and what is no file is an empty table."""
    with handing_on():
        tables.write_rows(tmp_path, "refusals", ROWS)
        elsewhere = tmp_path / "elsewhere"
        tables.write_rows(elsewhere, "refusals", [])
        (elsewhere / tables.PLACES["refusals"]).replace(tmp_path / tables.PLACES["refusals"])
        assert not tables.read(tmp_path, "refusals").height
        tables.write_rows(elsewhere, "refusals", ROWS * 2)
        assert not tables.read(tmp_path, "refusals").height
        assert len(reads) == 1
        (tmp_path / tables.PLACES["refusals"]).unlink()
        assert tables.read(tmp_path, "refusals").columns == tables.contract("refusals").names


def test_what_is_large_is_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory does not grow with the number of large tables."""
    monkeypatch.setattr(handover, "MOST_BYTES", 10)
    made: list[int] = []
    with handing_on():
        for size in (10, 10, 11, 11):
            handed(size, [], lambda size=size: made.append(size), lambda _, size=size: size)  # type: ignore[misc]
    assert made == [10, 11, 11]


def test_nothing_is_kept_between_commands(tmp_path: Path, reads: list[Path]) -> None:
    """A command that starts in the middle reads the files."""
    with handing_on():
        tables.write_rows(tmp_path, "refusals", ROWS)
    with handing_on():
        tables.read(tmp_path, "refusals")
        tables.read(tmp_path, "refusals")
    assert len(reads) == 1
