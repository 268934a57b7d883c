"""Numbers, units, names and statuses as a reader sees them: every value becomes text here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

from hs_analysis.catalogue import WORKED_OUT, load_catalogue
from hs_analysis.schema.names import (
    IN_SAMPLE,
    NEUTRAL,
    PERIODIC,
    RATIO_BY_HOUR,
    RATIO_BY_MIX,
    RATIO_FIXED,
    TARGET_TITLES,
    TRANSLATED,
    UNLIMITED,
)
from hs_analysis.schema.number_text import (
    NONE,
    day_or_hours,
    fixed,
    is_number,
    number,
    percent,
    plain,
    share_words,
)

__all__ = [
    "NONE",
    "count",
    "day_of",
    "expected_time",
    "fixed",
    "interval",
    "is_number",
    "local_time",
    "moment",
    "number",
    "on_type",
    "parse_time",
    "percent",
    "plain",
    "plural",
    "policy_name",
    "quantity",
    "seconds",
    "service_name",
    "signal_label",
    "signal_name",
    "span",
    "status",
    "the_day",
    "unit_of",
]

_DERIVED_UNITS = {one.id: one.unit for one in WORKED_OUT}
# What alignment adds to the catalogue's signals.

_LABELS = {
    "decode_tps": "decode TPS",
    "prefill_tps": "prefill TPS (raw)",
    "prefill_tps_effective": "prefill TPS (cache-missed)",
    "offered_tps": "offered work",
    "ttft": "TTFT",
    "tbt": "TBT",
    "tpot": "TPOT",
    "gpu_util": "GPU utilisation",
    "sm_activity": "SM activity",
    "kv_usage": "KV-cache usage",
    "running": "running requests",
    "queue_length": "queue length",
    "backlog_age_s": "backlog age",
}

_STATUS = {
    "ok": ("✓", "ok", "good"),
    "floor": ("▽", "floor", "warn"),
    "drifting": ("≈", "drifting", "warn"),
    "refused": ("✕", "refused", "bad"),
    "proportional": ("✓", "proportional", "good"),
    "guard": ("◇", "guard", "warn"),
    "unusable": ("✕", "unusable", "bad"),
    "unknown": ("?", "unknown", "none"),
    "pass": ("✓", "pass", "good"),
    "warn": ("!", "warning", "warn"),
    "fail": ("✕", "fail", "bad"),
    "high": ("●", "high", "good"),
    "medium": ("◐", "medium", "warn"),
    "low": ("○", "low", "bad"),
}


def unit_of(signal: str) -> str:
    """Return the canonical unit of a signal, empty when the catalogue does not know it."""
    known = next((entry.unit for entry in load_catalogue().signals if entry.id == signal), "")
    return known or _DERIVED_UNITS.get(signal, "")


def service_name(service: str) -> str:
    """Return a service as its users know it: ``namespace/model``, the model alone without a namespace."""
    return service.removeprefix("-/")


def signal_name(signal: str) -> str:
    """Return a signal's name in words; a name of the user's own only loses its underscores."""
    return _LABELS.get(signal, signal.replace("_", " "))


def signal_label(signal: str, role: str) -> str:
    """Return the name with its role, without saying the role twice."""
    name = signal_name(signal)
    if not role or role == "service" or name.lower().startswith(role):
        return name
    return (
        f"{role} {name}" if name[:1].islower() or name.startswith(("GPU", "SM", "KV")) else f"{name} ({role})"
    )


def on_type(entry: Mapping[str, Any]) -> str:
    """Return `` on <GPU type>`` for a record of one type, nothing for one over all of them."""
    return f" on {entry['gpu_type']}" if entry.get("gpu_type") else ""


def policy_name(policy: str) -> str:
    """Return a policy's name in words: the signals of ``signal@role`` joined by ``+``, then its settings.

    What a controller is set to follows the signals behind a comma. Baselines that need it say what they are.
    """
    signals, comma, settings = policy.partition(", ")
    if "@" not in signals:
        return _ROWS.get(policy, policy.replace("_", " "))
    pairs = (part.partition("@") for part in signals.split("+"))
    return " + ".join(signal_label(signal, role) for signal, _, role in pairs) + comma + settings


_ROWS = {
    PERIODIC: "timetable of the policy",
    IN_SAMPLE: "exported numbers (in sample)",
    NEUTRAL: "HeteroScale's own rule (neutral)",
    UNLIMITED: "without your limits",
    RATIO_FIXED: "P/D ratio fixed",
    RATIO_BY_HOUR: "P/D ratio by hour",
    RATIO_BY_MIX: "P/D ratio by observed mix",
    **{
        row: f"the policy as {TARGET_TITLES[target]} file"
        for target, row in TRANSLATED.items()
        if row != NEUTRAL
    },
}


def status(word: str | None) -> dict[str, str]:
    """Return sign, word and tone of a status: the word carries the meaning, the others repeat it."""
    sign, text, tone = _STATUS.get(word or "", ("?", word or "unknown", "none"))
    return {"sign": sign, "word": text, "tone": tone}


def count(value: Any) -> str:
    """Return a whole number in full, so that it can be reconciled with another source."""
    return f"{round(value):,}".replace("-", "−") if is_number(value) else NONE


def seconds(value: Any) -> str:
    """Return a span of time in the unit a person would use, keeping the exact value."""
    if not is_number(value):
        return NONE
    size = abs(float(value))
    if size == 0:
        return "0 s"
    for limit, divisor, unit in ((1, 1e-3, "ms"), (600, 1, "s"), (7200, 60, "min"), (3 * 86400, 3600, "h")):
        if size < limit:
            return f"{plain(value / divisor)} {unit}"
    return f"{plain(value / 86400)} days"


def expected_time(value: Any) -> str:
    """Return an expected span of time; what is below a second is ``<1 s``: no model is as exact as that."""
    return "<1 s" if is_number(value) and 0.0 < value < 1.0 else seconds(value)


def quantity(value: Any, unit: str) -> tuple[str, str]:
    """Return (text, unit) of a value in its unit; ratios become percent, ``s`` becomes ms where small.

    The unit ``seconds`` stays plain seconds, for columns that compare; ``expected_s`` is `expected_time`.
    """
    if unit == "expected_s":
        text, _, suffix = expected_time(value).partition(" ")
        return text, suffix
    if unit == "ratio":
        text, _, suffix = percent(value).partition(" ")
        return text, suffix
    if unit == "s":
        text, _, suffix = seconds(value).partition(" ")
        return text, suffix
    shown = "s" if unit == "seconds" else unit
    return number(value), shown if is_number(value) else ""


def interval(pair: Any, unit: str = "", decimals: int | None = None) -> str:
    """Return ``3,900 to 4,450`` for a 2-list, empty when there is none; its unit stands with the value."""
    if not isinstance(pair, Sequence) or isinstance(pair, str) or len(pair) != 2:
        return ""
    if not all(is_number(end) for end in pair):
        return ""
    if decimals is not None:
        return " to ".join(fixed(end, decimals) for end in pair)
    low, high = (quantity(end, unit) for end in pair)
    if low[1] != high[1]:
        return f"{' '.join(low).strip()} to {' '.join(high).strip()}"
    return f"{low[0]} to {high[0]}"


def parse_time(text: Any) -> datetime | None:
    """Read an ISO 8601 time (UTC when it names no zone); None when it is not one."""
    if isinstance(text, datetime):
        return text if text.tzinfo else text.replace(tzinfo=UTC)
    if not isinstance(text, str):
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)


def moment(text: Any) -> str:
    """Return a time as ``2026-11-02 10:15`` in UTC (seconds where there are any), an en dash when unknown."""
    when = parse_time(text)
    if when is None:
        return NONE
    return when.strftime("%Y-%m-%d %H:%M:%S" if when.second else "%Y-%m-%d %H:%M")


def local_time(text: Any, zone: str) -> str:
    """Return a time as the clock of a zone (IANA name) shows it, ``2026-11-02 10:15``; an en dash unknown."""
    when = parse_time(text)
    return NONE if when is None else when.astimezone(ZoneInfo(zone)).strftime("%Y-%m-%d %H:%M")


def span(start: Any, end: Any) -> str:
    """Return a stretch of time in words with its length, UTC; the day is not repeated."""
    first, last = parse_time(start), parse_time(end)
    if first is None or last is None:
        return moment(start if first else end)
    if first == last:
        return f"{moment(first)} UTC"
    tail = moment(last)[11:] if first.date() == last.date() else moment(last)
    return f"{moment(first)} to {tail} UTC ({seconds((last - first).total_seconds())})"


def capacity_share(threshold: Mapping[str, Any]) -> str:
    """Return which share of its capacity the target of a threshold is, in words before that capacity."""
    capacity = threshold["capacity"]
    return share_words(
        threshold.get("target_per_instance"),
        threshold.get("headroom_ratio"),
        (capacity.get("value"), capacity.get("low")),
        floor=threshold.get("status") == "floor",
    )


def day_of(decision: Mapping[str, Any]) -> str:
    """Return what the history of a replay by blocks is called: ``one day``, or how many hours it has."""
    start, end = map(parse_time, decision.get("backtested") or (None, None))
    return day_or_hours((end - start).total_seconds() if start and end else None)


def the_day(decision: Mapping[str, Any]) -> str:
    """Return ``the day`` for the history of a replay by blocks, or ``the 12 hours`` where it is shorter."""
    return f"the {day_of(decision)}".replace("one day", "day")


def replayed_on(service: Mapping[str, Any]) -> str:
    """Return what a backtest ran on: the test window, or, of one day, its last hours.

    The decision on one day is of the whole day, so that what is of a part of it has to say which.
    """
    decision, replay = (service.get(key) or {} for key in ("decision", "replay"))
    if not decision.get("by_blocks"):
        return "the test window"
    ends = [parse_time(end) for part in ("train", "test") for end in replay.get(part) or (None, None)]
    if len(ends) != len(("train", "test")) * 2 or None in ends:
        return f"the last part of {the_day(decision)}, by numbers of the first"
    began, parted, start, end = (one for one in ends if one is not None)
    last, first = (seconds((b - a).total_seconds()) for a, b in ((start, end), (began, parted)))
    return f"the last {last}, by numbers of the first {first}"


def plural(amount: int, one: str, many: str | None = None) -> str:
    """Return ``1 window`` or ``3 windows``."""
    return f"{amount:,} {one if amount == 1 else many or one + 's'}"
