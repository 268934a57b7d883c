"""What alerts record and ask, on a real Prometheus with the samples: the study's values, and silence."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from end_to_end.runs import SAMPLES, Finished, Run
from export.prometheus_server import over, prometheus_with
from ruamel.yaml import YAML

from hs_analysis.pipeline.tables import read_frames
from hs_analysis.schema.aligned import ServiceFrame

pytestmark = pytest.mark.outside("promtool", "prometheus")

WITHIN, SHARE_WITHIN = 0.01, 0.99
"""Largest relative difference of a recorded value and the study's, and the share of windows that keep it: the
two fill in differently where a window ends at a missed scrape."""

ALLOWED = 0.05
"""Share of requests over the limit that the samples' objective allows."""

MINUTE_S = 60.0

GOOD_S = {"production": 3600.0, "pressure_test": 300.0}
"""How long the SLO was held before an alert is asked [s]: as long as alerts of the SLO wait, or longer."""


@dataclass(frozen=True)
class Loaded:
    """A run of a sample, its aligned service, a Prometheus with it, and the rules without recorded names."""

    done: Run
    frame: ServiceFrame
    url: str
    records: dict[tuple[str, str, str], str]
    alerts: list[dict]

    def values(self, expr: str, step_s: float = MINUTE_S) -> dict[float, float]:
        """Return an expression's value by time, over the whole sample."""
        starts = self.frame.seconds()
        return over(self.url, expr, starts[0] + self.frame.window_s, starts[-1] + self.frame.window_s, step_s)

    def study(self, signal: str, role: str) -> dict[float, float]:
        """Return the study's values by the end of their windows."""
        found = self.frame.values(signal, role)
        ends = self.frame.seconds() + self.frame.window_s
        return {t: v for t, v in zip(ends, found, strict=True) if np.isfinite(v)}


@pytest.fixture(scope="module", params=["dynamo-pd", pytest.param("simulated-days", marks=pytest.mark.slow)])
def loaded(request: pytest.FixtureRequest, root: Path, finished: Finished) -> Iterator[Loaded]:
    """A shipped sample, studied and loaded."""
    source = root / "data_samples" / request.param
    done = finished(source, *SAMPLES[request.param])
    rules = []
    for end in ("rules", "alerts"):
        (path,) = (done.folder / "exports" / "rules").glob(f"*.{end}.yaml")
        document = YAML(typ="safe").load(path.read_text("utf-8"))
        rules += [rule for group in document["groups"] for rule in group["rules"]]
    records, alerts = _filled_in(rules)
    (frame,) = read_frames(done.folder)
    with prometheus_with(source) as url:
        yield Loaded(done, frame, url, records, alerts)


def _filled_in(rules: list[dict]) -> tuple[dict[tuple[str, str, str], str], list[dict]]:
    """Return expressions by (name, role, edge), and alerts, recorded names replaced by what they record."""
    by_selector: dict[str, str] = {}
    records, alerts = {}, []

    def expression(text: str) -> str:
        return re.sub(r"service:hs_[\w:]+{[^}]*}", lambda found: f"({by_selector[found[0]]})", text)

    for rule in rules:
        expr = expression(rule["expr"])
        if "alert" in rule:
            alerts.append(rule | {"expr": expr})
            continue
        labels = rule["labels"]
        selector = ",".join(f'{key}="{value}"' for key, value in labels.items())
        by_selector[f"{rule['record']}{{{selector}}}"] = expr
        records[rule["record"].split(":")[1], labels["role"], labels.get("edge_s", "")] = expr
    return records, alerts


def _near(got: dict[float, float], wanted: dict[float, float], least: int) -> None:
    both = sorted(set(got) & set(wanted))
    assert len(both) >= least
    off = [abs(got[t] - wanted[t]) / max(abs(wanted[t]), ALLOWED) for t in both]
    assert np.mean(np.array(off) <= WITHIN) >= SHARE_WITHIN, max(off)


