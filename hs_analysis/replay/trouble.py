"""What goes wrong during a simulation: hooks into what is scraped and into the fleet."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from hs_analysis.replay.fleet import Pool
from hs_analysis.replay.readings import Alter

Strike = Callable[[int, float, dict[str, Pool]], None]
"""(row, its start [Unix s], pools), before the row is decided."""


@dataclass(frozen=True)
class Trouble:
    """Hooks of one simulation; None = nothing goes wrong there."""

    alter: Alter | None = None
    strike: Strike | None = None


NO_TROUBLE = Trouble()
