"""Defects of a page's numbers and links, each put at a random place of the page."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from random import Random
from typing import Any

from report.link_graph import Pieces

Defect = Callable[[Pieces, Random], "Pieces | None"]

ROW = r'<tr id="/[^"]+">.*?</tr>'
LINK = r'<a [^>]*?href="#/([^"]+)"\s*data-pointer="[^"]+"[^>]*>.*?</a>'
OWN = r' id="/([^"]+)"'


def seeded(pieces: Pieces, kind: str, rng: Random) -> Pieces:
    """Return the page with one defect of a kind, somewhere where it makes a difference to the page's text."""
    for _ in range(50):
        made = DEFECTS[kind](pieces, rng)
        if made is not None and made != pieces:
            return made
    raise AssertionError(f"no place for {kind}")


def _digit(text: str, rng: Random) -> str:
    """Return a text with one of its digits another one, never only a leading nought."""
    places = [m.start() for m in re.finditer(r"\d", text)]
    if not places:
        return text
    at = rng.choice(places)
    return text[:at] + rng.choice([d for d in "123456789" if d != text[at]]) + text[at + 1 :]


def _in_service(change: Callable[[str, Random], str | None]) -> Defect:
    """Return a defect of the part of one service."""

    def made(pieces: Pieces, rng: Random) -> Pieces | None:
        at = rng.randrange(len(pieces.services))
        new = change(pieces.services[at], rng)
        if new is None:
            return None
        return replace(pieces, services=(*pieces.services[:at], new, *pieces.services[at + 1 :]))

    return made


def _around(change: Callable[[str, Random], str | None]) -> Defect:
    def made(pieces: Pieces, rng: Random) -> Pieces | None:
        new = change(pieces.around, rng)
        return None if new is None else replace(pieces, around=new)

    return made


def _one(
    pattern: str, change: Callable[[re.Match[str], Random], str], within: str = ""
) -> Callable[[str, Random], str | None]:
    """Return a change of one random match of a pattern, inside a random match of another if given."""

    def made(text: str, rng: Random) -> str | None:
        spans = [(0, len(text))]
        if within:
            spans = [m.span() for m in re.finditer(within, text, re.S)]
        if not spans:
            return None
        low, high = rng.choice(spans)
        found = list(re.compile(pattern, re.S).finditer(text, low, high))
        if not found:
            return None
        match = rng.choice(found)
        return text[: match.start()] + change(match, rng) + text[match.end() :]

    return made


def _other_path(text: str, path: str, rng: Random) -> str:
    return rng.choice([one for one in re.findall(OWN, text) if one != path])


def _wrong_target(text: str, rng: Random) -> str | None:
    return _one(LINK, lambda m, r: m[0].replace(f"#/{m[1]}", f"#/{_other_path(text, m[1], r)}"))(text, rng)


def _duplicated_id(text: str, rng: Random) -> str | None:
    return _one(OWN, lambda m, r: f' id="/{_other_path(text, m[1], r)}"')(text, rng)


def _swapped_cells(match: re.Match[str], rng: Random) -> str:
    cells = re.split(r"(?=<td)", match[0])
    a, b = rng.sample(range(1, len(cells)), 2)
    inner = [re.sub(r"</tr>.*", "", cells[n], flags=re.S) for n in (a, b)]
    cells[a], cells[b] = cells[a].replace(inner[0], inner[1]), cells[b].replace(inner[1], inner[0])
    return "".join(cells)


def _swapped_rows(text: str, rng: Random) -> str | None:
    tables = [t for t in re.findall(r"<table .*?</table>", text, re.S) if t.count('<tr id="/') > 1]
    if not tables:
        return None
    table = rng.choice(tables)
    a, b = rng.sample(re.findall(r'<tr id="/([^"]+)"', table), 2)
    new = (
        table.replace(f'id="/{a}"', 'id="/@"')
        .replace(f'id="/{b}"', f'id="/{a}"')
        .replace('id="/@"', f'id="/{b}"')
    )
    return text.replace(table, new)


