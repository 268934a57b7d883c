"""Checks of request logs and benchmark points: what they lack, and what in them is no measurement."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace

import polars as pl

from hs_analysis.doctor.context import DoctorContext, Finding
from hs_analysis.doctor.input_checks import listed, number
from hs_analysis.schema.names import same_gpu

COARSE_SHARE = 0.5
"""Share of requests with an arrival time of their own below which times come in steps [ratio]."""

ENOUGH = 100
"""Requests a log needs before its arrival times say something [count]."""

SAME_FACTOR = 0.002
"""Spread of the factor between two cards' times below which one was computed from the other [ratio];
repeated measurements of one card differ by more."""

ENOUGH_POINTS = 10
"""Settings two cards must share before their factor says something [count]."""

COARSE_GRID = 20
"""Values along an axis of a profile below which neighbours are far apart [count]."""

MOST_TYPES = 12
"""GPU types that a sentence lists."""

MOST_SIZES = 4
"""Numbers of GPUs that a sentence lists."""

REQUEST_COLUMNS = {
    "service": "model", "cached_tokens": "cached tokens", "ttft_s": "time to first token",
    "tbt_s": "time between tokens", "e2e_s": "end-to-end latency", "status": "status",
}  # fmt: skip
"""What a request log may tell beside arrival and lengths, in words."""

_SETTING = ("model", "precision", "isl", "osl", "concurrency", "decode_gpus", "prefill_gpus")


_MODEL = re.compile(r"^([a-z]+\d{3})[a-z]$")
"""A model's number and the letter behind it, which tables leave out: MI300 and MI300X."""


def request_logs(context: DoctorContext) -> list[Finding]:
    """Request logs: what they can't say, and arrivals that come in steps."""
    found = []
    for name, log in _files(context.requests):
        lacking = [
            words for column, words in REQUEST_COLUMNS.items() if log[column].null_count() == log.height
        ]
        seconds = log["arrival_s"].drop_nulls()
        span = number(seconds.max()) - number(seconds.min()) if len(seconds) else 0.0
        text = f"{name}: {log.height:,} requests over {span:,.0f} s"
        if lacking:
            text += (
                f" without {', '.join(lacking)}: they show the offered load and nothing of how it was served"
            )
        found.append(Finding("requests", "warn" if lacking else "pass", text, value=float(log.height)))
        found += _steps(name, log)
        failed = log.filter(pl.col("status").is_not_null() & (pl.col("status") != "ok"))
        if failed.height:
            kinds = listed(failed["status"])
            text = (
                f"{name}: {failed.height:,} of {log.height:,} requests failed ({kinds}); their lengths are "
                "not served work"
            )
            found.append(Finding("requests", "warn", text, value=failed.height / log.height))
    return found


def _steps(name: str, log: pl.DataFrame) -> Iterator[Finding]:
    moments = log["arrival_s"].drop_nulls().unique().sort()
    if log.height >= ENOUGH and moments.len() < COARSE_SHARE * log.height:
        step = number(moments.diff().drop_nulls().median())
        text = (
            f"{name}: arrivals come in steps of {step:.3g} s, {moments.len():,} moments for {log.height:,} "
            "requests: times between arrivals below that mean nothing"
        )
        yield Finding("arrivals", "warn", text, value=step)


def benchmarks(context: DoctorContext) -> list[Finding]:
    """Benchmark points: worker counts, estimates, mixed versions, days and sizes, names, repeats, prices."""
    files: dict[Finding, list[str]] = {}
    for name, rows in _files(context.bench):
        for check in (_workers, _estimated, _mixed, _repeated, _computed, _profile, _priced):
            for finding in check(rows):
                files.setdefault(finding, []).append(name)
    found = [replace(finding, text=f"{listed(names)}: {finding.text}") for finding, names in files.items()]
    found.sort(key=lambda one: (one.check, one.text))
    return found + _spelled(context.bench) + _covered(context)


