"""Imports go one way, as declared in pyproject.toml."""

from __future__ import annotations

from pathlib import Path

import pytest
from importlinter.cli import lint_imports


def test_imports_keep_the_declared_contracts(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No module imports from a higher layer or a sibling stage; the stages are pure."""
    monkeypatch.chdir(root)
    assert lint_imports(config_filename=str(root / "pyproject.toml"), no_cache=True) == 0
