"""A hand-made run: summary, tables, findings and policies, shaped like the real ones, seeded."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import polars as pl
from report.sample_answers import END, iso, service_summary
from report.sample_tables import GAP, START, detail_tables, signal_rows

from hs_analysis import evidence
from hs_analysis.schema.frames import FINDINGS, SIGNALS, empty


@dataclass
class Sample:
    """Arguments of ``render``."""

    summary: dict[str, Any]
    details: dict[str, pl.DataFrame]
    policies: dict[str, str]
    findings: pl.DataFrame
    signals: pl.DataFrame
    reproduce: str = "hsa run dumps/ --slo ttft=2.5s --slo tbt=50ms --startup 240s"

    def arguments(self) -> tuple[Any, ...]:
        """Return the arguments in the order of ``render``."""
        return self.summary, self.details, self.policies, self.findings, self.signals, self.reproduce


def sample(service: str = "prod/llama-70b", seed: int = 7) -> Sample:
    """Return a week of one service with a gap, two saturated stretches and a full set of answers."""
    tables = detail_tables(service, seed)
    summary = {
        "schema_version": 2,
        "tool_version": "0.1.0",
        "window": {"start": iso(START), "end": iso(END), "step_s": 15.0},
        "inputs": [{"name": "dumps/query_range.json.gz", "bytes": 48_210_331, "sha256": "9f" * 32}],
        "coverage": {
            "rows_read": 51_500_000,
            "rows_stored": 51_499_120,
            "duplicates": 870,
            "rows_rejected": 10,
            "series": 1280,
            "series_unmapped": 3,
            "roles": {"prefill": 480, "decode": 760, "frontend": 40},
            "missing": [
                {
                    "signal": "sm_activity",
                    "role": "decode",
                    "how_to_enable": "add `DCGM_FI_PROF_SM_ACTIVE, gauge, SM activity` to the counter file",
                }
            ],
        },
        "services": [service_summary(service)],
        "warnings": [{"code": "coverage", "text": "decode GPU utilisation covers 64 % of the window."}],
    }
    return Sample(
        summary, tables, {service: policy_yaml(service)}, _findings(service), signal_rows(service, seed)
    )


def many(count: int) -> Sample:
    """Return ``count`` services like the sample's, each with numbers and rows of its own."""
    one = sample()
    original = one.summary["services"][0]["service"]
    names = [f"team-{n % 7}/model-{n:02d}" for n in range(count)]
    summary = copy.deepcopy(one.summary)
    summary["services"] = [_scaled(service_summary(name), _share(n)) for n, name in enumerate(names)]
    return Sample(
        summary,
        {key: _spread(frame, names) for key, frame in one.details.items()},
        {name: policy_yaml(name) for name in names},
        one.findings.with_columns(service=pl.col("service").replace({original: names[0]})),
        _spread(one.signals, names),
    )


AS_THEY_ARE = (
    "headroom_ratio", "scale_out_ratio", "scale_in_ratio", "cooldown_out_s", "cooldown_in_s", "limit_s",
)  # fmt: skip
"""Numbers that many services have in common."""


def _share(n: int) -> float:
    """Return what the numbers of one of many services are multiplied by."""
    return 1 - 0.003 * n


def _scaled(node: Any, share: float, key: str = "") -> Any:
    if isinstance(node, dict):
        return {name: _scaled(child, share, name) for name, child in node.items()}
    if isinstance(node, list):
        return [_scaled(child, share, key) for child in node]
    return node * share if isinstance(node, float) and key not in AS_THEY_ARE else node


def _spread(frame: pl.DataFrame, names: list[str]) -> pl.DataFrame:
    floats = [
        name
        for name, kind in frame.schema.items()
        if kind == pl.Float64 and name not in ("coverage", "window_s", "violation_probability")
    ]
    return pl.concat(
        frame.with_columns(pl.lit(name).alias("service"), *(pl.col(one) * _share(n) for one in floats))
        for n, name in enumerate(names)
    )


def nothing() -> Sample:
    """Return a run that found no service."""
    one = sample()
    one.summary["services"] = []
    return Sample(one.summary, {}, {}, empty(FINDINGS), empty(SIGNALS))


