"""Write docs/reference/*.md and the JSON Schemas of the package from the code.

``python docs/generate.py`` writes them; with ``--check`` it writes nothing and exits 1 for a stale one.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Callable, Container, Iterator, Sequence
from itertools import product
from pathlib import Path
from signal import SIGINT, SIGTERM
from typing import Any, Literal, get_args, get_origin

import pyarrow as pa
import typer
from reference_text import Chapter, chapters, page, sentence, table
from settings_and_checks import checks_page, constants_pages, settings_page

from hs_analysis import errors
from hs_analysis.catalogue import Names, Signal, load_catalogue
from hs_analysis.catalogue.rows import RECORDED_BY
from hs_analysis.cli.app import COMMANDS, app
from hs_analysis.ingest.formats import FORMATS
from hs_analysis.ingest.near_misses import NEAR_MISSES
from hs_analysis.ingest.quality import quality_of
from hs_analysis.interrupts import SHELLS_BASE
from hs_analysis.pipeline.chain import STAGES
from hs_analysis.pipeline.cost import (
    ROW_S,
    SCRATCH_ROW_BYTES,
    SERVICE_DAY_BYTES,
    SERVICE_DAY_S,
    SERVICE_S,
    START_BYTES,
    START_S,
    STORED_ROW_BYTES,
    cost_of,
)
from hs_analysis.policy import declaration
from hs_analysis.schema import summary
from hs_analysis.schema.frames import CONTRACTS, DETAILS
from hs_analysis.schema.json_schema import SCHEMA_FILES, Json, schema_text
from hs_analysis.schema.tables import OUTCOMES, TESTS
from hs_analysis.settings import json_schema as settings_schema
from hs_analysis.store import operators_pack

ROOT = Path(__file__).resolve().parents[1]
REFERENCE = ROOT / "docs" / "reference"


def commands() -> Iterator[tuple[str, Any]]:
    """Yield (name, command) of every command, in the order of the help."""
    group = typer.main.get_command(app)
    context = group.make_context("hsa", [], resilient_parsing=True)
    for name in group.list_commands(context):
        yield name, group.get_command(context, name)


def flags(command: Any) -> list[Any]:
    """Return the options of a command that its help shows."""
    return [p for p in command.params if p.param_type_name == "option" and not getattr(p, "hidden", False)]


def _metavar(argument: Any) -> str:
    return argument.metavar or argument.name.upper()


def _spelling(option: Any) -> str:
    names = ", ".join(f"`{name}`" for name in (*option.opts, *option.secondary_opts))
    if option.is_flag:
        return names
    return f"{names} {option.metavar or _value_of(option.type_descriptor.annotation)}"


def _value_of(annotation: Any) -> str:
    if get_origin(annotation) is Literal:
        return "|".join(map(str, get_args(annotation)))
    return getattr(annotation, "__name__", str(annotation)).upper()


def _default(option: Any) -> str:
    plain = isinstance(option.default, str | int | float | Path) and not isinstance(option.default, bool)
    return f"`{option.default}`" if plain and not option.is_flag else ""


def _help(text: str) -> str:
    paragraphs = re.split(r"\n\s*\n", inspect.cleandoc(text).replace("\b", "").replace("\f", ""))
    return "\n\n".join(
        f"```\n{p}\n```" if re.match(r"\s*(\$ )?hsa ", p) else " ".join(p.split())
        for p in paragraphs
        if p.strip()
    )


def _command(name: str, command: Any) -> Chapter:
    arguments = [p for p in command.params if p.param_type_name == "argument"]
    usage = " ".join([f"hsa {name}", "[OPTIONS]", *map(_metavar, arguments)])
    parts = [_help(command.help or ""), f"```\n{usage}\n```"]
    if arguments:
        described = [(f"`{_metavar(p)}`", p.help or "") for p in arguments]
        parts.append(table(["argument", "what"], described))
    rows = [(_spelling(p), " ".join((p.help or "").split()), _default(p)) for p in flags(command)]
    parts.append(table(["flag", "what", "default"], rows))
    return Chapter(name, f"hsa {name}", (COMMANDS[name].brief,), parts)


def cli_pages() -> dict[str, str]:
    """Return the reference of all commands, from the Typer application."""
    lead = (
        "`hsa`, `hs-analysis` and `python -m hs_analysis` are one program. The result goes to stdout, "
        "the rest to stderr."
    )
    rows = [_command(name, command) for name, command in commands()]
    return chapters("cli", ("Commands", lead, []), ["command", "does"], rows)


def _reads(names: Names, scale: float) -> str:
    if names.histogram:
        text = f"`{names.histogram}` (histogram: sum ÷ count)"
        return f"{text} × {scale:g}" if scale != 1 else text
    shown = {"num": "", "den": ""}
    for term in names.terms:
        where = ",".join(f'{k}=~"{"|".join(v)}"' for k, v in sorted(term.where.items()))
        name = f"`{term.metric}{{{where}}}`" if where else f"`{term.metric}`"
        sign = " − " if term.sign < 0 else " + " if shown[term.side] else ""
        shown[term.side] += sign + name
    text = shown["num"] + (f" ÷ {shown['den']}" if shown["den"] else "")
    return f"{text} × {scale:g}" if scale != 1 else text


def _sources(signal: Signal) -> list[tuple[str, ...]]:
    """Return a row per source, and one more per older name of its metrics."""
    return [
        (
            f"{source.source}, until {names.until}" if names.until else source.source,
            "increase per second" if source.read == "rate" else "mean",
            _reads(names, source.scale),
            ", ".join(source.emitters) or "any",
            source.unit or signal.unit,
            "" if names.until else "; ".join(source.notes),
        )
        for source in signal.sources
        for names in source.names
        if names.renamed != RECORDED_BY
    ]


def signals_pages() -> dict[str, str]:
    """Return the reference of the signal catalogue."""
    catalogue = load_catalogue()
    heads = ["signal", "meaning", "unit", "role", "family", "over the pool"]
    pools = {"sum": "total", "mean": "mean", "ratio": "ratio of totals"}
    columns = ["exporter", "read as", "metric", "exporting pods", "exporter's unit", "notes"]
    rows = [
        Chapter(
            s.id,
            s.id,
            (s.meaning, s.unit, "of the pod" if s.role == "emitter" else s.role, s.family, pools[s.pool]),
            [
                f"{sentence(s.meaning)} [{s.unit}]. How to get it: {s.enable}.",
                table(columns, _sources(s)),
            ],
        )
        for s in catalogue.signals
    ]
    versions = [
        (e.name, ", ".join(f"`{p}`" for p in e.prefixes if p) or "any other", e.versions, e.enable)
        for e in catalogue.exporters
    ]
    exporters = ["exporter", "metric names begin with", "versions", "how to get it"]
    parts = ["## Exporters", table(exporters, versions), "## Signals"]
    lead = (
        f"What the tool knows how to read, as of {catalogue.date}. Of several sources the first with enough "
        "coverage is used; a metric that was renamed is one source under each of its names. Signals of the "
        "family `auxiliary` are never candidates for scaling."
    )
    return chapters("signals", ("Signals", lead, parts), heads, rows)


def _dtype(dtype: pa.DataType) -> str:
    if pa.types.is_timestamp(dtype):
        return "timestamp, µs, UTC"
    if pa.types.is_map(dtype):
        return "map text → text"
    if pa.types.is_list(dtype):
        return f"list of {_dtype(dtype.value_type)}"
    if pa.types.is_struct(dtype):
        return f"record ({', '.join(member.name for member in dtype)})"
    plain = {"string": "text", "double": "float", "int64": "integer", "bool": "true or false"}
    return plain.get(str(dtype), str(dtype))


def _with_unit(text: str) -> tuple[str, str]:
    """Return the unit and the meaning of a column from its line in a query's header."""
    unit = re.search(r" ?\[([^\]]*)\]", text)
    return (unit[1], text.replace(unit[0], "")) if unit else ("", text)


