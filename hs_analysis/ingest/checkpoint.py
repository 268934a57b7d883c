"""What reading leaves beside its tables, so that later files can be added without reading the earlier again.

Of every file what it gave, of every series where its stored samples end and what they show, of every moment
how many series repeat there, and of every series what it shows while its target does not answer.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from hs_analysis.ingest.dedup import RepeatedSamples, StoredBefore
from hs_analysis.ingest.discovery import Discovery, InputFile, PassedOver
from hs_analysis.ingest.formats import format_named
from hs_analysis.ingest.frozen_series import SeenBefore, Unanswered, UnansweredRanges
from hs_analysis.ingest.quality import Pauses, SeriesShape
from hs_analysis.ingest.staging import Piece
from hs_analysis.schema.runners import SeriesReader

FOLDER = "checkpoint"
"""Folder of the files, below that of the tables."""

_FILES, _SERIES, _PIECES, _REPEATS, _STRETCHES, _UNANSWERED = (
    "files.json", "series.parquet", "pieces.parquet", "repeats.parquet", "stretches.parquet",
    "unanswered.parquet",
)  # fmt: skip

MOST_RANGES = 64
"""Stretches of a series that are kept; one whose target fails more often is read again [count]; default of
this project."""

Labels = tuple[tuple[str, str], ...]
Key = tuple[str, Labels]
"""A series: its capture and its sorted labels."""


@dataclass(frozen=True)
class FileRead:
    """What one file gave.

    Rows read = stored + duplicates + superseded + rejected; what becomes of samples is known after
    deduplication, ``requests`` and ``bench`` count the rows of the other two tables.
    """

    name: str
    format: str
    rows_read: int
    rows_rejected: int
    series: int
    requests: int
    bench: int
    warnings: list[str]
    infos: list[str]
    losses: list[str]


@dataclass(frozen=True)
class FileBefore:
    """A file of a run, as it was found and read.

    Attributes
    ----------
    path, name, capture, named, format
        As discovery found it.
    record
        What it gave.
    guessed
        Whether its times are a guess.
    helps
        HELP text per metric.
    outcomes
        What became of its samples.
    """

    path: str
    name: str
    capture: str
    named: bool
    format: str
    record: FileRead
    guessed: bool = False
    helps: dict[str, str] = field(default_factory=dict)
    outcomes: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Checkpoint:
    """All that reading left.

    Attributes
    ----------
    files, passed
        The files that were read, in their order, and those passed over.
    keys, increases
        The series by number, and which of them are what a counter gained.
    stored
        What is stored of each series, by number.
    pieces
        Where in which file each series lay, by number.
    repeats
        Counts of samples that repeat the one before.
    data
        Folder of the tables.
    stretches
        Samples (series_id, t, value) that were made null after they had been stored.
    unanswered
        What each series, by number, shows while its target does not answer.
    reads
        What decided how files were read, beside the settings: the plans beside them.
    numbers
        Numbers of the files among all that are read now.
    """

    files: tuple[FileBefore, ...]
    passed: tuple[PassedOver, ...]
    keys: tuple[Key, ...]
    increases: frozenset[int]
    stored: Mapping[int, StoredBefore]
    pieces: Mapping[int, list[Piece]]
    repeats: RepeatedSamples
    data: Path = Path()
    stretches: pl.DataFrame = field(default_factory=pl.DataFrame)
    unanswered: UnansweredRanges = field(default_factory=dict)
    reads: dict[str, Any] = field(default_factory=dict)
    numbers: tuple[int, ...] = ()

    @property
    def samples(self) -> Path:
        """The stored samples; the last part of the path is a glob."""
        return self.data / "samples" / "*.parquet"

    def with_later(self, later: Discovery) -> tuple[Discovery, Checkpoint]:
        """Return all files in the order in which one run would read them, and the same with their numbers."""
        ours = [
            InputFile(Path(one.path), one.name, one.capture, one.named, format_named(one.format))
            for one in self.files
        ]
        every = [*enumerate(ours), *((-1, file) for file in later.files)]
        ordered = sorted(every, key=lambda pair: (pair[1].name, str(pair[1].path.resolve())))
        at = {place: number for number, (place, _) in enumerate(ordered)}
        passed = sorted([*self.passed, *later.passed], key=lambda one: one.name)
        found = Discovery(tuple(file for _, file in ordered), tuple(passed))
        return found, self._numbered([at[place] for place in range(len(ours))])

    def seen_before(self, now: Checkpoint, later: SeriesReader) -> SeenBefore:
        """Return what is known of the series of a later checkpoint, which holds these samples and more.

        ``later`` reads the samples that came since. A stretch into which some may have come is left out.
        """
        numbers = {key: number for number, key in enumerate(now.keys)}
        found: UnansweredRanges = {}
        for old, shown in self.unanswered.items():
            number, end = numbers[self.keys[old]], self.stored[old].last_us
            grew = now.stored[number].last_us != end
            found[number] = {span: one for span, one in shown.items() if not grew or end >= span[1]}
        ends = {
            numbers[self.keys[old]]: (one.shape.value_us, one.shape.value)
            for old, one in self.stored.items()
            if one.shape.value_us is not None
        }
        return SeenBefore(found, ends, later)

    def _numbered(self, numbers: Sequence[int]) -> Checkpoint:
        """Return the same with other numbers of its files."""
        return replace(
            self,
            numbers=tuple(numbers),
            stored={n: replace(one, last_file=numbers[one.last_file]) for n, one in self.stored.items()},
            pieces={
                n: [replace(piece, file_no=numbers[piece.file_no]) for piece in own]
                for n, own in self.pieces.items()
            },
        )


_PLAIN = ("last_us", "last_value", "last_flag", "last_file", "value_us", "value", "total")
_SHAPE = ("rows", "nulls", "lookback", "resets", "changes", "first_us", "low", "high", "since_us")
_SHOWN = {
    "series_id": pl.Int64, "after_us": pl.Int64, "until_us": pl.Int64, "moved": pl.Boolean,
    "last_us": pl.Int64,
}  # fmt: skip
_PIECE = dict.fromkeys(("series_id", "rows", "file_no", "low_us", "high_us"), pl.Int64)
_FLOATS = ("last_value", "value", "total", "low", "high", "shown")
_LISTS = {
    "pause_s": pl.Float64, "pauses": pl.Int64, "news_s": pl.Float64, "news": pl.Int64,
    "longest_us": pl.Int64,
}  # fmt: skip


def write_checkpoint(data: Path, made: Checkpoint) -> None:
    """Write a checkpoint into a folder below ``data``."""
    folder = data / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    _series_table(made).write_parquet(folder / _SERIES)
    rows = [
        (n, p.rows, p.file_no, p.low_us, p.high_us)
        for n, own in sorted(made.pieces.items())
        for p in sorted(own, key=lambda piece: piece.file_no)
    ]
    pl.DataFrame(rows, schema=_PIECE, orient="row").write_parquet(folder / _PIECES)
    made.repeats.table().write_parquet(folder / _REPEATS)
    made.stretches.write_parquet(folder / _STRETCHES)
    _unanswered_table(made).write_parquet(folder / _UNANSWERED)
    plain = {
        "reads": made.reads,
        "passed": [[p.name, p.state, p.why, p.then] for p in made.passed],
        "files": [asdict(one) for one in made.files],
    }
    (folder / _FILES).write_text(
        json.dumps(plain, indent=1, ensure_ascii=False) + "\n", "utf-8", newline="\n"
    )


def _series_table(made: Checkpoint) -> pl.DataFrame:
    rows = []
    for number, (capture, labels) in enumerate(made.keys):
        one = made.stored.get(number)
        row: dict[str, Any] = {
            "series_id": number, "capture": capture, "names": [name for name, _ in labels],
            "texts": [text for _, text in labels], "increases": number in made.increases,
            "stored": one is not None,
        }  # fmt: skip
        if one is not None:
            shape = one.shape
            row |= {name: getattr(one, name) for name in _PLAIN} | {n: getattr(shape, n) for n in _SHAPE}
            row |= {
                "end_us": shape.last_us, "shown": shape.value, "shown_us": shape.value_us,
                "pause_s": shape.pauses.length_s.tolist(), "pauses": shape.pauses.count.tolist(),
                "news_s": shape.news.length_s.tolist(), "news": shape.news.count.tolist(),
                "longest_us": list(shape.longest_us or ()),
            }  # fmt: skip
        rows.append(row)
    names = [*_PLAIN, *_SHAPE, "end_us", "shown", "shown_us"]
    schema = {
        "series_id": pl.Int64, "capture": pl.String, "names": pl.List(pl.String), "texts": pl.List(pl.String),
        "increases": pl.Boolean, "stored": pl.Boolean,
        **{name: pl.Float64 if name in _FLOATS else pl.Int64 for name in names},
        **{name: pl.List(kind) for name, kind in _LISTS.items()},
    }  # fmt: skip
    return pl.DataFrame(rows, schema=schema, orient="row")


def _unanswered_table(made: Checkpoint) -> pl.DataFrame:
    rows = [
        (number, *span, one.moved, one.last_us)
        for number, shown in sorted(made.unanswered.items())
        if len(shown) <= MOST_RANGES
        for span, one in sorted(shown.items())
    ]
    return pl.DataFrame(rows, schema=_SHOWN, orient="row")


def _unanswered(table: pl.DataFrame) -> UnansweredRanges:
    found: UnansweredRanges = {}
    for number, after, until, moved, last_us in table.iter_rows():
        found.setdefault(number, {})[after, until] = Unanswered(moved, last_us)
    return found


def read_checkpoint(data: Path) -> Checkpoint | None:
    """Return the checkpoint of a run's tables, None where there is none."""
    folder = data / FOLDER
    if not (folder / _FILES).is_file():
        return None
    plain = json.loads((folder / _FILES).read_text("utf-8"))
    table = pl.read_parquet(folder / _SERIES)
    rows = list(table.iter_rows(named=True))
    pieces: dict[int, list[Piece]] = {}
    for number, *piece in pl.read_parquet(folder / _PIECES).iter_rows():
        pieces.setdefault(number, []).append(Piece(-1, 0, 0, *piece))
    return Checkpoint(
        files=tuple(FileBefore(**{**one, "record": FileRead(**one["record"])}) for one in plain["files"]),
        passed=tuple(PassedOver(name, state, why, then=then) for name, state, why, then in plain["passed"]),
        keys=tuple((r["capture"], tuple(zip(r["names"], r["texts"], strict=True))) for r in rows),
        increases=frozenset(r["series_id"] for r in rows if r["increases"]),
        stored={r["series_id"]: _stored_before(r) for r in rows if r["stored"]},
        pieces=pieces,
        repeats=RepeatedSamples.of(pl.read_parquet(folder / _REPEATS)),
        data=data,
        stretches=pl.read_parquet(folder / _STRETCHES),
        unanswered=_unanswered(pl.read_parquet(folder / _UNANSWERED)),
        reads=plain["reads"],
    )


