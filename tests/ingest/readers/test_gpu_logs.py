"""Logs of nvidia-smi, amd-smi and dcgmi under the names of the vendors' exporters."""

from __future__ import annotations

from typing import Any

import pytest
from ingest.reading import read, series

from hs_analysis.errors import InputError
from hs_analysis.ingest.formats import FileStart, Format, sniff
from hs_analysis.ingest.readers.gpu_logs import read_amd_smi, read_dcgmi_dmon, read_nvidia_smi

T, S = 1_764_072_000_000_000, 1_000_000

NVIDIA = (
    "timestamp, index, uuid, name, power.draw [W], utilization.gpu [%], memory.used [MiB], ecc.mode.current\n"
    "2025/11/25 12:00:00.000, 0, GPU-1, NVIDIA H100, 412.11 W, 97 %, 81559 MiB, Enabled\n"
    "2025/11/25 12:00:00.000, 1, GPU-2, NVIDIA H100, [N/A], [Not Supported], 1 GiB, Enabled\n"
    "2025/11/25 12:00:01.500, 0, GPU-1, NVIDIA H100, fast, 0 %, 81559 MiB, Enabled\n"
)


def nvidia(text: str, **how: Any):  # type: ignore[no-untyped-def]
    return read(read_nvidia_smi, text.encode(), "logs/node-7.csv.gz", **how)


def test_nvidia_smi_speaks_like_dcgm_exporter() -> None:
    """Units in cells are undone, [N/A] is null, the host is the file's name."""
    pieces, notes = nvidia(NVIDIA, tz="UTC")
    one = 'Hostname="node-7", UUID="GPU-1", gpu="0", modelName="NVIDIA H100"'
    two = 'Hostname="node-7", UUID="GPU-2", gpu="1", modelName="NVIDIA H100"'
    late = T + 1_500_000
    assert series(pieces) == {
        f"DCGM_FI_DEV_POWER_USAGE{{{one}}}": [(T, 412.11, "")],
        f"DCGM_FI_DEV_POWER_USAGE{{{two}}}": [(T, None, "null")],
        f"DCGM_FI_DEV_GPU_UTIL{{{one}}}": [(T, 97.0, ""), (late, 0.0, "")],
        f"DCGM_FI_DEV_GPU_UTIL{{{two}}}": [(T, None, "null")],
        f"DCGM_FI_DEV_FB_USED{{{one}}}": [(T, 81559.0, ""), (late, 81559.0, "")],
        f"DCGM_FI_DEV_FB_USED{{{two}}}": [(T, 1024.0, "")],
    }
    assert [(r.position, r.detail) for r in notes.rejections] == [(4, "'fast' is no W")]
    assert {
        "nvidia-smi names no host: 'node-7' was taken from the file's name",
        "columns that are not read: ecc.mode.current",
    } <= set(notes.infos)


def test_nvidia_smi_without_units_or_zone_or_cards() -> None:
    plain = "timestamp, utilization.gpu [%]\n2025/11/25 12:00:00.000, 97\n"
    pieces, notes = nvidia(plain, tz="UTC")
    assert series(pieces) == {'DCGM_FI_DEV_GPU_UTIL{Hostname="node-7"}': [(T, 97.0, "")]}
    assert "no column tells cards apart" in notes.warnings[0]
    pieces, _ = nvidia(
        "timestamp, utilization.gpu [%], memory.used [GiB]\n2025/11/25 12:00, 1, 2\n", tz="UTC"
    )
    assert series(pieces)['DCGM_FI_DEV_FB_USED{Hostname="node-7"}'] == [(T, 2048.0, "")]
    with pytest.raises(InputError, match=r"no zone \(first: 2025/11/25 12:00:00.000\)"):
        nvidia(plain)


AMD = (
    "timestamp,gpu,xcp,power_usage,gfx,mem,vram_used\n1764072000,0,0,300 W,50 %,10,1000\n"
    "timestamp,gpu,xcp,power_usage,gfx,mem,vram_used\n1764072001,0,0,N/A,60,,1.5 GB\n"
)


