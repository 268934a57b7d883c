"""What a run folder holds, read back as plain data for printing.

Stages are loaded where their tables are read: what ingest and doctor found needs no statistics.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from hs_analysis.errors import RunFolderError, UsageError
from hs_analysis.evidence import parse
from hs_analysis.pipeline import manifest as manifests
from hs_analysis.pipeline import run_folder as folders
from hs_analysis.pipeline import summary, tables
from hs_analysis.pipeline.doctor_stage import DOCTOR_FILE
from hs_analysis.pipeline.ingest_stages import catalogue_of, without_service
from hs_analysis.pipeline.manifest import Manifest
from hs_analysis.pipeline.records import from_plain, to_plain
from hs_analysis.pipeline.tables import PLACES, read_entries
from hs_analysis.plan_test.commands import command_lines
from hs_analysis.schema.settings import Settings
from hs_analysis.settings.values import suggestion
from hs_analysis.store import PackQuery, QueryRows, explore, operators_pack

if TYPE_CHECKING:
    from hs_analysis.compare import ComparedRun

Plain = dict[str, Any]


def run_tables(folder: Path) -> dict[str, Path]:
    """Return the tables that a run folder holds: name → file or glob.

    Raises
    ------
    RunFolderError
        When it is no run folder, or nothing has been written into it.
    """
    folders.require(folder)
    found = {name: folder.resolve() / place for name, place in PLACES.items() if any(folder.glob(place))}
    if not found:
        raise RunFolderError(
            "the run has no tables yet", where=str(folder), hint="hsa ingest INPUT makes them"
        )
    return found


def described_tables(folder: Path) -> list[Plain]:
    """Return per table of a run its rows, its columns, and what one row is."""
    listed = []
    for name, path in run_tables(folder).items():
        schema = tables.contract(name)
        meta = schema.metadata or {}
        count = explore({name: path}, f'SELECT count(*) AS rows FROM "{name}"')  # noqa: S608 - a name of ours
        listed.append(
            {
                "table": name,
                "rows": count.rows[0]["rows"],
                "grain": meta.get(b"grain", b"").decode(),
                "columns": list(schema.names),
            }
        )
    return listed


NAMED = "@"
"""First character of the name of a query of the operators' pack, where a query of one's own may stand."""


def queried(folder: Path, query: str, most_rows: int | None) -> QueryRows:
    """Return the rows of a query over the tables of a run: the user's own, or ``@name`` of the pack.

    Raises
    ------
    UsageError
        For what is no query, and for a name that is not in the pack.
    RunFolderError
        When the run has not written a table that the named query reads.
    """
    found = run_tables(folder)
    if not query.startswith(NAMED):
        return explore(found, query, most_rows)
    named = pack_query(query)
    if missing := [table for table in named.reads if table not in found]:
        raise RunFolderError(
            f"{query} reads {', '.join(missing)}, and the run has no such table yet",
            where=str(folder),
            hint=f"hsa report {folder} brings the run up to date",
        )
    return explore({table: found[table] for table in named.reads}, named.text, most_rows)


def pack_query(name: str) -> PackQuery:
    """Return the query of the operators' pack that ``@name`` calls.

    Raises
    ------
    UsageError
        For a name that is not in the pack; it says which one may be meant.
    """
    known = {NAMED + query.name: query for query in operators_pack()}
    if name not in known:
        raise UsageError(f"no query {name} in the pack", where="QUERY", hint=suggestion(name, known))
    return known[name]


def described_pack() -> list[Plain]:
    """Return the queries of the operators' pack: how to call each, and what it answers."""
    return [{"query": NAMED + query.name, "answers": query.purpose} for query in operators_pack()]


def ingested(manifest: Manifest) -> Plain:
    """Return what ingest read: files with their rows, files passed over, totals."""
    record = manifest.stages["ingest"]
    return {"files": [dict(file) for file in record.inputs], **record.counts}


def unserved(folder: Path, manifest: Manifest) -> list[dict[str, str]]:
    """Return a warning for every pool of a run whose instances have a role and belong to no service."""
    found = without_service(folder, from_plain(Settings, manifest.settings))
    return summary.unserved_warnings([one.sentence() for one in found])


def sections(folder: Path, stage: str) -> list[Plain]:
    """Return the part of summary.json that a stage fills, per service."""
    build = _SECTIONS[stage]
    return [
        {"service": entry["service"], **build(folder, entry["service"])} for entry in read_entries(folder)
    ]