def _result_of(function: Callable[..., Any], query: str) -> Chapter:
    """Return the page of a table that a function makes, from the header of its reference query."""
    lines = (ROOT / "tests" / "reference_sql" / f"{query}.sql").read_text("utf-8").splitlines()
    header = [line.removeprefix("-- ") for line in lines if line.startswith("-- ")]
    grain = next(line.removeprefix("grain: ") for line in header if line.startswith("grain: "))
    columns = [line.removeprefix("out ").partition(": ") for line in header if line.startswith("out ")]
    rows = [(f"`{name}`", *_with_unit(text)) for name, _, text in columns]
    made = f"made by `{function.__module__}:{function.__qualname__}`"
    return Chapter(
        "quality",
        "quality",
        (sentence(grain),),
        [f"{sentence(grain)}; {made}.", table(["column", "unit", "meaning"], rows)],
    )


def _contract(name: str, schema: pa.Schema) -> Chapter:
    rows = []
    for column in schema:
        meta = {k.decode(): v.decode() for k, v in (column.metadata or {}).items()}
        meaning = meta["meaning"] + ("" if column.nullable else " (never null)")
        rows.append((f"`{column.name}`", _dtype(column.type), meta["unit"], meaning))
    grain = (schema.metadata or {}).get(b"grain", b"").decode()
    columns = table(["column", "type", "unit", "meaning"], rows)
    return Chapter(name, name, (sentence(grain),), [f"{sentence(grain)}.", columns])


