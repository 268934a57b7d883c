"""A forward-only view of a byte stream that remembers where it is, and JSON's brackets in it."""

from __future__ import annotations

import codecs
import gzip
import io
import re
import zlib
from collections.abc import Callable, Iterator
from io import BufferedReader
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, cast

import numpy as np

from hs_analysis.errors import InputError

FEW = 32
"""Brackets found one by one; further ones many at once, which costs more to start and less for each."""

SMALLEST_CHUNK_BYTES, LARGEST_CHUNK_BYTES = 1 << 10, 1 << 20
"""Bytes looked at together: a value may end soon, and what stays in a core's cache is cheap."""

_TO_BRACKET = re.compile(rb'(?:[^"{}\[\]]++|"(?:[^"\\]++|\\.)*+")*+([{}\[\]]?)', re.DOTALL)
"""Whole texts and all else up to the next bracket, and that; without it where what is there ends."""

_JSON_TEXT = re.compile(rb'"(?:[^"\\]++|\\.)*+"', re.DOTALL)
_QUOTE = ord('"')
_STEP = {b"{": 1, b"[": 1, b"}": -1, b"]": -1}
_STEPS = np.zeros(256, np.int8)
_STEPS[list(b"{[")], _STEPS[list(b"}]")] = 1, -1
_IS_MARK = _STEPS != 0
_IS_MARK[_QUOTE] = True


class BracketState(NamedTuple):
    """How far brackets are told: ``end`` is the byte after the last one, or where more bytes are needed.

    ``depth`` brackets are open there, ``opened`` were opened in all. ``cut`` says that an unfinished text, or
    nothing, stands at ``end``.
    """

    end: int
    depth: int = 0
    opened: int = 0
    cut: bool = False


def scan_brackets(data: bytes, state: BracketState, most_levels: int) -> BracketState:
    """Tell brackets on from ``told.end``, which is outside of texts.

    Returns at the bracket that closes the first one, at one that lies in more than ``most_levels`` others, at
    the end of the data, and now and then between.
    """
    return _scan_few(data, state) if state.opened < FEW else _scan_many(data, state, most_levels)


def _scan_few(data: bytes, state: BracketState) -> BracketState:
    match = _TO_BRACKET.match(data, state.end)
    assert match is not None  # noqa: S101 - it matches nothing, too
    if not match[1]:
        return state._replace(end=match.end(), cut=True)
    step = _STEP[match[1]]
    return BracketState(match.end(), state.depth + step, state.opened + (step > 0))


def _scan_many(data: bytes, state: BracketState, most_levels: int) -> BracketState:
    _, depth, opened, _ = state
    for end, places, steps in _chunks(data, state.end):
        levels = depth + np.cumsum(steps, dtype=np.int32)
        stops = np.flatnonzero((levels == 0) | (levels > most_levels))
        if stops.size:
            last = int(stops[0])
            opened += int(np.count_nonzero(steps[: last + 1] > 0))
            return BracketState(int(places[last]) + 1, int(levels[last]), opened)
        depth = int(levels[-1]) if levels.size else depth
        opened += int(np.count_nonzero(steps > 0))
        state = BracketState(end, depth, opened, cut=True)
    return state._replace(cut=True)


def nesting_of(data: bytes) -> tuple[int, int]:
    """Return how many lists and objects a JSON text opens, and how many of them lie in each other at most."""
    depth = opened = most = 0
    for _, _, steps in _chunks(data, 0):
        levels = depth + np.cumsum(steps, dtype=np.int32)
        most = max(most, int(levels.max(initial=0)))
        depth = int(levels[-1]) if levels.size else depth
        opened += int(np.count_nonzero(steps > 0))
    return opened, most


