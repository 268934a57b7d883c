"""What a person reads of two runs: the sentence, what to act on by weight, the rest counted or folded."""

import copy
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from compare.test_compare import METRIC, ONE, compared
from report.browser import axe_violations, opened

from hs_analysis.cli.compare import blocks, page_of
from hs_analysis.cli.compare_words import MOST_LINES, act_lines, rest, sentence
from hs_analysis.cli.output import Folded, as_markdown
from hs_analysis.compare import Comparison, compare_runs
from hs_analysis.compare.order import foretold, leading
from hs_analysis.report.comparison_page import render_comparison

COMMAND = "hsa compare a b"


def another_service(document, service):
    """Change what is recommended, the metric, a bound, a status, and scores of the backtest."""
    spec = document["spec"]
    spec["primaries"][0]["signal"] = "gpu_util"
    spec["bounds"]["prefill"]["max"] = 99
    spec["pd_ratio"]["value"] *= 2
    spec["pd_ratio"]["status"] = "drifting"
    spec["cooldown"]["by_role"]["decode"]["scale_in_s"] *= 2
    service["decision"]["recommend"] = "keep"
    for row in service["replay"]["policies"]:
        row["actions_per_day"] = (row["actions_per_day"] or 0) + 7


@pytest.fixture(scope="module")
def found() -> Comparison:
    """Return a comparison with changes of every weight, the light ones first in the files."""
    base = copy.deepcopy(ONE)
    spec = base.policies[0]["spec"]
    first = {key: spec.pop(key) for key in ("bounds", "pd_ratio")}
    base.policies[0]["spec"] = first | spec
    return compared(another_service, base)


def test_what_weighs_most_is_told_first(found):
    """The recommendation, the metric, the P/D ratio, then bounds, whatever place they have in the files."""
    assert [change.path for change in leading(found.changes)] == [
        "decision.recommend", "spec.primaries", "spec.pd_ratio.value", "spec.bounds.prefill.max",
    ]  # fmt: skip
    first, second, *_ = sentence(found).removeprefix("Something changed that you must act on: ").split("; ")
    assert (first, second) == ("recommend: apply → keep", f"metric: {METRIC} → gpu_util@prefill")
    assert sentence(found).endswith("; and 1 more.")


def test_no_change_is_lost_between_what_is_told_and_what_is_folded(found):
    """Each change is in one place: to act on, in one part of the rest, or made from."""
    told = [
        *leading(found.changes),
        *foretold(found.changes),
        *(change for part in rest(found) for change in part.changes),
    ]
    assert sorted(map(id, told)) == sorted(map(id, found.changes))
    follows = rest(found)[0]
    assert (follows.heading, follows.count) == ("what follows from the changes above", "1 consequence")


def test_the_rest_is_counted_and_named_only_when_asked(found):
    """One line with how many of what and the command that prints them; -v has a line for each."""
    short = blocks(found, COMMAND, verbose=False)
    (folded,) = [block for block in short if isinstance(block, Folded)]
    count = sum(len(part.changes) for part in rest(found))
    assert folded.title.startswith(f"{count} more: 1 consequence, ")
    assert folded.title.endswith(f": {COMMAND} -v")
    assert not any("actions per day" in block for block in short if isinstance(block, str))
    long = [block for block in blocks(found, COMMAND, verbose=True) if isinstance(block, str)]
    assert sum(block.startswith("  ") for block in long) == len(found.changes)
    assert any("actions per day" in block for block in long)


def test_what_the_policies_save_and_risk_stands_in_the_short_form():
    """Under its own heading, once; the rest does not count it again."""
    second = replace(ONE, summary=copy.deepcopy(ONE.summary))
    decision = second.summary["services"][0]["decision"]
    decision["hours_saved_ratio"], decision["slo_risk"]["undisturbed"] = 0.111, 0.0222
    of_two = compare_runs(ONE, second)
    lines = [block for block in blocks(of_two, COMMAND, verbose=False) if isinstance(block, str)]
    at = lines.index("as replayed")
    assert [line.partition(":")[0] for line in lines[at + 1 : at + 3]] == [
        "  hours saved",
        "  SLO risk, undisturbed",
    ]
    assert [("11.1 %" in lines[at + 1]), ("2.22 %" in lines[at + 2])] == [True, True]
    paths = {change.path for part in rest(of_two) for change in part.changes}
    assert not paths & {change.path for change in foretold(of_two.changes)}


