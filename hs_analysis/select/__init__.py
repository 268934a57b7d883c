"""Which candidate to deploy: what a controller can be set to, simulated on the training window."""

from hs_analysis.select.candidates import (
    Knobs,
    can_be_set,
    can_hold,
    can_surge,
    candidate_of,
    chosen_knobs,
    knobs_of,
    models_of,
    with_knobs,
)
from hs_analysis.select.choose import select_service

__all__ = [
    "Knobs",
    "can_be_set",
    "can_hold",
    "can_surge",
    "candidate_of",
    "chosen_knobs",
    "knobs_of",
    "models_of",
    "select_service",
    "with_knobs",
]
