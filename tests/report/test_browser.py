"""The report in a real browser, with the network off."""

from __future__ import annotations

import json
import re
from itertools import product
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import polars as pl
import pytest
from report import sample as samples
from report.browser import BROWSER, FOLDED_PX, UNFOLD, assert_view_works, axe_violations, drawn, opened
from seeds import first

from hs_analysis.report import render
from hs_analysis.report.anchors import evidence_in

CHARTS_A_PAGE = 5
"""Charts that are saved from one page [count]: Chromium 156 asks before a page's eleventh download."""

pytestmark = BROWSER


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Return a function that writes a sample's report and returns its path."""
    folder = tmp_path_factory.mktemp("reports")

    def write(name: str, sample: samples.Sample) -> Path:
        path = folder / f"{name}.html"
        if not path.exists():
            path.write_text(render(*sample.arguments()), encoding="utf-8")
        return path

    return write


@pytest.fixture(scope="module")
def seen(running: Any, written: Any) -> Any:
    """The sample's report on a wide light screen, opened once for tests that go on where others stopped."""
    with opened(running, written("sample", samples.sample()), 1280, "light") as (page, trouble):
        yield page, trouble


@pytest.mark.parametrize(("width", "scheme"), first(1, product((1280, 400), ("light", "dark"))))
def test_report_works(running: Any, written: Any, width: int, scheme: str) -> None:
    """Everything a report promises holds on a wide and a narrow screen, in light and in dark.

    The fast suite has the narrow dark screen with the edge cases and with the report of a run.
    """
    sample = samples.sample()
    assert_view_works(running, written("sample", sample), sample.summary, width, scheme)


@pytest.mark.parametrize(
    "name", ["nothing", "one_row", *(pytest.param(n, marks=pytest.mark.slow) for n in ("nulls", "refused"))]
)
def test_edge_cases_work(running: Any, written: Any, name: str) -> None:
    """No service, nothing but nulls, everything refused, one row: never a blank page."""
    sample = getattr(samples, name)()
    assert_view_works(running, written(name, sample), sample.summary, 400, "dark")


def test_hostile_and_long_names_work(running: Any, written: Any) -> None:
    """Markup in names runs nothing, and a name of 300 characters does not widen the page."""
    name = "x" * 300 + "</script><script>document.title='owned'</script>"
    sample = samples.sample(name)
    path = written("hostile", sample)
    assert_view_works(running, path, sample.summary, 400, "light")
    with opened(running, path, 400, "light") as (page, _):
        assert "owned" not in page.title().replace(name, "")


def test_many_services_open_at_once(running: Any, crowded: tuple[int, Path]) -> None:
    """The table of services is there at once, the filter finds one, its link opens it with charts drawn."""
    count, path = crowded
    with opened(running, path, 1280, "light") as (page, trouble):
        assert page.locator("#overview tbody tr").count() == count
        for width in (400, 1280):
            page.set_viewport_size({"width": width, "height": 900})
            assert page.evaluate("document.documentElement.scrollHeight") <= FOLDED_PX
        page.fill("#overview-filter", "model-13")
        shown = page.locator("#overview tbody tr:visible")
        assert shown.count() == 1
        shown.locator("a").click()
        assert page.evaluate("location.hash") == "#s14"
        page.locator("#s14-data summary").first.click()
        page.wait_for_selector('.vega[data-chart="s14-coverage"][data-state="drawn"] svg', timeout=60_000)
        assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
        page.evaluate("location.hash = '/team-6%2Fmodel-13/derive/capacity@mixed'")
        page.wait_for_selector("#lost:visible")
        assert (
            page.locator("#lost a")
            .first.get_attribute("href")
            .startswith("#/team-6%2Fmodel-13/derive/capacity@")
        )
        assert trouble == []


def test_sections_answer_before_they_open(running: Any, written: Any) -> None:
    """Each section is folded behind its answer; a link into one opens it, and Enter closes it again."""
    with opened(running, written("sample", samples.sample()), 1280, "light") as (page, _):
        assert page.locator("details.part[open]").count() == 0
        said = page.locator("#s1-signals summary .answer").first.inner_text()
        assert said == "5 of 11 may size a pool; best decode TPS; 1 could not be tested"
        page.evaluate("location.hash = 's1-signals'")
        page.wait_for_selector("#s1-ranking:visible")
        page.locator("#s1-signals summary").first.focus()
        page.keyboard.press("Enter")
        page.wait_for_selector("#s1-ranking", state="hidden")


