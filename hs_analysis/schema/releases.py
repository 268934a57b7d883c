"""A release inside the window, and what of the history it leaves to the version that runs now."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

ReleaseKind = Literal["released", "tried", "under_way"]

SETTLED_S = 300.0
"""A value first seen this long after the first of its kind is a change, not a late scrape [s]."""


@dataclass(frozen=True)
class Release:
    """A version of one pool that came inside the window, and the rows its numbers stand on.

    Attributes
    ----------
    role
        prefill, decode or mixed.
    kind
        ``released``: it took the place of the one before; ``tried``: it went again, the one before runs on;
        ``under_way``: both run at the end of the window.
    what
        What tells the versions apart: an image, a version label, metric names.
    before, after
        The versions.
    start, end
        When ``after`` was first seen, and when the one that went was last seen; both ISO 8601 UTC. In between
        both ran, and these rows belong to neither.
    used_h, left_out_h
        Hours of the pool that its numbers stand on, and that are left out for its releases [h].
    text
        The same in words.
    """

    role: str
    kind: ReleaseKind
    what: str
    before: str
    after: str
    start: str
    end: str
    used_h: float
    left_out_h: float
    text: str
