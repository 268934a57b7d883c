"""Text dumps made for tests, read with the reader under test and the obvious way."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from hs_analysis.ingest.rows import FLAGS, Dump, RawSeries, ReadNotes
from hs_analysis.schema.settings import Reading

Reader = Callable[[Dump, ReadNotes], Iterator[RawSeries]]
Samples = dict[tuple[tuple[str, str], ...], list[tuple[int, float | None, str]]]
"""By sorted labels: (microseconds, value, flag) in order of time."""


def read_bytes(
    reader: Reader, raw: bytes, folder: Path, name: str = "f", reading: Reading | None = None
) -> tuple[Samples, ReadNotes]:
    """Write a file, read it, and hold the reader to its invariant: every row is yielded or rejected."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(raw)
    notes = ReadNotes()
    samples = collected(reader(Dump(path, str(path), name, reading or Reading()), notes))
    assert notes.rows == sum(len(rows) for rows in samples.values()) + notes.rejections.total
    return samples, notes


def collected(pieces: Iterator[RawSeries]) -> Samples:
    """Return what a reader yields by series, in order of time."""
    found: Samples = {}
    for piece in pieces:
        rows = found.setdefault(tuple(sorted(piece.labels.items())), [])
        rows += [
            (t, None if math.isnan(value) else value, FLAGS[code])
            for t, value, code in zip(
                piece.t_us.tolist(), piece.values.tolist(), piece.flags.tolist(), strict=True
            )
        ]
    return {key: sorted(rows, key=repr) for key, rows in found.items()}


def reasons(notes: ReadNotes) -> list[tuple[int, str]]:
    """Return (position, reason) of every rejection in memory."""
    return [(r.position, r.reason) for r in notes.rejections]


def go_quoted(text: str) -> str:
    """Quote a label as Go's %q does; what it would print as an escape may stand for itself too."""
    escapes = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\t": "\\t", "\r": "\\r", "\a": "\\a", "\v": "\\v"}
    made = [escapes.get(c) or (f"\\x{ord(c):02x}" if ord(c) < 32 or ord(c) == 127 else c) for c in text]
    return f'"{"".join(made)}"'


def plain_quoted(text: str) -> str:
    r"""Quote a label with the three escapes of the exposition formats."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'


def obvious_value(text: str) -> tuple[float | None, str]:
    """Return what a value means, by Python's own float."""
    value = float(text)
    if math.isnan(value):
        return None, "nan"
    if math.isinf(value):
        return None, "pos_inf" if value > 0 else "neg_inf"
    return value, ""


def obvious_line(labels: Sequence[tuple[str, str]], value: str, t_us: int) -> Samples:
    """Return what one sample line means."""
    return {tuple(sorted(labels)): [(t_us, *obvious_value(value))]}


def merged(parts: Sequence[Samples]) -> Samples:
    """Return many lines' samples as one."""
    found: Samples = {}
    for part in parts:
        for key, rows in part.items():
            found.setdefault(key, []).extend(rows)
    return {key: sorted(rows, key=repr) for key, rows in found.items()}
