"""summary.json: everything a run found, as plain data with the same keys in the same order every time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import hs_analysis
from hs_analysis.doctor import rejected_where
from hs_analysis.errors import first_of
from hs_analysis.pipeline.records import to_plain
from hs_analysis.schema.constants import APART_MAX
from hs_analysis.schema.declare import names_of
from hs_analysis.schema.exported import NOT_SEEN
from hs_analysis.schema.names import DEFAULT_HPA, IN_SAMPLE, RECORDED
from hs_analysis.schema.number_text import percent, percent_beside
from hs_analysis.schema.replays import ReplayResult
from hs_analysis.schema.results import (
    ALARM,
    CHECK_FAILED,
    IDLE_INSTANCES,
    ROWS_LOST,
    WITHOUT_SERVICE,
    CandidateScore,
    Derived,
    Reason,
    Recommendation,
    SignalDriver,
    SignalVerdict,
    Threshold,
)
from hs_analysis.schema.settings import Excluded, Slo
from hs_analysis.schema.summary import SCHEMA_VERSION, ServiceSummary, Summary, Totals, in_order
from hs_analysis.schema.sweeps import BenchSpeed, ProfileRatio, SweepResult

if TYPE_CHECKING:
    import polars as pl

    from hs_analysis.schema.decision import PolicyDecision


READABLE_VERSIONS = (1, SCHEMA_VERSION)
"""Versions that are read. 1 gave a target an interval of its own and held no decision."""


DIGITS = 12
"""Significant digits of a number in summary.json: below them the order of additions begins to show."""


def compose(
    *,
    window: Mapping[str, Any],
    slo: Mapping[str, Any],
    inputs: Sequence[Mapping[str, Any]],
    coverage: Mapping[str, Any],
    services: Sequence[Mapping[str, Any]],
    warnings: Sequence[Mapping[str, str]],
    excluded: Sequence[Any] = (),
    events: Sequence[Any] = (),
    sweeps: Sequence[SweepResult] = (),
    profiles: Sequence[ProfileRatio] = (),
    bench_speeds: Sequence[BenchSpeed] = (),
) -> dict[str, Any]:
    """Return summary.json of a run; numbers have twelve digits, what could not be had is null."""
    whole = {
        "schema_version": SCHEMA_VERSION,
        "tool_version": hs_analysis.__version__,
        "window": window,
        "excluded": list(excluded),
        "events": list(events),
        "slo": slo,
        "inputs": list(inputs),
        "coverage": coverage,
        "services": [in_order(ServiceSummary, one) for one in services],
        "sweeps": list(sweeps),
        "profiles": list(profiles),
        "bench_speeds": list(bench_speeds),
        "warnings": list(warnings),
    }
    rounded = _rounded(to_plain(in_order(Summary, whole)))
    assert isinstance(rounded, dict)  # noqa: S101 - narrows the type
    return rounded


def facts_section(entry: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is known of a service before any judgement, from its entry beside the aligned table."""
    totals = entry["totals"] or {}
    return {
        "service": entry["service"],
        "history_kind": entry["kind"],
        "reference": entry["reference"],
        "gpus_per_instance": entry["gpus_per_instance"] or None,
        "totals": {name: totals.get(name) for name in names_of(Totals)},
        "slo_edges": list(entry.get("slo_edges") or ()),
    }


def facts_of_test(name: str) -> dict[str, Any]:
    """Return the facts of a ratio test in benchmarks: load set on purpose, nothing recorded."""
    return {
        "service": name,
        "history_kind": "pressure_test",
        "reference": "served",
        "gpus_per_instance": None,
        "totals": dict.fromkeys(names_of(Totals)),
        "slo_edges": [],
    }


