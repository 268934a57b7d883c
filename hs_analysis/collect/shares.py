"""Splitting a metric's series by role, then by pod group, so that a file stays small; never by guess.

Every split is a matcher and its complement, so that a series which appears only later still lands in exactly
one file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from hs_analysis.catalogue import Catalogue
from hs_analysis.collect.needs import Need
from hs_analysis.collect.selectors import Matcher, Selector, one_of, others

Labels = Mapping[str, str]

Api = Literal["query", "query_range"]
"""How series are asked for: their samples as scraped (`/api/v1/query` with a range selector), or their value
at the points of a grid (`/api/v1/query_range`)."""

SPLIT_LABELS = ("exported_pod", "pod_name", "pod", "instance", "Hostname", "le")
"""Labels to split series by, in order of preference; a label with one value splits nothing."""

_NAMED_ROLES = ("prefill", "decode")


@dataclass(frozen=True)
class Share:
    """A part of a metric's series that makes one file a chunk.

    ``step_s`` is the distance of the grid's points, or of samples as scraped, which is ``assumed`` where
    nobody measured or said it [s]; ``series`` is how many the server lists, None when it was not asked.
    """

    need: Need
    selector: Selector
    step_s: float
    series: int | None = None
    role: str | None = None
    group: int | None = None
    api: Api = "query_range"
    assumed: bool = False


def shares_of(
    need: Need, selector: Selector, step_s: float, series: Sequence[Labels], most: int, catalogue: Catalogue
) -> list[Share]:
    """Return the shares of a metric, each of at most ``most`` series where labels allow it.

    All in one when they fit; else by role; what is still too large by pod groups. The user's queries are not
    divided: no matcher goes into them.
    """
    if len(series) <= most or need.is_query:
        return [Share(need, selector, step_s, len(series))]
    return [
        share
        for role, matchers in _by_role(need, series, catalogue)
        for share in _by_group(need, selector.narrowed(*matchers), step_s, series, most, role)
    ]


def _by_role(
    need: Need, series: Sequence[Labels], catalogue: Catalogue
) -> list[tuple[str | None, tuple[Matcher, ...]]]:
    """Return (role, matchers) parts: by the exporter's role label, else by the words in the pod's name."""
    exporter = next(e for e in catalogue.exporters if e.name == need.exporter)
    for label, roles in exporter.role_label.items():
        if any(row.get(label) for row in series):
            by_role: dict[str, list[str]] = {}
            for value, role in roles.items():
                by_role.setdefault(role, []).append(value)
            matchers = {role: one_of(label, sorted(values)) for role, values in by_role.items()}
            return [*((role, (m,)) for role, m in matchers.items()), _rest(list(matchers.values()))]
    pod = next((label for label in SPLIT_LABELS[:3] if any(row.get(label) for row in series)), None)
    if pod is None:
        return [(None, ())]
    first, second = (Matcher(pod, "=~", f".*{role}.*") for role in _NAMED_ROLES)
    return [(_NAMED_ROLES[0], (first,)), (_NAMED_ROLES[1], (others(first), second)), _rest([first, second])]


def _rest(matchers: Sequence[Matcher]) -> tuple[str | None, tuple[Matcher, ...]]:
    return "other", tuple(others(matcher) for matcher in matchers)


def _by_group(
    need: Need, selector: Selector, step_s: float, series: Sequence[Labels], most: int, role: str | None
) -> list[Share]:
    """Return the non-empty pod groups of a part; a part nothing was listed for is kept, for what may come."""
    parts = [selector]
    done: list[tuple[Selector, int]] = []
    while parts:
        part = parts.pop()
        own = [row for row in series if part.accepts(row)]
        cut = halves(own) if len(own) > most else None
        if cut is None:
            done.append((part, len(own)))
        else:
            parts += [part.narrowed(matcher) for matcher in reversed(cut)]
    numbered = len(done) > 1
    return [
        Share(need, part, step_s, count, role, number if numbered else None)
        for number, (part, count) in enumerate(done)
    ]


def halves(series: Sequence[Labels]) -> tuple[Matcher, Matcher] | None:
    """Return a matcher for about half of some series, and its complement; None when no label divides them."""
    for label in SPLIT_LABELS:
        values = sorted({row.get(label, "") for row in series})
        if len(values) > 1:
            named = [value for value in values if value]
            first = one_of(label, named[: max(1, len(named) // 2)])
            return first, others(first)
    return None
