"""``hsa init``: a commented hsa.toml, and the sample dumps to try the tool on."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hs_analysis.cli.groups import grouped
from hs_analysis.cli.options import OUTPUT, FormFlags
from hs_analysis.cli.shown import Shown, show

INIT_HELP = """hsa init demo --demo

A commented hsa.toml with every setting; with --demo also a sample dump, and settings that fit it."""


@grouped
def init(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="Where to write; made when it is not there.")
    ] = Path(),
    demo: Annotated[
        bool, typer.Option("--demo", rich_help_panel=OUTPUT, help="Copy a sample dump too.")
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", rich_help_panel=OUTPUT, help="Write over what is there.")
    ] = False,
    *,
    form: FormFlags,
) -> None:
    """Write the files and say what to run next."""
    from hs_analysis.pipeline.starter import SAMPLE, write_starter

    written = write_starter(folder, demo=demo, force=force)
    dumps = str(folder / SAMPLE) if demo else "dumps/"
    config = "" if folder == Path() else f" --config {written[0]}"
    then = f"hsa run {dumps}{config}"
    data = {"written": [str(path) for path in written], "next": then}
    lines = [*(f"wrote {path}" for path in written), f"next: {then}"]
    show(
        Shown(data, [{"written": str(p)} for p in written], lambda: lines),
        form.output,
        no_color=form.no_color,
    )
