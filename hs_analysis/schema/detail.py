"""Contracts of the detail tables behind the summary: what charts draw and `explain` prints."""

from __future__ import annotations

import pyarrow as pa

from hs_analysis.schema.frames import TIME, _field

STUDY_POINTS = pa.schema(
    [
        _field("service", pa.string(), "", "namespace/model", null=False),
        _field("capture", pa.string(), "", "capture name", null=False),
        _field("signal", pa.string(), "", "catalogue signal", null=False),
        _field("role", pa.string(), "", "role of the signal", null=False),
        _field("t", TIME, "UTC", "start of the row (5 min in production)", null=False),
        _field("load", pa.float64(), "tokens/s or requests/s", "reference load the signal is judged on"),
        _field("value", pa.float64(), "unit of the signal", "the signal, normalised as the study used it"),
        _field("fit", pa.float64(), "unit of the signal", "isotonic fit at this load"),
        _field("used", pa.bool_(), "", "inside the operating range and not saturated", null=False),
    ],
    metadata={"table": "study_points", "grain": "one row per signal and study row"},
)

CAPACITY_POINTS = pa.schema(
    [
        _field("service", pa.string(), "", "namespace/model", null=False),
        _field("role", pa.string(), "", "role", null=False),
        _field("capture", pa.string(), "", "capture name", null=False),
        _field("t", TIME, "UTC", "start of the 60-s row", null=False),
        _field("load_per_instance", pa.float64(), "tokens/s", "offered work per ready instance, 5-min mean"),
        _field(
            "over_low_ratio", pa.float64(), "ratio 0..1", "share of samples over the lower edge of the limit"
        ),
        _field(
            "over_high_ratio", pa.float64(), "ratio 0..1", "share of samples over the upper edge of the limit"
        ),
        _field(
            "violates",
            pa.bool_(),
            "",
            "share over the limit is more than the SLO allows; null when undecided",
        ),
        _field("used", pa.bool_(), "", "entered the fit", null=False),
    ],
    metadata={"table": "capacity_points", "grain": "one row per role and window"},
)

CAPACITY_CURVE = pa.schema(
    [
        _field("service", pa.string(), "", "namespace/model", null=False),
        _field("role", pa.string(), "", "role", null=False),
        _field("load_per_instance", pa.float64(), "tokens/s", "load", null=False),
        _field(
            "violation_probability",
            pa.float64(),
            "ratio 0..1",
            "fitted share of violating windows; of samples over the limit where the law is load levels",
            null=False,
        ),
    ],
    metadata={"table": "capacity_curve", "grain": "one row per role and grid point"},
)

MIX = pa.schema(
    [
        _field("service", pa.string(), "", "namespace/model", null=False),
        _field("capture", pa.string(), "", "capture name", null=False),
        _field("start", TIME, "UTC", "start of the stretch", null=False),
        _field("end", TIME, "UTC", "end of the stretch", null=False),
        _field("prefill_tps", pa.float64(), "tokens/s", "mean offered cache-missed prefill work"),
        _field("decode_tps", pa.float64(), "tokens/s", "mean offered decode work"),
        _field(
            "ratio",
            pa.float64(),
            "prefill ÷ decode",
            "balanced ratio of the stretch; null without both targets",
        ),
    ],
    metadata={"table": "mix", "grain": "one row per stretch"},
)

TIMELINE = pa.schema(
    [
        _field("service", pa.string(), "", "namespace/model", null=False),
        _field("policy", pa.string(), "", "policy name", null=False),
        _field("capture", pa.string(), "", "capture name", null=False),
        _field("t", TIME, "UTC", "start of the step", null=False),
        _field("load_prefill", pa.float64(), "tokens/s", "offered prefill work"),
        _field("load_decode", pa.float64(), "tokens/s", "offered decode work"),
        _field("desired_prefill", pa.float64(), "instances", "count the policy asked for"),
        _field("desired_decode", pa.float64(), "instances", "count the policy asked for"),
        _field("ready_prefill", pa.float64(), "instances", "count able to serve"),
        _field("ready_decode", pa.float64(), "instances", "count able to serve"),
        _field("violation_probability", pa.float64(), "ratio 0..1", "expected share of violating windows"),
        _field("action", pa.string(), "", "out, in, hold or empty"),
        _field("reason", pa.string(), "", "why, in words"),
    ],
    metadata={"table": "timeline", "grain": "one row per policy and step"},
)

DETAILS: dict[str, pa.Schema] = {
    "study_points": STUDY_POINTS,
    "capacity_points": CAPACITY_POINTS,
    "capacity_curve": CAPACITY_CURVE,
    "mix": MIX,
    "timeline": TIMELINE,
}
"""For a single-pool service (role mixed) the decode columns of TIMELINE and MIX carry the pool."""
