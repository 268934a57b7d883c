"""Is what was read what the plan asked for: missing chunks, short ones, other steps."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from hs_analysis.catalogue import MAPPING
from hs_analysis.collect.commands import Caller, curl
from hs_analysis.collect.plan import Plan, PlannedFile, iso

SLACK_STEPS = 2.5
"""A chunk may begin late or end early by this many steps: a scrape may fail (as doctor's pauses)."""

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
class PlanFinding:
    """A difference between plan and files, and the command that repeats what is needed."""

    code: Literal["missing_chunk", "short_chunk", "wrong_step"]
    level: Literal["warn", "fail"]
    text: str
    files: tuple[str, ...]
    command: str


_Judge = Callable[[PlannedFile, FileFacts, float, float], str | None]


def missing_from_plan(
    plan: Plan, files: Iterable[FileFacts], url: str = "URL", folder: str = "DIR"
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

    Notes
    -----
    A file without samples is an answer: the metric was not there. A chunk is short when it begins later or
    ends earlier than another file of the same stretch and exporter does: pools that started or stopped
    together are not held against it.
    """
    facts = {_key(one.name): one for one in files}
    spans = _spans(plan.files, facts)
    found: list[PlanFinding] = []
    for metric in dict.fromkeys(file.metric for file in plan.files):
        own = [file for file in plan.files if file.metric == metric]
        found += _absent(own, facts, url, folder)
        for code, judge in _JUDGES.items():
            found += _judged(own, facts, spans, code, judge, url)
    return tuple(found)


def _key(name: str) -> str:
    return name.removesuffix(".gz")


def _stretch(file: PlannedFile) -> tuple[str, float, float]:
    """Return whose files of a stretch are held together: an exporter's; of the user's own, each metric's."""
    return (file.metric if file.exporter == MAPPING else file.exporter, file.start, file.end)


def _spans(
    files: Sequence[PlannedFile], facts: Mapping[str, FileFacts]
) -> dict[tuple[str, float, float], tuple[float, float]]:
    """Return the earliest and latest sample of any file per exporter and stretch."""
    spans: dict[tuple[str, float, float], tuple[float, float]] = {}
    for file in files:
        one = facts.get(_key(file.file))
        if one is None or one.first_s is None or one.last_s is None:
            continue
        key = _stretch(file)
        first, last = spans.get(key, (one.first_s, one.last_s))
        spans[key] = (min(first, one.first_s), max(last, one.last_s))
    return spans


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


def _judged(
    own: Sequence[PlannedFile],
    facts: Mapping[str, FileFacts],
    spans: Mapping[tuple[str, float, float], tuple[float, float]],
    code: Literal["short_chunk", "wrong_step"],
    judge: _Judge,
    url: str,
) -> list[PlanFinding]:
    bad: list[PlannedFile] = []
    why = ""
    for file in own:
        one = facts.get(_key(file.file))
        span = spans.get(_stretch(file))
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


_JUDGES: dict[Literal["short_chunk", "wrong_step"], _Judge] = {
    "short_chunk": _short,
    "wrong_step": _other_step,
}


def _names(files: Sequence[PlannedFile]) -> str:
    shown = ", ".join(file.file for file in files[:MOST_NAMED])
    return f"{shown} and {len(files) - MOST_NAMED} more" if len(files) > MOST_NAMED else shown
