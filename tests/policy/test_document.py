"""policy.yaml: reading gives what was written, writing is byte-equal, errors name the key."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from importlib.resources import files
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from replay.services import built, guard, pd_day, plain_policy, primary
from ruamel.yaml import YAML

from hs_analysis.controllers.hpa import Surge
from hs_analysis.errors import InputError
from hs_analysis.policy.document import dump, dump_all, load, load_all
from hs_analysis.policy.model import (
    Bounds,
    Cooldown,
    Guard,
    Hysteresis,
    MixSplit,
    PeriodicEntry,
    Policy,
    Primary,
    Ratio,
    SignalReading,
    SoftScaleIn,
    Step,
    Target,
    Tier,
    Waiting,
)
from hs_analysis.schema.results import Estimate

DECODE = (("decode_tps", "decode"),)
PAIR = (("prefill_tps_effective", "prefill"), ("decode_tps", "decode"))

TEXT = st.text(st.characters(exclude_categories=("Cs", "Cc")), max_size=40)
NUMBER = st.floats(1e-6, 1e12)
MAYBE = st.none() | NUMBER
COUNT = st.integers(0, 1000)
ROLES = ("prefill", "decode", "mixed")


def by_role(values: st.SearchStrategy) -> st.SearchStrategy:
    """Return a strategy of entries for some roles."""
    return st.dictionaries(st.sampled_from(ROLES), values)


ESTIMATE = st.lists(NUMBER, min_size=3, max_size=3).map(
    lambda found: Estimate(sorted(found)[1], sorted(found)[0], sorted(found)[2])
)
TARGET = st.builds(
    Target, MAYBE, MAYBE, st.none() | ESTIMATE, st.sampled_from(["ok", "floor", "refused"]), TEXT
)
WAITING = st.builds(Waiting, TEXT, st.sampled_from(ROLES), NUMBER, NUMBER, NUMBER)
POOLED = st.tuples(st.just("sum"), st.none() | WAITING) | st.just(("mean", None))
"""How a signal adds up, and what waits beside it: only a total counts that."""

PRIMARY = st.builds(
    lambda pooled, *rest, **more: Primary(*rest, pool=pooled[0], waiting=pooled[1], **more),
    POOLED,
    TEXT,
    st.sampled_from(ROLES),
    TEXT,
    TEXT,
    TEXT,
    TARGET,
    gpu_types=st.dictionaries(TEXT, NUMBER, max_size=2),
)
MIX = st.builds(MixSplit, MAYBE, MAYBE, st.integers(1, 99), st.integers(1, 99))
RATIO = st.builds(
    Ratio, st.none() | COUNT, st.none() | COUNT, MAYBE, MAYBE, MAYBE, MAYBE, TEXT, TEXT,
    one_primary_bound=MAYBE, by_mix=st.lists(MIX, max_size=2).map(tuple),
)  # fmt: skip
BAND = st.builds(Hysteresis, st.floats(1.0, 2.0), st.floats(0.1, 1.0), TEXT)
TIERS = st.lists(st.builds(Tier, NUMBER, NUMBER), max_size=2).map(tuple)
PLAIN = st.dictionaries(
    TEXT, st.none() | TEXT | st.integers() | NUMBER | st.booleans() | st.lists(TEXT), max_size=2
)
POLICY = st.builds(
    Policy,
    service=TEXT,
    mode=st.sampled_from(["metric", "periodic", "hold"]),
    unit=TEXT,
    primaries=st.lists(PRIMARY, max_size=2).map(tuple),
    pd_ratio=st.none() | RATIO,
    hysteresis=by_role(BAND),
    cooldown=by_role(st.builds(Cooldown, MAYBE, MAYBE, TEXT)),
    step=st.builds(Step, NUMBER, MAYBE, MAYBE, TEXT),
    guards=st.lists(
        st.builds(Guard, TEXT, st.sampled_from(ROLES), NUMBER, TEXT, TIERS, TEXT), max_size=2
    ).map(tuple),
    soft_scale_in=st.none() | st.builds(SoftScaleIn, NUMBER, TEXT, TEXT),
    bounds=by_role(st.builds(Bounds, st.integers(0, 9), st.integers(9, 99), TEXT)),
    periodic=st.lists(
        st.builds(
            PeriodicEntry,
            st.sampled_from(["08:00", "22:30", "00:00"]),
            TEXT,
            st.lists(TEXT, max_size=2).map(tuple),
            st.none() | COUNT,
            st.none() | COUNT,
            st.just("Europe/Berlin"),
        ),
        max_size=2,
    ).map(tuple),
    placement=PLAIN,
    recommended=st.booleans(),
    confidence=st.sampled_from(["high", "medium", "low"]),
    confidence_reasons=st.lists(TEXT, max_size=2).map(tuple),
    refusals=st.lists(TEXT, max_size=2).map(tuple),
    window=PLAIN,
    inputs_sha256=TEXT,
    run=TEXT,
    tool_version=TEXT,
    window_s=NUMBER,
    start_up_s=by_role(NUMBER),
    controller=st.sampled_from(["heteroscale", "keda", "hpa"]),
    reading=st.builds(SignalReading, NUMBER, NUMBER, st.none() | st.builds(Surge, NUMBER, NUMBER)),
    replay=PLAIN,
)


@pytest.fixture(scope="module")
def validator() -> Draft202012Validator:
    """The JSON Schema of policy.yaml that ships in the package."""
    schema = json.loads(files("hs_analysis.schema").joinpath("policy.schema.json").read_text("utf-8"))
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema)


@given(policy=POLICY)
def test_reading_gives_what_was_written(validator: Draft202012Validator, policy: Policy) -> None:
    """load(dump(p)) is p, whatever the texts and numbers; the same bytes again; the shipped schema holds."""
    text = dump(policy)
    assert load(text) == policy
    assert dump(load(text)) == text
    document = YAML(typ="safe", pure=True).load(text)
    assert [error.message for error in validator.iter_errors(document)] == []


def test_the_schema_refuses_what_is_not_agreed(validator: Draft202012Validator) -> None:
    """An unknown key, a missing one, an interval of the target's own."""
    text = dump(built(pd_day(), DECODE))
    for spoil in (
        lambda d: d["spec"].update(extra=1),
        lambda d: d["status"].pop("recommended"),
        lambda d: d["spec"]["primaries"][0]["target_per_instance"].update(low=1.0),
        lambda d: d.update(schema="hs-analysis/policy/v1alpha1"),
    ):
        document = YAML(typ="safe", pure=True).load(text)
        spoil(document)
        assert list(validator.iter_errors(document))