def _chunks(data: bytes, start: int) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """Yield where each chunk ends, and place and step (1 or -1) of every bracket in it outside of texts.

    A chunk ends before a text that it does not hold whole; the last one where the data ends or is cut.
    """
    size = SMALLEST_CHUNK_BYTES
    while start < len(data):
        chunk = data[start : start + size]
        is_last = start + size >= len(data)
        if not is_last and (len(chunk) - len(chunk.rstrip(b"\\"))) % 2:
            chunk = chunk[:-1]  # it escapes what comes next
        if b"\\" in chunk:
            chunk = chunk.replace(b"\\\\", b"  ").replace(b'\\"', b"  ")
        codes = np.frombuffer(chunk, np.uint8)
        marks = np.flatnonzero(_IS_MARK[codes])
        is_quote = codes[marks] == _QUOTE
        in_text = np.cumsum(is_quote, dtype=np.uint8) & 1
        places = marks[~is_quote & (in_text == 0)]
        is_cut = in_text.size > 0 and in_text[-1] == 1
        end = start + (int(marks[is_quote][-1]) if is_cut else len(chunk))
        yield end, places + start, _STEPS[codes[places]]
        if is_cut and is_last:
            return
        if end == start:  # a text longer than a chunk
            text = _JSON_TEXT.match(data, start)
            if text is None:
                return
            end = text.end()
            yield end, places, _STEPS[places]
        start, size = end, min(2 * size, LARGEST_CHUNK_BYTES)


BLOCK_BYTES = 8 << 20
"""Bytes read at once: large enough to amortise calls, small enough to bound memory."""

GROWTH = 4
"""Blocks read at once at most where much is held already, which each reading copies."""

LINE_BLOCK_BYTES = 1 << 19
"""Bytes of lines read at once: what stays in a core's cache is cut twice as fast as larger blocks."""

PIECE_BYTES = 1 << 15
"""Bytes asked of a decompressor at once: where its archive is cut, so many before the cut are lost."""

LONGEST_LINE_BYTES = 128 << 20
"""A longer line is no line of any text: VictoriaMetrics writes a year of one series at 15 s in 72 MB."""

LONGEST_RECORD_BYTES = 4 << 20
"""A longer line is set aside unread where a line is one sample, request or row: read, it takes many times its
bytes."""

LARGEST_VALUE_BYTES = 256 << 20
"""A larger JSON value, or list of samples, is not held: a year of one series at 15 s is 72 MB."""

MOST_LEVELS = 100
"""Brackets in brackets: reports of benchmarks have some ten levels, and deeper ones exhaust the stack."""

MOST_BRACKETS = 1 << 22
"""Lists and objects of one JSON value: decoded, each takes up to some hundred bytes."""

MOST_KEYS = 1 << 16
"""Of one JSON object that is walked over key by key: envelopes and reports have some ten."""

BOM = b"\xef\xbb\xbf"
"""UTF-8 byte order mark, which some programs put before a text."""

LONGEST_TEXT_BYTES = 1 << 20
"""A longer JSON text is a lost quote, not a label; without a bound it would pull in the whole file."""

