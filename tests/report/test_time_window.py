"""The time window of a report's charts and the links that name it, in a real browser."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from report import sample as samples
from report.browser import BROWSER, READY, axe_violations, drawn, opened

from hs_analysis import evidence
from hs_analysis.evidence import STAGES
from hs_analysis.report import chart_links, html, packing, render

pytestmark = BROWSER

NAME = "prod%2Fllama-70b"
SERIES = f"/{NAME}/study/chart:series-decode_tps-decode"
RATIO = f"/{NAME}/derive/pd_ratio"
WINDOW = "from=2026-11-06T12:00:00Z&to=2026-11-06T18:00:00Z"
"""Six hours that all charts over time have."""

AXES = """() => Object.fromEntries([...document.querySelectorAll('[data-link] .vega')].map((el) => {
  const labels = [...el.querySelectorAll('.role-axis-label text')].map((text) => text.textContent);
  return [el.dataset.chart, [el.dataset.window, labels.sort().join(' ')]];
}))"""
"""Per chart over time its window and the words on its axes."""

STATE = """() => ({
  hash: location.hash,
  open: [...document.querySelectorAll('details[open]')].map((el) =>
    (el.parentElement.closest('[id]')?.id || '') + ' ' + el.querySelector('summary').textContent),
  sheet: document.getElementById('evidence-h')?.textContent ?? '',
  focus: document.activeElement.id || document.activeElement.dataset.link || document.activeElement.tagName,
  marked: [...document.querySelectorAll('.marked')].map((el) => el.id || el.dataset.link),
  window: [...document.querySelectorAll('#window input')].map((field) => field.value),
  bar: !document.getElementById('window').hidden,
  lost: document.getElementById('lost').textContent,
  seen: [...document.querySelectorAll('.marked')].map((el) => el.getBoundingClientRect())
    .every((box) => box.bottom > 0 && box.top < innerHeight),
})"""
"""What a link decides: address, open parts, focus, marks, window, and whether it is on the screen."""

EVERY = """() => [...new Set([...document.querySelectorAll('a[href^="#"]:not(.skip)')].map((a) => a.hash))]"""

REACH = """(href) => {
  let link = [...document.querySelectorAll('a')].find((a) => a.getAttribute('href') === href);
  link ||= document.getElementById('content').appendChild(document.createElement('a'));
  Object.assign(link, { href, textContent: link.textContent || href });
  for (let up = link; up; up = up.parentElement) if (up.tagName === 'DETAILS') up.open = true;
  document.querySelectorAll('details').forEach((el, place) => { if (place % 5 === 3) el.open = true; });
  link.classList.add('tried');
}"""
"""Open by hand the parts that hide a link, as a reader does who clicks it, and some others."""


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the sample's report, with two events of the user."""
    sample = samples.sample()
    sample.summary["events"] = [
        {"t": "2026-11-06T15:00:00Z", "kind": "deploy", "text": "v2 of the model"},
        {"t": "2026-11-03T15:00:00Z", "kind": "incident", "text": None},
    ]
    written = tmp_path_factory.mktemp("window") / "report.html"
    written.write_text(render(*sample.arguments()), encoding="utf-8")
    return written


@contextmanager
def landed(running: Any, path: Path, fragment: str = "") -> Iterator[Any]:
    """Open a report at an address, on a wide light screen; nothing may go wrong."""
    with opened(running, path, 1280, "light") as (page, trouble):
        if fragment:
            visit(page, path, fragment)
        yield page
        assert trouble == []


def visit(page: Any, path: Path, fragment: str) -> None:
    """Open a report at an address as a reader does who has not seen it yet."""
    page.goto("about:blank")
    page.goto(path.resolve().as_uri() + fragment)
    page.wait_for_function(READY)


def settle(page: Any) -> dict[str, Any]:
    """Return the state of a page once what was asked for has been drawn and scrolled to.

    A busy browser follows a link some frames after the click: what is marked is waited for, for a while.
    """
    for _ in range(MOST_LOOKS):
        page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
        state = dict(page.evaluate(STATE))
        if state["seen"] or not state["marked"]:
            break
    return state


