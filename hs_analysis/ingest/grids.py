"""Which series lie on the grid of a query: their times say when they were asked for, not when scraped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set

import polars as pl

from hs_analysis.ingest.settling import Kept

GRIDS = {"series_id": pl.Int64, "step_s": pl.Float64, "file_no": pl.Int64}
"""Columns of the result: the series, the distance of the grid's points [s], the first file that has it."""

MS, SECOND = 1_000, 1_000_000
"""Microseconds."""


def on_grids(
    kept: Sequence[Kept], series: pl.DataFrame, answers: Set[int], outdone: Mapping[int, Mapping[int, object]]
) -> pl.DataFrame:
    """Return the series whose samples lie on a query's grid, one row each, by number.

    Parameters
    ----------
    kept
        The series and where their samples lie.
    series
        ``series_id``, ``instance`` and ``interval_s`` of each.
    answers
        Numbers of files whose form a server's answer to a query may have.
    outdone
        Series number → file number → stretches that a more faithful file holds; such a file does not count.

    Notes
    -----
    The same form holds raw samples (``metric[1d]``), whose times differ from target to target by fractions of
    a second and keep their distance per target. So a file is on a grid when all its series of one step have
    the same time modulo that step, and that is a whole second, or several instances have it.
    """
    facts = {n: (instance, step) for n, instance, step in series.select(*_FACTS).iter_rows() if step}
    members: dict[tuple[int, int], list[Kept]] = {}
    for one in kept:
        step_us = _step_us(facts.get(one.series_id))
        for number in {piece.file_no for piece in one.pieces} & answers if step_us else ():
            if not outdone.get(one.series_id, {}).get(number):
                members.setdefault((number, step_us), []).append(one)
    found: dict[int, tuple[float, int]] = {}
    for (number, step_us), own in sorted(members.items()):
        phases = {
            at % step_us
            for one in own
            for piece in one.pieces
            if piece.file_no == number
            for at in (piece.low_us, piece.high_us)
        }
        instances = {facts[one.series_id][0] for one in own} - {None}
        if len(phases) == 1 and (phases.pop() % SECOND == 0 or len(instances) > 1):
            for one in own:
                found.setdefault(one.series_id, (step_us / SECOND, number))
    rows = [(n, *found[n]) for n in sorted(found)]
    return pl.DataFrame(rows, schema=GRIDS, orient="row")


_FACTS = ("series_id", "instance", "interval_s")


def _step_us(facts: tuple[str | None, float] | None) -> int:
    """Return a series' step in whole milliseconds, the resolution of Prometheus [µs]; 0 when unknown."""
    return round(facts[1] * MS) * MS if facts else 0
