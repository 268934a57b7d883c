"""How far to trust a policy: the evidence about it, and the table of criteria that it is held to.

Confidence is the table `CRITERIA`: each row looks at the evidence and gives the reason why it is not met.
Points of the rows that are not met add up: none is ``high``, one ``medium``, more ``low``; a row that only
caps keeps ``high`` out and adds nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hs_analysis.policy.alarms import alarm_of, known_over, uncalibrated
from hs_analysis.policy.candidates import candidate_name, signal_threshold
from hs_analysis.policy.constants import SAME_SHARE_POINTS, WHOLE_WEEK_SHARE
from hs_analysis.policy.model import Policy
from hs_analysis.policy.timetable import DAY_S, DAYS, EPOCH_WEEKDAY
from hs_analysis.schema.aligned import LATENCIES, RAW_PROMPTS
from hs_analysis.schema.arrays import Floats
from hs_analysis.schema.constants import APART_MAX, MAJORITY
from hs_analysis.schema.decision import Confidence
from hs_analysis.schema.limit_edges import LimitEdges
from hs_analysis.schema.names import RECORDED
from hs_analysis.schema.number_text import percent, percent_beside
from hs_analysis.schema.replays import PolicyReplay, ReplayResult
from hs_analysis.schema.results import Capacity, Derived, Reason
from hs_analysis.schema.settings import Slo

DAYS_NEEDED = 7
"""Days that a history needs to hold each weekday."""

WEEKDAY_SEEN_S = MAJORITY * DAY_S
"""A weekday is seen once this much of it was recorded [s]. Default of this project."""

CAP, ONE, LOW = 0, 1, 2
"""Points of a criterion that is not met: it only keeps ``high`` out; it costs a step; it is ``low`` alone."""

ANSWER_REFUSALS = "Answer the refusals: hsa plan-test says what to record."
"""What to do about a policy on hold."""


@dataclass(frozen=True, kw_only=True)
class Grounds:
    """What a decision rests on.

    Attributes
    ----------
    policy
        The policy as policy.yaml holds it, fitted on the whole window.
    whole, first
        Derived numbers of the whole window, and of its first part.
    chosen
        Name of the candidate that selection took; None when it took none.
    same_signals
        Whether the policy has the signals of that candidate.
    replay
        The backtest.
    slo
        Limits of the run.
    kind
        ``production`` or ``pressure_test``.
    slo_edges
        Histogram edges about each limit, as `LimitEdges.from_plain` reads them.
    span_s, weekday_s
        Length of the history [s], and recorded seconds per weekday, Monday first (UTC).
    unserved_instances
        Instances with a role in the service's namespace that belong to no service.
    idle
        How many instances of a pool do none of its work: 1 of 2 decode.
    day
        The policy as its file holds it and what ran, replayed on the one day of the history; None where a
        part of the history could be held back.
    load_test
        Whether plan-test has a test for something that is open.
    """

    policy: Policy
    whole: Derived
    first: Derived
    chosen: str | None
    same_signals: bool
    replay: ReplayResult
    slo: Slo
    kind: str
    slo_edges: Sequence[Mapping[str, Any]] = ()
    span_s: float = 0.0
    weekday_s: tuple[float, ...] = (0.0,) * len(DAYS)
    unserved_instances: int = 0
    idle: Sequence[str] = ()
    day: tuple[PolicyReplay, PolicyReplay] | None = None
    load_test: bool = True

    @property
    def is_ratio_test(self) -> bool:
        """Whether load and splits were set to compare these: there is no fleet to save hours on."""
        return self.kind == "pressure_test" and self.whole.pd_ratio.basis == "sweep"

    @property
    def row(self) -> PolicyReplay | None:
        """The backtest of the candidate that was selected, None when it was not replayed."""
        if self.day is not None:
            return self.day[0]
        return self.named(self.chosen) if self.chosen else None

    @property
    def alarm(self) -> Reason | None:
        """What applying the policy is warned of, None for nothing."""
        row, ran = self.row, self.recorded
        if row is None or ran is None or self.policy.mode == "hold" or not self.slo.given:
            return None
        if self.is_ratio_test:  # its load goes above what any split can serve, on purpose
            return None
        found = alarm_of(
            side=row.slo_side,
            share=row.slo_violation_ratio,
            span=row.slo_violation_range,
            recorded=ran.slo_violation_ratio,
            recorded_span=ran.slo_violation_range,
            recorded_unknown=ran.not_known_ratio,
            rough=self.rough,
            far_above=row.far_above_ratio,
            allowed=self.slo.allowed_window_share,
        )
        return None if found is None else Reason(*found)

    @property
    def recorded(self) -> PolicyReplay | None:
        """What ran, in the same replay."""
        if self.day is not None:
            return self.day[1]
        return self.named(RECORDED)

    @property
    def rough(self) -> tuple[float, float] | None:
        """Shares of the policy and of what ran by a replay that is not calibrated, None where it is."""
        known, row = self.replay.calibration, self.row
        shares = known if self.day is None else known.get("one_day") or {}
        return uncalibrated(shares, row.policy if row else None)

    def named(self, name: str) -> PolicyReplay | None:
        """Return a row of the backtest, None where there is none of that name."""
        return next((row for row in self.replay.policies if row.policy == name), None)


@dataclass(frozen=True)
class Criterion:
    """One row of the table of confidence.

    Attributes
    ----------
    fails
        Gives the reason why it is not met, None where it is.
    points
        `CAP`, `ONE` or `LOW`.
    remedy
        What to do about it, as a sentence.
    by_test
        Whether the remedy is a load test, so that it helps only where plan-test has one.
    """

    fails: Callable[[Grounds], Reason | None]
    points: int
    remedy: str
    by_test: bool = False


def recorded_weekdays(seconds: Floats, window_s: float) -> tuple[float, tuple[float, ...]]:
    """Return the length of a history and the recorded time per weekday, Monday first [s].

    Parameters
    ----------
    seconds
        Starts of its windows [Unix s].
    window_s
        Width of one [s].
    """
    if not seconds.size:
        return 0.0, (0.0,) * len(DAYS)
    weekday = (np.unique(seconds) // DAY_S + EPOCH_WEEKDAY).astype(np.int64) % len(DAYS)
    counts = np.bincount(weekday, minlength=len(DAYS))
    return float(seconds.max() - seconds.min() + window_s), tuple(float(n * window_s) for n in counts)


def unmet(grounds: Grounds) -> list[tuple[Criterion, Reason]]:
    """Return the criteria that are not met, in the order of the table, each with its reason."""
    return [(row, reason) for row in CRITERIA if (reason := row.fails(grounds)) is not None]


def confidence_of(failed: Sequence[tuple[Criterion, Reason]]) -> Confidence:
    """Return how far to trust a policy that does not meet these criteria."""
    points = sum(row.points for row, _ in failed)
    if points == 0:
        return "medium" if failed else "high"
    return "medium" if points == 1 else "low"


def remedy(grounds: Grounds, row: Criterion) -> str | None:
    """Return what to do about a criterion, None where only a load test would help and there is none.

    Without limits nothing but these makes a capacity of a floor.
    """
    ungiven = not grounds.slo.given and row.fails is _calibrated
    floors = {code for code, _ in _floors(grounds)} if row.fails is _no_floor else set()
    if ungiven or floors == {"no_slo"}:
        return GIVE_LIMITS
    return None if row.by_test and not grounds.load_test else row.remedy


GIVE_LIMITS = "Give the limits that the service has to keep: --slo ttft=…, --slo tbt=…."
"""What to do about a latency that nothing is judged by."""


def _on_hold(grounds: Grounds) -> Reason | None:
    return Reason("on_hold", "no policy could be made") if grounds.policy.mode == "hold" else None


def _pools_sized(grounds: Grounds) -> Reason | None:
    missing = [role for role in grounds.policy.bounds if role not in grounds.policy.sized_roles]
    if grounds.policy.mode != "metric" or not missing:
        return None
    return Reason("pool_not_sized", f"nothing sizes {' and '.join(missing)}")


def _all_served(grounds: Grounds) -> Reason | None:
    count = grounds.unserved_instances
    if not count:
        return None
    text = f"{count} instances of this namespace belong to no service"
    return Reason("unserved_instances", text, float(count), 0.0)


def _load_shared(grounds: Grounds) -> Reason | None:
    text = f"{' and '.join(grounds.idle)} instances do next to no work"
    return Reason("idle_instances", text) if grounds.idle else None


def _holds_slo(grounds: Grounds) -> Reason | None:
    row, allowed = grounds.row, grounds.slo.allowed_window_share
    if row is None or not grounds.slo.given or row.slo_side == "unclear" or grounds.is_ratio_test:
        return None
    share, at_least = known_over(row.slo_side, row.slo_violation_ratio, row.slo_violation_range)
    if share is None or share <= allowed:
        return None
    broken = f"{'at least ' if at_least else ''}{percent_beside(share, allowed)}"
    text = f"the backtest breaks the SLO in {broken} of windows, {percent(allowed, exact=True)} are allowed"
    return Reason("slo_not_held", text, share, allowed)


def _backtested(grounds: Grounds) -> Reason | None:
    if grounds.policy.mode == "hold" or (grounds.chosen and grounds.named(grounds.chosen) is not None):
        return None
    if grounds.day is not None:
        return Reason("not_backtested", "it was replayed on the very hours that it was fitted on")
    return Reason("not_backtested", "no part of the history was left to replay it on")


def _calibrated(grounds: Grounds) -> Reason | None:
    if grounds.row is None:
        return None
    if grounds.replay.calibration.get("status") != "calibrated":
        why = str(grounds.replay.calibration.get("why_not") or "")
        return Reason("not_calibrated", why or "the replay does not match the recorded latencies")
    floors = (grounds.row.not_known_ratio or 0.0) > SAME_SHARE_POINTS  # a criterion of its own says that
    if grounds.row.slo_side == "unclear" and not floors:
        return Reason("slo_side_unclear", "the replay can't tell whether the policy holds the SLO")
    return None


def _refit_alike(grounds: Grounds) -> Reason | None:
    if grounds.row is None:
        return None
    if not grounds.same_signals:
        now = candidate_name(tuple((p.signal, p.role) for p in grounds.policy.primaries))
        text = f"the first part of the history gives {grounds.chosen}, the whole of it {now}"
        return Reason("other_signals", text)
    name, change = max(_moves(grounds), key=lambda move: abs(move[1]), default=("", 0.0))
    if abs(change) <= APART_MAX:
        return None
    moved = percent(change, signed=True, whole=True)
    text = f"{name} moves by {moved} from the first part of the history to the whole of it"
    return Reason("numbers_moved", text, abs(change), APART_MAX)


def _moves(grounds: Grounds) -> Iterator[tuple[str, float]]:
    """Yield the numbers of the policy that both fits have, and their relative change; both have one band."""
    for primary in grounds.policy.primaries:
        fits = [signal_threshold(d, primary.signal, primary.role) for d in (grounds.first, grounds.whole)]
        before, after = (fit.target_per_instance if fit else None for fit in fits)
        if before and after:
            yield f"the target of {primary.signal}@{primary.role}", after / before - 1.0
    before, after = grounds.first.pd_ratio.held, grounds.whole.pd_ratio.held
    kept = grounds.policy.pd_ratio
    if kept is not None and before and after:
        bound = kept.one_primary_bound is not None
        yield "what prefill needs per decode instance" if bound else "the P/D ratio", after / before - 1.0


def _ratio_steady(grounds: Grounds) -> Reason | None:
    if grounds.whole.pd_ratio.status != "drifting" or grounds.whole.pd_ratio.by_mix:
        return None
    return Reason("ratio_drifts", "the P/D ratio drifts")


def _mixes_alike(grounds: Grounds) -> Reason | None:
    if grounds.whole.pd_ratio.status != "drifting" or not grounds.whole.pd_ratio.by_mix:
        return None
    return Reason("mixes_differ", "the best split differs by token mix")


def _splits_measured(grounds: Grounds) -> Reason | None:
    if not any(mix.is_estimated for mix in grounds.whole.pd_ratio.by_mix):
        return None
    return Reason("throughput_estimated", "what splits served is estimated from concurrency and latency")


def _startup_known(grounds: Grounds) -> Reason | None:
    unknown = [role for role in grounds.policy.bounds if role not in grounds.policy.start_up_s]
    if grounds.policy.mode == "hold" or not unknown:
        return None
    text = f"the start-up time of {' and '.join(unknown)} is a default"
    return Reason("startup_default", text)


def _at_an_edge(grounds: Grounds) -> Reason | None:
    apart = []
    for edges in map(LimitEdges.from_plain, grounds.slo_edges):
        moved = 0.0 if edges.exact else _moved_by(edges, grounds.whole.capacity)
        if moved > APART_MAX:
            apart.append((moved, edges.judged))
    if not apart:
        return None
    moved, text = max(apart)
    return Reason("bucket_edge", text, moved, APART_MAX)


def _moved_by(edges: LimitEdges, capacities: Sequence[Capacity]) -> float:
    """Return how far a limit hangs on the edges about it [ratio].

    Between two edges the distance of the capacity by the next best reading; 1 where the buckets can't tell,
    and below the first edge; above the last one the distance of the limit from it.
    """
    if edges.low_s is None:
        return 1.0
    if not math.isfinite(edges.high_s):
        return edges.limit_s / edges.low_s - 1.0
    own = [c for c in capacities if c.gpu_type is None and edges.signal in LATENCIES[c.role]]
    if any(c.reason is not None and c.reason.code == "undecided_edge" for c in own):
        return 1.0
    return max((abs(c.reading_ratio - 1.0) for c in own if c.reading_ratio is not None), default=0.0)


def _no_floor(grounds: Grounds) -> Reason | None:
    floors: dict[str, list[str]] = {}
    for code, role in _floors(grounds):
        floors.setdefault(_WHY_A_FLOOR.get(code, "where its limit breaks is not known"), []).append(role)
    if not floors:
        return None
    (why, roles), *others = floors.items()
    more = [f"; that of {' and '.join(some)}: {other}" for other, some in others]
    text = f"the capacity of {' and '.join(roles)} is a floor: {why}{''.join(more)}"
    return Reason("capacity_floor", text)


def _floors(grounds: Grounds) -> list[tuple[str, str]]:
    """Return why a capacity is a floor, as a code, and its pool; the code is empty where nothing is said."""
    return [
        (c.reason.code if c.reason else "", c.role)
        for c in grounds.whole.capacity
        if c.gpu_type is None and c.status == "floor"
    ]


_WHY_A_FLOOR = {
    "": "its limit was not met",
    "no_violations": "its limit was not met",
    "kv_full": "its limit was not met",
    "thin": "its limit was met too seldom",
    "no_slo": "no limit on its latency was given",
}
"""Why a capacity is a floor in the words of a decision, by the code of its reason."""


def _hit_rate_known(grounds: Grounds) -> Reason | None:
    prefill = grounds.whole.capacity_of("prefill")
    if prefill is None or prefill.signal != RAW_PROMPTS[0]:
        return None
    return Reason("hit_rate_unknown", "the cache-hit rate is not known: prefill goes by all prompt tokens")


def _weekdays_seen(grounds: Grounds) -> Reason | None:
    if grounds.kind == "pressure_test":
        return None
    days, seen = grounds.span_s / DAY_S, sum(spent >= WEEKDAY_SEEN_S for spent in grounds.weekday_s)
    if days >= WHOLE_WEEK_SHARE * DAYS_NEEDED and seen == len(DAYS):
        return None
    text = f"{seen} of {len(DAYS)} weekdays are in the history"
    return Reason("weekdays_not_seen", text, float(seen), float(len(DAYS)))


def _production(grounds: Grounds) -> Reason | None:
    if grounds.kind != "pressure_test":
        return None
    return Reason("pressure_test", "a pressure test is no production history")


CRITERIA: tuple[Criterion, ...] = (
    Criterion(_on_hold, LOW, ANSWER_REFUSALS, by_test=True),
    Criterion(_pools_sized, LOW, "Record a signal of the pool that nothing sizes: hsa doctor names them."),
    Criterion(_all_served, LOW, "Map the instances that belong to no service: hsa doctor gives the lines."),
    Criterion(_load_shared, LOW, "Look at the router: instances that do no work are counted as if they did."),
    Criterion(_holds_slo, LOW, "Lower the head-room ratio, or give the pools more room before you apply it."),
    Criterion(_backtested, LOW, "Record at least twice as long, so that a part is left to replay."),
    Criterion(_calibrated, ONE, "See in the report how far off the replay is for each latency."),
    Criterion(_refit_alike, ONE, "Record longer, or leave out a stretch that is not usual with --exclude."),
    Criterion(_ratio_steady, ONE, "See in the report what moved the token mix; do not fix the P/D ratio."),
    Criterion(_mixes_alike, ONE, "Size each pool on its own signal, or serve the token mixes apart."),
    Criterion(_splits_measured, ONE, "Repeat the test with a benchmark that reports what was served."),
    Criterion(_startup_known, ONE, "Give the start-up time with --startup, or record a scale-out."),
    Criterion(
        _at_an_edge,
        ONE,
        "Add the histogram edge that hsa doctor names, or judge at an edge there is.",
    ),
    Criterion(
        _no_floor,
        ONE,
        "Test above the recorded peak: hsa plan-test gives the load levels.",
        by_test=True,
    ),
    Criterion(_hit_rate_known, CAP, "Switch on a counter of prompt tokens that missed the cache."),
    Criterion(_weekdays_seen, CAP, "Record seven days, so that each weekday is in the history."),
    Criterion(_production, CAP, "Confirm it on a production history of seven days."),
)
"""The table of confidence, in the order of its next steps."""
