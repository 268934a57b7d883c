"""What a replay is fed: offered work per row, cut into captures that never touch."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

import numpy as np

from hs_analysis.replay.constants import SETTLING_S
from hs_analysis.schema.aligned import ServiceFrame
from hs_analysis.schema.arrays import Floats, Mask
from hs_analysis.schema.constants import SHORTEST_S, SUSTAINED_S

Key = tuple[str, str]


@dataclass(frozen=True)
class DemandTrace:
    """The work offered in one capture, and what was recorded beside it.

    Attributes
    ----------
    capture
        Name of the capture.
    t_s
        Start of each row [Unix s], shape (rows,).
    window_s
        Width of a row [s].
    offered
        Work per pool [tokens/s], shape (rows,) each; NaN in a gap. Rebuilt without look-ahead where possible.
    recorded
        Every column of the frame by (signal, role), shape (rows,) each, NaN where missing.
    gap
        Rows without demand: the simulation holds its state and scores nothing.
    censored
        Rows in which a saturated pool hides the demand: simulated with what was served, scored by nothing.
    before
        The last rows before the first one, recorded as in ``recorded``: what a controller that takes over
        has seen by then. Empty where nothing is known of them.
    """

    capture: str
    t_s: Floats
    window_s: float
    offered: dict[str, Floats]
    recorded: dict[Key, Floats]
    gap: Mask
    censored: Mask
    before: dict[Key, Floats] = field(default_factory=dict)

    @property
    def rows(self) -> int:
        """Number of rows."""
        return self.t_s.size

    @property
    def scored(self) -> Mask:
        """Rows that count."""
        return ~self.gap & ~self.censored

    def column(self, signal: str, role: str) -> Floats:
        """Return a recorded column, NaN everywhere when the frame had none. Shape (rows,)."""
        found = self.recorded.get((signal, role))
        return np.full(self.rows, np.nan) if found is None else found

    def past(self, signal: str, role: str) -> Floats:
        """Return a column of the rows ``before``, NaN when there is none. Shape (rows before,)."""
        found = self.before.get((signal, role))
        return np.full(max(map(len, self.before.values()), default=0), np.nan) if found is None else found

    def counts(self, role: str) -> Floats:
        """Return the recorded instances of a pool; a gap keeps the last count, else takes the first."""
        return fill(self.column("instances", role))


def demands(frame: ServiceFrame, roles: Iterable[str] | None = None) -> tuple[DemandTrace, ...]:
    """Cut a service into one demand per capture, in table order.

    A row is censored when a pool is saturated and the load columns are served rates, not offered work.

    Parameters
    ----------
    frame
        The service.
    roles
        Pools to feed; those of the frame when not given. A pool without load is a gap in every row.
    """
    pools = tuple(frame.pools if roles is None else roles)
    names = [name for name in frame.table.columns if "@" in name]
    keys = {name: (name.partition("@")[0], name.partition("@")[2]) for name in names}
    columns = {key: frame.values(*key) for key in keys.values()}
    capture, t_s = frame.table["capture"].to_numpy(), frame.seconds()
    found = []
    for name in frame.captures():
        rows = capture == name
        recorded = {key: values[rows] for key, values in columns.items()}
        nothing = np.full(int(rows.sum()), np.nan)
        offered = {role: _offered(recorded, role, nothing) for role in pools}
        gap = (
            np.any([np.isnan(x) for x in offered.values()], axis=0) if offered else np.ones(rows.sum(), bool)
        )
        saturated = np.zeros(int(rows.sum()), bool)
        for role in pools:
            saturated |= recorded.get(("saturated", role), nothing) > 0
        censored = saturated & ~gap & (frame.reference == "served")
        found.append(DemandTrace(name, t_s[rows], frame.window_s, offered, recorded, gap, censored))
    return tuple(found)


def taking_over(parts: tuple[DemandTrace, ...], history: ServiceFrame) -> tuple[DemandTrace, ...]:
    """Let the rows that the history ends with stand before each capture, where it follows them at once.

    The last ``SETTLING_S`` of them are no part of the replay: they are what averages reach back to in its
    first rows.
    """
    ended = {part.capture: part for part in demands(history, parts[0].offered if parts else ())}

    def after(part: DemandTrace) -> DemandTrace:
        past = ended.get(part.capture)
        if past is None or not past.rows or not part.rows:
            return part
        if abs(past.t_s[-1] + part.window_s - part.t_s[0]) >= part.window_s / 2:
            return part
        rows = rows_of(SETTLING_S, part.window_s)
        return replace(part, before={key: column[-rows:] for key, column in past.recorded.items()})

    return tuple(map(after, parts))


def _offered(recorded: dict[Key, Floats], role: str, nothing: Floats) -> Floats:
    """Return the offered work that knows nothing of later rows, where there is such a column."""
    trailing = recorded.get(("offered_tps_trailing", role), nothing)
    return trailing if np.isfinite(trailing).any() else recorded.get(("offered_tps", role), nothing)


def fill(values: Floats) -> Floats:
    """Carry the last value forward over NaN, and the first one back to the start; all NaN stays so."""
    known = np.flatnonzero(~np.isnan(values))
    if known.size == 0:
        return values.copy()
    last = np.searchsorted(known, np.arange(values.size), side="right") - 1
    filled: Floats = values[known[np.maximum(last, 0)]]
    return filled


def rows_of(seconds: float, window_s: float) -> int:
    """Return how many rows a stretch of time takes, at least one."""
    return max(1, round(seconds / window_s))


def trailing_mean_of_known(values: Floats, rows: int) -> Floats:
    """Return the mean of the last ``rows`` values up to and with each one, over those that are not NaN.

    Shape (n,) or (n, lanes). NaN where the row itself is NaN; the first rows average what there is. An
    infinite value makes the means that hold it infinite.
    """
    if values.size == 0 or rows == 1:
        return values.copy()
    known = ~np.isnan(values)
    total, count = np.where(known, values, 0.0), known.astype(float)
    sums, counts = total.copy(), count.copy()
    for back in range(1, min(rows, len(values))):
        sums[back:] += total[:-back]
        counts[back:] += count[:-back]
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(known, sums / counts, np.nan)


def answering_load(load: Floats, window_s: float) -> Floats:
    """Return the load that the latency of each row answers to: the last minute and the last five, as one.

    Their geometric mean; the last minute alone where the longer mean is infinite. Shape (n,) or (n, lanes);
    NaN where the row is.
    """
    lasting, recent = (trailing_mean_of_known(load, rows_of(s, window_s)) for s in (SUSTAINED_S, SHORTEST_S))
    with np.errstate(invalid="ignore"):
        return np.where(np.isinf(lasting), recent, np.sqrt(lasting * recent))


def peak(demand: tuple[DemandTrace, ...], role: str) -> float:
    """Return the highest trailing 5-min mean of a pool's offered work [tokens/s] over scored rows, or NaN."""
    best = math.nan
    for part in demand:
        means = trailing_mean_of_known(part.offered[role], rows_of(SUSTAINED_S, part.window_s))[part.scored]
        if means.size:
            best = float(np.nanmax([best, float(np.max(means))]))
    return best