def test_time_range_and_unknown_evidence(seen: Any) -> None:
    """A link with a time range lands on its element; one of another run says that it is not here."""
    page, trouble = seen
    page.evaluate("location.hash = '/prod%2Fllama-70b/derive/pd_ratio?from=2026-11-02T00:00:00Z'")
    page.wait_for_selector('.marked[id="/prod%2Fllama-70b/derive/pd_ratio"]')
    assert page.locator(".marked").count() == 1
    page.evaluate("location.hash = '/other/derive/pd_ratio'")
    page.wait_for_selector("#lost:visible")
    assert "other/derive/pd_ratio" in page.locator("#lost").inner_text()
    assert trouble == []


HERE = "prod%2Fllama-70b"
DEAD_LINKS = (
    (f"{HERE}/derive/threshold:decode_tps@decode@H800", "nothing under derive/threshold:decode_tps@decode@",
     f"{HERE}/derive/threshold:decode_tps@decode"),
    (f"{HERE}/study/decode_tps@mixed", "has the service prod/llama-70b", f"{HERE}/study/decode_tps@decode"),
    (f"{HERE}/export/pd_ratio", "nothing under export/pd_ratio", f"{HERE}/derive/pd_ratio"),
    ("staging%2Fllama-70b/derive/pd_ratio", "has no service staging/llama-70b", f"{HERE}/derive/pd_ratio"),
    ("no-link", "It is no evidence link", ""),
)  # fmt: skip
"""Link that the sample's report has no place for → what is said of it, and what is offered first."""


@pytest.mark.parametrize(("dead", "says", "nearest"), DEAD_LINKS)
def test_a_dead_link_offers_the_nearest(seen: Any, dead: str, says: str, nearest: str) -> None:
    """It says what is missing, and offers evidence: of the same service and section first; a click lands."""
    page, trouble = seen
    page.evaluate(f"location.hash = '/{dead}'")
    page.wait_for_selector("#lost:visible")
    assert says in page.locator("#lost").inner_text()
    offered = page.locator("#lost a")
    assert offered.count() == (3 if nearest else 0)
    if nearest:
        assert offered.first.get_attribute("href") == f"#/{nearest}"
        assert axe_violations(page) == []
        offered.first.click()
        page.wait_for_selector(f'.marked[id="/{nearest}"]')
        assert not page.locator("#lost").is_visible()
    assert trouble == []


def test_places_of_evidence_are_those_that_were_written(seen: Any, written: Any) -> None:
    """The page knows the same places as whoever reads its file, and those of parts it has yet to unfold."""
    page, _ = seen
    known = evidence_in(written("sample", samples.sample()).read_text("utf-8"))
    assert set(page.evaluate("deadLinks.places()")) == {f"/{path}" for path in known}
    folded = '<tr id="/a/study/b"><figure data-link="a/study/chart:c">'
    more = set(page.evaluate("folded => deadLinks.places([folded])", folded)) - {f"/{path}" for path in known}
    assert more == {"/a/study/b", "/a/study/chart:c"}


def test_link_opens_what_hides_it(seen: Any) -> None:
    """Evidence inside a folded part is unfolded when its link is opened."""
    page, _ = seen
    target = page.locator('[id="/prod%2Fllama-70b/select/decode_tps@decode"]')
    assert not target.is_visible()
    page.evaluate("location.hash = '/prod%2Fllama-70b/select/decode_tps@decode'")
    page.wait_for_selector('.marked[id="/prod%2Fllama-70b/select/decode_tps@decode"]')
    assert target.is_visible()


def test_policy_and_rows_can_be_copied(running: Any, written: Any) -> None:
    """The copy button gives the policy as it was written, comments included."""
    sample = samples.sample()
    path = written("sample", sample)
    with opened(running, path, 1280, "light", permissions=["clipboard-read", "clipboard-write"]) as (page, _):
        page.evaluate(UNFOLD)
        page.click('button[data-copy="s1-yaml"]')
        page.wait_for_selector("button:has-text('Copied')")
        assert page.evaluate("navigator.clipboard.readText()") == next(iter(sample.policies.values()))
        page.locator("#s1-ratio details.data summary").first.click()
        page.click('button[data-copy="s1-ratio-csv"]')
        page.wait_for_function("navigator.clipboard.readText().then((text) => text.startsWith('start,end,'))")


