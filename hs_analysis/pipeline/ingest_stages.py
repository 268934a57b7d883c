"""From input files to one aligned table per service: the stages ingest and align."""

from __future__ import annotations

import math
import shutil
import tempfile
from collections.abc import Iterator, Sequence, Set
from contextlib import contextmanager
from dataclasses import asdict, replace
from datetime import UTC, datetime
from functools import partial
from glob import escape
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa

from hs_analysis.align import StoredSamples, align
from hs_analysis.catalogue import Catalogue, load_catalogue, with_user_rows
from hs_analysis.errors import InputError, UsageError
from hs_analysis.ingest.checkpoint import Checkpoint, read_checkpoint, stretch_samples, write_checkpoint
from hs_analysis.ingest.dedup import CannotExtendError
from hs_analysis.ingest.discovery import Discovery, InputFile, discover
from hs_analysis.ingest.frozen_series import FLAG, SeenBefore, UnansweredRanges, frozen_series
from hs_analysis.ingest.quality import quality_frame, quality_of, shape_of
from hs_analysis.ingest.roles import infer_from_samples
from hs_analysis.ingest.services import Unserved, unserved_instances
from hs_analysis.ingest.stage import FileRows, Ingested, ingest
from hs_analysis.ingest.versions import version_spans
from hs_analysis.pipeline import tables
from hs_analysis.pipeline.cost import tell_room
from hs_analysis.pipeline.inputs import inputs_sha256
from hs_analysis.pipeline.plan_files import COMPANIONS, plan_findings, planned_as_scraped, planned_queries
from hs_analysis.pipeline.runner import check_unchanged
from hs_analysis.pipeline.stages import Outcome, Work
from hs_analysis.pipeline.tables import read_entries, write_aligned
from hs_analysis.schema.frames import SAMPLES, SERIES
from hs_analysis.schema.settings import Reading, Settings
from hs_analysis.settings.values import suggestion
from hs_analysis.store import (
    Database,
    flagged_samples,
    read_table,
    sample_parts,
    series_samples,
    without_stretches,
    write_table,
)

INPUTS_FILE = "data/inputs.json"
QUALITY_FILE = "data/quality.parquet"
FROZEN_FILE = "data/frozen.parquet"
GRIDS_FILE = "data/grids.parquet"

OTHER_ROWS = {"requests": "requests", "bench": "benchmark points"}
"""Counts of rows that are no samples, in words."""


def work_database(work: Work) -> Database:
    """Return a database that keeps to the memory limit of the command."""
    return Database(memory_limit=work.machine.memory_limit)


def catalogue_of(settings: Settings) -> Catalogue:
    """Return the catalogue with the user's own metrics and tables."""
    return with_user_rows(load_catalogue(), settings.reading)


def ingest_inputs(work: Work) -> Outcome:
    """Read every input file into series, samples and rejected rows; of an extended run the new ones."""
    how = work.settings.reading
    how = replace(how, queries={**how.queries, **planned_queries(work.inputs), **how.queries})
    if work.extends:
        try:
            return _read_inputs(work, how, _later(work, how))
        except CannotExtendError as error:
            work.progress.noted(f"all inputs are read again: {error.what}")
            shutil.rmtree(work.out / "data", ignore_errors=True)
        check_unchanged(work.inputs)
    return _read_inputs(work, how, (discover(work.arguments, how), None))


def _read_inputs(work: Work, how: Reading, files: tuple[Discovery, Checkpoint | None]) -> Outcome:
    """Read the files that a checkpoint does not hold, and write the tables of all."""
    discovery, before = files
    done = set(before.numbers) if before else set()
    new = [file for number, file in enumerate(discovery.files) if number not in done]
    tell_room(work, new)
    total, count = len(new), 0

    def tick(_name: str) -> None:
        nonlocal count
        work.progress.advanced(count, total, "files")
        count += 1

    data = work.out / "data"
    found = ingest(discovery, data, tick, how, planned_as_scraped(work.inputs), before)
    refuse_moving(work, new, before)
    with work_database(work) as database:
        samples = work.out / tables.PLACES["samples"]
        catalogue = catalogue_of(work.settings)
        series = infer_from_samples(found.series, samples, catalogue, database.query, found.helps)
    seen = _seen_before(work, before, found.checkpoint)
    quality, stretches, unanswered = _without_frozen(work, series, found.quality, catalogue, seen)
    write_table(series, SERIES, work.out / tables.PLACES["series"])
    quality.write_parquet(work.out / QUALITY_FILE)
    found.frozen.write_parquet(work.out / FROZEN_FILE)
    names = dict(enumerate(file.name for file in discovery.files))
    first = pl.col("file_no").replace_strict(names, return_dtype=pl.String).alias("file")
    found.grids.select("series_id", "step_s", first).write_parquet(work.out / GRIDS_FILE)
    if found.checkpoint:
        made = replace(found.checkpoint, stretches=stretches, unanswered=unanswered, reads=_reads(work))
        write_checkpoint(data, made)
    return _told(work, found, len(new) if before else None)


