"""Flags become settings by their words; what was not given changes nothing."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import pytest
import typer
from typer.testing import CliRunner

from hs_analysis.cli import flag_values
from hs_analysis.cli.options import (
    HistoryFlags,
    MachineFlags,
    MethodFlags,
    OutputFlags,
    ReadingFlags,
    SloFlags,
    grouped,
)
from hs_analysis.errors import UsageError
from hs_analysis.settings.file import Layer, resolve


def given(layer: Layer) -> dict[str, Any]:
    """Return the values of a layer, with times of no zone refused."""
    return resolve([layer])[0]


def test_slo_words() -> None:
    """Limits in seconds, the share as a number or percentage, the window."""
    assert given(flag_values.slo(["ttft=2.5s", "tbt=50ms", "quantile=99%", "window=1m"])) == {
        "slo.ttft_s": 2.5, "slo.tbt_s": 0.05, "slo.quantile": 0.99, "slo.window_s": 60.0,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        (["ttft"], "has no value"),
        (["ttft="], "has no value"),
        (["tftt=1s"], "no such limit 'tftt'; did you mean ttft"),
        (["e2e=1s"], "known: ttft, tbt, quantile, window"),
        (["ttft=1s", "ttft=2s"], "ttft is given twice"),
        (["quantile=1.5"], "not between 0 and 1"),
        (["quantile=p95"], "not a share"),
    ],
)
def test_bad_slo_words(typed: list[str], message: str) -> None:
    """A misspelt or impossible limit is never taken for another."""
    with pytest.raises(UsageError, match=message):
        flag_values.slo(typed)


def test_startup_for_all_and_for_one() -> None:
    """One time for every pool; a time for one pool wins over it, in either order."""
    assert given(flag_values.startup(["240s"])) == dict.fromkeys(
        ("startup_s.prefill", "startup_s.decode", "startup_s.mixed"), 240.0
    )
    assert given(flag_values.startup(["prefill=4m"])) == {"startup_s.prefill": 240.0}
    mixed = {"startup_s.prefill": 60.0, "startup_s.decode": 240.0, "startup_s.mixed": 240.0}
    assert given(flag_values.startup(["240s", "prefill=60s"])) == mixed
    assert given(flag_values.startup(["prefill=60s", "240s"])) == mixed


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        (["prefil=1s"], "did you mean prefill"),
        (["prefill=1s", "prefill=2s"], "given twice"),
        (["1s", "2s"], "given twice"),
        (["prefill="], "not a duration"),
    ],
)
def test_bad_startup_words(typed: list[str], message: str) -> None:
    """Unknown pools and doubled values are refused."""
    with pytest.raises(UsageError, match=message):
        flag_values.startup(typed)


@pytest.mark.parametrize(
    ("group", "want"),
    [
        (HistoryFlags(), {}),
        (HistoryFlags(pressure_test=True), {"history_kind": "pressure_test"}),
        (HistoryFlags(pressure_test=False), {"history_kind": "production"}),
        (HistoryFlags(start="2026-07-01T00:00Z"), {"start": "2026-07-01T00:00:00Z"}),
        (HistoryFlags(service=["a/b", "c"]), {"service": ("a/b", "c")}),
        (MethodFlags(seed=0), {"seed": 0}),
        (SloFlags(slo=["ttft=1s"]), {"slo.ttft_s": 1.0}),
        (MachineFlags(memory_limit="2GB"), {"machine.memory_limit": "2GB"}),
        (ReadingFlags(), {}),
        (ReadingFlags(tz="UTC", salvage=True), {"reading.tz": "UTC", "reading.salvage": True}),
        (ReadingFlags(format="prom-api", time_unit="ms"),
         {"reading.format": "prom-api", "reading.time_unit": "ms"}),
        (ReadingFlags(on_conflict="max", dedup_label="replica"),
         {"reading.on_conflict": "max", "reading.dedup_label": "replica"}),
        (ReadingFlags(legend_regex="(?P<pod>.+)"), {"reading.legend_regex": "(?P<pod>.+)"}),
        (ReadingFlags(epoch="2026-07-01T00:00Z"), {"reading.epoch": "2026-07-01T00:00:00Z"}),
    ],
)  # fmt: skip
def test_only_given_flags_change_settings(group: Any, want: dict[str, Any]) -> None:
    """A flag that was not given leaves the setting as it is."""
    assert given(group.layer()) == want


def test_bounds_in_order() -> None:
    """The end comes after the start, whatever the zones."""
    with pytest.raises(UsageError, match=r"--from and --to: .* is not before"):
        given(HistoryFlags(start="2026-07-02T00:00Z", end="2026-07-01T00:00Z").layer())
    with pytest.raises(UsageError, match="is not before"):
        given(HistoryFlags(start="2026-07-01T01:00+01:00", end="2026-07-01T00:00Z").layer())


def test_captures_are_names_and_places(tmp_path: Path) -> None:
    """A place must be there, a name stands once."""
    here = str(tmp_path)
    assert flag_values.captures([f"a={here}", f"b.c={here}"]) == {"a": here, "b.c": here}
    for typed, message in (
        ([here], "not NAME=PATH"),
        ([f"a={here}", f"a={here}"], "given twice"),
        ([f"a={here}/none"], "no such file or folder"),
    ):
        with pytest.raises(UsageError, match=message):
            flag_values.captures(typed)


def test_quiet_and_verbose_contradict() -> None:
    """Both at once is a mistake."""
    with pytest.raises(UsageError, match="contradict"):
        OutputFlags(quiet=True, verbose=True)


@dataclass(frozen=True)
class Colours:
    """A group of two flags."""

    red: Annotated[int, typer.Option("--red", help="how red")] = 0
    blue: Annotated[list[str] | None, typer.Option("--blue", help="how blue")] = None


def test_grouped_flags_are_flags() -> None:
    """A group's fields are the command's options, and come back as the group."""
    seen: list[Any] = []

    @grouped
    def paint(what: Annotated[str, typer.Argument()], colours: Colours, *, dry: bool = False) -> None:
        """Paint."""
        seen.append((what, colours, dry))

    assert list(inspect.signature(paint).parameters) == ["what", "red", "blue", "dry"]
    program = typer.Typer()
    program.command()(paint)
    result = CliRunner().invoke(program, ["wall", "--blue", "a", "--red", "3", "--blue", "b"])
    assert result.exit_code == 0, result.output
    assert seen == [("wall", Colours(3, ["a", "b"]), False)]