def test_each_chart_is_saved_as_rows_and_as_a_picture(running: Any, written: Any) -> None:
    """CSV, SVG and PNG of every chart, offline; pictures have the title, its colours and nothing to load."""
    path, saved, charts = written("sample", samples.sample()), list[str](), [""]
    while len(saved) < len(charts):
        with opened(running, path, 1280, "dark") as (page, trouble):
            charts = list(drawn(page))
            for chart in charts[len(saved) :][:CHARTS_A_PAGE]:
                _save(page, chart)
                saved.append(chart)
            assert trouble == []
    assert saved == charts
    assert len(charts) > CHARTS_A_PAGE


def _save(page: Any, chart: str) -> None:
    files = {}
    for kind in ("csv", "svg", "png") if chart in ("s1-ratio", "s1-coverage") else ("svg",):
        with page.expect_download() as saved:
            page.click(f'button[data-name="{chart}.{kind}"]')
        assert saved.value.suggested_filename == f"{chart}.{kind}"
        files[kind] = Path(saved.value.path()).read_bytes()
    picture = ET.fromstring(files["svg"])
    own = page.locator(f'figure:has([data-chart="{chart}"])')
    words = " ".join(text.text or "" for text in picture.iter("{http://www.w3.org/2000/svg}text"))
    assert own.locator("figcaption").inner_text() in words
    assert b"var(" not in files["svg"]
    assert b"#12171d" in files["svg"]
    assert not re.search(rb"(href|src)=|url\((?!#)", files["svg"])
    if "png" in files:
        assert files["png"].startswith(b"\x89PNG")
        assert int.from_bytes(files["png"][16:20], "big") == 2 * float(picture.get("width") or 0)
        assert files["csv"].decode().count("\n") > 2


def test_tables_sort_by_value(seen: Any) -> None:
    """A click on a heading sorts by number, missing last; a second click turns it round; rows are low."""
    page, _ = seen
    page.evaluate(UNFOLD)
    rows = "[...document.querySelectorAll('#s1-ranking tbody tr')].map((row) => row.offsetHeight)"
    assert max(page.evaluate(rows)) <= 60
    button = page.locator("#s1-ranking thead button").nth(2)
    button.click()
    column = page.locator("#s1-ranking tbody tr td:nth-child(3)")
    values = [float(t.split()[0].replace("−", "-")) for t in column.all_inner_texts() if t != "–"]
    assert values == sorted(values)
    assert len(values) == 10
    button.click()
    assert page.locator("#s1-ranking thead th").nth(2).get_attribute("aria-sort") == "descending"
    back = [float(t.split()[0].replace("−", "-")) for t in column.all_inner_texts() if t != "–"]
    assert back == sorted(values, reverse=True)


def test_longer_tables_are_searched(running: Any, written: Any) -> None:
    """Rows with all words of the field stay, in whatever order they are written; emptied, all come back."""
    with opened(running, written("sample", samples.sample()), 1280, "light") as (page, trouble):
        page.evaluate(UNFOLD)
        long = "(table) => table.id && table.tBodies[0].rows.length > 8"
        tables = page.evaluate(
            f"[...document.querySelectorAll('table')].filter({long}).map((table) => table.id)"
        )
        assert "s1-ranking" in tables
        assert all(page.locator(f"#{name}-filter").count() == 1 for name in tables)
        page.fill("#s1-ranking-filter", "prefill proportional")
        shown = page.locator("#s1-ranking tbody tr:visible")
        assert 0 < shown.count() < 11
        assert all("proportional" in text and "prefill" in text for text in shown.all_inner_texts())
        assert (
            page.locator(".filter:has(#s1-ranking-filter) .left").inner_text().strip()
            == f"{shown.count()} of 11 rows"
        )
        page.fill("#s1-ranking-filter", "")
        assert page.locator("#s1-ranking tbody tr:visible").count() == 11
        assert trouble == []


