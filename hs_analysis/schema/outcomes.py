"""Contracts of the tables that keep what stages found: one row per result, columns as in `schema.results`.

Every table also has ``service`` and ``fit``: ``whole`` for numbers from the whole window, ``train`` for those
from its first part, which selection and replay use.
"""

from __future__ import annotations

import pyarrow as pa

from hs_analysis.schema.frames import _field
from hs_analysis.schema.nested import (
    COVERAGE,
    ESTIMATE,
    FIXED_COST,
    INTERVAL,
    MOVER,
    RATIO_WINDOW,
    REASON,
    REPLICA_RATIO,
    STRETCH,
    TURN,
    TYPE_RATIO,
)

_TEXT, _NUMBER, _FLAG = pa.string(), pa.float64(), pa.bool_()
_SIGNAL_UNIT = "unit of the signal per instance"
_RATIO = "prefill ÷ decode"


def _contract(table: str, grain: str, *fields: pa.Field) -> pa.Schema:
    keys = (
        _field("service", _TEXT, "", "namespace/model", null=False),
        _field("fit", _TEXT, "", "whole or train: the part of the window behind the row", null=False),
    )
    return pa.schema([*keys, *fields], metadata={"table": table, "grain": grain})


def _signal_role() -> tuple[pa.Field, pa.Field]:
    return (
        _field("signal", _TEXT, "", "catalogue signal", null=False),
        _field("role", _TEXT, "", "prefill, decode, mixed or service", null=False),
    )


STUDY = _contract(
    "study",
    "one row per service, fit, signal and GPU type",
    *_signal_role(),
    _field("gpu_type", _TEXT, "", "GPU model; null = all together"),
    _field("source", _TEXT, "", "exporter it came from", null=False),
    _field("verdict", _TEXT, "", "proportional, guard, unusable or unknown", null=False),
    _field("reasons", pa.list_(REASON), "", "why: code, sentence, measured value, the rule's limit"),
    _field("pearson", _NUMBER, "−1..1", "correlation with the reference load"),
    _field("pearson_ci", INTERVAL, "−1..1", "95 % interval"),
    _field("spearman", _NUMBER, "−1..1", "rank correlation with the reference load"),
    _field("spearman_ci", INTERVAL, "−1..1", "95 % interval"),
    _field("spearman_highpass", _NUMBER, "−1..1", "the same without everything slower than two hours"),
    _field(
        "innovation_link", _NUMBER, "standard errors", "association of what neither series predicts of itself"
    ),
    _field("elasticity", _NUMBER, "ratio", "relative change of the signal per relative change of load"),
    _field("elasticity_ci", INTERVAL, "ratio", "95 % interval"),
    _field("elasticity_all_rows", _NUMBER, "ratio", "the same outside the operating range too"),
    _field("snr", _NUMBER, "ratio", "spread that load explains ÷ noise"),
    _field("lag_s", _NUMBER, "s", "delay of the signal behind the load; negative = ahead"),
    _field("lag_ci", INTERVAL, "s", "95 % interval"),
    _field("stability", _NUMBER, "ratio", "spread of the signal at equal load"),
    _field("drift", _NUMBER, "ratio", "slow change at equal load, relative to the elasticity"),
    _field("auc_top", _NUMBER, "ratio 0..1", "how well it tells the highest loads apart; latency and queues"),
    _field("coverage", _NUMBER, "ratio 0..1", "share of windows with a value"),
    _field("interval_s", _NUMBER, "s", "time between values that carry news"),
    _field("n_effective", _NUMBER, "rows", "effective sample size"),
    _field("turns", pa.list_(TURN), "", "single numbers that would change the verdict, nearest first"),
    _field("evidence", _TEXT, "", "path of the evidence"),
)

RECOMMENDED = _contract(
    "recommended",
    "one row per service and fit that has a recommendation",
    *_signal_role(),
    _field("why", _TEXT, "", "sentence", null=False),
    _field("runner_up", _TEXT, "", "the next best, signal@role"),
    _field("changes", pa.list_(_TEXT), "", "what would change the recommendation, in sentences"),
)