def decisions(folder: Path, manifest: Manifest) -> dict[str, Plain]:
    """Return the decision on each service by its name; none where it was not made from this replay."""
    from hs_analysis.pipeline.policy_stages import read_decision

    record = manifest.stages.get("policy")
    if record is None or record.stale:
        return {}
    names = [entry["service"] for entry in read_entries(folder)]
    return {name: summary.decision_section(read_decision(folder, name), None) for name in names}


def ratio_tests(folder: Path) -> list[Plain]:
    """Return the answers of the ratio tests of a run."""
    from hs_analysis.pipeline.study_stages import read_sweeps

    return [to_plain(found) for found in read_sweeps(folder)]


def profile_ratios(folder: Path) -> list[Plain]:
    """Return what the profiles of a run gave."""
    from hs_analysis.pipeline.study_stages import read_profile_ratios

    return [to_plain(found) for found in read_profile_ratios(folder)]


def planned_tests(folder: Path, generator: str) -> list[Plain]:
    """Return the planned tests of a run with the commands of a load generator, one a level."""
    from hs_analysis.pipeline.study_stages import read_plan

    return [
        to_plain(test)
        | {
            "commands": list(
                command_lines(generator, test.levels, test.isl or 1.0, test.osl or 1.0, test.service)
            )
        }
        for test in read_plan(folder)
    ]


def _study(folder: Path, service: str) -> Plain:
    from hs_analysis.pipeline.study_stages import read_all_verdicts, read_recommended

    return summary.study_section(read_all_verdicts(folder, service), read_recommended(folder, service))


def _derive(folder: Path, service: str) -> Plain:
    from hs_analysis.pipeline.study_stages import read_derived

    derived = read_derived(folder, service)
    return summary.derive_section(derived) | summary.refusals_section(derived)


def _select(folder: Path, service: str) -> Plain:
    from hs_analysis.pipeline.select_stage import read_drivers, read_scores

    selection = summary.selection_section(read_scores(folder, service))
    return selection | summary.drivers_section(read_drivers(folder, service))


def _replay(folder: Path, service: str) -> Plain:
    from hs_analysis.pipeline.policy_stages import read_replay

    return summary.replay_section(read_replay(folder, service))


_SECTIONS: Mapping[str, Callable[[Path, str], Plain]] = {
    "study": _study,
    "derive": _derive,
    "select": _select,
    "replay": _replay,
}


def read_summary(folder: Path) -> Plain:
    """Return summary.json of a run folder; see `checked_summary` for errors."""
    from hs_analysis.pipeline.report_stages import SUMMARY_FILE

    return checked_summary(tables.read_json(folder, SUMMARY_FILE), str(folder / SUMMARY_FILE))


def checked_summary(found: Any, where: str) -> Plain:
    """Return the content of a summary.json that this version can read.

    Raises
    ------
    RunFolderError
        For what is no summary of a run, and for one that a later version wrote.
    """
    version = found.get("schema_version") if isinstance(found, dict) else None
    if not isinstance(found, dict) or not isinstance(version, int):
        raise RunFolderError("no summary of a run", where=where, hint="name a run folder")
    if version not in summary.READABLE_VERSIONS:
        known = " and ".join(map(str, summary.READABLE_VERSIONS))
        what = f"schema_version is {version}, this version of hsa reads {known}"
        raise RunFolderError(what, where=where, hint="make the run again, or use the version that wrote it")
    return found


def policy_text(folder: Path) -> str:
    """Return policy.yaml as it is."""
    from hs_analysis.pipeline.policy_stages import POLICY_FILE

    return (folder / POLICY_FILE).read_text(encoding="utf-8")


def policy_documents(folder: Path) -> list[str]:
    """Return the documents of policy.yaml, one a service."""
    from hs_analysis.policy import dump, load_all

    return [dump(policy) for policy in load_all(policy_text(folder))]


def parsed_policies(folder: Path) -> list[Plain]:
    """Return the documents of policy.yaml as plain data."""
    from hs_analysis.schema.places import documents_of

    return [document for _, document in documents_of(policy_text(folder)) if document]


