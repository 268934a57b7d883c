"""plan.json and the files it promises: filled whole, with a checksum list, and looked up when read."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from glob import escape
from pathlib import Path
from typing import IO, Any, cast, get_args

from hs_analysis.collect.check import FileFacts, Received, missing_from_plan
from hs_analysis.collect.plan import DRAFT_PREFIX, PLAN_FILE, PLAN_SCHEMA, Api, Plan, PlannedFile
from hs_analysis.errors import RunFolderError
from hs_analysis.ingest.discovery import holds_no_series
from hs_analysis.ingest.quality import FileSpan
from hs_analysis.pipeline.inputs import HashedInput, sha256_of
from hs_analysis.pipeline.manifest import write_text
from hs_analysis.pipeline.records import from_plain, to_plain

SUMS_FILE = "SHA256SUMS"
LEVEL = 6
"""gzip level; higher ones cost twice the time for a few per cent."""


class Downloads:
    """The finished files of a folder, by the list in ``SHA256SUMS`` (``sha256sum -c`` reads it too)."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._sums = _read(folder / SUMS_FILE)
        for draft in folder.glob(f"{DRAFT_PREFIX}*"):
            draft.unlink(missing_ok=True)  # of a process that was killed

    def done(self, name: str) -> bool:
        """Whether a file is there with the bytes it was finished with."""
        path = self.folder / name
        return name in self._sums and path.is_file() and sha256_of(path) == self._sums[name]

    def listed(self) -> tuple[str, ...]:
        """Return the names of the files that were finished once."""
        return tuple(sorted(self._sums))

    @contextmanager
    def writing(self, name: str) -> Iterator[Callable[[bytes], Any]]:
        """Yield a writer of a gzip file; it gets its name, and a line in the list, once the block ends well.

        Equal content gives equal bytes: the file holds no name and no time.
        """
        draft = self.folder / f"{DRAFT_PREFIX}{name}"
        try:
            with draft.open("wb") as raw:
                with gzip.GzipFile("", "wb", LEVEL, cast("IO[bytes]", raw), mtime=0) as packed:
                    yield packed.write
                raw.flush()
                os.fsync(raw.fileno())
            digest = sha256_of(draft)
            draft.replace(self.folder / name)
        finally:
            draft.unlink(missing_ok=True)
        self._sums[name] = digest
        lines = "".join(f"{digest}  {file}\n" for file, digest in sorted(self._sums.items()))
        write_text(self.folder / SUMS_FILE, lines)


def _read(path: Path) -> dict[str, str]:
    try:
        lines = path.read_text("utf-8").splitlines()
    except FileNotFoundError:
        return {}
    pairs = [line.partition("  ") for line in lines if line.strip()]
    if any(len(digest) != hashlib.sha256().digest_size * 2 or "/" in name for digest, _, name in pairs):
        raise RunFolderError(
            "is no list of checksums", where=str(path), hint="remove it, and every file is fetched again"
        )
    return {name: digest for digest, _, name in pairs}


RECEIVED_FILE = "received.json"
RECEIVED_SCHEMA = "hs-analysis/received/v1"

COMPANIONS = (PLAN_FILE, SUMS_FILE, RECEIVED_FILE)
"""Files that lie beside dumps and are none."""

MOST_PLAN_BYTES = 64 << 20
"""A plan has some hundred bytes a file: this is one of a hundred thousand files."""


def store_plan(folder: Path, plan: Plan) -> Path:
    """Write plan.json and return its path; readers see the old one or the new one."""
    path = folder / PLAN_FILE
    write_text(path, json.dumps(to_plain(plan), indent=1, ensure_ascii=False) + "\n")
    return path


def read_plan(folder: Path) -> Plan | None:
    """Return the plan of a folder, None when it has none.

    Raises
    ------
    RunFolderError
        When the file is no plan.
    """
    path = folder / PLAN_FILE
    try:
        if path.stat().st_size > MOST_PLAN_BYTES:
            raise ValueError(path)
        plan = from_plain(Plan, json.loads(path.read_text("utf-8")))
        if plan.schema != PLAN_SCHEMA or any(_leaves(file.file) or _unasked(file) for file in plan.files):
            raise ValueError(plan.schema)
    except FileNotFoundError:
        return None
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise RunFolderError(
            "is no plan of this hsa",
            where=str(path),
            hint="choose another folder with --out, or give --force",
        ) from error
    return plan


def store_received(folder: Path, received: Iterable[Received]) -> None:
    """Write received.json: what came of each planned file, by name."""
    rows = sorted((to_plain(one) for one in received), key=lambda row: str(row["file"]))
    text = json.dumps({"schema": RECEIVED_SCHEMA, "files": rows}, indent=1, ensure_ascii=False)
    write_text(folder / RECEIVED_FILE, text + "\n")


