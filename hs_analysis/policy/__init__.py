"""The policy: its model, the decision rule, and policy.yaml."""

from hs_analysis.policy.build import build_policy, work_target
from hs_analysis.policy.candidates import candidate_primaries
from hs_analysis.policy.document import dump, dump_all, load, load_all
from hs_analysis.policy.model import Policy
from hs_analysis.policy.rule import Observation, State, decide

__all__ = [
    "Observation",
    "Policy",
    "State",
    "build_policy",
    "candidate_primaries",
    "decide",
    "dump",
    "dump_all",
    "load",
    "load_all",
    "work_target",
]
