"""Draw a service for a kind of history: laws, pool sizes and instances that put its peak in its place."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from simulator import lives as life
from simulator.batching import TURNS, TWO
from simulator.decode import DecodeLaw
from simulator.kinds import Kind
from simulator.lives import Life
from simulator.physics import GAP_SPREAD, Service
from simulator.prefill import PrefillLaw
from simulator.pressure import Point, capacity, throughput_tps
from simulator.record import pod_names, with_gpu
from simulator.shared import SharedLaw
from simulator.workloads import GRID_S, MixPath, load_curve, mix_path

Floats = NDArray[np.float64]

STARTUP_S = 240.0
"""Time from asking for an instance to its first request [s]; a choice of this project."""

LATENCY_QUANTILE_Z = 1.645
"""Normal quantile of the 95 % of gaps that an objective speaks of."""

SLOW_GPU, SLOW_BY = "NVIDIA L20", 1.3
"""The second GPU type, and how much longer its steps take [ratio]."""

RELEASE_SPEEDS = 1.0 / 1.5
"""Step time of the new release ÷ that of the old one [ratio]."""

POOL_EFFECT = 0.26
"""A queue of n servers holds a latency limit up to about 1 − 0.26 ÷ √n of its throughput; a rule of thumb
that only places the peak: capacities that count come from pressure tests."""

LIGHT, KNEE, KNEE_SEQUENCES, ROOM, KNEE_BATCH = (0.3, 0.8), (1.02, 1.6), (20.0, 90.0), (0.7, 4.0), 256
"""What laws with a knee are drawn from: the step of an empty instance ÷ the longest that holds the limit, the
step at the knee ÷ that of an empty instance, sequences at the knee, and the sequences that KV memory has room
for ÷ those at which a step is the longest; choices of this project, wide so that each may bind [ratio]."""

UNLIMITED_SHARE = 0.95
"""Peaks of a pool that breaks its limit at no load are placed against this part of its throughput [ratio]."""

AUTOSCALED_SHARE = 0.7
"""What a target tracker lets an instance carry ÷ what it could [ratio]; a choice of this project."""


@dataclass(frozen=True)
class Drawn:
    """A service under its load: request rate [requests/s] and means on the grid, shape (steps,)."""

    service: Service
    rate: Floats
    path: MixPath


def mean_point(rate: Floats, path: MixPath) -> Point:
    """Return the load-weighted mean of rate and mix."""
    weight = rate / rate.sum()
    return Point(
        float(rate.mean()), *(float((weight * v).sum()) for v in (path.prompt, path.output, path.hit))
    )


def draw(kind: Kind, rng: np.random.Generator) -> Drawn:
    """Draw the laws, sizes and load of one history of a kind."""
    curve = load_curve(kind.load, kind.hours, rng)
    path = mix_path(kind.mix, kind.hours, rng)
    mean = mean_point(curve, path)
    count = int(rng.integers(kind.instances[0], kind.instances[1] + 1))
    if kind.shared:
        return _draw_shared(kind, curve, path, mean, count, rng)
    if kind.engine_laws == "knee":
        return _draw_knee(kind, curve, path, mean, count, rng)
    decode = DecodeLaw(
        fixed_s=0.016 * float(rng.uniform(0.8, 1.15)),
        sequence_s=4.0e-4 * float(rng.uniform(0.85, 1.2)),
        token_s=1.6e-7 * float(rng.uniform(0.7, 1.3)),
    )
    limit_s = kind.slo.tbt_s or 0.05
    within = decode_capacity(decode, mean, limit_s)
    if kind.event == "two_gpu_types":  # all hold as many sequences as the slower half can
        within = decode_capacity(decode, mean, limit_s / SLOW_BY) * _mean_speed(count)
    rate = float(rng.uniform(*kind.decode_peak)) * within * count / mean.output
    prefill, size = _sized(_drawn_prefill(rng), kind, mean, rate, float(rng.uniform(*kind.prefill_peak)))
    service = Service({}, prefill, decode)
    pools = {"prefill": _pool(kind, "prefill", size, rng), "decode": _pool(kind, "decode", count, rng)}
    service = service.with_lives(**_eventful(kind, pools, rate * curve, path, rng))
    return Drawn(service, rate * curve, path)


def decode_capacity(law: DecodeLaw, mean: Point, limit_s: float) -> float:
    """Return roughly what an instance decodes when 95 % of gaps are within the limit [tokens/s]."""
    step = limit_s / math.exp(LATENCY_QUANTILE_Z * GAP_SPREAD)
    per_sequence = law.sequence_s + law.token_s * (mean.prompt + mean.output / 2.0)
    return min((step - law.fixed_s) / per_sequence, float(law.batch)) / step


def _sized(law: PrefillLaw, kind: Kind, mean: Point, rate: float, peak: float) -> tuple[PrefillLaw, int]:
    """Return the prefill law, scaled so that whole instances meet the drawn peak, and how many."""
    service = Service({}, law)
    work = rate * mean.tokens("prefill")
    top = throughput_tps(service, "prefill", mean, kind.mix)
    size = max(2, round(work / (peak * 0.86 * top)))
    wanted = work / (size * peak * (1.0 - POOL_EFFECT / math.sqrt(size)) * top)
    return _faster(law, wanted), size


def _drawn_prefill(rng: np.random.Generator) -> PrefillLaw:
    return PrefillLaw(
        chunk_s=0.014 * float(rng.uniform(0.7, 1.3)),
        token_s=2.4e-4 * float(rng.uniform(0.9, 1.1)),
        pair_s=8.0e-9 * float(rng.uniform(0.5, 1.5)),
    )


def _faster(law: PrefillLaw, factor: float) -> PrefillLaw:
    return replace(
        law, chunk_s=law.chunk_s / factor, token_s=law.token_s / factor, pair_s=law.pair_s / factor
    )


def knee_law(mean: Point, limit_s: float, rng: np.random.Generator) -> DecodeLaw:
    """Draw a decode law with a knee below, at or above the limit, for requests of a mean size."""
    longest = limit_s / math.exp(LATENCY_QUANTILE_Z * GAP_SPREAD)
    fixed = longest * float(rng.uniform(*LIGHT))
    knee = fixed * float(rng.uniform(*KNEE))
    sequences = math.exp(rng.uniform(*np.log(KNEE_SEQUENCES)))
    held = mean.prompt + mean.output / 2.0
    law = DecodeLaw(fixed, 0.0, (knee - fixed) / (sequences * held), KNEE_BATCH, math.inf, knee / sequences)
    most = min((longest - fixed) / (law.token_s * held), longest / law.least_s)
    room = math.exp(rng.uniform(*np.log(ROOM))) * most * (mean.prompt + mean.output)
    return replace(law, kv_tokens=room)


def _draw_knee(
    kind: Kind, curve: Floats, path: MixPath, mean: Point, count: int, rng: np.random.Generator
) -> Drawn:
    """Draw laws with a knee; peaks are placed by pressure tests, for no rule of thumb knows these laws."""
    routing = TWO if rng.random() < 0.5 else TURNS
    decode = replace(knee_law(mean, kind.slo.tbt_s or 0.05, rng), routing=routing)
    pools = {"decode": _pool(kind, "decode", count, rng)}
    within = _pressed(Service(pools, decode=decode), "decode", mean, kind)
    rate = float(rng.uniform(*kind.decode_peak)) * within * count / mean.output
    peak = float(rng.uniform(*kind.prefill_peak))
    prefill, size = _sized(replace(_drawn_prefill(rng), routing=routing), kind, mean, rate, peak)
    pools["prefill"] = _pool(kind, "prefill", size, rng)
    holds = _pressed(Service(pools, prefill), "prefill", mean, kind)
    prefill = _faster(prefill, rate * mean.tokens("prefill") / (size * peak * holds))
    service = Service({}, prefill, decode)
    return Drawn(service.with_lives(**_eventful(kind, pools, rate * curve, path, rng)), rate * curve, path)


def _pressed(service: Service, role: str, mean: Point, kind: Kind) -> float:
    """Return the capacity of an instance of a pool, by pressure test [tokens/s of the role]."""
    found = capacity(service, role, mean, kind.mix, kind.slo, 0)
    return found or UNLIMITED_SHARE * throughput_tps(service, role, mean, kind.mix)


def _draw_shared(
    kind: Kind, curve: Floats, path: MixPath, mean: Point, count: int, rng: np.random.Generator
) -> Drawn:
    if kind.setup.engine == "images":
        law = SharedLaw.of_images(float(rng.uniform(0.8, 1.3)))
    else:
        law = SharedLaw(
            prompt_s=1.1e-4 * float(rng.uniform(0.85, 1.2)), output_s=4.0e-3 * float(rng.uniform(0.85, 1.2))
        )
    service = Service({}, shared=law)
    top = throughput_tps(service, "mixed", mean, kind.mix)
    rate = float(rng.uniform(*kind.decode_peak)) * 0.8 * top * count / mean.output
    return Drawn(service.with_lives(mixed=_pool(kind, "mixed", count, rng)), rate * curve, path)


def _pool(kind: Kind, role: str, count: int, rng: np.random.Generator) -> tuple[Life, ...]:
    names = pod_names(role, kind.setup, count, rng)
    slowness = 1.0 + 0.02 * rng.standard_normal(count)
    pool = life.still(names, slowness, ["NVIDIA H20"] * count)
    if kind.event == "two_gpu_types" and role == "decode":
        slow = count // 2
        pool = tuple(with_gpu(one, SLOW_GPU, SLOW_BY) if k < slow else one for k, one in enumerate(pool))
    return pool


def _mean_speed(count: int) -> float:
    slow = count // 2
    return (count - slow + slow / SLOW_BY) / count


def _eventful(
    kind: Kind,
    pools: dict[str, tuple[Life, ...]],
    rate: Floats,
    path: MixPath,
    rng: np.random.Generator,
) -> dict[str, tuple[Life, ...]]:
    """Return the pools as the events of the kind make them."""
    if kind.event == "autoscaled":
        usual = Drawn(Service({}), rate, path)
        return {role: _autoscaled(role, pool, usual, usual, rng) for role, pool in pools.items()}
    if kind.event == "release":
        at = kind.hours * 3600.0 * float(rng.uniform(0.45, 0.55))
        return {
            role: life.replaced(
                pool, pod_names(role, kind.setup, len(pool), rng), at, 300.0, STARTUP_S,
                RELEASE_SPEEDS if role == "decode" else 1.0,
            )
            for role, pool in pools.items()
        }  # fmt: skip
    if kind.event == "restarts":
        moved = {}
        for role, pool in pools.items():
            pods = rng.choice(len(pool), size=min(2, len(pool) - 1), replace=False)
            moments = [(int(pod), kind.hours * 3600.0 * float(rng.uniform(0.1, 0.9))) for pod in pods]
            moved[role] = life.restarted(pool, moments, STARTUP_S)
        return moved
    return pools


def _autoscaled(
    role: str, pool: tuple[Life, ...], usual: Drawn, today: Drawn, rng: np.random.Generator
) -> tuple[Life, ...]:
    """Return the lives of a target tracker that loads an instance with a part of what the pool could.

    Its target was set on the usual load; it runs on today's.
    """
    target = AUTOSCALED_SHARE * float(np.quantile(_work_tps(role, usual), 0.99)) / len(pool)
    least = max(2, math.ceil(len(pool) / 3))
    name = pool[0].pod.rsplit("-", 1)[0]
    scaler = life.Scaler(target, least, 2 * len(pool), STARTUP_S)
    return life.scaled(_work_tps(role, today), GRID_S, scaler, name, rng)


def _work_tps(role: str, drawn: Drawn) -> Floats:
    _, missed, output = drawn.path.means()
    return np.asarray(drawn.rate * (missed if role == "prefill" else output))


def another_day(kind: Kind, drawn: Drawn, own: np.random.Generator, rng: np.random.Generator) -> Drawn:
    """Return another history of the same service: its laws, size of load and way of sizing pools; fresh news.

    Parameters
    ----------
    kind, drawn
        Kind and draw of the first history.
    own
        The source of chance that the first history was drawn with, from its start.
    rng
        Source of the new load and mix.
    """
    curve = load_curve(kind.load, kind.hours, rng)
    path = mix_path(kind.mix, kind.hours, rng)
    fresh = Drawn(drawn.service, float(np.quantile(drawn.rate, 0.99)) * curve, path)
    if kind.event != "autoscaled":
        return fresh
    pools = draw(replace(kind, event="none"), own).service.lives
    lives = {role: _autoscaled(role, pool, drawn, fresh, rng) for role, pool in pools.items()}
    return replace(fresh, service=drawn.service.with_lives(**lives))


def stranger_of(kind: Kind, drawn: Drawn, rng: np.random.Generator) -> Drawn:
    """Return another load for the same pools: the same day, its own news, its own mix of requests."""
    curve = load_curve(kind.load, kind.hours, rng)
    path = mix_path(kind.mix, kind.hours, rng)
    peak = float(np.quantile(drawn.rate, 0.99)) * float(rng.uniform(0.85, 1.1))
    return Drawn(drawn.service, peak * curve, path)
