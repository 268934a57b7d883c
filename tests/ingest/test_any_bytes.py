"""Whatever the bytes: a reader yields, sets aside or refuses in words; it never breaks and loses no row."""

from __future__ import annotations

import contextlib
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ingest.mappings import tables
from ingest.readers.test_aiperf import at, parquet, record
from ingest.readers.test_benchmarks import DETAILS, ROW, SGLANG, VLLM
from ingest.readers.test_benchmarks_guidellm import REPORT
from ingest.readers.test_cloudwatch import SMALL as CLOUDWATCH
from ingest.readers.test_cloudwatch import STREAM
from ingest.readers.test_cloudwatch import query as metric_query
from ingest.readers.test_cloudwatch import request as metric_request
from ingest.readers.test_datadog import SMALL as DATADOG
from ingest.readers.test_datadog import WAITING, request, version_2
from ingest.readers.test_gcp import SMALL as GCP
from ingest.readers.test_gpu_logs import AMD, DMON, NVIDIA
from ingest.readers.test_grafana_frames import SMALL as FRAMES
from ingest.readers.test_otlp import SMALL as OTLP
from ingest.readers.test_profiles import COLUMNS, DECODE, PREFILL, ROWS, arrays
from ingest.readers.test_table import BENCH, LONG, REQUEST_LOG, WIDE
from ingest.readers.test_traces import AZURE, BURSTGPT
from ingest.reading import read

from hs_analysis.errors import HsError
from hs_analysis.ingest.formats import FORMATS, FileStart, sniff
from hs_analysis.schema.settings import Reading

MOONCAKE = '{"timestamp": 0, "input_length": 1024, "output_length": 80, "hash_ids": [1, 2]}\n'
FLEET = 'ts,pod,model,ttft_ms,rpm,state\n2025-11-25T12:00:00Z,a,m,200,60,up\n2025-11-25 12:00:00,"b",,1,,up\n'
PODS = "when,run,pod,name,v\n1764072000000,r,a,kv,0.5\n"
LOG = "at,in,ttft_ms,outcome,run\n1764072000.5,100,250,ok,a\n"
POINTS = "gpu,batch,isl,osl,prompt_ms,token_ms,flags\n8xH100 fp8,4,1024,101,500,5,x\n"

SAMPLES: dict[str, list[tuple[bytes, str]]] = {
    "table": [
        (FLEET.encode(), "fleet.csv"), (PODS.encode(), "pods.csv"), (LOG.encode(), "log.csv"),
        (POINTS.encode(), "points.csv"),
    ],
    "grafana-csv": [(b'"Time","p-0 up","p-1 up"\n1764072000000,1.5 K,\n', "a.csv"),
                    (b"Series,Time,Value\np-0 up,1764072000000,97%\n", "a.csv")],
    "aiperf-parquet": [(parquet(
        {"metric_name": "x", "metric_type": "counter", "timestamp_ns": at(0), "value": 1.0},
        {"metric_name": "h", "metric_type": "histogram", "timestamp_ns": at(0), "sum": 1.0, "count": 1.0,
         "bucket_le": "0.1", "bucket_count": 1.0}), "m.parquet")],
    "aiperf-jsonl": [(json.dumps(record()).encode() + b"\n", "p.jsonl")],
    "guidellm": [(json.dumps(REPORT).encode(), "b.json")],
    "vllm-bench": [(json.dumps({**VLLM, **DETAILS}).encode() * 2, "b.json")],
    "sglang-bench": [(json.dumps(SGLANG).encode() + b"\n", "b.jsonl")],
    "inferencex": [(json.dumps([ROW, ROW]).encode(), "x.json")],
    "genai-perf": [(b'{"time_to_first_token": {"unit": "ms", "avg": 50.0}, "input_config": {}}', "p")],
    "azure-csv": [(AZURE.encode(), "a.csv")],
    "burstgpt": [(BURSTGPT.encode(), "b.csv")],
    "mooncake": [(MOONCAKE.encode() * 2, "m.jsonl")],
    "servegen": [(b"0,22.46,173.81,Weibull,0.0575,0.000573\n", "chunk-0-trace.csv")],
    "aiconfigurator-silicon": [("\n".join([COLUMNS, *ROWS]).encode(), "s.csv")],
    "dynamo-profile": [(PREFILL, "p.csv"), (DECODE, "d.csv"),
                       (arrays(prefill_isl=[1.0], prefill_ttft=[2.0], prefill_thpt_per_gpu=[3.0]), "r.npz")],
    "gpu-distribution": [(b"cluster,value_pct,cdf_pct\nseren,0.0,0.1\n", "c.csv")],
    "nvidia-smi-csv": [(NVIDIA.encode(), "n.csv")],
    "amd-smi-csv": [(AMD.encode(), "a.csv")],
    "dcgmi-dmon": [(DMON.encode(), "d.txt")],
    "otlp-jsonl": [(OTLP, "o.jsonl")],
    "cloudwatch-data": [(CLOUDWATCH, "c.json"), (metric_request(metric_query("m1", "up")), "r.json")],
    "cloudwatch-stream": [(STREAM, "s.jsonl")],
    "gcp-timeseries": [(GCP, "t.json")],
    "datadog": [(DATADOG, "d.json"),
                (json.dumps(request(WAITING)).encode() + json.dumps(version_2([1])).encode(), "v.json")],
    "grafana-frame": [(FRAMES, "g.json")],
}  # fmt: skip

