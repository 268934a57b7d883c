"""TokenScale's token velocity: tokens that arrive at a stage ÷ the most an instance of it can take.

Lai et al. 2025, arXiv:2512.03416 (abstract and reviews; the text of its algorithm was not read, so that
rounding and window are not verified). The velocity of a pool is its derived capacity; network velocity and
convertible decoders, which turn decoders into prefill instances for a while, are not modelled.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from hs_analysis.replay.controllers.view import Answer, PoolView, documented, round_up

PAPER = "https://arxiv.org/abs/2512.03416"


@dataclass(frozen=True)
class TokenVelocity:
    """One pool: the rate at which tokens arrive [tokens/s] and the velocity of an instance [tokens/s]."""

    velocity: float
    signal: str = "arrived_tps"
    window_s: float = field(default=60.0, metadata=documented("s", f"{PAPER}: not verified"))
    min_replicas: int = field(default=1, metadata=documented("instances", f"{PAPER}: not verified"))
    max_replicas: int = field(default=100, metadata=documented("instances", f"{PAPER}: not verified"))

    @property
    def signals(self) -> tuple[str, ...]:
        """Readings it needs."""
        return (self.signal,)


def decide(parameters: TokenVelocity, view: PoolView, memory: None) -> Answer:
    """Ask for arriving tokens ÷ velocity, rounded up."""
    value = view.mean(parameters.signal, parameters.window_s)
    if value is None:
        return Answer(view.desired, memory, f"{parameters.signal} is missing: hold")
    wanted = round_up(value / parameters.velocity)
    count = min(max(wanted, parameters.min_replicas), parameters.max_replicas)
    return Answer(count, memory, f"arriving tokens need {wanted}")
