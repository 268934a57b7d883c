"""Times of tables as microseconds UTC: texts with or without a zone, Unix numbers, relative numbers."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime

import numpy as np
import polars as pl

from hs_analysis.errors import InputError, UsageError
from hs_analysis.ingest.rows import LATEST_S

UNITS_US = {"s": 1e6, "ms": 1e3, "us": 1.0, "ns": 1e-3}
"""Unit of a numeric time → microseconds."""

UNIT_WORDS = {"s": "seconds", "ms": "milliseconds", "us": "microseconds", "ns": "nanoseconds"}

EARLIEST_S = 1_420_070_400.0
"""2015-01-01: a time before it is more likely in another unit than a metric of LLM serving."""

MICROSECOND_DIGITS = 6
"""Fractional digits of a second that are kept."""

_TEXT = (
    r"^([0-9]{4})[-/]([0-9]{1,2})[-/]([0-9]{1,2})[T ]+"
    r"([0-9]{1,2}):([0-9]{2})(?::([0-9]{2})(?:[.,]([0-9]{1,9}))?)?"
    r"\s*(Z|z|UTC|GMT|[+-][0-9]{2}:?[0-9]{2})?$"
)
"""ISO 8601 and RFC 3339, and nvidia-smi's slashes; up to nine fractional digits."""


@dataclass(frozen=True)
class Times:
    """Times of a column: microseconds UTC, int64, 0 where ``reasons`` (null = good) say why not."""

    t_us: np.ndarray
    reasons: pl.Series

    @property
    def good(self) -> np.ndarray:
        """Which times could be read, bool, shape (n,)."""
        return self.reasons.is_null().to_numpy()


