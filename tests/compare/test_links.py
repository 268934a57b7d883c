"""Every evidence link of an old run leads to the same answer in a new one, or its death has a cause."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from compare.link_changes import CHANGES, Fate, changed, ranged
from compare.test_compare import ONE, TWO
from report.browser import axe_violations, opened

from hs_analysis import evidence
from hs_analysis.cli.compare import blocks, page_of
from hs_analysis.cli.output import Folded
from hs_analysis.compare import ComparedRun, LinkFate, compare_runs
from hs_analysis.compare.links import DEATHS, MOVES, links_of
from hs_analysis.errors import UsageError
from hs_analysis.report.comparison_page import render_comparison


def fate(link: LinkFate) -> Fate:
    """Return what is said of a link, without words."""
    return link.new, link.reason.code if link.reason else ""


def shares(truth: dict[str, Fate], found: Iterable[LinkFate]) -> dict[str, float]:
    """Return precision and recall of links that lead somewhere, and of deaths with their causes."""
    said = {link.old: fate(link) for link in found}
    assert set(said) == set(truth)
    right = Counter(said[link][0] is not None for link in truth if said[link] == truth[link])
    counts = {}
    for alive, what in ((True, "led"), (False, "dead")):
        told = sum((one[0] is not None) is alive for one in said.values())
        true = sum((one[0] is not None) is alive for one in truth.values())
        counts |= {f"{what} precision": right[alive] / max(1, told), f"{what} recall": right[alive] / true}
    return counts


def wrong(truth: dict[str, Fate], found: Iterable[LinkFate], kinds: dict[str, str]) -> list[str]:
    """Return what was told wrongly, for whoever reads a failure."""
    return [
        f"{kinds.get(one.old.partition('?')[0])}: {one.old} should be {truth[one.old]}, is {fate(one)}"
        for one in found
        if fate(one) != truth[one.old]
    ]


@pytest.mark.parametrize(
    ("services", "seed"),
    [(2 * len(CHANGES), 0), *(pytest.param(60, seed, marks=pytest.mark.slow) for seed in range(1, 13))],
)
def test_links_are_followed_through_seeded_changes(services: int, seed: int) -> None:
    """Of links that meet every kind of change 99 in 100 are told rightly: where to, or why not."""
    two = changed(services, seed)
    found = compare_runs(two.old, two.new).links
    assert len(found) == len(two.truth) > 2_000
    assert set(two.kinds.values()) == set(CHANGES)
    got = shares(two.truth, found)
    assert min(got.values()) >= 0.99, (got, wrong(two.truth, found, two.kinds)[:20])


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(1, 7))])
def test_time_ranges_are_followed_into_a_history_that_moved(seed: int) -> None:
    """A range inside stays, one that is cut is cut, one before the new history is dead."""
    two = changed(len(CHANGES), seed)
    truth = ranged(two, seed)
    found = compare_runs(two.old, two.new, links=list(truth)).links
    assert {code for _, code in truth.values()} >= {"", "window_cut", "window_outside", "service_gone"}
    got = shares(truth, found)
    assert min(got.values()) >= 0.99, (got, wrong(truth, found, two.kinds)[:20])


def test_a_score_sees_a_wrong_link() -> None:
    """The measure is not blind: one link in fifty that leads elsewhere is below 99 in 100."""
    two = changed(len(CHANGES), 3)
    found = list(compare_runs(two.old, two.new).links)
    led = [place for place, one in enumerate(found) if one.new is not None]
    for place in led[::50]:
        found[place] = LinkFate(found[place].old, "elsewhere/derive/pd_ratio")
    assert shares(two.truth, found)["led precision"] < 0.99


def other(change: Callable[[Any], None]) -> ComparedRun:
    """Return the sample's run after a change of its one service."""
    run = copy.deepcopy(ONE)
    change(run.summary["services"][0])
    return run


def without(table: str, **named: str) -> ComparedRun:
    """Return the sample's run without some rows of one table."""

    def change(service: Any) -> None:
        rows = service[table]
        service[table] = [row for row in rows if any(row[key] != value for key, value in named.items())]

    return other(change)


NAME = ONE.summary["services"][0]["service"]


@pytest.mark.parametrize("run", [ONE, TWO])
def test_all_links_of_a_run_lead_to_itself(run: ComparedRun) -> None:
    """Also those that stand in policy.yaml; their number is that of its answers."""
    found = compare_runs(run, copy.deepcopy(run)).links
    assert {one.reason for one in found} == {None}
    assert [one.old for one in found] == [one.new for one in found]
    assert {one.old for one in found} >= set(written(run.policies))
    assert {one.old for one in found} >= set(written([run.summary]))
    assert len(found) > 50


def written(node: Any) -> Iterator[str]:
    """Yield every evidence link that a document carries."""
    for child in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        yield from written(child)
    if isinstance(node, dict) and node.get("evidence"):
        yield node["evidence"]


def test_a_dead_link_names_its_cause_in_words() -> None:
    """What is gone, for whom, and how to switch it on where the new run knows."""
    gone = without("signals", signal="kv_usage", role="decode")
    gone.summary["coverage"]["missing"] = [
        {"signal": "kv_usage", "role": "decode", "how_to_enable": "exported by default by vLLM"}
    ]
    (dead,) = (one for one in compare_runs(ONE, gone).links if one.new is None)
    assert dead.old == evidence.path(NAME, "study", "kv_usage@decode")
    assert dead.reason is not None
    assert dead.reason.text == "kv_usage@decode is no longer recorded; exported by default by vLLM"


