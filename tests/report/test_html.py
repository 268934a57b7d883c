"""The page as text: self-contained, escaped, the same every time, small."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from chart_library import made
from report import sample as samples
from report.unpacked import charts, shared, whole

from hs_analysis.report import chart_specs, chart_templates, render
from hs_analysis.report.packing import unpacked

HOSTILE = """</script><script>alert(1)</script><img src=x onerror=alert(2)>"'&{{ 7*7 }}</pre>"""
LOADS = {"src", "srcset", "data", "poster", "background", "action", "formaction", "manifest"}


class Page(HTMLParser):
    """Elements, ids, links, loaded addresses and raw texts of a page."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: Counter[str] = Counter()
        self.ids: list[str] = []
        self.links: list[str] = []
        self.loads: list[str] = []
        self.handlers: list[str] = []
        self.texts: dict[str, str] = {}
        self._open: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Collect what matters of an element."""
        given = {name: value or "" for name, value in attrs}
        self.tags[tag] += 1
        self.ids += [given["id"]] if "id" in given else []
        self.links += [given["href"]] if tag == "a" else []
        self.loads += [value for name, value in given.items() if name in LOADS]
        self.loads += [given["href"]] if tag == "link" else []
        self.handlers += [name for name in given if name.startswith("on")]
        self._open = [given.get("id", "")] if tag in ("script", "pre") else self._open

    def handle_endtag(self, tag: str) -> None:
        """Forget the raw text that ends."""
        if tag in ("script", "pre"):
            self._open = []

    def handle_data(self, data: str) -> None:
        """Collect raw text by the id of its element."""
        for name in self._open:
            self.texts[name] = self.texts.get(name, "") + data


@pytest.fixture(scope="module")
def html() -> str:
    """Return the page of the sample."""
    return render(*samples.sample().arguments())


@pytest.mark.slow
def test_page_is_byte_equal_in_another_process(html: str, root: Path) -> None:
    """Another process with other hash seeds writes the very same bytes."""
    code = "from report.sample import sample; from hs_analysis.report import render; import hashlib; " \
        "print(hashlib.sha256(render(*sample().arguments()).encode()).hexdigest())"  # fmt: skip
    environment = os.environ | {"PYTHONHASHSEED": "77", "PYTHONPATH": f"{root / 'tests'}{os.pathsep}{root}"}
    made = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert made.stdout.strip() == hashlib.sha256(html.encode()).hexdigest()


def test_page_loads_nothing(html: str) -> None:
    """No element loads anything but data in the page, links stay on it, and its policy forbids the rest."""
    page = Page(html)
    assert [load for load in page.loads if not load.startswith("data:")] == []
    assert [link for link in page.links if not link.startswith("#")] == []
    assert page.handlers == []
    styles = re.search(r"<style>(.*?)</style>", html, re.S)
    assert styles is not None
    assert "url(" not in styles.group(1)
    assert "@import" not in styles.group(1)
    assert "default-src 'none'" in html
    assert re.findall(r"https?://[^\s\"'<]+", html) == []


def test_links_point_to_elements_and_ids_are_single(html: str) -> None:
    """Every link on the page has its element, every id one owner."""
    page = Page(html)
    assert [name for name, times in Counter(page.ids).items() if times > 1] == []
    assert {link[1:] for link in page.links} <= set(page.ids)


def test_every_evidence_of_the_summary_is_an_element(html: str) -> None:
    """Each evidence path of summary.json is the id of an element."""
    wanted: list[str] = []

    def walk(node: Any) -> None:
        if isinstance(node, dict):
            wanted.extend([node["evidence"]] if "evidence" in node else [])
            for child in node.values():
                walk(child)
        elif isinstance(node, list):
            for child in node:
                walk(child)

    walk(samples.sample().summary)
    assert len(wanted) > 15
    assert {f"/{path}" for path in wanted} <= set(Page(html).ids)


def test_chart_library_is_there_once(html: str) -> None:
    """One copy serves all charts; a page without charts has none."""
    (packed,) = re.findall(r'id="packed-library">([^<]+)<', html)
    assert unpacked(packed) == chart_templates.LIBRARY.read_text("utf-8")
    assert 'id="packed-library"' not in render(*samples.nothing().arguments())


def test_chart_library_is_what_vl_convert_makes() -> None:
    """The file in the package is the bundle of the version of Vega-Lite that altair writes charts for."""
    assert chart_templates.LIBRARY.read_text("utf-8") == made()