def _weighed(
    loaded: Loaded, share: dict[float, float], weight: dict[float, float], windows: int
) -> dict[float, float]:
    """Return means of a share over several windows, by what it is a share of."""
    width = loaded.frame.window_s
    found = {}
    for end in share:
        inside = [end - k * width for k in range(windows)]
        if all(t in share and t in weight for t in inside):
            total = sum(weight[t] for t in inside)
            if total > 0:
                found[end] = sum(share[t] * weight[t] for t in inside) / total
    return found


def _windows(loaded: Loaded, expr: str) -> int:
    found = re.search(r"\[(\d+)m\]", expr)
    assert found
    return max(1, round(int(found[1]) * 60 / loaded.frame.window_s))


def test_recorded_shares_over_the_limits_are_the_studys(loaded: Loaded) -> None:
    """The share over each edge within 1 %, or 1 % of what is allowed where it is less."""
    compared = 0
    for (name, _, edge), expr in loaded.records.items():
        if not edge:
            continue
        signal = name.removeprefix("hs_").removesuffix("_over")
        (edges,) = [one for one in loaded.frame.limit_edges if one.signal == signal]
        ending = "over_high" if float(edge) == edges.high_s else "over_low"
        _near(loaded.values(expr), _share_over(loaded, signal, ending, _windows(loaded, expr)), 50)
        compared += 1
    assert compared >= 2


def _share_over(loaded: Loaded, signal: str, ending: str, windows: int) -> dict[float, float]:
    """Return the study's share over an edge by the end of its windows, over several of them."""
    role, counted = {"ttft": ("service", "first_token_rate"), "tbt": ("decode", "decode_tps")}[signal]
    table = pl.read_parquet(loaded.done.folder / "data" / "signals.parquet").filter(
        (pl.col("signal") == f"{signal}_{ending}") & (pl.col("role") == role) & pl.col("gpu_type").is_null()
    )
    ends = (table["t"].dt.epoch("us") / 1e6 + loaded.frame.window_s).to_list()
    share = {t: v for t, v in zip(ends, table["value"].to_list(), strict=True) if v is not None}
    return _weighed(loaded, share, loaded.study(counted, role), windows)


def test_recorded_instances_and_loads_are_the_studys(loaded: Loaded) -> None:
    """Instances that report, and what each carries."""
    for role in ("prefill", "decode"):
        counts = loaded.study("instances", role)
        _near(loaded.values(loaded.records["hs_instances", role, ""]), counts, 50)
        ((name, expr),) = [
            (name, expr)
            for (name, of, _), expr in loaded.records.items()
            if "per_instance" in name and of == role
        ]
        signal = name.removeprefix("hs_").removesuffix("_per_instance").removesuffix("_and_waiting")
        total = _total(loaded, loaded.study(signal, role), expr)
        got = loaded.values(expr)
        if "_and_waiting" in name:  # what waits is added to the work that the study judged
            waits = {t for t, v in loaded.study("queue_length", "prefill").items() if v == 0}
            got = {t: v for t, v in got.items() if {t, t - MINUTE_S} <= waits}
        _near(got, {t: v / counts[t] for t, v in total.items() if counts.get(t)}, 30)


def _total(loaded: Loaded, total: dict[float, float], expr: str) -> dict[float, float]:
    """Return what an expression makes of a pool's total: its mean, or a fresher one while that is higher."""
    flat = dict.fromkeys(total, 1.0)
    found = re.search(r"\[(\d+)m\]\)\)? > ([\d.]+) \* .*?\[(\d+)m\]", expr)
    if not found:
        return _weighed(loaded, total, flat, _windows(loaded, expr))
    fresh, usual = (
        _weighed(loaded, total, flat, round(int(span) * MINUTE_S / loaded.frame.window_s))
        for span in (found[1], found[3])
    )
    return {t: fresh[t] if fresh[t] > float(found[2]) * usual[t] else usual[t] for t in usual}


