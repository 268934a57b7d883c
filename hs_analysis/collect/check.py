"""Is what came what the plan asked for: missing chunks, short ones, other steps; series and samples lost.

Less than the plan expects is no loss by itself: series begin, end and pause, and a server lists series whose
samples are all before the window. So what came is held against the plan first, and what falls short against
the server's own count of the same stretch.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Literal

from hs_analysis.catalogue import MAPPING
from hs_analysis.collect.answers import EDGE_S
from hs_analysis.collect.plan import Caller, Plan, PlannedFile, curl, iso

SLACK_STEPS = 2.5
"""A chunk may begin late or end early by this many steps: a scrape may fail (as doctor's pauses)."""

LIVE_S = 300.0
"""A stretch that ended less than this before it was asked for is still being filled [s]: remote write and
backfill are minutes late at most where they are well."""

STEP_SLACK = 0.25
"""Spacing that differs by more than this share of the step is another step: gaps lengthen it a little, while
scrape intervals that people use differ by a third and more."""

MOST_NAMED = 3


@dataclass(frozen=True)
class FileFacts:
    """What a file was found to hold.

    ``first_s`` and ``last_s`` are its earliest and latest time [Unix s] over all series, ``spacing_s`` the
    usual distance of two samples of a series [s]; all null for a file without samples, the spacing also for
    one without two samples of a series.
    """

    name: str
    series: int
    first_s: float | None
    last_s: float | None
    spacing_s: float | None


@dataclass(frozen=True)
class Received:
    """What came of one planned file.

    Attributes
    ----------
    file
        Its name.
    series, points
        Series and samples with times in its stretch.
    outside
        Samples with other times.
    first_s, last_s
        Earliest and latest sample, wherever they lie [Unix s]; null without any.
    held_against
        What tells whether they are all: the ``plan`` (as many came as it expects), the ``server`` (fewer
        came, and it counted), or ``nothing`` (fewer came, and the server gave no count).
    counted
        Samples the server counts in the stretch; null unless it was asked and answered.
    late
        How many of these may have reached it only after it gave the file.
    """

    file: str
    series: int
    points: int
    outside: int
    first_s: float | None
    last_s: float | None
    held_against: Literal["plan", "server", "nothing"] = "plan"
    counted: int | None = None
    late: int = 0


Code = Literal[
    "missing_chunk", "short_chunk", "wrong_step", "lost_samples", "other_times", "nothing_came",
    "listed_only", "fewer_series",
]  # fmt: skip

LOST: tuple[Code, ...] = ("lost_samples", "other_times", "nothing_came")
"""Findings that say data were lost: the plan expects them, and they did not come."""


@dataclass(frozen=True)
class PlanFinding:
    """A difference between plan and files, and the command that repeats what is needed."""

    code: Code
    level: Literal["warn", "fail"]
    text: str
    files: tuple[str, ...]
    command: str


_FileCheck = Callable[[PlannedFile, FileFacts, float, float], str | None]


def missing_from_plan(
    plan: Plan,
    files: Iterable[FileFacts],
    url: str = "URL",
    folder: str = "DIR",
    received: Iterable[Received] = (),
) -> tuple[PlanFinding, ...]:
    """Return what the files lack of the plan; one finding per metric and kind, in the plan's order.

    Parameters
    ----------
    plan
        The plan.
    files
        What was read, by the file names of the plan (with or without ``.gz``); other files are not looked at.
    url, folder
        Server and folder to name in the commands.
    received
        What came of the files, where ``hsa pull`` fetched them.

    Notes
    -----
    A file without samples is an answer: the metric was not there. A chunk is short when it begins later or
    ends earlier than another file of the same stretch and exporter does: pools that started or stopped
    together are not held against it, nor one of several files of a metric that lacks nothing which the server
    counts.
    """
    facts = {_key(one.name): one for one in files}
    known = list(received)
    spans = _sample_ranges(plan.files, facts)
    told = _ended_shares(plan.files, facts, known)
    found: list[PlanFinding] = []
    for metric in dict.fromkeys(file.metric for file in plan.files):
        own = [file for file in plan.files if file.metric == metric]
        found += _absent(own, facts, url, folder)
        for code, judge in _FILE_CHECKS.items():
            judged = [file for file in own if file.file not in told] if code == "short_chunk" else own
            found += _findings(judged, facts, spans, code, judge, url)
    found += lost_from_plan(plan, known, url, folder)
    held = {one.file for one in known}
    found += _unlike(plan, facts, held, url)
    return tuple(found)


def is_complete(file: PlannedFile, series: int, points: int, outside: int = 0) -> bool:
    """Return whether a file holds all that its plan expects, but for a scrape or two of each series.

    False too where the plan does not say how much that is: nobody listed the series, or knows how often they
    are scraped.
    """
    if outside or file.expected_series is None or series < file.expected_series:
        return False
    if file.expected_points is None:
        return file.expected_series == 0
    return points >= file.expected_series * max(file.expected_points - SLACK_STEPS, 1)


def fell_short(file: PlannedFile, one: Received) -> bool:
    """Return whether a file holds less than the server has, or samples of other times."""
    return any(loss_of(file, one) for loss_of in _LOSSES.values())


def arrived_late(file: PlannedFile, series: int, now: float) -> int:
    """Return how many samples a server may have got between giving a file and counting it.

    Scrapes are stored some seconds after their time: of a stretch that ends now one or two a series.
    """
    return ceil(SLACK_STEPS * max(series, file.expected_series or 0)) if file.end > now - LIVE_S else 0


def lost_from_plan(
    plan: Plan, received: Iterable[Received], url: str = "URL", folder: str = "DIR"
) -> tuple[PlanFinding, ...]:
    """Return what was lost on the way from the server; one finding per metric and kind, in the plan's order.

    Parameters
    ----------
    plan
        The plan.
    received
        What came of its files; one that is not among them is not judged.
    url, folder
        Server and folder to name in the commands.
    """
    got = {one.file: one for one in received}
    there = [(file, got[file.file]) for file in plan.files if file.file in got]
    command = f"hsa pull --url {url} --out {folder}"
    found: list[PlanFinding] = []
    if there and not any(one.points for _, one in there):
        listed = sum(file.expected_series or 0 for file, _ in there)
        lists = f"the server lists {listed:,} series for" if listed else "the server has no sample for any of"
        text = (
            f"nothing came: {lists} {len(there)} planned files"
            f"{', and gave no sample of them' if listed else ''} from {plan.start} to {plan.end}"
        )
        names = tuple(file.file for file, _ in there)
        found.append(PlanFinding("nothing_came", "fail", text, names, command))
    for metric in dict.fromkeys(file.metric for file, _ in there):
        own = [(file, one) for file, one in there if file.metric == metric]
        for code, loss_of in _LOSSES.items():
            bad = [(file, one) for file, one in own if loss_of(file, one)]
            if bad:
                text = f"{metric}: {bad[0][0].file} {loss_of(*bad[0])}{_more(bad, len(own))}"
                names = tuple(file.file for file, _ in bad)
                found.append(PlanFinding(code, "fail", text, names, command))
        if not found or found[-1].code != "nothing_came":
            found += _listed_only(metric, own, command)
    return tuple(found)


def _lost(file: PlannedFile, one: Received) -> str | None:
    """Return what a file lacks of what the server counts or, where that is not known, of what is planned."""
    if one.held_against == "server" and one.counted is not None and one.points + one.late < one.counted:
        listed = "" if file.expected_series is None else f" of {_series(one.series, file.expected_series)}"
        return f"holds {one.points:,} of the {one.counted:,} samples that the server counts{listed}"
    if one.held_against != "nothing" or file.expected_series is None:
        return None
    if file.expected_points is None:
        if one.series >= file.expected_series:
            return None
        return f"holds {_series(one.series, file.expected_series)}, and the server gives no count"
    most = file.expected_series * file.expected_points
    return (
        f"holds {one.points:,} of the {most:,} samples that the plan expects of "
        f"{_series(one.series, file.expected_series)}, and the server gives no count"
    )


def _series(some: int, listed: int) -> str:
    return f"{some:,} of {listed:,} listed series" if some < listed else f"{some:,} series"


def _elsewhere(file: PlannedFile, one: Received) -> str | None:
    if not one.outside:
        return None
    return (
        f"holds {one.outside:,} samples outside its stretch of {iso(file.start)} to {iso(file.end)}: "
        f"its times go from {_time_text(one.first_s)} to {_time_text(one.last_s)}"
    )


_LOSSES: dict[Code, Callable[[PlannedFile, Received], str | None]] = {
    "lost_samples": _lost,
    "other_times": _elsewhere,
}


def _time_text(moment: float | None) -> str:
    """Return a time as text, also one that no calendar has."""
    try:
        return "?" if moment is None else iso(moment)
    except (ValueError, OverflowError, OSError):
        return f"{moment:g} s"


def _more(bad: Sequence[tuple[PlannedFile, Received]], of: int) -> str:
    if len(bad) < 2:
        return ""
    return f"; {len(bad)} of its {of} files are like this ({_names([file for file, _ in bad])})"


def _listed_only(metric: str, own: Sequence[tuple[PlannedFile, Received]], command: str) -> list[PlanFinding]:
    """Return a finding for a metric whose series are listed, while the server counts no sample of them."""
    listed = max((file.expected_series or 0 for file, _ in own), default=0)
    if not listed or any(one.points or one.outside or one.held_against != "server" for _, one in own):
        return []
    if any(one.counted for _, one in own):
        return []
    text = (
        f"{metric}: the server lists {listed:,} series and counts no sample of them in this window: "
        "they may have ended before it"
    )
    return [PlanFinding("listed_only", "warn", text, tuple(file.file for file, _ in own), command)]


def _unlike(plan: Plan, facts: Mapping[str, FileFacts], held: Collection[str], url: str) -> list[PlanFinding]:
    """Return what the files themselves lack, where nobody wrote down what came of them."""
    found: list[PlanFinding] = []
    for metric in dict.fromkeys(file.metric for file in plan.files if file.file not in held):
        own = [
            (file, facts[_key(file.file)])
            for file in plan.files
            if file.metric == metric and file.file not in held and _key(file.file) in facts
        ]
        for file, one in own:
            if one.first_s is None or one.last_s is None:
                continue
            if one.first_s < file.start - EDGE_S or one.last_s > file.end + EDGE_S:
                text = (
                    f"{metric}: {file.file} holds samples outside its stretch of "
                    f"{iso(file.start)} to {iso(file.end)}: its times go from "
                    f"{_time_text(one.first_s)} to {_time_text(one.last_s)}"
                )
                command = curl(file, Caller(url))
                found.append(PlanFinding("other_times", "fail", text, (file.file,), command))
                break
        found += _fewer_series(metric, own, sum(file.metric == metric for file in plan.files), url)
    return found


def _fewer_series(
    metric: str, own: Sequence[tuple[PlannedFile, FileFacts]], planned: int, url: str
) -> list[PlanFinding]:
    """Return a finding when all files of a metric together hold fewer series than were listed."""
    by_share: dict[str, list[tuple[PlannedFile, FileFacts]]] = {}
    for file, one in own:
        by_share.setdefault(file.query, []).append((file, one))
    listed = sum(some[0][0].expected_series or 0 for some in by_share.values())
    there = sum(one.series for _, one in own)
    if len(own) < planned or there >= listed:
        return []
    text = (
        f"{metric}: {own[0][0].file} holds {there:,} of {listed:,} listed series: the others may have "
        "ended before the window, or were lost"
    )
    if len(own) > 1:
        text = text.replace(" holds ", f" and {len(own) - 1} more hold ", 1)
    names = tuple(file.file for file, _ in own)
    return [PlanFinding("fewer_series", "warn", text, names, curl(own[0][0], Caller(url)))]


def _key(name: str) -> str:
    return name.removesuffix(".gz")


def _chunk_key(file: PlannedFile) -> tuple[str, float, float]:
    """Return whose files of a stretch are held together: an exporter's; of the user's own, each metric's."""
    return (file.metric if file.exporter == MAPPING else file.exporter, file.start, file.end)


def _sample_ranges(
    files: Sequence[PlannedFile], facts: Mapping[str, FileFacts]
) -> dict[tuple[str, float, float], tuple[float, float]]:
    """Return the earliest and latest sample of any file per exporter and stretch."""
    spans: dict[tuple[str, float, float], tuple[float, float]] = {}
    for file in files:
        one = facts.get(_key(file.file))
        if one is None or one.first_s is None or one.last_s is None:
            continue
        key = _chunk_key(file)
        first, last = spans.get(key, (one.first_s, one.last_s))
        spans[key] = (min(first, one.first_s), max(last, one.last_s))
    return spans


def _ended_shares(
    files: Sequence[PlannedFile], facts: Mapping[str, FileFacts], received: Iterable[Received]
) -> frozenset[str]:
    """Return the files whose instances came or went: all samples that the server counts of them are there.

    Only where other files hold more of the same metric and stretch; a metric that ends as a whole is short.
    """
    sure = {one.file: one for one in received if one.held_against != "nothing"}
    shares = Counter((file.metric, file.start) for file in files if _key(file.file) in facts)
    return frozenset(
        file.file
        for file in files
        if shares[file.metric, file.start] > 1 and file.file in sure and not fell_short(file, sure[file.file])
    )


def _absent(
    own: Sequence[PlannedFile], facts: Mapping[str, FileFacts], url: str, folder: str
) -> list[PlanFinding]:
    missing = [file for file in own if _key(file.file) not in facts]
    if not missing:
        return []
    first = missing[0]
    text = (
        f"{first.metric}: {len(missing)} of {len(own)} planned files are missing ({_names(missing)}), the "
        f"first for {iso(first.start)} to {iso(first.end)}"
    )
    command = f"hsa pull --url {url} --out {folder}"
    return [PlanFinding("missing_chunk", "fail", text, tuple(file.file for file in missing), command)]


def _findings(
    own: Sequence[PlannedFile],
    facts: Mapping[str, FileFacts],
    spans: Mapping[tuple[str, float, float], tuple[float, float]],
    code: Literal["short_chunk", "wrong_step"],
    judge: _FileCheck,
    url: str,
) -> list[PlanFinding]:
    bad: list[PlannedFile] = []
    why = ""
    for file in own:
        one = facts.get(_key(file.file))
        span = spans.get(_chunk_key(file))
        text = judge(file, one, *span) if one and span else None
        if text:
            bad.append(file)
            why = why or text
    if not bad:
        return []
    text = f"{bad[0].metric}: {bad[0].file} {why}"
    if len(bad) > 1:
        text += f"; {len(bad)} of its {len(own)} files are like this ({_names(bad)})"
    return [PlanFinding(code, "warn", text, tuple(file.file for file in bad), curl(bad[0], Caller(url)))]


def _short(file: PlannedFile, one: FileFacts, first_s: float, last_s: float) -> str | None:
    slack = SLACK_STEPS * file.step_s
    if one.first_s is None or one.last_s is None:
        return None
    if one.last_s < last_s - slack:
        return (
            f"ends at {iso(one.last_s)}, its chunk goes on to {iso(file.end)} and others reach {iso(last_s)}"
        )
    if one.first_s > first_s + slack:
        return f"begins at {iso(one.first_s)}, its chunk at {iso(file.start)} and others at {iso(first_s)}"
    return None


def _other_step(file: PlannedFile, one: FileFacts, _first_s: float, _last_s: float) -> str | None:
    if file.expected_points is None:  # the plan only assumed the interval of what was scraped
        return None
    if one.spacing_s is None or abs(one.spacing_s - file.step_s) <= STEP_SLACK * file.step_s:
        return None
    return f"has a sample every {one.spacing_s:g} s, the plan says {file.step_s:g} s"


_FILE_CHECKS: dict[Literal["short_chunk", "wrong_step"], _FileCheck] = {
    "short_chunk": _short,
    "wrong_step": _other_step,
}


def _names(files: Sequence[PlannedFile]) -> str:
    shown = ", ".join(file.file for file in files[:MOST_NAMED])
    return f"{shown} and {len(files) - MOST_NAMED} more" if len(files) > MOST_NAMED else shown