def _told(work: Work, found: Ingested, new_files: int | None) -> Outcome:
    """Write what was read, and say it; ``new_files`` are those of a run that is extended."""
    counts = _counts(found)
    lacks = plan_findings(work.inputs, found.spans)
    inputs = {"files": _files(work, found), "counts": counts, "plan": lacks}
    tables.write_json(work.out, INPUTS_FILE, inputs)
    for name, why in found.broken:
        work.progress.noted(f"warning: {name} could not be read: {why}")
    if lacks:
        work.progress.noted(f"warning: plan.json: {lacks[0]['text']}; repeat: {lacks[0]['command']}")
    others = {name: counts[name] for name in ("requests", "bench") if counts[name]}
    samples = counts["rows_stored"] - sum(others.values())
    note = f"files {len(found.files)}, series {found.series.height:,}, samples {samples:,}"
    note += "".join(f", {OTHER_ROWS[name]} {rows:,}" for name, rows in others.items())
    note += "" if new_files is None else f"; new files {new_files}"
    lost = [lack for lack in lacks or () if lack["level"] == "fail"]
    return Outcome(note, {**counts, "not_received": lost}, tuple(_plain(file) for file in found.files))


def _reads(work: Work) -> dict[str, Any]:
    """Return what the plans beside the files say of how they are read, and which inputs there are."""
    return {
        "queries": planned_queries(work.inputs),
        "as_scraped": sorted(planned_as_scraped(work.inputs)),
        "inputs": sorted([str(file.path.resolve()), file.sha256] for file in work.inputs),
    }


def _later(work: Work, how: Reading) -> tuple[Discovery, Checkpoint]:
    """Return all files of a run that is extended, and its checkpoint.

    Raises
    ------
    CannotExtendError
        When there is none, or plans that came with the new files are of the others, too.
    """
    before = read_checkpoint(work.run / "data")
    if before is None:
        raise CannotExtendError("the run keeps no checkpoint: its files are of several forms or in dispute")
    now, known = _reads(work), {path for path, _ in before.reads["inputs"]}
    names = {escape(file.name) for file in before.files}
    queries, as_scraped = before.reads["queries"], set(before.reads["as_scraped"])
    if {n: t for n, t in now["queries"].items() if n in queries or n in names} != queries or {
        name for name in now["as_scraped"] if escape(name) in names
    } != {name for name in as_scraped if escape(name) in names}:
        raise CannotExtendError("a plan of the new files is of files of the run, too")
    if before.reads["inputs"] != [one for one in now["inputs"] if one[0] in known]:
        raise CannotExtendError("the inputs of the run have changed")
    later = discover(_new_arguments(work, known), how)
    fresh = tuple(file for file in later.files if str(file.path.resolve()) not in known)
    return before.with_later(Discovery(fresh, later.passed))


def _new_arguments(work: Work, known: Set[str]) -> list[Path]:
    """Return the INPUTs that hold a file which the run does not know."""
    new = [file.path.resolve() for file in work.inputs if str(file.path.resolve()) not in known]
    return [path for path in work.arguments if any(one.is_relative_to(path.resolve()) for one in new)]


def _seen_before(work: Work, before: Checkpoint | None, now: Checkpoint | None) -> SeenBefore | None:
    """Return what is known of the stored samples, where there is a checkpoint before and one after."""
    if before is None or now is None:
        return None
    newest = sample_parts(work.out / tables.PLACES["samples"])[-1]
    return before.seen_before(now, partial(series_samples, newest))


