"""Compare the summaries of two runs: verdicts, numbers with their intervals, and scores of the backtest."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from hs_analysis.errors import UsageError

Summary = Mapping[str, Any]
Change = Literal["same", "within", "beyond", "unknown", "changed", "appeared", "gone"]
"""``within``: the intervals overlap; ``beyond``: they do not; ``unknown``: a number without interval differs;
``changed``: words differ; ``appeared`` and ``gone``: only one run has it."""

SAME = 1e-9
"""Relative difference of numbers that another processor may cause [ratio]."""

SCORES = ("instance_hours", "gpu_hours", "slo_violation_ratio", "actions_per_day", "vs_recorded")
"""Figures of a replayed policy that are compared; their interval is under the key of `INTERVALS`."""

INTERVALS = {
    "instance_hours": "instance_hours_ci",
    "slo_violation_ratio": "slo_violation_ci",
    "vs_recorded": "vs_recorded_ci",
}


@dataclass(frozen=True)
class Difference:
    """One answer in both runs.

    Attributes
    ----------
    service
        ``namespace/model``.
    what
        ``verdict``, ``status``, ``recommended``, ``capacity``, ``target``, ``ratio`` or ``score``.
    of
        What it is of: ``signal@role``, a pool, or a policy and its figure.
    a, b
        The two answers; None where a run has none.
    a_ci, b_ci
        Their 95 % intervals; None without one.
    change
        See `Change`.
    """

    service: str
    what: str
    of: str
    a: float | str | None
    b: float | str | None
    a_ci: tuple[float, float] | None
    b_ci: tuple[float, float] | None
    change: Change


def compare_runs(a: Summary, b: Summary) -> tuple[Difference, ...]:
    """Return every answer of two runs, those that are the same too, in the order of the first.

    Parameters
    ----------
    a, b
        Contents of two summary.json.

    Raises
    ------
    UsageError
        When the runs are not of the same services.
    """
    services = [{one["service"]: one for one in run["services"]} for run in (a, b)]
    if set(services[0]) != set(services[1]):
        told = [", ".join(sorted(one)) or "none" for one in services]
        raise UsageError(
            f"the runs are of different services: {told[0]}; {told[1]}",
            hint="name those of both with --service when making the runs",
        )
    return tuple(
        difference
        for name, before in services[0].items()
        for difference in _service(name, before, services[1][name])
    )


def _service(name: str, a: Summary, b: Summary) -> Iterator[Difference]:
    for what, of, before, after in _words(a, b):
        yield Difference(name, what, of, before, after, None, None, _worded(before, after))
    for what, of, first, second in _numbers(a, b):
        yield _number(name, what, of, first, second)


_Key = Callable[[Mapping[str, Any]], str]
_Answer = tuple[float | None, tuple[float, float] | None]


def _signal(row: Mapping[str, Any]) -> str:
    gpu = f" on {row['gpu_type']}" if row.get("gpu_type") else ""
    return f"{row['signal']}@{row['role']}{gpu}"


def _pool(row: Mapping[str, Any]) -> str:
    return f"{row['role']}{' on ' + row['gpu_type'] if row.get('gpu_type') else ''}"


def _words(a: Summary, b: Summary) -> Iterator[tuple[str, str, str | None, str | None]]:
    """Yield (what, of, in a, in b) of answers in words."""
    for what, table, key, field in (
        ("verdict", "signals", _signal, "verdict"),
        ("status", "capacity", _pool, "status"),
        ("status", "thresholds", _signal, "status"),
    ):
        for of, before, after in _joined(a, b, table, key):
            yield what, of, before.get(field), after.get(field)
    yield "status", "P/D ratio", _of(a, "pd_ratio", "status"), _of(b, "pd_ratio", "status")
    yield "recommended", "signal", _recommended(a), _recommended(b)
    yield "selected", "policy", _selected(a), _selected(b)


def _recommended(summary: Summary) -> str | None:
    found = summary.get("recommended")
    return _signal(found) if found else None


def _selected(summary: Summary) -> str | None:
    return next((row["policy"] for row in summary.get("selection") or [] if row["chosen"]), None)


def _numbers(a: Summary, b: Summary) -> Iterator[tuple[str, str, _Answer, _Answer]]:
    """Yield (what, of, number and interval in a, in b)."""
    for what, table, key, field, ci in (
        ("capacity", "capacity", _pool, "per_instance", "ci"),
        ("target", "thresholds", _signal, "target_per_instance", "target_ci"),
    ):
        for of, before, after in _joined(a, b, table, key):
            yield what, of, _answer(before, field, ci), _answer(after, field, ci)
    ratios = [_answer(one.get("pd_ratio") or {}, "value", "ci") for one in (a, b)]
    yield "ratio", "prefill per decode", ratios[0], ratios[1]
    replays = [one.get("replay") or {} for one in (a, b)]
    for of, before, after in _joined(replays[0], replays[1], "policies", lambda row: str(row["policy"])):
        for figure in SCORES:
            first, second = (_answer(row, figure, _interval_key(row, figure)) for row in (before, after))
            if first[0] is not None or second[0] is not None:
                yield "score", f"{of} {figure}", first, second


def _interval_key(row: Mapping[str, Any], figure: str) -> str:
    """Return where a score's interval stands; what moves within one day tells no two runs apart."""
    return "" if row.get("interval_basis") == "hours" else INTERVALS.get(figure, "")


def _joined(
    a: Summary, b: Summary, table: str, key: _Key
) -> Iterator[tuple[str, Mapping[str, Any], Mapping[str, Any]]]:
    """Yield rows of both runs by key, in the order of the first, then what only the second has."""
    rows = [{key(row): row for row in one.get(table) or []} for one in (a, b)]
    for of in [*rows[0], *(of for of in rows[1] if of not in rows[0])]:
        yield of, rows[0].get(of, {}), rows[1].get(of, {})


def _of(summary: Summary, table: str, field: str) -> Any:
    return (summary.get(table) or {}).get(field)


def _answer(row: Mapping[str, Any], field: str, ci: str) -> _Answer:
    pair: Sequence[float] | None = row.get(ci)
    return row.get(field), (pair[0], pair[1]) if pair else None


def _worded(a: str | None, b: str | None) -> Change:
    if a == b:
        return "same"
    if a is None or b is None:
        return "appeared" if a is None else "gone"
    return "changed"


def _number(service: str, what: str, of: str, a: _Answer, b: _Answer) -> Difference:
    return Difference(service, what, of, a[0], b[0], a[1], b[1], _numeric(a, b))


def _numeric(a: _Answer, b: _Answer) -> Change:
    """Return whether two numbers differ beyond their intervals; one that has none has no width."""
    (before, before_ci), (after, after_ci) = a, b
    if before is None or after is None:
        return "same" if before is after else "appeared" if before is None else "gone"
    if abs(after - before) <= SAME * max(abs(before), abs(after)):
        return "same"
    if before_ci is None and after_ci is None:
        return "unknown"
    low, high = before_ci or (before, before)
    other_low, other_high = after_ci or (after, after)
    return "within" if low <= other_high and other_low <= high else "beyond"
