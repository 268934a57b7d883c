"""Which policy is written: the selected one where it stands, else the nearest; and faults of a run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from replay.services import SETTINGS, VERDICTS, derived, pd_day, plain_policy, service

from hs_analysis.pipeline import policy_stages, select_stage
from hs_analysis.pipeline.policy_stages import (
    TRAIN,
    fault_rows,
    in_mode,
    policy_primaries,
)
from hs_analysis.pipeline.select_stage import Chosen, ServiceTask, controller_of
from hs_analysis.pipeline.select_stage import _candidates as candidates_of
from hs_analysis.policy.model import Bounds
from hs_analysis.schema.aligned import ServiceFrame
from hs_analysis.schema.settings import Beside, ControllerName, Document, Reading, Settings
from hs_analysis.select import Knobs, candidate_of, knobs_of

KNOBS = knobs_of(60.0, waits=False)[0]
PREFILL, DECODE = ("prefill_tps_effective", "prefill"), ("decode_tps", "decode")


def taken(signals: str) -> Chosen:
    """Return what selection took: signals by name, for KEDA."""
    return Chosen(f"{signals}, {KNOBS.name}", TRAIN, "keda", signals, KNOBS)


def written(monkeypatch: pytest.MonkeyPatch, chosen: str | None, whole_ratio: str) -> tuple[object, bool]:
    """Return the policy of a service whose first part had a good ratio and whose whole has another."""
    monkeypatch.setattr(policy_stages, "chosen_policy", lambda *_: taken(chosen) if chosen else None)
    monkeypatch.setattr(policy_stages, "read_verdicts", lambda *_: VERDICTS)
    monkeypatch.setattr(
        policy_stages,
        "read_derived",
        lambda _f, _s, fit="whole": derived(ratio_status="ok" if fit == TRAIN else whole_ratio),
    )
    return policy_primaries(Path("run"), "demo/m")


def test_the_selected_policy_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it still stands nothing is put in its place."""
    assert written(monkeypatch, "decode_tps@decode", "ok") == ((DECODE,), True)


