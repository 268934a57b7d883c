"""The repository speaks of itself alone, and its files stay small."""

from __future__ import annotations

import gzip
import re
import subprocess
from pathlib import Path

import pytest

import hs_analysis

LARGEST_BYTES = 2 * 1024 * 1024
SAMPLES_BYTES = 8 * 1024 * 1024
MODULE_LINES = 800
# Folders of the machine it was made on; in pieces, so that this file does not hold them itself.
MACHINE_PATHS = re.compile(
    "|".join(f"(?<![\\w.])/{name}/" for name in ("work", "root", "home", "Users", "opt"))
)
TEXT = {".py", ".sql", ".md", ".toml", ".yaml", ".yml", ".lock", ".html", ".j2", ".css", ".csv", ".json", ""}


def tracked(root: Path) -> list[Path]:
    """Return the files git tracks or would track; all files where there is no repository."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    listed = subprocess.run(command, cwd=root, capture_output=True, check=False)
    if listed.returncode:
        pytest.skip("not a git checkout")
    paths = [root / name for name in listed.stdout.decode().split("\0") if name]
    return sorted(path for path in paths if path.is_file())


def test_no_machine_paths(root: Path) -> None:
    """No text file names a folder of the machine it was written on."""
    found = []
    for path in tracked(root):
        if path.suffix in TEXT:
            lines = path.read_text("utf-8").splitlines()
            found += [
                f"{path.relative_to(root)}:{n}"
                for n, line in enumerate(lines, 1)
                if MACHINE_PATHS.search(line)
            ]
    assert found == []


def test_modules_stay_small(root: Path) -> None:
    """No module of the package, and no test module, is longer than 800 lines."""
    lengths = {p: len(p.read_text("utf-8").splitlines()) for p in tracked(root) if p.suffix == ".py"}
    assert {str(p.relative_to(root)): n for p, n in lengths.items() if n > MODULE_LINES} == {}


def test_files_stay_small(root: Path) -> None:
    """No file is over 2 MB and the samples are at most 8 MB together."""
    sizes = {p: p.stat().st_size for p in tracked(root)}
    assert {str(p.relative_to(root)): s for p, s in sizes.items() if s > LARGEST_BYTES} == {}
    assert sum(s for p, s in sizes.items() if (root / "data_samples") in p.parents) <= SAMPLES_BYTES


def test_samples_name_no_host(root: Path) -> None:
    """The instance labels of the samples are loopback addresses, and there are no others."""
    hosts = set()
    for path in sorted((root / "data_samples").rglob("*.json.gz")):
        with gzip.open(path) as file:
            hosts |= set(re.findall(rb'"instance":\s*"([^"]*?)(?::\d+)?"', file.read()))
    assert hosts == {b"127.0.0.1"}


def test_licence_and_notes_are_there(root: Path) -> None:
    """Licence, readme and changelog exist, and the changelog knows the version of the package."""
    assert "Copyright 2026 the hs_analysis authors" in (root / "LICENSE").read_text("utf-8")
    assert (root / "README.md").read_text("utf-8").startswith("# hs_analysis")
    assert f"## {hs_analysis.__version__}" in (root / "CHANGELOG.md").read_text("utf-8")
