"""A forward-only view of a byte stream that remembers where it is."""

from __future__ import annotations

import gzip
import re
from pathlib import Path
from typing import BinaryIO

from hs_analysis.errors import InputError

BLOCK_BYTES = 8 << 20
"""Bytes read at once: large enough to amortise calls, small enough to bound memory."""

_SPACE = re.compile(rb"[\s,]*")


class Truncated(Exception):
    """The stream ended inside a value; carries the byte offset of the end."""

    def __init__(self, offset: int) -> None:
        self.offset = offset
        super().__init__(f"ended at byte {offset}")


def open_decompressed(path: Path) -> BinaryIO:
    """Open a file for reading, undoing gzip or zstd found by their magic bytes.

    Raises
    ------
    InputError
        When the file can't be opened.
    """
    try:
        with path.open("rb") as probe:
            magic = probe.read(4)
        if magic[:2] == b"\x1f\x8b":
            return _open_gzip(path)
        if magic == b"\x28\xb5\x2f\xfd":
            import pyarrow as pa

            return pa.input_stream(str(path), compression="zstd")  # type: ignore[no-any-return]
        return path.open("rb")
    except OSError as error:
        raise InputError(
            f"can't be opened ({error.strerror})", where=str(path), hint="check the path and its permissions"
        ) from error


def _open_gzip(path: Path) -> BinaryIO:
    try:
        from isal import igzip
    except ImportError:  # a platform without the wheel: slower, same bytes
        return gzip.open(path, "rb")  # type: ignore[return-value]
    return igzip.open(path, "rb")  # type: ignore[no-any-return,no-untyped-call]


class ByteStream:
    """Scan a stream with regular expressions without holding more than one value of it.

    ``offset`` is the position of the next unread byte in the decompressed stream.
    """

    def __init__(self, handle: BinaryIO) -> None:
        self._handle = handle
        self._data = b""
        self._at = 0
        self._base = 0
        self._ended = False

    @property
    def offset(self) -> int:
        """Byte position of the next unread byte."""
        return self._base + self._at

    def _fill(self) -> bool:
        """Read one more block; False at the end. A cut archive counts as the end of the data."""
        if self._ended:
            return False
        try:
            block = self._handle.read(BLOCK_BYTES)
        except (EOFError, OSError, ValueError) as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise
            block = b""  # the compressed stream is cut: what was inflated so far still counts
        if not block:
            self._ended = True
            return False
        self._base += self._at
        self._data = self._data[self._at :] + block
        self._at = 0
        return True

    def peek(self) -> bytes:
        """Return the next byte after blanks and commas, empty at the end."""
        while True:
            match = _SPACE.match(self._data, self._at)
            self._at = match.end() if match else self._at
            if self._at < len(self._data):
                return self._data[self._at : self._at + 1]
            if not self._fill():
                return b""

    def head(self, size: int) -> bytes:
        """Return up to ``size`` next bytes without consuming them."""
        while len(self._data) - self._at < size and self._fill():
            pass
        return self._data[self._at : self._at + size]

    def skip(self, size: int) -> None:
        """Consume ``size`` bytes that `head` has shown."""
        self._at += size

    def until(self, pattern: re.Pattern[bytes], overlap: int) -> bytes:
        """Consume and return everything up to and including the next match of ``pattern``.

        ``overlap`` is how many bytes at a block's end may hold the beginning of a match.

        Raises
        ------
        Truncated
            When the stream ends first.
        """
        start = self._at
        while True:
            match = pattern.search(self._data, start)
            if match:
                taken = self._data[self._at : match.end()]
                self._at = match.end()
                return taken
            seen = max(len(self._data) - overlap - self._at, 0)
            if not self._fill():
                raise Truncated(self._base + len(self._data))
            start = self._at + seen

    def rest(self) -> bytes:
        """Consume and return all remaining bytes; only for what is known to be small."""
        while self._fill():
            pass
        taken, self._at = self._data[self._at :], len(self._data)
        return taken