@dataclass
class Clock:
    """How the times of one file are read, and what was found in it.

    Attributes
    ----------
    where
        The file, for messages.
    tz
        Zone of times that carry none; None rejects them as ``naive_ts``.
    unit
        Unit of numbers; None tells it by the size of the first one.
    relative
        Whether numbers count from the start of the log, from ``epoch_us``.
    digits
        Most fractional digits of a second that a text had.
    """

    where: str
    tz: str | None = None
    unit: str | None = None
    relative: bool = False
    epoch_us: int = 0
    inferred: bool = False
    first_us: int | None = None
    last_us: int | None = None
    naive: str = ""
    digits: int = 0
    _count: int = field(default=0, repr=False)

    def __post_init__(self) -> None:
        if self.tz is not None:
            try:
                _local(0, self.tz)
            except pl.exceptions.PolarsError as error:
                raise UsageError(
                    f"no time zone {self.tz!r}", hint="for example Europe/Berlin or UTC"
                ) from error

    def read(self, column: pl.Series) -> Times:
        """Return the times of a column, null and unreadable ones with reason ``bad_ts``."""
        if isinstance(column.dtype, pl.Datetime):
            times = self._stamps(column)
        elif column.dtype.is_numeric():
            times = self._numeric(column)
        else:
            times = self._texts(column.cast(pl.String, strict=False))
        times = _in_reach(times)
        good = times.t_us[times.good]
        if good.size:
            first, last = int(good.min()), int(good.max())
            self.first_us = first if self.first_us is None else min(self.first_us, first)
            self.last_us = last if self.last_us is None else max(self.last_us, last)
            self._count += good.size
        return times

    def notes(self) -> tuple[list[str], list[str]]:
        """Return warnings and infos on the times of the file, once it is read."""
        if self.first_us is None or self.last_us is None:
            return [], []
        infos, warnings = list[str](), list[str]()
        span = f"{_utc(self.first_us)} to {_utc(self.last_us)} UTC"
        if self.tz not in (None, "UTC"):
            assert self.tz is not None  # noqa: S101 - narrows the type
            span += f" ({_local(self.first_us, self.tz)} to {_local(self.last_us, self.tz)} {self.tz})"
        if self.inferred and self.unit is not None:
            infos.append(f"numeric times were read as Unix {UNIT_WORDS[self.unit]}: {span}")
            if not self.relative and self.first_us < EARLIEST_S * 1e6:
                warnings.append(
                    f"times begin {_utc(self.first_us)} UTC as {UNIT_WORDS[self.unit]}: another unit, or "
                    "counted from the start? --time-unit, or time_relative in the mapping"
                )
        elif self.tz is not None:
            infos.append(f"times without a zone were read as {self.tz}: {span}")
        if self.digits > MICROSECOND_DIGITS:
            infos.append(f"times have {self.digits} fractional digits and are rounded to microseconds")
        return warnings, infos

    def require_zone(self) -> None:
        """Refuse a file in which not one time could be read because none carries a zone.

        Raises
        ------
        InputError
            With the first of them, and how to give the zone.
        """
        if self.naive and not self._count:
            raise InputError(
                f"its times carry no zone (first: {self.naive})",
                where=self.where,
                hint="say which: --tz Europe/Berlin or --tz UTC",
            )

    def _texts(self, column: pl.Series) -> Times:
        numbers = column.cast(pl.Float64, strict=False)
        plain = numbers.is_finite().fill_null(value=False)
        whole = column.cast(pl.Int64, strict=False)  # nanoseconds have more digits than a float
        numbers = whole if (whole.is_not_null() | ~plain).all() else numbers
        if plain.all() and len(column):
            return self._numeric(numbers)
        texts = self._zoned(column.set(plain, None) if plain.any() else column)
        if not plain.any():
            return texts
        mixed = self._numeric(numbers.set(~plain, None))
        chosen = plain.to_numpy()
        reasons = texts.reasons.zip_with(~plain, mixed.reasons)
        return Times(np.where(chosen, mixed.t_us, texts.t_us), reasons)

    def _zoned(self, column: pl.Series) -> Times:
        parts = pl.DataFrame({"text": column}).select(
            pl.col("text"), pl.col("text").str.strip_chars().str.extract_groups(_TEXT).alias("p")
        )
        names = ("y", "mo", "d", "h", "mi", "s", "frac", "zone")
        split = parts.with_columns(pl.col("p").struct.rename_fields(list(names)).alias("p")).unnest("p")
        longest = split["frac"].str.len_chars().max()
        self.digits = max(self.digits, longest if isinstance(longest, int) else 0)
        clock = pl.concat_str(
            [
                pl.col("y"), pl.lit("-"), pl.col("mo").str.zfill(2), pl.lit("-"), pl.col("d").str.zfill(2),
                pl.lit(" "), pl.col("h").str.zfill(2), pl.lit(":"), pl.col("mi"), pl.lit(":"),
                pl.col("s").fill_null("00"),
            ]
        )  # fmt: skip
        micros = (
            (pl.col("frac").fill_null("0").str.pad_end(9, "0").cast(pl.Int64) / 1000).round().cast(pl.Int64)
        )
        offset = pl.col("zone").str.extract(r"([+-]\d{2}):?\d{2}").cast(pl.Int64) * 60
        minutes = pl.col("zone").str.extract(r"[+-]\d{2}:?(\d{2})").cast(pl.Int64)
        signed = pl.when(pl.col("zone").str.starts_with("-")).then(-minutes).otherwise(minutes)
        frame = split.with_columns(
            clock.str.to_datetime("%Y-%m-%d %H:%M:%S", strict=False, time_unit="us").alias("wall"),
            micros.alias("micros"),
            pl.when(pl.col("zone").is_not_null()).then((offset + signed).fill_null(0)).alias("offset"),
        )
        return self._placed(frame)

    def _stamps(self, column: pl.Series) -> Times:
        """Return typed times of a Parquet table; one without a zone is naive."""
        dtype = column.dtype
        assert isinstance(dtype, pl.Datetime)  # noqa: S101 - narrows the type
        zoned = dtype.time_zone is not None
        wall = column.dt.convert_time_zone("UTC").dt.replace_time_zone(None) if zoned else column
        frame = pl.DataFrame(
            {"text": wall.cast(pl.String), "wall": wall.dt.cast_time_unit("us")}
        ).with_columns(
            pl.lit(0, pl.Int64).alias("micros"),
            pl.lit(0 if zoned else None, pl.Int64).alias("offset"),
        )
        return self._placed(frame)

    def _placed(self, frame: pl.DataFrame) -> Times:
        """Put wall times on UTC: by their own offset, else by the zone given, else not at all."""
        wall = pl.col("wall")
        local = pl.lit(None, pl.Int64)
        twice = pl.lit(value=False)
        if self.tz is not None:
            placed = wall.dt.replace_time_zone(self.tz, ambiguous="null", non_existent="null")
            either = wall.dt.replace_time_zone(self.tz, ambiguous="earliest", non_existent="null")
            local = placed.dt.epoch("us")
            twice = placed.is_null() & either.is_not_null()
        own = wall.dt.epoch("us") - pl.col("offset") * 60_000_000
        naive = pl.col("offset").is_null() & wall.is_not_null()
        t_us = pl.when(pl.col("offset").is_not_null()).then(own).otherwise(local) + pl.col("micros")
        done = frame.with_columns(t_us.alias("t"), twice.alias("twice"), naive.alias("naive")).with_columns(
            pl.when(pl.col("t").is_not_null())
            .then(pl.lit(None, pl.String))
            .when(pl.col("naive") & pl.col("twice"))
            .then(pl.lit("tz_ambiguous"))
            .when(pl.col("naive") & pl.lit(self.tz is None))
            .then(pl.lit("naive_ts"))
            .otherwise(pl.lit("bad_ts"))
            .alias("reason")
        )
        if self.tz is None and not self.naive:
            first = done.filter(pl.col("reason") == "naive_ts")["text"]
            self.naive = first[0] if len(first) else ""
        return Times(done["t"].fill_null(0).to_numpy().astype(np.int64), done["reason"])

    def _numeric(self, column: pl.Series) -> Times:
        missing = column.is_null().to_numpy()
        if column.dtype.is_integer():
            values = column.cast(pl.Int64, strict=False).fill_null(0).to_numpy().astype(np.int64)
        else:
            values = column.cast(pl.Float64, strict=False).fill_null(0.0).to_numpy().astype(np.float64)
        present = values[~missing & np.isfinite(values)]
        if self.unit is None:
            if not present.size:
                return Times(np.zeros(values.size, np.int64), _reasons(~missing))
            self.unit, self.inferred = ("s" if self.relative else unit_by_size(float(present[0]))), True
        per = UNITS_US[self.unit]
        with np.errstate(over="ignore", invalid="ignore"):
            seconds = values * (per / 1e6)
        good = ~missing & np.isfinite(seconds) & (np.abs(seconds) < LATEST_S)
        safe = np.where(good, values, 0)
        if values.dtype == np.int64 and per >= 1.0:
            t_us = safe * np.int64(per)
        elif values.dtype == np.int64:
            t_us = (safe + 500) // 1000  # nanoseconds, to the nearest microsecond
        else:
            t_us = np.round(safe * per).astype(np.int64)
        return Times(np.where(good, t_us + self.epoch_us, 0), _reasons(good))