FILES = (
    (
        "manifest.json",
        "versions, command line, settings, inputs with size and SHA-256; per stage what it read and wrote",
    ),
    ("summary.json", "every answer of the report as data; byte-equal for equal inputs, settings and seed"),
    ("policy.yaml", "the policy, one document a service, each number with its evidence link"),
    ("policy.schema.json", "its JSON Schema, which its first line names to editors"),
    (
        "exports/<target>/",
        "the policy as objects of other programs; `exports/index.json` lists what they can't express",
    ),
    (
        "exports/APPLY.md",
        "how to apply it: what to check, the commands in order, what to watch, how to go back",
    ),
    ("report.html", "the report: one file that needs no network"),
    ("report-anonymised.html", "the report with aliases for names, after `hsa report RUN --anonymise`"),
    ("run.duckdb", "views over the tables, for SQL of your own"),
    ("data/inputs.json", "the input files: rows read, stored, duplicate, quarantined, skipped"),
    (
        "data/doctor.json",
        "per signal and role: found or missing, its quality, how to switch it on; and what later stages need",
    ),
    ("data/services.json", "per service: pools, window, sources and totals of the aligned frame"),
    ("data/promql_notes.json", "what a PromQL expression in the policy leaves open"),
    (
        "data/frozen.parquet",
        "stretches in which the server repeated the last values (capture, first_t, last_t)",
    ),
    (
        "data/grids.parquet",
        "series on a query's grid: distance of its points, and the file (series_id, step_s, file)",
    ),
)


def files_pages() -> dict[str, str]:
    """Return the reference of the run folder: what each stage writes, and every table's columns."""
    stages = [(f"`{s.name}`", s.does, ", ".join(f"`{w}`" for w in s.writes)) for s in STAGES]
    parts = [
        table(["stage", "does", "writes"], stages),
        table(["file", "holds"], [(f"`{name}`", text) for name, text in FILES]),
        "Every table is Parquet; units and meanings of the columns travel in it as field metadata.",
        "## Tables",
    ]
    rows = [_contract(name, schema) for name, schema in CONTRACTS.items()]
    rows.append(_result_of(quality_of, "ingest/series_quality"))
    for schemas in (OUTCOMES, DETAILS, TESTS):
        rows += [_contract(name, schema) for name, schema in schemas.items()]
    lead = "Null is missing, never zero. Times are UTC, ratios prefill ÷ decode."
    return chapters("files", ("Files of a run folder", lead, parts), ["table", "a row"], rows)


