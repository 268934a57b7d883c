"""An older report gets the evidence links that it lacks, from its own page: ids and anchors, nothing else.

The previous form of the report (before its sections were folded) had ids for the rows of its tables. It had
none for start-up times and charts, and no visible link at demand, policy, refusals and the second table of
replayed policies.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from html.parser import HTMLParser

from hs_analysis import evidence
from hs_analysis.errors import UsageError
from hs_analysis.report.anchors import evidence_in
from hs_analysis.schema.names import POOL_ROLES

CHART_STAGES = {
    "coverage": "align",
    "elasticity": "study",
    "scatter": "study",
    "series": "study",
    "mix": "derive",
    "capacity": "derive",
    "ratio": "derive",
    "front": "replay",
    "steps": "replay",
    "drivers": "select",
}
"""First word of a chart's name → the stage that made its rows."""

REFUSED = re.compile(rf"(capacity|startup)@({'|'.join(POOL_ROLES)})(@.+)?|pd_ratio|demand")
"""What a refusal may be of that has evidence of its own."""

_GENERATOR = re.compile(r'<meta name="generator" content="hs_analysis [^"]*">')
_KICKER = '<p class="kicker">Autoscaling report</p>'
_VOID = frozenset({"base", "br", "col", "hr", "img", "input", "link", "meta", "wbr"})
_STARTUP = re.compile(r"[Ss]tart-up time [\d.]")


@dataclass(frozen=True)
class UpgradedReport:
    """A page with its links.

    Attributes
    ----------
    page
        The whole page.
    places
        Paths of evidence that got an element of their own.
    links
        Number of links that were added.
    """

    page: str
    places: tuple[str, ...]
    links: int


def upgraded(page: str, where: str) -> UpgradedReport:
    """Return an older report with the evidence links that it lacks; one of today's form as it is.

    Parameters
    ----------
    page
        The page, as it was written.
    where
        What a user calls it, for errors.

    Raises
    ------
    UsageError
        When it is no report of this program, or one of a form that is not known.
    """
    if not _GENERATOR.search(page) or _KICKER not in page:
        hint = "give the report.html of a run folder"
        raise UsageError("this is no report of hsa", where=where, hint=hint)
    root = _parsed(page)
    services = [one for one in root.every("article") if one.has("service")]
    today = any(part.has("part") for part in root.every("details"))
    if today or (not services and root.inside("none-h")):  # nothing was found: no answer to link to
        return UpgradedReport(page, (), 0)
    if not services or not all(one.inside(f"{one.id}-{part}") for one in services for part in _PARTS):
        hint = "hsa report RUN writes it again from its run folder"
        raise UsageError("a report of a form that this version of hsa does not know", where=where, hint=hint)
    edits = _Edits(set(evidence_in(page)))
    for service in services:
        _add_links(service, edits)
    return UpgradedReport(edits.applied(page), tuple(edits.places), edits.links)


_PARTS = ("name", "verdict", "signals", "capacity", "ratio", "replay", "policy")
"""What every service of the previous form has an element for."""


@dataclass
class _Element:
    """An element and where it stands in the page: its tag, what is inside, its end [characters]."""

    tag: str
    attrs: dict[str, str]
    start: int
    inner: int
    end: int = 0
    text: str = ""
    children: list[_Element] = field(default_factory=list)

    @property
    def id(self) -> str:
        return self.attrs.get("id", "")

    def has(self, name: str) -> bool:
        return name in self.attrs.get("class", "").split()

    def every(self, *tags: str) -> Iterator[_Element]:
        """Yield the elements inside, in the order of the page, of these tags."""
        for child in self.children:
            if child.tag in tags:
                yield child
            yield from child.every(*tags)

    def inside(self, id_: str) -> _Element | None:
        """Return the element of an id; None where there is none."""
        for child in self.children:
            if child.id == id_:
                return child
            if found := child.inside(id_):
                return found
        return None

    def words(self) -> str:
        """Return the text of the element without that of its links."""
        return self.text + "".join(child.words() for child in self.children if not child.has("anchor"))

    def linked(self, path: str) -> bool:
        """Whether a link to a path is inside."""
        return any(one.attrs.get("href") == f"#/{path}" for one in self.every("a"))


