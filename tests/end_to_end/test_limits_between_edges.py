"""Simulated days whose limits lie between histogram edges, through dumps, against constant-load truth."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from align.service import put_on_grid
from simulator import history, write
from simulator.kinds import kind_of

from hs_analysis.derive import derive_service
from hs_analysis.schema.settings import Settings, Slo

LIMITS = ((1.7, 0.045), (3.0, 0.06), (1.3, 0.04), (2.5, 0.03), (2.0, 0.04), (3.5, 0.045))
"""TTFT and TBT [s]; edges are 1, 2.2 and 4.7 s, and 20, 35 and 64 (front end) or 25 and 50 ms (engines)."""


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(len(LIMITS)))
def test_a_capacity_between_edges_is_that_at_the_limit(seed: int, tmp_path: Path) -> None:
    """Within 8 % for prefill and 4 % for decode, in their intervals; a floor below; the ratio follows."""
    ttft_s, tbt_s = LIMITS[seed]
    kind = replace(kind_of("near_limit_days"), slo=Slo(ttft_s=ttft_s, tbt_s=tbt_s), hours=36.0)
    made = history(kind, 70 + seed)
    write(made, tmp_path / "in")
    settings = Settings(slo=kind.slo, startup_s=dict.fromkeys(("prefill", "decode"), made.startup_s))
    (frame,) = put_on_grid(tmp_path, tmp_path / "in", settings)[1].frames
    derived = derive_service(frame, (), settings).derived
    assert not any(edges.exact for edges in frame.limit_edges)
    for role, near in (("prefill", 0.08), ("decode", 0.04)):
        found, (truth,) = derived.capacity_of(role), made.truth.capacity[role]
        if found.status == "floor":  # a day that met the limit too seldom
            assert found.per_instance <= truth, role
            continue
        assert found.per_instance == pytest.approx(truth, rel=near), role
        assert found.ci[0] <= truth <= found.ci[1], role
    if derived.pd_ratio.status == "ok":
        assert derived.pd_ratio.ci[0] <= made.truth.ratio <= derived.pd_ratio.ci[1]
