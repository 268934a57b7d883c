"""Numbers that tune an answer: how one is declared, and those that several stages share.

A number is declared once, in the ``constants`` module of its stage, with a text below it: its meaning, its
unit in brackets, and its provenance, which is one of ``Measured on ...``, ``From ...`` (an outside source)
and ``Default of this project``. `declared` reads these texts, for ``hsa settings --all`` and for the page.
Numbers that tune nothing stay beside the code that uses them: units, mathematical facts, formats, and how
fine a grid or a sum is.
"""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from types import ModuleType
from typing import Any, Literal

Provenance = Literal["outside source", "measured", "default"]

_DECLARATION = re.compile(
    r"(?P<meaning>.+) \[(?P<unit>[^]]+)\]\. "
    r"(?:Default of this project|Measured on (?P<data>.+)|From (?P<source>.+))\."
)


@dataclass(frozen=True)
class Constant:
    """A number that tunes an answer.

    Attributes
    ----------
    stage
        The stage it belongs to; ``shared`` for several.
    name, value
        Its name in the ``constants`` module of the stage, and its value: a number, several, or one a role.
    unit
        Its unit; ``ratio`` for a share or a factor, ``1`` for another number without a unit.
    meaning
        What it decides.
    provenance
        ``outside source``, ``measured`` by this project, or ``default``: set by judgement.
    source
        The outside source, or the data it was measured on; empty for a default.
    """

    stage: str
    name: str
    value: Any
    unit: str
    meaning: str
    provenance: Provenance
    source: str


def declared(stage: str, module: ModuleType) -> Iterator[Constant]:
    """Yield the numbers that a module declares, in its order.

    Raises
    ------
    ValueError
        When the text below a number lacks the unit or the provenance.
    """
    for number, text in pairwise(ast.parse(inspect.getsource(module)).body):
        if not isinstance(number, ast.Assign) or not isinstance(text, ast.Expr):
            continue
        name = ast.unparse(number.targets[0])
        found = _DECLARATION.fullmatch(" ".join(str(ast.literal_eval(text.value)).split()))
        if found is None:
            raise ValueError(f"{module.__name__}.{name}: the text below it lacks unit or provenance")
        data, source = found["data"], found["source"]
        provenance: Provenance = "measured" if data else "outside source" if source else "default"
        value = getattr(module, name)
        yield Constant(stage, name, value, found["unit"], found["meaning"], provenance, data or source or "")


HOUR_S = 3600.0
DAY_S = 86_400.0
NORMAL_95 = 1.96  # half-width of a 95 % normal interval in standard deviations

# Widths of time.

SUSTAINED_S = 300.0
"""Mean over which a load counts as sustained, and over which a signal, a policy and a violation are judged;
how far back the highest reading is taken before instances are removed [s]. Measured on simulated
services."""

SHORTEST_S = 60.0
"""Shortest time over which a move of the load is looked at, and the reading that growth follows [s]. Measured
on simulated services."""

SCRAPES_PER_WINDOW = 4
"""Scrapes that the range of a query holds at least, as users of Prometheus are advised: a rate needs two
samples even when one scrape fails or comes late [scrapes]. Default of this project."""

BLOCK_S = 3600.0
"""Length of the blocks of a production history that count as independent [s]. Measured on simulated
services."""

STARTUP_S = 300.0
"""Start-up time where neither settings nor dump gave one, and time left out after a change of the instance
count [s]. Default of this project."""

GRACE_S = 30.0
"""Time that a pod has to end its requests where its terminationGracePeriodSeconds is not known [s]. From
Kubernetes, whose default it is."""

SETTLED_S = 300.0
"""A version first seen this long after the first one is a change, not a late scrape [s]. Default of this
project."""

RESTS_S = (0.0, 300.0)
"""Rests before a scale-out (none: instances that start are counted) and before a scale-in, as a policy's
cooldown counts them [s]. Measured on three simulated physics."""

