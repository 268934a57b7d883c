"""May today's autoscaler, as replayed, be set against the policy? Where not: why, and the likely cause.

The one place that decides it. A replay that leaves a pool out, or whose counts are far from those that ran,
is not what runs today: hours and violations of it would be of something that never was.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import polars as pl

from hs_analysis.controllers.registry import bounds_of
from hs_analysis.current.model import CurrentObject, MetricRead
from hs_analysis.current.translate import CurrentAutoscaler
from hs_analysis.replay.backtest import ReplayOutcome
from hs_analysis.replay.readings import BUILT_IN
from hs_analysis.replay.signals import work_signal
from hs_analysis.schema.aligned import ServiceFrame
from hs_analysis.schema.arrays import Floats
from hs_analysis.schema.names import CURRENT

APART_MOST = 0.1
"""Mean difference of replayed and recorded instances ÷ mean recorded, up to which the replay stands for what
runs today [ratio]; default of this project."""

OUTSIDE_SHARE = 0.01
"""Share of windows from which recorded counts outside an object's bounds are no slip of a scrape [ratio];
default of this project."""

MOVED_SHARE = 0.01
"""Share of windows that must be off the median count of their capture for a pool to have moved [ratio];
default of this project."""

SIGNAL_COVERAGE = 0.9
"""Share of windows in which an object's signal must be there to size a pool [ratio];
default of this project."""

STEADY_SPREAD, SPREAD_OF_ONE = 0.2, 0.7
"""(q90 − q10) ÷ median of what an instance carried, up to which counts follow a signal [ratio]: in a large
pool, and ÷ its instances on top, because counts are whole. Measured on simulated HPAs of 2 to 30 instances:
0.16 to 0.46."""

STEADIER = 0.6
"""Largest spread of what an instance carried ÷ spread of the signal itself [ratio]: a load that hardly moves
is steady per instance, too, whatever sizes the pool. Default of this project."""

SAME_TARGET, ROUNDED_UP = 0.1, 0.5
"""Targets nearer than this are the same [ratio]: the tolerance of a HorizontalPodAutoscaler; and instances by
which rounding up leaves the median below its target (measured as above: 0.4)."""

POOL_NOT_REPLAYED, COUNTS_APART, COUNTS_UNKNOWN = "pool_not_replayed", "counts_apart", "counts_unknown"
"""Why a pool stands against the comparison."""


@dataclass(frozen=True)
class PoolDoubt:
    """Why the replay of one pool does not stand for what runs today.

    Attributes
    ----------
    pool
        prefill, decode or mixed.
    code
        ``pool_not_replayed``, ``counts_apart`` or ``counts_unknown``.
    text
        The same in words.
    apart_ratio
        Mean difference of replayed and recorded instances ÷ mean recorded [ratio]; None where not replayed.
    cause
        ``outside_bounds``, ``never_moved``, ``trigger_left_out``, ``signal_gaps``, ``other_target``,
        ``other_signal``, ``moved`` (something scales it, no object was given) or ``unknown``; empty where the
        text itself says it.
    cause_text
        The more likely cause in words, empty where ``cause`` is.
    """

    pool: str
    code: str
    text: str
    apart_ratio: float | None = None
    cause: str = ""
    cause_text: str = ""


@dataclass(frozen=True)
class Withheld:
    """Why today's autoscaler is not compared: a code, one sentence, and every pool that stands against it."""

    code: str
    text: str
    pools: tuple[PoolDoubt, ...] = ()


NO_POLICY = Withheld("no_policy", "no policy was replayed on the test window")
"""Reason where today's autoscaler stands and there is nothing to set against it."""


def withheld(
    found: CurrentAutoscaler, frame: ServiceFrame, pools: Sequence[str], counts: Sequence[Mapping[str, Any]]
) -> Withheld | None:
    """Return why today's autoscaler may not be compared with a policy; None where it may.

    Parameters
    ----------
    found
        Today's objects as read.
    frame
        The window that was replayed.
    pools
        Pools of the service.
    counts
        How far replayed counts were from those that ran, per pool (``counts_apart``).
    """
    doubts = [doubt for role in pools if (doubt := _doubt(found, frame, role, counts))]
    if not doubts:
        return None
    doubts.sort(key=lambda doubt: doubt.code != POOL_NOT_REPLAYED)
    text = "; ".join(f"{doubt.text}{_in_words(doubt)}" for doubt in doubts)
    return Withheld(doubts[0].code, text, tuple(doubts))


