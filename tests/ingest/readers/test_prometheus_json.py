"""The reader of Prometheus API answers."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ingest.bodies import answer, body, element, obvious, plain, read

from hs_analysis.errors import InputError
from hs_analysis.ingest import streams
from hs_analysis.ingest.rows import FLAGS

T0 = 1764000000
TIMES = st.one_of(st.integers(0, 4_000_000_000), st.integers(0, 4_000_000_000_000).map(lambda ms: ms / 1000))
VALUES = st.one_of(
    st.floats(allow_nan=False, allow_infinity=False).map(repr),
    st.integers(-(10**18), 10**18).map(str),
    st.sampled_from(["NaN", "+Inf", "-Inf", None]),
)
LABELS = st.dictionaries(st.text(min_size=1), st.text(), max_size=4)
ELEMENTS = st.builds(
    lambda name, labels, pairs: {"metric": {**labels, "__name__": name}, "values": [list(p) for p in pairs]},
    st.text(min_size=1),
    LABELS,
    st.lists(st.tuples(TIMES, VALUES), max_size=5),
)


@st.composite
def written(draw: st.DrawFn) -> tuple[dict[str, Any], bytes]:
    """Return an answer and one of the ways to write it: keys in any order, any layout."""
    document = answer(*draw(st.lists(ELEMENTS, max_size=3)))
    shuffle = random.Random(draw(st.integers(0, 1000)))

    def mixed(value: Any) -> Any:
        if isinstance(value, dict):
            keys = shuffle.sample(sorted(value), len(value))
            return {key: mixed(value[key]) for key in keys}
        return [mixed(v) for v in value] if isinstance(value, list) else value

    indent = draw(st.sampled_from([None, 0, 1, 3]))
    separators = draw(st.sampled_from([(",", ":"), (", ", ": "), (" ,\t", " :\n")]))
    text = json.dumps(mixed(document), indent=indent, separators=separators, ensure_ascii=draw(st.booleans()))
    return document, text.encode()


@given(written(), st.sampled_from([1, 2, 7, 64, 8 << 20]))
def test_reads_what_the_json_module_reads(made: tuple[dict[str, Any], bytes], block_bytes: int) -> None:
    """Labels, times, values and flags equal the obvious reading, whatever the layout and the block size."""
    document, raw = made
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(streams, "BLOCK_BYTES", block_bytes)
        series, notes = read(raw)
    assert plain(series) == obvious(document)
    assert notes.rows == sum(s.t_us.size for s in series)
    assert notes.rejections == []


def test_values_are_bit_equal() -> None:
    """Numbers are read at full precision, in bulk and one by one."""
    texts = ["0.1", "1e-300", "123456789.123456789", "1.7976931348623157e308", "-0", "5e-324", "16777217.25"]
    bulk = read(body(element("m", [(T0 + i, text) for i, text in enumerate(texts)])))[0][0]
    single = read(body(element("m", [(T0 + i, text) for i, text in enumerate([*texts, None])])))[0][0]
    assert bulk.values.tolist() == [float(text) for text in texts]
    assert single.values[:-1].tolist() == bulk.values.tolist()


def test_null_nan_and_infinity_are_five_different_things_from_zero() -> None:
    """Each is null with a flag of its own; bare forms count as well as texts."""
    raw = b'{"status":"success","data":{"resultType":"matrix","result":[{"metric":{"__name__":"m"},"values":['
    raw += b'[1,null],[2,NaN],[3,"NaN"],[4,+Inf],[5,"-Inf"],[6,"0"],[7,"+Inf"]]}]}}'
    (series,), notes = read(raw)
    assert [FLAGS[code] or None for code in series.flags] == [
        "null",
        "nan",
        "nan",
        "pos_inf",
        "neg_inf",
        None,
        "pos_inf",
    ]
    assert plain([series])[0][1][5] == (6_000_000, 0.0)
    assert notes.rejections == []


def test_bad_pairs_are_quarantined_with_their_place() -> None:
    """A bad pair does not harm its neighbours; byte, path, reason and text are kept; rows add up."""
    raw = body(
        element("m", [(1, "1"), (2, "x"), (3, ""), (4, " "), (5, "1_0"), (6, "7")], pod="p"),
    )
    raw = raw.replace(b'[6,"7"]', b'[6,true],oops ,["7","7"],[8],[9,"9","9"],[1764000000000,"1"],[10,"10"]')
    (series,), notes = read(raw)
    assert series.t_us.tolist() == [1_000_000, 10_000_000]
    assert series.values.tolist() == [1.0, 10.0]
    reasons = [r.reason for r in notes.rejections]
    assert reasons == [
        "bad_value", "bad_value", "bad_value", "bad_value", "bad_value", "bad_json", "bad_json", "bad_json",
        "bad_json", "bad_ts",
    ]  # fmt: skip
    first = notes.rejections[0]
    assert raw[first.position :].startswith(b'[2,"x"]')
    assert (first.path, first.raw, first.series) == ("data.result[0].values[1]", '[2,"x"]', 'm{pod="p"}')
    assert notes.rows == series.t_us.size + len(notes.rejections) == 12


def test_a_blank_value_at_the_end_is_no_number() -> None:
    """The bulk parser would take a trailing blank for -1."""
    series, notes = read(body(element("m", [(1, "1"), (2, " ")])))
    assert series[0].values.tolist() == [1.0]
    assert notes.rejections[0].reason == "bad_value"


def test_an_instant_vector_is_read_with_its_place() -> None:
    """One pair a series; a bad one is quarantined at its byte."""
    raw = body(
        {"metric": {"__name__": "m"}, "value": [T0, "3"]}, {"metric": {"__name__": "n"}, "value": [T0, "x"]}
    )
    series, notes = read(raw.replace(b"matrix", b"vector"))
    assert plain(series) == [({"__name__": "m"}, [(T0 * 1_000_000, 3.0)], [None])]
    assert raw[notes.rejections[0].position :].startswith(b'[1764000000,"x"]')


def test_labels_that_can_not_be_read_quarantine_their_series() -> None:
    """Bytes that are no UTF-8, half a surrogate pair, a raw control byte: the others go on."""
    raw = body(
        element("a", [(1, 1)], x="BAD"),
        element("b", [(1, 1)], x="BAD2"),
        element("c", [(1, 1)], x="BAD3"),
        element("d", [(1, 1)]),
    )
    raw = raw.replace(b"BAD3", b"\x00").replace(b"BAD2", rb"\ud800").replace(b"BAD", b"\xff\xfe")
    series, notes = read(raw)
    assert [s.labels["__name__"] for s in series] == ["d"]
    assert [r.reason for r in notes.rejections] == ["bad_utf8", "bad_utf8", "bad_json"]
    assert raw[notes.rejections[0].position :].startswith(b'{"__name__":"a"')
    assert notes.rejections[0].detail.endswith("all 1 samples of the series are left out")
    assert notes.rows == 4


def test_native_histograms_are_quarantined() -> None:
    """They are counted and named, and the floats beside them are kept."""
    one = element("m", [(1, 1)]) | {"histograms": [[1, {"count": "5", "sum": "2"}]]}
    series, notes = read(body(one))
    assert series[0].values.tolist() == [1.0]
    assert [r.reason for r in notes.rejections] == ["native_histogram"]
    assert notes.rows == 2


def test_warnings_and_infos_are_kept_apart() -> None:
    """Warnings mean that data may be missing, infos are advice; brackets and quotes in them do no harm."""
    _, notes = read(body(warnings=['store "a" [x] unreachable'], infos=["not a counter"]))
    assert (notes.warnings, notes.infos) == (['store "a" [x] unreachable'], ["not a counter"])


def test_two_documents_and_a_byte_order_mark() -> None:
    """Documents one after the other are all read, blanks and marks between them left out."""
    one, two = body(element("a", [(1, 1)])), body(element("b", [(2, 2)]))
    series, notes = read(b"\xef\xbb\xbf" + one + b"\n\xef\xbb\xbf" + two + b"\n")
    assert [s.labels["__name__"] for s in series] == ["a", "b"]
    assert notes.rows == 2


@pytest.mark.parametrize(
    ("stamp", "reading"),
    [(1764000000000, "milliseconds it is 2025-11-24 16:00:00"), (1764000000000000, "microseconds"),
     (1764000000000000000, "nanoseconds")],
)  # fmt: skip
def test_times_in_another_unit_stop_with_both_readings(stamp: int, reading: str) -> None:
    """Seconds are never guessed: the stamp is shown as it stands and as what it may be."""
    with pytest.raises(
        InputError, match=rf"{stamp} is no Unix seconds; as .*{reading[:12]}.*divide the times"
    ) as e:
        read(body(element("m", [(stamp, 1), (stamp + 15, 2)])))
    assert reading in str(e.value)
    assert "at byte" in str(e.value)


ERROR = '{"status":"error","errorType":"bad_data","error":"exceeded maximum resolution of 11,000 points"}'
SORTED_ERROR = '{"error":"no such host","errorType":"internal","status":"error"}'
SCALAR = '{"status":"success","data":{"resultType":"scalar","result":[1,"2"]}}'
SCALAR_FIRST = '{"status":"success","data":{"result":[1,"2"],"resultType":"scalar"}}'
STREAMS = '{"status":"success","data":{"resultType":"streams","result":[{"stream":{},"values":[["1","x"]]}]}}'


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        (ERROR, r"bad_data: exceeded maximum resolution.*smaller time ranges"),
        (SORTED_ERROR, "internal: no such host.*repair the query"),
        (SCALAR, "is a scalar, not a matrix"),
        (SCALAR_FIRST, "unexpected '1' at byte 38"),
        (STREAMS, "is a streams"),
        ('{"status":"success","data":["a"]}', "no data.result"),
        ('{"status":"success"}', "no data.result"),
        ("<html>", "unexpected '<' at byte 0"),
        ("{} x", "no data.result"),
    ],
)
def test_what_is_no_matrix_is_an_error_with_its_reason(raw: str, says: str) -> None:
    """Error envelopes, other result types and other JSON say what they are and what to do."""
    with pytest.raises(InputError, match=says):
        read(raw.encode())


def test_an_error_after_series_breaks_the_file() -> None:
    """A server that fails in the middle says so at the end."""
    raw = body(element("a", [(1, 1)])).replace(b'"status":"success"', b'"isPartial":false')[:-1]
    with pytest.raises(InputError, match="timeout"):
        read(raw + b',"status":"error","errorType":"timeout","error":"too slow"}')


SMALL = body(
    element("m", [(T0, "3"), (T0 + 15.25, "NaN")], pod='p"{[\\'), element("é", [(T0, "1")]), warnings=["w"]
)


def test_cut_at_every_byte_it_is_an_error_with_the_byte() -> None:
    """No prefix of an answer reads as a whole one, none gives a traceback, each error names where it ends."""
    for end in range(1, len(SMALL)):
        with pytest.raises(InputError, match=f"ends in the middle at byte {end}"):
            read(SMALL[:end])
    assert len(read(SMALL)[0]) == 2


def test_the_error_of_a_cut_names_the_last_whole_series() -> None:
    """What is safe to keep is known."""
    with pytest.raises(
        InputError, match=r'after series m\{pod="p.*"\} until .*; export this file again, or keep .*--salvage'
    ):
        read(SMALL[:-30])


@given(
    st.sampled_from([SMALL, SMALL + SMALL, json.dumps(json.loads(SMALL), indent=1).encode()]),
    st.lists(
        st.tuples(
            st.sampled_from(["set", "insert", "delete", "cut", "drop"]),
            st.integers(0, 10_000),
            st.one_of(st.integers(0, 255), st.sampled_from(list(b'"\\[]{},:0n \x00\xff'))),
        ),
        min_size=1,
        max_size=4,
    ),
)
def test_damaged_bytes_give_an_input_error_or_a_reading(
    raw: bytes, damages: list[tuple[str, int, int]]
) -> None:
    """Nothing but InputError comes out, rows add up, and the block size does not matter."""
    damaged = bytearray(raw)
    for what, where, byte in damages:
        at = where % max(len(damaged), 1)
        if what == "set" and damaged:
            damaged[at] = byte
        elif what == "insert":
            damaged.insert(at, byte)
        elif what == "delete":
            del damaged[at : at + 1]
        elif what == "cut":
            del damaged[at:]
        else:
            del damaged[at : at + byte]
    outcomes = []
    for size in (1, 33, 8 << 20):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(streams, "BLOCK_BYTES", size)
            try:
                series, notes = read(bytes(damaged))
            except InputError as error:
                outcomes.append(str(error))
            else:
                assert notes.rows == sum(s.t_us.size for s in series) + len(notes.rejections)
                outcomes.append(repr((plain(series), notes.rejections)))
    assert len(set(outcomes)) == 1
