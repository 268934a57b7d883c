"""Every folder of public data that the tests know is there, and is held to all that can be said of it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from public_sets import QUIRKS, known

FIGURES = ("ingest/test_shared_sets.py", "end_to_end/test_simulated.py")
FINDINGS = ("doctor/test_quirks.py",)


def folders(data: Path) -> set[str]:
    """Return the names of the folders of public data."""
    return {path.name for path in data.iterdir() if path.is_dir()}


@pytest.mark.parametrize("name", sorted(known()))
def test_a_known_set_has_its_expectations(name: str, root: Path) -> None:
    """Its quirks, and tests of what is read and found: what it once was held to can't be lost."""
    assert any(rows for text, rows in QUIRKS.items() if text.partition("/")[0] == name)
    for modules in (FIGURES, FINDINGS):
        bodies = [(root / "tests" / module).read_text("utf-8") for module in modules]
        assert any(re.search(rf'"{name}["/]', body) for body in bodies), f"no test in {modules}"


def test_quirks_are_of_known_sets() -> None:
    """A set that is taken out of the tables is taken out of all of them."""
    assert {text.partition("/")[0] for text in QUIRKS} == known()


def test_every_known_set_is_there(real_data: Path) -> None:
    """One that is gone, or that got another name, would no longer be looked at."""
    assert known() - folders(real_data) == set()


def test_unknown_sets_are_left_alone(real_data: Path) -> None:
    """A folder that comes is named, and turns nothing red."""
    if new := sorted(folders(real_data) - known()):
        pytest.skip(f"tests/public_sets.py says nothing of {', '.join(new)}")
