"""``hsa settings``: every setting in effect and where it is from; every constant that tunes an answer."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer

from hs_analysis.cli.options import (
    ConfigFlags,
    FormFlags,
    HistoryFlags,
    MachineFlags,
    MethodFlags,
    ReadingFlags,
    SloFlags,
    grouped,
)
from hs_analysis.cli.output import Block, CommandOutput, Table, write_output
from hs_analysis.errors import UsageError
from hs_analysis.pipeline import effective
from hs_analysis.pipeline.effective import Effective
from hs_analysis.pipeline.records import to_plain
from hs_analysis.schema.constants import Constant, declared
from hs_analysis.schema.settings import CountLimits
from hs_analysis.settings.file import DEFAULT, Layer
from hs_analysis.settings.registry import DURATION, MACHINE, SETTINGS
from hs_analysis.settings.sections import SECTIONS

SETTINGS_HELP = """hsa settings --slo ttft=1s

Every setting that a run would use here, or that a run folder was made with, and where each is from: default,
hsa.toml, an HSA_* variable or a flag. --all adds the constants that tune an answer, with what each rests on:
an outside source, a measurement, or a default of this project. They cannot be set."""

STAGES = {
    "shared": "hs_analysis.schema.constants",
    "statistics": "hs_analysis.statistics.constants",
    "study": "hs_analysis.study.constants",
    "derive": "hs_analysis.derive.constants",
    "policy": "hs_analysis.policy.constants",
    "select": "hs_analysis.select.constants",
    "replay": "hs_analysis.replay.constants",
    "export": "hs_analysis.export.constants",
}
"""Where the constants of each stage are declared."""


@grouped
def settings(
    run: Annotated[
        Path | None,
        typer.Argument(
            metavar="RUN", help="A run folder; unless said, what hsa run would use here.", show_default=False
        ),
    ] = None,
    *,
    everything: Annotated[
        bool,
        typer.Option("--all", help="Also list every constant that tunes an answer: value, unit, provenance."),
    ] = False,
    config: ConfigFlags,
    reading: ReadingFlags,
    history: HistoryFlags,
    slo: SloFlags,
    method: MethodFlags,
    machine: MachineFlags,
    form: FormFlags,
) -> None:
    """Print the settings in effect."""
    layers = [group.layer() for group in (reading, history, slo, method, machine)]
    used = _of_run(run, config.config, layers) if run else effective.for_inputs(config.config, layers)
    for warning in used.warnings:
        typer.echo(f"warning: {warning}", err=True)
    listed = rows(used)
    columns = [(name, name) for name in ("setting", "value", "unit", "source")]
    file = used.config or "none"
    blocks: list[Block] = [Table("Settings", columns, listed), f"settings file: {file}"]
    data: dict[str, Any] = {"settings_file": used.config or None, "settings": listed}
    if everything:
        found = [constant_row(one) for one in constants()]
        data["constants"] = found
        found = [row | {"value": json.dumps(row["value"])} for row in found]
        blocks += [Table("Constants", [(name, name) for name in CONSTANT_COLUMNS], found)]
        listed = [{name: row.get(name) for name in LISTED_COLUMNS} for row in (*listed, *found)]
    write_output(CommandOutput(data, listed, lambda: blocks), form.output, no_color=form.no_color)


CONSTANT_COLUMNS = ("constant", "value", "unit", "source", "meaning")
LISTED_COLUMNS = ("setting", "value", "unit", "source", "constant", "meaning")
"""Columns of a CSV with settings and constants in one table."""


def constants() -> Iterator[Constant]:
    """Yield every constant that tunes an answer, stage by stage."""
    for stage, module in STAGES.items():
        yield from declared(stage, import_module(module))


def constant_row(one: Constant) -> dict[str, Any]:
    """Return a constant as a row: name with its stage, value, unit, what it rests on, and meaning."""
    source = f"{one.provenance}: {one.source}" if one.source else one.provenance
    return {
        "constant": f"{one.stage}.{one.name}", "value": one.value, "unit": one.unit, "source": source,
        "meaning": one.meaning,
    }  # fmt: skip


def _of_run(run: Path, config: Path | None, layers: list[Layer]) -> Effective:
    """Return the settings a run was made with; given ones would be refused or change the run."""
    from hs_analysis.pipeline.records import from_plain
    from hs_analysis.pipeline.run_folder import require
    from hs_analysis.pipeline.session import of_run
    from hs_analysis.schema.settings import Machine

    given = [one.source for layer in layers for one in layer.values()]
    if given or config:
        hint = "leave it out: a run's settings are those it was made with"
        raise UsageError(
            "is for a run that is still to be made", where=given[0] if given else "--config", hint=hint
        )
    found = require(run)
    return Effective(of_run(found), from_plain(Machine, found.machine), {}, found.origins, found.config)


def rows(used: Effective) -> list[dict[str, Any]]:
    """Return one row per setting: key, value, unit, and where it is from; null is not given."""
    listed = []
    for setting in SETTINGS:
        value = _value(used, setting.field)
        if setting.kind is DURATION and value is not None:
            value = f"{value:g}s"
        listed.append(_row(used, setting.key, setting.field, value, setting.unit))
    for section in SECTIONS:
        value = _value(used, section.field)
        for key, one in value.items():
            text = one if isinstance(one, str | float | int) else json.dumps(_given(one), ensure_ascii=False)
            listed.append(_row(used, f"{section.name}.{json.dumps(key)}", section.field, text, ""))
    return listed


def _row(used: Effective, key: str, field: str, value: Any, unit: str) -> dict[str, Any]:
    bare = isinstance(value, int | float)  # text carries its unit
    source = used.origins.get(field, DEFAULT)
    return {"setting": key, "value": value, "unit": unit if bare else "", "source": source}


def _value(used: Effective, field: str) -> Any:
    first, *rest = field.split(".")
    place: Any = used.machine if first == MACHINE else getattr(used.settings, first)
    for part in rest:
        place = place.get(part) if isinstance(place, Mapping) else getattr(place, part)
    if isinstance(place, CountLimits):
        return str(place)
    if isinstance(place, tuple):
        return [_words(one) for one in place]
    return place


def _words(one: Any) -> str:
    """Return an item of a list as a word: a stretch as START..END, an event as its time and text."""
    if isinstance(one, str):
        return one
    given = _given(one)
    ends = [str(given[name]) for name in ("start", "t", "end") if name in given]
    said = [str(given[name]) for name in ("kind", "label", "text") if name in given]
    return " ".join(["..".join(ends), ": ".join(said)]).rstrip()


def _given(one: Any) -> dict[str, Any]:
    """Return a row of settings without what nobody said."""
    return {key: value for key, value in to_plain(one).items() if value not in (None, "", {}, [])}