READING = Reading(
    tables=tables(WIDE + LONG + REQUEST_LOG + BENCH), tz="UTC", legend_regex=r"(?P<pod>\S+) (?P<metric>\S+)"
)
READERS = {f.id: f.read for f in FORMATS if f.id in SAMPLES}


def attempt(kind: str, raw: bytes, name: str) -> None:
    """Read bytes as a format; a refusal in words is fine, anything else is not."""
    with contextlib.suppress(HsError):
        read(READERS[kind], raw, name, READING)


@pytest.mark.parametrize("kind", sorted(SAMPLES))
def test_samples_are_read_or_refused(kind: str) -> None:
    """The samples that are bent below are what they are meant to be."""
    for raw, name in SAMPLES[kind]:
        if name == "r.json":  # a request without its answer
            assert read(READERS[kind], raw, name, READING)[1].infos
        elif kind in ("servegen", "gpu-distribution"):
            with pytest.raises(HsError):
                read(READERS[kind], raw, name, READING)
        else:
            pieces, _ = read(READERS[kind], raw, name, READING)
            assert pieces


@pytest.mark.parametrize("kind", sorted(SAMPLES))
@settings(max_examples=10)
@given(raw=st.binary(max_size=120))
def test_any_bytes(kind: str, raw: bytes) -> None:
    attempt(kind, raw, SAMPLES[kind][0][1])


@pytest.mark.parametrize("kind", sorted(SAMPLES))
@settings(max_examples=15)
@given(data=st.data())
def test_bent_samples(kind: str, data: st.DataObject) -> None:
    """A valid file with a piece cut out, put in, or overwritten."""
    raw, name = data.draw(st.sampled_from(SAMPLES[kind]))
    for _ in range(data.draw(st.integers(1, 3))):
        start = data.draw(st.integers(0, len(raw)))
        end = data.draw(st.integers(start, min(len(raw), start + 40)))
        put = data.draw(st.binary(max_size=4) | st.sampled_from(
            [b'"', b",", b"\n", b"-1", b"NaN", b"1e999", b"null", b"[]", b"{}", b"\xff", b"\0", b"9" * 30]
        ))  # fmt: skip
        raw = raw[:start] + put + raw[end:]
    attempt(kind, raw, name)


@given(raw=st.binary(max_size=200))
def test_any_head_is_told(raw: bytes) -> None:
    sniff(FileStart(raw, "x.csv"))