def test_recorded_lengths_are_those_of_the_history(loaded: Loaded) -> None:
    """Tokens of a request over an hour, from the tokens and requests of the study's windows."""
    counted = {
        "prompt_tokens": ("prompt_tps", "first_token_rate"),
        "output_tokens": ("finished_output_tps", "finished_rate"),
    }
    for name, (tokens, requests) in counted.items():
        expr = loaded.records[f"hs_{name}_per_request", "service", ""]
        rates = loaded.study(requests, "service")
        each = {t: v / rates[t] for t, v in loaded.study(tokens, "service").items() if rates.get(t)}
        _near(loaded.values(expr), _weighed(loaded, each, rates, 60), 3)


def _fires(loaded: Loaded, alert: dict) -> list[float]:
    """Return the minutes at which an alert fires: its expression has given a value for as long as it says."""
    return _lasting(set(loaded.values(alert["expr"])), alert)


def _lasting(there: set[float], alert: dict) -> list[float]:
    """Return the minutes of some that go on for as long as an alert waits."""
    found = re.fullmatch(r"(\d+)([mh])", alert["for"])
    assert found
    minutes = int(found[1]) * {"m": 1, "h": 60}[found[2]]
    return sorted(t for t in there if all(t - k * MINUTE_S in there for k in range(minutes + 1)))


def _good(loaded: Loaded) -> list[float]:
    """Return the ends of `GOOD_S` whose every window is known and held the SLO."""
    windows = (
        set(loaded.study("request_rate", "service")) if loaded.frame.has("request_rate", "service") else set()
    )
    held = []
    for signal, role in (("ttft_over", "service"), ("tbt_over", "decode")):
        held.append({t for t, v in loaded.study(signal, role).items() if v <= ALLOWED})
    fine = windows & held[0] & held[1]
    span = round(GOOD_S[loaded.frame.kind] / loaded.frame.window_s)
    return sorted(t for t in fine if all(t - k * loaded.frame.window_s in fine for k in range(span)))


def test_alerts_are_silent_while_the_sample_held_its_slo(loaded: Loaded) -> None:
    """No alert fires at the end of an hour in which the study saw every window, and none over the limit."""
    good = set(_good(loaded))
    assert len(good) >= (1000 if loaded.frame.kind == "production" else 5)
    for alert in loaded.alerts:
        assert not good & set(_fires(loaded, alert)), alert["alert"]


MAY_BE_OVER_MINUTES = {"pressure_test": {"HsTtftMayBeOverSlo": 5}, "production": {}}
"""Minutes at which the samples fire what may be over the limit [minutes]: the edges of the second lie at its
limits, so that no alert is needed."""


def test_what_may_be_over_the_limit_fires_in_the_minutes_over_the_edge_below_it(loaded: Loaded) -> None:
    """It is no false alarm: it fires when the study saw too many over that edge, and never else.

    Left out are minutes that count one which the study does not know.
    """
    fired = {}
    for alert in loaded.alerts:
        if not alert["alert"].endswith("MayBeOverSlo"):
            continue
        signal = alert["labels"]["signal"]
        share = _share_over(loaded, signal, "over_low", _windows(loaded, alert["expr"]))
        found = _fires(loaded, alert)
        known = set(_lasting(set(share), alert))
        assert [t for t in found if t in known] == _lasting(
            {t for t, v in share.items() if v > ALLOWED}, alert
        )
        fired[alert["alert"]] = len(found)
    assert fired == MAY_BE_OVER_MINUTES[loaded.frame.kind]


def test_alerts_fire_where_the_sample_broke_its_slo(loaded: Loaded) -> None:
    """The silence is not deafness: the peaks of both samples are seen."""
    fired = {alert["alert"] for alert in loaded.alerts if _fires(loaded, alert)}
    assert fired & {"HsTtftOverSlo", "HsTbtOverSlo", "HsGuardReached"}
    assert "HsMixDrifted" not in fired
    assert "HsTargetDrifted" not in fired
