"""The kinds of history that can be made, as data: load, mix, pools, exporters, and what happens meanwhile."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal

from hs_analysis.schema.settings import Slo
from simulator.record import Setup
from simulator.surroundings import GpuExporter
from simulator.workloads import LoadShape, TokenMix

Event = Literal["none", "autoscaled", "restarts", "release", "two_gpu_types", "stranger"]

EngineLaws = Literal["linear", "knee"]
"""Families of physics: steps linear in what a batch holds and the least loaded instance; or steps with a
knee, KV memory that may bind, and routers that look at two instances or take turns."""

LINEAR: EngineLaws = "linear"
"""The family of histories that name none."""

BOTH_SLO = Slo(ttft_s=2.2, tbt_s=0.05)
VLLM_SLO = Slo(ttft_s=2.5, tbt_s=0.05)
DYNAMO_SLO = Slo(ttft_s=2.2, tbt_s=0.064)
SGLANG_SLO = Slo(ttft_s=2.0, tbt_s=0.06)
"""Objectives at bucket edges of the histograms they are measured with: TTFT of the front end and gaps of
vLLM, vLLM alone, the front end alone, SGLang alone."""


@dataclass(frozen=True)
class Kind:
    """One kind of history.

    Attributes
    ----------
    name, what
        Its name, and what happens in it.
    hours
        Length.
    load, mix
        Offered load and tokens.
    prefill_peak, decode_peak
        Range from which the 99 % quantile of load ÷ capacity is drawn [ratio]; a single pool uses
        `decode_peak`.
    instances
        Fewest and most instances of the decode (or single) pool; prefill follows from the peaks.
    slo
        Objective.
    setup
        What is exported.
    event
        What happens to the pools.
    shared
        Whether one compute-bound pool does both.
    unanswerable
        Whether nothing may be recommended: the load stood still, or the history is too short.
    engine_laws
        Which family of physics the laws of the engines are drawn from.
    """

    name: str
    what: str
    hours: float
    load: LoadShape
    mix: TokenMix = field(default_factory=TokenMix)
    prefill_peak: tuple[float, float] = (1.02, 1.12)
    decode_peak: tuple[float, float] = (1.02, 1.12)
    instances: tuple[int, int] = (3, 6)
    slo: Slo = BOTH_SLO
    setup: Setup = field(default_factory=Setup)
    event: Event = "none"
    shared: bool = False
    unanswerable: bool = False
    engine_laws: EngineLaws = LINEAR


DAY = LoadShape(night=0.25, wander_sd=0.07)

CALM = (0.5, 0.68)
"""Peaks that never come near a limit."""

IMAGES = TokenMix(prompt=2000.0, output=2.0, prompt_cv=0.5, output_cv=0.0, hit=0.0)
"""Requests for images; the prompt is what one takes to make, in steps times tiles."""

ENGINE_SETUP = Setup(frontend=False, engine_buckets=True)

KINDS: tuple[Kind, ...] = (
    Kind("near_limit_days", "two days whose peaks pass the limits of both pools", 48.0, DAY),
    Kind(
        "roomy_day", "a day that never comes near a limit; decode GPU utilisation says nothing", 24.0, DAY,
        prefill_peak=CALM, decode_peak=CALM, setup=Setup(step_s=15, sentinel=True),
    ),
    Kind(
        "compute_bound_pool", "one compute-bound pool, nearly idle at night: utilisation follows load", 30.0,
        LoadShape(night=0.08, wander_sd=0.10), TokenMix(prompt=3200.0, output=24.0, hit=0.2),
        decode_peak=(1.0, 1.1), instances=(3, 4), slo=VLLM_SLO, shared=True,
        setup=replace(ENGINE_SETUP, roles_by="pod_label"),
    ),
    Kind(
        "constant_load", "the load stands still: nothing can be judged", 14.0,
        LoadShape(wander_sd=0.03, wander_s=900.0),
        prefill_peak=CALM, decode_peak=CALM, unanswerable=True,
    ),
    Kind(
        "drifting_mix", "prompts get half as long and answers twice as long, and back", 30.0, DAY,
        TokenMix(prompt_drift=-0.6, output_drift=0.65), (0.8, 0.95), (0.8, 0.95),
    ),
    Kind(
        "drifting_cache", "cache hits go from a fifth to two thirds of the prompts and back", 30.0, DAY,
        TokenMix(hit=0.2, hit_drift=0.6), (0.9, 1.1), (0.9, 1.1), setup=Setup(router=True, one_file=True),
    ),
    Kind(
        "overload", "a stretch of hours in which more comes than either pool can do", 20.0,
        LoadShape(night=0.3, first_hour=4.0, wander_sd=0.07, overload=(9.0, 2.0, 1.35)),
        prefill_peak=(0.85, 0.95), decode_peak=(0.85, 0.95), slo=DYNAMO_SLO,
        setup=Setup(roles_by="dynamo_label", router=True),
    ),
    Kind(
        "two_gpu_types", "half of the decode pool is of a slower GPU type", 36.0, DAY,
        decode_peak=(0.95, 1.05), instances=(4, 6), event="two_gpu_types",
    ),
    Kind(
        "lagging_exporter", "GPU metrics come through a pipeline and are four minutes old", 24.0,
        replace(DAY, wander_sd=0.12, wander_s=1800.0), prefill_peak=(0.8, 0.95), decode_peak=(0.8, 0.95),
        setup=Setup(gpu=GpuExporter(collect_s=60, delay_s=240.0), step_s=30),
    ),
    Kind(
        "autoscaled", "a target tracker moved the pools; new pods need four minutes", 36.0,
        LoadShape(night=0.2, wander_sd=0.08), instances=(4, 6), event="autoscaled",
    ),
    Kind(
        "autoscaled_wandering", "the same while the load wanders: small pools at all hours", 36.0,
        LoadShape(night=0.2, wander_sd=0.25), instances=(4, 6), event="autoscaled",
    ),
    Kind(
        "rare_queues", "a day whose queues are empty in most minutes", 36.0, DAY,
        prefill_peak=(0.7, 0.9), decode_peak=(0.75, 0.92),
    ),
    Kind(
        "common_clock", "GPU metrics and engine gauges are another service's, with the same day", 30.0, DAY,
        prefill_peak=CALM, decode_peak=CALM, event="stranger",
    ),
    Kind(
        "too_short", "four hours", 4.0, LoadShape(night=0.2, first_hour=7.0, wander_sd=0.1),
        prefill_peak=CALM, decode_peak=CALM, unanswerable=True,
    ),
    Kind(
        "release", "halfway every pod gets a release that decodes a third faster and renames metrics", 32.0,
        LoadShape(night=0.3, wander_sd=0.10),
        prefill_peak=(0.8, 0.95), decode_peak=(0.8, 0.95), event="release",
    ),
    Kind(
        "wandering", "no day, only a load that wanders", 24.0, LoadShape(wander_sd=0.45, wander_s=7200.0),
        setup=Setup(roles_by="dynamo_label"), slo=DYNAMO_SLO,
    ),
    Kind(
        "ramps_and_bursts", "steps that double the load within four minutes, and surges of minutes", 36.0,
        LoadShape(night=0.4, wander_sd=0.05, ramps_per_day=5.0, bursts_per_day=8.0), setup=Setup(step_s=15),
    ),
    Kind(
        "sglang_days", "SGLang engines without a front end", 36.0, DAY, slo=SGLANG_SLO,
        setup=replace(ENGINE_SETUP, engine="sglang"),
    ),
    Kind(
        "vllm_engines_only", "vLLM engines without a front end", 36.0, DAY, slo=VLLM_SLO, setup=ENGINE_SETUP,
    ),
    Kind(
        "restarts_and_gaps", "pods restart in place and Prometheus is down several times", 30.0, DAY,
        prefill_peak=(0.85, 1.05), decode_peak=(0.85, 1.05),
        setup=Setup(step_s=15, outages=4), event="restarts",
    ),
    Kind(
        "weekend", "Friday to Sunday: two days at half the load of the first", 72.0,
        LoadShape(night=0.3, wander_sd=0.06, first_day=4, weekend=0.55), instances=(3, 4),
        slo=VLLM_SLO,
    ),
)  # fmt: skip

REQUEST_KINDS: tuple[Kind, ...] = (
    Kind(
        "image_pool", "one pool that makes images: requests are counted, tokens are not", 24.0,
        LoadShape(night=0.25, wander_sd=0.10), IMAGES, decode_peak=(0.85, 0.95), instances=(6, 10),
        slo=Slo(), setup=Setup(engine="images", frontend=False, roles_by="pod_label"), shared=True,
    ),
    Kind(
        "foreign_images", "the same, and GPU metrics and engines' gauges are another pool's", 24.0,
        LoadShape(night=0.25, wander_sd=0.10), IMAGES, decode_peak=(0.85, 0.95), instances=(6, 10),
        slo=Slo(), setup=Setup(engine="images", roles_by="pod_label"), shared=True, event="stranger",
    ),
)  # fmt: skip
"""Single pools whose load is known in requests alone."""


def kind_of(name: str) -> Kind:
    """Return a kind by name.

    Raises
    ------
    KeyError
        Naming the kinds there are.
    """
    for kind in (*KINDS, *REQUEST_KINDS):
        if kind.name == name:
            return kind
    raise KeyError(f"no kind of history is called {name}; there are {', '.join(k.name for k in KINDS)}")