def decision_section(decision: PolicyDecision, apply: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return what to do with the policy, and how, as the export stage wrote it: a service's first keys."""
    return {"decision": to_plain(decision)} | ({"apply": apply} if apply else {})


def study_section(verdicts: Sequence[SignalVerdict], recommended: Recommendation | None) -> dict[str, Any]:
    """Return the keys that the study fills."""
    return {"signals": to_plain(verdicts), "recommended": to_plain(recommended)}


def derive_section(derived: Derived) -> dict[str, Any]:
    """Return the keys that the derivation fills, but for the refusals, which close a service."""
    return {
        "capacity": to_plain(derived.capacity),
        "demand": to_plain(derived.demand),
        "thresholds": to_plain(derived.thresholds),
        "startup": to_plain(derived.startup),
        "gpu_speeds": to_plain(derived.gpu_speeds),
        **({"releases": to_plain(derived.releases)} if derived.releases else {}),
        "pd_ratio": to_plain(derived.pd_ratio),
    }


def selection_section(scores: Sequence[CandidateScore]) -> dict[str, Any]:
    """Return the keys that the selection fills.

    Hundreds of candidates differ in little: the chosen one is listed, those that no other beats, and the
    default HPA, which none may be worse than. The rest is counted; data/select.parquet holds them all.
    """
    shown = [one for one in scores if one.chosen or one.front or one.policy == DEFAULT_HPA]
    shown.sort(key=lambda one: not one.chosen)
    return {"selection": to_plain(shown), "selection_left_out": len(scores) - len(shown)}


def replay_section(replay: ReplayResult) -> dict[str, Any]:
    """Return the keys that the backtest fills; those of what was not asked for or priced are left out."""
    plain = to_plain(replay)
    if all(row.cost is None for row in replay.policies):
        plain["policies"] = [{k: v for k, v in row.items() if k != "cost"} for row in plain["policies"]]
    asked = ("current", "faults", "placement", "targets")
    return {"replay": {key: value for key, value in plain.items() if value or key not in asked}}


def drivers_section(tried: Sequence[SignalDriver]) -> dict[str, Any]:
    """Return how every signal did as the driver of its pool."""
    return {"drivers": to_plain(tried)}


def refusals_section(derived: Derived) -> dict[str, Any]:
    """Return what the data could not answer."""
    return {"refusals": to_plain(derived.refusals)}


def refit_warnings(
    service: str,
    train: Derived,
    whole: Derived,
    held: Sequence[tuple[str, str]],
    decision: PolicyDecision,
) -> list[dict[str, str]]:
    """Return a warning for every target of a policy that differs between the first part and the whole window.

    ``held`` are the (signal, role) that size its pools. There is none where the decision rests on the one day
    of a history, which was replayed with the numbers of the policy itself.
    """
    if decision.by_blocks:
        return []
    from hs_analysis.report.wording import quantity, unit_of  # heavy to import

    tested = "not_backtested" not in [one.code for one in decision.confidence_reasons]
    used = "the backtest used the latter, " if tested else ""
    found = []
    kept = {*held, *((signal, "service") for signal, _ in held)}
    for after in whole.thresholds:
        if (after.signal, after.role) not in kept:
            continue
        before = _same(after, train.thresholds)
        if before is None or not before.target_per_instance or not after.target_per_instance:
            continue
        change = after.target_per_instance / before.target_per_instance - 1.0
        if abs(change) > APART_MAX:
            now, then = (
                " ".join(quantity(one.target_per_instance, unit_of(one.signal))).strip()
                for one in (after, before)
            )
            text = (
                f"{service}: the target of {after.signal}@{after.role} is {now} per instance "
                f"on the whole window, {then} on its first part "
                f"({percent(change, signed=True, whole=True)}): {used}policy.yaml holds the former"
            )
            found.append({"code": "refit_differs", "text": text})
    return found


def _same(wanted: Threshold, among: Sequence[Threshold]) -> Threshold | None:
    key = (wanted.signal, wanted.role, wanted.gpu_type)
    return next((t for t in among if (t.signal, t.role, t.gpu_type) == key), None)


def replay_warnings(
    service: str, replay: ReplayResult, chosen: str | None, slo: Slo, alarm: Reason | None = None
) -> list[dict[str, str]]:
    """Return a warning when the policy did worse than what ran or than the SLO, or is not calibrated.

    ``alarm`` is that of the decision: it stands in the first lines, the others in the body of an answer.
    """
    found = []
    if alarm is not None:
        found.append({"code": ALARM, "text": f"the policy of {service} {alarm.text}"})
    from hs_analysis.policy.constants import SAME_SHARE_POINTS  # as above

    rows = {policy.policy: policy.slo_violation_ratio for policy in replay.policies}
    ours, theirs = rows.get(chosen or ""), rows.get(RECORDED)
    if ours is not None and theirs is not None and ours > theirs + SAME_SHARE_POINTS:
        text = (
            f"{service}: on the test window {chosen} breaks the SLO in {percent(ours)} of windows, "
            f"the recorded fleet in {percent(theirs)}"
        )
        found.append({"code": "slo_worse_than_recorded", "text": text})
    side = next((policy.slo_side for policy in replay.policies if policy.policy == chosen), None)
    if ours is not None and slo.given and side == "unclear":
        allowed = percent(slo.allowed_window_share, exact=True)
        text = (
            f"{service}: the replay can't tell whether {chosen} holds the SLO on the test window: "
            f"{percent(ours)} of windows expected to break it, {allowed} are allowed"
        )
        found.append({"code": "slo_side_unclear", "text": text})
    elif ours is not None and slo.given and ours > slo.allowed_window_share:
        broken = percent_beside(ours, slo.allowed_window_share)
        text = (
            f"{service}: on the test window {chosen} does not hold the SLO: it is broken in {broken} of "
            f"windows, {percent(slo.allowed_window_share, exact=True)} are allowed"
        )
        found.append({"code": "slo_not_held", "text": text})
    found += _exported_hours(service, replay, chosen)
    if replay.calibration.get("status") == "not_calibrated":
        text = f"{service}: {replay.calibration.get('text') or 'the backtest does not agree with history'}"
        found.append({"code": "not_calibrated", "text": text})
    return found


def _exported_hours(service: str, replay: ReplayResult, chosen: str | None) -> list[dict[str, str]]:
    """Return a warning where the file to apply needs other hours than the policy of the backtest.

    The first lines are those of the backtest, which may not see its test window; the targets of the file are
    of the whole window, and what moved in between moves the hours.
    """
    rows = {row.policy: row for row in replay.policies}
    backtest, exported = rows.get(chosen or ""), rows.get(IN_SAMPLE)
    if backtest is None or exported is None or not backtest.instance_hours or not exported.instance_hours:
        return []
    if abs(exported.instance_hours / backtest.instance_hours - 1.0) <= APART_MAX:
        return []
    saved = exported.vs_recorded
    beside = (
        "" if saved is None else f", {percent(abs(saved))} {'fewer' if saved >= 0 else 'more'} than recorded"
    )
    text = (
        f"{service}: policy.yaml as it is needs {exported.instance_hours:,.0f} instance-hours on the test "
        f"window{beside}; the first lines are of the backtest with its own targets, "
        f"{backtest.instance_hours:,.0f}"
    )
    return [{"code": "exported_hours", "text": text}]


def replaced_warning(service: str) -> dict[str, str]:
    """Say that policy.yaml does not hold the policy that selection took and the backtest replayed."""
    text = (
        f"{service}: the selected policy does not rest on the whole window (its ratio or target changed "
        "since the first part); policy.yaml holds the nearest one that does, which was not backtested"
    )
    return {"code": "policy_replaced", "text": text}


def unserved_warnings(sentences: Sequence[str]) -> list[dict[str, str]]:
    """Return a warning for every pool whose instances belong to no service: no answer counts them."""
    return [{"code": WITHOUT_SERVICE, "text": text} for text in sentences]


def idle_warnings(findings: pl.DataFrame) -> list[dict[str, str]]:
    """Return a warning for every pool in which an instance does no work: its capacity may be more.

    Parameters
    ----------
    findings
        Frame of contract FINDINGS.
    """
    return [
        {"code": IDLE_INSTANCES, "text": f"{one['service']}: {one['text']}"}
        for one in findings.iter_rows(named=True)
        if one["check"] == IDLE_INSTANCES
    ]


_TOLD_BESIDE = ("files", "plan", "limits")
"""Checks whose failures an answer tells in other words: of broken files, of chunks, of an SLO's edges."""


def failed_warnings(findings: pl.DataFrame) -> list[dict[str, str]]:
    """Return a warning for every check that says the input makes numbers wrong.

    Parameters
    ----------
    findings
        Frame of contract FINDINGS.
    """
    return [
        {"code": CHECK_FAILED, "text": f"{one['service']}: {one['text']}" if one["service"] else one["text"]}
        for one in findings.iter_rows(named=True)
        if one["level"] == "fail" and one["check"] not in _TOLD_BESIDE
    ]


LOST_SHARE = 0.001
"""Share of rows from which on those that could not be used are told first. Default of this project."""

_ASKED_FOR = ("skip_where", "native_histogram", "truncated")
"""Reasons that are no loss of samples, or told with the file."""


def rows_lost_warnings(rejected: pl.DataFrame, rows_read: int, whole: Sequence[str]) -> list[dict[str, str]]:
    """Return a warning when many rows of the input could not be used, or a series lost every sample.

    Parameters
    ----------
    rejected
        Rows by reason, file and metric, most first: reason, file, metric, detail, rows.
    rows_read
        Rows of the input.
    whole
        Series of which nothing is left.
    """
    groups = [row for row in rejected.iter_rows(named=True) if row["reason"] not in _ASKED_FOR]
    rows = sum(row["rows"] for row in groups)
    if not rows or (rows < LOST_SHARE * rows_read and not whole):
        return []
    most = groups[0]
    start = f"{rows:,} of {rows_read:,} rows ({percent(rows / rows_read)})"
    where = rejected_where(most) if len(groups) == 1 else f"{most['rows']:,} of them {rejected_where(most)}"
    lost = f"; nothing is left of {len(whole)} series ({first_of(whole, 1)})" if whole else ""
    text = f"{start}: {where}, {most['reason']} ({most['detail']}){lost}; see data/rejected.parquet"
    return [{"code": ROWS_LOST, "text": text}]


def excluded_warning(excluded: Sequence[Excluded]) -> dict[str, str]:
    """Say what the user left out, since totals don't count it."""
    named = [f"{one.start} to {one.end}{f' ({one.label})' if one.label else ''}" for one in excluded]
    text = f"left out: {first_of(named, 3)}; totals do not count these stretches"
    return {"code": "excluded", "text": text}


def unseen_warnings(service: str, notes: Sequence[str]) -> list[dict[str, str]]:
    """Return a warning for every query of a policy that does not see the pods that the policy adds."""
    return [
        {"code": "new_instances_unseen", "text": f"{service}: {note}"} for note in notes if NOT_SEEN in note
    ]


def no_history_warning(tests: int) -> dict[str, str]:
    """Return the warning that an input of benchmark points alone gives no policy.

    ``tests`` is the number of ratio tests among them that were answered.
    """
    said = (
        "the ratio tests in it were answered"
        if tests
        else "no two splits of prefill and decode were tested alike, so that it says nothing of the P/D ratio"
    )
    text = (
        f"the input holds benchmark points and no metric over time: {said}; no signal could be judged and "
        "no policy made; add metric dumps of the service for those"
    )
    return {"code": "no_history", "text": text}


def untested_warning(service: str) -> dict[str, str]:
    """Return the warning that a policy was chosen on the very data it was fitted on."""
    text = (
        f"{service}: the first part of the history is too short to fit a policy, so selection used all of it "
        "and no unseen data is left for a backtest; record at least twice as long to have one"
    )
    return {"code": "not_backtested", "text": text}


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.{DIGITS}g}")
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    return [_rounded(item) for item in value] if isinstance(value, list) else value
