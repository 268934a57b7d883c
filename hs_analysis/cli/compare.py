"""``hsa compare``: two runs of the same services, and which of their answers differ beyond the intervals."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from hs_analysis.cli.groups import grouped
from hs_analysis.cli.options import FormFlags
from hs_analysis.cli.shown import Block, Shown, Table, show
from hs_analysis.errors import RunFolderError

COMPARE_HELP = """hsa compare reports/june reports/july

Two runs of the same services: verdicts that changed, and numbers with their intervals: beyond means that the
intervals do not overlap, within that they do, unknown that there is none. --output json has what is the same,
too. Exit code 0 whatever changed; --fail-on verdict-changed:RUN of hsa run is for gates."""


@grouped
def compare(
    a: Annotated[Path, typer.Argument(metavar="A", help="A run folder.", show_default=False)],
    b: Annotated[Path, typer.Argument(metavar="B", help="Another one.", show_default=False)],
    *,
    form: FormFlags,
) -> None:
    """Print what changed from A to B."""
    from hs_analysis.compare import compare_runs
    from hs_analysis.pipeline.records import to_plain

    rows: list[dict[str, Any]] = to_plain(compare_runs(_summary(a), _summary(b)))
    changed = [row for row in rows if row["change"] != "same"]
    same = len(rows) - len(changed)
    data = {"a": str(a), "b": str(b), "same": same, "differences": rows}
    show(Shown(data, rows, lambda: _blocks(a, b, changed, same)), form.output, no_color=form.no_color)


def _summary(folder: Path) -> dict[str, Any]:
    from hs_analysis.pipeline.folder import require
    from hs_analysis.pipeline.results import read_summary

    if "report" not in require(folder).stages:
        raise RunFolderError("the run has no summary yet", where=str(folder), hint=f"hsa report {folder}")
    return read_summary(folder)


def _blocks(a: Path, b: Path, changed: list[dict[str, Any]], same: int) -> list[Block]:
    from hs_analysis.cli.tables import with_interval

    def told(row: dict[str, Any], side: str) -> Any:
        value = row[side]
        return with_interval(value, row[f"{side}_ci"]) if isinstance(value, float | int) else value

    rows = [{**row, "a": told(row, "a"), "b": told(row, "b")} for row in changed]
    columns = [
        ("service", "service"), ("what", "what"), ("of", "of"), ("a", str(a)), ("b", str(b)),
        ("change", "change"),
    ]  # fmt: skip
    beyond = sum(row["change"] in ("beyond", "changed") for row in changed)
    return [
        Table("What changed", columns, rows, empty="nothing"),
        f"{beyond} beyond their intervals or in words, {len(changed) - beyond} other, {same} the same",
    ]
