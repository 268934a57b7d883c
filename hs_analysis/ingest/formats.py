"""Which reader reads a file, decided by its first bytes and never by its name."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from hs_analysis.errors import UsageError
from hs_analysis.ingest.aiperf import (
    is_aiperf_jsonl,
    is_aiperf_parquet,
    read_aiperf_jsonl,
    read_aiperf_parquet,
)
from hs_analysis.ingest.bench_json import (
    is_genai_perf,
    is_inferencex,
    is_sglang_bench,
    is_vllm_bench,
    read_genai_perf,
    read_inferencex,
    read_sglang_bench,
    read_vllm_bench,
)
from hs_analysis.ingest.bytestream import BOM
from hs_analysis.ingest.dcgmi_dmon import is_dcgmi_dmon, read_dcgmi_dmon
from hs_analysis.ingest.exposition import is_exposition, read_exposition
from hs_analysis.ingest.grafana_csv import is_grafana_csv, read_grafana_csv
from hs_analysis.ingest.guidellm import is_guidellm, read_guidellm
from hs_analysis.ingest.node_logs import (
    is_amd_smi,
    is_nvidia_smi,
    read_amd_smi,
    read_nvidia_smi,
)
from hs_analysis.ingest.openmetrics import is_openmetrics, read_openmetrics
from hs_analysis.ingest.profiles import (
    is_dynamo_profile,
    is_silicon,
    read_dynamo_profile,
    read_silicon,
)
from hs_analysis.ingest.prometheus_json import read_prometheus_json
from hs_analysis.ingest.promtool import (
    is_promtool_json,
    is_promtool_text,
    read_promtool_json,
    read_promtool_text,
)
from hs_analysis.ingest.raw import Dump, Piece, ReadNotes
from hs_analysis.ingest.refused import is_distribution, is_servegen, refuse_distribution, refuse_servegen
from hs_analysis.ingest.table import is_described, read_table
from hs_analysis.ingest.traces import (
    is_azure,
    is_burstgpt,
    is_mooncake,
    read_azure,
    read_burstgpt,
    read_mooncake,
)
from hs_analysis.ingest.tsdb_blocks import is_tsdb_tar, read_tsdb
from hs_analysis.ingest.tsdb_dump import is_tsdb_dump, read_tsdb_dump
from hs_analysis.ingest.vm_jsonl import is_vm_jsonl, is_vm_native, read_vm_jsonl
from hs_analysis.schema.settings import Reading

HEAD_BYTES = 1 << 16
"""How much of a file is looked at to tell its format."""


PAGE, QUERY_RANGE, VM_EXPORT, OPENMETRICS, RAW_DUMP, SNAPSHOT = range(6)
"""How faithful a form is: where two hold the same metric at the same time the higher one is kept.

VictoriaMetrics keeps 12 to 13 digits of a value; a page is dated by its file.
"""


PANEL, DIFFERENCES = -2, -1
"""Below all dumps: displayed values of a thinned panel, and counters that count from the start of a run."""


@dataclass(frozen=True)
class Look:
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
    """

    id: str
    recognise: Callable[[Look], bool]
    read: Callable[[Dump, ReadNotes], Iterator[Piece]]
    form: int = QUERY_RANGE
    momentary: bool = False
    looks_back: bool = False


@dataclass(frozen=True)
class Damage:
    """Something that pretends to be a dump: how to know it, what it is, what to do."""

    id: str
    recognise: Callable[[bytes], bool]
    what: Callable[[bytes], str]
    hint: str


_ENVELOPE = re.compile(rb'\{\s*"(status|data|isPartial|warnings|infos|error|errorType|stats|trace)"\s*:')
"""First key of an API answer; VictoriaMetrics and Thanos put their own keys there too."""

_CONTENT = re.compile(rb'"(resultType|errorType)"\s*:|"data"\s*:\s*\{\s*"result"\s*:')
"""What makes it one: a result or an error; with sorted keys the result stands before its type."""


def _is_api_answer(look: Look) -> bool:
    return _starts_as_answer(look.text)


def _starts_as_answer(head: bytes) -> bool:
    return bool(_ENVELOPE.match(head)) and bool(_CONTENT.search(head))


def _is_cut(head: bytes) -> bool:
    """Whether a small file starts as an API answer and stops before it says of what."""
    if not _ENVELOPE.match(head) or _starts_as_answer(head) or len(head) > HEAD_BYTES // 2:
        return False
    try:
        json.loads(head)
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
    Format("grafana-csv", lambda look: is_grafana_csv(look.text), read_grafana_csv, PANEL, looks_back=True),
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
    Format("tsdb", lambda look: is_tsdb_tar(look.head), read_tsdb, SNAPSHOT),
    Format("tsdb-dump", lambda look: is_tsdb_dump(look.text), read_tsdb_dump, RAW_DUMP),
    Format("openmetrics", lambda look: is_openmetrics(look.text), read_openmetrics, OPENMETRICS),
    Format("exposition", lambda look: is_exposition(look.text), read_exposition, PAGE, momentary=True),
)
"""A table the user described comes first: the description is by name, and they know their file."""

DAMAGES: tuple[Damage, ...] = (
    Damage(
        "empty",
        lambda head: not head.strip(),
        lambda _: "an empty file",
        "repeat the export and check its exit code",
    ),
    Damage(
        "html",
        lambda head: head[:1] == b"<",
        lambda head: f"{_html_title(head)}, not a metric dump",
        "log in or fix the URL or token, then export again",
    ),
    Damage(
        "vm-native",
        is_vm_native,
        lambda _: "a binary export of VictoriaMetrics",
        "export it as JSON lines with /api/v1/export",
    ),
    Damage(
        "cut",
        _is_cut,
        lambda head: f"JSON that ends in the middle at byte {len(head)}",
        "export this file again",
    ),
)


def sniff(look: Look) -> Format | Damage | None:
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
