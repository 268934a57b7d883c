"""Contracts of the tables that keep results: one row per result, a column per field as it is declared.

Tables of one service also have ``service`` and ``fit``: ``whole`` for numbers from the whole window,
``train`` for those from its first part, which selection and replay use.
"""

from __future__ import annotations

import typing
from collections.abc import Sequence
from dataclasses import is_dataclass
from typing import Any

import pyarrow as pa

from hs_analysis.schema import replays, results, sweeps
from hs_analysis.schema.declare import Declared, declared, without_none
from hs_analysis.schema.frames import CONTRACTS, DETAILS, SPLITS, _field

_TYPES = {str: pa.string(), float: pa.float64(), int: pa.int64(), bool: pa.bool_()}


def arrow_type(hint: Any) -> pa.DataType:
    """Return the Arrow type of a field's type: a tuple is a list, a dataclass a struct, a dict JSON as text.

    Raises
    ------
    TypeError
        For a type that no column holds.
    """
    kind, _ = without_none(hint)
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is typing.Literal or origin is dict:
        return pa.string()
    if origin is tuple:
        return pa.list_(arrow_type(arguments[0]))
    if is_dataclass(kind):
        return pa.struct([(one.name, arrow_type(one.kind)) for one in declared(typing.cast("type", kind))])
    if kind in _TYPES:
        return _TYPES[kind]
    raise TypeError(f"no column holds {kind}")


def arrow_field(one: Declared) -> pa.Field:
    """Return the column of a field.

    A number may be null although its type has no None (it can be NaN), and so may a list, but for
    `Field.null`.
    """
    loose = one.kind is float or typing.get_origin(one.kind) is tuple
    null = one.optional or loose if one.field.null is None else one.field.null
    return _field(one.name, arrow_type(one.kind), one.field.unit, one.meaning, null=null)


def table_of(
    table: str, grain: str, kind: type[Any], keys: Sequence[pa.Field], only: Sequence[str] = ()
) -> pa.Schema:
    """Return the contract of a table: key columns, then the fields of a dataclass, or only some."""
    names = only or [one.name for one in declared(kind)]
    made = [arrow_field(one) for one in declared(kind) if one.name in names]
    return pa.schema([*keys, *made], metadata={"table": table, "grain": grain})


_KEYS = (
    _field("service", pa.string(), "", "namespace/model", null=False),
    _field("fit", pa.string(), "", "whole or train: the part of the window behind the row", null=False),
)

_RESULTS: tuple[tuple[str, type[Any], str], ...] = (
    ("study", results.SignalVerdict, "one row per service, fit, signal and GPU type"),
    ("recommended", results.Recommendation, "one row per service and fit that has a recommendation"),
    ("capacity", results.Capacity, "one row per service, fit, role and GPU type"),
    ("demand", results.Demand, "one row per service and fit"),
    ("thresholds", results.Threshold, "one row per service, fit, signal, role and GPU type"),
    ("startup", results.Startup, "one row per service, fit and role"),
    (
        "gpu_speeds", results.GpuSpeed,
        "one row per service, fit, role and GPU type of a pool that mixes types",
    ),
    (
        "releases", results.Release,
        "one row per service, fit and version of a pool that came inside the window",
    ),
    ("pd_ratio", results.PdRatio, "one row per service and fit"),
    ("refusals", results.Refusal, "one row per service, fit and unanswered question"),
    ("select", results.CandidateScore, "one row per service and candidate policy"),
    ("replay_policies", replays.PolicyReplay, "one row per service and policy"),
    (
        "replay_faults", replays.FaultReplay,
        "one row per service, policy and fault asked for; fault none is the same hours undisturbed",
    ),
    (
        "replay_placement", replays.PlacementOutcome,
        "one row per service and policy, where a topology was given",
    ),
    (
        "drivers", results.SignalDriver,
        "one row per service and signal that was tried as the driver of its pool",
    ),
)  # fmt: skip

OUTCOMES: dict[str, pa.Schema] = {
    **{name: table_of(name, grain, kind, _KEYS) for name, kind, grain in _RESULTS},
    "replay_windows": table_of(
        "replay_windows", "one row per service", replays.ReplayResult, _KEYS, ("train", "test", "calibration")
    ),
}
"""Tables of results of one service."""

TESTS: dict[str, pa.Schema] = {
    "sweeps": table_of(
        "sweeps", "one row per ratio test, token mix, and set of limits", sweeps.SweepResult, ()
    ),
    "splits": SPLITS,
    "planned_tests": table_of(
        "planned_tests", "one row per refusal or floor that a test would answer", sweeps.PlannedTest, ()
    ),
    "profile_ratios": table_of(
        "profile_ratios", "one row per profile and set of requests", sweeps.ProfileRatio, ()
    ),
    "bench_speeds": table_of(
        "bench_speeds", "one row per GPU type of a benchmark of several", sweeps.BenchSpeed, ()
    ),
}
"""Tables of ratio tests, profiles, benchmarks and planned tests."""

TABLES: dict[str, pa.Schema] = CONTRACTS | DETAILS | OUTCOMES | TESTS
"""Every table of a run folder."""