def test_chart_templates_are_what_altair_makes() -> None:
    """The file in the package holds the specifications as the code draws them, checked by Altair's schema."""
    assert chart_templates.FILE.read_text("utf-8") == chart_specs.made()


def test_each_figure_has_a_chart_with_rows(html: str) -> None:
    """Every figure of the page finds its specification and rows in what is packed; no chart is left."""
    found, layers = charts(html), shared(html)["layers"]
    assert list(found) == sorted(found, key=lambda name: (name.partition("-")[2], name))
    assert sorted(re.findall(r'<figure [^>]*data-figure="([^"]+)"', html)) == sorted(found)
    assert len(found) == 11
    for chart in found.values():
        assert all(0 <= place < len(layers) for place in chart["spec"]["layer"])
        assert chart["csv"].count("\n") >= 2


def test_hostile_names_stay_text() -> None:
    """Names, reasons, findings, policies and file names with markup add no element and break no island."""
    plain = samples.sample("prod/llama-70b")
    sample = samples.sample(HOSTILE)
    service = sample.summary["services"][0]
    service["signals"][0]["reasons"] = [{"code": "x", "text": HOSTILE, "value": None, "limit": None}]
    service["signals"].append({**service["signals"][5], "signal": HOSTILE, "evidence": ""})
    service["refusals"].append(dict.fromkeys(("what", "code", "text", "collect"), HOSTILE))
    service["demand"]["censored_windows"][0]["reason"] = HOSTILE
    service["recommended"]["why"] = HOSTILE
    sample.summary["inputs"][0]["name"] = HOSTILE
    sample.summary["warnings"][0]["text"] = HOSTILE
    sample.findings = sample.findings.with_columns(text=pl.lit(HOSTILE), check=pl.lit(HOSTILE))
    timeline = sample.details["timeline"]
    sample.details["timeline"] = timeline.with_columns(policy=pl.col("policy").replace({"oracle": HOSTILE}))
    text = render(*sample.arguments()[:5], HOSTILE)
    page, drawn = Page(text), charts(text)
    assert page.tags["script"] == Page(render(*plain.arguments())).tags["script"]
    assert page.tags["img"] == 0
    assert page.handlers == []
    assert "49" not in page.texts["reproduce-line"]
    assert page.texts["reproduce-line"] == HOSTILE
    assert page.texts["s1-yaml"] == sample.policies[HOSTILE]
    assert HOSTILE.replace('"', '""') in drawn["s1-elasticity"]["csv"]
    bands = drawn["s1-series-decode_tps-decode"]["spec"]["datasets"]["bands"]
    assert bands[0]["text"] == HOSTILE


def test_a_week_of_one_service_fits_in_one_megabyte(html: str) -> None:
    assert len(html.encode()) <= 1_000_000


def test_many_services_stay_in_budget(crowded: tuple[int, Path]) -> None:
    """20 services fit in 1.5 MB, 60 in 3 MB; every table but the drivers' is there without scripts."""
    count, page = crowded
    text = page.read_text("utf-8")
    assert len(text.encode()) <= 750_000 + 37_500 * count
    tables = Counter(re.findall(r'<table id="s\d+-([a-z-]+)"', text))
    assert tables["ranking"] == tables["policies"] == tables["targets"] == tables["candidates"] == count
    assert Counter(re.findall(r'<table id="s\d+-([a-z-]+)"', whole(text)))["driver-rows"] == count


@pytest.mark.parametrize("make", [samples.nothing, samples.nulls, samples.refused, samples.one_row])
def test_edge_cases_are_whole_pages(make: Any) -> None:
    """Whatever is missing, the page has its parts and says what is not known."""
    text = render(*make().arguments())
    assert text.rstrip().endswith("</html>")
    assert "None" not in re.sub(r"<script.*?</script>", "", text, flags=re.S)
    assert "nan" not in re.sub(r"<script.*?</script>", "", text, flags=re.S).replace("explanan", "").split()


def test_inputs_are_not_changed() -> None:
    """Rendering leaves its arguments as they were."""
    sample = samples.sample()
    before = json.dumps(sample.summary, sort_keys=True)
    render(*sample.arguments())
    assert json.dumps(sample.summary, sort_keys=True) == before
    assert sample.signals.equals(samples.sample().signals)
