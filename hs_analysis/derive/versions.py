"""The rows of the active version: what a release inside the window leaves to each pool."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby

import numpy as np
import polars as pl

from hs_analysis.catalogue.pod_labels import IMAGE_METRIC
from hs_analysis.derive.constants import VERSION_S
from hs_analysis.derive.demand import instant
from hs_analysis.derive.rows import RoleRows, capture_numbers
from hs_analysis.schema.aligned import ServiceFrame, column
from hs_analysis.schema.arrays import Floats, Mask
from hs_analysis.schema.constants import HOUR_S, HOURS_MIN, SETTLED_S
from hs_analysis.schema.number_text import percent
from hs_analysis.schema.results import Reason, Refusal, Release, ReleaseKind

TELLS = ("version", "sign", "template")
"""Kinds of evidence, the plainest first; a driver is the node's and no release of an engine."""


@dataclass(frozen=True)
class _Seen:
    """A version on one instance: first and last sample [Unix s]."""

    capture: str
    value: str
    instance: str
    first_s: float
    last_s: float


@dataclass(frozen=True)
class _Change:
    """What one kind of evidence says of a pool: a version that came, and the sightings it leaves out."""

    what: str
    kind: ReleaseKind
    before: str
    after: str
    start_s: float
    end_s: float
    out: tuple[_Seen, ...]
    lost: bool = False
    """Whether no version that runs at the end was ever seen alone."""


@dataclass(frozen=True)
class ActiveVersion:
    """The rows of the version that each pool runs at the end of a window, its active version.

    Attributes
    ----------
    rows
        Per pool that had a release the rows it leaves, shape (rows,); pools without one are not in it.
    releases
        What is reported of them, by pool and time.
    since_s
        Per pool from when on instances that came are of the active version [Unix s].
    alone_s
        Per pool from when on that version runs alone [Unix s]; infinite where it does not yet.
    """

    rows: Mapping[str, Mask] = field(default_factory=dict)
    releases: tuple[Release, ...] = ()
    since_s: Mapping[str, float] = field(default_factory=dict)
    alone_s: Mapping[str, float] = field(default_factory=dict)

    def of(self, rows: RoleRows) -> RoleRows:
        """Return a pool's rows with only those usable that are of the active version.

        Work stays: how traffic moves has nothing to do with what serves it.
        """
        kept = self.rows.get(rows.role)
        if kept is None:
            return rows
        return replace(
            rows,
            usable=rows.usable & kept,
            settled=rows.settled & kept,
            sustained=self.signal(rows.role, rows.sustained),
        )

    def signal(self, role: str, values: Floats) -> Floats:
        """Return a signal of a pool with NaN where another version ran, shape (rows,)."""
        kept = self.rows.get(role)
        return values if kept is None else np.where(kept, values, np.nan)

    def both(self, frame: ServiceFrame) -> ServiceFrame:
        """Return the service without the pools' values where either pool ran another version.

        The cache hit rate is the engine's and the output length the model's, so the mix is the
        active version's.
        """
        if not self.rows:
            return frame
        kept = pl.Series(np.logical_and.reduce(list(self.rows.values())))
        names = [column(s.signal, s.role) for s in frame.signals if s.role in frame.pools]
        hidden = [pl.when(kept).then(pl.col(n)).alias(n) for n in names if n in frame.table.columns]
        return replace(frame, table=frame.table.with_columns(hidden))

    def typed(self, frame: ServiceFrame, typed: pl.DataFrame) -> pl.DataFrame:
        """Return the rows per GPU type of the active versions."""
        for role, kept in self.rows.items():
            windows = frame.table.select("capture", "t").filter(pl.Series(kept))
            own = typed.join(windows, ["capture", "t"], how="semi", maintain_order="left")
            typed = pl.concat([typed.filter(pl.col("role") != role), own.filter(pl.col("role") == role)])
        return typed

    def instance_startups(self, instance_startups: pl.DataFrame) -> pl.DataFrame:
        """Return the starts of instances of the active versions."""
        for role, since_s in self.since_s.items():
            late = pl.col("first_served").dt.epoch("us") >= round(1e6 * since_s)
            instance_startups = instance_startups.filter((pl.col("role") != role) | late)
        return instance_startups

    def with_version_note(self, role: str, reason: Reason | None) -> Reason | None:
        """Return the reason of a pool's number with the hours of the active version."""
        own = [one for one in self.releases if one.role == role and one.kind != "tried"]
        if reason is None or not own:
            return reason
        text = f"{reason.text}; this is of the {own[-1].used_h:.1f} h of the version that runs now"
        return replace(reason, text=text)

    def collect(self, refusal: Refusal, rows: Mapping[str, RoleRows], frame: ServiceFrame) -> Refusal:
        """Return a refusal of a capacity or of the ratio with when enough will have been recorded."""
        last = sorted(self.alone_s, key=lambda role: self.alone_s[role])[-1:]
        asks = {"pd_ratio": last} | {f"capacity@{role}": [role] for role in self.alone_s}
        waits = [_wait(role, self.alone_s[role], rows[role], frame) for role in asks.get(refusal.what, ())]
        text = "".join(waits)
        return replace(refusal, collect=f"{refusal.collect}; {text}") if text else refusal