def test_the_schema_before_is_still_read() -> None:
    """v1alpha1: a target with an interval of its own, and no word on whether the policy is recommended."""
    text = (Path(__file__).parent / "policy_v1alpha1.yaml").read_text("utf-8")
    policy = load(text)
    target = policy.primaries[0].target_per_instance
    assert (target.value, target.capacity, target.headroom_ratio) == (2811.1, None, None)
    assert (policy.recommended, policy.confidence) == (True, "high")
    assert (policy.controller, policy.reading) == ("keda", SignalReading(60.0, 300.0))
    assert load(dump(policy)) == policy


def test_keys_of_before_are_read_over() -> None:
    """A trailing mean, a band by size and a highest total decide nothing any more, and are no mistake."""
    policy = replace(built(pd_day(), PAIR), reading=SignalReading())
    document = YAML(typ="safe", pure=True).load(dump(policy))
    spec = document["spec"]
    del spec["controller"], spec["reading"]
    spec["evaluation"]["averaging_s"] = 300.0
    spec["hysteresis"]["by_role"]["decode"]["usual_instances"] = 4.0
    spec["primaries"][0]["highest"] = {"total": 9000.0, "instances": 4.0}
    stream = io.StringIO()
    YAML(typ="safe", pure=True).dump(document, stream)
    assert load(stream.getvalue()) == policy


def test_the_reading_says_what_each_direction_follows() -> None:
    """The words are fixed: a file that asks for another reading is refused, naming the key."""
    text = dump(plain_policy(reading=SignalReading(60.0, 600.0, Surge(30.0, 1.1))))
    assert YAML(typ="safe").load(text)["spec"]["reading"] == {
        "window_s": 60.0, "out": "newest", "in": "highest", "over_s": 600.0,
        "surge": {"window_s": 30.0, "above_ratio": 1.1},
    }  # fmt: skip
    for old, new, key in (
        ("out: newest", "out: mean", "spec.reading.out"),
        ("in: highest", "in: newest", "spec.reading.in"),
        ("over_s: 600.0", "over_s: 0", "spec.reading.over_s"),
        ("above_ratio: 1.1", "above_ratio: -1", "spec.reading.surge.above_ratio"),
        ("above_ratio: 1.1", "above: 1.1", "spec.reading.surge"),
        ("controller: keda", "controller: llm-d", "spec.controller"),
    ):
        assert old in text
        with pytest.raises(InputError, match=key):
            load(text.replace(old, new))


def test_a_capacity_outside_its_interval_is_refused() -> None:
    """Low ≤ value ≤ high, in what is read too."""
    text = dump(built(pd_day(), DECODE))
    bad = text.replace("          value: 1551.0\n", "          value: 9551.0\n")
    assert bad != text
    with pytest.raises(InputError, match=r"capacity\.value: 9551\.0 is outside"):
        load(bad)


