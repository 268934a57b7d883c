"""Two graphs of the numbers of a run and the links to them: one of its answers, one of the page alone.

A page is read in pieces as a browser with scripts has it (`pieces_of`) and crawled without anything else
(`crawled`). `Wanted` is made of summary.json, policy.yaml and `hsa explain`. `differences` names everything
in which the two are not equal.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from html.parser import HTMLParser
from itertools import zip_longest
from typing import Any
from xml.etree.ElementTree import Element, TreeBuilder

import polars as pl
from report import unpacked
from report.link_rules import ANSWERED, INTERVALS, LEFT_OUT, SHOWN, figures_of, interval_of, pointers_of
from report.shown_numbers import Amount, apart, disagreement
from ruamel.yaml import YAML

from hs_analysis.report.explain import everything
from hs_analysis.report.explain_text import row_words
from hs_analysis.report.wording import span

VOID = frozenset(("meta", "link", "input", "br", "img", "hr"))
BESIDE = frozenset(("ci", "note", "chip"))
"""Classes of what stands beside a number and is not part of it."""

Behind = Mapping[str, Sequence[Any]]
Summary = Mapping[str, Any]


@dataclass(frozen=True)
class Pieces:
    """A page in pieces: what surrounds the services, each service's part, and what stands behind numbers."""

    around: str
    services: tuple[str, ...]
    behind: Behind
    made_by: Mapping[str, Sequence[str]]
    drawn: frozenset[str]


def pieces_of(page: str) -> Pieces:
    """Split a page as a browser with scripts has it."""
    whole = re.sub(r"<script[^>]*>.*?</script>|<style>.*?</style>", "", unpacked.whole(page), flags=re.S)
    before, *services = re.split(r'(?=<article class="service")', whole)
    services[-1], method, after = services[-1].partition('<section id="method">')
    said = unpacked.behind(page)
    return Pieces(
        before + method + after,
        tuple(services),
        {path: rest for path, *rest in said["numbers"]},
        said["made_by"],
        frozenset(unpacked.charts(page)),
    )


@dataclass(frozen=True)
class Link:
    """A link to a number: its target, what it shows, and the value of summary.json that it names."""

    target: str
    shown: Amount
    pointer: str
    raw: str


@dataclass
class Crawled:
    """What one piece of a page says."""

    id: str = ""
    name: str = ""
    ids: list[str] = field(default_factory=list)
    numbers: dict[str, dict[str, Amount]] = field(default_factory=dict)
    links: list[Link] = field(default_factory=list)
    inner: list[str] = field(default_factory=list)
    figures: list[str] = field(default_factory=list)
    intervals: list[tuple[Link, str]] = field(default_factory=list)
    policy: str = ""
    in_policy: list[tuple[str, str]] = field(default_factory=list)
    overview: list[tuple[str, str, dict[str, Amount]]] = field(default_factory=list)
    inputs: list[list[str]] = field(default_factory=list)


class _Tree(HTMLParser):
    """Builds elements of HTML whose elements are all closed, or need no end."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.made = TreeBuilder()
        self.made.start("page", {})
        self.feed(text)
        self.close()
        self.made.end("page")
        self.root = self.made.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Open an element."""
        self.made.start(tag, {name: value or "" for name, value in attrs})
        if tag in VOID:
            self.made.end(tag)

    def handle_endtag(self, tag: str) -> None:
        """Close an element."""
        self.made.end(tag)

    def handle_data(self, data: str) -> None:
        """Add text."""
        self.made.data(data)

    def handle_decl(self, decl: str) -> None:
        """Leave the doctype out."""


def _classes(element: Element) -> list[str]:
    return element.get("class", "").split()


def _said(element: Element, beside: frozenset[str] = BESIDE) -> str:
    """Return the text of an element without what stands beside it."""
    text = element.text or ""
    for child in element:
        if not beside & set(_classes(child)):
            text += _said(child, beside)
        text += child.tail or ""
    return text


def _first(element: Element, name: str) -> Element | None:
    return next((one for one in element.iter() if name in _classes(one)), None)


def _text(element: Element | None) -> str:
    return "".join(element.itertext()).strip() if element is not None else ""


