"""A policy by the clock: its timetable of the first part is written, read back, replayed and decided on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from replay.services import SETTINGS, VERDICTS, derived, plain_policy, service

from hs_analysis.controllers import Autoscaler
from hs_analysis.pipeline import policy_stages
from hs_analysis.pipeline.objects import deployed
from hs_analysis.pipeline.policy_stages import TRAIN, headline_of, in_mode
from hs_analysis.pipeline.select_stage import Chosen
from hs_analysis.policy.model import Bounds
from hs_analysis.replay import replay_service
from hs_analysis.report.choice import choose
from hs_analysis.schema.aligned import ServiceFrame
from hs_analysis.schema.frames import SERIES, empty
from hs_analysis.schema.settings import Reading, Settings
from hs_analysis.select import knobs_of

PERIODIC = replace(SETTINGS, policy_mode="periodic", reading=Reading(tz="Europe/Berlin"))
KNOBS = knobs_of(60.0, waits=False)[0]
CHOSEN = Chosen(f"decode_tps@decode, {KNOBS.name}", TRAIN, "keda", "decode_tps@decode", KNOBS)


def days(count: int, window_s: float = 60.0) -> ServiceFrame:
    """Return equal days: 10,000 tokens/s from eight to sixteen o'clock UTC, else 2,000."""
    hour = np.arange(count * 86_400 / window_s) * window_s / 3600 % 24
    load = np.where((hour - 8) % 24 < 8, 10_000.0, 2_000.0)
    counts = {"prefill": 20, "decode": 9}
    return service({"prefill": 6 * load, "decode": load}, counts, window_s=window_s)


def test_the_timetable_that_is_replayed_is_the_file_read_back() -> None:
    """Cron triggers of both pools, the parameters of the policy, on the clock of the user."""
    frame = days(2)
    policy = in_mode(plain_policy(controller="keda"), frame, derived(), PERIODIC)
    found = deployed(policy, frame, derived(), PERIODIC, empty(SERIES))
    assert (found.why_not, found.differs) == ("", ())
    assert isinstance(found.control, Autoscaler)
    assert {one.zone for one in found.control.pools.values()} == {"Europe/Berlin"}
    assert set(found.control.pools) == {"prefill", "decode"}
    assert deployed(replace(policy, controller="hpa"), frame, derived(), PERIODIC, empty(SERIES)).why_not


@pytest.mark.parametrize(("mode", "headline"), [("periodic", "periodic"), ("metric", CHOSEN.policy)])
def test_the_headline_is_the_object_that_will_run(
    monkeypatch: pytest.MonkeyPatch, mode: str, headline: str
) -> None:
    """A timetable where it was asked for, with the policy by metrics beside it; it is what is decided on.

    Rows that keep a P/D ratio are compared with a policy by metrics alone.
    """
    frame, train = days(3), days(2)
    settings = replace(PERIODIC, policy_mode=mode)
    monkeypatch.setattr(policy_stages, "read_verdicts", lambda *_: VERDICTS)
    monkeypatch.setattr(policy_stages, "read_derived", lambda *_: derived())
    monkeypatch.setattr(policy_stages, "chosen_policy", lambda *_: CHOSEN)
    found = policy_stages._controls(SimpleNamespace(run=Path("run"), settings=settings), frame, train, None)
    assert next(iter(found.of)) == found.said["policy"] == headline
    assert CHOSEN.policy in found.of
    calibration = {"deployed": found.said}
    replay = SimpleNamespace(calibration=calibration, policies=())
    monkeypatch.setattr(policy_stages, "read_replay", lambda *_: replay)
    policy = in_mode(plain_policy(controller="keda"), frame, derived(), settings)
    assert headline_of(Path("run"), policy) == headline
    rows = [{"policy": name} for name in found.of]
    summary = {"replay": {"calibration": calibration, "policies": rows}, "selection": []}
    assert choose(summary, "").selected == {"policy": headline}
    assert bool(found.ratio_rows) == (mode == "metric")
    if mode == "periodic":
        assert found.said["read_back"]
        assert found.said["as_others"]["hpa"]["why_not"] == "it keeps no timetable"
        monkeypatch.setattr(policy_stages, "read_replay", lambda *_: SimpleNamespace(calibration={}))
        assert headline_of(Path("run"), policy) == ""


def test_an_hpa_keeps_its_metrics_and_says_why() -> None:
    """Nothing that an HPA can hold follows the clock."""
    policy = plain_policy(controller="hpa")
    found = in_mode(policy, days(2), derived(), PERIODIC)
    assert (found.mode, found.periodic) == (policy.mode, ())
    assert found.refusals[-1].startswith("no_timetable: an HPA keeps no timetable")


def test_the_timetable_beside_the_policies_is_on_the_clock_of_the_user() -> None:
    """Eight in UTC, in winter, is nine in Berlin: the baseline says so."""
    frame, bounds = days(2, window_s=240.0), {role: Bounds(1, 100) for role in ("prefill", "decode")}
    for tz, start in ((None, "07:56"), ("Europe/Berlin", "08:56")):
        settings: Settings = replace(SETTINGS, reading=Reading(tz=tz))
        planned = in_mode(plain_policy(controller="keda", bounds=bounds), frame, derived(), PERIODIC)
        control = deployed(planned, frame, derived(), settings, empty(SERIES)).control
        found = replay_service(frame, frame, derived(), {"periodic": control}, settings).result
        entries = found.calibration["timetable"]
        assert {entry["zone"] for entry in entries} == {tz or "UTC"}
        assert start in {entry["from"] for entry in entries}
        hours = {row.policy: row.instance_hours for row in found.policies}
        assert hours["periodic"] == pytest.approx(hours["timetable"], rel=0.01)
