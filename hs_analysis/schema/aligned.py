"""The aligned table of one service: what every stage after alignment works on."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import polars as pl

from hs_analysis.schema.limit_edges import LimitEdges
from hs_analysis.schema.names import POOL_ROLES as POOL_ROLES  # noqa: PLC0414 - importable from here

SERVED = {"prefill": "prefill_tps_effective", "decode": "decode_tps", "mixed": "decode_tps"}
"""Served token rate that stands for the work of each role."""

OUTPUT_TOKENS = (("decode_tps", "mixed"), ("finished_output_tps", "service"), ("output_length", "service"))
"""What counts the output tokens of a single pool, as (signal, role)."""

PROMPT_TOKENS = (("prefill_tps_effective", "mixed"), ("prefill_tps", "mixed"))
WEIGHED_REQUESTS = ("request_work", "service")
REQUESTS = (WEIGHED_REQUESTS, ("request_rate", "service"), ("completion_rate", "service"))
"""What stands for the work of a single pool that gives no output tokens (embedding, images, speech), best
first: its prompt tokens, else its requests, weighed by their size where the user's mapping tells it."""

RAW_PROMPTS = ("prefill_tps", "prefill")
"""What stands for the work of prefill where nothing counts the tokens that missed the cache."""

HIT_RATE_TEXT = "nothing in the input tells which prompt tokens missed the cache"
"""Why the work of prefill is then not known; each reader says what follows for it."""

LATENCIES = {"prefill": ("ttft",), "decode": ("tbt",), "mixed": ("ttft", "tbt")}
"""Latencies that each role answers for."""


def column(signal: str, role: str) -> str:
    """Return the name of a signal's column in a service table, ``signal@role``."""
    return f"{signal}@{role}"


def served_signal(table: pl.DataFrame, role: str) -> tuple[str, str]:
    """Return the served rate that stands for the work of a role, as (signal, role of its column).

    Cache-missed prompt tokens for prefill, raw ones where nothing counts those; output tokens for decode and
    for a single pool; prompt tokens or requests of a single pool that gives none. Where nothing is counted it
    is the usual one, which the table then lacks.

    Parameters
    ----------
    table
        One column per ``signal@role``, null = missing.
    role
        prefill, decode or mixed.
    """
    usual = (SERVED[role], role)
    if role == "prefill" and not _counts(table, *usual):
        return RAW_PROMPTS if _counts(table, *RAW_PROMPTS) else usual
    if role == "mixed" and not any(_counts(table, *one) for one in OUTPUT_TOKENS):
        return next((one for one in (*PROMPT_TOKENS, *REQUESTS) if _counts(table, *one)), usual)
    return usual


def _counts(table: pl.DataFrame, signal: str, role: str) -> bool:
    """Return whether a column holds anything above zero: a counter that never moves counts nothing."""
    name = column(signal, role)
    return name in table.columns and bool((table[name].cast(pl.Float64) > 0).any())


@dataclass(frozen=True)
class SignalInfo:
    """What is known of one column of a service table.

    Attributes
    ----------
    signal, role
        Catalogue signal and the role it speaks of (prefill, decode, mixed or service).
    source
        Exporter it came from, or ``derived``.
    unit
        Canonical unit.
    pool
        ``sum`` = pool total (rates, queues), ``mean`` = mean over instances (utilisation),
        ``ratio`` = ratio of two totals (latency means, shares).
    family
        ``throughput``, ``hardware``, ``latency``, ``queue``, ``memory``, ``load`` or ``auxiliary``;
        auxiliary columns are never candidates.
    interval_s
        Effective interval: time between values that carry news [s].
    coverage
        Share of windows with a value [ratio].
    """

    signal: str
    role: str
    source: str
    unit: str
    pool: Literal["sum", "mean", "ratio"]
    family: str
    interval_s: float
    coverage: float


@dataclass(frozen=True)
class ServiceFrame:
    """One service on one grid.

    Attributes
    ----------
    service
        ``namespace/model``.
    window_s
        Width of a row [s]; 60 for production, 15 or more for pressure tests.
    kind
        ``production`` or ``pressure_test``.
    reference
        ``offered`` when the load columns are offered work, ``served`` when only served rates could be had.
    table
        One row per capture and window, on a regular grid inside each capture, sorted by (capture, t); columns
        ``capture`` (String), ``t`` (Datetime us UTC, start of the window) and one Float64 column per
        ``signal@role``. Missing is null.
    signals
        One entry per column other than capture and t.
    gpus_per_instance
        GPUs of one instance per role; empty when the input does not say.
    gpu_types
        GPU models seen per role.
    limit_edges
        Edges of the histogram that each latency limit is judged by; empty where there is no limit or no
        histogram.
    """

    service: str
    window_s: float
    kind: Literal["production", "pressure_test"]
    reference: Literal["offered", "served"]
    table: pl.DataFrame
    signals: tuple[SignalInfo, ...]
    gpus_per_instance: dict[str, float]
    gpu_types: dict[str, tuple[str, ...]]
    limit_edges: tuple[LimitEdges, ...] = ()

    @property
    def pools(self) -> tuple[str, ...]:
        """Roles that have instances in this service: (prefill, decode), (mixed,) or a part of them."""
        return tuple(role for role in POOL_ROLES if self.has("instances", role))

    def served(self, role: str) -> tuple[str, str]:
        """Return the served rate that stands for the work of a role (`served_signal`)."""
        return served_signal(self.table, role)

    def served_values(self, role: str) -> np.ndarray:
        """Return the served work of a role, NaN where it is missing. Shape (rows,), in table order."""
        return self.values(*self.served(role))

    @property
    def hit_rate_unknown(self) -> bool:
        """Whether prefill work is counted in raw prompt tokens: nothing tells which missed the cache."""
        return self.served("prefill") == RAW_PROMPTS

    def counts_requests(self, role: str) -> bool:
        """Whether the work of a role is counted in requests: a single pool that counts no tokens."""
        return self.served(role) in REQUESTS

    def work_unit(self, role: str) -> str:
        """Return the unit of the work of a role."""
        return "requests/s" if self.counts_requests(role) else "tokens/s"

    def has(self, signal: str, role: str) -> bool:
        """Whether the column exists and holds at least one value."""
        name = column(signal, role)
        return name in self.table.columns and self.table[name].null_count() < self.table.height

    def values(self, signal: str, role: str) -> np.ndarray:
        """Return a column as float64 with NaN for missing; all NaN when the column is absent.

        Shape (rows,), in table order.
        """
        name = column(signal, role)
        if name not in self.table.columns:
            return np.full(self.table.height, np.nan)
        values = self.table[name]  # asked for thousands of times in a run: no query for what is stored so
        return (values if values.dtype == pl.Float64 else values.cast(pl.Float64)).to_numpy(writable=True)

    def info(self, signal: str, role: str) -> SignalInfo | None:
        """Return what is known of a column, None when it is absent."""
        return next((s for s in self.signals if s.signal == signal and s.role == role), None)

    def seconds(self) -> np.ndarray:
        """Return the start of each row in Unix seconds, float64, shape (rows,)."""
        return self.table["t"].to_physical().to_numpy() / 1e6  # asked for as often as values

    def captures(self) -> tuple[str, ...]:
        """Return the capture names in table order."""
        return tuple(self.table["capture"].unique(maintain_order=True).to_list())

    def rows(self, mask: pl.Expr | np.ndarray) -> ServiceFrame:
        """Return the same service with only the rows of the mask, for train and test parts."""
        table = self.table.filter(mask if isinstance(mask, pl.Expr) else pl.Series(mask))
        return replace(self, table=table)
