"""Published request traces."""

from __future__ import annotations

import json

import pytest
from ingest.reading import frame, read

from hs_analysis.errors import InputError
from hs_analysis.ingest.formats import FileStart, Format, refuse_distribution, refuse_servegen, sniff
from hs_analysis.ingest.readers.traces import NO_ARRIVALS, read_azure, read_burstgpt, read_mooncake

T = 1_764_072_000_000_000

AZURE = (
    "TIMESTAMP,ContextTokens,GeneratedTokens\r\n2025-11-25 12:00:00.6805905,374,44\r\n"
    "2025-11-25 12:00:01.0000000,many,1\r\n2025-11-25 12:00:02.0000000,-1,1\r\n"
    "2025-11-25 12:00:03.0000000,7,\r\n"
)


def test_azure() -> None:
    """Seven digits, no zone, CRLF."""
    pieces, notes = read(read_azure, AZURE.encode(), tz="UTC")
    got = frame(pieces)
    assert got["arrival"].dt.epoch("us").to_list() == [T + 680_590, T + 3_000_000]
    assert got["arrival_s"].to_list() == pytest.approx([0.0, 2.31941])
    assert got["prompt_tokens"].to_list() == [374.0, 7.0]
    assert got["output_tokens"].to_list() == [44.0, None]
    assert got["status"].null_count() == 2
    assert [(r.position, r.reason) for r in notes.rejections] == [(3, "bad_value"), (4, "bad_value")]
    with pytest.raises(InputError, match=r"no zone \(first: 2025-11-25 12:00:00.6805905\)"):
        read(read_azure, AZURE.encode())


BURSTGPT = (
    "Timestamp,Session ID,Elapsed time,Model,Request tokens,Response tokens,Total tokens,Log Type\n"
    "5,s1,2.1,ChatGPT,472,18,490,API log\n6.5,,0.1,GPT-4,100,0,100,API log\n"
)


def test_burstgpt() -> None:
    """No response is a failed request; seconds count from the first day."""
    pieces, notes = read(read_burstgpt, BURSTGPT.encode())
    got = frame(pieces)
    assert got["arrival"].null_count() == 2
    assert got["arrival_s"].to_list() == [5.0, 6.5]
    assert got["status"].to_list() == ["ok", "failed"]
    assert got["e2e_s"].to_list() == [2.1, 0.1]
    assert notes.warnings == [NO_ARRIVALS]
    got = frame(read(read_burstgpt, BURSTGPT.encode(), epoch="2025-11-25T12:00:00Z")[0])
    assert got["arrival"].dt.epoch("us").to_list() == [T + 5_000_000, T + 6_500_000]


def test_mooncake() -> None:
    """What a cache found is not known, what an endless one would have is said: the leading 2 of 7 blocks."""
    rows = [
        {"timestamp": 0, "input_length": 1024, "output_length": 80, "hash_ids": [1, 2]},
        {"timestamp": 1500, "input_length": 1500, "output_length": 5, "hash_ids": [1, 2, 3]},
        {"timestamp": 1500, "input_length": 1000, "output_length": 5, "hash_ids": [9, 1]},
    ]
    bad = ['{"timestamp": -1, "input_length": 1, "output_length": 1, "hash_ids": []}', "{oops", "[]",
           '{"timestamp": 1, "input_length": 1, "output_length": 1, "hash_ids": 5}']  # fmt: skip
    text = "\n".join([*map(json.dumps, rows), *bad, ""])
    pieces, notes = read(read_mooncake, text.encode(), epoch="2025-11-25T12:00:00Z")
    got = frame(pieces)
    assert got["arrival"].dt.epoch("us").to_list() == [T, T + 1_500_000, T + 1_500_000]
    assert got["prompt_tokens"].to_list() == [1024.0, 1500.0, 1000.0]
    assert got["cached_tokens"].null_count() == 3
    assert notes.infos[0].startswith("0.29 of the prompt blocks (512 tokens each)")
    assert [(r.position, r.reason) for r in notes.rejections] == [
        (4, "bad_value"), (5, "bad_json"), (6, "bad_json"), (7, "bad_value"),
    ]  # fmt: skip
    assert frame(read(read_mooncake, text.encode())[0])["arrival"].null_count() == 3


SERVEGEN = "0,22.46,173.81,Weibull,0.0575,0.000573\n600,4.5,0.8,Gamma,2.0,0.05\n"
LENGTHS = '{"0": {"input_tokens": "{256: 1.0}", "output_tokens": "{100: 1.0}"}}'
CDF = "cluster,series,value_pct,cdf_pct\nseren,gpu_util,0.0,0.1\n"


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        (AZURE, "azure-csv"), (BURSTGPT, "burstgpt"), (SERVEGEN, "servegen"), (LENGTHS, "servegen"),
        ('{"timestamp": 0, "input_length": 6, "output_length": 5, "hash_ids": [0]}\n', "mooncake"),
        (CDF, "gpu-distribution"),
    ],
)  # fmt: skip
def test_traces_are_known_by_their_content(text: str, kind: str) -> None:
    found = sniff(FileStart(text.encode()))
    assert isinstance(found, Format)
    assert found.id == kind


def test_parameters_of_a_generator_and_distributions_are_refused_with_a_sentence() -> None:
    with pytest.raises(InputError, match=r"parameters of a workload generator .*, not a log of requests"):
        read(refuse_servegen, SERVEGEN.encode())
    with pytest.raises(InputError, match="distributions of metrics, without times"):
        read(refuse_distribution, CDF.encode())


def test_a_distribution_with_times_is_a_series() -> None:
    """A quantile over time is data."""
    assert sniff(FileStart(b"timestamp,quantile,value\n1764072000,0.5,3\n")) is None
