"""What a page packs to stay small, and that nothing of it is lost."""

from __future__ import annotations

import functools
import re
from pathlib import Path
from typing import Any

import pytest
from report import sample as samples
from report.browser import BROWSER, assert_view_works, opened
from report.unpacked import whole

from hs_analysis.report import html, packing, render

PARTS = ("replay", "thresholds", "verdict")


def page_of(sizes: dict[str, int]) -> str:
    """Return a page of two services whose parts have as many bytes each."""
    sections = (
        f'<section id="s{n}-{kind}">\n<details class="part"><div class="inner"><!--part s{n}-{kind}-->'
        f"{kind[0] * size}<!--/part--></div></details>"
        for n in (1, 2)
        for kind, size in sizes.items()
    )
    return f"<noscript><!--packed note--></noscript>{''.join(sections)}<!--packed parts-->"


def test_a_page_within_the_limit_stays_as_it_is() -> None:
    """Nothing is packed below the limit, and no mark is left."""
    page = packing.lightened(page_of(dict.fromkeys(PARTS, 400)), 10_000)
    assert "<!--" not in page
    assert "packed" not in page
    assert page.count("r" * 400) == page.count("t" * 400) == 2


def test_parts_are_packed_until_the_page_fits() -> None:
    """The part that a decision rests on least goes first, as few as it takes, and never the verdict."""
    given = page_of(dict.fromkeys(PARTS, 4000))
    plain = packing.lightened(given, 10**9)
    one = packing.lightened(given, 20_000)
    assert one.count("r" * 4000) == 0
    assert one.count("t" * 4000) == one.count("v" * 4000) == 2
    assert "packed and need scripts: replay." in one
    both = packing.lightened(given, 0)
    assert both.count("t" * 4000) == 0
    assert both.count("v" * 4000) == 2
    for page in (one, both):
        note = page[page.index("<p class=") : page.index("</noscript>")]
        islands = page[page.index('<script type="application/gzip"') :]
        assert whole(page).replace(note, "").replace(islands, "") == plain


def test_packing_gives_equal_characters_and_reads_back() -> None:
    """No clock is in what is packed, nothing in it ends a script element, and any text reads back."""
    text = "</script><!-- Zähler \u2028 -->" * 50
    made = packing.packed(text)
    assert made == packing.packed(text)
    assert not set("<>&\u2028") & set(made)
    assert packing.unpacked(made) == text


@pytest.mark.parametrize("where", ['id="packed-charts"', 'id="packed-evidence"', 'class="packed-parts"'])
def test_what_is_packed_is_spread_as_it_is_shown(where: str) -> None:
    """A name at the start of a line, as a key and in a list is found; the chart library is left out."""
    data = packing.plain_json({"acme-0": 1, "csv": ["pod\nacme-1,2", {"alt": "of acme-2"}]})
    packed = f'<p>a</p><script type="application/gzip" {where}>{packing.packed(data)}</script>'
    library = f'<script type="application/gzip" id="packed-library">{packing.packed("acme-3")}</script>'
    found = packing.spread(f"{packed}{library}<p>b</p>")
    assert re.findall(r"(?<!\w)acme-\d", found) == ["acme-0", "acme-1", "acme-2"]
    assert "<p>a</p>" in found
    assert found.endswith("<p>b</p>")


@BROWSER
def test_a_page_with_every_part_packed_works(
    running: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Links into packed parts land, tables sort, charts are drawn, print opens them."""
    monkeypatch.setattr(html, "lightened", functools.partial(packing.lightened, limit=0))
    sample = samples.sample()
    path = tmp_path / "packed.html"
    path.write_text(render(*sample.arguments()), encoding="utf-8")
    assert_view_works(running, path, sample.summary, 1280, "light")
    with opened(running, path, 1280, "light") as (page, trouble):
        page.evaluate("location.hash = '/prod%2Fllama-70b/select/decode_tps@decode'")
        page.wait_for_selector('.marked[id="/prod%2Fllama-70b/select/decode_tps@decode"]')
        page.evaluate("dispatchEvent(new Event('beforeprint'))")
        assert page.locator("#s1-ranking").is_visible()
        page.locator("#s1-ranking thead button").first.click()
        assert page.locator("#s1-ranking thead th").first.get_attribute("aria-sort") == "ascending"
        assert trouble == []
