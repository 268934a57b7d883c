"""The Grafana dashboard of a sample's run, asked of a real Prometheus that holds the sample."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import promql_parser
import pytest
from end_to_end.runs import SAMPLES, Finished
from export.prometheus_server import over, prometheus_with, read_query_range

from hs_analysis.export.model import range_s
from hs_analysis.pipeline.tables import read_frames
from hs_analysis.policy import Policy, load_all
from hs_analysis.schema.aligned import ServiceFrame

pytestmark = pytest.mark.outside("promtool", "prometheus")

DAY_S = 86_400.0
TOLERANCE = 0.01
"""How far a chart's mean may be from the study's [ratio]."""


@dataclass
class Board:
    """A dashboard, its policy, the aligned table that the study used, the Prometheus with its samples."""

    body: dict[str, Any]
    policy: Policy
    frame: ServiceFrame
    url: str

    def queries(self) -> Iterator[tuple[str, str, str]]:
        """Yield (title, legend, query) with the namespace put in, as Grafana asks it."""
        named = {
            one["name"]: one.get("current", {}).get("value", "") for one in self.body["templating"]["list"]
        }
        for panel in self.body["panels"]:
            for one in panel.get("targets", ()):
                yield (
                    panel["title"],
                    one["legendFormat"],
                    one["expr"].replace("$namespace", named.get("namespace", "")),
                )

    def query(self, title: str, legend: str) -> str:
        (found,) = [expr for *which, expr in self.queries() if which == [title, legend]]
        return found

    def both(self, title: str, legend: str, column: str, **how: str) -> tuple[np.ndarray, np.ndarray]:
        """Return what a chart draws at the end of each window, and the study's value over the same time.

        The windows that the query reaches over are put together: their mean, weighted by the column
        ``weight``, divided by the column ``per``. Times that either lacks are left out.
        """
        expr = self.query(title, legend)
        drawn, table = self.drawn(expr), self.frame.table
        count = max(1, round((range_s(expr) or 0.0) / self.frame.window_s))
        weight = pl.col(how.get("weight", "one"))
        together = (pl.col(column) * weight).rolling_sum(count) / weight.rolling_sum(count)
        value = together / pl.col(how["per"]) if "per" in how else together
        study = table.with_columns(one=pl.lit(1.0)).select(value.alias("value"))["value"].to_list()
        ends = self.frame.seconds() + self.frame.window_s
        pairs = [
            (drawn[end], known)
            for end, known in zip(ends, study, strict=True)
            if known is not None and end in drawn
        ]
        own, known = np.array(pairs).T
        both = np.isfinite(own) & np.isfinite(known)
        return own[both], known[both]

    def drawn(self, expr: str) -> dict[float, float]:
        ends = self.frame.seconds()[: round(DAY_S / self.frame.window_s)] + self.frame.window_s
        return over(self.url, expr, float(ends[0]), float(ends[-1]), self.frame.window_s)


@pytest.fixture(scope="module", params=["dynamo-pd", pytest.param("simulated-days", marks=pytest.mark.slow)])
def board(request: pytest.FixtureRequest, root: Path, finished: Finished) -> Iterator[Board]:
    """A sample's dashboard on its first day, with an alert that was pending and then fired."""
    source = root / "data_samples" / request.param
    run = finished(source, *SAMPLES[request.param])
    (path,) = (run.folder / "exports" / "grafana").glob("*.dashboard.json")
    (frame,) = read_frames(run.folder)
    start = float(frame.seconds()[0])
    alert = {"__name__": "ALERTS", "alertname": "HsTtftOverSlo", "service": frame.service, "role": "prefill"}
    states = [
        {"metric": {**alert, "alertstate": state}, "values": [[start + 60 * step, "1"] for step in steps]}
        for state, steps in (("pending", range(5)), ("firing", range(5, 20)))
    ]
    rows = read_query_range(source)
    with prometheus_with([*rows, *states], end=start + DAY_S + 600.0) as url:
        (policy,) = load_all((run.folder / "policy.yaml").read_text("utf-8"))
        yield Board(json.loads(path.read_text("utf-8")), policy, frame, url)


def test_each_query_of_a_dashboard_gives_one_series(board: Board) -> None:
    """It parses, and Prometheus answers with values over the sample."""
    asked = list(board.queries())
    assert len(asked) > 10
    for title, legend, expr in asked:
        promql_parser.parse(expr)
        values = board.drawn(expr)
        assert np.isfinite(list(values.values())).any(), f"{title}, {legend}: no value"


CHARTS = {
    "Instances: prefill": ("instances that report", "instances@prefill", {}),
    "Instances: decode": ("instances that report", "instances@decode", {}),
    "prefill TPS effective per prefill instance": (
        "per instance", "prefill_tps_effective@prefill", {"per": "instances@prefill"}
    ),
    "decode TPS per decode instance": ("per instance", "decode_tps@decode", {"per": "instances@decode"}),
    "Guard: mean TTFT (prefill)": ("mean", "ttft@service", {"weight": "first_token_rate@service"}),
    "Guard: mean TBT (decode)": ("mean", "tbt@decode", {"weight": "decode_tps@decode"}),
    "SLO: TTFT over": (None, "ttft_over_low@service", {"weight": "first_token_rate@service"}),
    "SLO: TBT over": (None, "tbt_over_low@decode", {"weight": "decode_tps@decode"}),
}  # fmt: skip
"""Title, or how it begins → line (the first where None), column of the study, how windows join."""


@pytest.mark.parametrize("title", CHARTS)
def test_charts_draw_what_the_study_used(board: Board, title: str) -> None:
    """Instances, loads, latencies, shares over limits: the means and 9 of 10 times are within 1 %."""
    legend, column, how = CHARTS[title]
    whole, line = next(
        (name, line) for name, line, _ in board.queries() if name.startswith(title) and legend in (None, line)
    )
    own, study = board.both(whole, line, column, **how)
    assert own.size > 50
    assert own.mean() == pytest.approx(study.mean(), rel=TOLERANCE)
    assert (np.abs(own - study) <= TOLERANCE * np.abs(study)).mean() > 0.9


@pytest.mark.parametrize(("role", "signal"), [("prefill", "prefill_tps_effective"), ("decode", "decode_tps")])
def test_what_the_policy_wants_is_its_total_by_its_target(board: Board, role: str, signal: str) -> None:
    """The study's total, divided by the policy's target, rounded up and kept within its bounds."""
    (primary,) = [one for one in board.policy.primaries if (one.signal, one.role) == (signal, role)]
    bounds, target = board.policy.bounds[role], primary.target_per_instance.value
    own, total = board.both(f"Instances: {role}", "the policy wants", f"{signal}@{role}")
    wanted = np.clip(np.ceil(total / target), bounds.min, bounds.max)
    assert len(set(wanted.tolist())) > 2
    assert (own == wanted).mean() > 0.9


def test_alerts_are_drawn_by_their_state(board: Board) -> None:
    """1 while it was pending, 2 when it fired."""
    values = board.drawn(board.query("Alerts", "{{alertname}} {{role}} {{signal}}"))
    assert set(values.values()) == {1.0, 2.0}