def _wait(role: str, alone_s: float, rows: RoleRows, frame: ServiceFrame) -> str:
    """Return when enough of a new version will have been recorded, empty where it has been."""
    if not np.isfinite(alone_s):
        return (
            f"enough of the new {role} version will have been recorded {HOURS_MIN:.0f} h, better 24 h, after "
            "the last instance of the other one is gone"
        )
    end_s = float(frame.seconds().max()) + frame.window_s
    known_s = float((rows.usable & np.isfinite(rows.sustained)).sum()) * rows.window_s
    if alone_s + VERSION_S <= end_s:
        return ""
    text = f"a whole day of the new {role} version will have been recorded by {minute(alone_s + VERSION_S)}"
    if known_s < HOURS_MIN * HOUR_S:
        soonest = minute(end_s + HOURS_MIN * HOUR_S - known_s)
        text += f", the {HOURS_MIN:.0f} h that any answer needs not before {soonest}"
    return text


def minute(seconds: float) -> str:
    """Return Unix seconds as ISO 8601 UTC text to the minute."""
    return f"{instant(60.0 * np.ceil(seconds / 60.0))[:16]}Z"


def active_version(frame: ServiceFrame, versions: pl.DataFrame) -> ActiveVersion:
    """Return what the releases inside a window leave of it to the versions that run at its end.

    A release that took the place of the version before leaves the rows after that one was last seen. One that
    was tried and went again costs the rows it ran in. Where two versions run at the end, the one that most
    instances run is the active one: rows in which both ran belong to neither, so that nothing is left to a
    roll-out that is half done. A row on either side of what was seen goes too, for an instance runs before
    its first sample and after its last.

    Versions that were there from the start are no release, nor is a value that an instance reports
    together with another. A template's hash changes with a mere restart: it counts only where nothing names
    the version, and not in a pressure test, whose pools are made anew for every split.

    Parameters
    ----------
    frame
        The service; versions after its last row are not looked at.
    versions
        Rows of contract VERSIONS.
    """
    if not frame.table.height:
        return ActiveVersion()
    rows, since, alone, releases = {}, {}, {}, []
    for role in frame.pools:
        changes = [
            change for what, seen in _evidence(frame, versions, role) for change in _changes(what, seen)
        ]
        if not changes:
            continue
        rows[role] = ~np.logical_or.reduce([_touched(frame, change.out) for change in changes])
        releases += _releases_of(frame, role, rows[role], changes)
        lasting = [change for change in changes if change.kind == "released" or change.lost]
        if lasting:
            since[role] = max(change.start_s for change in lasting)
            alone[role] = max(np.inf if c.lost else max(c.start_s, c.end_s) for c in lasting)
    return ActiveVersion(rows, tuple(releases), since, alone)