def _amount(element: Element) -> Amount:
    chip, unit = _first(element, "chip"), _first(element, "unit")
    word = "".join(chip.itertext()).split(maxsplit=1)[-1].strip() if chip is not None else ""
    return Amount(
        _said(element, BESIDE | {"unit", "anchor"}).replace("\xa0", " ").strip(" #"),
        _text(unit),
        element.get("data-sort", ""),
        _text(_first(element, "ci")),
        word,
        "data-negative" in element.attrib,
    )


@lru_cache(maxsize=4096)
def crawled(piece: str) -> Crawled:
    """Return what a piece of a page says of numbers and links; equal pieces are read once."""
    root, found = _Tree(piece).root, Crawled()
    article = next((one for one in root if one.tag == "article"), None)
    if article is not None:
        found.id = article.get("id", "")
        found.name = _text(
            next((one for one in root.iter("h2") if one.get("id") == f"{found.id}-name"), None)
        )
    for element in root.iter():
        if (name := element.get("id")) is not None:
            found.ids.append(name)
            if name.startswith("/"):
                found.numbers.setdefault(name[1:], {}).update(_amounts_of(element, root))
        if (key := element.get("data-figure")) is not None:
            found.figures.append(key)
        _read_links(element, found)
    for pre in root.iter("pre"):
        if "yaml" in _classes(pre):
            found.policy = "".join(pre.itertext())
            found.in_policy = [(a.get("href", ""), _text(a)) for a in pre.iter("a")]
    _read_tables(root, found)
    return found


def _read_links(parent: Element, found: Crawled) -> None:
    """Read the links that stand in an element, each with the interval that follows it."""
    last = None
    for element in parent:
        href, pointer = element.get("href", ""), element.get("data-pointer")
        if element.tag == "a" and href.startswith("#") and pointer is None:
            found.inner.append(href[1:])
        elif element.tag == "a" and pointer is not None:
            last = Link(href[2:], _amount(element), pointer, element.get("data-raw", ""))
            found.links.append(last)
        elif "ci" in _classes(element) and last is not None:
            found.intervals.append((last, _text(element)))
            last = None


def _amounts_of(element: Element, root: Element) -> Iterator[tuple[str, Amount]]:
    """Yield the keyed numbers of a number's element: cells of a row by their heading, or marked amounts."""
    if element.tag == "tr":
        table = next(one for one in root.iter("table") if any(row is element for row in one.iter("tr")))
        heads = [head.get("data-key", "") for head in table.find("thead/tr") or ()]
        yield from ((key, _amount(cell)) for key, cell in zip(heads, element, strict=False) if key)
    else:
        yield from ((one.get("data-key", ""), _amount(one)) for one in element.iter() if one.get("data-key"))


def _read_tables(root: Element, found: Crawled) -> None:
    for table in root.iter("table"):
        rows = table.findall("tbody/tr")
        if table.get("id") == "inputs":
            found.inputs = [[_text(cell) for cell in row] for row in rows]
        if table.get("id") == "overview":
            heads = [head.get("data-key", "") for head in table.find("thead/tr") or ()]
            for row in rows:
                link = next(row.iter("a"), None)
                amounts = {key: _amount(cell) for key, cell in zip(heads, row, strict=False) if key}
                target = link.get("href", "")[1:] if link is not None else ""
                found.overview.append((target, _text(link), amounts))


class Wanted:
    """What a page must say, by the outputs of its run.

    Parameters
    ----------
    summary, policies
        summary.json; text of policy.yaml by service.
    details, made_by
        Detail tables by name; what makes each kind of number.
    """

    def __init__(
        self,
        summary: Summary,
        policies: Mapping[str, str],
        details: Mapping[str, pl.DataFrame],
        made_by: Mapping[str, Sequence[str]],
    ) -> None:
        self.summary, self.policies, self.made_by = summary, policies, made_by
        self.services: list[Summary] = summary["services"]
        tables = {
            name: frame.partition_by("service", as_dict=True)
            for name, frame in details.items()
            if "service" in frame.columns
        }
        self.numbers: list[dict[str, tuple[str, Summary, Mapping[str, Any]]]] = []
        for service in self.services:
            mine = {
                name: parts.get((service["service"],), details[name].clear())
                for name, parts in tables.items()
            }
            told = everything(service, summary, mine, made_by)
            self.numbers.append({path: (kind, entry, said) for path, kind, entry, said in told})
        self.paths = {id(entry): path for one in self.numbers for path, (_, entry, _) in one.items()}
        self.specs = {name: YAML(typ="safe", pure=True).load(text)["spec"] for name, text in policies.items()}

    def at(self, pointer: str) -> Any:
        """Return the value that a pointer names."""
        value: Any = self.summary
        for key in pointer.strip("/").split("/"):
            value = value[int(key)] if isinstance(value, list) else value[key]
        return value


