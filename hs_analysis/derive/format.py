"""Texts for a number that is missing: why, and what to record to get it."""

from __future__ import annotations

from dataclasses import replace

from hs_analysis.schema.aligned import HIT_RATE_TEXT
from hs_analysis.schema.results import PLAN_TEST, Reason, Refusal

OTHER_OF = {"prefill": "decode", "decode": "prefill", "mixed": "mixed"}
"""The pool that each works with."""

LIMIT_OF = {"prefill": "TTFT", "decode": "TBT", "mixed": "TTFT and TBT"}
"""Latency that each role answers for."""

CAPACITY_TEXT = {
    "no_slo": (
        "no limit on {latency} was given: the number is what the pool carried, without a claim on latency"
    ),
    "no_latency_histogram": (
        "a limit on {latency} was given, but the input has no histogram of it: the number is what the pool"
        " carried, without a claim on latency"
    ),
    "no_violations": "{latency} never broke its limit, so the limit lies above every load seen",
    "kv_full": (
        "{latency} never broke its limit, but KV memory was full at the highest loads, so that the pool may"
        " carry no more than it did"
    ),
    "thin": "{detail}: too few to say at which load the limit breaks",
    "cannot_fit": ("{latency} broke its limit, but the load at which it does can't be pinned: {detail}"),
    "low_load_breaks": (
        "{latency} breaks its limit at low loads too, so that not the load alone does it: {detail}"
    ),
    "undecided_edge": (
        "{latency} broke the histogram edge below its limit, but at which load it breaks the limit is not"
        " known: {detail}"
    ),
    "below_first_edge": (
        "the limit on {latency} lies below the first edge of its histogram, so that no load is known to keep"
        " it: a number is what the pool carried, without a claim on latency"
    ),
    "one_role": (
        "the input shows no {other} instances, and a pool that can't keep up holds the other up: at which"
        " load {latency} breaks its limit is not known from one of them"
    ),
    "no_work": (
        "the input has no work of this role: neither offered nor served tokens per second and instances"
    ),
    "no_load": (
        "the input has work of this role, but not one 5-minute mean of it per instance: the window is too"
        " short, mostly gaps, or without the pool's instance count"
    ),
    "no_prompt_tokens": (
        "the input has no prompt tokens, neither all of them nor those that missed the cache, and nothing"
        " else is prefill's work"
    ),
    "hit_rate_unknown": (
        f"{HIT_RATE_TEXT}, so all of them count as prefill's work: what an instance carries moves"
        " with the hit rate, and the number is no more than a floor"
    ),
}
"""Sentence of each code of a capacity; {latency}, {other} and {detail} are filled in."""

ADD_EDGE = "give the latency histogram an edge at the limit, or choose a limit that is an edge of it"
"""What to do where the buckets can't tell."""

CAPACITY_COLLECT = {
    "no_slo": "give the limits the service has to keep: --slo ttft=…, --slo tbt=…",
    "no_latency_histogram": (
        "export the _bucket series of {latency}, of the front end where there is one, with an edge at the"
        " limit"
    ),
    "undecided_edge": ADD_EDGE,
    "below_first_edge": ADD_EDGE,
    "no_violations": (
        "run the {role} pool with fewer instances through one peak, or raise its load on purpose above"
        " {above} per instance, until the limit breaks in at least 3 separate episodes; or run a"
        " pressure test up to there"
    ),
    "kv_full": (
        "give {role} instances more KV memory if they shall carry more: it is full before the limit on"
        " {latency} is met"
    ),
    "thin": (
        "record 2 to 3 more days with peaks like these: at least 3 separate episodes over the limit, more"
        " than 10 minutes apart, pin it"
    ),
    "load_range": (
        "record a day or more in which load at least doubles between its quiet and its busy hours, or step"
        " the load up and down on purpose"
    ),
    "cannot_fit": (
        "hold the {role} pool at 0.8, 0.9 and 1.0 of {above} per instance for five minutes or"
        " more each, or record more days with gentle ramps through that load"
    ),
    "low_load_breaks": (
        "give a limit that quiet hours keep, or find what makes {latency} slow at low load: long prompts, or"
        " an incident, which --exclude leaves out"
    ),
    "one_role": (
        "export the metrics of the {other} pool too, or map its instances to their role in [roles]; or press"
        " the {role} pool to its limit with {other} instances to spare"
    ),
    "no_work": "export the token counters and the instance count of the {role} pool",
    "no_load": (
        "record for longer, 8 hours or more with a real ramp, and keep a series per instance of the {role}"
        " pool"
    ),
    "no_prompt_tokens": (
        "export a counter of prompt tokens, best of those that were not served from cache, for instance"
        " vllm:prompt_tokens_by_source_total"
    ),
    "hit_rate_unknown": (
        "switch on a counter of prompt tokens that were not served from cache, for instance"
        " vllm:prompt_tokens_by_source_total"
    ),
}
"""What to record for each code of a capacity; {role}, {other}, {latency} and {above} are filled in."""

