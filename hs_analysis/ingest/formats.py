"""Which reader reads a file, decided by its first bytes and never by its name; else why none does."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from hs_analysis.errors import InputError, UsageError, first_of
from hs_analysis.ingest.delimited import split_header
from hs_analysis.ingest.losses import SourceLoss
from hs_analysis.ingest.near_misses import KnownDamage, near_miss
from hs_analysis.ingest.parquet_rows import MAGIC, column_names
from hs_analysis.ingest.readers.aiperf import (
    is_aiperf_jsonl,
    is_aiperf_parquet,
    read_aiperf_jsonl,
    read_aiperf_parquet,
)
from hs_analysis.ingest.readers.benchmarks import (
    is_genai_perf,
    is_guidellm,
    is_inferencex,
    is_sglang_bench,
    is_vllm_bench,
    read_genai_perf,
    read_guidellm,
    read_inferencex,
    read_sglang_bench,
    read_vllm_bench,
)
from hs_analysis.ingest.readers.cloudwatch import DATA_LOSSES as CLOUDWATCH_DATA_LOSSES
from hs_analysis.ingest.readers.cloudwatch import STREAM_LOSSES as CLOUDWATCH_STREAM_LOSSES
from hs_analysis.ingest.readers.cloudwatch import (
    is_cloudwatch_data,
    is_cloudwatch_stream,
    read_cloudwatch_data,
    read_cloudwatch_stream,
)
from hs_analysis.ingest.readers.datadog import LOSSES as DATADOG_LOSSES
from hs_analysis.ingest.readers.datadog import (
    is_datadog,
    read_datadog,
)
from hs_analysis.ingest.readers.gcp import LOSSES as GCP_LOSSES
from hs_analysis.ingest.readers.gcp import is_gcp_timeseries, read_gcp_timeseries
from hs_analysis.ingest.readers.gpu_logs import (
    is_amd_smi,
    is_dcgmi_dmon,
    is_nvidia_smi,
    read_amd_smi,
    read_dcgmi_dmon,
    read_nvidia_smi,
)
from hs_analysis.ingest.readers.grafana_csv import LOSSES as CSV_LOSSES
from hs_analysis.ingest.readers.grafana_csv import is_grafana_csv, read_grafana_csv
from hs_analysis.ingest.readers.grafana_frames import LOSSES as FRAME_LOSSES
from hs_analysis.ingest.readers.grafana_frames import is_grafana_frames, read_grafana_frames
from hs_analysis.ingest.readers.otlp import LOSSES as OTLP_LOSSES
from hs_analysis.ingest.readers.otlp import is_otlp_jsonl, read_otlp_jsonl
from hs_analysis.ingest.readers.profiles import (
    is_dynamo_profile,
    is_silicon,
    read_dynamo_profile,
    read_silicon,
)
from hs_analysis.ingest.readers.prometheus import (
    is_exposition,
    is_openmetrics,
    is_promtool_json,
    is_promtool_text,
    read_exposition,
    read_openmetrics,
    read_prometheus_json,
    read_promtool_json,
    read_promtool_text,
)
from hs_analysis.ingest.readers.table import HOW_TO_MAP, is_described, read_table
from hs_analysis.ingest.readers.traces import (
    is_azure,
    is_burstgpt,
    is_mooncake,
    read_azure,
    read_burstgpt,
    read_mooncake,
)
from hs_analysis.ingest.readers.tsdb import is_tsdb_dump, is_tsdb_tar, read_tsdb, read_tsdb_dump
from hs_analysis.ingest.readers.victoriametrics import is_vm_jsonl, is_vm_native, read_vm_jsonl
from hs_analysis.ingest.rows import Dump, Piece, ReadNotes
from hs_analysis.ingest.streams import BOM
from hs_analysis.schema.settings import Reading

_GENERATOR = (
    re.compile(rb"\s*\d+(\.\d+)?,\d[\d.eE+-]*,[\d.eE+-]+,(Gamma|Weibull|Exponential|Poisson)\b,"),
    re.compile(rb'\s*\{\s*"\d+"\s*:\s*\{\s*"(input_tokens|output_tokens)"\s*:\s*"\{'),
)


_SHARES = frozenset((b"cdf", b"cdf_pct", b"percentile", b"quantile"))
"""Columns that give shares of samples instead of times."""

_TIMES = re.compile(rb"\b(time|timestamp|ts|t_s|date|datetime|arrival)\b", re.IGNORECASE)


def is_servegen(head: bytes) -> bool:
    """Whether a head is a chunk of ServeGen: rates with a distribution, or distributions of lengths."""
    return any(pattern.match(head) for pattern in _GENERATOR)


def is_distribution(head: bytes) -> bool:
    """Whether a head is a table of a cumulative distribution: a column of shares and none of times."""
    header, newline, _ = head[:4096].partition(b"\n")
    names = [name.strip().strip(b'"') for name in header.split(b",")]
    is_table = bool(newline) and len(names) > 1 and not header.startswith((b"{", b"["))
    return is_table and not _SHARES.isdisjoint(names) and not _TIMES.search(header)


def refuse_servegen(dump: Dump, notes: ReadNotes) -> Iterator[Piece]:  # noqa: ARG001
    """Say what a ServeGen chunk is.

    Raises
    ------
    InputError
        Always.
    """
    raise InputError(
        "parameters of a workload generator (ServeGen), not a log of requests",
        where=dump.where,
        hint="generate requests from them, or give a table of rates and describe it under [tables]",
    )


def refuse_distribution(dump: Dump, notes: ReadNotes) -> Iterator[Piece]:  # noqa: ARG001
    """Say what a table of distributions is.

    Raises
    ------
    InputError
        Always.
    """
    raise InputError(
        "distributions of metrics, without times: nothing can be said about load, lag or stability from it",
        where=dump.where,
        hint="export the series that the distributions were made of",
    )


HEAD_BYTES = 1 << 16
"""How much of a file is looked at to tell its format."""


PAGE, QUERY_RANGE, VM_EXPORT, OPENMETRICS, RAW_DUMP, SNAPSHOT = range(6)
"""How faithful a form is: where two hold the same metric at the same time the higher one is kept.