CAPACITY = _contract(
    "capacity",
    "one row per service, fit, role and GPU type",
    _field("role", _TEXT, "", "prefill, decode or mixed", null=False),
    _field("gpu_type", _TEXT, "", "GPU model; null = all together"),
    _field("signal", _TEXT, "", "signal the work is counted in", null=False),
    _field(
        "per_instance", _NUMBER, _SIGNAL_UNIT, "work at which the SLO just holds, or the most carried (floor)"
    ),
    _field("ci", INTERVAL, _SIGNAL_UNIT, "95 % interval"),
    _field("status", _TEXT, "", "ok, floor or refused", null=False),
    _field("basis", _TEXT, "", "slo, observed, bench or profile"),
    _field("reason", REASON, "", "why it is a floor or refused"),
    _field("method", _TEXT, "", "law that gave it"),
    _field("calm", _FLAG, "", "no latency over the limit at the highest loads"),
    _field("growth_ratio", _NUMBER, "ratio", "load's growth in a start-up time: q99 if calm, else q99.5"),
    _field("slope", _NUMBER, "1", "steepness of the fitted law in ln load"),
    _field("evidence", _TEXT, "", "path of the evidence"),
    _field("realised_coverage", COVERAGE, "blocks", "later blocks that agree with intervals fitted before"),
)

DEMAND = _contract(
    "demand",
    "one row per service and fit",
    _field("prefill_tps", _NUMBER, "tokens/s", "95 % quantile of offered cache-missed prefill work"),
    _field("decode_tps", _NUMBER, "tokens/s", "95 % quantile of offered decode work"),
    _field("censored_windows", pa.list_(STRETCH), "UTC", "stretches in which served work hides demand"),
    _field("reconstruction_error", _NUMBER, "ratio", "offered against served work where both are true"),
)

THRESHOLDS = _contract(
    "thresholds",
    "one row per service, fit, signal, role and GPU type",
    *_signal_role(),
    _field("gpu_type", _TEXT, "", "GPU model; null = all together"),
    _field("target_per_instance", _NUMBER, _SIGNAL_UNIT, "what one instance should carry"),
    _field("capacity", ESTIMATE, _SIGNAL_UNIT, "what the signal reads at the capacity and its interval"),
    _field("scale_out_ratio", _NUMBER, "wanted ÷ current", "scale out above"),
    _field("scale_in_ratio", _NUMBER, "wanted ÷ current", "scale in below"),
    _field("cooldown_out_s", _NUMBER, "s", "pause after scaling out"),
    _field("cooldown_in_s", _NUMBER, "s", "pause after scaling in"),
    _field("status", _TEXT, "", "ok, floor or refused", null=False),
    _field("reason", REASON, "", "why it is a floor or refused"),
    _field("noise_cv", _NUMBER, "ratio", "noise of the averaged signal ÷ its mean"),
    _field("headroom_ratio", _NUMBER, "ratio", "share of the capacity that the target uses"),
    _field("evidence", _TEXT, "", "path of the evidence"),
    _field("grows_ratio", _NUMBER, "ratio of the pool", "growth of the load within cooldown_out_s, q99.9"),
    _field("falls_ratio", _NUMBER, "ratio of the pool", "fall of the load within cooldown_in_s, q99.9"),
    _field("usual_instances", _NUMBER, "instances", "size of the pool that scale_in_ratio was set for"),
    _field(
        "highest_total", _NUMBER, "unit of the signal", "highest total seen, where growth made the target"
    ),
    _field("highest_instances", _NUMBER, "instances", "what that total needs without growth"),
)

STARTUP = _contract(
    "startup",
    "one row per service, fit and role",
    _field("role", _TEXT, "", "prefill, decode or mixed", null=False),
    _field("value_s", _NUMBER, "s", "median time from asking to the first request; floor = at least this"),
    _field("ci", INTERVAL, "s", "95 % interval of the median; the range under six births"),
    _field("births", pa.int64(), "instances", "instances it rests on", null=False),
    _field("status", _TEXT, "", "ok, floor or refused", null=False),
    _field("reason", REASON, "", "why it is a floor or refused"),
    _field(
        "source",
        _TEXT,
        "",
        "what says when they were asked for: pod_created, replicas, target or process",
        null=False,
    ),
    _field("evidence", _TEXT, "", "path of the evidence"),
)

