"""Which setting wins: defaults, then hsa.toml, then HSA_* variables, then flags; and where each is from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from hs_analysis.errors import UsageError

TZ = "reading.tz"
"""The setting that says how times without a zone are read."""

DEFAULT = "default"
"""Where a setting is from that nobody gave."""


@dataclass(frozen=True)
class Given:
    """A setting as one source gave it.

    Attributes
    ----------
    value
        The value; a function of the time zone where it holds times, since that may come from another source.
    source
        Where it was given: ``hsa.toml line 3``, ``HSA_SLO_TTFT`` or ``--slo ttft``.
    """

    value: Any
    source: str

    def at(self, tz: str | None) -> Any:
        """Return the value, its times read in a zone."""
        return self.value(tz) if callable(self.value) else self.value


Layer = Mapping[str, Given]
"""What one source gives, by dotted name of a field of Settings (or ``machine.<field>``)."""


def resolve(layers: Sequence[Layer], tz: str | None = None) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the values that win and where each is from, by dotted name.

    Parameters
    ----------
    layers
        Weakest first; a setting of a later one replaces that of an earlier one as a whole.
    tz
        Zone of times that carry none, where no layer gives one.

    Raises
    ------
    UsageError
        When a time can't be read, or the window ends before it starts.
    """
    won: dict[str, Given] = {}
    for layer in layers:
        won |= layer
    zone = won[TZ].value if TZ in won else tz
    values = {name: given.at(zone) for name, given in won.items()}
    origins = {name: given.source for name, given in won.items()}
    start, end = values.get("start"), values.get("end")
    if start and end and datetime.fromisoformat(start) >= datetime.fromisoformat(end):
        where = f"{origins['start']} and {origins['end']}"
        raise UsageError(f"{start} is not before {end}", where=where, hint="swap them")
    return values, origins