_SEPARATORS = re.compile(rb"[\s,]*")
_IN_PARTS = "export it in smaller parts"
_TEXT = re.compile(rb'[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)
_SCALAR_END = re.compile(rb"[,}\]\s]")
_PAIRS_END = re.compile(rb"\]\s*\]")
_BLANK = b" \t\r\n"

DAMAGES: tuple[type[Exception], ...] = (EOFError, OSError, ValueError, zlib.error)
"""What reading a compressed file raises where it is cut or damaged."""

DAMAGED = "the compressed data is cut or damaged"

_open_gzip: Callable[[Path], Any] = gzip.open

try:
    from isal import igzip, isal_zlib
except ImportError:  # a platform without the wheel: slower, same bytes
    pass
else:
    _open_gzip = igzip.open
    DAMAGES = (*DAMAGES, isal_zlib.error)  # type: ignore[arg-type]  # its stubs say instance


LARGEST_RATIO = 50
_SMALLEST_LIMIT_BYTES = 64 << 20


def most_unpacked_bytes(path: Path) -> int:
    """Return the bytes that a file of compressed content may unpack to: Parquet, zipped arrays, a TSDB."""
    return _SMALLEST_LIMIT_BYTES + LARGEST_RATIO * path.stat().st_size


def damaged_after(damage: str, offset: int) -> str:
    """Return what damage there is and after how many bytes; of packed data they are unpacked ones."""
    return f"{damage} after {offset} unpacked bytes" if damage == DAMAGED else f"{damage} after byte {offset}"


class BrokenStreamError(Exception):
    """The stream is cut, damaged or no JSON at ``offset``; an InputError where the file is known.

    ``is_end`` says that there is no more, rather than something else than expected.
    """

    def __init__(
        self, what: str, offset: int, hint: str = "export this file again", *, is_end: bool = False
    ) -> None:
        self.what = what
        self.is_end = is_end
        self.offset = offset
        self.hint = hint
        self.text = damaged_after(what, offset) if what == DAMAGED else f"{what} at byte {offset}"
        """What is wrong, and where."""
        super().__init__(self.text)


UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")
"""What a file in UTF-16 begins with: Grafana writes CSV for Excel so."""


class _AsUtf8(io.RawIOBase):
    """Bytes of UTF-16 as bytes of UTF-8; what is no character becomes U+FFFD."""

    def __init__(self, handle: BinaryIO) -> None:
        super().__init__()
        self._handle = handle
        self._decoder = codecs.getincrementaldecoder("utf-16")("replace")
        self._left = b""

    def readable(self) -> bool:
        return True

    def read1(self, size: int = -1) -> bytes:
        """Return some bytes, none at the end only."""
        while not self._left:
            raw = self._handle.read(PIECE_BYTES)
            self._left = self._decoder.decode(raw, final=not raw).encode("utf-8", "replace")
            if not raw:
                break
        size = len(self._left) if size < 0 else size
        found, self._left = self._left[:size], self._left[size:]
        return found

    def readinto(self, buffer: Any) -> int:
        found = self.read1(len(buffer))
        buffer[: len(found)] = found
        return len(found)

    def close(self) -> None:
        self._handle.close()
        super().close()


def is_utf16(path: Path) -> bool:
    """Return whether a file, once decompressed, is text in UTF-16."""
    try:
        with _open_compressed(path) as handle:
            return handle.read(2) in UTF16_MARKS
    except InputError:
        return False
    except DAMAGES:
        return False


def open_decompressed(path: Path) -> BinaryIO:
    """Open a file for reading, undoing gzip, zstd and UTF-16, each found by its first bytes.

    Raises
    ------
    InputError
        When the file can't be opened.
    """
    if is_utf16(path):
        return cast("BinaryIO", _AsUtf8(_open_compressed(path)))
    return _open_compressed(path)


def _open_compressed(path: Path) -> BinaryIO:
    try:
        with path.open("rb") as probe:
            magic = probe.read(4)
        if magic[:2] == b"\x1f\x8b":
            return _open_gzip(path)  # type: ignore[no-any-return]
        if magic == b"\x28\xb5\x2f\xfd":
            import pyarrow as pa

            return pa.input_stream(str(path), compression="zstd")  # type: ignore[no-any-return]
        return path.open("rb")
    except OSError as error:
        raise InputError(
            f"can't be opened ({error.strerror})", where=str(path), hint="check the path and its permissions"
        ) from error


class ByteStream:
    """Scan a stream of JSON without holding more than one value of it.

    ``offset`` is the position of the next unread byte in the decompressed stream.
    """

    def __init__(self, handle: BinaryIO, block_bytes: int | None = None) -> None:
        self._handle = handle
        self._block_bytes = block_bytes or BLOCK_BYTES
        self._piece_bytes = self._block_bytes if isinstance(handle, BufferedReader) else PIECE_BYTES
        self._data = b""
        self._at = 0
        self._base = 0
        self._damage = ""
        self._ended = False

    @property
    def offset(self) -> int:
        """Byte position of the next unread byte."""
        return self._base + self._at

    @property
    def damage(self) -> str:
        """Why the stream ended early, empty when it did not."""
        return self._damage

    def _fill(self) -> bool:
        """Read one more block; False at the end. A cut archive gives what it inflated, then ends."""
        if self._ended:
            return False
        kept = memoryview(self._data)[self._at :]
        block = self._block(max(self._block_bytes, min(len(kept) // 4, GROWTH * self._block_bytes)))
        if not block:
            self._ended = True
            return False
        self._base += self._at
        self._data = b"".join([kept, block])
        self._at = 0
        return True

    def _block(self, missing: int) -> bytes:
        parts: list[bytes] = []
        try:
            while missing > 0 and (part := self._handle.read1(min(missing, self._piece_bytes))):  # type: ignore[attr-defined]
                parts.append(part)
                missing -= len(part)
        except DAMAGES as error:
            reason = getattr(error, "strerror", None)
            self._damage = f"the file can't be read on ({reason})" if reason else DAMAGED
            self._ended = True
        return b"".join(parts)

    def _end(self) -> BrokenStreamError:
        what = self._damage or "the JSON ends in the middle"
        return BrokenStreamError(what, self._base + len(self._data), is_end=True)

    def peek(self) -> bytes:
        """Return the next byte after blanks and commas, empty at the end.

        Raises
        ------
        BrokenStreamError
            When the stream ends here because its archive is damaged: more may be missing.
        """
        while True:
            match = _SEPARATORS.match(self._data, self._at)
            self._at = match.end() if match else self._at
            if self._at < len(self._data):
                return self._data[self._at : self._at + 1]
            if not self._fill():
                if self._damage:
                    raise self._end()
                return b""

    def head(self, size: int) -> bytes:
        """Return up to ``size`` next bytes without consuming them."""
        while len(self._data) - self._at < size and self._fill():
            pass
        return self._data[self._at : self._at + size]

    def take(self) -> bytes:
        """Consume and return what is buffered, else the next block; empty at the end."""
        if self._at >= len(self._data):
            self._fill()
        return self._take(len(self._data))

    def lines(self) -> Iterator[bytes]:
        """Consume all: yield blocks of whole lines, each ending with a newline but for what the end cut off.

        ``damage`` says after the last block whether there was more.

        Raises
        ------
        BrokenStreamError
            When there is no newline in LONGEST_LINE_BYTES.
        """
        pending: list[bytes] = []
        size = 0
        while self._at < len(self._data) or self._fill():
            block = self._take(len(self._data))
            end = block.rfind(b"\n") + 1
            if end:
                yield b"".join([*pending, memoryview(block)[:end]])
                pending, size = [], 0
            pending.append(block[end:])
            size += len(block) - end
            if size > LONGEST_LINE_BYTES:
                raise BrokenStreamError(f"a line of more than {LONGEST_LINE_BYTES} bytes", self.offset - size)
        if rest := b"".join(pending):
            yield rest

    def object_keys(self) -> Iterator[str]:
        """Walk over one object: yield each key with the stream at its value, which the caller consumes."""
        self.expect(b"{")
        begin, keys = self.offset - 1, 0
        while self.peek() != b"}":
            keys += 1
            if keys > MOST_KEYS:
                raise BrokenStreamError(f"an object of more than {MOST_KEYS} keys", begin)
            self.expect(b'"')
            key = self.text()[:-1].decode("utf-8", "replace")
            self.expect(b":")
            yield key
        self.expect(b"}")

    def skip_mark(self) -> None:
        """Consume a UTF-8 byte order mark if one comes next, after blanks."""
        self.peek()
        if self.head(len(BOM)) == BOM:
            self._at += len(BOM)

    def expect(self, byte: bytes) -> None:
        """Consume the next byte after blanks and commas, which must be ``byte``.

        Raises
        ------
        BrokenStreamError
            When another byte comes, or none.
        """
        found = self.peek()
        if found != byte:
            raise self.unexpected()
        self._at += 1

    def unexpected(self) -> BrokenStreamError:
        """Return the error that names the next byte, or the end."""
        found = self._data[self._at : self._at + 1]
        if not found:
            return self._end()
        return BrokenStreamError(f"unexpected {found.decode('latin-1')!r}", self.offset)

    def _take(self, end: int) -> bytes:
        taken = self._data[self._at : end]
        self._at = end
        return taken

    def text(self) -> bytes:
        """Consume a JSON text whose opening quote is consumed; return it with its closing quote."""
        while True:
            match = _TEXT.match(self._data, self._at)
            if match:
                return self._take(match.end())
            if len(self._data) - self._at > LONGEST_TEXT_BYTES:
                raise BrokenStreamError(f"a text of more than {LONGEST_TEXT_BYTES} bytes", self.offset)
            if not self._fill():
                raise self._end()

    def value(self, *, small: bool = False) -> bytes:
        """Consume and return the next JSON value whole, brackets balanced and texts respected.

        Raises
        ------
        BrokenStreamError
            When it is larger than LARGEST_VALUE_BYTES, where a ``small`` one is expected than
            LONGEST_RECORD_BYTES, or has more brackets than MOST_BRACKETS or MOST_LEVELS inside each other:
            what decodes it would run out of memory or stack.
        """
        opening = self.peek()
        if opening in (b"{", b"["):
            size = self._bracketed(keep=True, most_bytes=LONGEST_RECORD_BYTES if small else None)
            return self._take(self._at + size)
        if opening == b'"':
            self._at += 1
            return opening + self.text()
        return self._scalar()

    def skip(self) -> None:
        """Consume the next JSON value and forget it, however large it is."""
        if self.peek() in (b"{", b"["):
            self._bracketed(keep=False)
        else:
            self.value()

    def _scalar(self) -> bytes:
        while not (match := _SCALAR_END.search(self._data, self._at)):
            if len(self._data) - self._at > LONGEST_TEXT_BYTES:
                raise BrokenStreamError(f"a word of more than {LONGEST_TEXT_BYTES} bytes", self.offset)
            if not self._fill():
                raise self._end()
        scalar = self._take(match.start())
        if not scalar:
            raise self.unexpected()
        return scalar

    def _bracketed(self, *, keep: bool, most_bytes: int | None = None) -> int:
        """Find the end of the list or object that comes next; return how many bytes before it are kept."""
        begin, seen, state = self.offset, 0, BracketState(0)
        while True:
            state = scan_brackets(self._data, state._replace(end=self._at + seen, cut=False), MOST_LEVELS)
            seen = state.end - self._at
            if not keep:
                self._at, seen = state.end, 0
            if state.depth > MOST_LEVELS:
                at = self.offset + seen - 1
                raise BrokenStreamError(f"brackets in more than {MOST_LEVELS} others", at)
            if keep and state.opened > MOST_BRACKETS:
                what = f"a value of more than {MOST_BRACKETS} lists and objects"
                raise BrokenStreamError(what, begin, _IN_PARTS)
            if state.cut:
                self._more(begin, seen, most_bytes)
            elif state.depth == 0:
                return seen

    def _more(self, begin: int, seen: int, most_bytes: int | None) -> None:
        """Read on in the value that begins at byte ``begin``, of which ``seen`` bytes are kept and told."""
        unfinished = len(self._data) - self._at - seen  # of a text
        if unfinished > LONGEST_TEXT_BYTES:
            at = self.offset + seen + 1
            raise BrokenStreamError(f"a text of more than {LONGEST_TEXT_BYTES} bytes", at)
        self._bounded("a value", begin, most_bytes)
        if not self._fill():
            raise self._end()

    def _bounded(self, what: str, begin: int, most_bytes: int | None = None) -> None:
        most_bytes = most_bytes or LARGEST_VALUE_BYTES
        if len(self._data) - self._at > most_bytes:
            raise BrokenStreamError(f"{what} of more than {most_bytes} bytes", begin, _IN_PARTS)

    def pairs(self) -> bytes:
        """Consume and return a list of pairs ``[[…],…]``: up to the first ``]]``, blanks allowed between.

        Raises
        ------
        BrokenStreamError
            When it is no list of lists, runs on into something else, or is larger than LARGEST_VALUE_BYTES.
        """
        self.peek()
        begin = self.offset
        self.expect(b"[")
        if self.peek() == b"]":
            self._at += 1
            return b"[]"
        if self._data[self._at : self._at + 1] != b"[":
            raise self.unexpected()
        start = self._at
        while not (match := _PAIRS_END.search(self._data, start)):
            # An unfinished `] ]` may stand at the end of what is there: resume at its first bracket.
            seen = len(self._data.rstrip(_BLANK)) - 1 - self._at
            unfinished = max(self._data.rfind(b"]", self._at), self._at)
            if len(self._data) - unfinished > LONGEST_TEXT_BYTES:
                at = self._base + unfinished
                raise BrokenStreamError(f"a sample of more than {LONGEST_TEXT_BYTES} bytes", at)
            self._bounded("a list of samples", begin)
            if not self._fill():
                raise self._end()
            start = self._at + max(seen, 0)
        lead = self.offset - begin  # bytes between the outer bracket and the first pair
        pairs = memoryview(self._data)[self._at : match.end()]
        body = b"".join([b"[", b" " * (lead - 1), pairs])
        self._at = match.end()
        if b"{" in body or b"}" in body:
            at = min(i for i in (body.find(b"{"), body.find(b"}")) if i >= 0)
            raise BrokenStreamError("values run into another object", begin + at)
        return body
