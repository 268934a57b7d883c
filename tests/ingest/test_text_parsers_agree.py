"""The text readers held to the Python client's own parsers, where these accept a file."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ingest.texts import Samples, merged, obvious_value, plain_quoted, read_bytes

from hs_analysis.ingest.readers.prometheus import read_exposition, read_openmetrics

openmetrics_parser = pytest.importorskip("prometheus_client.openmetrics.parser")
text_parser = pytest.importorskip("prometheus_client.parser")

TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\r"), min_size=1, max_size=6)
VALUES = st.one_of(
    st.floats(allow_nan=False, allow_infinity=False).map(repr), st.sampled_from(["NaN", "+Inf", "1e+06"])
)
SERIES = st.dictionaries(
    st.tuples(TEXTS, TEXTS), st.tuples(VALUES, st.integers(1_700_000_000_000, 1_800_000_000_000)), max_size=5
)


def theirs(families: object) -> Samples:
    """Return what the client parsed, times as whole microseconds."""
    rows = [
        {
            tuple(sorted({"__name__": s.name, **s.labels}.items())): [
                (s.timestamp, *obvious_value(repr(s.value)))
            ]
        }
        for family in families  # type: ignore[attr-defined]
        for s in family.samples
    ]
    return merged(
        [{k: [(round(float(t or 0) * 1e6), v, f) for t, v, f in r] for k, r in row.items()} for row in rows]
    )


@given(made=SERIES)
def test_openmetrics_as_the_client_reads_it(
    tmp_path_factory: pytest.TempPathFactory, made: dict[tuple[str, str], tuple[str, int]]
) -> None:
    """Labels, values and times of a gauge."""
    raw = "# HELP m what\n# TYPE m gauge\n"
    for (a, b), (value, t_ms) in made.items():
        raw += f"m{{a={plain_quoted(a)},b={plain_quoted(b)}}} {value} {t_ms // 1000}.{t_ms % 1000:03}\n"
    raw += "# EOF\n"
    found, notes = read_bytes(read_openmetrics, raw.encode(), tmp_path_factory.mktemp("om"))
    assert found == theirs(openmetrics_parser.text_string_to_metric_families(raw))
    assert notes.rejections == []


@given(made=SERIES)
def test_pages_as_the_client_reads_them(
    tmp_path_factory: pytest.TempPathFactory, made: dict[tuple[str, str], tuple[str, int]]
) -> None:
    """Labels and values of a page; its one time is the file's."""
    raw = "# HELP m what\n# TYPE m gauge\n"
    for (a, b), (value, _) in made.items():
        raw += f"m{{a={plain_quoted(a)},instance={plain_quoted(b)}}} {value}\n"
    folder = tmp_path_factory.mktemp("page")
    found, _ = read_bytes(read_exposition, raw.encode(), folder, "w0.1764000000.prom")
    expected = theirs(text_parser.text_string_to_metric_families(raw))
    assert {key: [row[1:] for row in rows] for key, rows in found.items()} == {
        key: [row[1:] for row in rows] for key, rows in expected.items()
    }
    assert all(math.isclose(t, 1764000000e6) for rows in found.values() for t, *_ in rows)
