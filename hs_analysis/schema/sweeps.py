"""Results of ratio tests, of profiles and of benchmarks, and planned tests; as in `schema.results`."""

# Annotations are values here and no text: evaluating them all again would cost each start 30 ms.
from dataclasses import dataclass
from typing import Annotated, Literal

from hs_analysis.schema.declare import Field
from hs_analysis.schema.results import Answered, Evidence, Interval, Pair, Reason, RefusedReason, SplitBeside

JudgedOn = Literal["slo", "decode_tps"]

_RATIO = "prefill ÷ decode"
_SHARE = "ratio 0..1"
_LOAD = "requests/s or requests in flight"


@dataclass(frozen=True, kw_only=True)
class SweepResult:
    """The best split of one ratio test, for one token mix.

    The continuous ratio is the balance min(αP, βD) of the splits, without an objective.
    """

    name: Annotated[str, Field("service, or what the benchmark points have in common")]
    source: Annotated[Literal["captures", "bench"], Field()]
    model: Annotated[str | None, Field("model of benchmark points, as they name it")] = None
    isl: Annotated[float | None, Field("mean prompt length", "tokens")] = None
    osl: Annotated[float | None, Field("mean output length", "tokens")] = None
    judged_on: Annotated[JudgedOn, Field("slo or decode_tps, where no limit was given or asked for")] = "slo"
    ttft_s: Annotated[float | None, Field("limit on time to first token", "s")] = None
    tbt_s: Annotated[float | None, Field("limit on time between tokens", "s")] = None
    quantile: Annotated[float | None, Field("share that must be within the limits", _SHARE)] = None
    status: Annotated[
        Literal["ok", "undecided", "indicative", "refused"],
        Field("ok, undecided (the winner may break a limit), indicative (judged by means) or refused"),
    ] = "refused"
    best: Annotated[Pair | None, Field("best split measured, prefill and decode", "instances")] = None
    ratio: Annotated[float | None, Field("of that split, in instances", _RATIO)] = None
    gpu_ratio: Annotated[float | None, Field("the same in GPUs", _RATIO)] = None
    score: Annotated[float | None, Field("what it served, times the share inside the limits", "see unit")] = (
        None
    )
    unit: Annotated[str, Field("unit of the score")] = ""
    near: Annotated[
        tuple[Pair, ...],
        Field("splits within 3 % of it, best first: the optimum is flat", "instances"),
    ] = ()
    near_ratio: Annotated[Interval | None, Field("range of their ratios", _RATIO)] = None
    between: Annotated[
        Interval | None,
        Field("nearest splits tested on either side that serve less; null at an edge of the sweep", _RATIO),
    ] = None
    neighbours: Annotated[
        tuple[SplitBeside, ...], Field("those nearest splits, and what each serves against the best")
    ] = ()
    load: Annotated[float | None, Field("load of the best trial", _LOAD)] = None
    prefill_tps_per_instance: Annotated[
        float | None,
        Field("prompt tokens one prefill instance of it computed; null unless status is ok", "tokens/s"),
    ] = None
    decode_tps_per_instance: Annotated[
        float | None,
        Field("output tokens one decode instance of it made; null unless status is ok", "tokens/s"),
    ] = None
    is_estimated: Annotated[
        bool, Field("whether what it served follows from concurrency and latencies, and was not measured")
    ] = False
    label: Annotated[str, Field("capture or layout of the best trial")] = ""
    decides: Annotated[
        str | None, Field("what holds it back:", words=("ttft", "tbt", "both", "throughput"))
    ] = None
    edge: Annotated[
        str | None,
        Field("where it is the edge of the sweep:", words=("least_prefill", "most_prefill")),
    ] = None
    tested: Annotated[tuple[Pair, ...], Field("all splits, by ratio", "instances")] = ()
    continuous: Annotated[float | None, Field("balance of the splits, without an objective", _RATIO)] = None
    at_least: Annotated[float | None, Field("bound where every split waits for prefill", _RATIO)] = None
    at_most: Annotated[float | None, Field("bound where every split waits for decode", _RATIO)] = None
    continuous_reason: Annotated[Reason | None, Field("why there is no continuous ratio")] = None
    pairs: Annotated[
        tuple[Pair, ...],
        Field(
            "whole-number splits by the continuous ratio, best first, for as many instances as the best has, "
            "one less and one more",
            "instances",
        ),
    ] = ()
    disagreement: Annotated[float | None, Field("continuous ÷ best measured − 1", "ratio")] = None
    disagreement_text: Annotated[str | None, Field("the same in words")] = None
    reason: Annotated[Reason | None, Field("why it is not ok")] = None
    evidence: Evidence = ""
    prefill_rps: Annotated[
        float | None, Field("of a prefill instance where prefill holds splits back", "requests/s")
    ] = None
    decode_rps: Annotated[
        float | None, Field("of a decode instance where decode holds splits back", "requests/s")
    ] = None


