"""The wheel holds everything the program needs at run time, and runs from there."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def wheel(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel with the locked build backend."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    built = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="module")
def site(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Unpack the wheel into a folder of its own."""
    folder = tmp_path_factory.mktemp("site")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder


def run(site: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Python on the unpacked wheel, away from the checkout."""
    environment = os.environ | {"PYTHONPATH": str(site), "PYTHONSAFEPATH": "1"}
    return subprocess.run(
        [sys.executable, *arguments], cwd=site, env=environment, capture_output=True, text=True, check=False
    )


def test_wheel_holds_every_file_of_package_and_queries(root: Path, site: Path) -> None:
    """Modules, queries, catalogue, templates, schemas and a sample are in the wheel; no caches, no tests."""
    package = {p.relative_to(root) for p in (root / "hs_analysis").rglob("*") if p.is_file()}
    package = {p for p in package if "__pycache__" not in p.parts}
    queries = {
        Path("hs_analysis/_queries") / p.relative_to(root / "queries") for p in root.glob("queries/*/*.sql")
    }
    held = {p.relative_to(site) for p in (site / "hs_analysis").rglob("*") if p.is_file()}
    sample = {
        Path("hs_analysis/_samples/dynamo-pd") / p.name
        for p in (root / "data_samples" / "dynamo-pd").iterdir()
    }
    pages = {
        Path("hs_analysis/_pages") / p.relative_to(root / "docs")
        for p in (root / "docs").rglob("*.md")
        if p.parent != root / "docs" or p.name != "README.md"
    }
    pages = {p for p in pages if p.parts[2] != "dev"}
    assert package | queries | sample | pages <= held
    assert {p.name for p in site.iterdir()} == {"hs_analysis", next(site.glob("*.dist-info")).name}
    assert not [p for p in held if p.suffix == ".pyc"]


def test_pages_are_read_from_the_wheel(root: Path, site: Path) -> None:
    """hsa help prints the page that the checkout has, and lists the same topics."""
    assert run(site, "-m", "hs_analysis", "help", "roles").stdout.startswith(
        "# Roles, services and instances"
    )
    listed = subprocess.run(
        [sys.executable, "-m", "hs_analysis", "help"], cwd=root, capture_output=True, text=True, check=True
    ).stdout
    assert run(site, "-m", "hs_analysis", "help").stdout == listed


def test_licence_travels_with_the_wheel(site: Path) -> None:
    """The licence text is in the wheel's metadata."""
    assert list(site.glob("*.dist-info/licenses/LICENSE"))


def test_queries_are_read_from_the_wheel(root: Path, site: Path) -> None:
    """Away from a checkout the store finds each query inside the package."""
    names = sorted(f"{p.parent.name}/{p.stem}" for p in root.glob("queries/*/*.sql"))
    code = (
        "import hs_analysis, sys; from hs_analysis.store import query_text\n"
        f"assert hs_analysis.__file__.startswith({str(site)!r}), hs_analysis.__file__\n"
        f"for name in {names!r}: assert query_text(name).startswith('-- ')\n"
    )
    finished = run(site, "-c", code)
    assert finished.returncode == 0, finished.stderr


def test_program_starts_from_the_wheel(site: Path) -> None:
    """`python -m hs_analysis --help` and `signals` work from the wheel alone."""
    for arguments in (["--help"], ["signals", "-o", "json"]):
        finished = run(site, "-m", "hs_analysis", *arguments)
        assert finished.returncode == 0, finished.stderr
        assert finished.stdout


@pytest.mark.slow
def test_the_demo_runs_from_the_wheel(site: Path, tmp_path: Path) -> None:
    """Without a checkout `hsa init demo --demo` brings a sample along, and the printed command reads it."""
    written = run(site, "-m", "hs_analysis", "init", str(tmp_path / "demo"), "--demo")
    assert written.returncode == 0, written.stderr
    words = written.stdout.splitlines()[-1].removeprefix("next: hsa run ").split()
    assert words == [f"{tmp_path}/demo/dynamo-pd", "--config", f"{tmp_path}/demo/hsa.toml"]
    read = run(site, "-m", "hs_analysis", "ingest", *words, "--run-dir", str(tmp_path / "run"))
    assert read.returncode == 0, read.stderr
    assert "116,268" in read.stdout
