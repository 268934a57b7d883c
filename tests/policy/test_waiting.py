"""Work that waits: when it counts beside the work that is served, how much, and what a query says of it."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from importlib.resources import files
from typing import Any

import numpy as np
import pytest
from controllers.fleets import fleet
from jsonschema import Draft202012Validator
from replay.services import plain_policy, primary, service
from ruamel.yaml import YAML

from hs_analysis.controllers import batch_of
from hs_analysis.controllers.hpa import Operand
from hs_analysis.errors import InputError
from hs_analysis.policy.controls import control_of
from hs_analysis.policy.document import dump, load
from hs_analysis.policy.model import Policy, SignalReading, Waiting
from hs_analysis.policy.waiting import QUEUE, WITHIN_S, with_waiting
from hs_analysis.schema.aligned import ServiceFrame

SERVED_QUERY = "sum(rate(work_total[1m]))"
QUEUE_QUERY = "sum(avg_over_time(queue[1m]))"
PREFILL = replace(primary("prefill_tps_effective", "prefill", 2000.0), promql=SERVED_QUERY)
DECODE = replace(primary("decode_tps", "decode", 100.0), promql="sum(rate(tokens_total[1m]))")
PAIR = (PREFILL, DECODE)
WAITS = Waiting(QUEUE, "prefill", 600.0, 60.0, 60.0)
"""Of a service of 600 tokens a request."""


def frame(without: str = "", **changed: np.ndarray) -> ServiceFrame:
    """Return four windows of a service of 500 to 700 tokens a request, half of them idle."""
    work = np.array([5000.0, 0.0, 12_000.0, 14_000.0, 0.0])
    more: dict[str, Any] = {
        "request_rate__service": np.array([10.0, 0.0, 20.0, 20.0, np.nan]),
        "queue_length__prefill": np.array([0.0, 1.0, 0.0, 3.0, 0.0]),
        **changed,
    }
    more.pop(without, None)
    return service({"prefill": work, "decode": work / 6.0}, {"prefill": 4, "decode": 4}, **more)


def policy(**changes: Any) -> Policy:
    """Return a policy that sizes each pool by its own tokens."""
    return plain_policy(
        **{"primaries": PAIR, "pd_ratio": None, "reading": SignalReading(60.0, 300.0)} | changes
    )


def test_a_request_that_waits_counts_as_its_tokens_over_two_minutes() -> None:
    """The median of work ÷ requests where there are any: 600 tokens, 5 tokens/s each; of decode a sixth."""
    found = with_waiting(policy(), frame(), {(QUEUE, "prefill"): QUEUE_QUERY})
    waits = replace(WAITS, within_s=WITHIN_S)
    later = replace(waits, tokens_per_request=100.0)
    assert WITHIN_S == 120.0
    assert found.primaries == (
        replace(PREFILL, promql=f"{SERVED_QUERY} + {QUEUE_QUERY} * 5", waiting=waits),
        replace(DECODE, promql=f"{DECODE.promql} + {QUEUE_QUERY} * 0.833333", waiting=later),
    )
    assert (waits.weight, later.weight) == (5.0, 0.833333)
    assert replace(found, primaries=PAIR) == policy()


def test_the_weight_of_the_query_is_the_one_that_runs() -> None:
    """Six digits in both, of tokens with the digits that policy.yaml keeps."""
    thirds = frame(request_rate__service=np.full(5, 7.0))
    found = with_waiting(policy(), thirds, {(QUEUE, "prefill"): QUEUE_QUERY}).primaries[0]
    assert found.waiting is not None
    assert found.waiting.tokens_per_request == 714.29
    assert float(found.promql.rpartition(" * ")[2]) == found.waiting.weight == 5.95242
    assert load(dump(policy(primaries=(found, DECODE)))).primaries[0] == found


def test_a_formula_of_several_terms_is_weighed_as_a_whole() -> None:
    """Without parentheses the factor would be that of its last term alone."""
    found = with_waiting(policy(), frame(), {(QUEUE, "prefill"): "sum(a) + sum(b)"})
    assert found.primaries[0].promql == f"{SERVED_QUERY} + (sum(a) + sum(b)) * 5"


def test_without_a_query_of_its_own_a_primary_is_read_by_its_parameters() -> None:
    """A candidate is simulated before it has any query."""
    silent = policy(primaries=(replace(PREFILL, promql=""), DECODE))
    assert with_waiting(silent, frame(), {}).primaries[0] == replace(
        PREFILL, promql="", waiting=replace(WAITS, within_s=WITHIN_S)
    )


@pytest.mark.parametrize(
    ("seen", "changes", "queries"),
    [
        (
            frame(),
            {"primaries": (replace(PREFILL, pool="mean"),)},
            {(QUEUE, "prefill"): QUEUE_QUERY},
        ),
        (frame(without="queue_length__prefill"), {}, {(QUEUE, "prefill"): QUEUE_QUERY}),
        (frame(without="request_rate__service"), {}, {(QUEUE, "prefill"): QUEUE_QUERY}),
        (frame(request_rate__service=np.zeros(5)), {}, {(QUEUE, "prefill"): QUEUE_QUERY}),
        (frame(), {}, {}),
        (frame(), {}, {(QUEUE, "decode"): QUEUE_QUERY}),
        (
            frame(queue_length__decode=np.ones(5)),
            {"primaries": (replace(DECODE, promql=SERVED_QUERY),)},
            {(QUEUE, "decode"): QUEUE_QUERY},
        ),
        (
            frame(gpu_util__prefill=np.full(5, 0.5)),
            {"primaries": (primary("gpu_util", "prefill", 0.6, "mean"),)},
            {(QUEUE, "prefill"): QUEUE_QUERY},
        ),
        (
            frame(prefill_tps__prefill=np.full(5, 900.0)),
            {"primaries": (primary("prefill_tps", "prefill", 2000.0),)},
            {(QUEUE, "prefill"): QUEUE_QUERY},
        ),
    ],
    ids=[
        "a mean of tokens",
        "no queue", "no request rate", "no requests", "no query", "query of decode",
        "decode queue", "mean", "tokens that caches served too",
    ],
)  # fmt: skip
def test_what_waits_is_left_out_where_it_says_nothing(
    seen: ServiceFrame, changes: dict[str, Any], queries: dict[tuple[str, str], str]
) -> None:
    """The policy comes back as it was, whether or not its primary has a query."""
    asked = policy(**changes)
    assert with_waiting(asked, seen, queries) == asked


@pytest.mark.parametrize("controller", ["keda", "hpa", "heteroscale"])
@pytest.mark.parametrize("over", [0.0, 90.0])
def test_a_queue_adds_the_instances_that_clear_it_within_a_minute(controller: Any, over: float) -> None:
    """4 pods that serve 2000 each are all that counters ever show; 600 requests that wait are 3 more."""
    waits = replace(PREFILL, waiting=WAITS)
    seen = {
        ("prefill_tps_effective", "prefill"): [8000.0] * 5,
        (QUEUE, "prefill"): [over] * 4 + [600.0 + over],
    }
    counts = {}
    for name, one in (("served", PREFILL), ("waits", waits)):
        asked = policy(primaries=(one,), controller=controller, step=plain_policy().step)
        batch = batch_of([control_of(asked)])
        counts[name] = int(batch.step(fleet(seen, {"prefill": 4}, t_s=600.0)).counts["prefill"][0])
    assert counts == {"served": 4, "waits": 7 if over == 0.0 else 8}


def test_the_pool_that_follows_reads_the_queue_of_the_one_that_leads() -> None:
    """The object of a decode pool has the very metric of prefill, divided by another target."""
    led = plain_policy(controller="hpa", primaries=(replace(PREFILL, waiting=WAITS),))
    pools = control_of(led).pools
    assert pools["prefill"].metrics[0].others == (Operand(QUEUE, 60.0, 10.0),)
    assert pools["decode"].metrics[0].others == (Operand(f"{QUEUE}@prefill", 60.0, 10.0),)
    rule = control_of(replace(led, controller="heteroscale")).pools
    assert rule["prefill"].others == (Operand(QUEUE, 60.0, 10.0),)
    assert rule["decode"].others == ()


def test_policy_yaml_holds_what_waits() -> None:
    """Written, read back, and null without; a number that is none, and a mean that waits, are refused."""
    waits = policy(primaries=(replace(PREFILL, waiting=WAITS), DECODE))
    text = dump(waits)
    assert load(text) == waits
    document = YAML(typ="safe", pure=True).load(text)
    schema = json.loads(files("hs_analysis.schema").joinpath("policy.schema.json").read_text("utf-8"))
    assert list(Draft202012Validator(schema).iter_errors(document)) == []
    first, second = document["spec"]["primaries"]
    assert first["waiting"] == {
        "signal": QUEUE, "role": "prefill", "tokens_per_request": 600.0, "within_s": 60.0, "window_s": 60.0,
    }  # fmt: skip
    assert second["waiting"] is None
    for old, new, message in (
        ("within_s: 60.0", "within_s: 0", r"primaries\[0\]\.waiting\.within_s: expected more than 0"),
        (
            "tokens_per_request: 600.0",
            "tokens_per_request: -1",
            r"waiting\.tokens_per_request: expected more",
        ),
        ("tokens_per_request: 600.0", "tokens: 600.0", r"waiting\.tokens_per_request: is missing"),
        ("pool: sum", "pool: mean", r"primaries\[0\]\.waiting: expected null where pool is mean"),
    ):
        assert old in text
        with pytest.raises(InputError, match=message):
            load(text.replace(old, new, 1))


def test_a_policy_file_of_before_has_no_word_of_what_waits() -> None:
    """A missing key is the same as null."""
    document = YAML(typ="safe", pure=True).load(dump(policy()))
    for one in document["spec"]["primaries"]:
        del one["waiting"]
    stream = io.StringIO()
    YAML(typ="safe", pure=True).dump(document, stream)
    assert load(stream.getvalue()) == policy()
