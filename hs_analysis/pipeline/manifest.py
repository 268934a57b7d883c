"""manifest.json: what made a run folder, from which bytes, with which settings, and what each stage wrote."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

import hs_analysis
from hs_analysis.errors import RunFolderError
from hs_analysis.pipeline.inputs import HashedInput, inputs_sha256, sha256_of
from hs_analysis.pipeline.records import from_plain, to_plain
from hs_analysis.schema.settings import Settings

MANIFEST_FILE = "manifest.json"
SCHEMA_VERSION = 1

_LIBRARIES = (
    "duckdb", "polars", "pyarrow", "numpy", "scipy", "statsmodels", "scikit-learn", "altair",
    "jinja2", "ruamel.yaml", "pysimdjson", "isal", "typer", "rich",
)  # fmt: skip
_SOURCES = {".py", ".sql", ".yaml", ".json", ".html", ".jinja", ".js", ".css"}


@dataclass(frozen=True)
class FileRecord:
    """A file that a stage wrote: path below the run folder, bytes, hash, and time of change."""

    path: str
    size: int
    sha256: str
    mtime_ns: int

    def intact(self, folder: Path) -> bool:
        """Whether the file is still there with the same bytes."""
        try:
            stat = (folder / self.path).stat()
        except OSError:
            return False
        if stat.st_size != self.size:
            return False
        return stat.st_mtime_ns == self.mtime_ns or sha256_of(folder / self.path) == self.sha256


@dataclass(frozen=True)
class StageRecord:
    """What one stage did.

    Attributes
    ----------
    fingerprint
        Hash of code, settings used and what came before; an equal one means equal files.
    settings
        The settings the stage depends on, by dotted name.
    seconds
        Wall time [s].
    note
        One sentence of what it did.
    counts
        Numbers of the whole stage: rows read, stored, exact duplicates, quarantined.
    inputs
        The same per input file, for the stage that read them.
    files
        What it wrote.
    stale
        Why its files are of before: what they were made from was written again, or settings changed. Empty
        while they are current.
    """

    fingerprint: str
    settings: dict[str, Any]
    seconds: float
    note: str = ""
    stale: str = ""
    counts: dict[str, Any] = field(default_factory=dict)
    inputs: tuple[dict[str, Any], ...] = ()
    files: tuple[FileRecord, ...] = ()


@dataclass(frozen=True)
class InputRecord:
    """An input file as it was when it was read."""

    path: str
    name: str
    named: bool
    size: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """The whole of manifest.json; ``arguments`` are the INPUTs as absolute paths, ``inputs`` their files.

    ``origins`` says where each setting that is no default was given, ``config`` which settings file was read,
    ``machine`` how the machine was used, which changes no result.
    """

    schema_version: int
    tool_version: str
    code_sha256: str
    versions: dict[str, str]
    command: tuple[str, ...]
    created: str
    settings: dict[str, Any]
    arguments: tuple[str, ...]
    inputs: tuple[InputRecord, ...]
    inputs_sha256: str
    origins: dict[str, str] = field(default_factory=dict)
    config: str = ""
    machine: dict[str, Any] = field(default_factory=dict)
    stages: dict[str, StageRecord] = field(default_factory=dict)

    def with_stage(self, name: str, record: StageRecord) -> Manifest:
        """Return the manifest with one more stage done."""
        return replace(self, stages={**self.stages, name: record})

    def without_stages(self, names: Iterable[str]) -> Manifest:
        """Return the manifest without the records of some stages."""
        gone = set(names)
        return replace(self, stages={key: record for key, record in self.stages.items() if key not in gone})

    def input_files(self) -> tuple[HashedInput, ...]:
        """Return the inputs as they were recorded."""
        return tuple(HashedInput(Path(i.path), i.name, i.named, i.size, i.sha256) for i in self.inputs)


def new(
    arguments: Sequence[Path], files: Sequence[HashedInput], settings: Settings, command: Sequence[str]
) -> Manifest:
    """Return the manifest of a run that has not begun."""
    return Manifest(
        schema_version=SCHEMA_VERSION,
        tool_version=hs_analysis.__version__,
        code_sha256=code_sha256(),
        versions=_versions(),
        command=masked(command),
        created=datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
        settings=to_plain(settings),
        arguments=tuple(str(path.resolve()) for path in arguments),
        inputs=tuple(InputRecord(str(f.path.resolve()), f.name, f.named, f.size, f.sha256) for f in files),
        inputs_sha256=inputs_sha256(files),
    )


def with_inputs(manifest: Manifest, arguments: Sequence[Path], files: Sequence[HashedInput]) -> Manifest:
    """Return the manifest of a run with more inputs; the same when there are none."""
    if not files:
        return manifest
    every = sorted([*manifest.input_files(), *files], key=lambda file: (file.name, str(file.path)))
    more = new(arguments, every, Settings(), ())
    return replace(
        manifest,
        arguments=tuple(dict.fromkeys([*manifest.arguments, *more.arguments])),
        inputs=more.inputs,
        inputs_sha256=more.inputs_sha256,
    )


def read(folder: Path) -> Manifest | None:
    """Return the manifest of a run folder, None when it has none.

    Raises
    ------
    RunFolderError
        When the file is not a manifest, or was written by a later version of its schema.
    """
    path = folder / MANIFEST_FILE
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except ValueError as error:
        raise _not_ours(path) from error
    if not isinstance(data, dict) or not isinstance(data.get("schema_version"), int) or "stages" not in data:
        raise _not_ours(path)
    if data["schema_version"] > SCHEMA_VERSION:
        raise RunFolderError(
            f"written by a later hsa ({data.get('tool_version')})", where=str(path), hint="update hs-analysis"
        )
    try:
        return from_plain(Manifest, data)
    except (TypeError, ValueError, KeyError) as error:
        raise _not_ours(path) from error


def _not_ours(path: Path) -> RunFolderError:
    return RunFolderError(
        "not a manifest of hsa", where=str(path), hint="choose another folder with --run-dir"
    )


def write(folder: Path, manifest: Manifest) -> None:
    """Write the manifest; readers see the old one or the new one, never a part."""
    write_text(folder / MANIFEST_FILE, json.dumps(to_plain(manifest), indent=2, ensure_ascii=False) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write a text file under a temporary name beside it and rename it."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.write_text(text, encoding="utf-8", newline="\n")
    draft.replace(path)


def read_sha256(manifest: Manifest) -> str:
    """Return one hash of the inputs that were read; files no reader knows change no result, so no hash."""
    record = manifest.stages.get("ingest")
    names = {str(file["name"]) for file in record.inputs} if record else set()
    return inputs_sha256(file for file in manifest.input_files() if file.name in names) if names else ""


def run_id(manifest: Manifest) -> str:
    """Return the short hash that names a run: equal for equal inputs, settings and tool version."""
    parts = [manifest.tool_version, read_sha256(manifest), manifest.settings]
    return hashlib.sha256(canonical(parts).encode()).hexdigest()[:12]


def canonical(value: Any) -> str:
    """Return plain data as JSON text that is equal for equal data."""
    return json.dumps(to_plain(value), sort_keys=True, separators=(",", ":"))


@cache
def code_sha256() -> str:
    """Return a hash of this package's sources, so that results of other code are never taken for current."""
    package = Path(hs_analysis.__file__).parent
    queries = [folder for folder in (package / "_queries", package.parent / "queries") if folder.is_dir()]
    digest = hashlib.sha256()
    for root in [package, *queries[:1]]:
        for path in sorted(p for p in root.rglob("*") if p.suffix in _SOURCES):
            digest.update(f"{path.relative_to(root).as_posix()}\0".encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()


def _versions() -> dict[str, str]:
    found = {"hs-analysis": hs_analysis.__version__, "python": platform.python_version()}
    for name in _LIBRARIES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


_URL_SECRET = re.compile(r"(?<=://)[^/@\s]+@")
# A token stands on the line of its word: behind `authModes: bearer` the next document may begin.
_NAMED_SECRET = re.compile(
    r"(?i)\b(bearer[ \t]+(?=[A-Za-z0-9._~+/=-])|(?:token|password|secret|api[_-]?key)=)[^\s&]+"
)


def masked(command: Sequence[str]) -> tuple[str, ...]:
    """Return a command line without credentials: those in URLs, bearer tokens, ``token=`` and the like."""
    return tuple(_NAMED_SECRET.sub(r"\1***", _URL_SECRET.sub("***@", word)) for word in command)