def test_amd_smi_speaks_like_its_exporter() -> None:
    """Its header comes again with every sample, its times are whole Unix seconds."""
    pieces, notes = read(read_amd_smi, AMD.encode(), "mi300-1.csv")
    card = 'gpu_id="0", gpu_partition_id="0", hostname="mi300-1"'
    assert series(pieces) == {
        f"gpu_package_power{{{card}}}": [(T, 300.0, ""), (T + S, None, "null")],
        f"gpu_gfx_activity{{{card}}}": [(T, 50.0, ""), (T + S, 60.0, "")],
        f"gpu_umc_activity{{{card}}}": [(T, 10.0, ""), (T + S, None, "null")],
        f"gpu_used_vram{{{card}}}": [(T, 1000.0, ""), (T + S, 1500.0, "")],
    }
    assert "the header is repeated on 1 lines" in notes.infos
    with pytest.raises(InputError, match="no column timestamp; log it with a time"):
        read(read_amd_smi, b"gpu,gfx\n0,1\n", "m.csv")


DMON = (
    "2025-11-25T12:00:00Z #Entity   SMACT  TENSO  GPUTL\n2025-11-25T12:00:00Z ID\n"
    "2025-11-25T12:00:00Z GPU 0     0.912  0.521  100\n2025-11-25T12:00:00Z GPU 1     N/A    0.5   90\n"
    "2025-11-25T12:00:01Z GPU 0     0.5    0.1\nwhat is this\n"
    "2025-11-25T12:00:02Z # Entity  SMACT\n2025-11-25T12:00:02Z GPU 0   0.25\n"
    "2025-11-25T12:00:02Z GPU-I 0   0.75\n"
)


def test_dmon_speaks_like_dcgm_exporter() -> None:
    """Columns follow the last header; a line that has none of its values is set aside."""
    pieces, notes = read(read_dcgmi_dmon, DMON.encode(), "node-7.txt")
    got = series(pieces)
    one, two = 'Hostname="node-7", gpu="0"', 'Hostname="node-7", gpu="1"'
    assert got == {
        f"DCGM_FI_PROF_SM_ACTIVE{{{one}}}": [(T, 0.912, ""), (T + 2 * S, 0.25, "")],
        f"DCGM_FI_PROF_SM_ACTIVE{{{two}}}": [(T, None, "null")],
        'DCGM_FI_PROF_SM_ACTIVE{Hostname="node-7", gpu="GPU-I 0"}': [(T + 2 * S, 0.75, "")],
        f"DCGM_FI_PROF_PIPE_TENSOR_ACTIVE{{{one}}}": [(T, 0.521, "")],
        f"DCGM_FI_PROF_PIPE_TENSOR_ACTIVE{{{two}}}": [(T, 0.5, "")],
        f"DCGM_FI_DEV_GPU_UTIL{{{one}}}": [(T, 100.0, "")],
        f"DCGM_FI_DEV_GPU_UTIL{{{two}}}": [(T, 90.0, "")],
    }
    assert [(r.position, r.detail) for r in notes.rejections] == [
        (6, "no line of dcgmi dmon"), (5, "2 values, the header has 3"),
    ]  # fmt: skip


def test_dmon_without_times_says_how_to_write_them() -> None:
    text = b"#Entity   SMACT\nID\nGPU 0     0.912\n"
    with pytest.raises(InputError, match=r"writes no times \(line 3\); prefix each line with its time"):
        read(read_dcgmi_dmon, text, "node-7.txt")


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        (NVIDIA, "nvidia-smi-csv"), (AMD, "amd-smi-csv"), (DMON, "dcgmi-dmon"),
        ("#Entity   SMACT\nID\nGPU 0     0.912\n", "dcgmi-dmon"),
    ],
)  # fmt: skip
def test_logs_are_known_by_their_header(text: str, kind: str) -> None:
    found = sniff(FileStart(text.encode()))
    assert isinstance(found, Format)
    assert found.id == kind