def _of_other_service(pattern: str, prefix: str) -> Defect:
    """Return a defect that puts the path of another service at a place of one."""

    def made(pieces: Pieces, rng: Random) -> Pieces | None:
        a, b = rng.sample(range(len(pieces.services)), 2)
        mine, theirs = (re.search(OWN, pieces.services[n]) for n in (a, b))
        if not mine or not theirs:
            return None
        old, new = (found[1].partition("/")[0] for found in (mine, theirs))
        text = _one(pattern, lambda m, _: m[0].replace(f"{prefix}{old}/", f"{prefix}{new}/"))(
            pieces.services[a], rng
        )
        if text is None:
            return None
        return replace(pieces, services=(*pieces.services[:a], text, *pieces.services[a + 1 :]))

    return made


def _swapped_services(pieces: Pieces, rng: Random) -> Pieces:
    """Put the content of two services under each other's headings."""
    a, b = rng.sample(range(len(pieces.services)), 2)
    services = list(pieces.services)
    heading = re.compile(r'(?<=-name">)[^<]+(?=</h2>)')
    names = [heading.findall(services[n])[0] for n in (a, b)]
    services[a] = heading.sub(names[1], services[a], count=1)
    services[b] = heading.sub(names[0], services[b], count=1)
    return replace(pieces, services=tuple(services))


def _behind(place: int, change: Callable[[Any, Pieces, Random], Any]) -> Defect:
    """Return a defect of what stands behind one number."""

    def made(pieces: Pieces, rng: Random) -> Pieces | None:
        path = rng.choice(sorted(pieces.behind))
        said = list(pieces.behind[path])
        new = change(said[place], pieces, rng)
        if new is None or new == said[place]:
            return None
        said[place] = new
        return replace(pieces, behind={**pieces.behind, path: said})

    return made


def _lost_behind(pieces: Pieces, rng: Random) -> Pieces:
    path = rng.choice(sorted(pieces.behind))
    return replace(pieces, behind={key: said for key, said in pieces.behind.items() if key != path})


def _wrong_query(pieces: Pieces, rng: Random) -> Pieces | None:
    kind = rng.choice(sorted(pieces.made_by))
    names = list(pieces.made_by[kind])
    every = sorted({name for made in pieces.made_by.values() for name in made})
    names[rng.randrange(len(names))] = rng.choice(every)
    return replace(pieces, made_by={**pieces.made_by, kind: names})


def _dropped(value: Sequence[str], rng: Random) -> list[str] | None:
    return [one for one in value if one != rng.choice(list(value))] if value else None