# How much is enough.

HOURS_MIN = 6.0
"""Fewest hours of a production history, and of a part of it, that are judged [h]. Measured on simulated
services."""

ROWS_MIN = 12
"""Fewest rows of a history, or windows of a pressure test, that anything is read from: an hour of 5-minute
rows [rows]. Default of this project."""

MINUTE_ROWS_MIN = 60
"""Fewest one-minute rows where single windows are looked at: an hour [rows]. Default of this project."""

GROUP_MIN = 3
"""Fewest values that say what is typical, and levels of load that show a relation: the middle one of three
is no extreme [values]. Default of this project."""

COVERAGE_MIN = 0.7
"""Share of the rows of a mean that must have a value [ratio]. Default of this project."""

RANGE_MIN = 1.6
"""Smallest range of load (95 % ÷ 5 % quantile) of a production history [ratio]. Measured on simulated
services."""

TEST_RANGE_MIN = 2.0
"""Smallest range of load per instance of a pressure test [ratio]. Default of this project."""

TEST_LEVEL_STEP = 1.25
"""Factor between two levels of load of a pressure test [ratio]. Default of this project."""

TEST_VIOLATING_MIN = 5
"""Fewest windows of a pressure test over the limit, and under it [windows]. Measured on simulated services
and captures with a known answer."""

# Quantiles, shares and levels.

LOAD_RANGE_QUANTILES = (0.05, 0.95)
"""Quantiles that span the range of a load, a count or a fit [ratio]. Default of this project."""

DECILES = (0.1, 0.9)
"""Quantiles that span what a mix or a ratio usually is [ratio]. Default of this project."""

DEMAND_QUANTILE = 0.95
"""Quantile of 5-minute load, and of the hourly mix, that is provided for [ratio]. Default of this
project."""

HIGHEST_QUANTILE = 0.99
"""Quantile of load that counts as the highest seen; a floor states it [ratio]. Measured on simulated
services and captures with a known answer."""

CLAIM_CHANCE = 0.05
"""Chance of a wrong claim that is accepted: one in 20, as for 95 % intervals [ratio]. Default of this
project."""

MAJORITY = 0.5
"""Share from which a part decides for the whole [ratio]. Default of this project."""

NEAR_SHARE = 0.5
"""Share of the highest load, or of the limit on a latency, from which a window is near it [ratio]. Default
of this project."""

FIT_BINS = 60
"""Equal-count load bins of a monotone fit of a signal [bins]. Default of this project."""

# Load, limits and mix.

BACKLOG_S = 1.0
"""Age from which a backlog is one: what is in it breaks the SLO [s]. Measured on simulated services."""

TEST_BACKLOG_S = 3.0
"""The same in a pressure test, whose clients wait by design [s]. Measured on captures of real serving
components."""

VIOLATION_SLOPE = 60.0
"""Steepness of the log odds of violating in ln load where no law was fitted [1]. Measured on simulated
services."""

MIX_MOVED_RATIO = 1.25
"""Factor by which tokens per request, or the mix, move from which the mix is called drifting [ratio].
Default of this project."""

GPU_MIX_MOVED = 0.02
"""Movement of the mean pod of a pool from which its mix of GPU types moved: at the slope of 60 the odds of a
violation are then 3.3 times [ratio]. Measured on simulated services."""

FALSE_CROSSINGS_PER_DAY = 0.1
"""Crossings of a dead band, or of a guard's upper tier, that noise alone may cause [1/day]. Measured on
simulated services."""

SYSTEMATIC_SHARE = 0.8
"""Share of both capacities' systematic terms that a ratio keeps: they err in the same direction in part
[ratio]. Measured on simulated services."""

APART_MAX = 0.1
"""Distance up to which the target of the first part and of the whole window agree, and up to which a capacity
may depend on how its limit is read between two histogram edges [ratio]. Default of this project."""
