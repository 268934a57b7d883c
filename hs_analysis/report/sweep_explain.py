"""What stands behind the link of a ratio test: its splits, the winner, those within 3 %, who holds back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from hs_analysis import evidence
from hs_analysis.evidence import EvidenceLink
from hs_analysis.report.choice import records
from hs_analysis.report.derivations import DERIVATIONS
from hs_analysis.report.sweep_charts import asked, per_split
from hs_analysis.report.sweeps import best_text, judged_text, mix_text, pair_text, why_text
from hs_analysis.report.wording import interval


def sweep_of(link: EvidenceLink, summary: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return the ratio test that a link names, that under the limits that were given first; None without."""
    bare = evidence.path(link.service, link.stage, link.what)
    ranked = [*asked(summary), *records(summary.get("sweeps"))]
    return next((sweep for sweep in ranked if sweep.get("evidence") == bare), None)


def links(summary: Mapping[str, Any]) -> list[str]:
    """Return the links of all ratio tests of a run."""
    return list(
        dict.fromkeys(str(s.get("evidence")) for s in records(summary.get("sweeps")) if s.get("evidence"))
    )


def kind_of(sweep: Mapping[str, Any]) -> str:
    """Return the kind of number that a ratio test is, by where its splits were measured."""
    return "bench_sweeps" if sweep.get("source") == "bench" else "sweeps"


def explained(
    sweep: Mapping[str, Any], splits: pl.DataFrame, made_by: Mapping[str, Sequence[str]]
) -> dict[str, Any]:
    """Return the keys of an explanation that a ratio test fills (`hs_analysis.report.explain.explain`)."""
    made = DERIVATIONS["sweeps"]
    found = per_split(sweep, splits)
    reason = sweep.get("reason") or sweep.get("continuous_reason")
    return {
        "title": made.title.format(name=mix_text(sweep) or str(sweep["name"])),
        "measure": "ratio of the best split",
        "value": sweep.get("ratio"),
        "unit": "prefill ÷ decode",
        "interval": None,
        "interval_is": "",
        "status": sweep.get("status"),
        "reasons": [{"code": "", "text": "", "value": None, "limit": None} | dict(reason)] if reason else [],
        "numbers": _numbers(sweep, found),
        "method": made.method,
        "formula": made.formula,
        "basis": "; ".join(part for part in _basis(sweep) if part),
        "metrics": [],
        "made_by": list(made_by.get(kind_of(sweep), ())),
        "rows": {"table": "splits", "rows": len(found)},
        "see_also": [],
        "refs": list(made.refs),
    }


def _numbers(sweep: Mapping[str, Any], found: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return what each split gave, then the balance and the two speeds that it comes from, where known."""
    splits = [
        (f"{pair_text(row['pair'])}, {row['kind']}, {_held(row['limited'])}", row["decode_tps"], "tokens/s")
        for row in found
    ]
    balance = [
        ("balance without limits", sweep.get("continuous"), "prefill ÷ decode"),
        ("α, one prefill instance", sweep.get("prefill_rps"), "requests/s"),
        ("β, one decode instance", sweep.get("decode_rps"), "requests/s"),
    ]
    known = [*splits, *(one for one in balance if one[1] is not None)]
    return [{"name": name, "value": value, "unit": unit, "interval": None} for name, value, unit in known]


def _basis(sweep: Mapping[str, Any]) -> tuple[str, ...]:
    ends = interval(sweep.get("near_ratio"))
    near = f"ratios within 3 % of the best: {ends}" if ends else ""
    return f"judged on {judged_text(sweep)}", f"best {best_text(sweep)}", near, why_text(sweep)


def _held(limited: str | None) -> str:
    return f"held back by {limited}" if limited else "held back by neither or not known"