def test_many_changes_to_act_on_are_cut_with_how_many_more():
    """Ten lines at most, over all services; -v has them all."""
    runs = [copy.deepcopy(ONE), copy.deepcopy(ONE)]
    for run in runs:
        (service,) = run.summary["services"]
        run.summary["services"] = [service | {"service": f"demo/s{n}"} for n in range(14)]
    second = replace(runs[1], summary=copy.deepcopy(runs[1].summary))
    for service in second.summary["services"]:
        service["decision"]["recommend"] = "keep"
    several = compare_runs(replace(runs[0], policies=()), replace(second, policies=()))
    assert act_lines(several)[0] == "demo/s0: recommend: apply → keep"
    lines = [block for block in blocks(several, COMMAND, verbose=False) if isinstance(block, str)]
    listed = [line for line in lines if line.startswith("  demo/")]
    assert (len(listed), MOST_LINES) == (10, 10)
    assert f"  … and 4 more: {COMMAND} -v" in lines


def test_markdown_folds_the_rest_between_empty_lines(found):
    """A list inside <details> is a list only after an empty line; every folded change is in it."""
    text = as_markdown(blocks(found, COMMAND, verbose=False))
    assert text.startswith("Something changed that you must act on: ")
    before, _, after = text.partition("\n\n<details><summary>")
    folded, _, closing = after.partition("\n\n</details>\n\n")
    assert before.count("\n- ") == len(leading(found.changes)) + len(foretold(found.changes))
    assert folded.count("\n- ") == sum(len(part.changes) for part in rest(found))
    assert not re.search(r"\n[^-\n][^\n]*\n- ", folded)
    links, _, last = closing.partition("\n\n")
    assert links.startswith("evidence links: all ")
    assert last.startswith("unchanged: ")


class Page(HTMLParser):
    """Counts of a page: elements by name, rows inside and outside of what is folded, addresses."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.rows, self.addresses, self.folded = [], {True: 0, False: 0}, [], False
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        """Count."""
        self.tags.append(tag)
        self.addresses += [value for key, value in attrs if key in ("src", "href")]
        self.folded |= tag == "details"
        if tag == "td" and self.tags[-2] == "th":
            self.rows[self.folded] += 1

    def handle_endtag(self, tag):
        """Leave what is folded."""
        self.folded &= tag != "details"


def test_the_page_has_what_to_act_on_open_and_the_rest_folded(found):
    """One file without scripts or addresses; a row for each change, all but the first ones folded."""
    text = render_comparison(page_of(found, "a", "b", COMMAND), "0")
    page = Page(text)
    assert page.rows == {False: len(leading(found.changes)), True: sum(len(p.changes) for p in rest(found))}
    assert "script" not in page.tags
    assert page.addresses == ["data:,"]
    assert page.tags.count("details") == len(rest(found))
    assert text.index("recommend: apply → keep") < text.index("<h2>To act on</h2>") < text.index("<details>")
    assert text == render_comparison(page_of(found, "a", "b", COMMAND), "0")


def test_names_in_dumps_are_text_on_the_page():
    """A name of a service or a metric can't add an element."""
    found = compared(lambda document, _: document["spec"]["primaries"][0].update(signal="<script>x</script>"))
    text = render_comparison(page_of(found, "<b>a", "b", COMMAND), "0")
    assert "<script>" not in text
    assert "<b>a" not in text
    assert "&lt;script&gt;x" in text
    markdown = as_markdown(blocks(found, "hsa compare '<b>a' b", verbose=False))
    assert "<b>" not in markdown
    assert "<script>" not in markdown


@pytest.mark.outside("chromium")
@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (400, "dark")])
def test_the_page_is_read_in_a_browser_without_a_network(running, tmp_path, found, width, scheme):
    """No request and no error, nothing wider than the screen, no axe violation with all parts open."""
    place = tmp_path / "page.html"
    folder = "/".join(f"folder-{n}" for n in range(20))
    place.write_text(render_comparison(page_of(found, folder, "b", f"hsa compare {folder} b"), "0"), "utf-8")
    with opened(running, place, width, scheme) as (page, trouble):
        page.evaluate("document.querySelectorAll('details').forEach(part => part.open = true)")
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert axe_violations(page) == []
    assert trouble == []