def _evidence(frame: ServiceFrame, versions: pl.DataFrame, role: str) -> list[tuple[str, list[_Seen]]]:
    """Return the sightings of each kind of evidence of a pool until the end of a window."""
    end_s = float(frame.seconds().max()) + frame.window_s
    own = versions.filter(
        pl.col("service") == frame.service,
        pl.col("role") == role,
        pl.col("tells").is_in(TELLS),
        pl.col("first").dt.epoch("us") < round(1e6 * end_s),
    ).with_columns(pl.col("first", "last").dt.epoch("us") / 1e6)
    if "version" in own["tells"] or frame.kind != "production":
        own = own.filter(pl.col("tells") != "template")
    order = pl.col("tells").replace_strict({name: n for n, name in enumerate(TELLS)}, return_dtype=pl.Int8)
    found = own.sort(order, "what", "first", "value", "capture", "instance").select(
        "what", "capture", "value", "instance", "first", "last"
    )
    return [
        (what, [_Seen(c, v, i, first, min(last, end_s)) for _, c, v, i, first, last in rows])
        for what, rows in groupby(found.iter_rows(), key=lambda row: str(row[0]))
    ]


def _changes(what: str, seen: Sequence[_Seen]) -> list[_Change]:
    """Return the changes that one kind of evidence shows, those that were tried and the one that lasts."""
    first = {one.value: min(s.first_s for s in seen if s.value == one.value) for one in seen}
    last = {one.value: max(s.last_s for s in seen if s.value == one.value) for one in seen}
    start, end = min(first.values()), max(last.values())
    at_end = [s for s in seen if s.last_s > end - SETTLED_S]
    final = {s.value for s in at_end}
    come = {value for value in first if first[value] - start >= SETTLED_S}
    new, others, gone = final & come, final - come, set(first) - final
    if not new:
        return _tried(what, seen, gone & come, _most(at_end, final))
    at = min(first[value] for value in new)
    replaced = {v for v in gone if first[v] < at and (not others or last[v] >= at)}
    after = _most(at_end, new)
    if replaced:
        out = tuple(s for s in seen if s.value in replaced)
        before = max(replaced, key=lambda value: (last[value], value))
        lasting = _Change(what, "released", before, after, at, last[before], out)
        return [*_tried(what, seen, gone - replaced, after), lasting]
    before = _most(at_end, others)
    theirs, ours = ({s.instance for s in at_end if s.value in side} for side in (others, new))
    if not ours - theirs:
        return _tried(what, seen, gone & come, before)
    lost = len(ours) >= len(theirs)
    out = tuple(s for s in seen if s.value in (others if lost else new))
    under_way = _Change(what, "under_way", before, after, at, end, out, lost)
    return [*_tried(what, seen, gone & come, after if lost else before), under_way]


def _most(at_end: Sequence[_Seen], among: set[str]) -> str:
    """Return the version that most instances run at the end, the later one of equals."""
    count = {value: len({s.instance for s in at_end if s.value == value}) for value in among}
    first = {value: min(s.first_s for s in at_end if s.value == value) for value in among}
    return max(among, key=lambda value: (count[value], first[value], value))


def _tried(what: str, seen: Sequence[_Seen], went: set[str], stayed: str) -> list[_Change]:
    out = {value: tuple(s for s in seen if s.value == value) for value in sorted(went)}
    return [
        _Change(
            what, "tried", stayed, value, min(s.first_s for s in own), max(s.last_s for s in own), own
        )
        for value, own in out.items()
    ]  # fmt: skip


def _touched(frame: ServiceFrame, out: Sequence[_Seen]) -> Mask:
    """Return the rows in which, or next to which, a version was seen, shape (rows,)."""
    seconds, group, width = frame.seconds(), capture_numbers(frame), frame.window_s
    touched = np.zeros(seconds.size, dtype=bool)
    for number, name in enumerate(frame.captures()):
        for one in (one for one in out if one.capture == name):
            inside = (seconds <= one.last_s + width) & (seconds >= one.first_s - 2.0 * width)
            touched |= inside & (group == number)
    return touched