def exit_codes_page() -> str:
    """Return the reference of exit codes, from the error classes."""
    kinds = [c for c in vars(errors).values() if inspect.isclass(c) and issubclass(c, errors.HsError)]
    words = {0: "the command did what was asked; warnings may be on stderr"}
    for code in sorted({kind.exit_code for kind in kinds}):
        same = [kind for kind in kinds if kind.exit_code == code and kind is not errors.ManyErrors]
        words[code] = " ".join(
            inspect.getdoc(kind).split("\n\n")[0].replace("\n", " ").replace("``", "`") for kind in same
        )
    words[SHELLS_BASE + SIGINT] = "interrupted with Ctrl-C; nothing half-written is left"
    words[SHELLS_BASE + SIGTERM] = "asked to end (SIGTERM); likewise"
    lead = (
        "An error is one line on stderr: what, where, what to do; at most three, then how many more. "
        "Stdout stays empty, but for the result behind a closed gate. A traceback is a bug of the tool."
    )
    return page(
        "Exit codes", lead, [table(["code", "means"], [(str(c), w) for c, w in sorted(words.items())])]
    )


def queries_page() -> str:
    """Return the reference of the operators' pack, from the headers of its queries."""
    parts = [table(["query", "answers"], [(f"`@{q.name}`", q.purpose) for q in operators_pack()])]
    for query in operators_pack():
        reads = ", ".join(f"[`{name}`](files/{name}.md)" for name in query.reads)
        rows = [(f"`{name}`", *_with_unit(text)) for name, text in query.columns.items()]
        parts += [
            f"## {query.name}",
            f"{query.purpose} {sentence(query.grain)}. Reads {reads}.",
            f"```\nhsa sql RUN @{query.name}\n```",
            table(["column", "unit", "meaning"], rows),
        ]
    lead = (
        "Documented queries over the tables of a run. A run that stopped early has the tables of the stages "
        "that it ran. `hsa sql RUN @name` prints the rows, with `-o csv` or `-o json` for other programs; "
        "`--show` prints the text of the query, a start for one of your own. Hours are UTC; null is "
        "missing and never zero."
    )
    return page("Queries of the operators' pack", lead, parts)


FLEETS = tuple(product((1, 8, 64), (4, 16), (1, 7, 28)))
"""Services, workers of each, and days of the fleets whose cost is shown."""

WORKER_SERIES, SCRAPE_S = 280, 15
"""Series that an engine exports with all its histograms [count], and the usual step of a dump [s]."""


def cost_page() -> str:
    """Return what runs over fleets cost, by the model that the program itself uses."""
    rows = []
    for services, workers, days in FLEETS:
        samples = services * workers * WORKER_SERIES * days * 86400 // SCRAPE_S
        found = cost_of(samples, services, days)
        minutes = [str(max(1, round(used / 60))) for used in (found.reading_s, found.seconds)]
        sizes = [f"{size / 1e9:.1f}" for size in (found.memory_bytes, found.disk_bytes)]
        rows.append((*map(str, (services, workers, days)), f"{samples / 1e6:,.0f}", *minutes, *sizes))
    heads = [
        "services", "workers of each", "days", "million samples", "minutes to read", "minutes in all",
        "memory, GB", "disk, GB",
    ]  # fmt: skip
    lead = (
        f"Workers that export {WORKER_SERIES} series every {SCRAPE_S} s, on one idle core; within a factor "
        "of two. `hsa run --dry-run INPUT` says the same of your files. Disk is what the run folder takes "
        "while it is written; a fifth of it stays."
    )
    model = (
        f"Seconds = {START_S:g} + {ROW_S * 1e6:g} × million samples + {SERVICE_S:g} × services + "
        f"{SERVICE_DAY_S:g} × services × days. "
        f"Bytes of memory = {START_BYTES / 1e6:g} million + {SERVICE_DAY_BYTES / 1e6:g} million × services × "
        f"days. Bytes of disk = {SCRATCH_ROW_BYTES + STORED_ROW_BYTES} × samples. `tests/bench/fleet.py` "
        "measures four sizes, fits the model, and foretells a fifth."
    )
    return page("What a run costs", lead, [table(heads, rows), model])