def test_what_the_new_report_leaves_out_is_said() -> None:
    """A page of many services has no table of drivers: the link leads to the answer, not to the page."""
    driver = evidence.path(NAME, "select", "driver:decode_tps@decode")
    every = {one.old for one in compare_runs(ONE, ONE).links}
    old, new = (replace(ONE, shown=frozenset(ids)) for ids in (every, every - {driver}))
    (told,) = (one for one in compare_runs(old, new).links if one.reason)
    assert (told.old, fate(told)) == (driver, (driver, "not_shown"))
    assert all(one.reason is None for one in compare_runs(new, new).links)


def test_links_of_charts_are_followed() -> None:
    """A chart that the new report draws is led to, also for a renamed service; one that it lacks is dead."""
    kept, lost = (evidence.path(NAME, "study", f"chart:series-{n}") for n in ("a", "b"))
    old = replace(ONE, shown=frozenset({kept, lost}))
    two = replace(
        other(lambda service: service.update(service="a/b")), shown=frozenset({"a%2Fb/study/chart:series-a"})
    )
    found = {one.old: fate(one) for one in compare_runs(old, two).links}
    assert found[kept] == ("a%2Fb/study/chart:series-a", "renamed")
    assert found[lost] == (None, "chart_not_drawn")
    found = {one.old: fate(one) for one in compare_runs(old, TWO, links=[kept]).links}
    assert found[kept] == (None, "service_gone")


def test_a_user_may_say_that_a_service_was_renamed() -> None:
    """What no run shows, the user knows; a name that is in neither run is refused."""
    two = other(lambda service: service.update(service="a/b", totals={}, capacity=[], thresholds=[]))
    assert {fate(one) for one in compare_runs(ONE, two).links} == {(None, "service_gone")}
    found = compare_runs(ONE, two, renamed={NAME: "a/b"})
    assert (found.changes[0].before, found.changes[0].after) == (NAME, "a/b")
    assert Counter(code for _, code in map(fate, found.links))["renamed"] > 40
    same = other(lambda service: service.update(service="a/b"))
    assert {fate(one)[1] for one in compare_runs(ONE, same).links} == {"renamed"}
    assert {fate(one) for one in compare_runs(ONE, same, renamed={NAME: ""}).links} == {
        (None, "service_gone")
    }
    with pytest.raises(UsageError, match="the new run has no service 'a/c'"):
        compare_runs(ONE, two, renamed={NAME: "a/c"})


def test_two_services_that_fit_as_well_are_not_paired() -> None:
    """Which of two new names is the old service is not guessed."""
    two = copy.deepcopy(ONE)
    one = two.summary["services"].pop()
    two.summary["services"] += [one | {"service": "a/x"}, one | {"service": "a/y"}]
    assert {fate(each) for each in compare_runs(ONE, two).links} == {(None, "service_gone")}


def test_a_link_of_neither_run_is_told_as_such() -> None:
    """Text that is no link, and a link that the old run never had; permalinks and report links are read."""
    given = ["nothing", f"{NAME.replace('/', '%2F')}/derive/never", f"report.html#/{links_of(ONE)[0]}"]
    found = {one.old: fate(one) for one in compare_runs(ONE, ONE, links=given).links}
    assert list(found.values()) == [(None, "not_a_link")] * 2 + [(links_of(ONE)[0], "")]


def test_every_cause_has_words() -> None:
    """Codes of the truth are those that are declared."""
    codes = {code for _, code in changed(len(CHANGES), 5).truth.values()} - {""}
    assert codes <= {*DEATHS, *MOVES}


def driver_lost(service: Any) -> None:
    """Take one driver away and refuse the ratio: one link dies, one is there and refused."""
    service["drivers"] = [row for row in service["drivers"] if row["signal"] != "ttft"]
    service["pd_ratio"] |= {"status": "refused", "value": None, "reason": {"code": "thin", "text": "x"}}


def test_links_are_counted_and_the_dead_ones_told_first() -> None:
    """On a terminal in one line, in Markdown and on the page folded, one by one with -v."""

    found = compare_runs(ONE, other(driver_lost))
    count = (
        f"{len(found.links) - 1} of {len(found.links)} of the old run lead to the same answer in the new one"
    )
    (folded,) = (
        one for one in blocks(found, "c", verbose=False) if isinstance(one, Folded) and "link" in one.title
    )
    assert folded.title == f"evidence links: {count}; 1 leads nowhere: c -v"
    (lines,) = (lines for _, lines in folded.groups)
    assert lines[0].endswith("→ nowhere; ttft@service was not tried as a driver in the new run")
    assert "it is there, and refused: x" in lines[1]
    assert f"  {lines[0]}" in blocks(found, "c", verbose=True)
    text = render_comparison(page_of(found, "a", "b", "c"), "0")
    assert text.index(count) < text.index("driver:ttft@service") < text.index("it is there, and refused")
    assert "<details><summary>evidence links: " in text


@pytest.mark.outside("chromium", "playwright", "axe_playwright_python")
def test_links_on_the_page_can_be_read(running: Any, tmp_path: Path) -> None:
    """Unfolded on a narrow dark screen: no axe violation, no sideways scroll, nothing loaded."""
    path = tmp_path / "comparison.html"
    found = compare_runs(ONE, other(driver_lost))
    path.write_text(render_comparison(page_of(found, "a", "b", "c"), "0"), "utf-8")
    with opened(running, path, 400, "dark") as (page, trouble):
        page.locator("summary", has_text="evidence links").click()
        assert page.locator("table:has(#links) tbody tr:visible").count() == 2
        assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
        assert axe_violations(page) == []
        assert trouble == []