def refused(service: str = "prod/llama-70b") -> Sample:
    """Return a run in which every question was refused and nothing was replayed."""
    one = sample(service)
    entry = one.summary["services"][0]
    reason = {"code": "thin", "text": "only 2 hours of history; 6 are needed", "value": 2.0, "limit": 6.0}
    for row in entry["signals"]:
        row.update(
            {
                key: None
                for key in row
                if key not in ("signal", "role", "source", "coverage", "evidence", "reasons")
            }
        )
        row.update(verdict="unknown", reasons=[reason])
    for row in entry["capacity"]:
        row.update(per_instance=None, ci=None, status="refused", basis=None, reason=reason)
    for row in entry["thresholds"]:
        row.update(
            target_per_instance=None,
            headroom_ratio=None,
            capacity=None,
            scale_out_ratio=None,
            scale_in_ratio=None,
            cooldown_out_s=None,
            cooldown_in_s=None,
            status="refused",
            reason=reason,
        )
    entry["pd_ratio"].update(
        value=None,
        ci=None,
        status="refused",
        band=None,
        at_least=1.1,
        by_window=[],
        integer_pairs=[],
        reason=reason,
    )
    entry.update(recommended=None, selection=[], demand=None, gpus_per_instance=None)
    entry["replay"] = {"train": None, "test": None, "calibration": {}, "policies": []}
    entry["refusals"] = [
        {
            "what": what,
            "code": "thin",
            "text": "only 2 hours of history",
            "collect": "record 24 hours with a daily peak",
        }
        for what in ("signals", "capacity@decode", "capacity@prefill", "pd_ratio")
    ]
    return Sample(one.summary, {}, {}, one.findings, one.signals)


def nulls(service: str = "prod/llama-70b") -> Sample:
    """Return a summary in which everything that may be null is."""
    one = sample(service)
    entry = dict.fromkeys(one.summary["services"][0]) | {"service": service}
    summary = dict.fromkeys(one.summary) | {"schema_version": 2, "services": [entry]}
    return Sample(summary, {}, {}, empty(FINDINGS), empty(SIGNALS), "")


def one_row(service: str = "prod/llama-70b") -> Sample:
    """Return the sample with a single row in every table."""
    one = sample(service)
    details = {key: frame.head(1) for key, frame in one.details.items()}
    return Sample(one.summary, details, one.policies, one.findings.head(1), one.signals.head(1))


def _findings(service: str) -> pl.DataFrame:
    def at(m: int) -> datetime:
        return START + timedelta(minutes=m)

    rows = [
        (
            "scrape_gap",
            "warn",
            "",
            "no sample of any series for 2 h 15 min; the gap stays a gap",
            8100.0,
            at(GAP[0]),
            at(GAP[1]),
        ),
        (
            "restart",
            "warn",
            service,
            "decode-7 restarted: its counters began at 0 again and were joined",
            1.0,
            at(3100),
            at(3100),
        ),
        (
            "frozen",
            "warn",
            service,
            "98 % of the series repeat together for 14 steps; those values are null",
            14.0,
            at(6600),
            at(6604),
        ),
        ("clock", "pass", "", "time stamps are in order", None, None, None),
        ("roles", "pass", service, "every worker has a role", None, None, None),
    ]
    names = ("check", "level", "service", "text", "value", "start", "end")
    return pl.DataFrame(rows, schema=names, orient="row").cast(empty(FINDINGS).schema)  # type: ignore[arg-type]


def policy_yaml(service: str) -> str:
    """Return a policy document of the shape of policy.yaml."""

    def at(what: str) -> str:
        return evidence.in_report(evidence.path(service, "derive", what))

    quoted = '"' + service.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return f"""# What to scale on, at which targets, with how many prefill per decode instances.
schema: hs-analysis/policy/v1alpha2
metadata:
  service: {quoted}
  tool_version: 0.1.0
spec:
  mode: metric  # metric: follow the primaries
  unit: pod
  primaries:
    - signal: decode_tps
      role: decode
      unit: tokens/s
      promql: sum(rate(vllm:generation_tokens_total{{role="decode"}}[5m]))
      target_per_instance:
        value: 1276.7
        headroom_ratio: 0.85
        capacity: {{value: 1549.0, low: 1502.0, high: 1597.0}}
        status: ok  # measured
        evidence: {at("threshold:decode_tps@decode")}
  pd_ratio:
    prefill: 9
    decode: 10
    value: 0.903
    evidence: {at("pd_ratio")}
  hysteresis: {{scale_out_ratio: 1.05, scale_in_ratio: 0.79}}
  cooldown: {{scale_out_s: 300, scale_in_s: 900}}
status:
  recommended: true
  confidence: medium
  confidence_reasons: [3 of 7 weekdays are in the history]
  refusals: []
"""
