"""What a report must do in a real browser, with the network off: one function to check any report file."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from outside import needs

BROWSER = pytest.mark.outside("chromium", "playwright", "axe_playwright_python")
"""What a test of this module carries."""

FOLDED_PX = 4_000
"""Height of a report before anything is opened, at most [px]."""

SHEETS = 8
"""A4 pages of the printed report of one service, at most."""

VIEWS = ((1280, "light"), (400, "dark"))
"""Widths [px] and colour schemes that every report is seen at; one that holds everything, at all four."""
NUMBER = re.compile(r"(−?[\d,]*\.?\d+(?:e[−-]?\d+)?)\s*(ms|s|min|h|days|%)?(?![\w/])")
SCALE = {"%": 0.01, "ms": 1e-3, "s": 1.0, "min": 60.0, "h": 3600.0, "days": 86_400.0}

UNIT = """(el) => {
  const unit = el.querySelector('.unit') || el.parentElement.querySelector('.unit');
  return unit ? unit.textContent.trim() : '';
}"""

READY = (
    "(!document.getElementById('packed-evidence') || document.documentElement.classList.contains('ready'))"
)
"""Whether a page has unpacked what it holds; an older one packs nothing."""

DRAWN = f"""() => {{
  const packed = document.querySelectorAll('.packed > details[open]');
  const all = [...document.querySelectorAll('figure.chart')].map((el) => el.querySelector('.vega'));
  return {READY} && !packed.length && all.every((el) => el && el.dataset.state)
    ? all.map((el) => [el.dataset.chart, el.dataset.state]) : null;
}}"""

BROKEN_LINKS = """() => [...document.querySelectorAll('a[href^="#"]')].flatMap((link) => {
  const id = link.getAttribute('href').slice(1);
  const target = document.getElementById(id);
  if (!target) return [id + ' is not on the page'];
  const shows = link.dataset.shows;
  if (shows !== undefined && !target.textContent.includes(shows)) return [id + ' does not show ' + shows];
  return [];
})"""


@contextmanager
def browser() -> Iterator[Any]:
    """Start Chromium."""
    path = needs("chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        running = driver.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-gpu"])
        try:
            yield running
        finally:
            running.close()


@contextmanager
def opened(running: Any, path: Path, width: int, scheme: str, **more: Any) -> Iterator[tuple[Any, list[str]]]:
    """Open a page with the network off; yield it with a list of console messages, errors and requests."""
    context = running.new_context(
        viewport={"width": width, "height": 900}, color_scheme=scheme, offline=True, **more
    )
    page, trouble = context.new_page(), list[str]()
    own = path.resolve().as_uri()

    def request(route: Any) -> None:
        if route.request.url.split("#")[0] == own or route.request.url.startswith("data:"):
            route.continue_()
        else:
            trouble.append(f"request: {route.request.url[:120]}")
            route.abort()

    page.route("**/*", request)
    page.on("console", lambda message: trouble.append(f"console: {message.text[:300]}"))
    page.on("pageerror", lambda e: trouble.append(f"error: {e}"))
    try:
        page.goto(own)
        if more.get("java_script_enabled", True):
            page.wait_for_function(READY)
        yield page, trouble
    finally:
        context.close()


ANSWER = ".verdict, section[id$='-figures']"
"""The verdict and, folded below it, its figures."""

UNFOLD = "document.querySelectorAll('details.part').forEach((el) => { el.open = true; })"


def drawn(page: Any, timeout_s: float = 120.0) -> dict[str, str]:
    """Open every folded section, wait until every chart was drawn or gave up; return its state by name."""
    page.evaluate(UNFOLD)
    handle = page.wait_for_function(DRAWN, timeout=timeout_s * 1000)
    return dict(handle.json_value())


def assert_view_works(
    running: Any, page_path: Path, summary: Mapping[str, Any], width: int, scheme: str
) -> None:
    """Hold a report to everything it promises, at one width and in one colour scheme.

    No console error, no request, no sideways scroll, every chart drawn, the verdict box equal to the summary,
    every evidence link on an element that shows its number, no axe violation.
    """
    place = f"{page_path.name} at {width} px, {scheme}"
    with opened(running, page_path, width, scheme) as (page, trouble):
        assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0, place
        assert page.evaluate("document.documentElement.scrollHeight") <= FOLDED_PX, place
        assert axe_violations(page) == [], f"{place}, folded"
        states = drawn(page)
        assert [name for name, state in states.items() if state != "drawn"] == [], place
        assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0, place
        assert_verdict(page, summary)
        assert page.evaluate(BROKEN_LINKS) == [], place
        assert_links_land(page)
        assert axe_violations(page) == [], place
        assert trouble == [], place


def sheets(running: Any, path: Path) -> int:
    """Return how many A4 pages a report has on paper."""
    with opened(running, path, 1280, "light") as (page, _):
        page.emulate_media(media="print")
        page.evaluate("dispatchEvent(new Event('beforeprint'))")
        return len(re.findall(rb"/Type\s*/Page\b", page.pdf(format="A4")))


def assert_verdict(page: Any, summary: Mapping[str, Any]) -> None:
    """Hold every number of the verdict boxes to summary.json, and the boxes to everything they must show."""
    services = summary.get("services") or []
    boxes = page.query_selector_all(".service")
    assert len(boxes) == len(services)
    for place, (box, service) in enumerate(zip(boxes, services, strict=True)):
        said = "".join(part.text_content() for part in box.query_selector_all(ANSWER))
        shown = {}
        for element in box.query_selector_all(f":is({ANSWER}) [data-pointer]"):
            pointer = element.get_attribute("data-pointer")
            shown[pointer] = element.text_content()
            _assert_equal(element, _resolve(summary, pointer), pointer)
        missing = [p for p in _must_show(service, f"/services/{place}") if p not in shown]
        assert missing == [], f"the verdict of {service.get('service')} leaves out {missing}"
        for refusal in service.get("refusals") or []:
            for key in ("what", "text", "collect"):
                assert _plain(refusal.get(key)) in _plain(said), refusal
        status = (service.get("pd_ratio") or {}).get("status")
        assert status is None or status in said


def _must_show(service: Mapping[str, Any], at: str) -> list[str]:
    """Return pointers of the numbers a verdict box may not leave out."""
    wanted = []
    ratio = service.get("pd_ratio") or {}
    if ratio.get("value") is not None:
        wanted.append(f"{at}/pd_ratio/value")
        wanted += [f"{at}/pd_ratio/ci"] if ratio.get("ci") else []
    best = service.get("recommended") or {}
    for n, signal in enumerate(service.get("signals") or []):
        if best and (signal["signal"], signal["role"]) == (best["signal"], best["role"]):
            wanted.append(f"{at}/signals/{n}/signal")
    chosen = next((row for row in service.get("selection") or [] if row.get("chosen")), None)
    policies = (service.get("replay") or {}).get("policies") or []
    for n, row in enumerate(policies):
        if chosen and row["policy"] == chosen["policy"]:
            keys = ("vs_recorded", "vs_static_peak", "slo_violation_ratio")
            wanted += [f"{at}/replay/policies/{n}/{key}" for key in keys if row.get(key) is not None]
    if chosen:
        roles = dict(zip(chosen["signal"].split("+"), (chosen.get("role") or "").split("+"), strict=False))
        for n, row in enumerate(service.get("thresholds") or []):
            if not row.get("gpu_type") and roles.get(row["signal"]) == row["role"]:
                wanted.append(f"{at}/thresholds/{n}/target_per_instance")
                wanted += [f"{at}/thresholds/{n}/capacity/value"] if row.get("capacity") else []
    return wanted


def _resolve(summary: Any, pointer: str) -> Any:
    for key in pointer.strip("/").split("/"):
        summary = summary[int(key)] if isinstance(summary, list) else summary[key]
    return summary


def _assert_equal(element: Any, value: Any, pointer: str) -> None:
    text = element.text_content()
    if isinstance(value, str):
        assert element.get_attribute("data-raw") == value, pointer
        return
    if value is None:
        assert text.strip().startswith("–"), (pointer, text)
        return
    if value and isinstance(value, list) and isinstance(value[0], list):
        pairs = [[int(p), int(d)] for p, d in re.findall(r"(\d+)P:(\d+)D", text)]
        assert pairs == value[: len(pairs)], pointer
        assert pairs, pointer
        return
    found = [(m.group(1), m.group(2)) for m in NUMBER.finditer(text)]
    wanted = value if isinstance(value, list) else [value]
    assert len(found) == len(wanted), (pointer, text)
    unit = element.evaluate(UNIT)
    negative = element.get_attribute("data-negative") is not None
    for (digits, own), number in zip(found, wanted, strict=True):
        scale = SCALE.get(own or unit, 1.0)
        last = 0.5 * 10.0 ** -len(digits.partition(".")[2]) * 1.001
        got = float(digits.replace(",", "").replace("−", "-")) * (-1 if negative else 1)
        wide = max(last, 0.005 * abs(number / scale))
        assert abs(got - number / scale) <= wide, (pointer, text, number)


def assert_links_land(page: Any) -> None:
    """Follow links of the first verdict box: each opens, marks and shows its evidence; back comes back."""
    start = page.evaluate("location.hash")
    for link in page.query_selector_all(".verdict a.ev")[:4]:
        href, shows = link.get_attribute("href"), link.get_attribute("data-shows")
        link.click()
        page.wait_for_function("document.querySelector('.marked') !== null")
        state = page.evaluate(
            """() => { const el = document.querySelector('.marked'); const box = el.getBoundingClientRect();
            return {id: el.id, text: el.textContent, top: box.top, bottom: box.bottom, high: innerHeight,
                    hash: location.hash}; }"""
        )
        assert f"#{state['id']}" == href == state["hash"]
        assert shows in state["text"]
        assert state["top"] < state["high"]
        assert state["bottom"] > 0
        page.go_back()
        page.wait_for_function("start => location.hash === start", arg=start)


def axe_violations(page: Any) -> list[str]:
    """Return axe's violations in words."""
    from axe_playwright_python.sync_playwright import Axe

    found = Axe().run(page).response["violations"]
    return [f"{v['id']}: {v['help']}: {json.dumps([n['target'] for n in v['nodes'][:3]])}" for v in found]


def _plain(text: Any) -> str:
    return " ".join(str(text or "").split())