GPU_SPEEDS = _contract(
    "gpu_speeds",
    "one row per service, fit, role and GPU type of a pool that mixes types",
    _field("role", _TEXT, "", "prefill, decode or mixed", null=False),
    _field("gpu_type", _TEXT, "", "GPU model", null=False),
    _field("instances", _NUMBER, "instances", "mean pods of the type"),
    _field("relative", _NUMBER, "ratio", "speed ÷ that of the reference type"),
    _field("ci", INTERVAL, "ratio", "95 % interval"),
    _field("reference", _TEXT, "", "the most numerous type"),
    _field("weight", _NUMBER, "equivalents", "what a pod of the type counts, 1 = the mean pod recorded"),
    _field("basis", _TEXT, "", "capacity, profile, equal_queue or bench"),
    _field("status", _TEXT, "", "ok or refused", null=False),
    _field("reason", REASON, "", "why it is refused"),
    _field("evidence", _TEXT, "", "path of the evidence"),
    _field("pods", pa.int64(), "instances", "pods that make up the 95 % demand, the fastest type first"),
)

RELEASES = _contract(
    "releases",
    "one row per service, fit and version of a pool that came inside the window",
    _field("role", _TEXT, "", "prefill, decode or mixed", null=False),
    _field("kind", _TEXT, "", "released, tried or under_way", null=False),
    _field("what", _TEXT, "", "what tells the versions apart", null=False),
    _field("before", _TEXT, "", "version before", null=False),
    _field("after", _TEXT, "", "version that came", null=False),
    _field("start", _TEXT, "UTC", "when it was first seen", null=False),
    _field("end", _TEXT, "UTC", "when the one that went was last seen", null=False),
    _field("used_h", _NUMBER, "h", "hours that the numbers of the pool stand on", null=False),
    _field("left_out_h", _NUMBER, "h", "hours left out for its releases", null=False),
    _field("text", _TEXT, "", "the same in words", null=False),
)

PD_RATIO = _contract(
    "pd_ratio",
    "one row per service and fit",
    _field("value", _NUMBER, _RATIO, "instances per instance"),
    _field("ci", INTERVAL, _RATIO, "95 % interval"),
    _field("status", _TEXT, "", "ok, floor, drifting or refused", null=False),
    _field("at_least", _NUMBER, _RATIO, "one-sided bound"),
    _field("at_most", _NUMBER, _RATIO, "one-sided bound"),
    _field("reason", REASON, "", "why it is not ok"),
    _field("band", INTERVAL, _RATIO, "range it moves in"),
    _field("by_window", pa.list_(RATIO_WINDOW), _RATIO, "ratio of each stretch"),
    _field("integer_pairs", pa.list_(pa.list_(pa.int64())), "instances", "pairs near the value, best first"),
    _field("evidence", _TEXT, "", "path of the evidence"),
    _field("moved_by", pa.list_(MOVER), "ratio", "inputs of the mix and the share of its movement of each"),
    _field("fixed_costs", pa.list_(FIXED_COST), "ratio", "what holding one ratio costs against following"),
    _field("by_gpu_type", pa.list_(TYPE_RATIO), _RATIO, "pods of one GPU type per pod of another"),
    _field("from_replicas", REPLICA_RATIO, _RATIO, "what a history of changing counts shows, a cross-check"),
)

REFUSALS = _contract(
    "refusals",
    "one row per service, fit and unanswered question",
    _field("what", _TEXT, "", "the number that is missing", null=False),
    _field("code", _TEXT, "", "cause", null=False),
    _field("text", _TEXT, "", "sentence", null=False),
    _field("collect", _TEXT, "", "what to record to answer it", null=False),
)