@dataclass(frozen=True, kw_only=True)
class ProfileRatio:
    """What the profiles of one prefill and one decode instance give for some requests."""

    name: Annotated[str, Field("what the two profiles have in common")]
    isl: Annotated[float | None, Field("mean prompt length of the requests", "tokens")]
    osl: Annotated[float | None, Field("mean output length", "tokens")]
    requests: Annotated[int, Field("how many", "requests")]
    outside_ratio: Annotated[
        float, Field("share outside what was profiled", _SHARE, null=False, least=0, most=1)
    ]
    ttft_s: Annotated[float | None, Field("limit on time to first token", "s")]
    tbt_s: Annotated[float | None, Field("limit on time between tokens", "s")]
    status: Annotated[Answered, Field()] = "refused"
    prefill_tps: Annotated[
        float | None, Field("prompt tokens one instance computes under the limit", "tokens/s")
    ] = None
    decode_tps: Annotated[
        float | None, Field("output tokens one instance makes within the limit", "tokens/s")
    ] = None
    ratio: Annotated[float | None, Field("instances", _RATIO)] = None
    reason: RefusedReason = None
    source: Annotated[str, Field("whose requests: a capture's log, or a service's mean lengths")] = ""
    inside_ratio: Annotated[float | None, Field("ratio that the requests inside alone ask for", _RATIO)] = (
        None
    )


@dataclass(frozen=True, kw_only=True)
class BenchSpeed:
    """What one GPU type (or set-up) of a benchmark serves against the others of it, per GPU."""

    name: Annotated[str, Field("what the points have in common")]
    isl: Annotated[float | None, Field("mean prompt length", "tokens")]
    osl: Annotated[float | None, Field("mean output length", "tokens")]
    gpu_type: Annotated[str, Field("GPU type as the benchmark names it")]
    gpus: Annotated[float | None, Field("GPUs of the set-up", "GPUs")]
    tps_per_gpu: Annotated[
        float,
        Field(
            "highest output rate per GPU at the loads that every type was tested at, within the limits",
            "tokens/s",
            null=False,
        ),
    ]
    load: Annotated[float | None, Field("load of that point", _LOAD)]
    relative: Annotated[float, Field("against the type that serves least", "ratio", null=False)]
    reference: Annotated[str, Field("that type")]
    reason: Annotated[Reason | None, Field("what to know of it; null where it is as measured")] = None


@dataclass(frozen=True)
class Level:
    """A load level of a test."""

    number: Annotated[int, Field("its place")]
    load: Annotated[float, Field("load per instance", "tokens/s")]
    request_rate: Annotated[float | None, Field("requests to send", "requests/s")]
    minutes: Annotated[float, Field("how long", "min")]


@dataclass(frozen=True, kw_only=True)
class PlannedTest:
    """The test that would answer one refusal or floor.

    Prompts of generators are random, so that nothing is cached: their length is what is computed of a prompt.
    """

    service: Annotated[str, Field("namespace/model")]
    what: Annotated[str, Field("the number that is missing")]
    code: Annotated[str, Field("why it is missing")]
    role: Annotated[
        str, Field("pool that is pressed; empty for a ratio, which follows from the tests of both")
    ]
    prefill: Annotated[int | None, Field("prefill instances in the test", "instances")]
    decode: Annotated[int | None, Field("decode instances in the test", "instances")]
    mixed: Annotated[int | None, Field("instances of a single pool in the test", "instances")]
    levels: Annotated[
        tuple[Level, ...], Field("load levels in the order they are run", "tokens/s, requests/s, min")
    ]
    instance_hours: Annotated[float, Field("cost", "instance-hours")]
    gpu_hours: Annotated[float | None, Field("cost; null where GPUs are not known", "GPU-hours")]
    expect_ratio: Annotated[float, Field("upper half of the 95 % interval to expect ÷ value", "ratio")]
    spread: Annotated[
        float,
        Field(
            "standard deviation of ln value behind it: "
            "√(systematic² + ln(step)² ÷ 12 + noise² ÷ windows a level)",
            "1",
        ),
    ]
    isl: Annotated[float | None, Field("prompt tokens of a request that are computed", "tokens")]
    osl: Annotated[float | None, Field("output tokens of a request", "tokens")]
    text: Annotated[str, Field("what to do")]
    evidence: Annotated[str, Field("path of the number that is missing")] = ""
