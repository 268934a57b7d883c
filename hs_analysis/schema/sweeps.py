"""Ratio tests, profiles, a moving mix and planned tests: results, and the contracts of their tables."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import pyarrow as pa

from hs_analysis.schema.frames import _field
from hs_analysis.schema.nested import INTERVAL, REASON
from hs_analysis.schema.results import Interval, Reason

Pair = tuple[int, int]
JudgedOn = Literal["slo", "decode_tps"]


@dataclass(frozen=True)
class SweepResult:
    """The best split of one ratio test, for one token mix.

    Attributes
    ----------
    name
        Service of a sweep over captures, or what the benchmark points have in common.
    source
        ``captures`` or ``bench``.
    isl, osl
        Mean prompt and output length of the mix [tokens].
    judged_on
        ``slo``, or ``decode_tps`` where no limit was given (or asked for).
    ttft_s, tbt_s, quantile
        The limits it was judged by [s, s, ratio].
    status
        ``ok``, ``undecided`` (the winner may break a limit), ``indicative`` (judged by means) or ``refused``.
    best, ratio, gpu_ratio
        The best split measured (P, D), as P ÷ D in instances and in GPUs.
    score, unit
        What it served.
    near, near_ratio
        Splits within 3 % of it, best first, and the range of their ratios: the optimum is flat.
    load, label
        Load and capture (or layout) of the best trial.
    decides
        What holds it back: ttft, tbt, both or throughput.
    edge
        Where the best split is the edge of the sweep: least_prefill or most_prefill.
    tested
        All splits, by ratio.
    continuous, at_least, at_most, continuous_reason
        The balance min(αP, βD) of the splits, without an objective; or a bound; or why there is none.
    pairs
        Whole-number splits by the continuous ratio, for as many instances as the best split has, one less
        and one more.
    prefill_rps, decode_rps
        α and β: requests/s of an instance while its role holds the splits back; None where none did.
    disagreement, disagreement_text
        Continuous ratio ÷ best measured ratio − 1, and in words.
    """

    name: str
    source: Literal["captures", "bench"]
    isl: float | None = None
    osl: float | None = None
    judged_on: JudgedOn = "slo"
    ttft_s: float | None = None
    tbt_s: float | None = None
    quantile: float | None = None
    status: Literal["ok", "undecided", "indicative", "refused"] = "refused"
    best: Pair | None = None
    ratio: float | None = None
    gpu_ratio: float | None = None
    score: float | None = None
    unit: str = ""
    near: tuple[Pair, ...] = ()
    near_ratio: Interval | None = None
    load: float | None = None
    label: str = ""
    decides: str | None = None
    edge: str | None = None
    tested: tuple[Pair, ...] = ()
    continuous: float | None = None
    at_least: float | None = None
    at_most: float | None = None
    continuous_reason: Reason | None = None
    pairs: tuple[Pair, ...] = ()
    disagreement: float | None = None
    disagreement_text: str | None = None
    reason: Reason | None = None
    evidence: str = ""
    prefill_rps: float | None = None
    decode_rps: float | None = None


@dataclass(frozen=True)
class ProfileRatio:
    """What the profiles of one prefill and one decode instance give for some requests.

    Attributes
    ----------
    name
        What the two profiles have in common.
    isl, osl
        Mean lengths of the requests [tokens].
    requests
        How many there are.
    outside_ratio
        Share of them outside the grid.
    ttft_s, tbt_s
        Limits [s].
    status
        ok or refused.
    prefill_tps, decode_tps
        Work one instance does under the limits, over the requests inside [tokens/s].
    ratio
        Prefill ÷ decode instances.
    reason
        Why it is refused.
    source
        Whose requests: a capture's log, or a service's mean lengths.
    inside_ratio
        Ratio that the requests inside the grid alone ask for.
    """

    name: str
    isl: float | None
    osl: float | None
    requests: int
    outside_ratio: float
    ttft_s: float | None
    tbt_s: float | None
    status: Literal["ok", "refused"] = "refused"
    prefill_tps: float | None = None
    decode_tps: float | None = None
    ratio: float | None = None
    reason: Reason | None = None
    source: str = ""
    inside_ratio: float | None = None


@dataclass(frozen=True)
class BenchSpeed:
    """What one GPU type (or set-up) of a benchmark serves against the others of it, per GPU.

    Attributes
    ----------
    name
        What the points have in common.
    isl, osl
        Mean lengths of the requests [tokens].
    gpu_type
        The type as the benchmark names it.
    gpus
        GPUs of the set-up.
    tps_per_gpu
        Highest decode tokens/s per GPU at the loads that every type was tested at, within the limits.
    load
        Load of that point: requests/s, or requests in flight.
    relative, reference
        Against the type that serves least [ratio].
    reason
        What to know of it; None where it is as measured.
    """

    name: str
    isl: float | None
    osl: float | None
    gpu_type: str
    gpus: float | None
    tps_per_gpu: float
    load: float | None
    relative: float
    reference: str
    reason: Reason | None = None


@dataclass(frozen=True)
class Level:
    """A load level of a test: its place, load per instance [tokens/s], rate [requests/s], minutes."""

    number: int
    load: float
    request_rate: float | None
    minutes: float


@dataclass(frozen=True)
class PlannedTest:
    """The test that would answer one refusal or floor.

    Attributes
    ----------
    service, what, code
        The refusal it answers.
    role
        The pool that is pressed; empty for a ratio, which follows from the tests of both.
    prefill, decode, mixed
        Instances of each pool in the test.
    levels
        Load levels in the order they are run.
    instance_hours, gpu_hours
        Its cost; GPU-hours are None where the GPUs of an instance are not known.
    expect_ratio
        Upper half of the 95 % interval to expect, as a share of the value [ratio].
    spread
        Standard deviation of ln value behind it: √(systematic² + ln(step)² ÷ 12 + noise² ÷ windows a level).
    isl, osl
        Prompt and output tokens of a request; prompts of generators are random, so that nothing is cached:
        the length is what is computed of a prompt.
    text
        What to do, in words.
    """

    service: str
    what: str
    code: str
    role: str
    prefill: int | None
    decode: int | None
    mixed: int | None
    levels: tuple[Level, ...]
    instance_hours: float
    gpu_hours: float | None
    expect_ratio: float
    spread: float
    isl: float | None
    osl: float | None
    text: str
    evidence: str = ""


_TEXT, _NUMBER = pa.string(), pa.float64()
_PAIR, _PAIRS = pa.list_(pa.int64()), pa.list_(pa.list_(pa.int64()))
_RATIO = "prefill ÷ decode"

SWEEPS = pa.schema(
    [
        _field("name", _TEXT, "", "service, or what the benchmark points have in common", null=False),
        _field("source", _TEXT, "", "captures or bench", null=False),
        _field("isl", _NUMBER, "tokens", "mean prompt length"),
        _field("osl", _NUMBER, "tokens", "mean output length"),
        _field("judged_on", _TEXT, "", "slo or decode_tps", null=False),
        _field("ttft_s", _NUMBER, "s", "limit on time to first token"),
        _field("tbt_s", _NUMBER, "s", "limit on time between tokens"),
        _field("quantile", _NUMBER, "ratio 0..1", "share that must be within the limits"),
        _field("status", _TEXT, "", "ok, undecided, indicative or refused", null=False),
        _field("best", _PAIR, "instances", "best split measured, prefill and decode"),
        _field("ratio", _NUMBER, _RATIO, "of that split, in instances"),
        _field("gpu_ratio", _NUMBER, _RATIO, "the same in GPUs"),
        _field("score", _NUMBER, "see unit", "what it served, times the share inside the limits"),
        _field("unit", _TEXT, "", "unit of the score", null=False),
        _field("near", _PAIRS, "instances", "splits within 3 % of it, best first"),
        _field("near_ratio", INTERVAL, _RATIO, "range of their ratios"),
        _field("load", _NUMBER, "requests/s or requests in flight", "load of the best trial"),
        _field("label", _TEXT, "", "capture or layout of the best trial", null=False),
        _field("decides", _TEXT, "", "what holds it back: ttft, tbt, both or throughput"),
        _field("edge", _TEXT, "", "least_prefill or most_prefill where it is the edge of the sweep"),
        _field("tested", _PAIRS, "instances", "all splits, by ratio"),
        _field("continuous", _NUMBER, _RATIO, "balance of the splits, without an objective"),
        _field("at_least", _NUMBER, _RATIO, "bound where every split waits for prefill"),
        _field("at_most", _NUMBER, _RATIO, "bound where every split waits for decode"),
        _field("continuous_reason", REASON, "", "why there is no continuous ratio"),
        _field("pairs", _PAIRS, "instances", "whole-number splits by the continuous ratio, best first"),
        _field("disagreement", _NUMBER, "ratio", "continuous ÷ best measured − 1"),
        _field("disagreement_text", _TEXT, "", "the same in words"),
        _field("reason", REASON, "", "why it is not ok"),
        _field("evidence", _TEXT, "", "path of the evidence", null=False),
        _field("prefill_rps", _NUMBER, "requests/s", "of a prefill instance where prefill holds splits back"),
        _field("decode_rps", _NUMBER, "requests/s", "of a decode instance where decode holds splits back"),
    ],
    metadata={"table": "sweeps", "grain": "one row per ratio test, token mix, and set of limits"},
)

SPLITS = pa.schema(
    [
        _field("name", _TEXT, "", "service, or what the benchmark points have in common", null=False),
        _field("source", _TEXT, "", "captures or bench", null=False),
        _field("isl", _NUMBER, "tokens", "mean prompt length"),
        _field("osl", _NUMBER, "tokens", "mean output length"),
        _field("label", _TEXT, "", "capture or layout", null=False),
        _field("prefill_instances", _NUMBER, "instances", "prefill", null=False),
        _field("decode_instances", _NUMBER, "instances", "decode", null=False),
        _field("ratio", _NUMBER, _RATIO, "in instances", null=False),
        _field("load", _NUMBER, "requests/s or requests in flight", "load of the trial"),
        _field("prefill_tps", _NUMBER, "tokens/s", "prompt tokens served, all instances"),
        _field("decode_tps", _NUMBER, "tokens/s", "output tokens served, all instances"),
        _field("request_throughput", _NUMBER, "requests/s", "requests served"),
        _field("ttft", _TEXT, "", "meets, fails, undecided or unknown", null=False),
        _field("tbt", _TEXT, "", "meets, fails, undecided or unknown", null=False),
        _field(
            "within_ratio", _NUMBER, "ratio 0..1", "share inside the limits; it orders, it certifies nothing"
        ),
        _field("limited", _TEXT, "", "prefill or decode, by where the backlog sits"),
    ],
    metadata={"table": "splits", "grain": "one row per split and load of a ratio test"},
)

LEVEL = pa.struct(
    [("number", pa.int64()), ("load", _NUMBER), ("request_rate", _NUMBER), ("minutes", _NUMBER)]
)

PLANNED_TESTS = pa.schema(
    [
        _field("service", _TEXT, "", "namespace/model", null=False),
        _field("what", _TEXT, "", "the number that is missing", null=False),
        _field("code", _TEXT, "", "why it is missing", null=False),
        _field("role", _TEXT, "", "pool that is pressed; empty for a ratio", null=False),
        _field("prefill", pa.int64(), "instances", "prefill instances in the test"),
        _field("decode", pa.int64(), "instances", "decode instances in the test"),
        _field("mixed", pa.int64(), "instances", "instances of a single pool in the test"),
        _field(
            "levels", pa.list_(LEVEL), "tokens/s, requests/s, min", "load levels in the order they are run"
        ),
        _field("instance_hours", _NUMBER, "instance-hours", "cost"),
        _field("gpu_hours", _NUMBER, "GPU-hours", "cost; null where GPUs are not known"),
        _field("expect_ratio", _NUMBER, "ratio", "upper half of the 95 % interval to expect ÷ value"),
        _field("spread", _NUMBER, "1", "standard deviation of ln value behind it"),
        _field("isl", _NUMBER, "tokens", "prompt tokens of a request that are computed"),
        _field("osl", _NUMBER, "tokens", "output tokens of a request"),
        _field("text", _TEXT, "", "what to do", null=False),
        _field("evidence", _TEXT, "", "path of the number that is missing", null=False),
    ],
    metadata={"table": "planned_tests", "grain": "one row per refusal or floor that a test would answer"},
)

PROFILE_RATIOS = pa.schema(
    [
        _field("name", _TEXT, "", "what the two profiles have in common", null=False),
        _field("isl", _NUMBER, "tokens", "mean prompt length of the requests"),
        _field("osl", _NUMBER, "tokens", "mean output length"),
        _field("requests", pa.int64(), "requests", "how many", null=False),
        _field("outside_ratio", _NUMBER, "ratio 0..1", "share outside what was profiled", null=False),
        _field("ttft_s", _NUMBER, "s", "limit on time to first token"),
        _field("tbt_s", _NUMBER, "s", "limit on time between tokens"),
        _field("status", _TEXT, "", "ok or refused", null=False),
        _field("prefill_tps", _NUMBER, "tokens/s", "prompt tokens one instance computes"),
        _field("decode_tps", _NUMBER, "tokens/s", "output tokens one instance makes within the limit"),
        _field("ratio", _NUMBER, _RATIO, "instances"),
        _field("reason", REASON, "", "why it is refused"),
        _field("source", _TEXT, "", "whose requests", null=False),
        _field("inside_ratio", _NUMBER, _RATIO, "ratio that the requests inside alone ask for"),
    ],
    metadata={"table": "profile_ratios", "grain": "one row per profile and set of requests"},
)

BENCH_SPEEDS = pa.schema(
    [
        _field("name", _TEXT, "", "what the points have in common", null=False),
        _field("isl", _NUMBER, "tokens", "mean prompt length"),
        _field("osl", _NUMBER, "tokens", "mean output length"),
        _field("gpu_type", _TEXT, "", "GPU type as the benchmark names it", null=False),
        _field("gpus", _NUMBER, "GPUs", "GPUs of the set-up"),
        _field("tps_per_gpu", _NUMBER, "tokens/s", "highest output rate per GPU at common loads", null=False),
        _field("load", _NUMBER, "requests/s or requests in flight", "load of that point"),
        _field("relative", _NUMBER, "ratio", "against the type that serves least", null=False),
        _field("reference", _TEXT, "", "that type", null=False),
        _field("reason", REASON, "", "what to know of it"),
    ],
    metadata={"table": "bench_speeds", "grain": "one row per GPU type of a benchmark of several"},
)

TESTS: dict[str, pa.Schema] = {
    "sweeps": SWEEPS,
    "splits": SPLITS,
    "planned_tests": PLANNED_TESTS,
    "profile_ratios": PROFILE_RATIOS,
    "bench_speeds": BENCH_SPEEDS,
}
"""Contracts of this module by table."""
