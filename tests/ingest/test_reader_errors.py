"""An error that no reader foresaw costs its file, is told as a bug with its traceback, and no more."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from ingest.bodies import body, element
from typer.testing import CliRunner

from hs_analysis.cli.app import app
from hs_analysis.errors import InputError
from hs_analysis.ingest import formats
from hs_analysis.ingest.discovery import discover
from hs_analysis.ingest.reader_errors import ReaderBugError, catch_reader_bugs
from hs_analysis.ingest.rows import Dump, Piece, ReadNotes

T = 1764000000
GOOD = body(
    element("vllm:num_requests_waiting", [(T + 15 * i, i % 7) for i in range(40)], model_name="m", pod="p")
)


class PanicError(BaseException):
    """As the panic of a library is: no Exception."""


@pytest.fixture(params=[KeyError("service"), PanicError("index out of bounds"), OverflowError("year 10000")])
def broken_reader(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> BaseException:
    """Make the reader of promtool's text raise what nobody foresaw, after its first line."""

    def read(dump: Dump, notes: ReadNotes) -> Iterator[Piece]:
        yield from formats.read_promtool_text(dump, notes)
        raise request.param

    rows = tuple(replace(f, read=read) if f.id == "promtool-text" else f for f in formats.FORMATS)
    monkeypatch.setattr(formats, "FORMATS", rows)
    error: BaseException = request.param
    return error


def _folder(tmp_path: Path, *, good: bool) -> Path:
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "bad.txt").write_text(f'vllm:num_requests_running{{model_name="m"}} =>\n3 @[{T}]\n')
    if good:
        (folder / "good.json").write_bytes(GOOD)
    return folder


def test_the_rest_of_the_folder_goes_on(broken_reader: BaseException, tmp_path: Path) -> None:
    """Exit 0 with one warning; doctor's finding names kind, place and the file that holds the traceback."""
    folder, run = _folder(tmp_path, good=True), tmp_path / "run"
    done = CliRunner().invoke(app, ["ingest", str(folder), "--run-dir", str(run)])
    assert done.exit_code == 0, done.stderr
    (warning,) = [line for line in done.stderr.splitlines() if line.startswith("warning")]
    kind = type(broken_reader).__name__
    assert f"bad.txt could not be read: this is a bug in hsa ({kind} at " in warning
    assert "please report it with data/bugs.txt" in warning
    told = (run / "data/bugs.txt").read_text("utf-8")
    assert told.count("Traceback") == 1
    assert str(broken_reader) in told
    strict = CliRunner().invoke(app, ["ingest", str(folder), "--run-dir", str(run), "--strict"])
    assert strict.exit_code == 4


@pytest.mark.parametrize("named", [True, False])
def test_nothing_readable_is_an_error(
    broken_reader: BaseException, named: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exit 1 and one line, whether the file was named or its folder; the traceback outlives the run."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    folder = _folder(tmp_path, good=False)
    given = folder / "bad.txt" if named else folder
    done = CliRunner().invoke(app, ["ingest", str(given), "--run-dir", str(tmp_path / "run")])
    assert done.exit_code == 1
    (line,) = done.stderr.splitlines()
    assert (
        f"{folder / 'bad.txt'}: could not be read; this is a bug in hsa ({type(broken_reader).__name__}"
        in line
    )
    (account,) = tmp_path.glob("hsa-bug-*.txt")
    assert str(account) in line
    assert str(broken_reader) in account.read_text("utf-8")
    assert not (tmp_path / "run").exists()


def test_a_file_on_which_telling_its_format_breaks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same net: the file is passed over as broken, others are found."""

    def tell(look: formats.FileStart) -> None:
        raise RecursionError(look.name)

    folder = _folder(tmp_path, good=True)
    real = formats.sniff
    monkeypatch.setattr(
        "hs_analysis.ingest.discovery.sniff",
        lambda look: tell(look) if look.name == "bad.txt" else real(look),
    )
    found = discover([folder])
    assert [file.name for file in found.files] == ["good.json"]
    assert [(p.name, p.state) for p in found.passed] == [("bad.txt", "broken")]
    assert "RecursionError at hs_analysis/ingest/discovery.py line" in found.passed[0].why
    with pytest.raises(InputError, match="this is a bug in hsa"):
        discover([folder / "bad.txt"])


@pytest.mark.parametrize(
    "error", [MemoryError(), OSError(errno.ENOSPC, "No space left"), KeyboardInterrupt(), InputError("mine")]
)
def test_what_is_no_bug_passes(error: BaseException) -> None:
    """The machine's refusals, interrupts and errors in words are none of the net's."""
    with pytest.raises(type(error)) as told, catch_reader_bugs("f"):
        raise error
    assert told.value is error
    assert not isinstance(told.value, ReaderBugError)
