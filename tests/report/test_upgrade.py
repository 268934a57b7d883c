"""A report of the previous form gets the evidence links that it lacks, and nothing else of it changes."""

from __future__ import annotations

import gzip
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from report import sample as samples
from report.browser import axe_violations, drawn, opened
from typer.testing import CliRunner

from hs_analysis import evidence
from hs_analysis.cli.app import app
from hs_analysis.errors import UsageError
from hs_analysis.report import render
from hs_analysis.report.anchors import evidence_in
from hs_analysis.report.upgrade import upgraded

KEPT = Path(__file__).parent / "previous_form"
ANSWERS = (KEPT / "links.txt").read_text("utf-8").split()
NAME = "-/sim-llama-8b"
HEAD = '<meta name="generator" content="hs_analysis 0.1.0"><p class="kicker">Autoscaling report</p>'


@pytest.fixture(scope="module")
def old() -> str:
    """Return the page of the previous form."""
    return gzip.decompress((KEPT / "report.html.gz").read_bytes()).decode()


@pytest.fixture(scope="module")
def new(old: str) -> str:
    """Return it with its links."""
    return upgraded(old, "old.html").page


class Tokens(HTMLParser):
    """A page as a list of tags with attributes and of texts, in order."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.found: list[tuple[str, Any]] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Keep a tag with its attributes."""
        self.found.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        """Keep the end of a tag."""
        self.found.append((f"/{tag}", {}))

    def handle_data(self, data: str) -> None:
        """Keep a text, joined to the one before."""
        if self.found and self.found[-1][0] == "text":
            self.found[-1] = ("text", self.found[-1][1] + data)
        else:
            self.found.append(("text", data))


def links(page: str) -> list[str]:
    """Return where the links of a page to evidence lead."""
    found = Tokens(page).found
    hrefs = [str(given.get("href")) for tag, given in found if tag == "a"]
    return [href.removeprefix("#/") for href in hrefs if href.startswith("#/")]


def test_every_answer_has_a_place_and_a_link(old: str, new: str) -> None:
    """All 57 answers of the run; the page as it was had places for 55 and links to 53."""
    assert len(ANSWERS) == 57
    assert sorted(set(ANSWERS) - evidence_in(old)) == [
        evidence.path(NAME, "derive", f"startup@{role}") for role in ("decode", "prefill")
    ]
    assert len(set(ANSWERS) & set(links(old))) == 53
    assert set(ANSWERS) <= evidence_in(new)
    assert set(ANSWERS) <= set(links(new))


def test_every_chart_has_a_place_and_a_link(old: str, new: str) -> None:
    """Each figure is the element of one path of the grammar, with a link to it."""
    figures = re.findall(r'<figure id="/([^"]+)" class="chart"', new)
    assert len(figures) == len(set(figures)) == old.count("<figure") == 12
    assert set(figures) <= set(links(new))
    assert {evidence.parse(path).service for path in figures} == {NAME}


def test_a_refusal_is_the_place_of_what_it_refuses(new: str) -> None:
    """A start-up time that was refused has its place where the reason stands, and a link there."""
    for role in ("prefill", "decode"):
        path = f"/{evidence.path(NAME, 'derive', f'startup@{role}')}"
        link = f'<a class="anchor" href="#{path}" aria-label="Link to startup@{role}">#</a>'
        assert f'<li id="{path}"><strong>startup@{role}&nbsp;{link}</strong>' in new


def test_further_figures_of_a_policy_link_to_its_row(old: str, new: str) -> None:
    """Each row of the second table of replayed policies links to that of the first."""
    rows = {}
    for table in ("policies", "further"):
        found = re.search(rf'<table id="s1-{table}">.*?</table>', new, re.DOTALL)
        assert found is not None
        rows[table] = links(found[0])
    assert rows["further"] == rows["policies"]
    assert len(rows["further"]) == 16


def test_every_link_leads_to_one_place(new: str) -> None:
    """No link to evidence is broken, no id stands twice, every path follows the grammar."""
    places = re.findall(r'\sid="/([^"]+)"', new)
    assert len(places) == len(set(places))
    assert set(links(new)) <= set(places)
    assert all(evidence.parse(path).path == path for path in links(new))


def without_links(page: str, old: list[tuple[str, Any]]) -> list[tuple[str, Any]]:
    """Return the tokens of a page without ids of evidence and anchors that an old one does not have."""
    own = [given.get("id") for _, given in old if isinstance(given, dict)]
    anchors = [given for tag, given in old if tag == "a" and given.get("class") == "anchor"]
    kept: list[tuple[str, Any]] = []
    tokens = iter(Tokens(page).found)
    for tag, given in tokens:
        if tag == "a" and given.get("class") == "anchor" and given not in anchors:
            assert next(tokens) == ("text", "#")
            assert next(tokens)[0] == "/a"
            kept[-1] = ("text", kept[-1][1].removesuffix("\u00a0"))
        elif tag == "a" and given.get("class") == "anchor":
            anchors.remove(given)
            kept.append((tag, given))
        elif isinstance(given, dict) and str(given.get("id")).startswith("/") and given["id"] not in own:
            kept.append((tag, {key: value for key, value in given.items() if key != "id"}))
        elif tag == "text" and kept and kept[-1][0] == "text":
            kept[-1] = ("text", kept[-1][1] + given)
        else:
            kept.append((tag, given))
    return [token for token in kept if token != ("text", "")]