SELECTION = _contract(
    "select",
    "one row per service and candidate policy",
    _field("policy", _TEXT, "", "name of the candidate", null=False),
    *_signal_role(),
    _field("score", _NUMBER, "hours", "what selection minimises; null = could not be simulated"),
    _field("gpu_hours", _NUMBER, "GPU-hours", "on the training window"),
    _field("instance_hours", _NUMBER, "instance-hours", "on the training window"),
    _field("slo_violation_ratio", _NUMBER, "ratio 0..1", "share of windows over the SLO"),
    _field("actions_per_day", _NUMBER, "1/day", "scaling actions"),
    _field("chosen", _FLAG, "", "whether selection took it", null=False),
    _field("reason", _TEXT, "", "why it was or was not", null=False),
)

REPLAY_WINDOWS = _contract(
    "replay_windows",
    "one row per service",
    _field("train", pa.list_(_TEXT), "UTC", "first and last moment of the training window"),
    _field("test", pa.list_(_TEXT), "UTC", "first and last moment of the test window"),
    _field("calibration", _TEXT, "JSON", "recorded against replayed violations of what ran", null=False),
)

REPLAY_POLICIES = _contract(
    "replay_policies",
    "one row per service and policy",
    _field("policy", _TEXT, "", "name", null=False),
    _field("gpu_hours", _NUMBER, "GPU-hours", "on the test window"),
    _field("instance_hours", _NUMBER, "instance-hours", "on the test window"),
    _field("slo_violation_ratio", _NUMBER, "ratio 0..1", "share of windows over the SLO"),
    _field("actions_per_day", _NUMBER, "1/day", "scaling actions"),
    _field("reversals_per_day", _NUMBER, "1/day", "actions that undo the one before"),
    _field("overshoot_ratio", _NUMBER, "ratio", "instances beyond need ÷ need"),
    _field("unserved_tokens", _NUMBER, "tokens", "work never served"),
    _field("vs_static_peak", _NUMBER, "ratio", "against a fleet fixed at its peak"),
    _field("vs_recorded", _NUMBER, "ratio", "against the recorded counts"),
    _field("evidence", _TEXT, "", "path of the evidence"),
    _field("recovery_s", _NUMBER, "s", "longest stretch in which windows are expected to violate"),
    _field("pd_imbalance_ratio", _NUMBER, "ratio 0..1", "room of one pool that the other can't match"),
    _field("slo_violation_s", _NUMBER, "s", "expected time in windows over the SLO"),
    _field("slo_violation_tokens", _NUMBER, "tokens", "output tokens served in windows over the SLO"),
    _field("vs_hindsight", _NUMBER, "ratio", "against the cheapest schedule found with the future known"),
    _field(
        "vs_current", _NUMBER, "ratio", "against today's autoscaler; null when not given or not comparable"
    ),
    _field("instance_hours_ci", INTERVAL, "instance-hours", "95 % interval; see interval_basis"),
    _field("slo_violation_ci", INTERVAL, "ratio 0..1", "95 % interval; see interval_basis"),
    _field("vs_recorded_ci", INTERVAL, "ratio", "95 % interval; see interval_basis"),
    _field("slo_violation_s_ci", INTERVAL, "s", "95 % interval; see interval_basis"),
    _field("slo_violation_tokens_ci", INTERVAL, "tokens", "95 % interval; see interval_basis"),
    _field("vs_static_peak_ci", INTERVAL, "ratio", "95 % interval; see interval_basis"),
    _field("vs_hindsight_ci", INTERVAL, "ratio", "95 % interval; see interval_basis"),
    _field("vs_current_ci", INTERVAL, "ratio", "95 % interval; see interval_basis"),
    _field("interval_reason", _TEXT, "", "why there are no intervals"),
    _field("cost", _NUMBER, "currency of [prices]", "on the test window; null where a price is not given"),
    _field("interval_basis", _TEXT, "", "what intervals are drawn from: days or hours"),
    _field("slo_violation_range", INTERVAL, "ratio 0..1", "how far the replay may be off; null = no claim"),
    _field("slo_side", _TEXT, "", "of the allowed share of windows: under, over or unclear"),
)