def _in_reach(times: Times) -> Times:
    """Set aside what no form of time may say: clocks of another zone or day could not show it."""
    far = np.abs(times.t_us) >= LATEST_S * 1e6
    if not far.any():
        return times
    return Times(np.where(far, 0, times.t_us), times.reasons.set(pl.Series(far & times.good), "bad_ts"))


def _reasons(good: np.ndarray) -> pl.Series:
    return pl.Series([None if one else "bad_ts" for one in good.tolist()], dtype=pl.String)


def unit_by_size(value: float) -> str:
    """Return the unit in which a Unix time of this size lies before 2100."""
    return next((unit for unit, per in UNITS_US.items() if abs(value) * per / 1e6 < LATEST_S), "ns")


def epoch_us(text: str | None) -> int | None:
    """Return the start of a log whose times are relative, from ISO 8601 text; without a zone it is UTC.

    Raises
    ------
    UsageError
        When it is no such text.
    """
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise UsageError(
            f"no time {text!r}", where="--epoch", hint="for example 2026-11-24T10:00:00Z"
        ) from error
    moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment
    return round(moment.timestamp() * 1e6)


def _utc(t_us: int) -> str:
    return f"{datetime.fromtimestamp(t_us / 1e6, UTC):%Y-%m-%d %H:%M:%S}"


def _local(t_us: int, tz: str) -> str:
    moment = pl.Series([t_us], dtype=pl.Datetime("us", "UTC"))
    return str(moment.dt.convert_time_zone(tz).dt.strftime("%Y-%m-%d %H:%M:%S")[0])
