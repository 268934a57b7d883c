"""What files are blown up with, and the formats they are blown up as."""

from __future__ import annotations

import gzip
from pathlib import Path

from hs_analysis.ingest.formats import FORMATS

TEXT_FORMATS = tuple(
    f.id for f in FORMATS if f.id not in ("tsdb", "aiperf-parquet", "servegen", "gpu-distribution")
)
FILLINGS = (b"a", b"1,", b"[],", b'"",', b'"', b",", b"1 ", b"{", b'{"a":')
CHUNK_BYTES = 8 << 20

PEAK_MB = 1024
"""Of the whole program, whatever one line or one value of the input claims: 128 and 256 MB are held at most,
with the copies that reading them takes."""

LINES = tuple(
    kind for kind in TEXT_FORMATS
    if kind not in ("prom-api", "promtool-json", "guidellm", "vllm-bench", "sglang-bench", "inferencex",
                    "genai-perf", "grafana-frame", "datadog", "cloudwatch-data", "gcp-timeseries")
)  # fmt: skip
"""Formats that are read line by line."""

TAKEN_MB = 2048
"""Of the program when a line or list just below the limit is read: 30 million samples may stand there."""


def bomb(path: Path, before: bytes, filling: bytes, size: int, after: bytes = b"") -> Path:
    """Write a small archive that inflates to ``size`` bytes of a filling between two texts."""
    chunk = gzip.compress(filling * (CHUNK_BYTES // len(filling)), 1, mtime=0)
    packed = [
        gzip.compress(before, 1, mtime=0),
        chunk * (size // CHUNK_BYTES),
        gzip.compress(after, 1, mtime=0),
    ]
    path.write_bytes(b"".join(packed))
    return path


SECONDS = 10.0
"""CPU time of the program for any of these bombs, whatever their size: nothing hangs."""

PARTS: tuple[tuple[str, bytes, bytes], ...] = (
    *(
        ("prom-api", before, filling)
        for before, filling in (
            (b'"values":[', b"[],"), (b'"values":[', b'[1,"x"],'), (b'"result":[', b"{},"),
            (b'"result":[', b'{"values":[]},'), (b'"result":[', b'{"histograms":[[]]},'), (b"{", b'"a":1,'),
            (b"{", b'"a":[1,2],'), (b'"data":{', b'"infos":["a"],'),
            (b'"metric":{', b'"a":"b",'), (b"{", b'"warnings":["",""],'), (b"", b"{}"),
            (b"", b'{"data":{"result":[]}}'),
        )
    ),
    *(
        ("promtool-json", before, filling)
        for before, filling in ((b"[", b"{},"), (b'"values": [', b"[],"), (b"", b"[]"), (b"[{", b'"a":1,'))
    ),
    *(
        ("guidellm", before, filling)
        for before, filling in (
            (b'"benchmarks": [', b"1,"), (b'"benchmarks": [', b"{},"), (b'"successful": [', b"1,"),
            (b'"successful": [', b"{},"), (b'"requests": {', b'"a":[],'), (b"{", b'"a":1,'),
            (b"{", b'"metadata":{},'), (b'"metrics": {', b'"a":1,'), (b"", b"{}"),
            (b"", b'{"benchmarks":[]}'),
        )
    ),
    *(
        (kind, before, filling)
        for kind in ("vllm-bench", "sglang-bench", "inferencex", "genai-perf")
        for before, filling in (
            (b"", b"{}"), (b"", b"[]"), (b"", b"1 "), (b"", b"[1],"), (b"{", b'"a":1,'), (b"", b'""'),
        )
    ),
    ("vllm-bench", b'"ttfts": [', b"1,"),
    ("vllm-bench", b'"itls": [', b"[],"),
    ("vllm-bench", b'"errors": [', b'"",'),
    ("inferencex", b"[", b"1,"),
    ("inferencex", b"[", b"{},"),
    ("inferencex", b"[", b"[],"),
    ("genai-perf", b'"input_config": {', b'"a":{},'),
    *(
        (kind, before, filling)
        for kind in ("vm-jsonl", "aiperf-jsonl", "mooncake")
        for before, filling in ((b"", b"{}\n"), (b"", b"1\n"), (b"{", b'"a":1,'))
    ),
    ("vm-jsonl", b'"values":[', b'"",'),
    *(
        ("otlp-jsonl", before, filling)
        for before, filling in (
            (b'"resourceMetrics": [', b"{},"), (b'"metrics": [', b"{},"), (b'"dataPoints": [', b"{},"),
            (b'"bucketCounts": [', b'"1",'), (b"", b"{}\n"),
        )
    ),
    *(
        ("grafana-frame", before, filling)
        for before, filling in ((b'"frames": [', b"{},"), (b'"values": [[', b"1,"), (b'"fields": [', b"{},"))
    ),
    *(
        (kind, before, filling)
        for kind, before in (("datadog", b'"series": ['), ("gcp-timeseries", b'"timeSeries": ['),
                             ("cloudwatch-data", b'"MetricDataResults": ['))
        for filling in (b"{},", b"1,", b"[],")
    ),
    ("datadog", b'"pointlist": [', b"[1,1],"),
    ("cloudwatch-stream", b"", b"{}\n"),
    ("mooncake", b'"hash_ids": [', b"1,"),
)  # fmt: skip
"""Format, what stands in a valid file of it, and what is put in behind that again and again."""