FAULTS = _contract(
    "replay_faults",
    "one row per service, policy and fault asked for; fault none is the same hours undisturbed",
    _field("policy", _TEXT, "", "name", null=False),
    _field("fault", _TEXT, "", "name", null=False),
    _field("text", _TEXT, "", "what happens", null=False),
    _field("places", pa.int64(), "", "at how many hours it was tried"),
    _field("slo_violation_ratio", _NUMBER, "ratio 0..1", "mean, from its start to two hours after its end"),
    _field("worst_violation_ratio", _NUMBER, "ratio 0..1", "the same of the worst hour"),
    _field("recovery_s", _NUMBER, "s", "longest, from its end to the last window it makes violate"),
    _field("unserved_tokens", _NUMBER, "tokens", "most work still waiting two hours after a fault"),
    *(
        _field(f"{count}_{role}", _NUMBER, "instances", f"fewest {what} in the fault; null = no such pool")
        for count, what in (("lowest", "asked for"), ("lowest_ready", "able to serve"))
        for role in ("prefill", "decode", "mixed")
    ),
)

PLACEMENT = _contract(
    "replay_placement",
    "one row per service and policy, where a topology was given",
    _field("policy", _TEXT, "", "name", null=False),
    _field("unplaced_instance_hours", _NUMBER, "instance-hours", "wanted, and found no place"),
    _field("unplaced_window_ratio", _NUMBER, "ratio 0..1", "windows in which a wanted instance had none"),
    _field("crossing_ratio", _NUMBER, "ratio 0..1", "KV traffic whose partner is in another network domain"),
    _field("scarce_instance_hours", _NUMBER, "instance-hours", "on subgroups of several GPU types"),
    _field("slo_violation_ratio", _NUMBER, "ratio 0..1", "share of windows over the SLO, all placed"),
    _field("placed_slo_violation_ratio", _NUMBER, "ratio 0..1", "the same with what found a place"),
    _field("unserved_tokens", _NUMBER, "tokens", "work never served, all placed"),
    _field("placed_unserved_tokens", _NUMBER, "tokens", "the same with what found a place"),
)

DRIVERS = _contract(
    "drivers",
    "one row per service and signal that was tried as the driver of its pool",
    *_signal_role(),
    _field("pool", _TEXT, "", "pool it drove; empty when none answers to it", null=False),
    _field("verdict", _TEXT, "", "what the study says of it", null=False),
    _field("target_per_instance", _NUMBER, _SIGNAL_UNIT, "what it reads at the derived target load"),
    _field("load_dip_ratio", _NUMBER, "ratio", "load in its lowest tenth ÷ in its highest, hourly means"),
    _field("dip_ratio", _NUMBER, "ratio", "instances at the dip of the load ÷ at its peak"),
    _field("correlation", _NUMBER, "−1..1", "instances with 5-min load"),
    _field("reversals_per_day", _NUMBER, "1/day", "moves of the pool that undo the one before"),
    _field("instance_hours", _NUMBER, "instance-hours", "of the pool, on the test window"),
    _field("strain_ratio", _NUMBER, "ratio 0..1", "expected share of windows over capacity"),
    _field("reading", _TEXT, "", "what that means, or why it was not tried", null=False),
    _field("evidence", _TEXT, "", "path of the evidence"),
)

OUTCOMES: dict[str, pa.Schema] = {
    "study": STUDY,
    "recommended": RECOMMENDED,
    "capacity": CAPACITY,
    "demand": DEMAND,
    "thresholds": THRESHOLDS,
    "startup": STARTUP,
    "gpu_speeds": GPU_SPEEDS,
    "releases": RELEASES,
    "pd_ratio": PD_RATIO,
    "refusals": REFUSALS,
    "select": SELECTION,
    "replay_windows": REPLAY_WINDOWS,
    "replay_policies": REPLAY_POLICIES,
    "replay_faults": FAULTS,
    "replay_placement": PLACEMENT,
    "drivers": DRIVERS,
}