MOST_LOOKS = 100
"""Pairs of frames until a page that shows no mark of its own is taken as it is [count]."""


def drag(page: Any, chart: str, start: float, end: float, within: str = "") -> None:
    """Choose a window on a chart: from one part of its width to another."""
    element = page.locator(f'{within} .vega[data-chart="{chart}"]').first
    element.scroll_into_view_if_needed()
    box = element.bounding_box()
    y = box["y"] + 90
    page.mouse.move(box["x"] + box["width"] * start, y)
    page.mouse.down()
    for part in (0.5, 1.0):
        page.mouse.move(box["x"] + box["width"] * (start + (end - start) * part), y)
    page.mouse.up()


def test_dragging_on_one_chart_moves_all(running: Any, path: Path) -> None:
    """A window chosen on one chart over time is that of all; a chart that has none of it says so."""
    with landed(running, path) as page:
        drawn(page)
        before = page.evaluate(AXES)
        assert len(before) == 5
        assert {window for window, _ in before.values()} == {""}
        drag(page, "s1-steps-decode", 0.3, 0.6)
        after = page.evaluate(AXES)
        (window,) = {window for window, _ in after.values()}
        assert all(after[name][1] != axis for name, (_, axis) in before.items())
        first, last = window.split("/")
        assert page.evaluate("location.hash") == f"#/{NAME}/replay/chart:steps-decode?from={first}&to={last}"
        assert f"{first[:16].replace('T', ' ')}" in page.locator("#window .said").inner_text()
        drag(
            page, "s1-series-decode_tps-decode", 0.3, 0.6
        )  # within the window: what is shown is halved again
        narrow = page.evaluate(AXES)["s1-ratio"][0].split("/")
        assert first < narrow[0] < narrow[1] < last
        page.click("#window [data-whole]")
        assert page.evaluate(AXES) == before
        assert not page.locator("#window").is_visible()
        drag(page, "s1-series-decode_tps-decode", 0.1, 0.2)
        outside = page.evaluate(AXES)
        assert outside["s1-steps-decode"] == ["outside", before["s1-steps-decode"][1]]
        assert page.locator("figure:has([data-chart='s1-steps-decode']) .outside").is_visible()
        assert not page.locator("figure:has([data-chart='s1-ratio']) .outside").is_visible()


def test_going_back_undoes_a_window(running: Any, path: Path) -> None:
    """Each window is a step of the browser's history, and the page before it comes back whole."""
    with landed(running, path) as page:
        drawn(page)
        drag(page, "s1-ratio", 0.3, 0.6)
        wide = page.evaluate(AXES)
        drag(page, "s1-ratio", 0.3, 0.6)
        assert page.evaluate(AXES) != wide
        page.go_back()
        shown = "(wanted) => document.querySelector('[data-chart=s1-ratio]').dataset.window === wanted"
        page.wait_for_function(shown, arg=wide["s1-ratio"][0])
        assert page.evaluate(AXES) == wide
        assert page.locator("#s1-ratio details.part").first.get_attribute("open") is not None


def test_a_window_is_chosen_by_keyboard(running: Any, path: Path) -> None:
    """The button of a chart leads to two fields; moving, all of it and leaving need no mouse."""
    with landed(running, path) as page:
        drawn(page)
        before = page.evaluate(AXES)
        page.locator("#s1-ratio button[data-window]").focus()
        page.keyboard.press("Enter")
        assert page.evaluate("document.activeElement.name") == "from"
        assert axe_violations(page) == []
        page.fill("#window [name=from]", "2026-11-06T12:00:00")
        page.fill("#window [name=to]", "2026-11-06T18:00:00")
        page.keyboard.press("Enter")
        assert page.evaluate("location.hash") == f"#/{NAME}/derive/chart:ratio?{WINDOW}"
        assert {window for window, _ in page.evaluate(AXES).values()} == {
            "2026-11-06T12:00:00Z/2026-11-06T18:00:00Z"
        }
        page.focus("#window [data-move='0.5']")
        page.keyboard.press("Space")
        assert "from=2026-11-06T15:00:00Z&to=2026-11-06T21:00:00Z" in page.evaluate("location.hash")
        page.fill("#window [name=from]", "2026-11-09T12:00:00")
        page.keyboard.press("Enter")  # after its end: refused, nothing moves
        assert "from=2026-11-06T15:00:00Z" in page.evaluate("location.hash")
        page.keyboard.press("Escape")
        assert page.evaluate(AXES) == before
        assert page.evaluate("document.activeElement.dataset.window") == f"{NAME}/derive/chart:ratio"


