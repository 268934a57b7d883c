"""What gauges of an instance read: GPU utilisation, SM activity and memory, from its seconds.

Utilisation is the share of time in which any kernel ran, so that it says whether there was work, not how
much: an instance that decodes a single sequence is as busy as one that decodes a hundred. SM activity is the
share of cycles in which an SM held a warp: while prefill or compute-bound work runs, most of them; in a
decode step the weights' part fills few SMs (0.35 of them) and the sequences' and the cache's part nearly all
(0.9),

    sm = (0.35·t0 + 0.9·(t1·B + t2·K)) ÷ (t0 + t1·B + t2·K).

The shares are choices of this project; the qualitative behaviour is that of arXiv:2508.19559, Fig. 2.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from simulator.decode import Seconds
from simulator.physics import Service

Floats = NDArray[np.float64]

SM_FULL, SM_WEIGHTS, SM_SEQUENCES = 0.88, 0.35, 0.9
IDLE_SM = 0.004
DECODE_UTIL = 0.97
"""Utilisation of an instance that decodes: launches leave small holes [ratio]."""

UTIL_NOISE = 0.01
"""sd of one reading of the utilisation of a busy GPU [ratio]."""

PREFILL_KV_TOKENS = 250_000.0
"""KV memory of a prefill instance [tokens]."""


def utilisation(seconds: Seconds, role: str) -> Floats:
    """Return the share of each second in which a kernel ran [ratio]."""
    return seconds.busy * (DECODE_UTIL if role == "decode" else 1.0)


def misread(values: Floats, rng: np.random.Generator) -> Floats:
    """Return readings of utilisation with their noise, within 0 and 1; an idle GPU reads 0."""
    noisy = values + UTIL_NOISE * rng.standard_normal(values.size)
    return np.where(values > 0, np.clip(noisy, 0.0, 1.0), 0.0)


def sm_activity(seconds: Seconds, role: str, service: Service) -> Floats:
    """Return the share of cycles with a warp on an SM, per second [ratio]."""
    if role != "decode":
        return np.asarray(np.maximum(SM_FULL * seconds.busy, IDLE_SM))
    law = service.decode
    memory = law.sequence_s * seconds.running + law.token_s * seconds.held
    sequences = np.maximum(memory, law.least_s * seconds.running - law.fixed_s)
    full = (SM_WEIGHTS * law.fixed_s + SM_SEQUENCES * sequences) / (law.fixed_s + sequences)
    return np.where(seconds.busy > 0, full, IDLE_SM)


def kv_usage(seconds: Seconds, role: str, service: Service) -> Floats:
    """Return the share of the KV memory that is held [ratio], at most 1."""
    size = {
        "prefill": PREFILL_KV_TOKENS,
        "decode": service.decode.kv_tokens,
        "mixed": service.shared.kv_tokens if service.shared else np.inf,
    }[role]
    return np.asarray(np.clip(seconds.held / size, 0.0, 1.0))


def collected(values: Floats, interval: int, phase: int, span: int) -> tuple[NDArray[np.int64], Floats]:
    """Return the seconds at which a collector looks and the mean of the `span` seconds before each look.

    Parameters
    ----------
    values
        Per second, shape (seconds,).
    interval, phase
        It looks at phase, phase + interval, … [s]; phase ≥ span.
    span
        Seconds it averages over.
    """
    looks = np.arange(phase, values.size + 1, interval)
    total = np.r_[0.0, np.cumsum(values)]
    return looks, (total[looks] - total[looks - span]) / span
