"""Print the part of requirements.lock that a package and what it needs come from, hashes and all.

``runtime_lock.py`` alone prints what hs_analysis needs at run time; ``runtime_lock.py hatchling editables``
what these need. What needs what is read from the ``# via`` comments: no network, nothing installed.
"""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def blocks(lock: str) -> dict[str, str]:
    """Return the lines of each package, its hashes and comments included, by name."""
    found: dict[str, str] = {}
    name = ""
    for line in lock.splitlines(keepends=True):
        if pinned := re.match(r"([a-z0-9.-]+)==", line):
            name = pinned[1]
            found[name] = ""
        if name and (line.startswith((" ", name))):
            found[name] += line
    return found


def wanted(lock: str, roots: Sequence[str]) -> list[str]:
    """Return the names of the packages that the roots need, they included, in the order of the lock."""
    parents = {
        name: {parent.lower() for parent in re.findall(r"#(?: via)?\s+([A-Za-z0-9._-]+)", text)} - {"via"}
        for name, text in blocks(lock).items()
    }
    found = set(roots)
    while True:
        more = {name for name, of in parents.items() if of & found} - found
        if not more:
            return [name for name in parents if name in found]
        found |= more


def main(arguments: Sequence[str]) -> None:
    """Print the blocks of what the arguments need, or of what the program needs."""
    lock = (ROOT / "requirements.lock").read_text("utf-8")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    roots = list(arguments) or [
        re.match(r"[A-Za-z0-9.-]+", text)[0].lower().replace(".", "-") for text in project["dependencies"]
    ]
    found = blocks(lock)
    sys.stdout.write("".join(found[name] for name in wanted(lock, roots)))


if __name__ == "__main__":
    main(sys.argv[1:])