def test_events_are_marked_on_every_chart_over_time(running: Any, path: Path) -> None:
    """An event of the user is a rule on each line chart it falls into, and a row of the coverage chart."""
    rules = """() => Object.fromEntries([...document.querySelectorAll('[data-link] .vega')].map((el) => [
      el.dataset.chart,
      el.querySelectorAll('.mark-rule line:is([stroke="var(--muted)"], [stroke="var(--c-bad)"])').length]))"""
    with landed(running, path) as page:
        drawn(page)
        marked = page.evaluate(rules)
        assert marked["s1-series-decode_tps-decode"] == 2
        assert marked["s1-ratio"] == 2
        assert marked["s1-steps-decode"] == 1
        assert marked["s1-coverage"] >= 2


def differing(
    page: Any, path: Path, fragments: dict[str, str]
) -> list[tuple[str, dict[str, Any], dict[str, Any]]]:
    """Click each link on a page that stands elsewhere, open it on a fresh one; return what differs."""
    found = []
    for fragment, start in fragments.items():
        visit(page, path, start)
        page.evaluate(REACH, fragment)
        page.locator("a.tried").click()
        clicked = settle(page)
        visit(page, path, clicked["hash"])
        own = settle(page)
        assert clicked["seen"] or not clicked["marked"]
        found += [(fragment, clicked, own)] if own != clicked else []
    return found


LINKS = {
    f"#{RATIO}?{WINDOW}": "",
    f"#/{NAME}/study/decode_tps@decode": f"#{SERIES}?{WINDOW}",
    f"#/{NAME}/select/decode_tps@decode": "#method",
    f"#{SERIES}?{WINDOW}": f"#{RATIO}",
    f"#/{NAME}/policy/policy?from=2026-11-06T12:00:00Z": "",
    "#/other/derive/pd_ratio": "",
}
"""Links, and where the page stands when they are clicked."""


def test_opening_a_link_gives_what_clicking_it_gives(running: Any, path: Path) -> None:
    """Address, window, open parts, focus, marks and place are the same, whatever was open before."""
    with landed(running, path) as page:
        assert differing(page, path, LINKS) == []


def test_a_link_followed_inside_a_window_names_it(running: Any, path: Path) -> None:
    """After choosing a window, every click keeps it, and the address opened elsewhere shows the very same."""
    with landed(running, path, f"#{SERIES}?{WINDOW}") as page:
        states = []
        for link in page.locator(".verdict a.ev").all()[:3]:
            link.click()
            states.append(settle(page))
            assert states[-1]["hash"].endswith(f"?{WINDOW}")
        axes = {"s1-ratio": drawn(page) and page.evaluate(AXES)["s1-ratio"]}
    for state in states:
        with landed(running, path, state["hash"]) as page:
            assert settle(page) == state
    with landed(running, path, states[-1]["hash"]) as page:
        drawn(page)
        assert page.evaluate(AXES)["s1-ratio"] == axes["s1-ratio"]


def test_the_chart_behind_a_number_has_the_window_of_the_number(running: Any, path: Path) -> None:
    """A window chosen on it stays with the number, and the address gives number, sheet and window again."""
    with landed(running, path, f"#{RATIO}") as page:
        page.wait_for_selector(".evidence .vega[data-state='drawn'] svg", timeout=60_000)
        drag(page, "s1-ratio", 0.3, 0.6, ".evidence")
        chosen = settle(page)
        assert chosen["hash"].startswith(f"#{RATIO}?from=")
        assert chosen["sheet"].startswith("Behind this number: ")
        shown = page.evaluate("document.querySelector('.evidence .vega').dataset.window")
        assert shown.split("/")[0] in chosen["hash"]
        visit(page, path, chosen["hash"])
        assert settle(page) == chosen
        drawn(page)
        assert page.evaluate("document.querySelector('.evidence .vega').dataset.window") == shown
        drag(page, "s1-ratio", 0.3, 0.6, "figure:not(.evidence figure)")
        assert page.evaluate("location.hash").startswith(f"#/{NAME}/derive/chart:ratio?from=")
        assert page.locator(".evidence").count() == 0


