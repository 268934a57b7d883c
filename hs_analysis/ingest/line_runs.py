"""Lines of text that each hold a series and its numbers, read a run of one series at a time.

A dump repeats the whole series on every line, and neighbouring lines mostly repeat the line before. So the
series is read once, the lines that begin with the very same bytes are counted, and what stands behind the
series on all lines of a block is cut out in one go.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import islice, repeat
from operator import indexOf

import numpy as np

from hs_analysis.ingest.labels import SERIES


@dataclass
class Runs:
    """The runs of a block, in order: neighbouring lines of one series.

    Attributes
    ----------
    series
        Number of the series of each run.
    lines
        First line of each run, counted from 0 in the block.
    counts
        Lines of each run.
    skips
        Bytes before the numbers on each of its lines.
    """

    series: list[int] = field(default_factory=list)
    lines: list[int] = field(default_factory=list)
    counts: list[int] = field(default_factory=list)
    skips: list[int] = field(default_factory=list)


@dataclass
class SeriesTexts:
    """Number of each series text met so far."""

    numbers: dict[bytes, int] = field(default_factory=dict)
    texts: list[bytes] = field(default_factory=list)

    def number(self, text: bytes) -> int:
        """Return the number of a text, a new one when it was not met before."""
        found = self.numbers.setdefault(text, len(self.texts))
        if found == len(self.texts):
            self.texts.append(text)
        return found


def line_starts(block: bytes) -> np.ndarray:
    """Return where each line of a block begins, and at last where the block ends; int64."""
    ends = np.flatnonzero(np.frombuffer(block, np.uint8) == ord("\n")) + 1
    return np.concatenate([np.zeros(1, np.int64), ends])


def find_runs(
    block: bytes, starts: np.ndarray, known: SeriesTexts, fields: int, other: Callable[[int, bytes], None]
) -> Runs:
    """Return the runs of a block of whole lines.

    Parameters
    ----------
    block
        Lines, each with its newline.
    starts
        Its ``line_starts``.
    known
        Series texts; new ones are added.
    fields
        Numbers that usually follow the series: a guess that saves work, not a rule.
    other
        Takes the number (from 0) and bytes of lines that do not begin with a series: comments, and what is no
        sample.
    """
    runs = Runs()
    begins: list[int] = starts.tolist()
    line, last = 0, len(begins) - 1
    while line < last:
        at, end = begins[line], begins[line + 1] - 1
        text = block[at:end].rsplit(b" ", fields)[0]
        if text not in known.numbers or len(text) == end - at:
            match = SERIES.match(block, at, end)
            if match is None or block[match.end() : match.end() + 1] not in (b" ", b"\t"):
                other(line, block[at:end])
                line += 1
                continue
            text = match.group()
        prefix = block[at : at + len(text) + 1]
        # nothing begins where the block ends, so there is always a line that does not go on
        count = 1 + indexOf(map(block.startswith, repeat(prefix), islice(begins, line + 1, None)), False)
        runs.series.append(known.number(text))
        runs.lines.append(line)
        runs.counts.append(count)
        runs.skips.append(len(prefix))
        line += count
    return runs


def tails(block: bytes, starts: np.ndarray, runs: Runs) -> tuple[bytes, np.ndarray]:
    """Return what follows the series on every line of the runs, newlines with it, and where each run begins.

    Returns
    -------
    The text, and the offsets of the runs in it with its length at last; int64, shape (runs + 1,).
    """
    counts = np.array(runs.counts, np.int64)
    firsts = np.array(runs.lines, np.int64)
    done = np.cumsum(counts) - counts
    lines = np.arange(counts.sum()) + np.repeat(firsts - done, counts)
    begins = starts[lines] + np.repeat(np.array(runs.skips, np.int64), counts)
    lengths = starts[lines + 1] - begins
    ends = np.cumsum(lengths)
    places = np.arange(ends[-1]) + np.repeat(begins - (ends - lengths), lengths)
    text = np.frombuffer(block, np.uint8).take(places).tobytes()
    return text, np.concatenate([(ends - lengths)[done], ends[-1:]])
