"""Which signals may drive a policy: the candidates that selection simulates."""

from __future__ import annotations

from collections.abc import Sequence

from hs_analysis.schema.names import POOL_ROLES
from hs_analysis.schema.results import Derived, SignalVerdict, Threshold

Primaries = tuple[tuple[str, str], ...]
"""(signal, pool it sizes) of each primary."""


def candidate_primaries(verdicts: Sequence[SignalVerdict], derived: Derived) -> dict[str, Primaries]:
    """List the policies worth simulating, by name (``signal@pool``, two joined by ``+``).

    Only proportional signals that have a target may size pools; latency acts through guards alone. Raw
    prefill TPS never stands beside cache-missed prefill TPS: the hit rate distorts it (arXiv:2508.19559,
    section 5).

    One signal sizes both pools when there is a ratio to size the other with; in the pairs each pool follows
    its own signal. When the ratio is refused or drifting, or both targets are floors, a fixed ratio breaks
    the SLO as soon as the token mix moves, so that pairs, where there are any, are the only candidates. A
    request rate, blind to the tokens of a request, is a candidate only when no signal of a pool is.

    Returns
    -------
    dict
        Name to primaries, sorted by name; empty when no signal may size a pool. A single signal without a
        ratio is listed when nothing else can be had: it sizes its own pool and leaves the other as it is.
    """
    usable = _usable(verdicts, derived)
    single: list[Primaries] = [(key,) for key in usable]
    prefill = [key for key in usable if key[1] == "prefill"]
    decode = [key for key in usable if key[1] == "decode"]
    pairs: list[Primaries] = [(p, d) for p in prefill for d in decode]
    fixed = [s for s in single if s[0][1] == "mixed" or derived.pd_ratio.value is not None]
    no_ratio = derived.pd_ratio.status in ("refused", "drifting")
    must_pair = [pair for pair in pairs if no_ratio or all(usable[key].status == "floor" for key in pair)]
    chosen = must_pair or fixed + pairs or single
    return dict(sorted((candidate_name(c), c) for c in chosen))


def candidate_name(primaries: Primaries) -> str:
    """Return the name of a candidate: ``decode_tps@decode``, two primaries joined by ``+``."""
    return "+".join(f"{signal}@{role}" for signal, role in primaries)


def signal_threshold(derived: Derived, signal: str, role: str) -> Threshold | None:
    """Return the threshold of a signal that sizes a pool; a service signal counts per instance of it."""
    return derived.threshold_of(signal, role) or derived.threshold_of(signal, "service")


def _usable(verdicts: Sequence[SignalVerdict], derived: Derived) -> dict[tuple[str, str], Threshold]:
    mixed = derived.capacity_of("mixed") is not None
    own: dict[tuple[str, str], Threshold] = {}
    service: dict[tuple[str, str], Threshold] = {}
    for verdict in verdicts:
        threshold = derived.threshold_of(verdict.signal, verdict.role)
        if verdict.verdict != "proportional" or threshold is None or not threshold.target_per_instance:
            continue
        if verdict.role in POOL_ROLES:
            own[(verdict.signal, verdict.role)] = threshold
        else:
            service[(verdict.signal, "mixed" if mixed else "decode")] = threshold
    for role in POOL_ROLES:
        if ("prefill_tps_effective", role) in own:
            own.pop(
                ("prefill_tps", role), None
            )  # the raw rate moves with the cache-hit rate, not with the work
    return own or service