def test_a_ratio_that_drifted_since_makes_each_pool_follow_its_own_signal(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A fixed ratio is not written once the whole window shows that the mix moves."""
    assert written(monkeypatch, "decode_tps@decode", "drifting") == ((PREFILL, DECODE), False)


def test_without_a_selection_there_is_nothing_to_write(monkeypatch: pytest.MonkeyPatch) -> None:
    """No candidate, no primaries."""
    assert written(monkeypatch, None, "ok") == ((), True)


def test_faults_are_replayed_on_unseen_data(monkeypatch: pytest.MonkeyPatch) -> None:
    """One flat row per policy and fault, undisturbed first."""
    frame = pd_day(240)
    monkeypatch.setattr(policy_stages, "read_frames", lambda _: (frame,))
    monkeypatch.setattr(policy_stages, "read_verdicts", lambda *_: VERDICTS)
    monkeypatch.setattr(policy_stages, "read_derived", lambda *_: derived())
    monkeypatch.setattr(policy_stages, "chosen_policy", lambda *_: taken("decode_tps@decode"))
    rows = fault_rows(SimpleNamespace(run=Path("run"), settings=SETTINGS), ["metric_gap"])
    name = taken("decode_tps@decode").policy
    assert [(row["policy"], row["fault"]) for row in rows[:3]] == [
        (name, "none"),
        (name, "metric_gap"),
        ("in_sample", "none"),
    ]
    names = list(dict.fromkeys(row["policy"] for row in rows))
    assert names[:2] == [name, "in_sample"]
    assert names.index("heteroscale") < names.index("recorded")
    assert rows[1]["text"] == "no metric can be read for an hour"
    assert rows[1]["lowest_decode"] >= 1
    assert {"lowest_prefill", "lowest_ready_prefill", "recovery_s", "unserved_tokens"} <= set(rows[0])
    monkeypatch.setattr(policy_stages, "chosen_policy", lambda *_: None)
    found = fault_rows(SimpleNamespace(run=Path("run"), settings=SETTINGS), ["no_stock"])
    assert found[0]["policy"] == "recorded"


@pytest.mark.parametrize("counted", [True, False], ids=["what waits is known", "it is not"])
def test_the_whole_grid_is_tried_on_the_signals_of_the_fewest_models(
    monkeypatch: pytest.MonkeyPatch, counted: bool
) -> None:
    """Both pools' own tokens in every setting; a pool that follows the ratio in Kubernetes' own alone."""
    monkeypatch.setattr(select_stage, "read_verdicts", lambda *_: VERDICTS)
    monkeypatch.setattr(select_stage, "read_derived", lambda *_: derived())
    more = {"queue_length__prefill": np.zeros(240)} if counted else {}
    frame = pd_day(240, request_rate__service=np.full(240, 17.0), **more)
    task = ServiceTask(Path("run"), SETTINGS, frame.service)
    found = candidates_of(task, frame, TRAIN, "keda")
    shortest_s = next(iter(found.values())).reading.window_s
    grid = knobs_of(shortest_s, waits=counted, surges=True)
    own = "prefill_tps_effective@prefill+decode_tps@decode"
    led = ("prefill_tps_effective@prefill", "decode_tps@decode")
    assert set(found) == {candidate_of(own, knobs) for knobs in grid} | {
        candidate_of(signals, Knobs.kubernetes(shortest_s)) for signals in led
    }
    for knobs in grid:
        policy = found[candidate_of(own, knobs)]
        assert [one.waiting is not None for one in policy.primaries] == [knobs.waits, knobs.waits]
        assert policy.reading.window_s == knobs.window_s


def three_days(hour_of: int) -> ServiceFrame:
    """Return three equal days: 10,000 tokens/s in the eight hours from an hour of UTC on, else 2,000."""
    hour = np.arange(3 * 1440) / 60 % 24
    load = np.where((hour - hour_of) % 24 < 8, 10_000.0, 2_000.0)
    return service({"decode": load}, {"decode": 9})


@pytest.mark.parametrize(("tz", "wall"), [(None, 0), ("Europe/Berlin", 1), ("America/New_York", -5)])
def test_the_timetable_of_a_history_is_on_the_clock_of_the_user(tz: str | None, wall: int) -> None:
    """Eight in UTC, in winter, is nine in Berlin and three in New York; asked for a start-up time before."""
    frame = three_days(8)
    settings = replace(SETTINGS, policy_mode="periodic", reading=Reading(tz=tz))
    found = in_mode(plain_policy(bounds={"decode": Bounds(1, 20)}), frame, derived(), settings)
    assert found.mode == "periodic"
    assert {entry.zone for entry in found.periodic} == {tz or "UTC"}
    (busy,) = [entry for entry in found.periodic if entry.decode == 8]
    assert (busy.start, busy.end) == (f"{7 + wall:02d}:56", f"{16 + wall:02d}:00")


def test_a_history_without_every_hour_keeps_its_metrics() -> None:
    """Twelve hours make no timetable: the policy follows its signals, and says why."""
    policy = plain_policy()
    found = in_mode(policy, pd_day(720), derived(), replace(SETTINGS, policy_mode="periodic"))
    assert (found.mode, found.primaries) == (policy.mode, policy.primaries)
    assert found.refusals[-1] == "no_timetable: the training window does not hold every hour of a day"
    assert in_mode(policy, pd_day(720), derived(), SETTINGS) == policy


KEDA, HPA = "keda.sh/v1alpha1\nkind: ScaledObject", "autoscaling/v2\nkind: HorizontalPodAutoscaler"


@pytest.mark.parametrize(
    ("target", "objects", "want"),
    [
        (None, (), "keda"),
        (None, (HPA,), "hpa"),
        (None, (HPA, KEDA), "keda"),
        ("heteroscale", (HPA,), "heteroscale"),
    ],
)
def test_the_controller_is_asked_for_or_that_of_today(
    target: ControllerName | None, objects: tuple[str, ...], want: str
) -> None:
    """Without a target the kind of what runs today decides."""
    texts = [f"apiVersion: {one}\nmetadata: {{name: a}}\nspec: {{}}\n" for one in objects]
    beside = Beside(current=tuple(Document("today.yaml", text) for text in texts))
    assert controller_of(Settings(target=target, beside=beside)) == want
