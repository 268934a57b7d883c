"""Realised coverage: capacities fitted on the past, held against the next block of the user's own history."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from itertools import pairwise
from typing import Any

import numpy as np
from scipy.special import expit, logit

from hs_analysis.derive.capacity import fit_capacity
from hs_analysis.derive.capacity_laws import label_rows
from hs_analysis.derive.constants import EVENTS_MIN, REPEAT_BAND
from hs_analysis.derive.rows import RoleRows
from hs_analysis.schema.arrays import Floats, Mask
from hs_analysis.schema.constants import BLOCK_S, DAY_S, GROUP_MIN, VIOLATION_SLOPE
from hs_analysis.schema.results import Capacity, Interval, RealisedCoverage, Reason
from hs_analysis.schema.settings import Settings, Slo
from hs_analysis.statistics.resampling import moving_block_indices

# Defaults of this project; checked by simulation (tests/derive/test_backtest_coverage.py).

HALF_DAY_S = DAY_S / 2
"""Length of a block: a day where there are four of them, else half a day [s]."""

BLOCKS_MIN = 1 + GROUP_MIN
"""Fewest blocks of a history: one to fit on, three to check."""

CHECKS_MAX = 6
"""Most blocks that are checked, the latest: each costs a fit on all that came before it."""

DRAWS = 60
"""Bootstrap draws of a fit on the past: fewer than of the answer, since only its interval is used."""


@dataclass(frozen=True)
class CoverageCheck:
    """One block against the interval fitted before it; a side is None where too few windows were there."""

    ci: Interval
    below: bool | None
    above: bool | None

    @property
    def seen(self) -> bool:
        """Whether either side could be looked at."""
        return self.below is not None or self.above is not None

    @property
    def holds(self) -> bool:
        """Whether no side that could be looked at contradicts the interval."""
        return self.seen and self.below is not False and self.above is not False


def realised_coverage(
    capacity: Capacity, rows: RoleRows, seconds: Floats, settings: Settings
) -> RealisedCoverage:
    """Return how many blocks agreed with the interval that was fitted on what came before them.

    Rolling origin: the history is cut into days from its start (half days under four days); the capacity is
    fitted on all blocks before one, with its 95 % interval, and held against the windows of that one. It
    agrees where among the windows loaded up to 10 % less than the lower end no more violate than would if the
    capacity were that end, and among those loaded up to 10 % more than the upper end no fewer than would if
    it were that one: odds rise with the fitted slope from the allowed share at the end. A side with under 10
    windows is not looked at; a block without either side, or without a known capacity before it, is not
    counted. At most the latest six blocks. No estimate of the block's own enters, so that the count is not
    one interval against another.

    Parameters
    ----------
    capacity
        Of the whole history: nothing is checked where it is not `ok`.
    rows
        The role's rows.
    seconds
        Start of each row [Unix s], shape (rows,).
    settings
        SLO and seed.

    Returns
    -------
    Counts, or a reason where fewer than three blocks could be checked.
    """
    if rows.kind != "production":
        return _none("pressure_test", "a pressure test has no second day to check against")
    if capacity.status != "ok":
        return _none("no_capacity", "no capacity to check: only one that was pinned has an interval to hold")
    blocks = _blocks(seconds)
    if len(blocks) < BLOCKS_MIN:
        return _none("too_short", "the history is shorter than two days: nothing to fit on and check after")
    checks = coverage_checks(rows, blocks, settings)
    seen = [check_block for check_block in checks if check_block.seen]
    if len(seen) < GROUP_MIN:
        text = (
            f"{len(seen)} of {len(blocks) - 1} later blocks had a capacity known before them and 10 windows"
            f" just below or above its interval; {GROUP_MIN} are needed"
        )
        return replace(_none("few_blocks", text), blocks=len(seen))
    sides = {
        side: [value for check_block in seen if (value := getattr(check_block, side)) is not None]
        for side in ("below", "above")
    }
    return RealisedCoverage(
        covered=sum(check_block.holds for check_block in seen),
        blocks=len(seen),
        block_s=float(np.ptp(_block_bounds(seconds)[:2])),
        below=(sum(sides["below"]), len(sides["below"])),
        above=(sum(sides["above"]), len(sides["above"])),
        reason=None,
    )


def _none(code: str, text: str) -> RealisedCoverage:
    return RealisedCoverage(
        covered=None, blocks=0, block_s=None, below=(0, 0), above=(0, 0), reason=Reason(code, text)
    )


def _block_bounds(seconds: Floats) -> Floats:
    if not seconds.size:
        return np.zeros(0)
    start, end = float(seconds.min()), float(seconds.max())
    length = DAY_S if end - start >= (BLOCKS_MIN - 0.5) * DAY_S else HALF_DAY_S
    return np.asarray(start + length * np.arange(int((end - start) // length) + 2), dtype=np.float64)


def _blocks(seconds: Floats) -> list[Mask]:
    """Return the rows of each block; a last one under half its length is left out."""
    block_bounds = _block_bounds(seconds)
    found = [(seconds >= a) & (seconds < b) for a, b in pairwise(block_bounds)]
    most = max((int(mask.sum()) for mask in found), default=0)
    return [mask for mask in found if mask.sum() >= most / 2]


def coverage_checks(rows: RoleRows, blocks: list[Mask], settings: Settings) -> list[CoverageCheck]:
    """Return the checks of the latest blocks, oldest first; a block without a capacity before it has none."""
    found = []
    for number in range(max(1, len(blocks) - CHECKS_MAX), len(blocks)):
        past = part_of(rows, np.logical_or.reduce(blocks[:number]))
        rng = np.random.default_rng([settings.seed, number])
        block = max(1, round(BLOCK_S / rows.window_s))
        resamples = moving_block_indices(past.load.size, block, DRAWS, rng)
        capacity = fit_capacity(past, settings, resamples, rng, "").capacity
        if capacity.status == "ok" and capacity.ci is not None:
            block_rows = part_of(rows, blocks[number])
            found.append(
                check_block(block_rows, settings.slo, capacity.ci, capacity.slope or VIOLATION_SLOPE)
            )
    return found


def part_of(rows: RoleRows, mask: Mask) -> RoleRows:
    """Return some rows of a role: every array cut alike."""
    values = {field.name: getattr(rows, field.name) for field in fields(rows)}
    cut: dict[str, Any] = {k: v[mask] for k, v in values.items() if isinstance(v, np.ndarray)}
    return replace(rows, **cut)


def check_block(rows: RoleRows, slo: Slo, ci: Interval, slope: float = VIOLATION_SLOPE) -> CoverageCheck:
    """Hold one block's windows against an interval (see `realised_coverage`).

    Windows count by the load that lasted, as capacities do; those that work off an old backlog are left out.
    """
    labelled = label_rows(rows, slo, drop_recovery=True)
    load, bad = rows.sustained[labelled.kept], labelled.bad[labelled.kept]
    low, high = ci
    below = (load >= (1.0 - REPEAT_BAND) * low) & (load <= low)
    above = (load >= high) & (load <= (1.0 + REPEAT_BAND) * high)
    return CoverageCheck(
        ci,
        _surplus(load[below], bad[below], low, slope, slo) <= 0.0 if below.sum() >= EVENTS_MIN else None,
        _surplus(load[above], bad[above], high, slope, slo) >= 0.0 if above.sum() >= EVENTS_MIN else None,
    )


def _surplus(load: Floats, bad: Mask, capacity: float, slope: float, slo: Slo) -> float:
    """Return violating windows beyond what a capacity lets expect."""
    expected = expit(slope * np.log(load / capacity) + logit(slo.allowed_window_share))
    return float(bad.sum() - expected.sum())
