from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hs_analysis.errors import UsageError
from hs_analysis.evidence import STAGES, EvidenceLink, in_report, parse, path, permalink

SEGMENTS = st.text(st.characters(blacklist_categories=["Cs"]), min_size=1, max_size=30)
TIMES = st.datetimes(datetime(1990, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001
RUNS = st.text("0123456789abcdef", min_size=1, max_size=16)
NOON = datetime(2026, 7, 1, 12, tzinfo=UTC)


@st.composite
def links(draw):
    start, end = draw(st.none() | TIMES), draw(st.none() | TIMES)
    if start and end and end < start:
        start, end = end, start
    return EvidenceLink(
        draw(SEGMENTS), draw(st.sampled_from(STAGES)), draw(SEGMENTS), start, end, draw(st.just("") | RUNS)
    )


@given(links())
def test_every_printed_link_reads_back_as_itself(link):
    """str, permalink and report form all parse to the same link, for any text in the segments."""
    assert parse(str(link)) == link
    inside = parse(in_report(link.path))
    assert inside.path == link.path
    assert inside.run == ""


@given(st.text(max_size=60) | st.text("ab/%2F?=&#from:tohsa", max_size=40))
def test_any_text_parses_to_a_stable_form_or_is_a_usage_error(text):
    """Reading never fails in another way, and what it reads prints to a fixed point."""
    try:
        link = parse(text)
    except UsageError:
        return
    assert str(parse(str(link))) == str(link)


def test_the_written_form_is_exactly_this():
    """A service with a slash stays one segment, times end in Z, and microseconds survive."""
    assert path("prod/llama", "study", "tbt@decode") == "prod%2Fllama/study/tbt@decode"
    assert path("hsa:a", "derive", "threshold:tbt@decode") == "hsa%3Aa/derive/threshold:tbt@decode"
    text = path("prod/llama", "derive", "capacity@decode", NOON, NOON + timedelta(hours=1, microseconds=5))
    assert text == (
        "prod%2Fllama/derive/capacity@decode?from=2026-07-01T12:00:00Z&to=2026-07-01T13:00:00.000005Z"
    )
    assert in_report(text) == f"report.html#/{text}"
    assert permalink("9f3a", text) == f"hsa:9f3a/{text}"


def test_a_link_pasted_from_a_browser_is_understood():
    """A file URL before '#/', percent-encoded colons, other zones and outer blanks change nothing."""
    link = parse(
        " file:///runs/a/report.html#/prod%2Fllama/study/tbt@decode?to=2026-07-01T14%3A00%3A00%2B02:00\n"
    )
    assert link == EvidenceLink("prod/llama", "study", "tbt@decode", None, NOON)
    assert parse("#/prod%2Fllama/study/tbt%40decode") == EvidenceLink("prod/llama", "study", "tbt@decode")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "1 segments"),
        ("prod/llama/study/tbt", "4 segments"),
        ("a/study/", "what of an evidence link is empty"),
        ("a/stduy/b", "no stage 'stduy'"),
        ("a/study/%zz", "two hex digits"),
        ("a/study/%ff", "not UTF-8"),
        ("a/study/b?since=3", "not part of a range"),
        ("a/study/b?", "not part of a range"),
        ("a/study/b?from=2026-07-01T12:00:00Z&from=2026-07-01T12:00:00Z", "not part of a range"),
        ("a/study/b?from=yesterday", "not a time"),
        ("a/study/b?from=2026-07-01T12:00:00", "no zone"),
        ("a/study/b?from=0001-01-01T00:00:00%2B23:00", "out of range"),
        ("a/study/b?from=2026-07-02T00:00:00Z&to=2026-07-01T00:00:00Z", "backwards"),
        ("hsa:/a/study/b", "no run hash"),
        ("hsa:9f3a", "no run hash"),
        ("report.html#a/study/b", "'#' comes only"),
        ("a#b#/a/study/b", "'#' comes only"),
    ],
)
def test_errors_name_the_part_that_is_wrong(text, says):
    """Each broken form is a usage error that says what is broken."""
    with pytest.raises(UsageError, match=says.replace("'", ".")):
        parse(text)


def test_printing_refuses_what_could_not_be_read_back():
    """Empty names, unknown stages, naive or backward times and odd run hashes never become links."""
    for arguments in [("", "study", "b"), ("a", "nope", "b"), ("a", "study", ""), ("a", "study", "\ud800")]:
        with pytest.raises(UsageError):
            path(*arguments)
    with pytest.raises(UsageError, match="no zone"):
        path("a", "study", "b", NOON.replace(tzinfo=None))
    with pytest.raises(UsageError, match="backwards"):
        path("a", "study", "b", NOON, NOON - timedelta(seconds=1))
    with pytest.raises(UsageError, match="run hash"):
        permalink("a/b", "a/study/b")


def test_times_of_any_zone_print_in_utc():
    """The same moment gives the same path, whatever zone it was given in."""
    berlin = timezone(timedelta(hours=2))
    assert path("a", "study", "b", NOON) == path("a", "study", "b", NOON.astimezone(berlin))


def test_a_link_never_looks_like_an_option() -> None:
    """A service without a namespace begins with a dash; its link can be pasted behind a command."""
    link = path("-/llama", "derive", "pd_ratio")
    assert not link.startswith("-")
    assert parse(link).service == "-/llama"
