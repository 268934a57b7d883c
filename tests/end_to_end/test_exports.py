"""The exported rules, run by a real Prometheus loaded with the sample, give the values the study judged."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from end_to_end.runs import SAMPLES, Finished, Run
from export.prometheus_server import over, prometheus_with
from outside import needs
from ruamel.yaml import YAML

pytestmark = pytest.mark.outside("promtool", "prometheus")

WITHIN = 0.01
"""Largest relative difference of a recorded value and the study's."""

SHARE_WITHIN = 0.99
"""Share of the windows that must be: where a window ends at a missed scrape the two fill in differently."""

WEIGHTS = {"ttft": "first_token_rate", "tbt": "decode_tps"}
"""What a latency is a mean over."""


@pytest.fixture(scope="module", params=["dynamo-pd", pytest.param("simulated-days", marks=pytest.mark.slow)])
def sample(request: pytest.FixtureRequest, root: Path, finished: Finished) -> tuple[Run, Path]:
    """A run of a shipped sample."""
    source = root / "data_samples" / request.param
    return finished(source, *SAMPLES[request.param]), source


def _rules(done: Run) -> list[tuple[str, str, str, float]]:
    """Return (signal, role, expression, window in seconds) of every recorded rule."""
    (path,) = (done.folder / "exports" / "rules").glob("*.rules.yaml")
    document = YAML(typ="safe").load(path.read_text("utf-8"))
    found = []
    for rule in document["groups"][0]["rules"]:
        signal = re.fullmatch(r"\w+:hs_(\w+):\w+", rule["record"])
        window = re.search(r"\[(\d+)([sm])\]", rule["expr"])
        assert signal, rule
        assert window, rule
        seconds = int(window.group(1)) * {"s": 1, "m": 60}[window.group(2)]
        # What waits is added last; the study judged the signal without it.
        name, expr = signal.group(1).removesuffix("_and_waiting"), rule["expr"]
        expr = expr.rpartition(" + ")[0] if name != signal.group(1) else expr
        found.append((name, rule["labels"]["role"], expr, float(seconds)))
    return found


def _series(done: Run, signal: str) -> tuple[dict[float, float | None], float]:
    """Return an aligned signal by the start of its window [s], and the window's width [s]."""
    table = pl.read_parquet(done.folder / "data" / "signals.parquet").filter(
        (pl.col("signal") == signal) & pl.col("gpu_type").is_null()
    )
    starts = (table["t"].dt.epoch("us") / 1e6).to_list()
    return dict(zip(starts, table["value"].to_list(), strict=True)), float(table["window_s"][0])


def _study_values(done: Run, signal: str, role: str, window_s: float) -> dict[float, float]:
    """Return the study's value over each full window, by the window's end [s].

    Totals are averaged over time; latencies over what they are means of: first tokens, and tokens.
    """
    values, step = _series(done, _of_role(done, signal, role))
    weights, _ = _series(done, WEIGHTS[signal]) if signal in WEIGHTS else (dict.fromkeys(values, 1.0), step)
    count = max(round(window_s / step), 1)
    means = {}
    for end in [start + step for start in sorted(values)][count::count]:
        inside = [end - step * (k + 1) for k in range(count)]
        pairs = [(values.get(t), weights.get(t)) for t in inside]
        if all(v is not None and w is not None for v, w in pairs):
            means[end] = float(np.average([v for v, _ in pairs], weights=[w for _, w in pairs]))
    return means


def _of_role(done: Run, signal: str, role: str) -> str:
    table = pl.read_parquet(done.folder / "data" / "signals.parquet").filter(pl.col("signal") == signal)
    assert set(table["role"]) <= {role, "service"}, f"{signal} has several roles: name the one to compare"
    return signal


@pytest.mark.parametrize("sample", sorted(SAMPLES), indirect=True)
def test_the_rules_pass_promtool(sample: tuple[Run, Path]) -> None:
    """Promtool accepts every file of rules and of alerts."""
    promtool = needs("promtool")
    done, _ = sample
    exports = done.folder / "exports"
    alerts = list(exports.glob("rules/*.alerts.yaml"))
    assert alerts
    for path in [*exports.glob("*/*.rules.yaml"), *alerts]:
        checked = subprocess.run(
            [promtool, "check", "rules", path], capture_output=True, text=True, check=False
        )
        assert checked.returncode == 0, checked.stderr


def test_recorded_values_are_the_studys(sample: tuple[Run, Path]) -> None:
    """Every rule is the aligned signal within 1 %, and ten times closer at the median."""
    done, source = sample
    rules = _rules(done)
    assert {"ttft", "tbt"} < {rule[0] for rule in rules}
    with prometheus_with(source) as url:
        for signal, role, expr, window_s in rules:
            wanted = _study_values(done, signal, role, window_s)
            got = over(url, expr, min(wanted), max(wanted), window_s)
            both = sorted(set(wanted) & set(got))
            assert len(both) >= 5
            off = np.array([abs(got[t] / wanted[t] - 1) for t in both])
            assert (off <= WITHIN).mean() >= SHARE_WITHIN, (signal, role, off.max())
            assert np.median(off) <= WITHIN / 10, (signal, role, np.median(off))
