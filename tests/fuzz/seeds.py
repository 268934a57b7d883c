"""Small valid files of every format, made here: what fuzzing starts from."""

from __future__ import annotations

import gzip
import io
import json
import shutil
import tarfile
import tempfile
from pathlib import Path

from fuzz.tars import small_tars
from ingest.bodies import body, element
from ingest.mappings import tables
from ingest.readers.test_table import BENCH, LONG, REQUEST_LOG, WIDE
from ingest.readers.test_tsdb_blocks import SIMPLE, make_tsdb
from ingest.test_any_bytes import SAMPLES

from hs_analysis.schema.settings import Reading

T = 1764000000

READING = Reading(
    tables=tables(WIDE + LONG + REQUEST_LOG + BENCH), tz="UTC", legend_regex=r"(?P<pod>\S+) (?P<metric>\S+)"
)
"""Descriptions of the tables among the seeds, and what the other formats may have to be told."""

TWO = body(
    element("vllm:prompt_tokens_total", [(T, 1), (T + 15, 2.5), (T + 30, -1)], pod="p-0"),
    element("DCGM_FI_DEV_POWER_USAGE", [(T, "NaN"), (T + 15, "+Inf"), (T + 30, 1e18)], Hostname="h"),
)
ERROR = b'{"status":"error","errorType":"bad_data","error":"exceeded maximum resolution"}'
NATIVE = body({"metric": {"__name__": "h"}, "histograms": [[T, {"count": "1", "sum": "2"}]]})

TEXTS: dict[str, list[tuple[bytes, str]]] = {
    "prom-api": [
        (TWO, "a.json"), (TWO + b"\n" + TWO, "a.json"), (ERROR, "a.json"), (NATIVE, "a.json"),
        (TWO.replace(b"matrix", b"vector").replace(b'"values":[[', b'"value":[').replace(b"]]", b"]"), "a"),
    ],
    "promtool-json": [(json.dumps([
        {"metric": {"__name__": "m", "pod": "a b"}, "values": [[T, "1"], [T + 0.25, "NaN"]]}, {"metric": {},
        "values": [[T, "2"]]}]).encode(), "a.json")],
    "promtool-text": [
        (f'm{{a="b c"}} =>\n3 @[{T}]\n4.5 @[{T}.25]\nn{{}} => +Inf @[{T}]\n'.encode(), "a.txt"),
    ],
    "vm-jsonl": [(
        f'{{"metric":{{"__name__":"m","pod":"x"}},"values":[1,null,"+Inf"],"timestamps":[{T}000,{T}015,{T}030]}}\n'
        .encode(), "a.jsonl")],
    "tsdb-dump": [(
        f'{{__name__="m", pod="a b"}} 1 {T}000\n{{__name__="m"}} {{count:3, sum:18.4}} {T}000\n'
        .encode(), "d")],
    "openmetrics": [(
        '# HELP m what it\\nsays\n# TYPE m counter\n'
        f'm_total{{a="x\\"y"}} 3 {T}.5 # {{t="1"}} 0.67 {T}.5\n# EOF\n'
        .encode(), "a.om")],
    "exposition": [(
        b"# HELP vllm:waiting Number.\n# TYPE vllm:waiting gauge\n"
        b'vllm:waiting{model_name="m 1"} 3.0\nup{a="b"} 1e+06 1764000000123\n', "w0.20251124T160000Z.prom")],
}  # fmt: skip


SHORT_REPORTS: dict[str, list[tuple[bytes, str]]] = {
    "guidellm": [
        (json.dumps({"benchmarks": [report]}).encode(), "b.json") for report in (
            {"metrics": {"requests_per_second": {"successful": {"mean": 1.5, "percentiles": {"p50": 1}}}}},
            {"args": {"strategy": {"rate": 2}}, "worker": {"backend_model": "m"}, "start_time": T,
             "metrics": {"time_to_first_token_ms": {"successful": {"mean": 200, "count": 1}}}},
            {"scheduler": {"strategy": {}}, "metadata": {"model": "m"}, "duration": "30.5",
             "metrics": {"request_totals": {"successful": 60}}},
            {"requests": {"successful": [{"start_time": T, "prompt_tokens": 1}],
                          "errored": [{"output_tokens": 0}]}},
        )
    ],
    "vllm-bench": [
        (b'{"date": "20261124", "request_throughput": 2.0, "ttfts": [0.2], "itls": [[0.01]], '
         b'"errors": ["x"]}', "b"),
    ],
    "inferencex": [(b'{"hw": "h200", "conc": 4, "tp": 8, "output_tput_per_gpu": 6.5}', "x")],
    "genai-perf": [
        (b'{"records": {"request_latency": {"unit": "s", "p99": 1}, "output_token_throughput": {"avg": 9}}, '
         b'"input_config": {"endpoint": {"model_names": ["m"]}, "loadgen": {"concurrency": 4}}}', "p"),
    ],
}  # fmt: skip
"""Documents of other versions, short ones: each takes a fraction of the time of a whole report."""


def tsdb_tar() -> bytes:
    """Return a tar of a small TSDB, empty bytes without promtool to make one."""
    if shutil.which("promtool") is None:
        return b""
    packed = io.BytesIO()
    with tempfile.TemporaryDirectory() as made:
        folder = make_tsdb(SIMPLE, Path(made))
        with tarfile.open(fileobj=packed, mode="w") as archive:
            archive.add(folder, "db", filter=_without_clock)
    return packed.getvalue()


def _without_clock(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.mtime = 0
    return member


ANY = "any"
"""No format: a file of the command line, whose format its own bytes tell, compressed or not."""


def seeds(kind: str) -> list[tuple[bytes, str]]:
    """Return (bytes, name) of small valid files of a format."""
    if kind == "tsdb":
        return [(raw, "db.tar") for raw in [tsdb_tar(), *small_tars()] if raw]
    if kind == ANY:
        one_each = [(SAMPLES | TEXTS)[k][0][0] for k in sorted(SAMPLES | TEXTS)]
        return [(raw, "any") for raw in one_each] + [(gzip.compress(raw, mtime=0), "any") for raw in one_each]
    if kind not in SAMPLES | TEXTS:
        raise KeyError(f"no small file of {kind}: add one to SAMPLES in tests/ingest/test_any_bytes.py")
    return (SAMPLES | TEXTS)[kind] + SHORT_REPORTS.get(kind, [])
