"""Logs of nvidia-smi, amd-smi and `dcgmi dmon`, under the names of the vendors' Prometheus exporters.

So the catalogue reads a node's log as it reads the exporter's series. Times are local and carry no zone;
the host is the file's name, because no column says it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from hs_analysis.catalogue.rows import conversion
from hs_analysis.errors import InputError
from hs_analysis.ingest.delimited import Records, header_names, numbers, read_delimited, with_unit
from hs_analysis.ingest.readers.table import reject_row, timed
from hs_analysis.ingest.rows import Dump, RawSeries, ReadNotes, series_text
from hs_analysis.ingest.text_lines import line_blocks, reject_line
from hs_analysis.ingest.timestamps import Clock


@dataclass(frozen=True)
class LogColumn:
    """What a column of a log is called by the exporter, and the unit it has there."""

    metric: str
    unit: str


@dataclass(frozen=True)
class LogTool:
    """How a tool's CSV is read: columns by name without unit, labels of a card, and the label of the host."""

    name: str
    columns: Mapping[str, LogColumn]
    labels: Mapping[str, str]
    host: str
    cards: tuple[str, ...]


_UTIL, _ACTIVITY = LogColumn("DCGM_FI_DEV_GPU_UTIL", "percent"), LogColumn("gpu_gfx_activity", "percent")

NVIDIA_SMI = LogTool(
    "nvidia-smi",
    {
        "utilization.gpu": _UTIL,
        "utilization.memory": LogColumn("DCGM_FI_DEV_MEM_COPY_UTIL", "percent"),
        "memory.used": LogColumn("DCGM_FI_DEV_FB_USED", "MiB"),
        "memory.free": LogColumn("DCGM_FI_DEV_FB_FREE", "MiB"),
        "memory.total": LogColumn("DCGM_FI_DEV_FB_TOTAL", "MiB"),
        "power.draw": LogColumn("DCGM_FI_DEV_POWER_USAGE", "W"),
        "power.draw.average": LogColumn("DCGM_FI_DEV_POWER_USAGE", "W"),
        "temperature.gpu": LogColumn("DCGM_FI_DEV_GPU_TEMP", "C"),
        "temperature.memory": LogColumn("DCGM_FI_DEV_MEMORY_TEMP", "C"),
        "clocks.sm": LogColumn("DCGM_FI_DEV_SM_CLOCK", "MHz"),
        "clocks.current.sm": LogColumn("DCGM_FI_DEV_SM_CLOCK", "MHz"),
        "clocks.mem": LogColumn("DCGM_FI_DEV_MEM_CLOCK", "MHz"),
        "clocks.current.memory": LogColumn("DCGM_FI_DEV_MEM_CLOCK", "MHz"),
    },
    {"index": "gpu", "uuid": "UUID", "gpu_uuid": "UUID", "name": "modelName", "gpu_name": "modelName",
     "pci.bus_id": "pci_bus_id", "gpu_bus_id": "pci_bus_id"},
    "Hostname",
    ("index", "uuid", "gpu_uuid", "pci.bus_id", "gpu_bus_id"),
)  # fmt: skip
"""nvidia-smi --help-query-gpu, and dcgm-exporter's names for the same."""

AMD_SMI = LogTool(
    "amd-smi",
    {
        "gfx": _ACTIVITY, "gfx_util": _ACTIVITY, "gfx_activity": _ACTIVITY, "gfx_%": _ACTIVITY,
        "mem": LogColumn("gpu_umc_activity", "percent"), "mem_util": LogColumn("gpu_umc_activity", "percent"),
        "umc_activity": LogColumn("gpu_umc_activity", "percent"),
        "power_usage": LogColumn("gpu_package_power", "W"), "power": LogColumn("gpu_package_power", "W"),
        "socket_power": LogColumn("gpu_package_power", "W"),
        "vram_used": LogColumn("gpu_used_vram", "MB"), "used_vram": LogColumn("gpu_used_vram", "MB"),
        "hotspot_temperature": LogColumn("gpu_junction_temperature", "C"),
        "memory_temperature": LogColumn("gpu_memory_temperature", "C"),
    },
    {"gpu": "gpu_id", "xcp": "gpu_partition_id"},
    "hostname",
    ("gpu",),
)  # fmt: skip
"""amd-smi monitor and metric, and the device-metrics-exporter's names for the same."""

