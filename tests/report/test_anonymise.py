"""Aliases for what identifies a fleet, in a report and in all that it embeds."""

from __future__ import annotations

import re

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from report import sample as samples
from report.test_html import Page

from hs_analysis.errors import HsError
from hs_analysis.report import render
from hs_analysis.report.anonymise import Aliases, address_of, aliases_of, check, kind_of_label, vocabulary
from hs_analysis.report.packing import spread

FLEET = {
    "pod": {f"acme-chat-{role}-{n}" for role in ("prefill", "decode") for n in range(3)},
    "host": {"gpu07.acme.example"},
    "address": {"10.1.2.3:9090", "10.1.2.3"},
    "file": {"dumps/query_range.json.gz", "query_range.json.gz"},
    "name": {"engine", "blue team", "7"},
}


def page_of(sample: samples.Sample, aliases: Aliases) -> str:
    """Return the report of a sample with aliases."""
    return render(
        aliases.plain(sample.summary),
        {name: aliases.frame(frame) for name, frame in sample.details.items()},
        {aliases.text(name): aliases.text(text) for name, text in sample.policies.items()},
        aliases.frame(sample.findings),
        aliases.frame(sample.signals),
        aliases.text(sample.reproduce),
    )


@pytest.mark.parametrize("services", [1, 3])
def test_no_name_stands_in_the_report(services: int) -> None:
    """Of one service and of several: names are gone, links still land, and every number is where it was."""
    sample = samples.many(services) if services > 1 else samples.sample()
    text = sample.findings["text"].to_list()
    said = ["acme-chat-decode-2 on gpu07.acme.example (10.1.2.3:9090) restarted", *text[1:]]
    sample.findings = sample.findings.with_columns(text=pl.Series(said))
    names = [str(entry["service"]) for entry in sample.summary["services"]]
    aliases = aliases_of(FLEET, names)
    packed = page_of(sample, aliases)
    page = spread(packed)
    check(aliases, page)
    hidden = {
        *names,
        *FLEET["pod"],
        "acme",
        "10.1.2.3",
        *(part for name in names for part in name.split("/")),
    }
    standing = {name for name in hidden if re.search(rf"(?<!\w){re.escape(name)}(?!\w)", page)}
    assert standing == set()
    assert "query_range" not in page
    parsed = Page(packed)
    assert {link[1:] for link in parsed.links} <= set(parsed.ids)
    assert aliases.text(spread(render(*sample.arguments()))) == page


def test_the_same_value_has_one_alias_wherever_it_stands() -> None:
    """In a sentence, a link, a pattern, an object's name and a query; longer names are not cut."""
    aliases = aliases_of({"pod": {"m-0", "m-0-b"}, "model": {"m.1"}}, ["ns/m.1"])
    service = aliases.text("ns/m.1")
    assert aliases.text("m-0, m-0-b and m-00") == "pod-1, pod-2 and m-00"
    assert (
        aliases.text("report.html#/ns%2Fm.1/derive/pd_ratio")
        == f"report.html#/{service.replace('/', '%2F')}/derive/pd_ratio"
    )
    assert aliases.text(r'sum(x{pod=~"m-0|m\\.1"})') == 'sum(x{pod=~"pod-1|model-1"})'
    assert aliases.text("name: ns-m-1") == "name: namespace-1-model-1"
    assert aliases.text("vllm:m_requests 12:00") == "vllm:m_requests 12:00"


def test_words_of_the_report_stay_in_sentences_but_not_in_queries() -> None:
    """A container called engine is no secret; a namespace that is such a word is replaced as a value."""
    aliases = aliases_of({"namespace": {"decode"}, "name": {"engine"}}, ["decode/llama"])
    assert aliases.text("the engine of the decode pool") == "the engine of the decode pool"
    assert aliases.text('x{namespace="decode",role="decode"}') == 'x{namespace="namespace-1",role="decode"}'
    assert aliases.text("decode/llama") == "namespace-1/model-1"
    assert {"decode", "engine"} <= aliases.spoken
    assert {"acme", "demo", "prod"}.isdisjoint(vocabulary())


def test_a_key_gives_the_same_alias_in_every_report() -> None:
    """With it, whatever else the fleet holds; another key gives others; without one they are numbered."""
    june = aliases_of({"pod": {"a-1"}, "model": {"x1"}}, ["n/x1"], b"secret")
    july = aliases_of({"pod": {"a-0", "a-1"}, "model": {"w1"}}, ["n/x1"], b"secret")
    assert june.text("a-1 n/x1") == july.text("a-1 n/x1")
    assert re.fullmatch(r"pod-[0-9a-f]{8}", june.text("a-1"))
    assert aliases_of({"pod": {"a-1"}}, [], b"other").text("a-1") != june.text("a-1")
    assert aliases_of({"pod": {"a-0", "a-1"}}, []).text("a-1") == "pod-2"


def test_a_page_in_which_a_name_stands_is_refused() -> None:
    """Whatever the reason: better no page than one that tells."""
    aliases = aliases_of({"pod": {"acme-0"}}, [])
    with pytest.raises(HsError, match="acme-0"):
        check(aliases, "<p>acme-0</p>")
    check(aliases, "<p>pod-1, acme-00</p>")


@pytest.mark.parametrize(
    ("label", "kind"),
    [
        ("exported_pod", "pod"), ("Hostname", "host"), ("model_name", "model"), ("customer", "name"),
        ("le", None), ("modelName", None),
    ],
)  # fmt: skip
def test_labels_that_say_whose_a_series_is_are_replaced(label: str, kind: str | None) -> None:
    """Of a label nobody has heard of, too; of one that says what is measured, not."""
    assert kind_of_label(label) == kind


def test_the_host_of_an_address_is_a_value_too() -> None:
    """With or without port and scheme."""
    assert address_of("http://prometheus.monitoring.svc:9090/x") == "prometheus.monitoring.svc"
    assert address_of("10.0.0.1:8000") == "10.0.0.1"
    assert address_of("llama") is None


@given(
    st.sets(st.text("ab-.", min_size=1, max_size=5), min_size=1, max_size=8), st.text("ab-. ", max_size=30)
)
def test_values_are_found_as_by_trying_each(values: set[str], text: str) -> None:
    """The pattern that reads each letter once finds what trying them one by one, longest first, finds."""
    of = dict.fromkeys(values, "x")
    slow = re.compile(rf"(?<!\w)(?:{'|'.join(map(re.escape, sorted(values, key=len, reverse=True)))})(?!\w)")
    assert Aliases(of, frozenset()).text(text) == slow.sub("x", text)
