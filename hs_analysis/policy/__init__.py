"""The policy: its model, policy.yaml, and the controller that runs it."""

from hs_analysis.policy.build import build_policy, policy_of_test, work_target
from hs_analysis.policy.candidates import candidate_primaries
from hs_analysis.policy.controls import control_of
from hs_analysis.policy.document import dump, dump_all, load, load_all
from hs_analysis.policy.model import Policy

__all__ = [
    "Policy",
    "build_policy",
    "candidate_primaries",
    "control_of",
    "dump",
    "dump_all",
    "load",
    "load_all",
    "policy_of_test",
    "work_target",
]
