"""What a controller could have scraped at counts that were never run: one value a signal and row."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Protocol

from hs_analysis.replay.alike import SAME, Alike
from hs_analysis.replay.demand import Demand, Key, rows_of
from hs_analysis.replay.fleet import FleetModel
from hs_analysis.replay.quantiles import UNKNOWN, Quantile, quantile_of, waited_share
from hs_analysis.replay.signals import SignalModel, factors, kept_ratio
from hs_analysis.replay.waiting import Waits, waited_s, waits_of

BUILT_IN = ("queued_tokens",)
"""Readings of the simulated pool itself: work waiting [tokens]; a front end or engine can export it."""

Alter = Callable[[Key, int, float, Sequence[float]], float]
"""(signal and role, row, true reading, what was scraped before) → what is scraped instead."""


class Rows(Protocol):
    """Rows of a simulation so far, per pool."""

    served: dict[str, list[float]]
    queued: dict[str, list[float]]
    ready: dict[str, list[float]]
    wait: dict[str, list[float]]


class Readings:
    """Scraped values per (signal, role), shape (rows,) each, NaN where nothing was or is yet.

    With ``waits`` a latency also holds the wait of the simulated backlogs that it measures.
    """

    def __init__(
        self,
        keys: Iterable[Key],
        demand: Demand,
        model: FleetModel,
        alter: Alter | None = None,
        *,
        waits: bool = False,
    ) -> None:
        self.alike = Alike(demand)
        self.keys = tuple(dict.fromkeys(keys))
        self.window_s = demand.window_s
        self.alter = alter
        self.scraped: dict[Key, list[float]] = {key: [math.nan] * demand.rows for key in self.keys}
        self.offered = {role: (work * demand.window_s).tolist() for role, work in demand.offered.items()}
        found = {key: read_from(key, model) or (key[0], "service") for key in self.keys}
        self.columns: dict[Key, list[float]] = {key: demand.column(*at).tolist() for key, at in found.items()}
        self.models = {key: model.signals.get(at) for key, at in found.items()}
        self.factors: dict[Key, list[float]] = {
            key: factors(signal, found[key], demand).tolist()
            for key, signal in self.models.items()
            if signal is not None and signal.kind == "served"
        }
        self.kept: dict[Key, list[float]] = {
            key: kept_ratio(signal, found[key], demand).tolist()
            for key, signal in self.models.items()
            if signal is not None
        }
        self.waits: dict[Key, Mapping[str, float]] = {
            key: waits_of(model.waits, _latency(found[key][0]), found[key][1], demand.offered)
            if waits
            else {}
            for key in self.keys
        }
        self.quantiles = {key: asked for key in self.keys if (asked := quantile_of(key[0]))}
        self.off = dict.fromkeys(self.quantiles, -1)
        self.before: dict[Key, list[float]] = {key: demand.past(*at).tolist() for key, at in found.items()}

    def record(self, row: int, log: Rows) -> None:
        """Scrape the completed row, if its signals were there."""
        self.alike.see(row, log)
        for key in self.keys:
            value = self._reading(key, row, log)
            seen = self.scraped[key]
            seen[row] = self.alter(key, row, value, seen[:row]) if self.alter else value

    def take(self, other: Readings, rows: int) -> None:
        """Take over what another one of the same signals scraped in the first ``rows``."""
        for key, values in self.scraped.items():
            values[:rows] = other.scraped[key][:rows]
        self.alike.take(other.alike)
        self.off = dict(other.off)

    def _reading(self, key: Key, row: int, log: Rows) -> float:
        model, recorded = self.models[key], self.columns[key][row]
        if model is None and key[0] in BUILT_IN:
            return log.queued[key[1]][row] if key[1] in log.queued else math.nan
        if model is None or math.isnan(recorded):
            return math.nan
        if model.kind == "quantile":
            return self._quantile(key, model, row, log)
        if model.kind == "recorded" or self._as_it_was(key, model):
            return recorded
        served, ready = log.served[model.pool][row] / self.window_s, log.ready[model.pool][row]
        kept = self.kept[key][row]
        known = not math.isnan(kept) and passed(log.served[model.pool][row], self.offered[model.pool][row])
        if model.kind == "served":
            return served * (kept if known else self.factors[key][row])
        if not ready > 0:
            return math.nan
        value = _curved(model, served, ready, log.queued[model.pool][row])
        waiting = sum(log.queued[role][row] / tokens for role, tokens in model.waits)
        waited = sum(
            share * log.wait[pool][row] for pool, share in self.waits[key].items() if pool in log.wait
        )
        return (value * kept if known else value) + waiting + waited

    def _quantile(self, key: Key, model: SignalModel, row: int, log: Rows) -> float:
        """Return a quantile over its range: as recorded where all its rows were so, else of their load.

        Nothing that the history never showed is read: above its highest load per instance, while nothing
        waits, the value is unknown.
        """
        asked, recorded = self.quantiles[key], self.columns[key][row]
        first = max(0, row + 1 - rows_of(asked.range_s, self.window_s))
        if not self._as_it_was(key, model):
            self.off[key] = row
        if self.off[key] < first:
            return recorded
        ready, served = log.ready[model.pool][first : row + 1], log.served[model.pool][first : row + 1]
        loads = [work / self.window_s / count for work, count in zip(served, ready, strict=True) if count > 0]
        if not loads:
            return math.nan
        load, waited = sum(loads) / len(loads), self._waited(key, asked, log, first, row + 1)
        if load > model.known_to * (1.0 + SAME) and not waited > 0:
            return UNKNOWN
        return model.at(load) + waited

    def _waited(self, key: Key, asked: Quantile, log: Rows, first: int, after: int) -> float:
        """Return what the waits of some rows add to a quantile over them [s]."""
        shares = [(share, log.wait[pool]) for pool, share in self.waits[key].items() if pool in log.wait]
        rows = [sum(share * wait[row] for share, wait in shares) for row in range(first, after)]
        return waited_share(asked.share, rows)

    def _as_it_was(self, key: Key, model: SignalModel) -> bool:
        """Whether a signal reads what was recorded: its pool is as it was, and what else it holds came so."""
        held = {*self.waits[key], *(role for role, _ in model.waits)} - {model.pool}
        others = held & set(self.alike.same)
        return self.alike.same.get(model.pool, False) and all(map(self.alike.undisturbed, others))


def read_from(key: Key, model: FleetModel) -> Key | None:
    """Return whose column a reading is: the pool's own, else the service's; None where nothing models it."""
    return next((at for at in (key, (key[0], "service")) if at in model.signals), None)


def passed(served: float, offered: float) -> bool:
    """Say whether a pool served in a row what came in it: nothing waited, before or after [tokens]."""
    return abs(served - offered) <= SAME * offered


def _latency(signal: str) -> str:
    """Return the latency that a signal is, or is a quantile of."""
    asked = quantile_of(signal)
    return asked.latency if asked else signal


def _curved(model: SignalModel, served_tps: float, ready: float, queued_tokens: float) -> float:
    value = model.at(served_tps / ready) * (ready if model.per_instance else 1.0)
    if model.kind == "queue" and model.tokens_per_request:
        value += queued_tokens / model.tokens_per_request
    return value


def latency(
    name: str, model: SignalModel, role: str, row: int, window_s: float, log: Rows, waits: Waits
) -> float | None:
    """Return the mean latency at the simulated load, plus the mean wait for queues [s]; None in a gap."""
    ready = log.ready[role][row]
    if not ready > 0:
        return None
    means = {pool: wait[row] for pool, wait in log.wait.items()}
    return model.at(log.served[role][row] / window_s / ready) + waited_s(waits, name, means)
