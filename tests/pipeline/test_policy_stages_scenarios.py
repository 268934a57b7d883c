"""What stands beside the selected policy: edited policies, today's objects, faults; how a run keeps them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import jsonschema
import numpy as np
import polars as pl
import pytest
from export.scenes import series_frame
from replay.services import SETTINGS, VERDICTS, derived, pd_day, service

from hs_analysis.current import CurrentAutoscaler
from hs_analysis.errors import InputError, UsageError
from hs_analysis.pipeline import policy_stages, report_stages, select_stage, summary, tables
from hs_analysis.pipeline.beside import policies_beside, require_spoken_of
from hs_analysis.pipeline.chain import STAGES
from hs_analysis.pipeline.objects import current_autoscaler, stored_series
from hs_analysis.pipeline.policy_stages import (
    TRAIN,
    read_replay,
    replay_policies,
)
from hs_analysis.pipeline.records import from_plain, to_plain
from hs_analysis.pipeline.select_stage import Chosen
from hs_analysis.pipeline.stages import Silent, fingerprints
from hs_analysis.policy import build_policy, dump
from hs_analysis.replay.demand import demands
from hs_analysis.replay.fleet import fit_fleet
from hs_analysis.replay.readings import Passed, Readings, SameState
from hs_analysis.schema.settings import Beside, Document, Machine, Settings
from hs_analysis.select import knobs_of, with_knobs

DECODE = (("decode_tps", "decode"),)
FRONT, LENGTH = "dynamo_frontend", "input_sequence_tokens"
FRAME = pd_day(240)
KEDA = """
apiVersion: keda.sh/v1alpha1
kind: ScaledObject
metadata: {name: m-decode}
spec:
  scaleTargetRef: {name: m-decode}
  triggers:
    - type: prometheus
      metadata: {query: "sum(rate(vllm:generation_tokens_total[1m]))", threshold: "400", serverAddress: x}
"""


SERIES = series_frame(
    [
        {"metric": metric, "labels": {"pod": pod, **of}, "emitter_role": role, "service": FRAME.service}
        for role, metric, of in (
            ("decode", "vllm:generation_tokens_total", {}),
            ("prefill", "vllm:prompt_tokens_by_source_total", {"source": "local_compute"}),
        )
        for pod in (f"m-{role}-0", f"m-{role}-1")
    ]
)


def held(role: str, count: int) -> str:
    """Return an object that keeps a pool at a count, whatever it reads."""
    metric = {
        "decode": "generation_tokens_total",
        "prefill": 'prompt_tokens_by_source_total{source=\\"local_compute\\"}',
    }[role]
    bounds = f"  minReplicaCount: {count}\n  maxReplicaCount: {count}\n  triggers:"
    text = KEDA.replace("generation_tokens_total", metric).replace("  triggers:", bounds)
    return text.replace("decode", role)


HELD = (Document("p.yaml", held("prefill", 11)), Document("d.yaml", held("decode", 4)))
"""Objects whose replay stands for the eleven and four instances that ran."""


KNOBS = knobs_of(60.0, waits=False)[0]
CHOSEN = Chosen(f"decode_tps@decode, {KNOBS.name}", TRAIN, "keda", "decode_tps@decode", KNOBS)


def policy_text(**changes: object) -> str:
    policy = build_policy(FRAME, derived(), VERDICTS, DECODE, SETTINGS, {}, {})
    policy = with_knobs(policy, CHOSEN.knobs, CHOSEN.controller, CHOSEN.policy)
    return dump(replace(policy, **changes))


def test_a_series_of_several_captures_is_one_to_a_query() -> None:
    """Its empty labels are no labels, and another service's is told apart."""
    rows = [
        {"metric": "m", "labels": {"pod": "a", "zone": zone}, "emitter_role": "decode", "service": "demo/m"}
        for zone in ("", "", "b")
    ]
    rows[1]["capture"] = "second"
    found = stored_series(series_frame([*rows, {**rows[0], "metric": "n", "service": "x/y"}]), "demo/m")
    assert [dict(one.labels) for one in found] == [
        {"pod": "a", "__name__": "m"},
        {"pod": "a", "zone": "b", "__name__": "m"},
        {"pod": "a", "__name__": "n"},
    ]
    assert [one.ours for one in found] == [True, True, False]


