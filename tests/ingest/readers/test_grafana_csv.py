"""Panel exports of Grafana: legends, displayed values, empty cells."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ingest.bodies import body, element
from ingest.reading import read, series

from hs_analysis.errors import InputError, UsageError
from hs_analysis.ingest.discovery import discover
from hs_analysis.ingest.formats import FileStart, Format, sniff
from hs_analysis.ingest.readers.grafana_csv import read_grafana_csv
from hs_analysis.ingest.stage import ingest
from hs_analysis.schema.settings import MetricRow, Reading

T, S = 1_764_072_000_000_000, 1_000_000
REGEX = r"(?P<pod>\S+) (?P<metric>\S+)"


def panel(text: str, name: str = "KV usage-data.csv", **how: Any):  # type: ignore[no-untyped-def]
    return read(read_grafana_csv, text.encode(), name, **how)


@pytest.mark.parametrize(
    "head",
    [
        b'"Time","a b"\n', b"\xef\xbb\xbfTime,a\n1,2\n", b'sep=,\r\n"Time","a"\r\n',
        b'"Series","Time","Value"\n', b"Time;a\n",
    ],
)  # fmt: skip
def test_it_is_known_by_its_first_column(head: bytes) -> None:
    found = sniff(FileStart(head))
    assert isinstance(found, Format)
    assert found.id == "grafana-csv"


def test_a_wide_panel_in_local_time_with_gaps() -> None:
    """An empty cell is null, never 0; the loss is said every time."""
    text = 'sep=,\n"Time","p-0 vllm:num_requests_waiting","d-0 vllm:num_requests_waiting"\n'
    text += "2025-11-25 13:00:00,3,\n2025-11-25 13:00:15,0,7\n"
    pieces, notes = panel(text, legend_regex=REGEX, tz="Europe/Berlin")
    assert series(pieces) == {
        'vllm:num_requests_waiting{pod="p-0"}': [(T, 3.0, ""), (T + 15 * S, 0.0, "")],
        'vllm:num_requests_waiting{pod="d-0"}': [(T, None, "null"), (T + 15 * S, 7.0, "")],
    }
    assert notes.warnings == []
    with pytest.raises(InputError, match="no zone"):
        panel(text, legend_regex=REGEX)


def test_a_long_panel_with_milliseconds() -> None:
    text = '"Series","Time","Value"\n"p-0 up",1764072000000,1\n"p-1 up",1764072000000,x\n,1764072000000,1\n'
    pieces, notes = panel(text, legend_regex=REGEX)
    assert series(pieces) == {'up{pod="p-0"}': [(T, 1.0, "")]}
    assert [(r.position, r.detail) for r in notes.rejections] == [
        (3, "'x' is no number"), (4, "no name in 'Series'"),
    ]  # fmt: skip
    assert "read as Unix milliseconds" in notes.infos[0]


def test_displayed_units_are_undone_to_the_unit_of_the_metric() -> None:
    """97 % is 0.97 for a share, 97 for DCGM's percent; a time is in seconds unless the user says so."""
    names = ("vllm:kv_cache_usage_perc", "DCGM_FI_DEV_GPU_UTIL", "mine", "vllm:num_requests_running", "other")
    head = "Time," + ",".join(f"p-0 {name}" for name in names)
    text = f"{head}\n1764072000000,97%,97%,3.2 ms,1.5 K,2 ms\n1764072060000,,12 %,4 ms,2,5 bananas\n"
    pieces, notes = panel(text, legend_regex=REGEX, metrics={"mine": MetricRow("ttft", unit="ms")})
    got = {name: [v for _, v, _ in rows] for name, rows in series(pieces).items()}
    assert got == {
        'vllm:kv_cache_usage_perc{pod="p-0"}': [pytest.approx(0.97), None],
        'DCGM_FI_DEV_GPU_UTIL{pod="p-0"}': [pytest.approx(97.0), pytest.approx(12.0)],
        'mine{pod="p-0"}': [3.2, 4.0],
        'vllm:num_requests_running{pod="p-0"}': [1500.0, 2.0],
        'other{pod="p-0"}': [pytest.approx(0.002)],
    }
    assert [r.detail for r in notes.rejections] == ["'5 bananas' is no number"]


def test_legends_that_are_series_need_no_regex() -> None:
    pieces, _ = panel('Time,"up{pod=""a"", job=""v""}","vllm:num_requests_running"\n1764072000000,1,2\n')
    assert set(series(pieces)) == {'up{job="v", pod="a"}', "vllm:num_requests_running{}"}


def test_what_the_groups_leave_is_the_name() -> None:
    pieces, _ = panel("Time,prefill-0 waiting\n1764072000000,1\n", legend_regex=r"(?P<pod>\S+) .*")
    assert set(series(pieces)) == {'waiting{pod="prefill-0"}'}
    pieces, _ = panel("Time,prefill-0\n1764072000000,1\n", legend_regex=r"(?P<pod>\S+)")
    assert set(series(pieces)) == {'KV usage-data{pod="prefill-0"}'}


def test_a_legend_that_repeats_is_one_series(tmp_path: Path) -> None:
    """Its values must agree: those that don't are rejected, and no pod `p-0#2` appears."""
    text = '"Time","p-0 vllm:num_requests_waiting","p-0 vllm:num_requests_waiting"\n'
    (tmp_path / "panel.csv").write_text(text + "1764072000000,3,3\n1764072015000,4,5\n")
    reading = Reading(legend_regex=REGEX)
    found = ingest(
        discover([tmp_path / "panel.csv"], reading), tmp_path / "data", lambda _name: None, reading
    )
    assert found.series.height == 1
    assert found.rejected["detail"].len() == 2


def test_an_export_with_decimal_commas_says_so() -> None:
    """It is refused by a cell: nothing read at all looked like an empty panel."""
    text = '"Time";"p-0 vllm:num_requests_waiting"\n1764072000000;"3,45"\n'
    with pytest.raises(InputError, match="not one value is a number: line 2: '3,45' is no number"):
        panel(text, legend_regex=REGEX)


def test_unknown_legends_are_listed() -> None:
    """Those of columns that have nothing to do with the rest, too."""
    text = "Time,p-0 waiting,sum\n1764072000000,1,2\n"
    with pytest.raises(
        InputError, match="legends that carry no labels: 'p-0 waiting', 'sum'; name the parts"
    ):
        panel(text)
    with pytest.raises(InputError, match="legends that do not match --legend-regex: 'sum'"):
        panel(text, legend_regex=REGEX)
    with pytest.raises(UsageError, match="no regular expression"):
        panel(text, legend_regex="(")
    with pytest.raises(UsageError, match="names no group"):
        panel(text, legend_regex=".*")


def test_a_panel_yields_to_a_dump_of_the_same_metric(tmp_path: Path) -> None:
    """Rounded values do not contradict the recorded ones: the panel's are superseded."""
    name = "vllm:num_requests_waiting"
    (tmp_path / "a.json").write_bytes(body(element(name, [(1764072000, 3.25)], pod="p-0")))
    (tmp_path / "b.csv").write_text(f"Time,p-0 {name}\n1764072000000,3\n")
    how = Reading(legend_regex=REGEX)
    found = ingest(discover([tmp_path], how), tmp_path / "out", lambda _name: None, how)
    assert {f.name: (f.rows_stored, f.superseded) for f in found.files} == {"a.json": (1, 0), "b.csv": (0, 1)}
    assert {f.name: f.superseded_by for f in found.files} == {"a.json": (), "b.csv": ("a.json",)}
