"""Bend valid files at random, seeded, and hold each reader to its promises, many times a second.

    python tests/fuzz/mutants.py FORMAT COUNT FOLDER [SEED]

Beside the bytes, what they mean is bent: nodes of JSON, cells of lines, values and types of Parquet columns,
members of archives. One input in WHOLE_EVERY goes through the whole ingest stage. FOLDER gets ``found-*`` as
of `reader`; the last line on stdout is the number of inputs tried.
"""

from __future__ import annotations

import gzip
import io
import json
import random
import re
import signal
import sys
import tempfile
import zlib
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from fuzz.kept import keep  # noqa: E402 - found through the path above
from fuzz.seeds import seeds  # noqa: E402
from fuzz.tars import ask_promtool_once_in, with_checksums  # noqa: E402
from fuzz.whole import ingested_or_refused, refused_or_read  # noqa: E402

LONGEST_S = 10
"""An input of some kilobytes that takes longer hangs."""

WHOLE_EVERY = 10
"""The whole stage takes some times as long as reading alone."""

INPUTS_PER_DUMP = 500
"""Of a TSDB: promtool takes a hundred times as long as unpacking a tar."""

LONGEST_BYTES = 1 << 16

NUMBERS = (
    "0", "-0", "-1", "1e308", "1e999", "-1e999", "NaN", "Infinity", "+Inf", "5e-324", "9223372036854775807",
    "9223372036854775808", "-9223372036854775808", "18446744073709551616", "9007199254740993", "2147483648",
    "-99999999999", "-99999999999999", "4102444800", "253402300800", "99999999999999", "62135596801",
    "-62135596801", "-62135596800000", "1764000000123456789", "0.1", "1.", ".5", "1_0", "0x10", "1e-7",
    "9" * 30, "1" * 400, "٣", "１２", "12,5", "1 000", "1.5 K", "97%", "12 ms",
)  # fmt: skip
WORDS = (
    "", " ", "null", "true", "[]", "{}", "\\ud800", "\\u0000", "\ufeff", "\u2028", "\x00", "\x1b[31m", "é",
    "\U0001f600", "_" * 300, "a" * 5000, "\\", '"', "'", "=", ",", ";", "\t", "\r", "\n", "#", "{", "}", "[",
    "]", "(", ")", "=>", "@", "__name__", "le", "quantile", "model_name", "pod", "service", "capture",
    "2026-02-30", "0001-01-01T00:00:00Z", "9999-12-31T23:59:59.999999999Z", "0000-00-00 00:00:00",
    "2026-03-29 02:30:00", "2026-07-01T00:00:00+99:99", "24:00:00", "prefill", "decode", "N/A", "[N/A]", "-",
)  # fmt: skip
VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 2**31, 2**63, 2**64, -(2**63) - 1, 10**30, 1e308, float("nan"), float("inf"),
    -float("inf"), "", "x", "\ud800", "\x00", "NaN", "1e999", "é" * 40, [], {}, [[]], [None], {"": None},
    [1, "2", None], {"a": {"b": [1]}}, -99999999999, -62135596801000, 253402300800,
)  # fmt: skip
"""What a node of JSON becomes."""

_NUMBER = re.compile(rb"-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?")

Bend = Callable[[bytes, random.Random], bytes]


def _bytes(raw: bytes, rng: random.Random) -> bytes:
    """Overwrite, flip, cut out, put in or repeat some bytes."""
    at, bent = rng.randrange(len(raw) + 1), bytearray(raw)
    size = rng.choice((1, 1, 2, 4, 16, 64))
    match rng.randrange(5):
        case 0:
            bent[at : at + size] = rng.randbytes(size)
        case 1 if at < len(raw):
            bent[at] ^= 1 << rng.randrange(8)
        case 2:
            del bent[at : at + size]
        case 3:
            bent[at:at] = rng.randbytes(size)
        case _:
            bent[at:at] = bent[at : at + size] * rng.choice((1, 2, 50))
    return bytes(bent)


def _cut(raw: bytes, rng: random.Random) -> bytes:
    at = rng.randrange(len(raw) + 1)
    return raw[:at] if rng.random() < 0.8 else raw[at:]


def _number(raw: bytes, rng: random.Random) -> bytes:
    """Put another number, or a word, where one stands."""
    found = list(_NUMBER.finditer(raw))
    if not found:
        return _bytes(raw, rng)
    one = rng.choice(found)
    put = rng.choice(NUMBERS if rng.random() < 0.8 else WORDS).encode("utf-8", "surrogatepass")
    return raw[: one.start()] + put + raw[one.end() :]


def _word(raw: bytes, rng: random.Random) -> bytes:
    """Put a word in, or over some bytes."""
    at = rng.randrange(len(raw) + 1)
    put = rng.choice(WORDS + NUMBERS).encode("utf-8", "surrogatepass")
    return raw[:at] + put + raw[at + rng.choice((0, 0, 1, len(put))) :]