@pytest.mark.parametrize(
    "links", [list(LINKS)[:2], pytest.param(list(LINKS)[2:], marks=pytest.mark.slow)], ids=["two", "others"]
)
def test_links_into_packed_parts_open_as_they_click(
    running: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: list[str]
) -> None:
    """Of a page whose parts are all packed, links of numbers and charts bring their parts into it."""
    monkeypatch.setattr(html, "lightened", partial(packing.lightened, limit=0))
    path = tmp_path / "packed.html"
    path.write_text(render(*samples.sample().arguments()), encoding="utf-8")
    assert "packed-parts" in path.read_text("utf-8")
    with landed(running, path) as page:
        assert differing(page, path, {link: LINKS[link] for link in links}) == []
        visit(page, path, f"#{RATIO}")
        before = settle(page)
        page.evaluate("location.hash = '#s1-load'")
        page.wait_for_function("document.querySelector('#s1-load .part').open")
        page.go_back()
        page.wait_for_function("() => !document.querySelector('#s1-load .part').open")
        assert settle(page) == before


@pytest.mark.slow
def test_opening_every_link_gives_what_clicking_it_gives(running: Any, path: Path) -> None:
    """The same for each different link of the page, every other one clicked inside a window."""
    with landed(running, path) as page:
        hrefs = page.evaluate(EVERY)
        assert len(hrefs) > 40
        assert (
            differing(page, path, {h: f"#{SERIES}?{WINDOW}" if n % 2 else "" for n, h in enumerate(hrefs)})
            == []
        )


def test_a_range_that_can_not_be_read_is_said(running: Any, path: Path) -> None:
    """The link lands where it can, and the page says what is wrong with its range."""
    with landed(running, path, f"#{RATIO}?from=yesterday") as page:
        assert page.locator(".marked").get_attribute("id") == RATIO
        assert "from=yesterday" in page.locator("#lost").inner_text()
        assert not page.locator("#window").is_visible()


MOMENTS = st.none() | st.integers(631_152_000_000, 4_102_444_800_000).map(
    lambda ms: datetime.fromtimestamp(ms // 1000, UTC).replace(microsecond=ms % 1000 * 1000)
)
SEGMENTS = st.text(st.characters(blacklist_categories=["Cs"]), min_size=1, max_size=20)


def test_the_page_reads_and_prints_the_links_of_python(running: Any, path: Path) -> None:
    """The page's half of the grammar gives each link of Python's half back as it was."""
    made: list[str] = []

    @settings(max_examples=500, suppress_health_check=list(HealthCheck))
    @given(SEGMENTS, st.sampled_from(STAGES), SEGMENTS, MOMENTS, MOMENTS)
    def collect(service: str, stage: str, what: str, start: datetime | None, end: datetime | None) -> None:
        if start and end and end < start:
            start, end = end, start
        made.append(evidence.path(service, stage, what, start, end))

    collect()
    with landed(running, path) as page:
        again = page.evaluate(
            """(made) => made.map((text) => links.parse('/' + text))
              .map((link) => [link.wrong, links.print(link.target, link.from, link.to)])""",
            made,
        )
    assert [
        text for text, (wrong, printed) in zip(made, again, strict=True) if wrong or printed != f"#/{text}"
    ] == []
    assert len(set(made)) > 300


def test_charts_over_time_have_links_of_the_grammar() -> None:
    """Each chart over time has one link of its own that reads back; others have none."""
    page = render(*samples.sample().arguments())
    found = [
        evidence.parse(text) for text in sorted(set(page.split('figure class="chart"')[1:]) and _links(page))
    ]
    assert len(found) == 5
    assert all(link.what.startswith(chart_links.PREFIX) for link in found)


def _links(page: str) -> set[str]:
    return {part.split('"')[0] for part in page.split('" data-link="')[1:]}
