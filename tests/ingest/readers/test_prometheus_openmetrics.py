"""The reader of OpenMetrics text."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ingest.texts import Samples, merged, obvious_line, plain_quoted, read_bytes, reasons

from hs_analysis.ingest.formats import FileStart, sniff
from hs_analysis.ingest.readers.prometheus import read_openmetrics

T = 1764000000
TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\r"), min_size=1, max_size=8)
RUNS = st.lists(
    st.tuples(
        st.dictionaries(st.sampled_from(["pod", "a", "le"]), TEXTS, max_size=3),
        st.lists(
            st.tuples(
                st.one_of(st.floats(allow_nan=False).map(repr), st.sampled_from(["NaN", "+Inf", "3"])),
                st.integers(0, 10**12),
                st.booleans(),
            ),
            min_size=1,
            max_size=5,
        ),
    ),
    max_size=5,
)


@given(runs=RUNS)
def test_reads_what_was_written(tmp_path_factory: pytest.TempPathFactory, runs: list) -> None:  # type: ignore[type-arg]
    """Any labels, milliseconds as decimals, with and without exemplars."""
    raw, expected = "", list[Samples]()
    for labels, samples in runs:
        inner = ",".join(f"{key}={plain_quoted(text)}" for key, text in labels.items())
        for value, offset_ms, has_exemplar in samples:
            t_ms = T * 1000 + offset_ms
            exemplar = ' # {trace_id="a # b"} 0.67 1764000000.5' if has_exemplar else ""
            raw += f"m_bucket{{{inner}}} {value} {t_ms // 1000}.{t_ms % 1000:03}{exemplar}\n"
            expected.append(obvious_line([("__name__", "m_bucket"), *labels.items()], value, t_ms * 1000))
    raw += "# EOF\n"
    found, notes = read_bytes(read_openmetrics, raw.encode(), tmp_path_factory.mktemp("om"))
    assert found == merged(expected)
    assert notes.rejections == []
    assert not [text for text in notes.warnings if "truncated" in text]


def test_declarations_are_kept(tmp_path: Path) -> None:
    """Types and help texts go to the notes; a name without braces is a series."""
    raw = b"# HELP m what it\\nsays\n# TYPE m counter\n# UNIT m seconds\nm_total 3 1764000000.5\n# EOF\n"
    found, notes = read_bytes(read_openmetrics, raw, tmp_path)
    assert found == {(("__name__", "m_total"),): [(T * 1_000_000 + 500_000, 3.0, "")]}
    assert (notes.types, notes.helps) == ({"m": "counter"}, {"m": "what it\nsays"})
    assert notes.warnings == []


def test_samples_without_a_time_are_rejected(tmp_path: Path) -> None:
    """A format with times has no use for a sample that could be from any day."""
    raw = b'm{a="b c"} 3\nm{a="b c"} 4 1764000000\nm{a="b c"} 5 # {x="y"} 1\n# EOF\n'
    found, notes = read_bytes(read_openmetrics, raw, tmp_path)
    assert [rows[0][1] for rows in found.values()] == [4.0]
    assert reasons(notes) == [(1, "bad_ts"), (3, "bad_ts")]


def test_creation_times_of_declared_counters_are_no_samples(tmp_path: Path) -> None:
    """They are counted and left out; a metric that only ends like one is kept."""
    raw = b"# TYPE m counter\nm_total 1 1764000000\nm_created 17 1764000000\n"
    raw += b"# TYPE h histogram\nh_created 17 1764000000\npods_created 4 1764000000\n# EOF\n"
    found, notes = read_bytes(read_openmetrics, raw, tmp_path)
    assert sorted(dict(key)["__name__"] for key in found) == ["m_total", "pods_created"]
    assert notes.infos == ["2 lines say when a counter was created; they are no samples"]
    assert notes.rows == 2


@pytest.mark.parametrize(
    ("raw", "warned"),
    [
        (b"m 1 1764000000\n# EOF\n", False),
        (b"m 1 1764000000\n# EOF", False),
        (b"m 1 1764000000\n", True),
        (b"m 1 1764000000\n# EOF\n# TYPE n gauge\nn 1 1764000000\n", True),
        (b"m 1 1764000000\n# EOF\n# TYPE n gauge\nn 1 1764000000\n# EOF\n", False),
    ],
)
def test_a_missing_end_is_a_warning(raw: bytes, warned: bool, tmp_path: Path) -> None:
    """The rows are kept, for each of several documents in a file."""
    found, notes = read_bytes(read_openmetrics, raw, tmp_path)
    assert found
    assert (
        any(text.startswith("truncated: the file does not end with # EOF") for text in notes.warnings)
        is warned
    )


def test_escapes_are_the_three_of_the_format(tmp_path: Path) -> None:
    r"""``\t`` is a backslash and a t here, a tab only in dumps of promtool."""
    found, _ = read_bytes(read_openmetrics, rb'm{a="x\\y\"z\n\t"} 1 1764000000' + b"\n# EOF\n", tmp_path)
    assert dict(next(iter(found)))["a"] == 'x\\y"z\n\\t'


def test_names_in_quotes_are_read(tmp_path: Path) -> None:
    """Newer exporters put names with dots into the braces."""
    found, _ = read_bytes(read_openmetrics, b'{"http.requests", "k.8s"="v"} 1 1764000000\n# EOF\n', tmp_path)
    assert dict(next(iter(found))) == {"__name__": "http.requests", "k.8s": "v"}


@pytest.mark.parametrize(
    ("head", "known"),
    [
        (b'm{a="b"} 3 1764000000.123\n', "openmetrics"),
        (b"# TYPE m gauge\nm 3 1764000000\n", "openmetrics"),
        (b'm{a="b"} 3 1764000000.1 # {t="x"} 1\n', "openmetrics"),
        (b'# HELP m\nm{a="b"} 3\n', "exposition"),
        (b'# TYPE m untyped\nm{a="b"} 3 1764000000000\n', "exposition"),
        (b"hello 3\nworld 4\n", None),
        (b"GPU 0 97\nGPU 1 98\n", None),
        (b"# a comment\n# another\n", None),
    ],
)
def test_recognised_by_its_lines(head: bytes, known: str | None) -> None:
    """Times in seconds make OpenMetrics, none or milliseconds a page."""
    found = sniff(FileStart(head))
    assert (found.id if found else None) == known


def test_real_values_under_exporter_names(real_data: Path) -> None:
    """A published file of 24 load tests is read whole."""
    path = real_data / "wva-h100-autoscaling" / "wva_openmetrics.txt.gz"
    from hs_analysis.ingest.rows import Dump, ReadNotes

    notes = ReadNotes()
    rows = sum(s.t_us.size for s in read_openmetrics(Dump(path, str(path), path.name), notes))
    assert (rows, notes.rejections.total, notes.warnings) == (notes.rows, 0, [])
    assert rows > 8_000
    assert notes.types["vllm:kv_cache_usage_perc"] == "gauge"