def test_policies_are_named_by_their_files_and_go_to_their_service() -> None:
    """Two files of one name stay apart; another service's policy is passed over."""
    files = [Document("a/p.yaml", policy_text()), Document("b/p.yaml", policy_text())]
    other = Document("o.yaml", policy_text(service="x/y"))
    found = policies_beside([*files, other], FRAME)
    assert list(found) == ["p.yaml", "p.yaml (2)"]
    require_spoken_of(replace(SETTINGS, beside=Beside(policies=tuple(files))), ["demo/m"])
    with pytest.raises(InputError, match=r"o.yaml: is a policy of x/y, the run has demo/m"):
        require_spoken_of(replace(SETTINGS, beside=Beside(policies=(other,))), ["demo/m"])


def test_a_policy_in_another_unit_is_refused_with_its_line() -> None:
    """It would be replayed as if the number were in the catalogue's unit."""
    text = policy_text().replace("unit: ''", "unit: ms")
    line = next(n for n, one in enumerate(text.splitlines(), 1) if "unit: ms" in one)
    with pytest.raises(InputError) as caught:
        policies_beside([Document("p.yaml", text)], FRAME)
    assert caught.value.line() == (
        f"p.yaml:{line}: spec.primaries[0].unit: 'ms' is not the unit of decode_tps; write tokens/s"
    )


def test_a_policy_on_a_signal_that_is_not_there_is_refused() -> None:
    """It would hold still and look safe."""
    text = policy_text().replace("signal: decode_tps", "signal: gpu_util")
    with pytest.raises(InputError, match=r"primaries\[0\]: gpu_util@decode is not in this history"):
        policies_beside([Document("p.yaml", text)], FRAME)


def test_objects_of_today_need_one_service() -> None:
    """No object says which of several it scales."""
    settings = replace(SETTINGS, beside=Beside(current=(Document("k.yaml", KEDA),)))
    with pytest.raises(UsageError, match="--service"):
        require_spoken_of(settings, ["a/b", "c/d"])


def test_the_replay_stands_on_what_the_files_say() -> None:
    """Another text, fault or object runs replay and what follows again, nothing before; JSON keeps it.

    What an object says of the controller is a setting of its own: ``with_given`` writes it.
    """
    given = Beside((Document("p", "text"),), (Document("k", KEDA, "decode"),), ("all",))
    plain = json.loads(json.dumps(to_plain(Settings(beside=given))))
    assert from_plain(Settings, plain).beside == given
    before = fingerprints(STAGES, Settings(), "in", "code")
    changed = [
        Beside((Document("p", "other"),)),
        Beside((Document("p", "text"),)),
        Beside(current=(Document("p", "text"),)),
        Beside(faults=("no_stock",)),
    ]
    seen = set()
    for one in changed:
        after = fingerprints(STAGES, Settings(beside=one), "in", "code")
        again = {"replay", "policy", "export", "report"}
        assert {name for name in after if after[name] != before[name]} == again
        seen.add(after["replay"])
    assert len(seen) == len(changed)


def replayed(
    monkeypatch: pytest.MonkeyPatch, folder: Path, given: Beside, chosen: Chosen | None = CHOSEN
) -> dict[str, object]:
    """Run the stage on a made-up service and return its section of summary.json."""
    monkeypatch.setattr(select_stage, "read_frame", lambda *_: FRAME)
    monkeypatch.setattr(policy_stages, "read_frames", lambda _: (FRAME,))
    monkeypatch.setattr(policy_stages, "service_names", lambda _: (FRAME.service,))
    monkeypatch.setattr(policy_stages, "read_verdicts", lambda *_: VERDICTS)
    monkeypatch.setattr(policy_stages, "read_derived", lambda *_: derived())
    monkeypatch.setattr(policy_stages, "chosen_policy", lambda *_: chosen)
    settings = replace(SETTINGS, beside=given)
    tables.write_frames(folder, "series", [SERIES])
    replay_policies(
        SimpleNamespace(run=folder, out=folder, settings=settings, progress=Silent(), machine=Machine())
    )
    section: dict[str, object] = summary.replay_section(read_replay(folder, FRAME.service))["replay"]
    return section


def schema() -> dict[str, object]:
    """Return the schema of one replay section."""
    whole = json.loads(
        Path(report_stages.__file__).parents[1].joinpath("schema/summary.schema.json").read_text("utf-8")
    )
    return {"$defs": whole["$defs"], "$ref": "#/$defs/ReplayResult"}