TEST_COLLECT = {
    "no_violations": (
        "step the load of the {role} pool further up, above {above} per instance, until"
        " {latency} breaks its limit in at least 5 windows"
    ),
    "thin": (
        "repeat the test with more time about the limit: at least 5 windows over it and 5 under it, 12 in all"
    ),
    "load_range": (
        "repeat the test over a wider range: three levels or more, the highest at least twice the lowest, up"
        " and down"
    ),
}
"""What to record where the history is a pressure test, for the codes that differ."""

LOWER_COLLECT = (
    "record quieter hours too, or step the load of the {role} pool down on purpose until {latency} keeps its"
    " limit for five minutes or more, and up again"
)
"""What to record where even the lowest load seen broke the limit."""

RATIO_COLLECT = {
    "single_pool": "nothing: one pool does both, there is no ratio to set",
    "one_role": "export the metrics of both pools, or map its instances to their role in [roles]",
    "no_prompt_tokens": CAPACITY_COLLECT["no_prompt_tokens"],
    "hit_rate_unknown": CAPACITY_COLLECT["hit_rate_unknown"],
    "capacity_refused": "what the refusal of that capacity asks for; the ratio follows from it",
    "capacity_floor": "what the capacity of {open} asks for; the ratio follows from both",
    "undecided_edge": ADD_EDGE,
    "mix_moves": (
        "nothing more of the same: the mix itself moves; size each pool on its own signal, or fit hours of"
        " the day apart"
    ),
    "no_common_rows": "record both pools over the same hours, with stretches in which neither is saturated",
    "thin": (
        "record for longer: 6 hours or more of both pools, or a pressure test of at least 12 windows each"
    ),
    "load_range": (
        "record a day or more in which the load of both pools at least doubles between quiet and busy hours,"
        " or step it up and down on purpose"
    ),
    "edge_of_sweep": "test splits beyond the best one, until one serves less",
    "sweep_undecided": (
        "give the latency histogram an edge at the limit, or repeat the test with the best split alone"
    ),
    "mean_only": "repeat the test with a benchmark that reports the quantile of the objective",
    "none_holds": "test at a lower load, or with other splits, until one holds the limits",
    "no_throughput": "give the output tokens per second of each split, or its concurrency",
    "test_not_declared": "run it again with --pressure-test, which compares these splits",
    "mixes_differ": (
        "nothing more of the same: each token mix has a best split of its own; size each pool on its own"
        " signal, or serve the mixes apart"
    ),
}
"""What to record for each code of a ratio that is not `ok`; {open} is the pools whose capacity is a floor."""

NO_HISTORY_COLLECT = (
    "record the metrics of the service under its own load for a day or more, better seven (hsa pull): they"
    " give the signal to follow, the targets and what a policy saves"
)
"""What to record where the input holds benchmarks alone."""

TESTABLE = ("no_violations", "thin", "load_range", "cannot_fit", "one_role")
"""Codes of a capacity that a load test answers."""

STARTUP_COLLECT = (
    "give the seconds from asking for a {role} instance to its first request: --startup 240s, or {role} under"
    " [startup] in hsa.toml; or record kube-state-metrics (kube_pod_created) while at least three {role}"
    " instances are added"
)

CENSORED_COLLECT = (
    "export a counter of started requests at the front end, so that work can be counted when it is asked for"
    " and not only when it is served"
)

MIXED_TYPES_COLLECT = (
    "split the {role} pool by GPU type (one service name or role per type), or record per-type token counters"
)

NOISE_COLLECT = (
    "record at least an hour without gaps, so that the noise of {signal} can be separated from its movement"
)


def amount(value: float, unit: str) -> str:
    """Return an amount of work in words: whole tokens; requests, which are few, to two digits."""
    return f"{value:.0f} {unit}" if unit == "tokens/s" else f"{value:.2g} {unit}"


def capacity_reason(
    code: str, role: str, detail: str = "", value: float | None = None, limit: float | None = None
) -> Reason:
    """Return the reason of a capacity, in words."""
    return Reason(
        code,
        CAPACITY_TEXT[code].format(latency=LIMIT_OF[role], other=OTHER_OF[role], detail=detail),
        value,
        limit,
    )


def elsewhere(reason: Reason, role: str, windows: int) -> Reason:
    """Return the reason of a limit that no load broke, where windows that do not show the load broke it."""
    text = (
        f"{LIMIT_OF[role]} broke its limit only in {windows:,} windows that do not show what {role} carries:"
        " another pool held it up, demand was hidden, or counts had just changed; the limit lies above every"
        " other load seen"
    )
    return replace(reason, text=text)


def capacity_refusal(
    role: str, reason: Reason, above: float | None, *, test: bool, unit: str = "tokens/s"
) -> Refusal:
    """Return what to record for a capacity that is not `ok`.

    Parameters
    ----------
    role, reason
        The capacity's.
    above
        Load to go beyond [`unit` per instance], None where no load is known to hold.
    test
        Whether the history is a pressure test.
    """
    template = (CAPACITY_COLLECT | TEST_COLLECT if test else CAPACITY_COLLECT)[reason.code]
    if above is None and "{above" in template:
        template = LOWER_COLLECT
    load = "" if above is None else amount(above, unit)
    collect = template.format(role=role, other=OTHER_OF[role], latency=LIMIT_OF[role], above=load)
    if reason.code in TESTABLE:
        collect += PLAN_TEST
    return Refusal(f"capacity@{role}", reason.code, reason.text, collect)