def _in_words(doubt: PoolDoubt) -> str:
    if not doubt.cause:
        return ""
    is_far = doubt.code == COUNTS_APART
    return f"; the more likely cause: {doubt.cause_text}" if is_far else f" ({doubt.cause_text})"


def without_today(outcome: ReplayOutcome) -> ReplayOutcome:
    """Return a backtest without anything that today's autoscaler could be compared by.

    Its row, and what others saved against it, are left out. The timeline keeps its counts, which show how far
    they are from those that ran, without its violations.
    """
    result = outcome.result
    calibration = dict(result.calibration)
    for key in ("uncalibrated_shares", "baselines"):
        if named := calibration.get(key):
            calibration[key] = {name: one for name, one in named.items() if name != CURRENT}
    rows = tuple(
        replace(row, vs_current=None, vs_current_ci=None) for row in result.policies if row.policy != CURRENT
    )
    chance = pl.when(pl.col("policy") != CURRENT).then(pl.col("violation_probability"))
    timeline = outcome.timeline.with_columns(chance.alias("violation_probability"))
    judged = replace(result, policies=rows, calibration=calibration)
    return replace(outcome, result=judged, timeline=timeline)


def _doubt(
    found: CurrentAutoscaler, frame: ServiceFrame, role: str, counts: Sequence[Mapping[str, Any]]
) -> PoolDoubt | None:
    one = next((one for one in found.objects if one.role == role), None)
    if one is None:
        cause = (
            ("moved", "its recorded count moved: give the object that scales it with --current")
            if _moved(frame, role)
            else ("never_moved", "its recorded count never moved in this window")
        )
        return PoolDoubt(
            role, POOL_NOT_REPLAYED, f"{role} is not replayed: no object given scales it", None, *cause
        )
    if one.parameters is None:
        first, *rest = one.notes or ("nothing of it can be replayed",)
        more = f" (and {len(rest)} more)" if rest else ""
        said = f"{role} is not replayed: {one.where}: {one.kind} {one.name}: {first}{more}"
        return PoolDoubt(role, POOL_NOT_REPLAYED, said)
    count = next((count for count in counts if count["pool"] == role), None)
    if count is None:
        return PoolDoubt(role, COUNTS_UNKNOWN, f"{role}: how many instances ran is not known")
    ratio = count["apart_ratio"]
    if ratio is None and not count["apart"]:
        return None
    if ratio is not None and ratio <= APART_MOST:
        return None
    off = (
        ""
        if ratio is None
        else f", {_percent(ratio)} apart window by window, not within {_percent(APART_MOST)}"
    )
    text = (
        f"{role} is replayed with {_number(count['replayed'])} instances on average where "
        f"{_number(count['recorded'])} ran{off}"
    )
    return PoolDoubt(role, COUNTS_APART, text, ratio, *likely_cause(one, frame))


def likely_cause(one: CurrentObject, frame: ServiceFrame) -> tuple[str, str]:
    """Return why the counts that ran are not those of an object: a code and the words for it.

    The first that holds, what excludes the object first: counts that its bounds forbid, counts that never
    moved, a trigger that is not read, a signal that is missing, counts that follow another number.
    """
    causes = (_outside_bounds, _never_moved, _left_out, _signal_gaps, _follows_another)
    unknown = (
        "unknown",
        "not known from the data: something else sized it too, the objects have changed since, or the replay "
        "misses what they do",
    )
    return next((cause for look in causes if (cause := look(one, frame))), unknown)


def _outside_bounds(one: CurrentObject, frame: ServiceFrame) -> tuple[str, str] | None:
    bounds, counts = bounds_of(one.parameters), np.rint(_known(frame.values("instances", one.role)))
    if bounds is None or not counts.size:
        return None
    share = float(np.mean((counts < bounds[0]) | (counts > bounds[1])))
    if share <= OUTSIDE_SHARE:
        return None
    low, high = f"{counts.min():.0f}", f"{counts.max():.0f}"
    return "outside_bounds", (
        f"{low if low == high else f'{low} to {high}'} instances ran, outside the object's bounds "
        f"{bounds[0]} to {bounds[1]} in {_percent(share)} of windows: the object was not in force then"
    )


def _never_moved(one: CurrentObject, frame: ServiceFrame) -> tuple[str, str] | None:
    if _moved(frame, one.role):
        return None
    return "never_moved", "the recorded count never moved: no autoscaler acted on this pool in this window"


def _left_out(one: CurrentObject, _: ServiceFrame) -> tuple[str, str] | None:
    if not one.unread:
        return None
    every = one.unread + len(one.metrics)
    return "trigger_left_out", f"{one.unread} of the {every} metrics of the object could not be replayed"


