"""The table of autoscalers: where numbers come from, how they are sized, how lanes share a batch."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from controllers.fleets import fleet

from hs_analysis.controllers import (
    CONTROLLERS,
    Autoscaler,
    HeteroScale,
    RatioConstraint,
    Sizing,
    Why,
    batch_of,
    structure,
)
from hs_analysis.controllers.aibrix import Apa
from hs_analysis.controllers.dynamo import DynamoThroughput
from hs_analysis.controllers.heteroscale import PoolRule

NAN = float("nan")
WORK = {("prefill_tps_effective", "prefill"): [12_000.0], ("decode_tps", "decode"): [6_000.0]}


def sizing(**changes: object) -> Sizing:
    """Return what a P/D service knows of itself."""
    known = Sizing(
        targets={"prefill": 2000.0, "decode": 1000.0},
        work={"prefill": "prefill_tps_effective", "decode": "decode_tps"},
        readable=frozenset(
            {
                ("prefill_tps_effective", "prefill"), ("decode_tps", "decode"),
                *((s, r) for s in ("kv_usage", "queue_length") for r in ("prefill", "decode")),
            }
        ),
        bounds={"prefill": (1, 20), "decode": (1, 10)},
        ratio=(2.0, 1.8, 2.2),
    )  # fmt: skip
    return dataclasses.replace(known, **changes)


def test_every_row_says_where_its_numbers_come_from() -> None:
    """Names and parameter types are unique; defaults have a source; each is sized or says why."""
    assert len({row.name for row in CONTROLLERS}) == len({row.parameters for row in CONTROLLERS}) == 8
    for row in CONTROLLERS:
        assert row.source.startswith("https://")
        for field in dataclasses.fields(row.parameters):
            if field.default is not dataclasses.MISSING and field.name not in (
                "signal", "context_tokens",
            ):  # fmt: skip
                assert field.metadata["source"], (row.name, field.name)
        assert isinstance(row.size(sizing()), (Autoscaler, str))
        assert isinstance(row.size(sizing(targets={}, readable=frozenset())), str)


def test_sized_by_the_same_targets() -> None:
    """At the target load every work-following autoscaler asks for the same counts."""
    for row in CONTROLLERS:
        scaler = row.size(sizing())
        if isinstance(scaler, str):
            continue
        scaler = dataclasses.replace(scaler, together=None)
        orders = batch_of([scaler]).step(fleet(WORK, {"prefill": 6, "decode": 6}))
        assert {role: count[0] for role, count in orders.counts.items()} == {"prefill": 6, "decode": 6}, row


def apa(name: str, target: float, **pools: object) -> Autoscaler:
    """Return an autoscaler of the decode pool."""
    return Autoscaler(name, {"decode": Apa("load", target), **pools})


def test_lanes_of_one_structure_share_a_batch() -> None:
    """Numbers may differ; signals, kinds of rule and roles may not."""
    same, other = apa("a", 100.0), apa("b", 50.0)
    assert structure(same) == structure(other)
    batch = batch_of([same, other])
    seen = fleet({("load", "decode"): [600.0]}, {"decode": [4, 4], "prefill": [3, 3]}, window_s=10.0)
    orders = batch.step(seen)
    assert orders.counts["decode"].tolist() == [6, 8]
    assert set(orders.counts) == {"decode"}, "a role without parameters keeps its count"
    for odd in (
        Autoscaler("c", {"decode": Apa("queue", 100.0)}),
        Autoscaler("d", {"decode": DynamoThroughput("load", 100.0)}),
        apa("e", 100.0, prefill=Apa("load", 100.0)),
        dataclasses.replace(same, together=RatioConstraint(1.0, 2.0, (1, 9), (1, 9))),
        HeteroScale({"decode": PoolRule("load", 100.0)}),
    ):
        assert structure(odd) != structure(same)
        with pytest.raises(ValueError, match="one structure"):
            batch_of([same, odd])


def test_a_signal_of_another_pool_is_read_there() -> None:
    """``load@prefill`` sizes decode by what prefill reads."""
    batch = batch_of([Autoscaler("a", {"decode": Apa("load@prefill", 100.0)})])
    assert batch.keys == (("load", "prefill"),)
    assert (
        batch.step(fleet({("load", "prefill"): [600.0]}, {"decode": 4}, window_s=10.0)).counts["decode"][0]
        == 6
    )


def test_the_ratio_binds_what_the_pools_ask_for() -> None:
    """A pair outside its lane's band is moved into it, and says so."""
    pools = {"prefill": Apa("load", 100.0), "decode": Apa("load", 100.0)}
    bands = [RatioConstraint(low, low + 0.2, (1, 20), (1, 20)) for low in (0.9, 1.9)]
    batch = batch_of([Autoscaler("k", pools, band) for band in bands])
    seen = fleet(
        {("load", "prefill"): [400.0], ("load", "decode"): [400.0]}, {"prefill": [4, 4], "decode": [4, 4]}
    )
    orders = batch.step(seen)
    assert orders.counts["prefill"].tolist() == [4, 8]
    assert orders.counts["decode"].tolist() == [4, 4]
    assert orders.code["prefill"].tolist() == [Why.HOLDS, Why.RATIO]


def test_nothing_is_decided_before_a_row_was_seen() -> None:
    """Not even where an empty answer counts as zero; a lane that saw one is not held for the others."""
    (keda,) = (row for row in CONTROLLERS if row.name == "keda")
    scaler = keda.size(sizing())
    assert isinstance(scaler, Autoscaler)
    batch = batch_of([scaler, scaler])
    table = {key: np.array([[NAN, 0.0]] * 5) for key in WORK}
    for row in range(1, 9):
        seen = fleet(table, {"prefill": [6, 6], "decode": [6, 6]}, t_s=row * 60.0)
        orders = batch.step(seen)
    assert orders.counts["decode"].tolist() == [6, 1]
    assert orders.code["decode"][0] == Why.MISSING
    taken = batch.take(np.array([1, 1, 0]))
    seen = fleet({key: [NAN] for key in WORK}, {"prefill": [6] * 3, "decode": [6] * 3}, t_s=540.0)
    assert taken.step(seen).counts["decode"].tolist() == [1, 1, 6]