def _lines(raw: bytes, rng: random.Random) -> bytes:
    """Drop, repeat, swap or mix lines, or change how they end."""
    lines = raw.splitlines(keepends=True) or [b""]
    at, other = rng.randrange(len(lines)), rng.randrange(len(lines))
    match rng.randrange(5):
        case 0:
            del lines[at]
        case 1:
            lines[at:at] = [lines[other]] * rng.choice((1, 2, 20))
        case 2:
            lines[at], lines[other] = lines[other], lines[at]
        case 3:
            lines[at] = lines[at].replace(b"\n", rng.choice((b"\r\n", b"\r", b"", b"\n\n", b"\0\n")))
        case _:
            half = len(lines[at]) // 2
            lines[at] = lines[at][:half] + lines[other][len(lines[other]) // 2 :]
    return b"".join(lines)


def _cells(raw: bytes, rng: random.Random) -> bytes:
    """Change a cell of one line: another value, one more, one fewer, a quote."""
    lines = raw.splitlines(keepends=True)
    if not lines:
        return raw
    at = rng.randrange(len(lines))
    separator = rng.choice((b",", b" ", b"\t", b";"))
    cells = lines[at].split(separator)
    cell = rng.randrange(len(cells))
    put = rng.choice(WORDS + NUMBERS).encode("utf-8", "surrogatepass")
    match rng.randrange(5):
        case 0:
            del cells[cell]
        case 1:
            cells[cell:cell] = [put]
        case 2:
            cells[cell] = b'"' + cells[cell]
        case 3:
            other = rng.randrange(len(cells))
            cells[cell], cells[other] = cells[other], cells[cell]
        case _:
            cells[cell] = put
    lines[at] = separator.join(cells)
    return b"".join(lines)


def _json(raw: bytes, rng: random.Random) -> bytes:
    """Put another value at a node of the JSON, drop, repeat or rename it; of lines in one of them."""
    lines = [raw]
    try:
        document = json.loads(raw)
        at = 0
    except ValueError:
        lines = raw.splitlines()
        at = rng.randrange(len(lines)) if lines else 0
        try:
            document = json.loads(lines[at])
        except (ValueError, IndexError):
            return _number(raw, rng)
    nodes = list(_nodes(document))
    if not nodes:
        return json.dumps(rng.choice(VALUES)).encode()
    parent, key = rng.choice(nodes)
    match rng.randrange(6):
        case 0:
            del parent[key]
        case 1 if isinstance(parent, dict):
            parent[rng.choice((*WORDS, *parent))] = parent.pop(key)
        case 1 | 2 if isinstance(parent, list):
            parent[key:key] = [parent[key]] * rng.choice((1, 3))
        case 3:
            other, place = rng.choice(nodes)
            parent[key] = json.loads(json.dumps(other[place]))
        case _:
            parent[key] = rng.choice(VALUES)
    lines[at] = json.dumps(document, ensure_ascii=rng.random() < 0.5).encode("utf-8", "surrogatepass")
    return b"\n".join(lines) + b"\n" * (len(lines) > 1)


def _nodes(document: Any) -> list[tuple[Any, Any]]:
    """Return (container, key or index) of every node below the top."""
    found: list[tuple[Any, Any]] = []
    waiting = [document]
    while waiting:
        one = waiting.pop()
        keys = list(one) if isinstance(one, dict) else list(range(len(one))) if isinstance(one, list) else []
        found += [(one, key) for key in keys]
        waiting += [one[key] for key in keys]
    return found


def _packed(raw: bytes, rng: random.Random) -> bytes:
    """Pack the bytes, and damage the archive more often than not."""
    match rng.randrange(3):
        case 0:
            packed = gzip.compress(raw, mtime=0)
        case 1:
            packed = pa.compress(raw, "zstd", asbytes=True)
        case _:
            halves = raw[: len(raw) // 2], raw[len(raw) // 2 :]
            packed = b"".join(gzip.compress(half, mtime=0) for half in halves)
    return packed if rng.random() < 0.3 else rng.choice((_bytes, _cut))(packed, rng)


def _deflated(raw: bytes, rng: random.Random) -> bytes:
    """Damage the inside of a gzip member whose head is whole: found only when it is inflated."""
    body = bytearray(zlib.compress(raw)[2:-4])
    if body:
        body[rng.randrange(len(body))] ^= 1 << rng.randrange(8)
    return b"\x1f\x8b\x08\0\0\0\0\0\0\xff" + bytes(body) + zlib.crc32(raw).to_bytes(4, "little") + bytes(4)


def _parquet(raw: bytes, rng: random.Random) -> bytes:
    """Write the table again with a column of other values, another type, another name, or none."""
    try:
        table = pq.read_table(io.BytesIO(raw))
    except Exception:
        return _bytes(raw, rng)
    if not table.num_columns:
        return raw
    at = rng.randrange(table.num_columns)
    name = table.column_names[at]
    match rng.randrange(5):
        case 0:
            table = table.drop_columns([name])
        case 1:
            names = [*table.column_names[:at], rng.choice(WORDS), *table.column_names[at + 1 :]]
            table = table.rename_columns([n.encode("utf-8", "replace").decode() for n in names])
        case 2:
            table = table.slice(0, rng.randrange(table.num_rows + 1))
        case _:
            kind = rng.choice(TYPES)
            made = [_of_type(kind, rng) for _ in range(table.num_rows)]
            try:
                table = table.set_column(at, name, pa.array(made, kind))
            except (pa.ArrowException, TypeError, ValueError, OverflowError):
                return _bytes(raw, rng)
    made_file = io.BytesIO()
    try:
        pq.write_table(table, made_file)
    except pa.ArrowException:
        return raw
    return made_file.getvalue()


TYPES = (
    pa.int64(), pa.float64(), pa.string(), pa.bool_(), pa.binary(), pa.timestamp("ns"), pa.null(),
    pa.timestamp("us", "Europe/Berlin"), pa.list_(pa.int64()), pa.date32(), pa.decimal128(38, 3), pa.uint64(),
    pa.dictionary(pa.int32(), pa.string()),
)  # fmt: skip
"""What a column of Parquet becomes."""


def _of_type(kind: pa.DataType, rng: random.Random) -> Any:
    if rng.random() < 0.1 or pa.types.is_null(kind):
        return None
    if pa.types.is_integer(kind) or pa.types.is_timestamp(kind):
        return rng.choice((0, 1, 2**62, 1764000000, 1764000000123456789)) * rng.choice((1, 1, -1))
    if pa.types.is_floating(kind):
        return rng.choice((0.0, -1.0, float("nan"), float("inf"), 1e308, 1764000000.5))
    if pa.types.is_boolean(kind):
        return rng.random() < 0.5
    if pa.types.is_binary(kind):
        return rng.choice((b"", b"\xff\xfe", b"1", b"up"))
    if pa.types.is_list(kind):
        return [1, None]
    if pa.types.is_date(kind):
        return rng.randrange(-700_000, 2_000_000)
    if pa.types.is_decimal(kind):
        return rng.randrange(10**9)
    return rng.choice(("", "1", "NaN", "counter", "2026-07-01T00:00:00Z", *WORDS[:30]))


BENDS: tuple[tuple[Bend, int], ...] = (
    (_bytes, 3), (_cut, 1), (_number, 4), (_word, 3), (_lines, 2), (_cells, 3), (_json, 4),
    (_packed, 1), (_deflated, 1),
)  # fmt: skip
"""How often each is used."""


def mutant(raw: bytes, rng: random.Random) -> bytes:
    """Return a bent copy of some bytes; the same for the same generator's state."""
    if raw[:4] == b"PAR1" and rng.random() < 0.6:
        return _parquet(raw, rng)
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        (bend,) = rng.choices([b for b, _ in BENDS], [w for _, w in BENDS])
        raw = bend(raw, rng)[:LONGEST_BYTES]
    return with_checksums(raw) if raw[257:262] == b"ustar" and rng.random() < 0.8 else raw


class HangError(BaseException):
    """Reading one input took longer than LONGEST_S; no Exception, so that nothing on the way takes it."""


def _hang(_signal: int, _frame: FrameType | None) -> None:
    raise HangError(f"longer than {LONGEST_S} s")


def fuzz(kind: str, count: int, folder: Path, seed: int = 0) -> int:
    """Try mutants of a format's seeds; return how many were tried."""
    samples = seeds(kind)
    if not samples:
        return 0
    rng = random.Random(f"{kind}/{seed}")
    folder.mkdir(parents=True, exist_ok=True)
    patch = pytest.MonkeyPatch()
    if kind == "tsdb":
        ask_promtool_once_in(INPUTS_PER_DUMP, patch)
    signal.signal(signal.SIGALRM, _hang)
    with tempfile.TemporaryDirectory() as scratch:
        path, data = Path(scratch, "file"), Path(scratch, "data")
        for number in range(count):
            raw, name = rng.choice(samples)
            raw = mutant(raw, rng)
            path.write_bytes(raw)
            signal.alarm(LONGEST_S)
            try:
                if number % WHOLE_EVERY:
                    refused_or_read(kind, path, name)
                else:
                    ingested_or_refused(kind, path, name, data)
            except KeyboardInterrupt:
                raise
            except BaseException as error:
                keep(folder, error, raw, name)
            finally:
                signal.alarm(0)
    patch.undo()
    return count


if __name__ == "__main__":
    done = fuzz(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]).resolve(), *map(int, sys.argv[4:5]))
    sys.stdout.write(f"{done}\n")