def _files(table: pl.DataFrame | None) -> list[tuple[str, pl.DataFrame]]:
    if table is None or table.is_empty():
        return []
    return [(str(name), rows) for (name,), rows in table.sort("file").group_by("file", maintain_order=True)]


def _workers(rows: pl.DataFrame) -> Iterator[Finding]:
    apart = rows.filter(pl.col("disaggregated"))
    bare = apart.filter(pl.col("prefill_instances").is_null() | pl.col("decode_instances").is_null())
    if bare.height:
        text = (
            f"{bare.height:,} of {apart.height:,} disaggregated points do not say how many prefill "
            "and decode workers ran; they say nothing of the ratio"
        )
        yield Finding("bench_workers", "warn", text, value=float(bare.height))


def _estimated(rows: pl.DataFrame) -> Iterator[Finding]:
    points = rows.filter(pl.col("kind") == "point")
    guessed = points.filter(pl.col("throughput_basis") != "measured")
    if guessed.height:
        how = listed(guessed["throughput_basis"], 1)
        text = f"the throughput of {guessed.height:,} of {points.height:,} points is not measured, but {how}"
        yield Finding("bench_throughput", "warn", text, value=float(guessed.height))
    unknown = points["throughput_basis"].null_count()
    if unknown:
        text = f"{unknown:,} of {points.height:,} points have no throughput, not even an estimate"
        yield Finding("bench_throughput", "warn", text, value=float(unknown))


def _mixed(rows: pl.DataFrame) -> Iterator[Finding]:
    engines = rows["engine"].drop_nulls().unique()
    if len(engines) > 1:
        text = (
            f"{len(engines)} engines and versions in one table ({listed(engines)}): compare points "
            "of one only, they are of different dates"
        )
        yield Finding("bench_versions", "warn", text, value=float(len(engines)))
    bare = rows.filter(~pl.col("engine").str.contains(r"\d"))
    if bare.height:
        text = f"{bare.height:,} points name an engine without a version number"
        yield Finding("bench_versions", "warn", text, value=float(bare.height))
    days = rows["measured_on"].drop_nulls()
    first, last = days.min(), days.max()
    if first is not None and first != last:
        unsaid = rows.height - len(days)
        text = (
            f"{len(days):,} points were measured from {first!s} to {last!s} on {days.n_unique()} days"
            + (f", {unsaid:,} do not say when" if unsaid else "")
            + ": drivers and engines change between, compare points of near days"
        )
        yield Finding("bench_dates", "warn", text, value=float(days.n_unique()))
    sizes = rows["decode_gpus"].drop_nulls().unique().sort()
    if len(sizes) > 1:
        shown = [f"{one:.0f}" for one in sizes]
        some = ", ".join(shown) if len(shown) <= MOST_SIZES else f"{shown[0]} to {shown[-1]}"
        text = f"points ran on {some} GPUs: compare per GPU"
        yield Finding("bench_sizes", "warn", text)


def _spelled(bench: pl.DataFrame) -> list[Finding]:
    """Return the GPU types that differ in blanks, capitals or one trailing letter of the model only."""
    types = {one for column in ("prefill_gpu_type", "decode_gpu_type") for one in bench[column].drop_nulls()}
    alike: dict[str, list[str]] = {}
    for one in sorted(types):
        alike.setdefault("".join(_MODEL.sub(r"\1", word) for word in one.lower().split()), []).append(one)
    return [
        Finding(
            "bench_names", "warn",
            f"{' and '.join(repr(one) for one in same)} look like one GPU type in {len(same)} spellings: "
            "they are kept apart, so write them alike", value=float(len(same)),
        )
        for same in alike.values() if len(same) > 1
    ]  # fmt: skip