DEFECTS: Mapping[str, Defect] = {
    "missing anchor": _in_service(_one(OWN, lambda m, _: "")),
    "misspelt anchor": _in_service(_one(OWN, lambda m, r: f' id="/{m[1][:-1]}{r.choice("xyz")}"')),
    "duplicated id": _in_service(_duplicated_id),
    "duplicated row": _in_service(_one(ROW, lambda m, _: m[0] * 2)),
    "dropped row": _in_service(_one(ROW, lambda m, _: "")),
    "swapped rows": _in_service(_swapped_rows),
    "swapped cells": _in_service(
        _one(r'<tr id="/[^"]+/(?:study|derive|replay)/[^"]+">.*?</tr>', _swapped_cells)
    ),
    "wrong target": _in_service(_wrong_target),
    "dead target": _in_service(_one(LINK, lambda m, _: m[0].replace(f"#/{m[1]}", f"#/{m[1]}-gone"))),
    "target of another service": _of_other_service(LINK, "#/"),
    "anchor of another service": _of_other_service(OWN, "/"),
    "swapped services": _swapped_services,
    "lost link": _in_service(_one(LINK, lambda m, _: re.sub(r"^<a [^>]*>|</a>$", "", m[0]))),
    "wrong value named": _in_service(
        _one(r'data-pointer="(/services/)(\d+)/', lambda m, _: f'data-pointer="{m[1]}{int(m[2]) + 1}/', LINK)
    ),
    "stale number in a row": _in_service(
        _one(r'(<td class="n" data-sort="[^"]*">)([^<]*)', lambda m, r: m[1] + _digit(m[2], r), ROW)
    ),
    "stale value to sort by": _in_service(
        _one(r'<td class="n" data-sort="([^"]*)"', lambda m, r: m[0].replace(m[1], _digit(m[1], r)), ROW)
    ),
    "stale number in the answer": _in_service(
        _one(r">([^<]*\d[^<]*)(?= <span|<)", lambda m, r: ">" + _digit(m[1], r), LINK)
    ),
    "stale interval": _in_service(
        _one(r'(<span class="ci">)([^<]+)', lambda m, r: m[1] + _digit(m[2], r), ROW)
    ),
    "stale interval in the answer": _in_service(
        _one(
            r'(<span class="ci"[^>]*>)([^<]+)',
            lambda m, r: m[1] + _digit(m[2], r),
            r'<div class="facts">.*?</section>',
        )
    ),
    "stale capacity": _in_service(
        _one(
            r'(<span class="big">)([^<]+)',
            lambda m, r: m[1] + _digit(m[2], r),
            r'<article class="card".*?</p>',
        )
    ),
    "wrong status": _in_service(
        _one(
            r"(</span> )(\w+)(</span>)",
            lambda m, r: m[1] + r.choice(("ok", "floor", "guard", "unknown")) + m[3],
            ROW,
        )
    ),
    "wrong unit": _in_service(
        _one(
            r'((?:[1-9][\d.,]*|0\.\d*[1-9]\d*) <span class="unit">)(%|s|min|h)(?=</span>)',
            lambda m, r: m[1] + r.choice(("%", "s", "ms", "min", "h")),
            ROW,
        )
    ),
    "lost figure": _in_service(_one(r"<figure .*?</figure>", lambda m, _: "")),
    "figure of another name": _in_service(
        _one(r'data-figure="([^"]+)"', lambda m, _: f'data-figure="{m[1]}-2"')
    ),
    "stale policy.yaml": _in_service(
        _one(r"(: )(\d[\d.]+)", lambda m, r: m[1] + _digit(m[2], r), r'<pre class="yaml".*?</pre>')
    ),
    "wrong link in policy.yaml": _in_service(
        _one(
            r'href="#/[^"]+/derive/pd_ratio"',
            lambda m, _: m[0].replace("pd_ratio", "demand"),
            r'<pre class="yaml".*?</pre>',
        )
    ),
    "stale number in the table of services": _around(
        _one(
            r'(<td class="n" data-sort="[^"]*">)([^<]*)',
            lambda m, r: m[1] + _digit(m[2], r),
            r'<table id="overview".*?</table>',
        )
    ),
    "wrong row in the table of services": _around(
        _one(
            r'href="#s(\d+)"',
            lambda m, _: f'href="#s{int(m[1]) % 20 + 1}"',
            r'<table id="overview".*?</table>',
        )
    ),
    "wrong input bytes": _around(
        _one(
            r'<td class="n">([\d,]+)',
            lambda m, r: '<td class="n">' + _digit(m[1], r),
            r'<table id="inputs".*?</table>',
        )
    ),
    "wrong input hash": _around(
        _one(
            r'<td class="mono">(\w+)',
            lambda m, r: '<td class="mono">' + _digit(m[1], r),
            r'<table id="inputs".*?</table>',
        )
    ),
    "wrong query": _wrong_query,
    "wrong code": _behind(0, lambda kind, pieces, rng: rng.choice(sorted(pieces.made_by))),
    "wrong figure": _behind(2, lambda figure, pieces, rng: rng.choice(sorted(pieces.drawn))),
    "wrong number of rows": _behind(3, lambda rows, _, rng: _digit(str(rows), rng) if rows else None),
    "wrong time range": _behind(4, lambda window, _, rng: _digit(str(window), rng)),
    "lost metric": _behind(5, lambda metrics, _, rng: _dropped(metrics, rng)),
    "lost source": _behind(6, lambda on, _, rng: _dropped(on, rng)),
    "nothing behind": _lost_behind,
}
"""Kinds of defects: what a mistake in the code, or a hand on the file, does to a page."""
