"""Inputs are known by names and bytes, not by where they lie or in which order they come."""

from __future__ import annotations

from pathlib import Path

import pytest

from hs_analysis.errors import InputError, ManyErrors
from hs_analysis.pipeline.inputs import first_difference, inputs_sha256, list_inputs
from hs_analysis.pipeline.run_folder import name_of, window_name
from hs_analysis.schema.settings import Settings


def folder_with(root: Path, **files: str) -> Path:
    """Make a folder of text files."""
    root.mkdir()
    for name, text in files.items():
        (root / name).write_text(text)
    return root


def test_hash_ignores_place_and_order(tmp_path: Path) -> None:
    """A copied folder is the same input; a renamed or changed file is not."""
    one = list_inputs([folder_with(tmp_path / "one", a="1", b="2")])
    two = list_inputs([folder_with(tmp_path / "two", b="2", a="1")])
    assert inputs_sha256(one) == inputs_sha256(two) == inputs_sha256(one[::-1])
    assert inputs_sha256(one) != inputs_sha256(list_inputs([folder_with(tmp_path / "three", a="2", b="1")]))


def test_file_given_twice_counts_once(tmp_path: Path) -> None:
    """A file inside a named folder may be named again."""
    folder = folder_with(tmp_path / "one", a="1")
    assert len(list_inputs([folder, folder / "a"])) == 1


def test_hidden_files_are_left_out(tmp_path: Path) -> None:
    """Only below the input: a dump may lie inside a hidden folder."""
    root = tmp_path / ".cache"
    root.mkdir()
    folder = folder_with(root / "one", a="1")
    (folder / ".b").write_text("2")
    assert [file.name for file in list_inputs([folder])] == ["a"]


def test_missing_inputs_are_all_named(tmp_path: Path) -> None:
    """Each wrong path is its own problem."""
    with pytest.raises(InputError, match="no such file or folder"):
        list_inputs([tmp_path / "x"])
    with pytest.raises(ManyErrors) as caught:
        list_inputs([tmp_path / "x", tmp_path / "y"])
    assert [Path(error.where).name for error in caught.value.errors] == ["x", "y"]


def test_empty_folder_is_an_error(tmp_path: Path) -> None:
    """A folder without files can't be a dump."""
    with pytest.raises(InputError, match="holds no file"):
        list_inputs([tmp_path])


def test_first_difference_is_said_in_words(tmp_path: Path) -> None:
    """New, gone or changed."""
    files = list_inputs([folder_with(tmp_path / "one", a="1", b="2")])
    now = {(file.name, file.sha256) for file in files}
    assert first_difference(now, files) is None
    assert first_difference(now, files[:1]) == "b is gone"
    assert first_difference(list(now)[:0], files) == "a is new"
    assert first_difference({("a", "0"), *[p for p in now if p[0] == "b"]}, files) == "a has other content"


@pytest.mark.parametrize(
    ("name", "want"),
    [("day.json.gz", "day"), ("my dump!.json", "my-dump"), ("query_range.core.json.gz", "query_range.core")],
)
def test_run_is_named_for_its_input(tmp_path: Path, name: str, want: str) -> None:
    """Endings go, and what a shell would trip over."""
    (tmp_path / name).write_text("")
    assert name_of(tmp_path / name) == want


def test_window_is_cut_by_the_bounds() -> None:
    """The later start and the earlier end, in UTC."""
    settings = Settings(start="2026-07-01T02:00:00+01:00", end="2026-07-09T00:00:00Z")
    assert (
        window_name("2026-07-01T00:00:00Z", "2026-07-08T00:00:00Z", settings) == "20260701T0100-20260708T0000"
    )
    assert window_name(None, None, Settings()) == "open-open"
