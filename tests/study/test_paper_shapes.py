"""The shapes of HeteroScale's metric study (arXiv:2508.19559, Fig. 2) give its ranking, others another."""

import numpy as np
import pytest
from seeds import first

from hs_analysis.study import study_service

# Signal → (elasticity, noise of a minute): elasticities of Fig. 2 as digitised; noise so that range ÷ noise
# of five-minute means comes near the figure's. The load falls to 0.07 of its peak as there.
SHAPES = {
    "decode_tps@decode": (1.00, 0.015),
    "prefill_tps_effective@prefill": (1.04, 0.012),
    "gpu_util@prefill": (0.94, 0.06),
    "sm_activity@prefill": (0.99, 0.05),
    "gpu_util@decode": (0.02, 0.04),
    "sm_activity@decode": (0.28, 0.012),
    "tbt@decode": (0.28, 0.010),
    "ttft@service": (0.28, 0.05),
}
PAPER = {
    "decode_tps@decode": "proportional", "prefill_tps_effective@prefill": "proportional",
    "gpu_util@prefill": "proportional", "sm_activity@prefill": "proportional",
    "gpu_util@decode": "unusable", "sm_activity@decode": "guard",
    "tbt@decode": "guard", "ttft@service": "guard",
}  # fmt: skip
"""What the paper says of each (a usable metric follows load near-linearly; latency is non-linear), in the
words of this project."""


@pytest.fixture
def dialogue(load_of, pool, answer):
    """A day of the paper's dialogue service at static capacity."""

    def build(seed, shapes):
        load = load_of(24, 500 + seed, depth=0.87)
        columns = pool(load) | pool(load * 8.0, "prefill")
        for number, (name, (slope, noise)) in enumerate(shapes.items()):
            columns[name] = answer(load, slope, noise, 10 * seed + number, scale=0.5)
        return columns

    return build


@pytest.mark.parametrize("seed", first(1, range(3)))
def test_histories_of_the_papers_shapes_get_its_verdicts(dialogue, make, settings, seed):
    """Throughput and prefill hardware size pools, latency and decode SM guard, decode util does nothing."""
    result = study_service(make(dialogue(seed, SHAPES)), settings)
    assert {f"{v.signal}@{v.role}": v.verdict for v in result.verdicts} == PAPER
    assert result.recommended.signal == "decode_tps"


def test_elasticities_fall_into_the_papers_three_groups(dialogue, make, settings):
    """Near 1, near 0.3 and near 0, where rank correlation alone can't tell decode SM from TPS."""
    result = study_service(make(dialogue(7, SHAPES)), settings)
    found = {f"{v.signal}@{v.role}": v for v in result.verdicts}
    for name, (slope, _) in SHAPES.items():
        assert found[name].elasticity == pytest.approx(slope, abs=0.04)
    assert found["sm_activity@decode"].spearman > 0.98
    assert abs(found["gpu_util@decode"].spearman) < 0.6


@pytest.mark.parametrize("seed", range(3))
def test_compute_bound_data_turn_the_answer_round(dialogue, make, settings, seed):
    """The same code recommends GPU utilisation where it follows load and the token rate does not.

    A compute-bound pool whose answers change length with the hours: output tokens per second wander at equal
    work, utilisation does not.
    """
    compute = SHAPES | {"gpu_util@decode": (1.00, 0.015), "decode_tps@decode": (0.45, 0.02)}
    for gone in ("prefill_tps_effective@prefill", "gpu_util@prefill", "sm_activity@prefill"):
        compute.pop(gone)
    result = study_service(make(dialogue(seed, compute)), settings)
    verdicts = {f"{v.signal}@{v.role}": v.verdict for v in result.verdicts}
    assert verdicts["gpu_util@decode"] == "proportional"
    assert verdicts["decode_tps@decode"] == "guard"
    assert (result.recommended.signal, result.recommended.role) == ("gpu_util", "decode")


def test_flat_load_gives_no_answer(dialogue, pool, answer, make, settings):
    """The same signals on a load that stands still: nothing is known, nothing recommended."""
    load = 5000 * np.exp(np.random.default_rng(5).normal(size=1440) * 0.05)
    columns = pool(load) | {"decode_tps@decode": answer(load, 1.0, 0.01, 1), "gpu_util@decode": load / 9000}
    result = study_service(make(columns), settings)
    assert {v.verdict for v in result.verdicts} == {"unknown"}
    assert result.recommended is None
