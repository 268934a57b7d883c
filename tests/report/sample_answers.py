"""Answers of the hand-made run: one service's part of summary.json."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import numpy as np
from report.sample_tables import MINUTES, SATURATED, START

from hs_analysis import evidence

TEST = START + timedelta(minutes=int(MINUTES * 0.6))
END = START + timedelta(minutes=MINUTES)


def iso(moment: datetime) -> str:
    """Return ISO 8601 with Z."""
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def service_summary(name: str) -> dict[str, Any]:
    return {
        "decision": {
            "recommend": "apply",
            "why": "the policy needs 29.9% fewer hours",
            "confidence": "medium",
            "confidence_reasons": [
                {
                    "code": "weekdays_not_seen",
                    "text": "3 of 7 weekdays are in the history",
                    "value": 3.0,
                    "limit": 7.0,
                }
            ],
            "next_steps": ["Record seven days."],
        },
        "service": name,
        "history_kind": "production",
        "reference": "offered",
        "gpus_per_instance": {"prefill": 8, "decode": 8},
        "totals": {
            "prompt_tokens": 18_234_567_890,
            "output_tokens": 2_145_678_901,
            "requests": 7_923_411,
            "instance_hours": 3192.25,
            "gpu_hours": 25_538.0,
        },
        "signals": _verdicts(name),
        "recommended": {
            "signal": "decode_tps",
            "role": "decode",
            "runner_up": "prefill_tps_effective@prefill",
            "why": "smallest drift and highest SNR among 4 proportional signals",
        },
        "capacity": [
            {
                "role": role,
                "gpu_type": None,
                "signal": signal,
                "per_instance": value,
                "ci": ci,
                "status": "ok",
                "basis": "slo",
                "reason": None,
                "method": "logistic",
                "evidence": evidence.path(name, "derive", f"capacity@{role}"),
            }
            for role, signal, value, ci in (
                ("prefill", "prefill_tps_effective", 3512.4, [3391.0, 3642.0]),
                ("decode", "decode_tps", 1548.9, [1502.0, 1597.0]),
            )
        ],
        "demand": {
            "prefill_tps": 24_310.0,
            "decode_tps": 11_870.0,
            "reconstruction_error": 0.006,
            "censored_windows": [
                {
                    "start": iso(START + timedelta(minutes=a)),
                    "end": iso(START + timedelta(minutes=b)),
                    "reason": "prefill backlog older than 10 s",
                }
                for a, b in SATURATED
            ],
        },
        "thresholds": [
            {
                "signal": signal,
                "role": role,
                "gpu_type": None,
                "target_per_instance": value,
                "headroom_ratio": 0.85,
                "capacity": {"value": at, "low": low, "high": high},
                "scale_out_ratio": 1.05,
                "scale_in_ratio": 0.79,
                "cooldown_out_s": 300.0,
                "cooldown_in_s": 900.0,
                "status": "ok",
                "reason": None,
                "noise_cv": 0.013,
                "evidence": evidence.path(name, "derive", f"threshold:{signal}@{role}"),
            }
            for signal, role, value, at, low, high in (
                ("prefill_tps_effective", "prefill", 2882.35, 3515.0, 3391.0, 3642.0),
                ("decode_tps", "decode", 1276.7, 1549.0, 1502.0, 1597.0),
            )
        ],
        "pd_ratio": {
            "value": 0.903,
            "ci": [0.846, 0.967],
            "status": "ok",
            "at_least": None,
            "at_most": None,
            "reason": None,
            "band": [0.83, 0.98],
            "integer_pairs": [[9, 10], [8, 9]],
            "evidence": evidence.path(name, "derive", "pd_ratio"),
            "by_window": [
                {
                    "start": iso(START + timedelta(hours=6 * k)),
                    "end": iso(START + timedelta(hours=6 * k + 6)),
                    "value": 0.9 + 0.06 * float(np.sin(k)),
                    "ci": [0.86 + 0.06 * float(np.sin(k)), 0.94 + 0.06 * float(np.sin(k))],
                }
                for k in range(28)
            ],
        },
        "selection": [
            {
                "policy": policy,
                "signal": signal,
                "role": role,
                "score": score,
                "gpu_hours": hours * 8,
                "instance_hours": hours,
                "slo_violation_ratio": share,
                "actions_per_day": 14.0,
                "chosen": chosen,
                "reason": reason,
            }
            for policy, signal, role, score, hours, share, chosen, reason in (
                (
                    "decode_tps@decode",
                    "decode_tps",
                    "decode",
                    0.312,
                    1318.0,
                    0.004,
                    True,
                    "chosen: the fewest hours among feasible candidates",
                ),
                (
                    "prefill_tps_effective@prefill",
                    "prefill_tps_effective",
                    "prefill",
                    0.297,
                    1346.0,
                    0.003,
                    False,
                    "29.7% of the recorded hours saved",
                ),
                (
                    "gpu_util@decode",
                    "gpu_util",
                    "decode",
                    None,
                    1801.0,
                    0.12,
                    False,
                    "not feasible: 12.00% of windows expected over capacity",
                ),
            )
        ],
        "slo_edges": [
            {"signal": "ttft", "source": "vllm", "limit_s": 2.5, "low_s": 2.5, "high_s": 2.5},
            {"signal": "tbt", "source": "vllm", "limit_s": 0.05, "low_s": 0.04, "high_s": 0.08},
        ],
        "replay": _replay(name),
        "drivers": _drivers(name),
        "refusals": [
            {
                "what": "capacity on NVIDIA H20",
                "code": "thin",
                "text": "no window ran on this GPU type alone near its limit.",
                "collect": "one day with the H20 group at its own peak, labels kept",
            },
        ],
    }


def _replay(name: str) -> dict[str, Any]:
    rows = (
        ("decode_tps@decode", 895.2, 0.0061, 15.2, 0.2990, 0.3415),
        ("static_peak", 1359.4, 0.0002, 0.0, 0.0, None),
        ("recorded", 1277.0, 0.0012, 0.4, None, 0.0),
        ("oracle", 760.8, 0.0004, 38.0, 0.4042, 0.4403),
    )
    return {
        "train": [iso(START), iso(TEST)],
        "test": [iso(TEST), iso(END)],
        "calibration": {
            "status": "calibrated",
            "text": "ttft: 0.12% of windows predicted over the limit, 0.10% to 0.15% seen",
            "latencies": {"ttft": {"role": "prefill", "predicted": 0.0012, "observed": [0.001, 0.0015]}},
        },
        "policies": [
            {
                "policy": policy,
                "gpu_hours": hours * 8,
                "instance_hours": hours,
                "slo_violation_ratio": share,
                "actions_per_day": actions,
                "reversals_per_day": actions / 7,
                "overshoot_ratio": 0.11,
                "unserved_tokens": 0.0,
                "slo_violation_s": share * 230_400.0,
                "slo_violation_tokens": share * 9.2e8,
                "vs_recorded": saved,
                "vs_static_peak": peak,
                "vs_hindsight": 1.0 - hours / 741.5,
                "vs_current": None,
                "evidence": evidence.path(name, "replay", policy),
            }
            for policy, hours, share, actions, saved, peak in rows
        ],
    }


def _drivers(name: str) -> list[dict[str, Any]]:
    rows = (
        ("decode_tps", "decode", "decode", "proportional", 0.42, "follows the dip"),
        ("gpu_util", "decode", "decode", "unusable", 0.99, "stays near its peak: hardly scales in"),
        ("request_rate", "service", "decode", "proportional", 0.41, "follows the dip"),
        ("e2e_latency", "service", "decode", "guard", None, "not tried: what it reads is not known"),
    )
    return [
        {
            "signal": signal,
            "role": role,
            "pool": pool,
            "verdict": verdict,
            "target_per_instance": None if dip is None else 12.5,
            "load_dip_ratio": None if dip is None else 0.3,
            "dip_ratio": dip,
            "correlation": None if dip is None else 0.9,
            "reversals_per_day": None if dip is None else 2.0,
            "instance_hours": None if dip is None else 640.0,
            "strain_ratio": None if dip is None else 0.002,
            "reading": reading,
            "evidence": evidence.path(name, "select", f"driver:{signal}@{role}"),
        }
        for signal, role, pool, verdict, dip, reading in rows
    ]


def _verdicts(name: str) -> list[dict[str, Any]]:
    rows = (
        ("decode_tps", "decode", "proportional", 0.998, 0.996, 121.0, 0.4, 0.012, []),
        ("prefill_tps_effective", "prefill", "proportional", 1.04, 0.989, 98.0, -0.9, 0.021, []),
        ("gpu_util", "prefill", "proportional", 0.94, 0.991, 32.0, 2.1, 0.031, []),
        ("sm_activity", "prefill", "proportional", 0.99, 0.989, 38.0, 1.2, 0.034, []),
        ("request_rate", "service", "proportional", 0.97, 0.97, 22.0, -3.0, 0.14, []),
        (
            "tbt",
            "decode",
            "guard",
            0.28,
            0.994,
            85.0,
            4.1,
            0.11,
            [("class", "a latency is at best a guard", None, None)],
        ),
        (
            "ttft",
            "service",
            "guard",
            0.31,
            0.958,
            19.0,
            8.0,
            0.32,
            [("class", "a latency is at best a guard", None, None)],
        ),
        (
            "kv_usage",
            "decode",
            "guard",
            1.46,
            0.97,
            40.0,
            3.0,
            0.09,
            [("elasticity_high", "elasticity above the zone", 1.46, 1.4)],
        ),
        (
            "gpu_util",
            "decode",
            "unusable",
            0.02,
            0.403,
            3.0,
            None,
            0.01,
            [
                ("flat", "elasticity 0.02 is below 0.10: the signal hardly moves", 0.02, 0.1),
                ("spearman", "Spearman 0.403 is below 0.85", 0.403, 0.85),
            ],
        ),
        (
            "prefill_tps",
            "prefill",
            "unusable",
            1.1,
            0.91,
            9.0,
            0.0,
            0.41,
            [("drift", "the cache-hit rate moves the relation", 0.41, 0.2)],
        ),
        (
            "queue_length",
            "prefill",
            "unknown",
            None,
            None,
            None,
            None,
            None,
            [("coverage", "no value in 92 % of the windows", None, None)],
        ),
    )
    return [
        {
            "signal": signal,
            "role": role,
            "source": "dcgm" if "gpu" in signal or "sm" in signal else "vllm",
            "verdict": verdict,
            "pearson": rho,
            "pearson_ci": None if rho is None else [rho - 0.02, min(1.0, rho + 0.002)],
            "spearman": rho,
            "spearman_ci": None if rho is None else [rho - 0.02, min(1.0, rho + 0.002)],
            "elasticity": e,
            "elasticity_ci": None if e is None else [e - 0.04, e + 0.05],
            "snr": snr,
            "lag_s": lag,
            "lag_ci": None if lag is None else [lag - 4.0, lag + 5.0],
            "stability": 0.97,
            "drift": drift,
            "coverage": 0.64 if (signal, role) == ("gpu_util", "decode") else 0.987,
            "interval_s": 30.0,
            "n_effective": 61.0,
            "reasons": [dict(zip(("code", "text", "value", "limit"), r, strict=True)) for r in reasons],
            "evidence": evidence.path(name, "study", f"{signal}@{role}"),
        }
        for signal, role, verdict, e, rho, snr, lag, drift, reasons in rows
    ]