def differences(pieces: Pieces, wanted: Wanted) -> list[str]:
    """Return everything in which the page is not what it must be."""
    found = [*_around(pieces, wanted)]
    for place, service in enumerate(wanted.services):
        if place >= len(pieces.services):
            found.append(f"{service['service']} is not on the page")
            continue
        found += _cached(pieces.services[place], wanted, place)
    return [*found, *_behind(pieces, wanted)]


_KNOWN: dict[tuple[str, int, int], list[str]] = {}


def _cached(piece: str, wanted: Wanted, place: int) -> list[str]:
    key = (piece, id(wanted), place)
    if key not in _KNOWN:
        _KNOWN[key] = [*_service(crawled(piece), wanted, place)]
    return _KNOWN[key]


def _around(pieces: Pieces, wanted: Wanted) -> Iterator[str]:
    """Yield what is wrong of the whole page: ids, targets, overview, input files, drawn figures."""
    parts = [crawled(one) for one in (pieces.around, *pieces.services)]
    ids = Counter(name for part in parts for name in part.ids)
    yield from (f"{name} is there {times} times" for name, times in ids.items() if times > 1)
    inner = {target for part in parts for target in part.inner}
    yield from (f"a link goes to {target}, which is nowhere" for target in sorted(inner - set(ids)))
    figures = Counter(key for part in parts for key in part.figures)
    if sorted(figures.elements()) != sorted(pieces.drawn):
        yield f"figures {sorted(set(figures) ^ set(pieces.drawn))} are not both shown and drawn"
    shown = [row[:3] for row in parts[0].inputs]
    files = [
        [one.get("name") or one.get("path"), f"{one.get('bytes', one.get('size')):,} bytes", one["sha256"]]
        for one in wanted.summary["inputs"]
    ]
    if shown != files:
        yield f"input files {shown} are not {files}"
    if len(wanted.services) > 1:
        yield from _overview(parts, wanted)
    made = {kind for one in wanted.numbers for kind, *_ in one.values()}
    if {kind: list(names) for kind, names in pieces.made_by.items()} != {
        kind: list(wanted.made_by.get(kind, ())) for kind in made
    }:
        yield "what makes each kind of number is not what ran"


def _overview(parts: Sequence[Crawled], wanted: Wanted) -> Iterator[str]:
    """Yield what is wrong of the table of services."""
    rows = parts[0].overview
    names = {part.id: part.name for part in parts[1:]}
    if sorted(target for target, *_ in rows) != sorted(names):
        yield "the table of services has not one row for each"
    by_name = {str(one["service"]): one for one in wanted.services}
    for target, name, amounts in rows:
        if names.get(target) != name or name not in by_name:
            yield f"the row of {name} leads to {names.get(target)}"
            continue
        service = by_name[name]
        chosen = next((row["policy"] for row in service["selection"] if row["chosen"]), None)
        row = next((one for one in service["replay"]["policies"] if one["policy"] == chosen), {})
        primary = (wanted.specs[name].get("primaries") or [{}])[0]
        pair = (primary.get("signal"), primary.get("role"))
        targets = (one for one in service["thresholds"] if (one["signal"], one["role"]) == pair)
        target_row = next(targets, {})
        values = {
            "target_per_instance": (target_row.get("target_per_instance"), None),
            "value": (service["pd_ratio"]["value"], service["pd_ratio"]["ci"]),
            "vs_recorded": (row.get("vs_recorded"), None),
            "slo_violation_ratio": (row.get("slo_violation_ratio"), None),
            "confidence": (service["decision"]["confidence"], None),
        }
        for key, (value, interval) in values.items():
            if key not in amounts:
                yield f"the row of {name} has no {key}"
            elif said := disagreement(amounts[key], value, interval):
                yield f"the row of {name}, {key}: {said}"
        if amounts.get("value") and amounts["value"].word != service["pd_ratio"]["status"]:
            yield f"the row of {name} says {amounts['value'].word} of its ratio"


