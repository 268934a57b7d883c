"""Units that metrics come in, and the factor from one to another."""

from __future__ import annotations

from hs_analysis.errors import UsageError

Quantity = tuple[str, int]
"""What is measured, and how often it is divided by time: ("tokens", 1) is tokens per second."""

BASES: dict[str, tuple[Quantity, float]] = {
    "ratio": (("share", 0), 1.0), "percent": (("share", 0), 0.01), "%": (("share", 0), 0.01),
    "s": (("time", 0), 1.0), "ms": (("time", 0), 1e-3), "us": (("time", 0), 1e-6),
    "ns": (("time", 0), 1e-9), "min": (("time", 0), 60.0), "h": (("time", 0), 3600.0),
    "tokens": (("tokens", 0), 1.0), "ktokens": (("tokens", 0), 1e3),
    "requests": (("requests", 0), 1.0), "req": (("requests", 0), 1.0),
    "instances": (("instances", 0), 1.0), "pods": (("instances", 0), 1.0),
    "events": (("events", 0), 1.0), "1": (("events", 0), 1.0),
    "blocks": (("blocks", 0), 1.0), "flop": (("flop", 0), 1.0),
    "bytes": (("bytes", 0), 1.0), "B": (("bytes", 0), 1.0),
    "KB": (("bytes", 0), 1e3), "MB": (("bytes", 0), 1e6), "GB": (("bytes", 0), 1e9),
    "KiB": (("bytes", 0), 2.0**10), "MiB": (("bytes", 0), 2.0**20), "GiB": (("bytes", 0), 2.0**30),
    "J": (("energy", 0), 1.0), "mJ": (("energy", 0), 1e-3), "uJ": (("energy", 0), 1e-6),
    "W": (("energy", 1), 1.0), "mW": (("energy", 1), 1e-3), "kW": (("energy", 1), 1e3),
    "qps": (("requests", 1), 1.0), "rps": (("requests", 1), 1.0), "rpm": (("requests", 1), 1 / 60),
    "tps": (("tokens", 1), 1.0), "tpm": (("tokens", 1), 1 / 60),
}  # fmt: skip
"""Unit → quantity and factor to its first unit; any of them may be divided by a time (``tokens/min``).

SI prefixes and IEC 80000-13 binary prefixes.
"""


def known_units() -> str:
    """Return the units as text, for messages."""
    return ", ".join(unit for unit in BASES if unit not in ("%", "1", "B")) + "; any of them per s, min or h"


def measured(unit: str) -> tuple[Quantity, float] | None:
    """Return quantity and factor of a unit, None when it is not known."""
    above, _, below = unit.partition("/")
    base = BASES.get(above.strip())
    if base is None or ("/" not in unit):
        return base
    time = BASES.get(below.strip())
    if time is None or time[0] != ("time", 0):
        return None
    (kind, per), factor = base
    return (kind, per + 1), factor / time[1]


def factor(unit: str, wanted: str, *, counter: bool = False, where: str = "") -> float:
    """Return what a value in ``unit`` is multiplied by to be in ``wanted``.

    Parameters
    ----------
    unit
        Unit of the metric.
    wanted
        Unit of the signal.
    counter
        Whether the metric is a counter that is read as an increase per second: tokens become tokens/s.
    where
        Metric or setting that the message names.

    Raises
    ------
    UsageError
        When a unit is not known, or the two measure different things.
    """
    found = measured(unit)
    if found is None:
        raise UsageError(f"no unit {unit!r}", where=where, hint=f"known units: {known_units()}")
    (kind, per), size = found
    target = measured(wanted)
    if target is None or (kind, per + int(counter)) != target[0]:
        read = f"a counter of {unit}" if counter else unit
        fitting = [u for u, (quantity, _) in BASES.items() if target and quantity[0] == target[0][0]]
        hint = f"units that do: {', '.join(fitting)}, per s, min or h for a rate" if fitting else ""
        raise UsageError(f"{read} does not measure a signal in {wanted}", where=where, hint=hint)
    return size / target[1]
