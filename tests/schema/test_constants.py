"""Constants that tune an answer: each declared once, with unit and provenance."""

from __future__ import annotations

import ast
from importlib import import_module
from pathlib import Path

import pytest

import hs_analysis
from hs_analysis.cli.settings import STAGES, constants
from hs_analysis.schema.constants import declared

PACKAGE = Path(hs_analysis.__file__).parent
TUNED = ("derive", "study", "statistics", "policy", "select", "replay")
MOST = 132

FACTS = {"HOUR_S", "DAY_S", "NORMAL_95"}
"""Of the shared table: units and mathematical facts."""

FINE = {
    "derive/backtest_coverage.py": {"CHECKS_MAX", "DRAWS"},
    "derive/capacity.py": {"PARTS"},
    "derive/capacity_laws.py": {"COUNT_STEP", "CHANCES"},
    "derive/gpu_speed.py": {"QUEUE_POINTS"},
    "derive/mix.py": {"LEAST_AGAINST", "NORMAL_DECILES", "STILL"},
    "derive/service.py": {"CURVE_POINTS", "CURVE_BINS"},
    "derive/split_sweeps.py": {"TIGHTER", "SAME_RATIO", "WHOLE_OVER"},
    "policy/build.py": {"LARGEST_PAIR"},
    "policy/controls.py": {
        "FAILURES",
        "NOISE",
        "PERIOD_MAX_S, STABILISATION_MAX_S",
        "THOUSANDTHS",
        "TOLERANCE_DIGITS",
    },
    "policy/confidence.py": {"DAYS_NEEDED", "CAP, ONE, LOW"},
    "policy/decision.py": {"MOST_STEPS", "_LOADS"},
    "policy/document.py": {"WIDTH"},
    "policy/scale_in.py": {"POINTS"},
    "policy/rounding.py": {"DIGITS"},
    "policy/sanity.py": {"LEAST_TARGET_SHARE", "USUAL_TARGET"},
    "policy/timetable.py": {"DAY_S", "DAY_HOURS", "EPOCH_WEEKDAY", "RULES_YEAR"},
    "controllers/dynamo.py": {"PREFILL_LIMITS", "DECODE_LIMITS"},
    "controllers/lanes.py": {"ROUNDING"},
    "replay/baselines.py": {"HIGHEST_PRICE", "HALVINGS", "BUDGETS"},
    "replay/faults.py": {"LANES_IN_STEP", "PLACES", "PLACES_TO_SELECT"},
    "replay/readings.py": {"SAME_FLOAT"},
    "replay/signals.py": {"BEYOND_POINTS"},
    "replay/simulate.py": {"STEP_S"},
    "statistics/autoregression.py": {"STRETCH_ROWS"},
    "statistics/binomial.py": {"STEPS_MAX", "DEVIANCE_STEP"},
    "statistics/noise.py": {"MAD_TO_SD"},
    "study/effects.py": {"SNR_CAP"},
    "study/study.py": {"CHANGES_NAMED"},
}
"""Numbers that tune nothing: units, mathematical facts, what a page shows, how fine a grid or a sum is, and
the defaults of other autoscalers."""


def _is_number(value: ast.expr) -> bool:
    """Say whether an expression is made of numbers alone, but for the keys of a mapping."""
    if isinstance(value, ast.Dict):
        return all(map(_is_number, value.values))
    kinds = [node for node in ast.walk(value) if isinstance(node, ast.Constant | ast.Name)]
    return any(isinstance(node, ast.Constant) for node in kinds) and all(
        (isinstance(node, ast.Constant) and isinstance(node.value, int | float)) or _of_numpy(node)
        for node in kinds
    )


def _of_numpy(node: ast.expr) -> bool:
    return isinstance(node, ast.Name) and node.id in ("np", "math", "float")


def _numbers(path: Path) -> set[str]:
    """Return the names of a module that are bound to a number, or to several, at its top."""
    tree = ast.parse(path.read_text("utf-8"))
    return {
        ast.unparse(line.targets[0]).strip("()")
        for line in tree.body
        if isinstance(line, ast.Assign) and _is_number(line.value)
    }


@pytest.mark.parametrize("package", TUNED)
def test_numbers_that_tune_an_answer_are_declared_in_the_table_of_their_stage(package: str) -> None:
    """A number at the top of another module is one of those that tune nothing."""
    for path in sorted((PACKAGE / package).rglob("*.py")):
        name = path.relative_to(PACKAGE).as_posix()
        if path.name != "constants.py":
            assert _numbers(path) == FINE.get(name, set()), name


@pytest.mark.parametrize("stage", STAGES)
def test_every_number_of_a_table_has_a_declaration(stage: str) -> None:
    """Each comes with meaning, unit and provenance, and no name stands in two tables."""
    module = import_module(STAGES[stage])
    found = list(declared(stage, module))
    assert {one.name for one in found} | FACTS == _numbers(Path(str(module.__file__))) | FACTS
    assert all(one.meaning and one.unit and one.value == getattr(module, one.name) for one in found)
    assert all((one.provenance == "default") == (not one.source) for one in found)
    everywhere = [one.name for one in constants()]
    assert len(everywhere) == len(set(everywhere))


def test_modules_with_numbers_that_tune_nothing_are_there() -> None:
    """A module that went leaves no entry behind."""
    assert [name for name in FINE if not (PACKAGE / name).is_file()] == []


def test_a_number_without_unit_or_provenance_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error names module and number."""
    (tmp_path / "loose.py").write_text('LEVEL = 0.5\n"""A level. Default of this project."""\n')
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ValueError, match=r"loose\.LEVEL: .* lacks unit or provenance"):
        list(declared("loose", import_module("loose")))


def test_the_tables_stay_short() -> None:
    """The numbers behind targets, policies, their selection and replays are at most 125."""
    assert (
        len([one for one in constants() if one.stage in ("shared", "derive", "policy", "select", "replay")])
        <= MOST
    )
