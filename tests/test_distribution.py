"""What travels: metadata, licences, a source archive that builds the same wheel, an image of both."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from ruamel.yaml import YAML
from trove_classifiers import classifiers as known_classifiers


@pytest.fixture(scope="module")
def project(root: Path) -> dict[str, Any]:
    """The table [project] of pyproject.toml."""
    return tomllib.loads((root / "pyproject.toml").read_text("utf-8"))["project"]


@pytest.fixture(scope="module")
def runtime_lock(root: Path) -> ModuleType:
    """The script that picks packages out of the lock."""
    return script(root, "runtime_lock")


@pytest.fixture(scope="module")
def image_steps(root: Path) -> ModuleType:
    """The script that carries out the steps of the image."""
    return script(root, "image_steps")


def script(root: Path, name: str) -> ModuleType:
    """Return a script of .ci as a module."""
    spec = importlib.util.spec_from_file_location(name, root / ".ci" / f"{name}.py")
    assert spec
    assert spec.loader
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_metadata_is_what_an_index_takes(project: dict[str, Any], root: Path) -> None:
    """Classifiers exist, the authors are named as a group, and no address is given that nobody has."""
    assert set(project["classifiers"]) <= set(known_classifiers)
    assert project["authors"] == [{"name": "the hs_analysis authors"}]
    assert "urls" not in project
    assert len(project["description"]) <= 512
    for name in project["license-files"]:
        assert (root / name).stat().st_size > 1000


def test_the_citation_is_of_this_version(project: dict[str, Any], root: Path) -> None:
    """CITATION.cff names the version, licence and authors of pyproject.toml, and no address."""
    text = (root / "CITATION.cff").read_text("utf-8")
    found = YAML(typ="safe").load(text)
    assert {"cff-version", "message", "title", "authors"} <= set(found)
    assert (found["version"], found["license"]) == (project["version"], project["license"])
    assert found["authors"] == project["authors"]
    assert "://" not in text


def test_the_ways_to_report_name_no_address(root: Path) -> None:
    """SECURITY.md describes the way through the hosting site: no person, mail or server is made up."""
    text = (root / "SECURITY.md").read_text("utf-8")
    assert not re.search(r"://|\S@\S|www\.", text)


@pytest.fixture(scope="module")
def archives(root: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The source archive unpacked, and a wheel built from it."""
    folder = tmp_path_factory.mktemp("archives")
    build = [sys.executable, "-m", "hatchling", "build", "-d", str(folder), "-t"]
    subprocess.run([*build, "sdist"], cwd=root, capture_output=True, text=True, check=True)
    (packed,) = folder.glob("*.tar.gz")
    with tarfile.open(packed) as archive:
        archive.extractall(folder, filter="data")
    source = folder / packed.name.removesuffix(".tar.gz")
    subprocess.run([*build, "wheel"], cwd=source, capture_output=True, text=True, check=True)
    (wheel,) = folder.glob("*.whl")
    return source, wheel


def test_the_source_archive_builds_the_whole_wheel(root: Path, archives: tuple[Path, Path]) -> None:
    """Every module, query and schema of the checkout, and the licences of what is bundled."""
    source, wheel = archives
    with zipfile.ZipFile(wheel) as archive:
        held = set(archive.namelist())
    package = {p for p in (root / "hs_analysis").rglob("*") if p.is_file() and "__pycache__" not in p.parts}
    assert {p.relative_to(root).as_posix() for p in package} <= held
    queries = {f"hs_analysis/_queries/{p.parent.name}/{p.name}" for p in root.glob("queries/*/*.sql")}
    assert queries <= held
    licences = {name.partition("/licenses/")[2] for name in held if "/licenses/" in name}
    assert licences == {"LICENSE", "hs_analysis/report/chart_library.LICENSES.txt"}
    for name in ("SECURITY.md", "CITATION.cff", "Containerfile", ".ci/runtime_lock.py", "tests/conftest.py"):
        assert (source / name).is_file(), name