def compared(folder: Path, summary: Plain | None = None) -> ComparedRun:
    """Return what `hsa compare` looks at in a run folder: summary.json, and policy.yaml where there is one.

    A ``summary`` that is given is taken instead of the folder's.

    Raises
    ------
    RunFolderError
        When there is no summary yet, or one of the two files can't be read.
    """
    from ruamel.yaml.error import YAMLError

    from hs_analysis.compare import ComparedRun
    from hs_analysis.pipeline.policy_stages import POLICY_FILE
    from hs_analysis.pipeline.report_stages import SUMMARY_FILE

    if summary is None and not (folder / SUMMARY_FILE).is_file():
        raise RunFolderError("the run has no summary yet", where=str(folder), hint=f"hsa report {folder}")
    try:
        found = summary or read_summary(folder)
    except (ValueError, AssertionError) as error:
        where = str(folder / SUMMARY_FILE)
        raise RunFolderError("no summary of a run", where=where, hint=f"hsa report {folder}") from error
    try:
        policies = parsed_policies(folder) if (folder / POLICY_FILE).is_file() else []
    except (YAMLError, ValueError) as error:
        where = str(folder / POLICY_FILE)
        raise RunFolderError("not YAML", where=where, hint=f"hsa validate {where}") from error
    return ComparedRun(str(folder), found, policies, _shown(folder) if summary is None else None)


def _shown(folder: Path) -> frozenset[str] | None:
    """Return the evidence that the report of a run shows; None without a report that can be read."""
    from hs_analysis.evidence import REPORT_FILE
    from hs_analysis.report.anchors import evidence_in

    try:
        return evidence_in((folder / REPORT_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def exported(folder: Path) -> list[Plain]:
    """Return per service and target the files that were written and what they could not express."""
    from hs_analysis.pipeline.report_stages import EXPORTS_FILE

    return list(tables.read_json(folder, EXPORTS_FILE))


def diagnosis(folder: Path) -> Plain:
    """Return the findings on an input, what was found and is missing per role, and what later stages need."""
    findings = tables.read(folder, "findings")
    order = pl.col("level").replace_strict({"fail": 0, "warn": 1, "pass": 2}, default=3, return_dtype=pl.Int8)
    rows = findings.sort(order, "check", "service", "start", "text", nulls_last=True).to_dicts()
    shown = [{**row, "start": _instant(row["start"]), "end": _instant(row["end"])} for row in rows]
    kept = tables.read_json(folder, DOCTOR_FILE)
    return {"findings": shown, "signals": kept["signals"], "needs": kept["needs"]}


def _instant(moment: datetime | None) -> str | None:
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z") if moment else None


def explained(link: str, run_dir: Path | None) -> tuple[Plain, str]:
    """Return one number's derivation as plain data, and notes: the link's run is another, parts are stale.

    Raises
    ------
    UsageError
        When the link can't be read, or the run it belongs to can't be told.
    RunFolderError
        When that run has no summary yet.
    """
    from hs_analysis.pipeline.provenance import made_by
    from hs_analysis.pipeline.report_stages import DETAIL_TABLES
    from hs_analysis.report.explain import explain

    found = parse(link)
    folder = _folder_of(link, found.run, run_dir)
    manifest = folders.require(folder)
    if "report" not in manifest.stages:
        raise RunFolderError("the run has no summary yet", where=str(folder), hint=f"hsa report {folder}")
    details = {name: tables.read(folder, name) for name in DETAIL_TABLES}
    ours = manifests.run_id(manifest)
    notes = (
        [f"the link was seen in run {found.run}; this is run {ours}"] if found.run not in ("", ours) else []
    )
    notes += [line] if (line := stale_note(folder)) else []
    catalogue = catalogue_of(from_plain(Settings, manifest.settings))
    explanation = explain(found, read_summary(folder), details, catalogue, made_by())
    return explanation | {"inputs_sha256": manifests.read_sha256(manifest)}, "\n".join(notes)


def stale_note(folder: Path) -> str:
    """Return the line that says which files of a run are of before; empty when none is."""
    from hs_analysis.pipeline.chain import STAGES
    from hs_analysis.pipeline.session import stale_line

    return stale_line(folder, folders.require(folder), STAGES)


def _folder_of(link: str, run: str, run_dir: Path | None) -> Path:
    """Return the run folder a link belongs to: named, beside its report, with its hash, or the only one."""
    if run_dir is not None:
        return run_dir
    before = Path(link.partition("#/")[0])
    if "#/" in link and before.name and before.parent != Path():
        return before.parent
    if run and (folder := folders.find_run(run)):
        return folder
    there = [path for path in sorted(folders.REPORTS.glob("*")) if folders.is_run(path)]
    if len(there) == 1 and not run:
        return there[0]
    what = (
        f"no run {run} in reports/"
        if run
        else f"{len(there)} runs in reports/, so the link's run is not clear"
    )
    raise UsageError(what, where=link, hint="name it with --run-dir")
