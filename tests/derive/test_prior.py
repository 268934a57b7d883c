"""Priors from performance tables: exact on a made-up instance, refused with a reason, beside the data."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
from replay.services import SETTINGS, derived, service

from hs_analysis.derive.prior import priors_of
from hs_analysis.schema.aligned import ServiceFrame
from hs_analysis.schema.results import Capacity, Derived
from hs_analysis.schema.settings import Slo

ISL, OSL = 2000.0, 200.0


@dataclass(frozen=True)
class Linear:
    """Tables of an instance whose prefill computes 10,000 tokens/s and whose decode step takes 10 ms + 2 ns a
    token held."""

    name: str = "made@tables"
    gpus: int = 1
    kv_tokens: int | None = 10_000_000
    seconds_a_token: float = 1e-4

    def prefill_s(self, requests: int, length: int, cached: int) -> float:
        """Return the time of a prefill step."""
        return requests * (length - cached) * self.seconds_a_token

    def decode_s(self, requests: int, context: int) -> float:
        """Return the time of a decode step."""
        return 0.010 + 2e-8 * requests * context


def frame(hit: float = 0.0, gpus: dict[str, float] | None = None, rows: int = 120) -> ServiceFrame:
    """Return a service of one request a second."""
    computed, output = np.full(rows, ISL * (1.0 - hit)), np.full(rows, OSL)
    return service(
        {"prefill": computed, "decode": output}, {"prefill": 2, "decode": 1}, gpus=gpus,
        request_rate__service=np.ones(rows), prompt_tps__service=np.full(rows, ISL),
        cached_prompt_tps__service=np.full(rows, ISL * hit),
    )  # fmt: skip


def by_role(
    made: ServiceFrame, tables: Linear = Linear(), numbers: Derived | None = None, slo: Slo | None = None
):
    """Return the priors by role."""
    found = priors_of(made, numbers or derived(), tables, slo or SETTINGS.slo)
    return {one.role: one for one in found}


def test_capacities_of_a_linear_instance_are_those_of_its_law() -> None:
    """Prefill its rate; decode n ÷ t where t = 10 ms + 20 ns · n · 2,100 meets the limit of 50 ms."""
    found = by_role(frame())
    assert found["prefill"].per_instance == pytest.approx(10_000.0)
    held = (0.050 - 0.010) / 2e-8
    assert found["decode"].per_instance == pytest.approx(held / (ISL + OSL / 2) / 0.050, rel=1e-6)
    assert {one.status for one in found.values()} == {"prior"}
    assert {one.basis for one in found.values()} == {"profile"}
    assert (found["prefill"].limit_s, found["decode"].limit_s) == (2.5, 0.05)


def test_cached_tokens_are_held_but_not_computed() -> None:
    """Half the prompt cached: half the time and half the computed tokens, and the same context."""
    cold, warm = by_role(frame()), by_role(frame(hit=0.5))
    assert warm["prefill"].cached_ratio == pytest.approx(0.5)
    assert warm["prefill"].isl == pytest.approx(ISL)
    assert warm["prefill"].per_instance == pytest.approx(cold["prefill"].per_instance)
    assert warm["decode"].per_instance == pytest.approx(cold["decode"].per_instance)


def test_cached_share_is_what_engines_did_not_compute_where_nobody_counts_it() -> None:
    """All prompt tokens and computed ones of engines tell the share too."""
    made = frame(hit=0.25)
    table = made.table.drop("cached_prompt_tps@service").with_columns(
        made.table["prompt_tps@service"].alias("prefill_tps@prefill")
    )
    assert by_role(replace(made, table=table))["prefill"].cached_ratio == pytest.approx(0.25)


def test_memory_binds_where_the_limit_does_not() -> None:
    """42,000 tokens of memory hold 20 sequences of 2,100: 20 ÷ (10 ms + 0.84 ms)."""
    found = by_role(frame(), Linear(kv_tokens=42_000))
    assert found["decode"].per_instance == pytest.approx(20 / (0.010 + 2e-8 * 42_000))


def test_data_are_compared_with_and_stay_what_they_are() -> None:
    """Data ÷ prior; a floor says how far above it the tables lie, and to test first."""
    numbers = derived()
    ok = by_role(frame(), numbers=numbers)["prefill"]
    assert ok.data_ratio == pytest.approx(3509.0 / 10_000.0)
    assert ok.text == "the data give 0.35 of it, and the data count"
    floor = by_role(frame(), numbers=derived(status="floor"))["prefill"]
    assert floor.text == (
        "it lies 185% above the floor that this fleet carried: a table, not this fleet: test before you use "
        "it (hsa plan-test RUN)"
    )
    slow = by_role(frame(), Linear(seconds_a_token=1e-3), derived(status="floor"))["prefill"]
    assert slow.text == "this fleet carried 3.51 of it within its limits: the tables don't hold for it"
    bare = by_role(frame(), numbers=replace(numbers, capacity=()))["prefill"]
    assert (bare.data_status, bare.data_ratio) == ("refused", None)
    assert bare.text.startswith("the data give no capacity")
    assert numbers == derived()


@pytest.mark.parametrize(
    ("tables", "gpus", "role", "code"),
    [
        (Linear(kv_tokens=None), None, "decode", "memory_unknown"),
        (Linear(), {"prefill": 4.0, "decode": 1.0}, "prefill", "gpus_differ"),
        (Linear(seconds_a_token=1e-2), None, "prefill", "limit_below_profile"),
        (Linear(seconds_a_token=float("nan")), None, "prefill", "no_times"),
    ],
)
def test_what_tables_cannot_say_is_refused(tables: Linear, gpus, role: str, code: str) -> None:
    """With the reason, and without a number."""
    found = by_role(frame(gpus=gpus), tables)[role]
    assert (found.status, found.per_instance, found.data_ratio) == ("refused", None, None)
    assert found.reason is not None
    assert found.reason.code == code


def test_a_pool_that_does_both_and_uncounted_requests_have_none() -> None:
    """One pool, or no mean request: refused."""
    both = service({"mixed": np.full(9, 900.0)}, {"mixed": 2})
    capacity = Capacity("mixed", None, "decode_tps", 900.0, None, "ok", "slo", None)
    found = by_role(both, numbers=replace(derived(), capacity=(capacity,)))["mixed"]
    assert found.reason is not None
    assert found.reason.code == "single_pool"
    made = frame()
    bare = replace(made, table=made.table.drop("request_rate@service"))
    assert {one.reason.code for one in by_role(bare).values() if one.reason} == {"lengths_unknown"}
