"""Production inputs that can't answer: half an hour, a load that stands still, one pool of two."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from end_to_end.runs import SIMULATED, Finished, Run, copy_changed, here
from simulator import history, kind_of, write

from hs_analysis.pipeline import tables

HALF_HOUR = timedelta(minutes=30)

CUT_AT_HOURS = (
    pytest.param(4.5, marks=pytest.mark.slow), 10.8, pytest.param(16.0, marks=pytest.mark.slow),
)  # fmt: skip
"""Hours of a day of the sample at which half an hour is cut out: trough, and the two peaks."""

SETTINGS = ("-q", *SIMULATED)


@pytest.fixture(scope="module")
def sample(request: pytest.FixtureRequest) -> Path:
    """The shipped days of a simulated service."""
    return Path(request.config.rootpath) / "data_samples" / "simulated-days"


def _derived(source: Path, folder: Path, *options: str) -> Path:
    here("ingest", source, "--run-dir", folder, "-q")
    here("derive", folder, *SETTINGS, *options)
    return folder


def _assert_no_answer(folder: Path) -> None:
    """Nothing is `ok`, each refusal says what to record, and a test is laid out that would answer."""
    for name in ("capacity", "thresholds", "pd_ratio"):
        rows = tables.read(folder, name)
        assert set(rows["status"]) <= {"floor", "refused"}, (name, rows.select("status", "reason"))
    refusals = tables.read(folder, "refusals")
    assert {"pd_ratio"} | {w for w in refusals["what"] if w.startswith("capacity@")} <= set(refusals["what"])
    assert all(text.strip() for text in refusals["collect"])
    said = here("plan-test", folder, "-q", "-o", "json").stdout
    planned: Any = json.loads(said)
    assert planned["tests"], said


@pytest.mark.parametrize("hours", CUT_AT_HOURS)
def test_half_an_hour_is_no_history(sample: Path, finished: Finished, tmp_path: Path, hours: float) -> None:
    """Not even one in which the limits broke."""
    whole: Run = finished(sample, *SIMULATED)
    start = datetime.fromisoformat(whole.summary["window"]["start"]).astimezone(UTC)
    begin = start.replace(hour=0, minute=0) + timedelta(days=1, hours=hours)
    bounds = ("--from", begin.isoformat(), "--to", (begin + HALF_HOUR).isoformat())
    _assert_no_answer(_derived(sample, tmp_path / "run", *bounds))


@pytest.mark.slow
@pytest.mark.parametrize("peak", [0.6, 1.0, 1.1])
def test_a_load_that_stands_still_answers_nothing(tmp_path: Path, peak: float) -> None:
    """At its level the limit holds, breaks now and then, or breaks all the time."""
    still = replace(kind_of("constant_load"), prefill_peak=(peak, peak), decode_peak=(peak, peak))
    write(history(still, 1), tmp_path / "dumps")
    _assert_no_answer(_derived(tmp_path / "dumps", tmp_path / "run"))


@pytest.mark.parametrize("role", ["prefill", pytest.param("decode", marks=pytest.mark.slow)])
def test_one_pool_of_two_answers_nothing_of_either(sample: Path, tmp_path: Path, role: str) -> None:
    """What the other one held back can't be told."""
    other = {"prefill": "decode", "decode": "prefill"}[role]

    def without_other(series: dict[str, Any]) -> dict[str, Any] | None:
        return None if any(other in text for text in series["metric"].values()) else series

    left = copy_changed(sample, tmp_path / "dumps", without_other)
    folder = _derived(left, tmp_path / "run")
    _assert_no_answer(folder)
    assert set(tables.read(folder, "capacity")["role"]) == {role}
