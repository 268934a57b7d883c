"""A policy that watches everything, counters of a healthy service, and what is changed so that alerts fire.

Counters are lines of promtool's rule tests, one sample a minute, every expected value known by hand.
"""

from __future__ import annotations

from dataclasses import replace

from export.scenes import full_policy

from hs_analysis.export import ExportOptions, Measured, Watched, WatchedLength, WatchedLimit
from hs_analysis.policy.model import Policy
from hs_analysis.schema.limit_edges import LimitEdges

MINUTES = 140
"""How long a case lasts: an hour of data, an hour for which the slowest alert waits, and some more."""


def rate(metric: str, **labels: str) -> str:
    matchers = ",".join(f'{name}="{value}"' for name, value in labels.items())
    return f"sum(rate({metric}{{{matchers}}}[2m]))"


def over(metric: str, edge: str) -> str:
    everything = rate(metric, le="+Inf")
    return f"({everything} - {rate(metric, le=edge)}) / {everything}"


WATCHED = Watched(
    limits=(
        WatchedLimit(
            "prefill",
            LimitEdges("ttft", "x", 1.0, 1.0, 1.0),
            over("ttft_bucket", "1"),
            over("ttft_bucket", "1"),
        ),
        WatchedLimit(
            "decode",
            LimitEdges("tbt", "x", 0.05, 0.04, 0.08),
            over("tbt_bucket", "0.04"),
            over("tbt_bucket", "0.08"),
        ),
    ),
    lengths=(
        WatchedLength("prompt_tokens", "sum(rate(prompt[1h]))", "sum(rate(started[1h]))", 1900.0, 2100.0),
        WatchedLength("output_tokens", "sum(rate(output[1h]))", "sum(rate(ended[1h]))", 190.0, 210.0),
    ),
    instances={
        "prefill": 'count(count by (pod) (rate(tokens{job="prefill"}[2m])))',
        "decode": 'count(count by (pod) (rate(tokens{job="decode"}[2m])))',
    },
)


def between_the_edges() -> Watched:
    """Return the same with no edge at the limit of TTFT: 0.8 s below it, 1.2 s above it."""
    edges = LimitEdges("ttft", "x", 1.0, 0.8, 1.2)
    ttft = WatchedLimit("prefill", edges, over("ttft_bucket", "0.8"), over("ttft_bucket", "1.2"))
    return replace(WATCHED, limits=(ttft, *WATCHED.limits[1:]))


OPTIONS = ExportOptions(measured=Measured(slo_quantile=0.95), watched=WATCHED)


def watched_policy(**changes: object) -> Policy:
    """Return a policy of one decode primary that keeps P/D at 0.5, with guards on both latencies."""
    policy = full_policy(**changes)
    (primary,) = policy.primaries
    ttft, tbt = policy.guards
    return replace(
        policy,
        primaries=(replace(primary, promql=rate("tokens", job="decode")),),
        guards=(
            replace(ttft, promql="sum(rate(ttft_sum[2m])) / sum(rate(ttft_count[2m]))"),
            replace(tbt, promql="sum(rate(tbt_sum[2m])) / sum(rate(tbt_count[2m]))"),
        ),
    )


def healthy(decode: int = 8, prefill: int = 4) -> dict[str, float]:
    """Return what each counter gains a minute: 10 requests/s, 3,000 tokens/s a decode instance, 2 % slow."""
    second = 60.0
    return {
        **{f'tokens{{job="decode",pod="d{i}"}}': 3000.0 * second for i in range(decode)},
        **{f'tokens{{job="prefill",pod="p{i}"}}': 1500.0 * second for i in range(prefill)},
        'ttft_bucket{le="1"}': 9.8 * second,
        'ttft_bucket{le="+Inf"}': 10.0 * second,
        "ttft_sum": 4.0 * second,
        "ttft_count": 10.0 * second,
        'tbt_bucket{le="0.04"}': 98.0 * second,
        'tbt_bucket{le="0.08"}': 99.0 * second,
        'tbt_bucket{le="+Inf"}': 100.0 * second,
        "tbt_sum": 2.0 * second,
        "tbt_count": 100.0 * second,
        "prompt": 20_000.0 * second,
        "started": 10.0 * second,
        "output": 2000.0 * second,
        "ended": 10.0 * second,
    }


Fired = set[tuple[str, str]]
"""(alert, its signal or role), of those that fire."""

