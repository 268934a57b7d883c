"""Seeded histories of a serving fleet with documented physics and known answers.

`history` simulates one of `KINDS`, `write` writes it as Prometheus range-query answers, ``History.truth``
holds what interventions on the same physics say: verdicts, capacities, ratio, short minutes. The physics is
textbook queueing (`prefill`, `decode`, `shared`); its numbers are choices of this project and claim nothing
about any hardware.
"""

from simulator.history import History, fresh_history, history, shortened, write
from simulator.kinds import KINDS, Kind, kind_of

__all__ = ["KINDS", "History", "Kind", "fresh_history", "history", "kind_of", "shortened", "write"]