_SPELLED = {"%": "percent", "C": "C", "MHz": "MHz", "MB": "MB", "MiB": "MiB", "W": "W", "GB": "GB"}


def is_nvidia_smi(head: bytes) -> bool:
    """Whether a head begins with the header of ``nvidia-smi --query-gpu=… --format=csv``."""
    names = _header_names(head)
    return "timestamp" in names and "utilization.gpu" in names


def is_amd_smi(head: bytes) -> bool:
    """Whether a head begins with the header of ``amd-smi monitor --csv`` or ``amd-smi metric --csv``."""
    names = _header_names(head)
    return (
        "gpu" in names and any(name in AMD_SMI.columns for name in names) and "utilization.gpu" not in names
    )


def _header_names(head: bytes) -> set[str]:
    return {_bare(name)[0] for name in header_names(head)}


def _bare(name: str) -> tuple[str, str]:
    """Return a column's name and the unit it carries in brackets."""
    before, _, unit = name.partition("[")
    return (before.strip(), unit[:-1]) if len(unit) > 1 and unit.endswith("]") else (name, "")


def host_of(dump: Dump) -> str:
    """Return the host a log is of: the file's name without its endings."""
    return dump.name.rpartition("/")[2].partition(".")[0]


def read_nvidia_smi(dump: Dump, notes: ReadNotes) -> Iterator[RawSeries]:
    """Yield the series of an nvidia-smi log, named as dcgm-exporter names them.

    Every known column's cell is a row of the count. Cells may carry their unit; ``[N/A]`` is null.

    Raises
    ------
    InputError
        When its times carry no zone and none is given.
    """
    yield from _read(NVIDIA_SMI, dump, notes)


def read_amd_smi(dump: Dump, notes: ReadNotes) -> Iterator[RawSeries]:
    """Yield the series of an amd-smi log, named as AMD's device-metrics-exporter names them.

    Raises
    ------
    InputError
        When it has no times, or none with a zone and none is given.
    """
    yield from _read(AMD_SMI, dump, notes)


def _read(tool: LogTool, dump: Dump, notes: ReadNotes) -> Iterator[RawSeries]:
    clock = Clock(dump.where, dump.reading.tz, dump.reading.time_unit)
    said = False
    for records in read_delimited(dump, notes):
        names = {name: _bare(name) for name in records.cells.columns}
        known = {c: (tool.columns[bare], unit) for c, (bare, unit) in names.items() if bare in tool.columns}
        labels = {c: tool.labels[bare] for c, (bare, _) in names.items() if bare in tool.labels}
        time = next((c for c, (bare, _) in names.items() if bare == "timestamp"), None)
        if time is None:
            raise InputError(
                f"the {tool.name} log has no column timestamp", where=dump.where,
                hint="log it with a time: nvidia-smi --query-gpu=timestamp,…, amd-smi monitor -w 1 --csv",
            )  # fmt: skip
        if not said:
            said = True
            _note_columns(tool, dump, [bare for bare, _ in names.values()], notes)
        kept, t_us = timed(records, time, clock, notes)
        fixed = {tool.host: host_of(dump)}
        for column, (target, unit) in known.items():
            yield from card_series(
                records=kept,
                column=column,
                target=target,
                unit=unit,
                t_us=t_us,
                labels=labels,
                fixed=fixed,
                notes=notes,
            )
    warnings, infos = clock.notes()
    notes.warnings += warnings
    notes.infos += infos
    clock.require_zone()


def _note_columns(tool: LogTool, dump: Dump, names: Sequence[str], notes: ReadNotes) -> None:
    notes.infos.append(f"{tool.name} names no host: {host_of(dump)!r} was taken from the file's name")
    if not set(tool.cards).intersection(names):
        notes.warnings.append(f"no column tells cards apart; log one of {', '.join(tool.cards)} too")
    unread = [n for n in names if n not in tool.columns and n not in tool.labels and n != "timestamp"]
    if unread:
        notes.infos.append(f"columns that are not read: {', '.join(unread[:20])}")


