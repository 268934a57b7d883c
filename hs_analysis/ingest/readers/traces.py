"""Published request traces: Azure LLM inference, Mooncake and BurstGPT."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from hs_analysis.ingest.delimited import Records, chosen, numbers, read_delimited, require_names
from hs_analysis.ingest.json_records import first_object, json_lines
from hs_analysis.ingest.readers.table import reject_row, timed
from hs_analysis.ingest.rows import Dump, ReadNotes, RequestRows, number, raw_requests, since_start
from hs_analysis.ingest.streams import BOM
from hs_analysis.ingest.text_lines import reject_line
from hs_analysis.ingest.timestamps import Clock, epoch_us

AZURE = ("TIMESTAMP", "ContextTokens", "GeneratedTokens")
"""Header of the Azure LLM inference traces of 2023 and 2024."""

BURSTGPT = ("Timestamp", "Request tokens", "Response tokens", "Total tokens", "Log Type")
"""Columns of BurstGPT, with and without session and elapsed time."""

MOONCAKE_BLOCK_TOKENS = 512
"""Prompt tokens of one hash id (README of the Mooncake traces)."""

ROWS_AT_ONCE = 1 << 16

NO_ARRIVALS = (
    "times count from the start of the log: without --epoch requests have no arrival time, only arrival_s"
)

FAILED = "failed"


def is_azure(head: bytes) -> bool:
    """Whether a head begins with the header of the Azure traces."""
    return _header(head).split(",") == list(AZURE)


def is_burstgpt(head: bytes) -> bool:
    """Whether a head begins with a header of BurstGPT."""
    return set(BURSTGPT) <= {name.strip() for name in _header(head).split(",")}


def is_mooncake(head: bytes) -> bool:
    """Whether the first line is an object with lengths and hash ids."""
    line = first_object(head)
    return line[:1] == b"{" and all(key in line for key in (b'"hash_ids"', b'"input_length"', b'"timestamp"'))


def _header(head: bytes) -> str:
    return head.removeprefix(BOM).partition(b"\n")[0].decode("utf-8", "replace").strip()


def read_azure(dump: Dump, notes: ReadNotes) -> Iterator[RequestRows]:
    """Yield the requests of an Azure trace: wall-clock times without a zone, 100 ns digits, two lengths.

    Raises
    ------
    InputError
        When no zone is given.
    """
    clock = Clock(dump.where, dump.reading.tz)
    start: int | None = None
    for records in read_delimited(dump, notes):
        require_names(records.cells.columns, AZURE, "Azure trace", dump.where)
        kept, t_us = timed(records, AZURE[0], clock, notes)
        kept, t_us, lengths = _lengths(
            kept, t_us, {"prompt_tokens": AZURE[1], "output_tokens": AZURE[2]}, notes
        )
        if not t_us.size:
            continue
        start = int(t_us[0]) if start is None else start
        notes.rows += t_us.size
        yield raw_requests({"arrival": t_us, "arrival_s": since_start(t_us, start), **lengths}, t_us.size)
    warnings, infos = clock.notes()
    notes.warnings += warnings
    notes.infos += infos
    clock.require_zone()


def read_burstgpt(dump: Dump, notes: ReadNotes) -> Iterator[RequestRows]:
    """Yield the requests of BurstGPT: seconds from the first day; 0 response tokens is a failed request."""
    epoch = epoch_us(dump.reading.epoch)
    clock = Clock(dump.where, unit="s", relative=True)
    if epoch is None:
        notes.warnings.append(NO_ARRIVALS)
    for records in read_delimited(dump, notes):
        require_names(records.cells.columns, BURSTGPT, "BurstGPT trace", dump.where)
        kept, t_us = timed(records, "Timestamp", clock, notes)
        names = {"prompt_tokens": "Request tokens", "output_tokens": "Response tokens"}
        if "Elapsed time" in kept.cells.columns:
            names["e2e_s"] = "Elapsed time"
        kept, t_us, found = _lengths(kept, t_us, names, notes)
        if not t_us.size:
            continue
        failed = found["output_tokens"] == 0
        notes.rows += t_us.size
        status = [FAILED if one else "ok" for one in failed.tolist()]
        arrival = None if epoch is None else t_us + epoch
        yield raw_requests(
            {"arrival": arrival, "arrival_s": t_us / 1e6, "status": status, **found}, t_us.size
        )


def _lengths(
    records: Records, t_us: np.ndarray, names: Mapping[str, str], notes: ReadNotes
) -> tuple[Records, np.ndarray, dict[str, np.ndarray]]:
    """Return the rows whose numbers can be read and are not below 0, and those numbers."""
    faults = [""] * records.cells.height
    found: dict[str, np.ndarray] = {}
    for name, column in names.items():
        parsed = numbers(records.cells[column])
        found[name] = parsed.values
        for i in np.flatnonzero(parsed.bad).tolist():
            faults[i] = f"{column} is {records.cells[column][i]!r}, no number"[:120]
        for i in np.flatnonzero(parsed.values < 0).tolist():
            faults[i] = f"{column} is below 0"
    for i, detail in enumerate(faults):
        if detail:
            reject_row(records, i, "bad_value", detail, notes)
    keep = np.array([not detail for detail in faults], bool)
    return chosen(records, keep), t_us[keep], {name: values[keep] for name, values in found.items()}


@dataclass
class PrefixCache:
    """Blocks seen so far, to tell what an endless prefix cache would have found.

    ``blocks`` counts prompt blocks, ``hits`` the leading ones that stood in an earlier prompt.
    """

    seen: set[int] = field(default_factory=set)
    blocks: int = 0
    hits: int = 0

    def add(self, ids: Sequence[Any]) -> None:
        """Count the leading blocks of a prompt that are known, then remember all of them."""
        self.blocks += len(ids)
        for one in ids:
            if one not in self.seen:
                break
            self.hits += 1
        self.seen.update(ids)


def read_mooncake(dump: Dump, notes: ReadNotes) -> Iterator[RequestRows]:
    """Yield the requests of a Mooncake trace: milliseconds from the start, lengths, ids of prompt blocks.

    ``cached_tokens`` stays null, because the trace does not say what a cache found; what an endless one
    would have found is said beside it.
    """
    epoch = epoch_us(dump.reading.epoch)
    if epoch is None:
        notes.warnings.append(NO_ARRIVALS)
    prefixes = PrefixCache()
    rows: list[tuple[float, float, float]] = []
    for line, found, raw in json_lines(dump, notes):
        row = tuple(number(found.get(name)) for name in ("timestamp", "input_length", "output_length"))
        ids = found.get("hash_ids")
        detail = _mooncake_fault(row, ids)
        if detail:
            reject_line(line, raw, "bad_value", detail, notes)
            continue
        prefixes.add(ids)  # type: ignore[arg-type]  # a list, or there is a fault
        rows.append(row)  # type: ignore[arg-type]  # numbers, or there is a fault
        if len(rows) >= ROWS_AT_ONCE:
            yield _mooncake(rows, epoch, notes)
            rows = []
    if rows:
        yield _mooncake(rows, epoch, notes)
    if prefixes.blocks:
        share = prefixes.hits / prefixes.blocks
        notes.infos.append(
            f"{share:.2f} of the prompt blocks ({MOONCAKE_BLOCK_TOKENS} tokens each) were in an earlier "
            "prompt: a prefill rate that ignores cache hits overstates the work by up to that share"
        )


def _mooncake_fault(row: Sequence[float | None], ids: Any) -> str:
    if any(value is None or value < 0 for value in row):
        return "timestamp, input_length and output_length are numbers from 0"
    good = isinstance(ids, list) and all(isinstance(one, (int, str)) for one in ids)
    return "" if good else "hash_ids is a list of ids"


def _mooncake(rows: Sequence[tuple[float, float, float]], epoch: int | None, notes: ReadNotes) -> RequestRows:
    table = np.array(rows, np.float64)
    notes.rows += len(rows)
    t_us = np.round(np.minimum(table[:, 0], 1e15) * 1e3).astype(np.int64)
    return raw_requests(
        {
            "arrival": None if epoch is None else t_us + epoch,
            "arrival_s": table[:, 0] / 1e3,
            "prompt_tokens": table[:, 1],
            "output_tokens": table[:, 2],
        },
        len(rows),
    )