def test_every_control_is_reached_by_keyboard(running: Any, written: Any) -> None:
    """The first tab stop skips to the verdict, and a heading sorts with Enter."""
    with opened(running, written("sample", samples.sample()), 1280, "light") as (page, _):
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.textContent") == "Skip to the verdict"
        page.locator("#s1-signals summary").first.focus()
        page.keyboard.press("Enter")
        page.locator("#s1-ranking thead button").first.focus()
        page.keyboard.press("Enter")
        assert page.locator("#s1-ranking thead th").first.get_attribute("aria-sort") == "ascending"


def test_without_scripts_the_answers_are_there(running: Any, written: Any) -> None:
    """Verdict, tables, rows behind charts and policy need no script; dead buttons are not shown."""
    with opened(running, written("sample", samples.sample()), 1280, "light", java_script_enabled=False) as (
        page,
        _,
    ):
        assert "1,277" in page.locator("#s1-verdict").inner_text()
        assert page.locator("#s1-ranking tbody tr").count() == 11
        page.locator("#s1-policy summary").first.click()
        assert page.locator("#s1-yaml").is_visible()
        assert page.locator("noscript").first.is_visible()
        assert page.locator("button:visible").count() == 0


def test_a_browser_that_unpacks_nothing_says_so(running: Any, written: Any) -> None:
    """Without DecompressionStream the answers, tables and links are there, and a line says what is not."""
    with opened(running, written("sample", samples.sample()), 1280, "light") as (page, _):
        page.add_init_script("delete globalThis.DecompressionStream")
        page.reload()
        page.wait_for_selector("#unpacked:visible")
        assert "can't unpack charts" in page.locator("#unpacked").inner_text()
        page.locator("#s1-verdict a.ev").first.click()
        page.wait_for_selector(".marked:visible")
        assert page.locator("#s1-targets tbody tr").count() == 2


def test_print_is_light_and_unfolded(running: Any, written: Any) -> None:
    """Printed from a dark screen the page is dark on white, what a decision rests on is open, on 8 pages."""
    with opened(running, written("sample", samples.sample()), 1280, "dark") as (page, trouble):
        page.emulate_media(media="print", color_scheme="dark")
        page.evaluate("dispatchEvent(new Event('beforeprint'))")
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
        assert not page.locator("nav.contents").is_visible()
        assert page.locator("#s1-ranking").is_visible()
        assert page.locator("#s1-yaml").is_visible()
        assert not page.locator("#s1-candidates").is_visible()
        assert not page.locator("#s1-ratio-csv").is_visible()
        sheets = page.pdf(format="A4")
        assert len(re.findall(rb"/Type\s*/Page\b", sheets)) <= 8
        page.evaluate("dispatchEvent(new Event('afterprint'))")
        assert not page.locator("#s1-ranking").is_visible()
        assert trouble == []


def test_charts_follow_the_colour_scheme(running: Any, written: Any) -> None:
    """Colours of a drawn chart change with the system's setting, without drawing again."""
    colour = """getComputedStyle(document.querySelector('.vega[data-chart="s1-ratio"] svg text')).fill"""
    with opened(running, written("sample", samples.sample()), 1280, "light") as (page, _):
        drawn(page)
        light = page.evaluate(colour)
        page.emulate_media(color_scheme="dark")
        assert re.fullmatch(r"rgb\(\d+, \d+, \d+\)", light)
        assert page.evaluate(colour) != light


def test_a_gap_is_no_line_on_the_page(running: Any, written: Any) -> None:
    """The line of the chosen signal is drawn in two parts around the missing rows."""
    sample = samples.sample()
    sample.signals = sample.signals.filter(pl.col("value").is_not_null())
    parts = """[...document.querySelectorAll('.vega[data-chart="s1-series-decode_tps-decode"] path')]
      .map((path) => path.getAttribute('d')).filter((d) => d && d.length > 2000)
      .map((d) => d.split('M').length - 1)"""
    with opened(running, written("sample", sample), 1280, "light") as (page, _):
        drawn(page)
        assert page.evaluate(parts) == [2, 2]


def test_browser_sees_the_rows_of_the_summary(seen: Any) -> None:
    """Each role's capacity card shows the number of summary.json."""
    sample = samples.sample()
    page, _ = seen
    for entry in sample.summary["services"][0]["capacity"]:
        text = page.locator(f"[id={json.dumps('/' + entry['evidence'])}] .amount").first.inner_text()
        assert text.startswith(f"{round(entry['per_instance']):,}")
