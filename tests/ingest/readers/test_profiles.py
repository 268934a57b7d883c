"""aiconfigurator's silicon tables and Dynamo's planner profiles."""

from __future__ import annotations

import io

import numpy as np
import pytest
from ingest.reading import frame, read

from hs_analysis.errors import InputError
from hs_analysis.ingest.formats import FileStart, Format, sniff
from hs_analysis.ingest.readers.profiles import read_dynamo_profile, read_silicon

COLUMNS = (
    "silicon_data_source,backend,backend_version,model_path,system,precision,mode,isl,osl,tp_size,pp_size,"
    "attention_dp_size,prefill_num_workers,prefill_tp_size,prefill_pp_size,prefill_attention_dp_size,"
    "decode_num_workers,decode_tp_size,decode_pp_size,decode_attention_dp_size,silicon_ttft_ms,silicon_tpot_ms"
)
ROWS = (
    "a; silicon_concurrency=64; x,trtllm,1.1,m,gb200,fp4,disagg,1024,101,,,,2,4,1,1,1,4,1,8,500,5",
    "a; silicon_concurrency=64,trtllm,,m,gb200,fp4,disagg,1024,101,,,,,4,1,1,,4,1,8,500,5",
    "no load,vllm,0.19,m,h200_sxm,fp8,agg,1024,101,4,2,1,,,,,,,,,500,5",
    "bad,vllm,0.19,m,h200_sxm,fp8,agg,1024,101,4,2,1,,,,,,,,,fast,5",
)


def known(raw: bytes) -> str:
    found = sniff(FileStart(raw))
    assert isinstance(found, Format)
    return found.id


def test_silicon_points() -> None:
    """GPUs = workers × TP × PP × attention DP; throughput follows from concurrency and the two latencies."""
    raw = "\n".join([COLUMNS, *ROWS, ""]).encode()
    assert known(raw) == "aiconfigurator-silicon"
    pieces, notes = read(read_silicon, raw)
    got = frame(pieces)
    apart = got.row(0, named=True)
    assert (apart["prefill_instances"], apart["prefill_gpus"], apart["prefill_gpu_type"]) == (
        2.0,
        8.0,
        "gb200",
    )
    assert (apart["decode_instances"], apart["decode_gpus"], apart["concurrency"]) == (1.0, 32.0, 64.0)
    assert apart["request_throughput"] == pytest.approx(64.0)
    assert (apart["prefill_tps"], apart["decode_tps"]) == (pytest.approx(65536.0), pytest.approx(6464.0))
    assert apart["throughput_basis"].startswith("estimated")
    assert "prefill 4×gb200" in apart["series"]
    assert "decode 32×gb200" in apart["series"]
    unknown = got.row(1, named=True)
    assert (unknown["prefill_gpus"], unknown["decode_gpus"], unknown["engine"]) == (None, None, "trtllm")
    one = got.row(2, named=True)
    assert (one["disaggregated"], one["decode_gpus"], one["prefill_gpus"]) == (False, 8.0, None)
    assert (one["concurrency"], one["decode_tps"], one["throughput_basis"]) == (None, None, None)
    assert [(r.position, r.detail) for r in notes.rejections] == [(5, "silicon_ttft_ms is 'fast', no number")]


PREFILL = b"prefill_isl,prefill_ttft,prefill_thpt_per_gpu\n100,19.5,5121.5\n,1,1\n200,x,1\n"
DECODE = (
    b"x_kv_usage,y_context_length,z_itl,z_thpt_per_gpu,max_kv_tokens\n0.5,350,4.4,226.9,945029\n1.5,1,1,1,1\n"
)


def test_dynamo_profile_as_csv() -> None:
    assert known(PREFILL) == known(DECODE) == "dynamo-profile"
    pieces, notes = read(read_dynamo_profile, PREFILL)
    row = frame(pieces).row(0, named=True)
    assert (row["kind"], row["isl"], row["ttft_mean_s"], row["prefill_tps"]) == (
        "prefill",
        100.0,
        0.0195,
        5121.5,
    )
    assert [(r.position, r.detail) for r in notes.rejections] == [
        (3, "prefill_isl is empty"), (4, "prefill_ttft is 'x', no number"),
    ]  # fmt: skip
    pieces, notes = read(read_dynamo_profile, DECODE)
    row = frame(pieces).row(0, named=True)
    assert (row["kind"], row["kv_usage"], row["context_tokens"]) == ("decode", 0.5, 350.0)
    assert (row["tbt_mean_s"], row["decode_tps"]) == (pytest.approx(0.0044), 226.9)
    assert [r.detail for r in notes.rejections] == ["kv_usage is above 1"]


def arrays(**found: object) -> bytes:
    out = io.BytesIO()
    np.savez(out, **found)  # type: ignore[arg-type]
    return out.getvalue()


def test_dynamo_profile_as_arrays() -> None:
    """One number that goes for all points is repeated; arrays of different lengths can't be read together."""
    raw = arrays(
        x_kv_usage=[0.1, 0.2], y_context_length=[100, 200], z_itl=[4.0, np.nan], z_thpt_per_gpu=[1.0, 2.0],
        max_kv_tokens=[945029],
    )  # fmt: skip
    assert known(raw) == "dynamo-profile"
    pieces, notes = read(read_dynamo_profile, raw, "raw_data.npz")
    assert frame(pieces)["tbt_mean_s"].to_list() == [0.004]
    assert [r.position for r in notes.rejections] == [2]
    many = arrays(**{f"x_kv_usage{i or ''}": [1.0] for i in range(100)})
    for broken in (raw[:-50], arrays(x_kv_usage=[1.0, 2.0], z_itl=[1.0, 2.0, 3.0]), many):
        with pytest.raises(InputError, match="NumPy arrays that can't be read together"):
            read(read_dynamo_profile, broken, "raw_data.npz")
