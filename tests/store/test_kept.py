"""Texts are made once, and whatever is wrong with the cache folder costs only time."""

from __future__ import annotations

from pathlib import Path

import pytest

from hs_analysis.store.kept import kept


class _Made:
    def __init__(self) -> None:
        self.times = 0

    def __call__(self) -> str:
        self.times += 1
        return "script “one”"


def test_a_text_is_made_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second call reads it back; another name is another text; nothing else is left in the folder."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "new"))
    make = _Made()
    assert [kept("a.js", make), kept("a.js", make)] == ["script “one”"] * 2
    assert make.times == 1
    kept("b.js", make)
    assert make.times == 2
    assert sorted(path.name for path in (tmp_path / "new" / "hs_analysis").iterdir()) == ["a.js", "b.js"]


def test_a_folder_that_can_not_be_had_costs_the_making_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file where the folder should be, and a kept text that is no text."""
    (tmp_path / "hs_analysis").write_text("in the way")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    make = _Made()
    assert kept("a.js", make) == kept("a.js", make) == "script “one”"
    assert make.times == 2
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "broken"))
    (tmp_path / "broken" / "hs_analysis").mkdir(parents=True)
    (tmp_path / "broken" / "hs_analysis" / "a.js").write_bytes(b"\xff\xfe")
    assert kept("a.js", make) == "script “one”"
    assert (tmp_path / "broken" / "hs_analysis" / "a.js").read_text("utf-8") == "script “one”"
