"""A run whose router leaves an instance idle says so where the answer is read."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from end_to_end.runs import here

START_S = 1_764_000_000
STEP_S = 30
ROWS = 3 * 3600 // STEP_S


def counter(metric: str, pod: str, rate: float) -> dict[str, Any]:
    """Return three hours of a counter of a pod that rises with a load that moves."""
    values, total = [], 0.0
    for row in range(ROWS):
        values.append([START_S + STEP_S * row, f"{total:.3f}"])
        total += rate * STEP_S * (2.0 + math.sin(row / 20))
    return {
        "metric": {"__name__": metric, "namespace": "ns", "model_name": "m", "pod": pod}, "values": values
    }  # fmt: skip


def dump(place: Path, rates: dict[str, float]) -> Path:
    """Write a dump of pods that make tokens at some rates."""
    made = [counter("vllm:generation_tokens_total", pod, rate) for pod, rate in rates.items()]
    made += [counter("vllm:prompt_tokens_total", pod, 3 * rate) for pod, rate in rates.items()]
    place.write_text(json.dumps({"status": "success", "data": {"resultType": "matrix", "result": made}}))
    return place


@pytest.mark.parametrize(("other", "words"), [(0.01, "1 of 2 decode instances (m-decode-1)"), (900.0, "")])
def test_a_run_warns_of_an_idle_instance(tmp_path: Path, other: float, words: str) -> None:
    """On the terminal and in summary.json; nothing is said where the load is shared."""
    rates = {"m-prefill-0": 500.0, "m-decode-0": 1000.0, "m-decode-1": other}
    ran = here("run", dump(tmp_path / "a.json", rates), "--run-dir", tmp_path / "run", "-q")
    assert ran.exit_code == 0, ran.output
    summary = json.loads((tmp_path / "run" / "summary.json").read_text("utf-8"))
    found = [one["text"] for one in summary["warnings"] if one["code"] == "idle_instances"]
    assert len(found) == ("warning (idle_instances): ns/m: " in ran.stdout) == bool(words)
    assert all(text.startswith(f"ns/m: {words} did <0.01 % of the work") for text in found)
    reasons = [one["code"] for one in summary["services"][0]["decision"]["confidence_reasons"]]
    assert ("idle_instances" in reasons) == bool(words)
