"""Reference pages of the settings and of doctor's checks, from their rows."""

from __future__ import annotations

import inspect
import json
from collections import Counter
from collections.abc import Sequence
from typing import Any

from reference_text import Chapter, chapters, page, sentence, table

from hs_analysis.catalogue import load_catalogue
from hs_analysis.cli.settings import constants
from hs_analysis.doctor import CHECKS
from hs_analysis.doctor.inventory import REQUIREMENT_ROWS, how_to_get
from hs_analysis.schema.constants import Constant
from hs_analysis.schema.declare import declared
from hs_analysis.schema.settings import MetricRow, TableRow
from hs_analysis.settings.registry import SETTINGS, Setting
from hs_analysis.settings.sections import SECTIONS


def _default_of(setting: Setting) -> str:
    """Return a default as hsa.toml writes it."""
    return "" if setting.default in (None, ()) else f"`{setting.example}`"


def settings_page() -> str:
    """Return the reference of every setting: key, default, unit, provenance, variable and flag."""
    heads = ["key", "what", "form", "default", "unit", "why this default", "variable", "flag"]
    parts, groups = [], dict.fromkeys(setting.key.rpartition(".")[0] for setting in SETTINGS)
    for group in groups:
        rows = [
            (
                f"`{s.key.rpartition('.')[2]}`", s.meaning, s.kind.name, _default_of(s), s.unit, s.provenance,
                f"`{s.variable}`", f"`{s.flag}`" if s.flag else "",
            )
            for s in SETTINGS
            if s.key.rpartition(".")[0] == group
        ]  # fmt: skip
        parts += [f"## {group}" if group else "## Above the first section", table(heads, rows)]
    parts += [
        "## Sections with keys of your own",
        "These are in the file only, but for `captures` and `queries`: `--capture`, `--query`.",
    ]
    for section in SECTIONS:
        header = f"[{section.name}.fleet]" if section.name == "tables" else f"[{section.name}]"
        example = "\n".join([header, *section.example])
        parts += [f"### {section.name}", f"{sentence(section.meaning)}.", f"```toml\n{example}\n```"]
    parts += ["Keys of a `[tables.NAME]`:", _keys(TableRow)]
    parts += ["Keys of a metric, and of a column of a table:", _keys(MetricRow)]
    lead = (
        "What `hsa.toml`, `HSA_*` variables and flags can set; a flag wins over a variable, a variable over "
        "the file. A variable is `HSA_` and the key in capitals, with `_` for the dots; lists are separated "
        "by commas. "
        "[How to configure](../howto/configure.md) explains which file is read when."
    )
    return page("Settings", lead, parts)


def _keys(kind: type[Any]) -> str:
    """Return a row for each key that a dataclass holds."""
    return table(["key", "what"], [(f"`{one.name}`", sentence(f"{one.meaning}.")) for one in declared(kind)])


def constants_pages() -> dict[str, str]:
    """Return the reference of every constant that tunes an answer, stage by stage."""
    rows = list(constants())
    parts = [table(["provenance", "constants"], [(kind, str(n)) for kind, n in _counted(rows)])]
    stages = []
    for stage in dict.fromkeys(row.stage for row in rows):
        of = [row for row in rows if row.stage == stage]
        cells = [
            (f"`{row.name}`", f"`{json.dumps(row.value)}`", row.unit, sentence(row.meaning),
             f"{row.provenance}: {row.source}" if row.source else row.provenance)
            for row in of
        ]  # fmt: skip
        columns = table(["constant", "value", "unit", "what it decides", "provenance"], cells)
        stages.append(Chapter(stage, f"Constants: {stage}", (str(len(of)),), [columns]))
    lead = (
        "The numbers that tune an answer and are no settings, as `hsa settings --all` lists them. `shared` "
        "holds for several stages, `policy` for the selection too. A default was set by judgement, a "
        "measured number was set on the data named. "
        "Not listed are units, mathematical facts, formats, defaults of other autoscalers, and "
        "how fine a grid or a sum is."
    )
    return chapters("constants", ("Constants", lead, parts), ["stage", "constants"], stages)


def _counted(rows: Sequence[Constant]) -> list[tuple[str, int]]:
    return Counter(row.provenance for row in rows).most_common()


def checks_page() -> str:
    """Return the reference of the checks and of what later stages need."""
    rows = [
        (
            ", ".join(f"`{name}`" for name in check.names),
            inspect.cleandoc(check.run.__doc__ or "").splitlines()[0],
            ", ".join(check.levels),
            sentence(check.then),
        )
        for check in CHECKS
    ]
    catalogue = load_catalogue()
    asked = [
        (
            need.stage,
            ", ".join(need.roles) + (" (two pools)" if need.split else ""),
            need.need,
            need.without,
            how_to_get(need, catalogue).replace("{role}", "ROLE"),
        )
        for need in REQUIREMENT_ROWS
    ]
    parts = [
        table(["check", "what it looks at", "may say", "what to do"], rows),
        "## What later stages need",
        table(["stage", "of", "need", "without it", "how to get it"], asked),
    ]
    lead = (
        "What `hsa doctor` checks, in the order of `data/findings.parquet`. `pass` is a fact to know, `warn` "
        "something that lowers what can be said, `fail` something that makes an answer wrong; "
        "`--fail-on check-failed` ends with exit code 3 for a `fail`. A check that has nothing to look at "
        "says nothing. The needs below are in `data/doctor.json`, met or not, per service and role."
    )
    return page("Checks", lead, parts)