def test_everything_beside_is_in_the_replay(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Rows for the file and for today's object, what to change in it, and policy × fault; by the schema."""
    given = Beside((Document("p.yaml", policy_text()),), HELD, ("no_stock",))
    found = replayed(monkeypatch, tmp_path, given)
    jsonschema.validate(found, schema())
    rows = {row["policy"]: row for row in found["policies"]}
    own = [name for name in rows if not name.startswith("as_")]  # files of other targets
    assert own[:5] == [CHOSEN.policy, "in_sample", "heteroscale", "p.yaml", "current"]
    same = ("instance_hours", "actions_per_day", "slo_violation_ratio")
    assert [rows["p.yaml"][k] for k in same] == [rows[CHOSEN.policy][k] for k in same]
    day = found["calibration"]["one_day"]
    assert list(day["given"]) == ["p.yaml"]
    assert day["given"]["p.yaml"]["instance_hours"] == pytest.approx(day["policy"]["instance_hours"])
    current = found["current"]
    assert current["compared"]["policy_hours"] == rows[CHOSEN.policy]["instance_hours"]
    assert current["compared"]["current_hours"] == rows["current"]["instance_hours"]
    share = rows[CHOSEN.policy]["instance_hours"] / rows["current"]["instance_hours"]
    assert current["compared"]["saved"] == pytest.approx(1.0 - share)
    assert rows[CHOSEN.policy]["vs_current"] == pytest.approx(1.0 - share)
    target = next(one for one in current["changes"] if (one["item"], one["role"]) == ("target", "decode"))
    assert (target["now"], target["then"]) == (400.0, pytest.approx(0.85 * 0.95 * 1551.0, rel=1e-5))
    assert current["not_understood"] == []
    assert current["reason"] is None
    said = found["calibration"]["deployed"]
    assert (said["target"], said["read_back"], bool(said["why_not"])) == ("keda", False, True)
    shares = found["calibration"]["under_faults"]
    assert set(shares) == {"policy", "hpa", "files"}
    each = [shares["policy"], shares["hpa"], *shares["files"].values()]
    assert all(0.0 <= one[kind] <= 1.0 for one in each for kind in ("faults", "bursts"))
    assert {one["pool"]: one["apart"] for one in current["counts"]} == {"prefill": 0.0, "decode": 0.0}
    faults = [(row["policy"], row["fault"]) for row in found["faults"]]
    assert ("p.yaml", "no_stock") in faults
    assert ("current", "none") in faults
    assert tables.read(tmp_path, "replay_faults").height == len(faults)


def test_what_does_not_stand_for_today_is_nowhere_in_the_replay(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """No object for prefill, decode far from what ran: no row, saving, share, fault or place of today's."""
    given = Beside(
        (), (Document("k.yaml", KEDA),), ("no_stock",), topology=(Document("racks.yaml", TOPOLOGY),)
    )
    found = replayed(monkeypatch, tmp_path, given)
    jsonschema.validate(found, schema())
    current = found["current"]
    assert current["compared"] is None
    assert [(one["pool"], one["code"], one["cause"]) for one in current["reason"]["pools"]] == [
        ("prefill", "pool_not_replayed", "never_moved"),
        ("decode", "counts_apart", "never_moved"),
    ]
    assert current["reason"]["text"].startswith("prefill is not replayed: no object given scales it")
    assert [(one["pool"], one["apart"] > 0.0) for one in current["counts"]] == [("decode", True)]
    assert [one["item"] for one in current["changes"]]
    rows = found["policies"]
    assert "current" not in {row["policy"] for row in [*rows, *found["faults"], *found["placement"]]}
    assert {row["vs_current"] for row in rows} | {row["vs_current_ci"] for row in rows} == {None}
    assert "current" not in (found["calibration"].get("uncalibrated_shares") or {})
    timeline = tables.read(tmp_path, "timeline").filter(pl.col("policy") == "current")
    assert timeline["ready_decode"].null_count() == 0 < timeline.height
    assert timeline["violation_probability"].null_count() == timeline.height


def test_today_that_stands_beside_no_policy_has_that_reason(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Its own row stays; there is nothing to set it against."""
    found = replayed(monkeypatch, tmp_path, Beside(current=HELD), None)
    jsonschema.validate(found, schema())
    assert found["current"]["compared"] is None
    assert found["current"]["reason"] == {
        "code": "no_policy",
        "text": "no policy was replayed on the test window",
        "pools": [],
    }
    assert "current" in {row["policy"] for row in found["policies"]}


def test_without_anything_beside_nothing_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No empty keys in summary.json, no empty files."""
    found = replayed(monkeypatch, tmp_path, Beside())
    jsonschema.validate(found, schema())
    assert {"current", "faults"}.isdisjoint(found)
    assert "given" not in found["calibration"]["one_day"]
    assert not (tmp_path / policy_stages.CURRENT_FILE).exists()


TOPOLOGY = """
schema: hs-analysis/topology/v1alpha1
affinity: s2
gpus_per_instance: {prefill: 1, decode: 1}
racks:
  - {s2: a, s1: a1, gpu_type: H20, gpus: 12}
  - {s2: b, s1: b1, gpu_type: H20, gpus: 2}
"""


def test_a_topology_gives_a_row_a_policy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Eleven prefill and four decode ran, fourteen GPUs are there: one instance has no place at any time."""
    found = replayed(monkeypatch, tmp_path, Beside(topology=(Document("racks.yaml", TOPOLOGY),)))
    jsonschema.validate(found, schema())
    rows = {row["policy"]: row for row in found["placement"]}
    own = [name for name in rows if not name.startswith("as_")]
    assert own == [CHOSEN.policy, "in_sample", "heteroscale", "static_peak", "recorded"]
    assert rows["recorded"]["unplaced_window_ratio"] == 1.0
    assert rows["recorded"]["crossing_ratio"] > 0.0
    assert rows["recorded"]["scarce_instance_hours"] == 0.0
    assert tables.read(tmp_path, "replay_placement").height == len(rows)
    assert "placement" not in replayed(monkeypatch, tmp_path / "none", Beside())


def test_a_signal_without_a_value_at_other_counts_is_not_replayed() -> None:
    """A queue that never moved: a replay that reads nothing would take it for 0 and scale in."""
    rows = FRAME.table.height
    load = {role: FRAME.values("offered_tps", role) for role in ("prefill", "decode")}
    done = load["decode"] / 200.0
    frame = service(
        load, {"prefill": 11, "decode": 4},
        router_queue__service=np.zeros(rows), completion_rate__service=done,
        input_length__service=np.full(rows, 900.0),
    )  # fmt: skip
    shared = {"labels": {}, "emitter_role": "frontend", "service": frame.service}
    metrics = ("queued_requests", "requests_total", f"{LENGTH}_sum", f"{LENGTH}_count")
    series = series_frame([{"metric": f"{FRONT}_{name}", **shared} for name in metrics])

    def read(query: str) -> CurrentAutoscaler:
        text = KEDA.replace("sum(rate(vllm:generation_tokens_total[1m]))", query)
        if "/" in query:
            text = text.replace("type: prometheus", "type: prometheus\n      metricType: Value")
        files = (Document("k.yaml", text),)
        return current_autoscaler(files, frame, derived(), SETTINGS, series)

    refused = read("sum(dynamo_frontend_queued_requests)")
    assert refused.scaler is None
    assert "router_queue of service has no value at counts that never ran" in refused.notes[0]
    for query, values in (
        (f"sum(rate({FRONT}_requests_total[1m]))", done),
        (f"rate({FRONT}_{LENGTH}_sum[1m]) / rate({FRONT}_{LENGTH}_count[1m])", np.full(rows, 900.0)),
    ):
        found = read(query)
        assert found.scaler is not None, found.notes
        (metric,) = found.scaler.pools["decode"].hpa.metrics
        (demand,) = demands(frame)
        model = fit_fleet(frame, derived(), SETTINGS)
        key = (metric.signal, "decode")
        readings, state = Readings([key], 1, demand, model, 1), SameState(demand, 1)
        counts = {role: np.array([count]) for role, count in (("prefill", 11.0), ("decode", 8.0))}
        none = {role: np.zeros(1) for role in counts}
        for row in range(20):
            work = {role: each[row : row + 1] * 60.0 for role, each in load.items()}
            one = Passed(work, none, counts, none, np.ones(1), np.zeros(1, bool))
            state.see(row, one)
            assert readings.read(row, one, state)[0, 0] == pytest.approx(values[row])
