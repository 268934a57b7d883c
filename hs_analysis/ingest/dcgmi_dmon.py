"""Output of `dcgmi dmon`, each line prefixed with its time, under dcgm-exporter's names."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

import numpy as np
import polars as pl

from hs_analysis.errors import InputError
from hs_analysis.ingest.delimited import Records
from hs_analysis.ingest.line_blocks import line_blocks, shown
from hs_analysis.ingest.mapped import timed
from hs_analysis.ingest.node_logs import Column, card_series, host_of
from hs_analysis.ingest.raw import Dump, RawSeries, ReadNotes, Rejection
from hs_analysis.ingest.times import Clock

DMON_FIELDS = {
    "GPUTL": "DCGM_FI_DEV_GPU_UTIL", "MCUTL": "DCGM_FI_DEV_MEM_COPY_UTIL", "POWER": "DCGM_FI_DEV_POWER_USAGE",
    "TMPTR": "DCGM_FI_DEV_GPU_TEMP", "FBUSD": "DCGM_FI_DEV_FB_USED", "FBFRE": "DCGM_FI_DEV_FB_FREE",
    "SMCLK": "DCGM_FI_DEV_SM_CLOCK", "MMCLK": "DCGM_FI_DEV_MEM_CLOCK",
    "TOTEC": "DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION", "GRACT": "DCGM_FI_PROF_GR_ENGINE_ACTIVE",
    "SMACT": "DCGM_FI_PROF_SM_ACTIVE", "SMOCC": "DCGM_FI_PROF_SM_OCCUPANCY",
    "TENSO": "DCGM_FI_PROF_PIPE_TENSOR_ACTIVE", "DRAMA": "DCGM_FI_PROF_DRAM_ACTIVE",
    "FP64A": "DCGM_FI_PROF_PIPE_FP64_ACTIVE", "FP32A": "DCGM_FI_PROF_PIPE_FP32_ACTIVE",
    "FP16A": "DCGM_FI_PROF_PIPE_FP16_ACTIVE", "PCITX": "DCGM_FI_PROF_PCIE_TX_BYTES",
    "PCIRX": "DCGM_FI_PROF_PCIE_RX_BYTES", "NVLTX": "DCGM_FI_PROF_NVLINK_TX_BYTES",
    "NVLRX": "DCGM_FI_PROF_NVLINK_RX_BYTES",
}  # fmt: skip
"""Short names of dcgmi dmon's columns (dcgmi dmon -l) → names of the fields."""

NO_TIMES = (
    "prefix each line with its time: dcgmi dmon -e 203,1002 | "
    'while read -r l; do echo "$(date -u +%Y-%m-%dT%H:%M:%SZ) $l"; done'
)

_ENTITY = re.compile(
    r"(?:(?P<time>\S.*?)\s+)?(?P<kind>GPU|GPU-I|GPU-CI|CPU|Switch)\s+(?P<id>\d+)\s+(?P<rest>\S.*)"
)

LONGEST_LINE_BYTES = 1 << 13
"""A line of dmon holds a value a field, of which there are some hundred."""

_HEADER = re.compile(r"(?:(?P<time>\S.*?)\s+)?#\s*Entity\s+(?P<names>\S.*)", re.IGNORECASE)


def is_dcgmi_dmon(head: bytes) -> bool:
    """Whether one of the first lines is the header of ``dcgmi dmon``."""
    lines = head[:4096].decode("utf-8", "replace").splitlines()[:5]
    return any(_HEADER.fullmatch(line.strip()) for line in lines)


def read_dcgmi_dmon(dump: Dump, notes: ReadNotes) -> Iterator[RawSeries]:
    """Yield the series of ``dcgmi dmon``, each line prefixed with its time.

    Raises
    ------
    InputError
        When lines carry no time: dmon writes none.
    """
    clock = Clock(dump.where, dump.reading.tz, dump.reading.time_unit)
    names: list[str] = []
    rows: list[tuple[int, str, str, str, list[str]]] = []
    for block in line_blocks(dump, notes):
        for number, line in enumerate(block.lines, block.number):
            text = line[:LONGEST_LINE_BYTES].decode("utf-8", "replace").strip()
            if len(line) > LONGEST_LINE_BYTES:
                _reject(number, line, "no line of dcgmi dmon", notes)
            elif header := _HEADER.fullmatch(text):
                yield from _dmon_series(rows, names, dump, clock, notes)
                rows, names = [], header["names"].split()
            elif entity := _ENTITY.fullmatch(text):
                if not entity["time"]:
                    raise InputError(
                        f"dcgmi dmon writes no times (line {number})", where=dump.where, hint=NO_TIMES
                    )
                kind, name = entity["kind"], entity["id"]
                card = name if kind == "GPU" else f"{kind} {name}"
                rows.append((number, text, entity["time"], card, entity["rest"].split()))
            elif text and text.split()[-1] not in ("ID", "Id"):
                _reject(number, line, "no line of dcgmi dmon", notes)
        yield from _dmon_series(rows, names, dump, clock, notes)
        rows = []
    warnings, infos = clock.notes()
    notes.warnings += warnings
    notes.infos += [*infos, f"dcgmi names no host: {host_of(dump)!r} was taken from the file's name"]
    clock.require_zone()


def _reject(number: int, line: bytes, detail: str, notes: ReadNotes) -> None:
    notes.rows += 1
    notes.rejections.append(Rejection(number, "bad_value", shown(line), detail, "", ""))


def _dmon_series(
    rows: Sequence[tuple[int, str, str, str, list[str]]], names: Sequence[str], dump: Dump, clock: Clock,
    notes: ReadNotes,
) -> Iterator[RawSeries]:  # fmt: skip
    """Yield the series of the lines under one header."""
    whole = [row for row in rows if len(row[4]) == len(names)]
    for number, text, _, _, cells in rows:
        if len(cells) != len(names):
            _reject(number, text.encode(), f"{len(cells)} values, the header has {len(names)}", notes)
    if not whole:
        return
    frame = pl.DataFrame(
        {"time#": [row[2] for row in whole], "gpu#": [row[3] for row in whole]}
        | {f"{i}": [row[4][i] for row in whole] for i in range(len(names))}
    )
    records = Records(frame, np.array([row[0] for row in whole], np.int64), [row[1] for row in whole])
    kept, t_us = timed(records, "time#", clock, notes)
    for i, name in enumerate(names):
        target = Column(DMON_FIELDS.get(name.upper(), name), "")
        fixed = {"Hostname": host_of(dump)}
        yield from card_series(kept, f"{i}", target, "", t_us, {"gpu#": "gpu"}, fixed, notes)