def _without_frozen(
    work: Work,
    series: pl.DataFrame,
    quality: pl.DataFrame,
    catalogue: Catalogue,
    seen: SeenBefore | None,
) -> tuple[pl.DataFrame, pl.DataFrame, UnansweredRanges]:
    """Make the samples of series that stand still after their instance has gone null.

    What was found is written beside the samples; what was ``seen`` need not be read again.

    Returns
    -------
    The quality, the samples that were made null (series_id, t and value), and what series show while their
    target does not answer.
    """
    place = work.out / tables.PLACES["samples"]
    found = frozen_series(series, quality, catalogue, partial(series_samples, place), seen)
    tables.write_frames(work.out, "frozen_series", [found.table])
    stretches = stretch_samples(series_samples(place, found.spans), found.spans)
    if not found.spans:
        return quality, stretches, found.unanswered
    for part in sample_parts(place):
        batches = without_stretches(part, found.spans, FLAG)
        write_table(pa.RecordBatchReader.from_batches(SAMPLES, batches), SAMPLES, part)
    anew = _quality_of(place, series.filter(pl.col("series_id").is_in(list(found.spans))))
    rest = quality.filter(~pl.col("series_id").is_in(list(found.spans)))
    return pl.concat([rest, anew]).sort("series_id"), stretches, found.unanswered


def _quality_of(samples: Path, series: pl.DataFrame) -> pl.DataFrame:
    """Return what each of some series looks like in a table of samples."""
    counters = dict(series.select("series_id", pl.col("kind") == "counter").iter_rows())
    return quality_frame(
        [
            quality_of(
                number,
                shape_of(t_us, values, counter=counters[number], lookback=int(repeated.sum())),
            )
            for number, t_us, values, repeated in flagged_samples(samples, counters)
        ]
    )


def refuse_moving(work: Work, new: Sequence[InputFile], before: Checkpoint | None) -> None:
    """Raise when a file grew, came or went since it was hashed: the manifest would name other bytes.

    Only files that were read count: ``new``, and what lies beside them, not what was there ``before``.

    Raises
    ------
    InputError
        For the first such file.
    """
    hint = "wait until its writer is done, or give a copy"
    hashed = {file.path.resolve() for file in work.inputs}
    known = {Path(path) for path, _ in before.reads["inputs"]} if before else set()
    earlier = known - {file.path.resolve() for file in new}
    for file in work.inputs:
        if file.path.resolve() in earlier:
            continue
        try:
            size = file.path.stat().st_size
        except OSError:
            size = None
        if size != file.size:
            how = "went away" if size is None else "changed"
            raise InputError(f"{how} while it was read", where=str(file.path), hint=hint)
    for one in new:
        if one.path.is_file() and one.path.resolve() not in hashed:
            raise InputError("came while the folder was read", where=str(one.path), hint=hint)


def _files(work: Work, found: Ingested) -> list[dict[str, Any]]:
    """Return every file that was read, with its bytes and rows, by name; a TSDB's folder counts as one."""
    inputs = {file.path.resolve(): file for file in work.inputs}
    rows = []
    for file, path in zip(found.files, found.paths, strict=True):
        if (one := inputs.get(path)) is not None:
            size, sha256 = one.size, one.sha256
        else:
            inside = [file for place, file in inputs.items() if place.is_relative_to(path)]
            size, sha256 = sum(file.size for file in inside), inputs_sha256(inside)
        rows.append(_plain(file) | {"size": size, "sha256": sha256})
    return sorted(rows, key=lambda row: str(row["name"]))


def _plain(file: FileRows) -> dict[str, Any]:
    """Return a file's counts; what supersedes it only where something does."""
    plain = asdict(file)
    better = list(plain.pop("superseded_by"))
    return {**plain, "superseded_by": better} if better else plain


def _counts(found: Ingested) -> dict[str, Any]:
    sums = {
        name: sum(getattr(file, name) for file in found.files)
        for name in (
            "rows_read",
            "rows_stored",
            "duplicates",
            "rows_rejected",
            "superseded",
            "requests",
            "bench",
        )
    }
    return {
        **sums,
        "series": found.series.height,
        "start": _instant(found.quality["first_t"].min()),
        "end": _instant(found.quality["last_t"].max()),
        "skipped": [name for name in found.skipped if name.rpartition("/")[2] not in COMPANIONS],
        **({"tables": dict(found.tables)} if found.tables else {}),
        "superseded_files": [
            {"name": f.name, "rows": f.superseded, "of": f.rows_read, "by": list(f.superseded_by)}
            for f in sorted(found.files, key=lambda f: f.name)
            if f.superseded
        ],
        "broken": [{"name": name, "why": why} for name, why in found.broken],
        "warnings": [{"name": name, "text": text} for name, text in found.warnings],
        "infos": [{"name": name, "text": text} for name, text in found.infos],
        "losses": [{"name": name, "text": text} for name, text in found.losses],
    }


def _instant(moment: object) -> str | None:
    if not isinstance(moment, datetime):
        return None
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


