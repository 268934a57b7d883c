"""Names of GPU types, which exporters and benchmarks spell differently."""

from __future__ import annotations

import re

_NUMBERED = re.compile(r"(?<![0-9a-z])(?:\d+x)?([a-z]{1,3}\d{2,4})")
"""A GPU model in a name: H200, GB300, MI300, L20."""


def same_gpu(one: str, other: str) -> bool:
    """Whether two names share a model number: ``NVIDIA H200`` and ``h200_sxm``."""
    left, right = (set(_NUMBERED.findall(name.lower())) for name in (one, other))
    return bool(left & right) or one.lower() == other.lower()