PLANTED: dict[str, tuple[dict[str, float], Fired]] = {
    "healthy": ({}, set()),
    "ttft over its limit": (
        # 6 % over 1 s at a load above the target: the SLO alone.
        {'ttft_bucket{le="1"}': 9.4 * 60}
        | {f'tokens{{job="decode",pod="d{i}"}}': 3900.0 * 60 for i in range(8)},
        {("HsTtftOverSlo", "ttft")},
    ),
    "tbt over the edge above its limit, load above the target": (
        {'tbt_bucket{le="0.04"}': 93.0 * 60, 'tbt_bucket{le="0.08"}': 94.0 * 60}
        | {f'tokens{{job="decode",pod="d{i}"}}': 3900.0 * 60 for i in range(8)},
        {("HsTbtOverSlo", "tbt"), ("HsTbtMayBeOverSlo", "tbt")},
    ),
    "tbt between the edges": ({'tbt_bucket{le="0.04"}': 90.0 * 60}, {("HsTbtMayBeOverSlo", "tbt")}),
    "tbt over its limit below the target": (
        {'tbt_bucket{le="0.04"}': 93.0 * 60, 'tbt_bucket{le="0.08"}': 94.0 * 60},
        {("HsTbtOverSlo", "tbt"), ("HsTbtMayBeOverSlo", "tbt"), ("HsTargetDrifted", "decode_tps")},
    ),
    "prompts half as long": ({"prompt": 10_000.0 * 60}, {("HsMixDrifted", "prompt_tokens")}),
    "outputs twice as long": ({"output": 4000.0 * 60}, {("HsMixDrifted", "output_tokens")}),
    "outputs twice as long, too few requests": (
        {"output": 400.0 * 6, "ended": 1.0 * 6},
        set(),
    ),
    "mean ttft at its guard": ({"ttft_sum": 11.0 * 60}, {("HsGuardReached", "ttft")}),
    # The guard of TBT has its lower tier at 1.2 times the limit.
    "mean tbt at its guard": ({"tbt_sum": 6.1 * 60}, {("HsGuardReached", "tbt")}),
    "mean tbt below its guard": ({"tbt_sum": 5.9 * 60}, set()),
}
"""What changes in the healthy counters, and what fires then."""

GONE: dict[str, tuple[tuple[str, ...], Fired]] = {
    "decode tokens gone": (
        ('tokens{job="decode"',),
        {("HsSignalMissing", "decode_tps")},
    ),
    "ttft gone": (("ttft_sum", "ttft_count"), {("HsSignalMissing", "ttft")}),
    "tbt gone": (("tbt_sum", "tbt_count"), {("HsSignalMissing", "tbt")}),
}
"""Counters that are not there, by the beginning of their names, and what fires then."""

BETWEEN: dict[str, tuple[dict[str, float], Fired]] = {
    "ttft below both edges": ({'ttft_bucket{le="0.8"}': 9.6 * 60, 'ttft_bucket{le="1.2"}': 9.7 * 60}, set()),
    "ttft between its edges": (
        {'ttft_bucket{le="0.8"}': 9.3 * 60, 'ttft_bucket{le="1.2"}': 9.7 * 60},
        {("HsTtftMayBeOverSlo", "ttft")},
    ),
    # At a load above the target: the SLO alone.
    "ttft over both edges": (
        {'ttft_bucket{le="0.8"}': 9.3 * 60, 'ttft_bucket{le="1.2"}': 9.4 * 60}
        | {f'tokens{{job="decode",pod="d{i}"}}': 3900.0 * 60 for i in range(8)},
        {("HsTtftMayBeOverSlo", "ttft"), ("HsTtftOverSlo", "ttft")},
    ),
}
"""The same where no edge lies at the limit of TTFT (`between_the_edges`)."""

SPLITS: dict[str, tuple[int, int, Fired]] = {
    # The rule leaves 0.44 to 0.56, dead bands widen it to 0.367 to 0.692: 8 decode want 2 to 6 prefill.
    "as many as fit": (8, 6, set()),
    "one prefill too many": (8, 7, {("HsRatioOutOfBand", "")}),
    "as few as fit": (8, 2, set()),
    "one prefill too few": (8, 1, {("HsRatioOutOfBand", "")}),
    # A pool at its minimum, of 2 prefill or 3 decode, is too large by intention.
    "prefill at its minimum": (1, 2, set()),
    "prefill above its minimum": (1, 3, {("HsRatioOutOfBand", "")}),
    "no decode instance": (0, 4, {("HsSignalMissing", "decode_tps")}),
}
"""Decode and prefill instances, and what fires then."""


def without(counters: dict[str, float], gone: tuple[str, ...]) -> dict[str, float]:
    return {name: gain for name, gain in counters.items() if not name.startswith(gone)}


def cases() -> dict[str, tuple[dict[str, float], Fired]]:
    """Return the counters of every case, and what fires in it."""
    planted = {name: (healthy() | change, fired) for name, (change, fired) in PLANTED.items()}
    gone = {name: (without(healthy(), which), fired) for name, (which, fired) in GONE.items()}
    splits = {name: (healthy(decode, prefill), fired) for name, (decode, prefill, fired) in SPLITS.items()}
    return planted | gone | splits