def align_services(work: Work) -> Outcome:
    """Put every service on one grid, cut to --from and --to."""
    series = wanted_series(work)
    with (
        work_database(work) as database,
        samples_within(work, database) as samples,
        tempfile.TemporaryFile(dir=work.out) as scratch,
    ):
        quality = quality_within(work, series, samples)
        versions = version_spans(series, quality, catalogue_of(work.settings))
        stored = StoredSamples(samples, partial(series_samples, samples), scratch)
        aligned = align(series, stored, quality, catalogue_of(work.settings), work.settings, database.query)
    write_aligned(work.out, aligned)
    tables.write_frames(work.out, "versions", [versions])
    rows = sum(frame.table.height for frame in aligned.frames)
    return Outcome(f"services {len(aligned.frames)}, windows {rows:,}")


def wanted_series(work: Work) -> pl.DataFrame:
    """Return the series of the services the run goes on with, and those of no service.

    Raises
    ------
    UsageError
        When a service that was asked for is not in the input.
    """
    series, wanted = tables.read(work.run, "series"), work.settings.service
    if not wanted:
        return series
    known = series["service"].drop_nulls().unique().sort().to_list()
    for name in wanted:
        if name not in known:
            raise UsageError(f"no such service {name!r}", where="--service", hint=suggestion(name, known))
    return series.filter(pl.col("service").is_in(wanted) | pl.col("service").is_null())


def without_service(run: Path, settings: Settings) -> tuple[Unserved, ...]:
    """Return the instances that have a role and no service; if services were asked for, near those."""
    found = unserved_instances(tables.read(run, "series"), catalogue_of(settings))
    wanted = set(settings.service)
    return tuple(one for one in found if not wanted or wanted.intersection(one.beside))


def _other_rows(work: Work) -> str:
    """Return what the input holds beside samples, in words; empty when it holds nothing else."""
    counts = tables.read_json(work.run, INPUTS_FILE)["counts"]
    return ", ".join(f"{rows:,} {OTHER_ROWS[n]}" for n in OTHER_ROWS if (rows := counts[n]))


def require_services(work: Work) -> None:
    """Refuse to judge an input of which no metric over time has a service and a role.

    Raises
    ------
    InputError
        When there is neither a service nor a benchmark point; the message says what there is instead.
    """
    if read_entries(work.run) or bench_rows(work):
        return
    where = ", ".join(str(path) for path in work.arguments)
    series, others = wanted_series(work), _other_rows(work)
    if others and series.is_empty():
        raise InputError(
            f"no metrics over time, only {others}: there is no history to judge",
            where=where,
            hint="add the metric dumps of the service; hsa doctor says what was found",
        )
    unknown = series.filter((pl.col("emitter_role") == "unknown") & pl.col("signal").is_not_null())
    roles = "" if unknown.is_empty() else "give roles under [roles] in hsa.toml (hsa help roles); "
    raise InputError(
        "no series could be placed on a service and role",
        where=where,
        hint=f"{roles}hsa doctor says what was found",
    )


def bench_rows(work: Work) -> int:
    """Return how many benchmark points the input holds: they answer for the ratio without any series."""
    return tables.read(work.run, "bench").height


@contextmanager
def samples_within(work: Work, database: Database) -> Iterator[Path]:
    """Yield the samples inside the bounds of the run as Parquet."""
    whole = work.run / tables.PLACES["samples"]
    if not _bounded(work.settings):
        yield whole
        return
    cut = work.out / "within_bounds"
    first, last = (_seconds(text) for text in (work.settings.start, work.settings.end))
    params = {"first": -math.inf if first is None else first, "last": math.inf if last is None else last}
    try:
        rows = 0
        for part in sample_parts(whole):
            inside = database.stream("align/within_bounds", params, {"samples": part})
            rows += write_table(inside, SAMPLES, cut / part.name)
        if not rows:
            raise InputError(
                "no sample lies between --from and --to",
                where=f"{work.settings.start or 'the start'} to {work.settings.end or 'the end'}",
                hint="widen them; hsa ingest prints the window of the input",
            )
        yield cut / whole.name
    finally:
        shutil.rmtree(cut, ignore_errors=True)


def _bounded(settings: Settings) -> bool:
    return settings.start is not None or settings.end is not None


def _seconds(text: str | None) -> float | None:
    return datetime.fromisoformat(text).timestamp() if text else None


def quality_within(work: Work, series: pl.DataFrame, samples: Path) -> pl.DataFrame:
    """Return what each series looks like inside the bounds of the run."""
    if not _bounded(work.settings):
        return read_table(work.run / QUALITY_FILE)
    return _quality_of(samples, series)