def read_received(folder: Path) -> tuple[Received, ...]:
    """Return what came of the files of a folder; nothing where nobody wrote it down, or it can't be read.

    Without it the files are held against the plan alone.
    """
    path = folder / RECEIVED_FILE
    try:
        if path.stat().st_size > MOST_PLAN_BYTES:
            return ()
        found = json.loads(path.read_text("utf-8"))
        if found["schema"] != RECEIVED_SCHEMA:
            return ()
        return tuple(from_plain(Received, row) for row in found["files"])
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return ()


def _leaves(name: str) -> bool:
    """Whether a file name leads out of its folder, or is one the folder needs itself."""
    return Path(name).name != name or name.startswith(".") or name in COMPANIONS


def misplaced(plan: Plan) -> Iterator[str]:
    """Yield which files of a plan can't be filled, one sentence a problem."""
    for number, one in enumerate(plan.files):
        if _leaves(one.file):
            yield f"files[{number}].file {one.file!r} is no name of a file next to the plan"
        elif _unasked(one):
            yield f"files[{number}].match is empty, and {one.api} has nothing to ask for"


def _unasked(file: PlannedFile) -> bool:
    """Whether there is no such way to ask for a file, or nothing to ask for in that way."""
    return file.api not in get_args(Api) or not file.selections


def planned_queries(inputs: Iterable[HashedInput]) -> dict[str, str]:
    """Return pattern on a file's name → what its nameless series are called, by the plans beside the files.

    A planned metric that its own query does not read is the name of what the query makes; else the name would
    stand for the metric as exported, so the query itself is the name.
    """
    found: dict[str, str] = {}
    for file in inputs:
        prefix, _, name = file.name.rpartition("/")
        plan = _plan_beside(file) if name == PLAN_FILE else None
        for one in plan.files if plan else ():
            read = re.findall(r"[A-Za-z_:][A-Za-z0-9_:]*", one.query)
            text = one.query if one.metric in read else one.metric
            found[escape(f"{prefix}/{one.file}" if prefix else one.file)] = text
    return found


def planned_as_scraped(inputs: Iterable[HashedInput]) -> set[str]:
    """Return the names of the files, packed or not, that hold samples as scraped by the plans beside them."""
    found: set[str] = set()
    for file in inputs:
        prefix, _, name = file.name.rpartition("/")
        plan = _plan_beside(file) if name == PLAN_FILE else None
        for one in plan.files if plan else ():
            if one.api == "query":
                path = f"{prefix}/{one.file}" if prefix else one.file
                found |= {path, path.removesuffix(".gz")}
    return found


def _empty(plan: Plan, inputs: Iterable[HashedInput], read: Sequence[FileFacts]) -> list[FileFacts]:
    """Return the planned files without anything to tell a dump by: the answers that found no series."""
    planned = {file.file.removesuffix(".gz") for file in plan.files}
    planned -= {one.name.removesuffix(".gz") for one in read}
    named = ((file.name.rpartition("/")[2], file.path) for file in inputs)
    return [
        FileFacts(name, 0, None, None, None)
        for name, path in named
        if name.removesuffix(".gz") in planned and holds_no_series(path)
    ]


def _plan_beside(file: HashedInput) -> Plan | None:
    """Return the plan in a file, None when it is another program's."""
    try:
        return read_plan(file.path.parent)
    except RunFolderError:
        return None


def plan_findings(inputs: Iterable[HashedInput], spans: Sequence[FileSpan]) -> list[dict[str, Any]] | None:
    """Return what the files read lack of the plans beside them: level, text, command; None without a plan.

    A ``plan.json`` of another program is none.
    """
    found: list[dict[str, Any]] | None = None
    inputs = tuple(inputs)
    for file in inputs:
        prefix, _, name = file.name.rpartition("/")
        if name != PLAN_FILE:
            continue
        plan = _plan_beside(file)
        if plan is None:
            continue
        own = [
            FileFacts(span.name.rpartition("/")[2], span.series, span.first_s, span.last_s, span.spacing_s)
            for span in spans
            if span.name.rpartition("/")[0] == prefix
        ]
        own += _empty(plan, [one for one in inputs if one.name.rpartition("/")[0] == prefix], own)
        folder = file.path.parent
        lacks = missing_from_plan(plan, own, folder=str(folder), received=read_received(folder))
        found = (found or []) + [
            {"level": one.level, "text": one.text, "command": one.command} for one in lacks
        ]
    return found