def _releases_of(frame: ServiceFrame, role: str, kept: Mask, changes: Sequence[_Change]) -> list[Release]:
    """Return what is reported of a pool: the change that lasts by its best evidence, and those tried after.

    Several kinds of evidence show one roll-out; what was tried before a later release does not matter.
    """
    ran = frame.values("instances", role) > 0
    hours = {side: float((ran & mask).sum()) * frame.window_s / HOUR_S for side, mask in
             (("used_h", kept), ("left_out_h", ~kept))}  # fmt: skip
    lasting = [change for change in changes if change.kind != "tried"]
    last = max((change.start_s for change in lasting), default=-np.inf)
    chosen = [c for c in lasting if max(c.start_s, c.end_s) > last - SETTLED_S][:1]
    tried: list[_Change] = []
    for change in sorted((c for c in changes if c.kind == "tried"), key=lambda c: c.start_s):
        apart = all(change.start_s > other.end_s + SETTLED_S for other in tried)
        if apart and all(change.end_s > one.end_s for one in chosen if one.kind == "released"):
            tried.append(change)
    return [
        Release(
            role=role,
            kind=change.kind,
            what=change.what,
            before=change.before,
            after=change.after,
            start=instant(change.start_s),
            end=instant(change.end_s),
            **hours,
            text=_text(role, change, hours),
        )
        for change in (*chosen, *tried)
    ]


def _text(role: str, change: _Change, hours: Mapping[str, float]) -> str:
    start, end = minute(change.start_s), minute(change.end_s)
    rest = f"its numbers rest on {hours['used_h']:.1f} h, {hours['left_out_h']:.1f} h are left out"
    if change.what.endswith("_hash"):
        rest += f"; a restart changes the hash too, which {IMAGE_METRIC} in the dump would tell apart"
    if change.kind == "tried":
        return (
            f"{role} ran another version from {start} to {end} and went back ({change.what}: {change.after}, "
            f"now {change.before}): {rest}"
        )
    if change.kind == "under_way":
        whose = change.after if change.lost else change.before
        return (
            f"{role} runs two versions since {start} ({change.what}: {change.after} and {change.before}), "
            f"most instances {whose}; what both ran in belongs to neither: {rest}"
        )
    between = f", side by side from {start}" if change.start_s < change.end_s else ""
    return (
        f"{role} runs another version since {minute(max(change.start_s, change.end_s))} ({change.what}: "
        f"{change.after} instead of {change.before}{between}): {rest}"
    )


def other_version(test: ServiceFrame, train: ServiceFrame, versions: pl.DataFrame) -> tuple[str, ...]:
    """Say in which pools a window ran another version than the one that numbers were fitted on.

    Parameters
    ----------
    test
        The window to replay.
    train
        Where the numbers come from: they speak of the version that ran at its end.
    versions
        Rows of contract VERSIONS.

    Returns
    -------
    tuple
        One text a pool; empty where the same versions ran.
    """
    if not train.table.height or not test.table.height:
        return ()
    whole = replace(test, table=pl.concat([train.table, test.table]).sort("capture", "t"))
    end_s = float(train.seconds().max()) + train.window_s
    found = []
    for role in test.pools:
        for what, seen in _evidence(whole, versions, role):
            before = [replace(s, last_s=min(s.last_s, end_s)) for s in seen if s.first_s < end_s]
            left = {s.value for change in _changes(what, before) for s in change.out} if before else set()
            fitted = {s.value for s in before} - left
            still = {s.instance: s.last_s for s in seen if s.value in fitted}
            came = [s for s in seen if s.value not in fitted and still.get(s.instance, -np.inf) < s.last_s]
            touched = _touched(test, came)
            if fitted and touched.any():
                at = min(came, key=lambda s: (s.first_s, s.value))
                found.append(
                    f"{role} ran {at.value} ({what}) from {minute(at.first_s)} on, in "
                    f"{percent(touched.mean(), whole=True)} of the test window, and the numbers were "
                    "fitted on the one before"
                )
                break
    return tuple(found)