def test_the_image_installs_what_the_program_needs(
    runtime_lock: ModuleType, root: Path, project: dict[str, Any]
) -> None:
    """Of the lock all that the dependencies ask for here, each with hashes, and no test tool."""
    lock = (root / "requirements.lock").read_text("utf-8")
    roots = [canonicalize_name(Requirement(text).name) for text in project["dependencies"]]
    found = set(runtime_lock.wanted(lock, roots))
    waiting, needed = list(roots), set()
    while waiting:
        name = waiting.pop()
        if name in needed:
            continue
        needed.add(name)
        for text in metadata.requires(name) or ():
            asked = Requirement(text)
            if asked.marker is None or asked.marker.evaluate({"extra": ""}):
                waiting.append(canonicalize_name(asked.name))
    assert needed <= found
    assert not found & {"pytest", "ray", "mypy", "ruff", "hypothesis", "playwright", "vl-convert-python"}
    parts = runtime_lock.blocks(lock)
    assert all("--hash=sha256:" in parts[name] for name in found)


def test_the_image_is_built_as_it_says(root: Path) -> None:
    """Not root, the base an argument, nothing fetched by a pipe, packages by hash or from this source."""
    lines = (root / "Containerfile").read_text("utf-8").splitlines()
    steps = [line.partition(" ") for line in lines if line and not line.startswith("#")]
    words = [word for word, _, _ in steps]
    assert set(words) <= {"ARG", "FROM", "WORKDIR", "COPY", "RUN", "ENV", "USER", "ENTRYPOINT", "CMD"}
    assert words[0] == "ARG"
    assert [rest for word, _, rest in steps if word == "FROM"] == ["${BASE} AS build", "${BASE}"]
    assert [rest for word, _, rest in steps if word == "USER"] == ["65532:65532"]
    assert words.index("USER") > max(i for i, word in enumerate(words) if word in ("RUN", "COPY"))
    runs = [rest for word, _, rest in steps if word == "RUN"]
    for rest in runs:
        assert not re.search(r"curl|wget|\|", rest)
        assert ("pip install" not in rest) or ("--require-hashes" in rest or "--no-deps" in rest)
    assert re.search(r"about \d+ MB", "\n".join(lines))


def test_the_steps_of_the_image_are_all_known(image_steps: ModuleType, root: Path) -> None:
    """What carries them out reads the Containerfile itself, from the first line to the last."""
    text = (root / "Containerfile").read_text("utf-8")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    assert [" ".join(step) for step in image_steps.instructions(text)] == lines


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("HEALTHCHECK CMD hsa --version", "HEALTHCHECK is not known"),
        ("ADD . /src", "ADD is not known"),
        ("RUN true && \\", "RUN goes on in the next line"),
    ],
)
def test_a_step_that_nobody_carries_out_is_refused(image_steps: ModuleType, line: str, why: str) -> None:
    """Before the first one runs: a step that is passed over would be a step that nobody tried."""
    with pytest.raises(SystemExit, match=f"line 3: {why}"):
        list(image_steps.instructions(f"FROM base\n# a word\n{line}\nUSER 1:1\n"))


def test_folders_of_the_image_lie_below_one_place(image_steps: ModuleType, tmp_path: Path) -> None:
    """What the steps make is moved; options, addresses and the folders of the system are not."""
    image = image_steps.Image(tmp_path, Path(sys.executable))
    text = "find /app/lib /usr/lib -type d && pip install -r /build/lock https://host/app ./a/b /tmp"
    moved = f"find {tmp_path}/image/app/lib /usr/lib -type d && pip install -r {tmp_path}/image/build/lock"
    assert image.here(text) == f"{moved} https://host/app ./a/b {tmp_path}/image/tmp"
    stage = image_steps.Stage(environment={"PATH": "/app/bin:$PATH", "MODE": "1"})
    known = image.environment(stage)
    assert known["PATH"].startswith(f"{tmp_path}/image/app/bin:{tmp_path}/base:")
    assert known["MODE"] == "1"
    assert "PYTHONPATH" not in known


@pytest.mark.parametrize(
    ("path", "left_out"),
    [
        (".git", True), (".venv-site", True), ("reports/week", True), ("hs_analysis/cli/__pycache__", True),
        (".mypy_cache", True), ("reports", False), ("hs_analysis", False), (".ci", False),
        ("hs_analysis/report", False), ("tests/report/build", False), ("requirements.lock", False),
    ],
)  # fmt: skip
def test_the_image_is_built_from_what_the_context_holds(
    image_steps: ModuleType, path: str, left_out: bool
) -> None:
    """A pattern of .containerignore is a path from the top, or a name at any depth after ``**/``."""
    patterns = Path(image_steps.ROOT, ".containerignore").read_text("utf-8").split()
    assert image_steps.is_ignored(Path(path), patterns) == left_out