VictoriaMetrics keeps 12 to 13 digits of a value; a page is dated by its file.
"""


PANEL, DIFFERENCES = -2, -1
"""Below all dumps: displayed values of a thinned panel, and counters that count from the start of a run."""


@dataclass(frozen=True)
class FileStart:
    """What a format is told by.

    ``head`` is the first decompressed bytes, at most HEAD_BYTES of them; ``name`` the path below the input.
    Only tables that the user described are known by their name; ``path`` is for formats that say at their
    end what they hold.
    """

    head: bytes
    name: str = ""
    reading: Reading = field(default_factory=Reading)
    path: Path | None = None

    @property
    def text(self) -> bytes:
        """The head without byte order mark and leading blanks."""
        return self.head.removeprefix(BOM).lstrip()


@dataclass(frozen=True)
class Format:
    """A format: how to know it, and the reader that yields what it holds.

    A new reader is a module with a function that reads, and a row in FORMATS.

    Attributes
    ----------
    id
        Name in messages, in the manifest and for ``--format``.
    recognise
        Whether a file is of it.
    read
        Yields series, requests or benchmark points; every row it sees is yielded or noted as rejected.
    form
        How faithful its samples are.
    momentary
        Whether a file is one moment, so that a folder of them is part of the capture of the folder above.
    looks_back
        Whether it is a server's answer on a grid, which repeats the last value across a scrape gap.
    losses
        What the source can't give, although a scrape of the exporter would.
    """

    id: str
    recognise: Callable[[FileStart], bool]
    read: Callable[[Dump, ReadNotes], Iterator[Piece]]
    form: int = QUERY_RANGE
    momentary: bool = False
    looks_back: bool = False
    losses: tuple[SourceLoss, ...] = ()


_ENVELOPE = re.compile(rb'\{\s*"(status|data|isPartial|warnings|infos|error|errorType|stats|trace)"\s*:')
"""First key of an API answer; VictoriaMetrics and Thanos put their own keys there too."""

_CONTENT = re.compile(rb'"(resultType|errorType)"\s*:|"data"\s*:\s*\{\s*"result"\s*:')
"""What makes it one: a result or an error; with sorted keys the result stands before its type."""


def _is_api_answer(look: FileStart) -> bool:
    return _starts_as_answer(look.text)


def _starts_as_answer(head: bytes) -> bool:
    return bool(_ENVELOPE.match(head)) and bool(_CONTENT.search(head))


def _is_cut(head: bytes) -> bool:
    """Whether a small file starts as an API answer and stops before it says of what."""
    if not _ENVELOPE.match(head) or _starts_as_answer(head) or len(head) > HEAD_BYTES // 2:
        return False
    try:
        json.JSONDecoder().raw_decode(head.decode("utf-8", "replace"))  # others may follow
    except (ValueError, RecursionError):
        return True
    return False


def _html_title(head: bytes) -> str:
    title = re.search(rb"<title[^>]*>([^<]*)", head, re.IGNORECASE)
    text = title.group(1).decode("utf-8", "replace").strip()[:80] if title else ""
    return f"an HTML page ({text})" if text else "an HTML page"


FORMATS: tuple[Format, ...] = (
    Format("table", lambda look: is_described(look.name, look.reading), read_table),
    Format("prom-api", _is_api_answer, read_prometheus_json, looks_back=True),
    Format(
        "cloudwatch-data",
        lambda look: is_cloudwatch_data(look.text),
        read_cloudwatch_data,
        PANEL,
        losses=CLOUDWATCH_DATA_LOSSES,
    ),
    Format(
        "cloudwatch-stream",
        lambda look: is_cloudwatch_stream(look.text),
        read_cloudwatch_stream,
        PANEL,
        losses=CLOUDWATCH_STREAM_LOSSES,
    ),
    Format(
        "gcp-timeseries", lambda look: is_gcp_timeseries(look.text), read_gcp_timeseries, losses=GCP_LOSSES
    ),
    Format("datadog", lambda look: is_datadog(look.text), read_datadog, PANEL, losses=DATADOG_LOSSES),
    Format(
        "grafana-csv",
        lambda look: is_grafana_csv(look.text),
        read_grafana_csv,
        PANEL,
        looks_back=True,
        losses=CSV_LOSSES,
    ),
    Format(
        "grafana-frame",
        lambda look: is_grafana_frames(look.text),
        read_grafana_frames,
        PANEL,
        looks_back=True,
        losses=FRAME_LOSSES,
    ),
    Format(
        "aiperf-parquet",
        lambda look: is_aiperf_parquet(look.head, look.path),
        read_aiperf_parquet,
        DIFFERENCES,
    ),
    Format("aiperf-jsonl", lambda look: is_aiperf_jsonl(look.text), read_aiperf_jsonl),
    Format("guidellm", lambda look: is_guidellm(look.text), read_guidellm),
    Format("vllm-bench", lambda look: is_vllm_bench(look.text), read_vllm_bench),
    Format("sglang-bench", lambda look: is_sglang_bench(look.text), read_sglang_bench),
    Format("inferencex", lambda look: is_inferencex(look.text), read_inferencex),
    Format("genai-perf", lambda look: is_genai_perf(look.text), read_genai_perf),
    Format("azure-csv", lambda look: is_azure(look.text), read_azure),
    Format("burstgpt", lambda look: is_burstgpt(look.text), read_burstgpt),
    Format("mooncake", lambda look: is_mooncake(look.text), read_mooncake),
    Format("servegen", lambda look: is_servegen(look.text), refuse_servegen),
    Format("aiconfigurator-silicon", lambda look: is_silicon(look.text), read_silicon),
    Format("dynamo-profile", lambda look: is_dynamo_profile(look.head), read_dynamo_profile),
    Format("gpu-distribution", lambda look: is_distribution(look.text), refuse_distribution),
    Format("nvidia-smi-csv", lambda look: is_nvidia_smi(look.text), read_nvidia_smi),
    Format("amd-smi-csv", lambda look: is_amd_smi(look.text), read_amd_smi),
    Format("dcgmi-dmon", lambda look: is_dcgmi_dmon(look.text), read_dcgmi_dmon),
    Format("promtool-json", lambda look: is_promtool_json(look.text), read_promtool_json, looks_back=True),
    Format("promtool-text", lambda look: is_promtool_text(look.text), read_promtool_text, looks_back=True),
    Format("vm-jsonl", lambda look: is_vm_jsonl(look.text), read_vm_jsonl, VM_EXPORT),
    Format(
        "otlp-jsonl", lambda look: is_otlp_jsonl(look.text), read_otlp_jsonl, VM_EXPORT, losses=OTLP_LOSSES
    ),
    Format("tsdb", lambda look: is_tsdb_tar(look.head), read_tsdb, SNAPSHOT),
    Format("tsdb-dump", lambda look: is_tsdb_dump(look.text), read_tsdb_dump, RAW_DUMP),
    Format("openmetrics", lambda look: is_openmetrics(look.text), read_openmetrics, OPENMETRICS),
    Format("exposition", lambda look: is_exposition(look.text), read_exposition, PAGE, momentary=True),
)
"""A table the user described comes first: the description is by name, and they know their file."""

DAMAGES: tuple[KnownDamage, ...] = (
    KnownDamage(
        "empty",
        lambda head: not head.strip(),
        lambda _: "an empty file",
        "repeat the export and check its exit code",
    ),
    KnownDamage(
        "html",
        lambda head: head[:1] == b"<",
        lambda head: f"{_html_title(head)}, not a metric dump",
        "log in or fix the URL or token, then export again",
    ),
    KnownDamage(
        "vm-native",
        is_vm_native,
        lambda _: "a binary export of VictoriaMetrics",
        "export it as JSON lines with /api/v1/export",
    ),
    KnownDamage(
        "cut",
        _is_cut,
        lambda head: f"JSON that ends in the middle at byte {len(head)}",
        "export this file again",
    ),
)


def sniff(look: FileStart) -> Format | KnownDamage | None:
    """Return the format of a file, the damage it shows, or None for what is not a dump."""
    for damage in DAMAGES:
        if damage.recognise(look.text):
            return damage
    return next((f for f in FORMATS if f.recognise(look)), None)


def format_named(name: str) -> Format:
    """Return a format by its id.

    Raises
    ------
    UsageError
        When there is none; the message lists the ids.
    """
    found = next((f for f in FORMATS if f.id == name), None)
    if found is None:
        ids = ", ".join(f.id for f in FORMATS)
        raise UsageError(f"no such format {name!r}", where="--format", hint=f"known: {ids}")
    return found


EXPORT = "export it with /api/v1/query_range as JSON"

NO_DUMP = "not a metric dump this tool reads"

WRAPPED = "holds API answers inside a document of its own"

UNWRAP = "write each answer to a file of its own, as the server gave it, and name its query with --query"

MOST_NAMES = 20
"""Columns that a message lists."""


def describe_unknown(head: bytes, path: Path) -> tuple[str, str]:
    """Return what a file is and what to do: a table lists its columns, so that they can be mapped.

    Answers that a script put together under names of its own are told: nobody but it knows what they answer.
    So are files that hold no values and come from where dumps come from, with the export that works.
    """
    if miss := near_miss(head):
        return miss.what(head), miss.hint
    columns = column_names(path) if head[: len(MAGIC)] == MAGIC else _csv_columns(head)
    if columns:
        named = first_of([name[:60] for name in columns], MOST_NAMES)
        return f"a table that no reader knows, with the columns {named}", HOW_TO_MAP
    return (WRAPPED, UNWRAP) if _ANSWER.search(head) else (NO_DUMP, EXPORT)


_ANSWER = re.compile(rb'"status"\s*:\s*"success"\s*,\s*"data"\s*:\s*\{\s*"resultType"')
"""How an answer of the Prometheus API begins, wherever it stands."""


def _csv_columns(head: bytes) -> list[str]:
    """Return the names of a header that the next line fits, none when it is no table."""
    try:
        lines = head.removeprefix(BOM).decode("utf-8", "ignore").splitlines()
        lines = [line for line in lines if line.strip()][:2]
        if len(lines) < 2 or lines[0].lstrip()[:1] in ("{", "[", "<", "#"):
            return []
        names, delimiter = split_header(lines[0])
        cells = next(csv.reader([lines[1]], delimiter=delimiter), [])
    except csv.Error:
        return []
    return names if len(names) > 1 and len(cells) == len(names) and all(names) else []
