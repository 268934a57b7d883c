"""A folder that is being filled: files appear whole, and a checksum list says which are done."""

from __future__ import annotations

import gzip
import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, cast

from hs_analysis.collect.plan import DRAFT_PREFIX
from hs_analysis.errors import RunFolderError
from hs_analysis.pipeline.inputs import sha256_of
from hs_analysis.pipeline.manifest import write_text

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