def _service(part: Crawled, wanted: Wanted, place: int) -> Iterator[str]:
    """Yield what is wrong of a service's part of the page."""
    service, numbers = wanted.services[place], wanted.numbers[place]
    name = str(service["service"])
    if (part.id, part.name) != (f"s{place + 1}", name):
        yield f"{name} stands as {part.name} in {part.id}"
    here = set(part.numbers)
    yield from (f"{path} has no place on the page" for path in numbers if path not in here)
    yield from (f"{path} is nothing that the run found" for path in here if path not in numbers)
    for path, (kind, entry, _) in numbers.items():
        if path in here:
            yield from (f"{path}: {said}" for said in _number(part.numbers[path], kind, entry))
    yield from _answer(part, wanted, place)
    if part.policy.strip("\n") != wanted.policies.get(name, "").strip("\n"):
        yield f"policy.yaml of {name} is not the one that was written"
    words = re.split(r"[\s\"'#{},\[\]]+/?", wanted.policies.get(name, ""))
    named = [word for word in words if word in numbers]
    for (href, text), path in zip_longest(part.in_policy, named, fillvalue=("", "")):
        if href != f"#/{path}" or not text.endswith(str(path)):
            yield f"policy.yaml of {name} names {path}, shows {text} and leads to {href}"


def _number(amounts: Mapping[str, Amount], kind: str, entry: Summary) -> Iterator[str]:
    """Yield what is wrong of one number's place."""
    for key in SHOWN[kind]:
        if key in LEFT_OUT.get(kind, ()) and key not in amounts and entry.get(key) is None:
            continue
        if key not in amounts:
            yield f"{key} is not shown"
            continue
        value = entry.get(key)
        value = bool(value) if key == "chosen" else value
        said = disagreement(amounts[key], value, entry.get(INTERVALS.get(kind, {}).get(key, "")))
        if said:
            yield f"{key} {said}"
    if kind in ("capacity", "pd_ratio") and entry.get("status"):
        word = next((one.word for one in amounts.values() if one.word), "")
        if word != entry["status"]:
            yield f"status {word!r} is not {entry['status']!r}"


def _answer(part: Crawled, wanted: Wanted, place: int) -> Iterator[str]:
    """Yield what is wrong of the links in a service's answer."""
    service = wanted.services[place]
    expected = Counter(
        (pointer, wanted.paths.get(id(entry), ""))
        for pointer, entry in pointers_of(
            service, f"/services/{place}", wanted.specs.get(service["service"], {})
        )
    )
    got = Counter((link.pointer, link.target) for link in part.links)
    yield from (f"the answer lacks {what}" for what in (expected - got))
    yield from (f"the answer has {what} too many" for what in (got - expected))
    for link in part.links:
        try:
            value = wanted.at(link.pointer)
        except (KeyError, IndexError, ValueError):
            yield f"{link.pointer} names nothing"
            continue
        if isinstance(value, str):
            if link.raw != value:
                yield f"{link.pointer} is {value!r}, not {link.raw!r}"
        elif said := disagreement(link.shown, value):
            yield f"{link.pointer} {said}"
    between = dict(part.intervals)
    for link in part.links:
        holder, _, key = link.pointer.rpartition("/")
        interval = interval_of(wanted.at(holder), key) if key in ANSWERED else None
        if said := apart(between.get(link, ""), interval, link.shown.unit):
            yield f"{link.pointer} {said}"


def _behind(pieces: Pieces, wanted: Wanted) -> Iterator[str]:
    """Yield what is wrong of what stands behind the numbers: code, rows, window, metrics, figure, sources."""
    paths = {path for one in wanted.numbers for path in one}
    yield from (f"nothing stands behind {path}" for path in paths if path not in pieces.behind)
    yield from (f"{path} is no number of the run" for path in pieces.behind if path not in paths)
    for place, numbers in enumerate(wanted.numbers):
        own = f"s{place + 1}-"
        here = [key.removeprefix(own) for key in sorted(pieces.drawn) if key.startswith(own)]
        for path, (kind, entry, said) in numbers.items():
            if path not in pieces.behind:
                continue
            window = said["window"]
            expected = [
                kind,
                said["title"],
                row_words(said["rows"]) if said["rows"] else "",
                f"{span(window['start'], window['end'])}, {window['of']}",
                said["metrics"],
                said["see_also"],
            ]
            got = [*pieces.behind[path]]
            figure = got.pop(2)
            if got != expected:
                yield f"behind {path} stands {got}, not {expected}"
            if figure not in [one and own + one for one in figures_of(kind, entry, here)]:
                yield f"behind {path} stands the figure {figure}"