def test_nothing_else_changes(old: str, new: str) -> None:
    """Take ids and anchors away that were added, and what is left is the page as it was."""
    tokens = Tokens(old).found
    assert len(tokens) > 5_000
    assert Tokens(new).found != tokens
    assert without_links(new, tokens) == tokens


def test_a_page_that_has_its_links_stays(old: str, new: str) -> None:
    """An upgraded page gets nothing twice, and a report of today's form is returned as it is."""
    assert upgraded(new, "new.html").page == new
    today = render(*samples.sample().arguments())
    assert (upgraded(today, "today.html").page, upgraded(today, "today.html").links) == (today, 0)
    empty = f'{HEAD}<section class="verdict"><h2 id="none-h">No service was found in the input</h2></section>'
    assert upgraded(empty, "empty.html").page == empty


def test_start_up_times_that_were_known_have_a_link_each(old: str) -> None:
    """They stand in the replay, in one sentence: each pool's link is its own place."""
    known = re.sub(r"<li><strong>startup@.*?</li>", "", old, flags=re.DOTALL)
    known = known.replace("Start-up time 300 s for", "Start-up time 240 s for")
    found = upgraded(known, "known.html")
    assert set(ANSWERS) <= evidence_in(found.page)
    assert set(ANSWERS) <= set(links(found.page))
    assert without_links(found.page, Tokens(known).found) == Tokens(known).found


@pytest.mark.parametrize(
    ("page", "says"),
    [
        ("<html></html>", "this is no report of hsa"),
        ('<meta name="generator" content="hs_analysis 0.1.0"><p class="kicker">Comparison of two runs</p>',
         "this is no report of hsa"),
        (HEAD, "a form that"),
        (f'{HEAD}<article class="service" id="s1"><h2 id="s1-name">a/b</h2></article>', "a form that"),
        ("", "this is no report of hsa"),
    ],
)  # fmt: skip
def test_pages_of_other_forms_are_refused(page: str, says: str) -> None:
    """Whatever is no report, or one of an unknown form, is told as such in one line."""
    with pytest.raises(UsageError, match=says) as refused:
        upgraded(page, "page.html")
    assert "\n" not in str(refused.value)
    assert "page.html" in str(refused.value)


def test_the_command_writes_a_new_page(old: str, new: str, tmp_path: Path) -> None:
    """Beside the old one, which stays; what is no report ends in one line and exit code 2."""
    page = tmp_path / "report.html"
    page.write_text(old, "utf-8", newline="\n")
    done = CliRunner().invoke(app, ["report", "--upgrade", str(page)])
    assert done.exit_code == 0
    assert f"report: {tmp_path / 'report.linked.html'}" in done.output
    assert (page.read_text("utf-8"), (tmp_path / "report.linked.html").read_text("utf-8")) == (old, new)
    assert "has every link" in CliRunner().invoke(
        app, ["report", "--upgrade", str(tmp_path / "report.linked.html")]
    ).output  # fmt: skip


@pytest.mark.parametrize("given", [[], ["--upgrade", "nowhere.html"], ["run", "--upgrade", "report.html"]])
def test_the_command_wants_a_run_or_a_page(given: list[str]) -> None:
    """Neither, both, or a page that is not there: one line, exit code 2."""
    done = CliRunner().invoke(app, ["report", *given])
    assert isinstance(done.exception, UsageError) or done.exit_code == 2


@pytest.mark.outside("chromium", "playwright", "axe_playwright_python")
def test_links_of_an_upgraded_page_open_in_a_browser(running: Any, new: str, tmp_path: Path) -> None:
    """Its charts are drawn, its new links land on what they name, and it has no trouble of any kind."""
    path = tmp_path / "upgraded.html"
    path.write_text(new, "utf-8", newline="\n")
    with opened(running, path, 1280, "light") as (page, trouble):
        assert set(drawn(page).values()) == {"drawn"}
        for place in (
            evidence.path(NAME, "derive", "startup@prefill"),
            evidence.path(NAME, "study", "chart:series-decode_tps-decode"),
            evidence.path(NAME, "replay", "static_peak"),
        ):
            page.evaluate("place => { location.hash = '/' + place; }", place)
            page.wait_for_selector(f'.marked[id="/{place}"]')
        assert axe_violations(page) == []
        assert [one for one in trouble if not one.startswith("console: WARN")] == []  # Vega, of empty layers