def card_series(
    records: Records, column: str, target: LogColumn, unit: str, t_us: np.ndarray, labels: Mapping[str, str],
    fixed: Mapping[str, str], notes: ReadNotes,
) -> Iterator[RawSeries]:  # fmt: skip
    """Yield one series a card of one column."""
    values, flags, bad = in_unit(records.cells[column], unit, target.unit)
    keyed = records.cells.select(list(labels)).with_row_index("row#")
    groups = keyed.group_by(list(labels), maintain_order=True).agg("row#") if labels else None
    rows = groups.iter_rows(named=True) if groups is not None else [{"row#": range(records.cells.height)}]
    for row in rows:
        at = np.array(row["row#"], np.int64)
        named = {label: str(row[c]) for c, label in labels.items() if row.get(c)}
        found = {**fixed, **named, "__name__": target.metric}
        for i in at[bad[at]].tolist():
            detail = f"{records.cells[column][i]!r} is no {target.unit}"[:120]
            reject_row(records, i, "bad_value", detail, notes, column, series_text(found))
        use = at[~bad[at]]
        notes.rows += use.size
        if use.size:
            yield RawSeries(found, t_us[use], values[use], flags[use], int(records.lines[use[0]]))


def in_unit(column: pl.Series, unit: str, wanted: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return values in the unit wanted, flags, and which cells are bad; a cell's own unit comes first."""
    found = numbers(column)
    values, bad = found.values, found.bad
    values *= _size(unit, wanted) or 1.0
    for i in np.flatnonzero(bad).tolist():
        cell = _cell(column[i], wanted)
        if cell is not None:
            values[i], found.flags[i], bad[i] = cell, 0, False
    return values, found.flags, bad


def _cell(text: str, wanted: str) -> float | None:
    number, _, spelled = text.partition(" ")
    if spelled.strip() == wanted and (plain := numbers(pl.Series([number], dtype=pl.String))).bad.sum() == 0:
        return float(plain.values[0])
    read = with_unit(text)
    size = _size(read[1], wanted) if read is not None else None
    return None if read is None or size is None else read[0] * size


def _size(unit: str, wanted: str) -> float | None:
    """Return the factor from one unit to another, None when they don't measure the same."""
    spelled = _SPELLED.get(unit, unit)
    return 1.0 if spelled in ("", wanted) else conversion(spelled, wanted)


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
                reject_line(number, line, "bad_value", "no line of dcgmi dmon", notes)
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
                reject_line(number, line, "bad_value", "no line of dcgmi dmon", notes)
        yield from _dmon_series(rows, names, dump, clock, notes)
        rows = []
    warnings, infos = clock.notes()
    notes.warnings += warnings
    notes.infos += [*infos, f"dcgmi names no host: {host_of(dump)!r} was taken from the file's name"]
    clock.require_zone()


def _dmon_series(
    rows: Sequence[tuple[int, str, str, str, list[str]]], names: Sequence[str], dump: Dump, clock: Clock,
    notes: ReadNotes,
) -> Iterator[RawSeries]:  # fmt: skip
    """Yield the series of the lines under one header."""
    whole = [row for row in rows if len(row[4]) == len(names)]
    for number, text, _, _, cells in rows:
        if len(cells) != len(names):
            reject_line(
                number, text.encode(), "bad_value", f"{len(cells)} values, the header has {len(names)}", notes
            )
    if not whole:
        return
    frame = pl.DataFrame(
        {"time#": [row[2] for row in whole], "gpu#": [row[3] for row in whole]}
        | {f"{i}": [row[4][i] for row in whole] for i in range(len(names))}
    )
    records = Records(frame, np.array([row[0] for row in whole], np.int64), [row[1] for row in whole])
    kept, t_us = timed(records, "time#", clock, notes)
    for i, name in enumerate(names):
        target = LogColumn(DMON_FIELDS.get(name.upper(), name), "")
        fixed = {"Hostname": host_of(dump)}
        yield from card_series(
            records=kept,
            column=f"{i}",
            target=target,
            unit="",
            t_us=t_us,
            labels={"gpu#": "gpu"},
            fixed=fixed,
            notes=notes,
        )