def _covered(context: DoctorContext) -> list[Finding]:
    """Return which GPU types were measured, and which of the fleet's were not."""
    columns = ("prefill_gpu_type", "decode_gpu_type")
    measured = sorted({one for column in columns for one in context.bench[column].drop_nulls()})
    if not measured:
        return []
    named = f"GPU types measured: {listed(measured, MOST_TYPES)}; points say nothing of others"
    found = [Finding("bench_gpus", "pass", named, value=float(len(measured)))]
    for frame in context.frames:
        runs = sorted({one for types in frame.gpu_types.values() for one in types})
        lacking = [one for one in runs if not any(same_gpu(one, other) for other in measured)]
        if lacking:
            text = f"no point was measured on {listed(lacking)}, which the service runs on"
            found.append(Finding("bench_gpus", "warn", text, service=frame.service))
    return found


def _repeated(rows: pl.DataFrame) -> Iterator[Finding]:
    points = rows.filter(pl.col("kind") == "point")
    settings = points.group_by(*_SETTING, "series", "decode_gpu_type").len()
    again = settings.filter(pl.col("len") > 1)
    if again.height:
        text = (
            f"{points.height:,} points are {settings.height:,} settings, {again.height:,} of them "
            f"measured up to {number(again['len'].max()):.0f} times: take medians, repeats are no "
            f"independent points"
        )
        yield Finding("bench_repeats", "pass", text, value=float(again.height))


def _computed(rows: pl.DataFrame) -> Iterator[Finding]:
    """Yield the cards whose times are another's times a factor, the same at every setting."""
    columns = [*_SETTING, "decode_gpu_type"]
    medians = rows.filter(pl.col("kind") == "point").group_by(*columns).agg(
        pl.col("ttft_mean_s").median(), pl.col("tbt_mean_s").median()
    )  # fmt: skip
    types = medians["decode_gpu_type"].drop_nulls().unique().sort().to_list()
    for place, one in enumerate(types):
        for other in types[place + 1 :]:
            left, right = (medians.filter(pl.col("decode_gpu_type") == kind) for kind in (one, other))
            both = left.join(right, _SETTING, suffix="_other", nulls_equal=True)
            ttft, tbt = (_factor(both, column) for column in ("ttft_mean_s", "tbt_mean_s"))
            if both.height >= ENOUGH_POINTS and ttft and tbt:
                text = (
                    f"at all {both.height} settings {other} has {ttft:.3f} × the TTFT and {tbt:.3f} × the "
                    f"TBT of {one}: computed, not measured"
                )
                yield Finding("bench_computed", "warn", text, value=float(both.height))


def _factor(both: pl.DataFrame, column: str) -> float | None:
    """Return the factor between two cards' times, None where it is not the same everywhere."""
    ratios = (both[f"{column}_other"] / both[column]).drop_nulls()
    middle = ratios.median()
    if not isinstance(middle, float) or middle <= 0:
        return None
    spread = (ratios / middle - 1).abs().quantile(0.9)
    return middle if spread is not None and spread <= SAME_FACTOR else None


def _profile(rows: pl.DataFrame) -> Iterator[Finding]:
    for role, axis, unit in (
        ("prefill", "isl", "prompt lengths"),
        ("decode", "context_tokens", "context lengths"),
    ):
        points = rows.filter(pl.col("kind") == role)
        if points.is_empty():
            continue
        values = points[axis].n_unique()
        text = (
            f"a profile of {role} at {points.height} points, {values} {unit}"
            + (", a coarse grid: interpolate, never take the nearest" if values < COARSE_GRID else "")
            + "; without batching limits, queueing and KV transfer, so an upper bound of capacity"
        )
        yield Finding("bench_profile", "warn", text, value=float(values))


def _priced(rows: pl.DataFrame) -> Iterator[Finding]:
    priced = rows["price_per_hour"].drop_nulls()
    if len(priced):
        low, high = number(priced.min()), number(priced.max())
        text = (
            f"{len(priced)} points carry prices, {low:.4g} to {high:.4g} an hour, of the day they were "
            "measured; give today's under [prices]"
        )
        yield Finding("bench_prices", "warn", text)
