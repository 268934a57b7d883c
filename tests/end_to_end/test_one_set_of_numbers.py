"""One set of numbers: low ≤ value ≤ high, and every output of a run says the same."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from end_to_end.histories import answered, seeded
from end_to_end.laws import apart_in_the_terminal, broken_laws, told
from end_to_end.runs import SAMPLES, Finished

FAST, SLOW = (2, 6), (*(seed for seed in range(200) if seed not in (2, 6, 7)),)
"""Seeds: a service over its limit and a single pool; all others. The pressure test of 7 is ``whole``."""


@pytest.mark.parametrize("name", sorted(SAMPLES))
def test_a_sample_has_one_set_of_numbers(name: str, root: Path, finished: Finished) -> None:
    """Summary, policy, terminal, report and exports of a shipped sample."""
    assert broken_laws(finished(root / "data_samples" / name, *SAMPLES[name]).folder) == []


@pytest.mark.parametrize("seed", FAST)
def test_a_history_has_one_set_of_numbers(seed: int, tmp_path: Path) -> None:
    """A service over its limit, and a single pool."""
    assert broken_laws(answered(seeded(seed), tmp_path)) == []


@pytest.mark.slow
@pytest.mark.parametrize("seed", SLOW)
def test_many_histories_have_one_set_of_numbers(seed: int, tmp_path: Path) -> None:
    """Of each kind: roomy, near and over the limit, a moving mix, uneven, short, single pool, test."""
    assert broken_laws(answered(seeded(seed), tmp_path)) == []


@pytest.fixture(scope="module")
def whole(made_once: Callable[..., Path]) -> Path:
    """A pressure test that holds every law: the cheapest history with two primaries."""
    folder = made_once("whole-history", lambda folder: answered(seeded(7), folder))
    assert broken_laws(folder) == []
    return folder


def _summary(change: Callable[[dict[str, Any]], Any]) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        found = json.loads((folder / "summary.json").read_text("utf-8"))
        change(found["services"][0])
        (folder / "summary.json").write_text(json.dumps(found), "utf-8")

    return spoil


def _text(pattern: str, old: str, new: str) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        path = next(folder.glob(pattern))
        text = path.read_text("utf-8")
        assert old in text
        path.write_text(text.replace(old, new, 1), "utf-8")

    return spoil


RATIO = """  pd_ratio:
    {prefill: 1, decode: 1, value: 1.0, low: 1.0, high: 1.0, max_deviation: 0.0, status: ok, evidence: x}
"""

SPOILT: dict[str, Callable[[Path], None]] = {
    "interval": _summary(lambda s: s["capacity"][0].update(per_instance=9e9)),
    "policy.yaml": _summary(lambda s: s["thresholds"][0].update(target_per_instance=9e9)),
    "ratio": _text("policy.yaml", "  pd_ratio:\n", RATIO),
    "exports": _text("exports/keda/*scaledobjects.yaml", 'threshold: "', 'threshold: "9'),
    "report": _summary(lambda s: s["pd_ratio"].update(value=9e9)),
    "words": _text("report.html", "Risk: ", "Risk: about "),
}
"""Law → what makes a run break it."""


@pytest.mark.parametrize("law", SPOILT)
def test_a_law_that_is_broken_is_seen(law: str, whole: Path, tmp_path: Path) -> None:
    """The laws are not blind: one number changed in one output breaks the one that speaks of it."""
    folder = shutil.copytree(whole, tmp_path / "run")
    SPOILT[law](folder)
    assert law in {found.partition(":")[0] for found in broken_laws(folder)}


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("  selected policy: prefill", "  selected policy: decode"),
        ("  target: prefill_tps_effective@prefill ", "  target: prefill_tps_effective@prefill 9"),
        ("not kept", "kept"),
        ("confidence medium", "confidence high"),
        ("shop/chat", "shop/chat: keep what runs"),
    ],
)
def test_a_terminal_that_says_otherwise_is_seen(old: str, new: str, whole: Path) -> None:
    """Policy, target, ratio, confidence and what to do, each on its own."""
    summary, documents, text = told(whole)
    assert list(apart_in_the_terminal(summary, documents, text)) == []
    assert old in text
    assert list(apart_in_the_terminal(summary, documents, text.replace(old, new, 1)))
