"""Tests say which programs they need, and nothing else decides whether they run."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import outside
import pytest


def item(*names: str) -> Any:
    """A test that declares programs."""
    return SimpleNamespace(iter_markers=lambda _: [pytest.mark.outside(*names).mark])


@pytest.fixture
def nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A PATH that holds no program, and no packages."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(outside, "find_spec", lambda _: None)
    monkeypatch.setattr(outside, "_declared", ())


def test_what_is_missing_is_named(nothing: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """A skip with all of it in one sentence; under CI=true a failure."""
    says = r"not installed: promtool \(Debian package prometheus\), ray \(extra ray of hs-analysis\)"
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match=says):
        outside.expect(item("ray", "promtool"))
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match=f"{says}; CI=true promises it"):
        outside.expect(item("ray", "promtool"))


def test_a_test_without_the_mark_gets_no_program(nothing: None) -> None:
    """Otherwise it would be tried only where the program is there."""
    outside.expect(item())
    with pytest.raises(AssertionError, match=r'marked @pytest.mark.outside\("promtool"\)'):
        outside.needs("promtool")


def test_only_the_mark_decides(root: Path) -> None:
    """No test looks for programs itself, and skips when it finds none."""
    # CI does not promise a kubectl: the one of Debian 12 is too old for the base.
    allowed = {"outside.py", "test_outside.py", "seeds.py", "test_tsdb_blocks.py", "test_kustomize.py"}
    found = [
        str(path.relative_to(root))
        for path in sorted((root / "tests").rglob("*.py"))
        if path.name not in allowed and "which(" in path.read_text("utf-8")
    ]
    assert found == []
