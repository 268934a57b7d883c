"""requirements.lock is complete, current, hashed, and says nothing of where it was made."""

from __future__ import annotations

import re
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ENTRY = re.compile(r"^(?P<name>[A-Za-z0-9._-]+)==(?P<version>[^ ;\\]+)(?P<marker>\s*;[^\\]*)?\s*\\?$")


@pytest.fixture(scope="module")
def text(root: Path) -> str:
    """Return the lock as text."""
    return (root / "requirements.lock").read_text("utf-8")


@pytest.fixture(scope="module")
def pins(text: str) -> dict[str, Version]:
    """Return the pinned version of every package in the lock."""
    matches = [ENTRY.match(line) for line in text.splitlines() if re.match(r"[A-Za-z0-9]", line)]
    assert all(matches), "a line of the lock is not a pin"
    return {canonicalize_name(m["name"]): Version(m["version"]) for m in matches if m}


@pytest.fixture(scope="module")
def wanted(root: Path) -> list[Requirement]:
    """Return what pyproject.toml asks for: to run, to test, to build."""
    config = tomllib.loads((root / "pyproject.toml").read_text("utf-8"))
    project = config["project"]
    lines = (
        project["dependencies"]
        + project["optional-dependencies"]["test"]
        + config["build-system"]["requires"]
    )
    return [Requirement(line) for line in lines]


def applies(requirement: Requirement, extras: set[str]) -> bool:
    """Whether the requirement holds here, with these extras asked for."""
    marker = requirement.marker
    return marker is None or any(marker.evaluate({"extra": extra}) for extra in ({""} | extras))


def test_every_dependency_is_pinned_inside_its_range(
    wanted: list[Requirement], pins: dict[str, Version]
) -> None:
    """Each dependency of pyproject.toml is in the lock, at a version that its range allows."""
    stale = [
        f"{r}: lock has {pins.get(canonicalize_name(r.name))}"
        for r in wanted
        if canonicalize_name(r.name) not in pins or pins[canonicalize_name(r.name)] not in r.specifier
    ]
    assert stale == [], "run make lock"


def test_lock_holds_the_whole_closure_and_nothing_else(
    wanted: list[Requirement], pins: dict[str, Version]
) -> None:
    """What the pinned packages need is pinned inside its range too, and no pin is left that nobody needs."""
    reached: dict[str, set[str]] = {}
    faults: list[str] = []
    waiting = list(wanted)
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        if name not in pins or pins[name] not in requirement.specifier:
            faults.append(str(requirement))
            continue
        if name in reached and requirement.extras <= reached[name]:
            continue
        reached[name] = reached.get(name, set()) | requirement.extras
        needs = [Requirement(line) for line in metadata.requires(name) or []]
        waiting += [need for need in needs if applies(need, reached[name])]
    assert faults == [], "run make lock"
    assert set(pins) == set(reached), "run make lock"


def test_every_pin_has_hashes(text: str) -> None:
    """Each pin is followed by at least one SHA-256, so that pip can refuse a changed file."""
    blocks = re.split(r"\n(?=[A-Za-z0-9])", text)[1:]
    assert [b.split("\n")[0] for b in blocks if not re.search(r"--hash=sha256:[0-9a-f]{64}", b)] == []


def test_lock_names_no_index_host_or_path(text: str) -> None:
    """The lock can be used anywhere: no address, no option line, no absolute path."""
    assert not re.search(r"://|^\s*--(?!hash)|(^|\s)/\w", text, re.MULTILINE)
