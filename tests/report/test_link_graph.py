"""Numbers and links of a page are those of the run's answers, and a page on which they are not is caught."""

from __future__ import annotations

import functools
from collections import Counter
from pathlib import Path
from random import Random
from typing import Any

import pytest
from report import sample as samples
from report.browser import BROWSER, UNFOLD, opened
from report.link_defects import DEFECTS, seeded
from report.link_graph import Pieces, Wanted, differences, pieces_of
from report.unpacked import behind

from hs_analysis.pipeline.provenance import made_by
from hs_analysis.report import html, packing, render

FEW, EACH = 3, 6
"""Services of the page of the fast suite; defects of each kind on the page of sixty."""


def both_of(count: int) -> tuple[Pieces, Wanted]:
    """Return the page of many services in pieces, and what it must say."""
    sample = samples.many(count)
    page = render(*sample.arguments(), made_by())
    return pieces_of(page), Wanted(sample.summary, sample.policies, sample.details, made_by())


def missed_of(pieces: Pieces, wanted: Wanted, each: int) -> tuple[Counter[str], int]:
    """Return which kinds of seeded defects are not caught how often, and how many defects were seeded."""
    missed = Counter[str]()
    for kind in DEFECTS:
        for seed in range(each):
            bad = seeded(pieces, kind, Random(f"{kind} {seed}"))
            missed[kind] += not differences(bad, wanted)
    return +missed, each * len(DEFECTS)


def test_the_page_has_the_numbers_and_links_of_the_answers() -> None:
    """Read without summary.json, the page holds the very numbers and links, and every seeded defect shows."""
    pieces, wanted = both_of(FEW)
    assert differences(pieces, wanted) == []
    assert sum(len(numbers) for numbers in wanted.numbers) > 25 * FEW
    missed, seeds = missed_of(pieces, wanted, 1)
    assert seeds > 35
    assert not missed


@pytest.mark.slow
def test_sixty_services_have_theirs_and_defects_are_caught() -> None:
    """On a page of sixty services nothing differs, and of at least 200 seeded defects 99 % are caught."""
    pieces, wanted = both_of(60)
    assert differences(pieces, wanted) == []
    missed, seeds = missed_of(pieces, wanted, EACH)
    assert seeds >= 200
    assert missed.total() <= 0.01 * seeds, missed


RENDERED = """() => {
  document.querySelectorAll('.packed-parts').forEach((el) => el.remove());
  return document.documentElement.outerHTML;
}"""


@BROWSER
@pytest.mark.parametrize("count", [FEW, pytest.param(60, marks=pytest.mark.slow)])
def test_the_page_that_a_browser_made_has_them(
    running: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    """Crawled as elements of the browser, every part unpacked by it, the page differs in nothing."""
    monkeypatch.setattr(html, "lightened", functools.partial(packing.lightened, limit=0))
    sample = samples.many(count)
    path = tmp_path / "report.html"
    path.write_text(render(*sample.arguments(), made_by()), encoding="utf-8")
    with opened(running, path, 1280, "light") as (page, trouble):
        page.evaluate(UNFOLD)
        page.wait_for_function("!document.querySelector('.packed')")
        rendered = page.evaluate(RENDERED)
        assert trouble == []
    wanted = Wanted(sample.summary, sample.policies, sample.details, made_by())
    assert differences(pieces_of(rendered), wanted) == []


PANELS = """async () => {
  const found = {};
  for (const path of [...document.querySelectorAll('[id^="/"]')].map((el) => el.id)) {
    const landed = new Promise((done) => addEventListener('hashchange', done, { once: true }));
    location.hash = path;
    await landed;
    const panel = document.querySelector('.evidence'), all = (what) => [...panel.querySelectorAll(what)];
    const text = (part) => panel.querySelector(`[data-part="${part}"]`)?.textContent ?? '';
    const links = all('[data-part="on"] a').map((a) => a.hash.slice(2));
    const codes = all('[data-part="made_by"] code').map((el) => el.textContent);
    found[path.slice(1)] = { title: panel.querySelector('#evidence-h').textContent, codes, links,
      rows: text('rows'), window: text('window'), metrics: text('metrics'), inputs: text('inputs'),
      figure: panel.querySelector('figure')?.dataset.figure ?? '' };
  }
  return found;
}"""


@BROWSER
def test_a_link_shows_chart_code_rows_and_input_bytes(running: Any, tmp_path: Path) -> None:
    """In one click every number stands beside its chart, what made it, its rows and its input files."""
    sample = samples.sample()
    page_text = render(*sample.arguments(), made_by())
    path = tmp_path / "report.html"
    path.write_text(page_text, encoding="utf-8")
    known = behind(page_text)
    with opened(running, path, 1280, "light") as (page, trouble):
        page.evaluate(UNFOLD)
        shown: dict[str, Any] = page.evaluate(PANELS)
        assert set(shown) == {one[0] for one in known["numbers"]}
        for number, kind, title, figure, rows, window, metrics, on in known["numbers"]:
            panel = shown[number]
            assert panel["title"] == f"Behind this number: {title}"
            assert panel["codes"] == known["made_by"][kind] != []
            assert (panel["figure"], panel["rows"], panel["links"]) == (figure, rows, on)
            assert panel["window"].startswith(window)
            assert panel["metrics"] == ", ".join(metrics)
            assert panel["inputs"] == f"dumps/query_range.json.gz, 48,210,331 bytes, SHA-256 {'9f' * 32}"
        assert all(figure for *_, figure, _rows, _window, _metrics, _on in known["numbers"])
        page.evaluate("location.hash = ''")
        page.locator("#s1-verdict a.ev").first.click()
        page.wait_for_selector(".evidence .vega[data-state='drawn'] svg", timeout=60_000)
        box = page.locator(".evidence").bounding_box()
        assert box["y"] + box["height"] <= 901
        page.keyboard.press("Escape")
        assert page.locator(".evidence").count() == 0
        assert trouble == []