def _stored_before(row: Mapping[str, Any]) -> StoredBefore:
    longest = row["longest_us"]
    shape = SeriesShape(
        **{name: row[name] for name in _SHAPE},
        last_us=row["end_us"],
        pauses=_pauses(row["pause_s"], row["pauses"]),
        news=_pauses(row["news_s"], row["news"]),
        value=row["shown"],
        value_us=row["shown_us"],
        longest_us=(longest[0], longest[1]) if longest else None,
    )
    return StoredBefore(shape=shape, **{name: row[name] for name in _PLAIN})


def _pauses(lengths_s: Sequence[float], counts: Sequence[int]) -> Pauses:
    return Pauses(np.array(lengths_s, np.float64), np.array(counts, np.int64))


def stretch_samples(
    samples: Iterable[tuple[int, np.ndarray, np.ndarray]], spans: Mapping[int, Sequence[tuple[int, int]]]
) -> pl.DataFrame:
    """Return the samples of some stretches, later than the start and up to the end, that are not missing.

    Columns series_id, t and value.
    """
    schema = {"series_id": pl.Int64, "t": pl.Int64, "value": pl.Float64}
    frames = [pl.DataFrame(schema=schema)]
    for number, t_us, values in samples:
        inside = np.zeros(t_us.size, bool)
        for after, until in spans[number]:
            inside |= (t_us > after) & (t_us <= until)
        inside &= ~np.isnan(values)
        frames.append(
            pl.DataFrame({"t": t_us[inside], "value": values[inside]}).select(
                pl.lit(number, pl.Int64).alias("series_id"), "t", "value"
            )
        )
    return pl.concat(frames).with_columns(pl.col("t").cast(pl.Datetime("us", "UTC")))