def _signal_gaps(one: CurrentObject, frame: ServiceFrame) -> tuple[str, str] | None:
    shares = {
        signal: float(np.isfinite(_column(frame, signal, one.role)).mean()) if frame.table.height else 0.0
        for signal in one.parameters.signals
        if signal not in BUILT_IN
    }
    signal = min(shares, key=lambda name: shares[name], default=None)
    if signal is None or shares[signal] >= SIGNAL_COVERAGE:
        return None
    return "signal_gaps", f"its signal {signal} is missing in {_percent(1.0 - shares[signal])} of windows"


def _follows_another(one: CurrentObject, frame: ServiceFrame) -> tuple[str, str] | None:
    for read in one.metrics:
        carried = _steady(frame, one.role, read)
        if carried is None:
            continue
        if _same_target(carried, read.target, frame, one.role):
            return None
        kept, target = _number(carried / read.scale), _number(read.target / read.scale)
        each = "" if read.kind == "Value" else " per instance"
        return "other_target", (
            f"the recorded counts keep {read.name} steady at about {kept}{each}, the object's "
            f"target is {target}"
        )
    work = work_signal(frame, one.role)
    if not work or any((read.signal, read.role) == (work, one.role) for read in one.metrics):
        return None
    carried = _steady(frame, one.role, MetricRead(work, one.role, 1.0, "AverageValue", 0.0, 1.0, ""))
    if carried is None:
        return None
    read_now = " and ".join(one.parameters.signals)
    return "other_signal", (
        f"the recorded counts keep {work}@{one.role} steady at about {_number(carried)} per instance, the "
        f"object follows {read_now}"
    )


def _steady(frame: ServiceFrame, role: str, read: MetricRead) -> float | None:
    """Return what counts kept a metric at, in the sense of its target; None where they kept it at nothing."""
    values, counts = _metric(frame, role, read), frame.values("instances", role)
    known = np.isfinite(values) & (counts > 0)
    if not known.any():
        return None
    carried = values[known] / (counts[known] if read.kind == "AverageValue" else 1.0)
    spread = _spread(carried)
    moved = _spread(values[known] if read.kind == "AverageValue" else values[known] * counts[known])
    most = STEADY_SPREAD + SPREAD_OF_ONE / max(1.0, float(np.median(counts[known])))
    if spread is None or moved is None or spread > min(most, STEADIER * moved):
        return None
    return float(np.median(carried))


def _same_target(carried: float, target: float, frame: ServiceFrame, role: str) -> bool:
    """Whether counts that kept a metric at ``carried`` may be of that target: whole instances round up."""
    usual = float(np.median(_known(frame.values("instances", role))))
    return (
        target * (1.0 - ROUNDED_UP / max(1.0, usual) - SAME_TARGET) <= carried <= target * (1.0 + SAME_TARGET)
    )


def _spread(values: Floats) -> float | None:
    low, middle, high = np.quantile(values, (0.1, 0.5, 0.9))
    return float((high - low) / middle) if middle > 0 else None


def _moved(frame: ServiceFrame, role: str) -> bool:
    """Whether a pool's recorded count moved within a capture; captures are run at counts set by hand."""
    counts, captures = frame.values("instances", role), frame.table["capture"].to_numpy()
    off = [part != np.median(part) for part in _parts(counts, captures)]
    return bool(off) and float(np.concatenate(off).mean()) > MOVED_SHARE


def _parts(counts: Floats, captures: np.ndarray) -> Iterator[Floats]:
    for capture in dict.fromkeys(captures.tolist()):
        part = np.rint(_known(counts[captures == capture]))
        if part.size:
            yield part


def _column(frame: ServiceFrame, signal: str, role: str) -> Floats:
    """Return the column behind an object's signal, ``signal`` or ``signal@role``; the service's else."""
    name, _, said = signal.partition("@")
    of = said or role
    return frame.values(name, of if frame.has(name, of) else "service")


def _metric(frame: ServiceFrame, role: str, read: MetricRead) -> Floats:
    """Return what a metric read, window by window [unit of its first signal]; NaN where a part is missing."""
    parts = [_column(frame, f"{read.signal}@{read.role}", role)]
    parts += [one.weight * _column(frame, f"{one.signal}@{one.role}", role) for one in read.others]
    made = {"sum": np.add, "max": np.maximum, "min": np.minimum}[read.how]
    values: Floats = made.reduce(parts)
    return values


def _known(values: Floats) -> Floats:
    return values[np.isfinite(values)]


def _percent(share: float) -> str:
    return f"{_number(100.0 * share)} %"


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100.0 else f"{value:.3g}"