def test_built_policies_survive_the_document() -> None:
    """One shared band is written flat; bands of their own under by_role beside the calmest values."""
    single, pair = built(pd_day(), DECODE), built(pd_day(), PAIR)
    pair = replace(pair, hysteresis={"prefill": Hysteresis(1.2, 0.9), "decode": Hysteresis(1.1, 0.7)})
    assert load(dump(single)) == single
    assert load(dump(pair)) == pair
    shared = replace(single, hysteresis=dict.fromkeys(single.sized_roles, Hysteresis(1.2, 0.9)))
    flat = YAML(typ="safe").load(dump(shared))["spec"]["hysteresis"]
    assert list(flat) == ["scale_out_ratio", "scale_in_ratio", "evidence"]
    both = YAML(typ="safe").load(dump(pair))["spec"]["hysteresis"]
    assert (both["scale_out_ratio"], both["scale_in_ratio"]) == (1.2, 0.7)
    assert set(both["by_role"]) == {"prefill", "decode"}


def test_structure_is_the_published_one() -> None:
    """Top level, metadata and spec hold the published keys, in order."""
    document = YAML(typ="safe").load(dump(built(pd_day(), DECODE)))
    assert list(document) == ["schema", "metadata", "spec", "status"]
    assert document["schema"] == "hs-analysis/policy/v1alpha2"
    assert list(document["metadata"]) == ["service", "window", "tool_version", "inputs_sha256", "run"]
    published = ["mode", "unit", "primaries", "pd_ratio", "controller", "reading", "hysteresis", "cooldown"]
    published += ["step", "guards", "soft_scale_in", "bounds", "on_missing_metric", "periodic", "placement"]
    assert [key for key in document["spec"] if key != "evaluation"] == published
    assert set(document["status"]) == {
        "recommended", "confidence", "confidence_reasons", "refusals", "replay",
    }  # fmt: skip
    first = document["spec"]["primaries"][0]
    assert {"signal", "role", "unit", "promql", "source", "target_per_instance", "gpu_types"} <= set(first)
    assert list(first["target_per_instance"]) == ["value", "headroom_ratio", "capacity", "status", "evidence"]


def test_queries_stay_on_one_line() -> None:
    """A long query can be copied whole."""
    query = "sum by (model) (" + " + ".join(f'rate(metric_{n}{{role="decode"}}[5m])' for n in range(40)) + ")"
    policy = plain_policy(primaries=(replace(primary("decode_tps", "decode", 1.0), promql=query),))
    assert any(query in line for line in dump(policy).splitlines())


def test_floors_are_said_in_words() -> None:
    """A comment tells a reader what a floor is."""
    floor = replace(primary("decode_tps", "decode", 1.0), target_per_instance=Target(1.0, status="floor"))
    assert "# a load the fleet already carried" in dump(plain_policy(primaries=(floor,)))


def test_several_services_are_several_documents() -> None:
    """Each service is a document; a single one is asked for by load."""
    policies = (plain_policy(), plain_policy(service="demo/other", guards=(guard(),)))
    text = dump_all(policies)
    assert load_all(text) == policies
    with pytest.raises(InputError, match="2 documents, expected 1"):
        load(text)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("mode: metric", "mode: maybe"), "spec.mode: 'maybe' is not one of metric, periodic, hold"),
        (("max_in_fraction: 1.0", "max_in_fraction: lots"), "spec.step.max_in_fraction: expected a number"),
        (("  unit: pod", "  unite: pod"), "spec.unit: is missing"),
        (("  unit: pod", "  unit: pod\n  colour: red"), "spec.colour: is not a key of this policy schema"),
        (
            ("    decode:\n      min: 1", "    decode:\n      min: 200"),
            "spec.bounds.decode.min: 200 is above max 100",
        ),
        (
            ("        value: 100.0", "        value: -1"),
            "spec.primaries[0].target_per_instance.value: expected more",
        ),
        (("v1alpha2", "v7"), "schema is 'hs-analysis/policy/v7'"),
        (("spec:", "spec: ["), "not YAML"),
    ],
)
def test_errors_name_the_key(change: tuple[str, str], message: str) -> None:
    """What is wrong, and where, in one line with the file's name."""
    text = dump(plain_policy())
    assert change[0] in text
    with pytest.raises(InputError) as error:
        load(text.replace(change[0], change[1], 1), "today.yaml")
    assert message in str(error.value)
    assert str(error.value).startswith("today.yaml")
    assert "\n" not in str(error.value)


def test_a_timetable_without_a_zone_is_in_utc() -> None:
    """Files of before have none; a zone that is not there is refused with its place."""
    entry = PeriodicEntry("08:00", "20:00", (), 3, 2, "Europe/Berlin")
    text = dump(plain_policy(mode="periodic", periodic=(entry,)))
    assert load(text).periodic == (entry,)
    line = "      zone: Europe/Berlin\n"
    assert line in text
    assert load(text.replace(line, "")).periodic == (replace(entry, zone="UTC"),)
    with pytest.raises(InputError, match=r"spec\.periodic\[0\]\.zone: no such time zone 'Berlin'"):
        load(text.replace(line, "      zone: Berlin\n"))
    two = dump(plain_policy(mode="periodic", periodic=(entry, replace(entry, zone="Asia/Tokyo"))))
    with pytest.raises(InputError, match=r"spec\.periodic: entries are in Asia/Tokyo and Europe/Berlin"):
        load(two)
