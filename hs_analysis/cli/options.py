"""Flags that several commands share, each spelt and explained once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from hs_analysis.cli.values import bounds_changes, slo_changes, startup_changes

INPUT, METHOD, OUTPUT = "Input", "Method", "Output"

Format = Literal["table", "json", "yaml", "csv"]

Inputs = Annotated[
    list[Path],
    typer.Argument(metavar="INPUT", help="Files or folders of Prometheus dumps.", show_default=False),
]
Run = Annotated[
    Path,
    typer.Argument(metavar="RUN", help="A run folder, as hsa run or hsa ingest made it.", show_default=False),
]
SloFlag = Annotated[
    list[str] | None,
    typer.Option(
        "--slo", metavar="LIMIT", rich_help_panel=METHOD, show_default=False,
        help="ttft=2.5s, tbt=50ms, quantile=0.95 (share of requests or token gaps that must hold) or "
        "window=60s; repeat it. There is no default limit.",
    ),
]  # fmt: skip
StartupFlag = Annotated[
    list[str] | None,
    typer.Option(
        "--startup", metavar="TIME", rich_help_panel=METHOD, show_default=False,
        help="From asking for an instance to its first request: 240s, or prefill=240s; repeat it.",
    ),
]  # fmt: skip
PressureFlag = Annotated[
    bool | None,
    typer.Option(
        "--pressure-test/--production", rich_help_panel=METHOD, show_default=False,
        help="Whether someone set the load on purpose (a ramp, steps, a sweep); production unless said.",
    ),
]  # fmt: skip
FromFlag = Annotated[
    str | None,
    typer.Option(
        "--from", metavar="TIME", rich_help_panel=METHOD, show_default=False,
        help="Leave out what is before, e.g. 2026-07-01T00:00:00Z.",
    ),
]  # fmt: skip
ToFlag = Annotated[
    str | None,
    typer.Option(
        "--to", metavar="TIME", rich_help_panel=METHOD, show_default=False,
        help="Leave out what is from then on.",
    ),
]  # fmt: skip
SeedFlag = Annotated[
    int | None,
    typer.Option(
        "--seed", min=0, rich_help_panel=METHOD, show_default=False,
        help="Seed of every resampling; 0 unless said.",
    ),
]  # fmt: skip
RunDirFlag = Annotated[
    Path | None,
    typer.Option(
        "--run-dir", metavar="DIR", rich_help_panel=OUTPUT, show_default=False,
        help="Run folder; by default reports/<name>-<window>.",
    ),
]  # fmt: skip
ForceFlag = Annotated[
    bool,
    typer.Option(
        "--force", rich_help_panel=OUTPUT, help="Start the run folder again, even one made from other inputs."
    ),
]  # fmt: skip
FormatFlag = Annotated[
    Format, typer.Option("--output", "-o", rich_help_panel=OUTPUT, help="Form of the result on stdout.")
]
QuietFlag = Annotated[
    bool, typer.Option("--quiet", "-q", rich_help_panel=OUTPUT, help="Nothing on stderr but errors.")
]
NoColorFlag = Annotated[
    bool, typer.Option("--no-color", rich_help_panel=OUTPUT, help="No colour; NO_COLOR does the same.")
]


@dataclass(frozen=True)
class Method:
    """The method flags of a command, as they were given."""

    slo: Sequence[str] | None = None
    startup: Sequence[str] | None = None
    pressure_test: bool | None = None
    start: str | None = None
    end: str | None = None
    seed: int | None = None

    def changes(self) -> dict[str, Any]:
        """Return the settings that were given, by dotted name."""
        found = slo_changes(self.slo or ()) | startup_changes(self.startup or ())
        found |= bounds_changes(self.start, self.end)
        if self.pressure_test is not None:
            found["history_kind"] = "pressure_test" if self.pressure_test else "production"
        if self.seed is not None:
            found["seed"] = self.seed
        return found