def formats_page() -> str:
    """Return the reference of input formats: what becomes of each, what its source loses, what is none."""
    rows = [(f"`{one.id}`", _does(one.read)) for one in FORMATS]
    losses = [
        (f"`{one.id}`", sentence(loss.text), "always" if loss.always else "where a file shows it")
        for one in FORMATS
        for loss in one.losses
    ]
    misses = list(dict.fromkeys((sentence(one.what(b"")), sentence(one.hint)) for one in NEAR_MISSES))
    lead = (
        "A format is found by the content of a file, never by its name; `--format ID` overrides that. gzip, "
        "zstd and UTF-16 are undone first."
    )
    return page(
        "Input formats",
        lead,
        [
            table(["format", "what is read"], rows),
            "## What a source loses",
            "`hsa doctor` names these as `source_losses`, with the files they hold for.",
            table(["format", "loss", "holds"], losses),
            "## What is no dump",
            "Such a file is refused by name, and skipped with a note inside a folder.",
            table(["file", "what to do"], misses),
        ],
    )


def _does(read: Callable[..., Any]) -> str:
    """Return what a reader does, without its first word."""
    first = (inspect.getdoc(read) or "").split("\n\n")[0].replace("\n", " ").replace("``", "`")
    return sentence(first.removeprefix("Yield ").removeprefix("the ").removesuffix("."))


def single_pages() -> dict[str, str]:
    """Return the pages that are no chapters of another."""
    return {name: make() for name, make in PAGES.items()}


PAGES = {
    "queries": queries_page,
    "cost": cost_page,
    "exit-codes": exit_codes_page,
    "settings": settings_page,
    "checks": checks_page,
    "formats": formats_page,
}


SCHEMAS: dict[str, Callable[[], Json]] = {
    "summary": summary.json_schema,
    "policy": declaration.json_schema,
    "settings": settings_schema.json_schema,
}
"""What a schema is of → what makes it."""


def generated() -> dict[str, str]:
    """Return every generated file: its path below the project → what it holds."""
    made: dict[str, str] = {}
    for make in (cli_pages, signals_pages, files_pages, constants_pages, single_pages):
        made |= {f"docs/reference/{name}.md": text for name, text in make().items()}
    return made | {
        f"hs_analysis/schema/{SCHEMA_FILES[kind]}": schema_text(make()) for kind, make in SCHEMAS.items()
    }


def left_over(made: Container[str]) -> list[str]:
    """Return the pages of the reference that nothing makes any more."""
    pages = sorted(page.relative_to(ROOT).as_posix() for page in REFERENCE.rglob("*.md"))
    return [name for name in pages if name not in made]


def stale() -> list[str]:
    """Return the generated files that are not what the code says, or that nothing makes any more."""
    made = generated()
    changed = [
        name
        for name, text in made.items()
        if not (ROOT / name).exists() or (ROOT / name).read_text("utf-8") != text
    ]
    return changed + left_over(made)


def main(arguments: Sequence[str]) -> int:
    """Write or check the files."""
    if "--check" in arguments:
        names = stale()
        sys.stdout.write("".join(f"{name} is stale: run make docs\n" for name in names))
        return 1 if names else 0
    made = generated()
    for name in left_over(made):
        (ROOT / name).unlink()
    for name, text in made.items():
        (ROOT / name).parent.mkdir(parents=True, exist_ok=True)
        (ROOT / name).write_text(text, "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
