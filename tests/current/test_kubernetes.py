"""Formulas over triggers: which are read, with which weights, and what is refused by name and place."""

from __future__ import annotations

import pytest

from hs_analysis.current.kubernetes import read_formula
from hs_analysis.promql import Refused

NAMES = ("queue", "running", "kv")


@pytest.mark.parametrize(
    ("text", "how", "weights"),
    [
        ("queue", "sum", {"queue": 1}),
        ("(queue + running) / 2", "sum", {"queue": 0.5, "running": 0.5}),
        ("running + (queue * 10)", "sum", {"running": 1, "queue": 10}),
        ("sum([queue, running, kv])", "sum", {"queue": 1, "running": 1, "kv": 1}),
        ("mean([queue, running, kv]) * 3", "sum", {"queue": 1, "running": 1, "kv": 1}),
        ("max(queue, running / 1000)", "max", {"queue": 1, "running": 1e-3}),
        ("max([queue, max(running, kv)]) / 4", "max", {"queue": 0.25, "running": 0.25, "kv": 0.25}),
        ("min(queue, 2 * 3 * running)", "min", {"queue": 1, "running": 6}),
        ("queue + queue /* twice */", "sum", {"queue": 2}),
        ("max(queue, 3 * queue)", "sum", {"queue": 3}),
        ("max(1, 2) * queue / 1_0", "sum", {"queue": 0.2}),
    ],
)
def test_what_is_read(text: str, how: str, weights: dict[str, float]) -> None:
    """As expr computes them, each trigger once."""
    found = read_formula(text, NAMES)
    assert (found.how, dict(found.terms)) == (how, pytest.approx(weights))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("queue > 5 ? running : 0", "column 7: the comparison > is not read"),
        ("count([queue, running], {# > 1}) > 1 ? 5 : 0", "column 1: the function count is not read"),
        ("ceil(queue)", "column 1: the function ceil is not read"),
        ("queue ?? running ?? 8", "column 7: the default ?? for a trigger that fails is not read"),
        ("queue && running", "column 7: the condition && is not read"),
        ("not queue", "column 1: the condition not is not read"),
        ("queue ** 2", "column 7: the power ** is not read"),
        ("queue % 2", "column 7: the remainder % is not read"),
        ("queue / running", "column 7: a division by a trigger (/) is not read"),
        ("1 / queue", "column 3: a division by a trigger (/) is not read"),
        ("queue * running", "column 7: a product of triggers (*) is not read"),
        ("queue - running", "column 7: a difference of triggers (-) is not read"),
        ("-queue", "column 1: a trigger with a minus is not read"),
        ("queue + 5", "column 7: a number added to a trigger is not read"),
        ("max(queue, 1)", "column 1: a number next to triggers in max is not read"),
        ("max(queue + running, kv)", "column 1: a max with a sum in it is not read"),
        ("max(queue, running) + kv", "column 21: a sum with a max in it is not read"),
        ("queue * 0", "column 7: a trigger times 0 is not read"),
        ("queue / 0", "column 7: a division by 0 is not read"),
        ("queue + s9", "column 9: no trigger is named s9, its triggers: kv, queue, running"),
        ("sum(queue, running)", "column 1: sum takes one list: sum([a, b])"),
        ("queue + 'running'", "column 9: the text 'running' is not read"),
        ("queue | float()", "column 7: the pipe | is not read"),
        ("queue running", "column 7: running is not read"),
        ("let x = queue; x", "column 1: the variable after let is not read"),
        ("(queue + running", "it ends too early"),
        ("8", "it names no trigger"),
        ("(" * 600 + "queue" + ")" * 600, "it has 1201 words and signs, more than 500"),
    ],
)
def test_what_is_not_read_is_named_with_its_place(text: str, says: str) -> None:
    """The function, sign or trigger, never the formula as a whole."""
    with pytest.raises(Refused) as refused:
        read_formula(text, NAMES)
    assert refused.value.line() == says