class _Parser(HTMLParser):
    """Elements of a page with their places; scripts and styles are text."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.root = _Element("", {}, 0, 0)
        self._open = [self.root]
        self._lines = [0, *(found.end() for found in re.finditer("\n", page))]
        self.feed(page)
        self.close()

    def _at(self) -> int:
        line, column = self.getpos()
        return self._lines[line - 1] + column

    def handle_starttag(self, tag: str, attrs: Sequence[tuple[str, str | None]]) -> None:
        """Open an element."""
        at = self._at()
        given = {name: value or "" for name, value in attrs}
        element = _Element(tag, given, at, at + len(self.get_starttag_text() or ""))
        self._open[-1].children.append(element)
        if tag not in _VOID:
            self._open.append(element)

    def handle_endtag(self, tag: str) -> None:
        """Close an element, and what was left open in it."""
        if tag in (one.tag for one in self._open):
            while True:
                closed = self._open.pop()
                closed.end = self._at()
                if closed.tag == tag:
                    return

    def handle_data(self, data: str) -> None:
        """Keep the text of an element."""
        self._open[-1].text += data


def _parsed(page: str) -> _Element:
    return _Parser(page).root


class _Edits:
    """What is added to a page: ids of elements and anchors, each at its place."""

    def __init__(self, known: set[str]) -> None:
        self.known, self.links = known, 0
        self.places: list[str] = []
        self._added: list[tuple[int, str]] = []

    def name(self, element: _Element, path: str) -> None:
        """Give an element the id of a path that has none yet."""
        if path not in self.known and not element.id:
            self._claim(path)
            self._added.append((element.start + 1 + len(element.tag), f' id="{html.escape(f"/{path}")}"'))

    def link(self, holder: _Element, at: int, path: str, label: str, *, named: bool = False) -> None:
        """Put a link to a path at a place in an element that has none to it.

        ``named`` makes the link the element of a path that has none.
        """
        if holder.linked(path):
            return
        own = ""
        if named and path not in self.known:
            self._claim(path)
            own = f' id="{html.escape(f"/{path}")}"'
        if path in self.known:
            to, told = html.escape(f"#/{path}"), html.escape(f"Link to {label}")
            self._added.append((at, f'&nbsp;<a{own} class="anchor" href="{to}" aria-label="{told}">#</a>'))
            self.links += 1

    def _claim(self, path: str) -> None:
        self.known.add(path)
        self.places.append(path)

    def applied(self, page: str) -> str:
        """Return the page with all that was added."""
        parts, last = [], 0
        for at, text in sorted(self._added, key=lambda one: one[0]):
            parts += [page[last:at], text]
            last = at
        return "".join([*parts, page[last:]])


def _add_links(service: _Element, edits: _Edits) -> None:
    """Add what one service lacks."""
    heading = service.inside(f"{service.id}-name")
    name = heading.words() if heading else ""
    _refusals(service, name, edits)
    _startup(service, name, edits)
    _charts(service, name, edits)
    _policies(service, edits)
    for kind, stage, label in (("demand", "derive", "demand"), ("policy", "policy", "the policy")):
        path = evidence.path(name, stage, kind)
        holder = service.inside(f"/{path}")
        first = next(holder.every("p"), None) if holder else None
        if first:
            edits.link(service, first.end, path, label)


def _refusals(service: _Element, name: str, edits: _Edits) -> None:
    """Add to refusals the place of the answer, where it has none, and a link to it."""
    for item in (one for box in service.every("div") if box.has("refusals") for one in box.every("li")):
        what = next((one for one in item.every("strong")), None)
        if what and REFUSED.fullmatch(what.words()):
            path = evidence.path(name, "derive", what.words())
            edits.name(item, path)
            edits.link(item, what.end, path, what.words())


def _startup(service: _Element, name: str, edits: _Edits) -> None:
    """Add a link for each pool to the one sentence that tells start-up times which were not refused."""
    said = [one for one in service.every("p") if one.has("note") and _STARTUP.match(one.words())]
    for note in said[:1]:
        for role in POOL_ROLES:
            path = evidence.path(name, "derive", f"startup@{role}")
            if re.search(rf"\b{role}\b", note.words()) and path not in edits.known:
                edits.link(note, note.end, path, f"the start-up time of {role}", named=True)


def _charts(service: _Element, name: str, edits: _Edits) -> None:
    """Add its own link to each chart."""
    for figure in (one for one in service.every("figure") if one.has("chart")):
        drawn = next((one for one in figure.every("div") if one.has("vega")), None)
        caption = next(figure.every("figcaption"), None)
        key = drawn.attrs.get("data-chart", "").removeprefix(f"{service.id}-") if drawn else ""
        stage = CHART_STAGES.get(key.partition("-")[0])
        if stage and caption:
            path = evidence.path(name, stage, f"chart:{key}")
            edits.name(figure, path)
            edits.link(figure, caption.end, path, f"chart: {caption.words()}")


def _policies(service: _Element, edits: _Edits) -> None:
    """Add links to the second table of replayed policies: to the rows of the first."""
    first, second = (service.inside(f"{service.id}-{table}") for table in ("policies", "further"))
    named = {_label(row): row.id.removeprefix("/") for row in (first.every("tr") if first else ())}
    for row in second.every("tr") if second else ():
        head = next((one for one in row.every("th") if one.attrs.get("scope") == "row"), None)
        if head and (path := named.get(_label(row))):
            edits.link(row, head.end, path, _label(row))


def _label(row: _Element) -> str:
    """Return the heading of a row, without notes."""
    head = next((one for one in row.every("th") if one.attrs.get("scope") == "row"), None)
    return head.text.strip() if head else ""
