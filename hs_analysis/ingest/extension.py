"""A run to which later files are added: what is kept of it, and when it can't be.

Every refusal is a `CannotExtendError`: then all files have to be read again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa

from hs_analysis.ingest.checkpoint import Checkpoint, FileRead, Key
from hs_analysis.ingest.dedup import CannotExtendError, Deduplication, StoredSeries, stored_batches
from hs_analysis.ingest.rows import REJECTED_BATCH
from hs_analysis.ingest.staging import Samples, Staging
from hs_analysis.schema.frames import REJECTED, SAMPLES, empty, to_table
from hs_analysis.store import link_or_copy, read_table, renumbered, sample_parts, write_table


def rows_before(before: Checkpoint, table: str) -> dict[int, list[pl.DataFrame]]:
    """Return the requests or the benchmark points of each file; in the table one file follows the other."""
    frame, at, found = read_table(before.data / f"{table}.parquet"), 0, {}
    for number, file in zip(before.numbers, before.files, strict=True):
        rows = getattr(file.record, table)
        found[number] = [frame.slice(at, rows)] if rows else []
        at += rows
    return found


def outcomes_before(before: Checkpoint | None) -> dict[tuple[int, str], int]:
    """Return how many samples of each file came to which end."""
    if before is None:
        return {}
    numbered = zip(before.numbers, before.files, strict=True)
    return {(number, kind): size for number, file in numbered for kind, size in file.outcomes.items()}


def require_no_older(stored: Sequence[StoredSeries], names: Sequence[str], *, one_form: bool) -> None:
    """Refuse samples that do not follow what is stored, and files of which some are more faithful."""
    if not one_form:
        raise CannotExtendError("the files are of several forms, of which one may take another's place")
    for one in stored:
        if one.before is None:
            continue
        for piece in one.pieces:
            if piece.is_staged and piece.low_us < one.before.last_us:
                raise CannotExtendError(
                    f"{names[piece.file_no]} holds samples from before the end of what is stored"
                )


def later_batches(
    before: Checkpoint, stored: Sequence[StoredSeries], staging: Staging, on_conflict: str
) -> tuple[Deduplication, Iterator[pa.RecordBatch]]:
    """Return what is found, and the samples that follow those of a run, as `stored_batches` does."""
    ends = before.repeats.ends()
    found, batches = stored_batches(stored, staging, {}, on_conflict, _refuse_contradictions, before.repeats)
    _require_same_stretches(before, found.frozen, ends)
    return found, batches


def _refuse_contradictions(_number: int, _torn: Samples) -> None:
    """Contradicting samples are listed in an order over all files."""
    raise CannotExtendError("samples of the new files contradict each other")


def _require_same_stretches(before: Checkpoint, now: pl.DataFrame, ends: Mapping[str, int]) -> None:
    """Refuse when the new samples change what was taken for repeats across a scrape gap.

    ``ends`` are the last moments of the captures that are stored [us since 1970, UTC].
    """
    rows, known = now.rows(), set(read_table(before.data / "frozen.parquet").rows())
    later = [row for row in rows if row not in known]
    if not known.issubset(rows) or any(
        round(row[1].timestamp() * 1e6) <= ends.get(row[0], -(2**63)) for row in later
    ):
        raise CannotExtendError("a scrape gap reaches over the end of what is stored, or is judged otherwise")


def keep_samples(data: Path, before: Checkpoint, keys: Sequence[Key]) -> None:
    """Put the stored samples in place: as they are, or with the new numbers of their series."""
    at = {key: number for number, key in enumerate(keys)}
    numbers = np.array([at[key] for key in before.keys], np.int64)
    stretches = {
        number: (own["t"].dt.epoch("us").to_numpy(), own["value"].to_numpy())
        for (number,), own in before.stretches.group_by("series_id")
    }
    folder = data / "samples"
    folder.mkdir(parents=True, exist_ok=True)
    for part in sample_parts(before.samples):
        if stretches or not np.array_equal(numbers, np.arange(numbers.size)):
            batches = renumbered(part, numbers, stretches)
            write_table(pa.RecordBatchReader.from_batches(SAMPLES, batches), SAMPLES, folder / part.name)
        else:
            link_or_copy(part, folder / part.name)


def rejected_in_order(
    before: Checkpoint, later: Iterator[pa.RecordBatch], records: Mapping[int, FileRead]
) -> Iterator[pa.RecordBatch]:
    """Yield the rejected rows of all files in their order."""
    tables = {
        True: read_table(before.data / "rejected.parquet"),
        False: pl.DataFrame(pa.Table.from_batches(later, REJECTED)),
    }
    at, ordered = dict.fromkeys(tables, 0), [empty(REJECTED)]
    for number, record in sorted(records.items()):
        earlier = number in before.numbers
        ordered.append(tables[earlier].slice(at[earlier], record.rows_rejected))
        at[earlier] += record.rows_rejected
    table = to_table(pl.concat(ordered), REJECTED).combine_chunks()
    yield from table.to_batches(max_chunksize=REJECTED_BATCH) if table.num_rows else ()
