"""Which number of an entry a link stands for, and which others are told with it."""

from __future__ import annotations

HEADLINES = {
    "signals": ("elasticity", "elasticity_ci", "elasticity"),
    "capacity": ("per_instance", "ci", "capacity"),
    "thresholds": ("target_per_instance", "", "target"),
    "startup": ("value_s", "ci", "start-up time"),
    "gpu_speeds": ("relative", "ci", "speed ÷ the most numerous type's"),
    "pd_ratio": ("value", "ci", "ratio"),
    "selection": ("score", "", "score"),
    "replay": ("instance_hours", "instance_hours_ci", "paid"),
    "drivers": ("dip_ratio", "", "instances, dip ÷ peak"),
}
"""Key of the number a link stands for, of its interval, and its name, per kind of entry."""

NUMBERS: dict[str, dict[str, tuple[str, str]]] = {
    "signals": {
        "pearson": ("Pearson correlation", ""),
        "spearman": ("Spearman rank correlation", ""),
        "snr": ("signal to noise", ""),
        "lag_s": ("lag", "s"),
        "drift": ("drift", ""),
        "stability": ("stability", ""),
        "coverage": ("coverage", "ratio"),
        "interval_s": ("effective interval", "s"),
        "n_effective": ("independent observations", ""),
    },
    "capacity": {
        "growth_ratio": ("growth within a start-up time", "times"),
        "carried_ratio": ("load carried inside the SLO ÷ the floor", "times"),
    },
    "thresholds": {
        "headroom_ratio": ("share of the load at the capacity's lower end, or of the floor", ""),
        "capacity": ("the capacity it comes from", ""),
        "scale_out_ratio": ("out above, as noise asks", "× target"),
        "scale_in_ratio": ("in below, as noise asks", "× target"),
        "cooldown_out_s": ("usual rest before out", "s"),
        "cooldown_in_s": ("usual rest before in", "s"),
        "noise_cv": ("noise of the newest reading", "ratio"),
        "usual_instances": ("usual size of the pool", "instances"),
    },
    "startup": {"births": ("instances that came", "")},
    "gpu_speeds": {
        "weight": ("one pod counts", "mean pods"),
        "instances": ("mean pods recorded", ""),
        "pods": ("pods for the 95 % demand", ""),
    },
    "pd_ratio": {
        "at_least": ("at least", ""),
        "at_most": ("at most", ""),
        "one_primary_bound": ("held where one signal sizes both pools", ""),
    },
    "demand": {
        "prefill_tps": ("prefill work", "tokens/s"),
        "decode_tps": ("decode work", "tokens/s"),
        "reconstruction_error": ("error of the reconstruction", "ratio"),
    },
    "selection": {
        "reading_s": ("reads the mean of", "s"),
        "surge_s": ("or, while the load grows, of", "s"),
        "scale_out_ratio": ("scale out above", "× target"),
        "scale_in_ratio": ("scale in below", "× target"),
        "over_s": ("for", "s"),
        "instance_hours": ("instance-hours", ""),
        "gpu_hours": ("GPU-hours", ""),
        "slo_violation_ratio": ("windows over the limit", "ratio"),
        "fault_violation_ratio": ("windows over capacity under faults", "ratio"),
        "burst_violation_ratio": ("windows over capacity under bursts", "ratio"),
        "actions_per_day": ("actions per day", ""),
        "flat_actions_per_day": ("actions a pool and day at flat load", ""),
    },
    "replay": {
        "gpu_hours": ("GPU-hours", ""),
        "vs_recorded": ("saved against recorded", "ratio"),
        "vs_static_peak": ("saved against static peak", "ratio"),
        "vs_hindsight": ("saved against hindsight", "ratio"),
        "vs_current": ("saved against today's autoscaler", "ratio"),
        "slo_violation_ratio": ("windows over the limit", "ratio"),
        "slo_violation_s": ("time over the limit", "s"),
        "slo_violation_tokens": ("output tokens over the limit", ""),
        "actions_per_day": ("actions per day", ""),
        "reversals_per_day": ("reversals per day", ""),
        "overshoot_ratio": ("overshoot", "ratio"),
        "unserved_tokens": ("unserved tokens", ""),
        "recovery_s": ("longest stretch over the limit", "s"),
        "pd_imbalance_ratio": ("P/D imbalance", "ratio"),
        "pd_stray_ratio": ("windows off the P/D ratio", "ratio"),
        "pd_stray_factor": ("farthest from the P/D ratio, times", ""),
    },
    "drivers": {
        "load_dip_ratio": ("load, dip ÷ peak", ""),
        "correlation": ("correlation with load", ""),
        "reversals_per_day": ("reversals per day", ""),
        "instance_hours": ("instance-hours of its pool", ""),
        "strain_ratio": ("windows over capacity", "ratio"),
    },
    "policy": {},
}
"""Further numbers of an entry: key → (name, unit)."""

INTERVALS = {"lag_s": "lag_ci", "slo_violation_ratio": "slo_violation_ci",
             "one_primary_bound": "one_primary_bound_ci"}  # fmt: skip
"""Keys of intervals that are not that of their number with ``_ci``."""
