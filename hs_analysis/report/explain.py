"""One number's derivation: what a link points to, as data and as text."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import polars as pl

from hs_analysis import evidence
from hs_analysis.catalogue import Catalogue, load_catalogue
from hs_analysis.errors import UsageError
from hs_analysis.evidence import EvidenceLink, LinkedAnswer
from hs_analysis.report import chart_links
from hs_analysis.report.choice import records
from hs_analysis.report.derivations import CAPACITY_FORMULAS, DERIVATIONS
from hs_analysis.report.explain_text import text
from hs_analysis.report.headlines import HEADLINES, INTERVALS, NUMBERS
from hs_analysis.report.replica_words import replica_text
from hs_analysis.report.rolling_words import coverage_text
from hs_analysis.report.sweep_explain import explained, kind_of, links, sweep_of
from hs_analysis.report.wording import on_type, signal_label, unit_of
from hs_analysis.schema.constants import CLAIM_CHANCE
from hs_analysis.schema.names import POOL_ROLES
from hs_analysis.statistics.ranks import range_holds_median

__all__ = ["explain", "kinds", "text"]

Entry = Mapping[str, Any]

SIMILAR = 3


@dataclass(frozen=True)
class LinkedEntry:
    """Where a link lands: the kind of entry, what it is called, and the entry of the summary."""

    kind: str
    name: str
    entry: Entry


def explain(
    link: EvidenceLink,
    summary: Mapping[str, Any],
    details: Mapping[str, pl.DataFrame],
    catalogue: Catalogue | None = None,
    made_by: Mapping[str, Sequence[str]] | None = None,
) -> dict[str, Any]:
    """Return how the number behind a link was found.

    Parameters
    ----------
    link
        A parsed link; its range narrows the rows that are counted.
    summary
        summary.json.
    details
        Detail tables by name (`hs_analysis.schema.frames`); those that are absent give no rows.
    catalogue
        The catalogue with the rows of the run's settings; the shipped one when it has none.
    made_by
        Per kind of number (`kinds`) the functions and queries that make it; none are named without it.

    Returns
    -------
    dict
        link, run, service, title, measure, value, unit, interval, interval_is, status, reasons, numbers,
        window, method, formula, basis, metrics, made_by, rows, inputs, see_also, refs. ``value`` is None
        where it was refused; then ``reasons`` says why. Plain data, ready for JSON.

    Raises
    ------
    UsageError
        When the run holds nothing under this link; the hint names the nearest ones.
    """
    sweep = sweep_of(link, summary)
    if sweep is not None:
        return (
            _head(link)
            | explained(sweep, details["splits"], made_by or {})
            | _tail("sweeps", link, summary, {})
        )
    service = _service(link, summary)
    if link.what.startswith(chart_links.PREFIX):
        return _of_chart(link, service, summary, details, catalogue, made_by)
    by_path = dict(_linked_entries(service))
    bare = evidence.path(link.service, link.stage, link.what)
    linked = by_path.get(bare)
    if linked is None:
        near = difflib.get_close_matches(bare, [*by_path, *links(summary)], SIMILAR, 0.0) if by_path else []
        hint = f"nearest: {', '.join(near)}" if near else "the run has no answers for this service"
        raise UsageError("this run shows nothing under this link", where=bare, hint=hint)
    return _explained(linked, link, summary, service, by_path, details, catalogue, made_by)


def everything(
    service: Entry,
    summary: Mapping[str, Any],
    details: Mapping[str, pl.DataFrame],
    made_by: Mapping[str, Sequence[str]] | None = None,
) -> Iterator[tuple[str, str, Entry, dict[str, Any]]]:
    """Yield path, kind, entry of summary.json and explanation of every number of a service that has a link.

    Parameters
    ----------
    service, summary
        The service's part of summary.json, and all of it.
    details
        Detail tables by name; the rows of this service are enough.
    made_by
        As for `explain`.
    """
    by_path = dict(_linked_entries(service))
    catalogue = load_catalogue()
    # The path that an entry gives goes before ours.
    at = {id(linked): path for path, linked in by_path.items()}
    for path in at.values():
        linked = by_path[path]
        link = evidence.parse(path)
        yield (
            path,
            linked.kind,
            linked.entry,
            _explained(linked, link, summary, service, by_path, details, catalogue, made_by),
        )


def _explained(
    linked: LinkedEntry,
    link: EvidenceLink,
    summary: Mapping[str, Any],
    service: Entry,
    by_path: Mapping[str, LinkedEntry],
    details: Mapping[str, pl.DataFrame],
    catalogue: Catalogue | None,
    made_by: Mapping[str, Sequence[str]] | None,
) -> dict[str, Any]:
    tested = _ratio_test(linked, summary)
    derivation = DERIVATIONS["sweeps" if tested else linked.kind]
    value_key, interval_key, measure = HEADLINES.get(linked.kind, ("", "", ""))
    return (
        _head(link)
        | {
            "title": DERIVATIONS[linked.kind].title.format(name=linked.name),
            "measure": measure,
            "value": linked.entry.get(value_key),
            "unit": _unit(linked),
            "interval": linked.entry.get(interval_key),
            "interval_is": _interval_is(linked),
            "status": _status(linked),
            "reasons": _reasons(linked.entry),
            "numbers": _numbers(linked),
            "method": derivation.method,
            "formula": derivation.formula if tested else _formula(linked),
            "basis": _basis(linked, service),
            "metrics": _metrics(linked, service, catalogue or load_catalogue()),
            "made_by": list((made_by or {}).get(kind_of(tested) if tested else linked.kind, ())),
            "rows": _rows(linked, link, derivation.table, details),
            "see_also": _see_also(linked, service, by_path),
            "refs": list(derivation.refs),
        }
        | _tail(linked.kind, link, summary, service)
    )


def _interval_is(linked: LinkedEntry) -> str:
    """Return what the interval of a number is: of few births their range, for no 95 % interval exists."""
    births = linked.entry.get("births") if linked.kind == "startup" else None
    few = births and range_holds_median(births) < 1.0 - CLAIM_CHANCE
    return f"range of all {births} births" if few else "95 % interval"


def _ratio_test(linked: LinkedEntry, summary: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return the ratio test that a P/D ratio comes from, None where none gave it."""
    mixes = records(linked.entry.get("by_mix")) if linked.kind == "pd_ratio" else []
    return sweep_of(evidence.parse(str(mixes[0]["evidence"])), summary) if mixes else None


def _of_chart(
    link: EvidenceLink,
    service: Entry,
    summary: Mapping[str, Any],
    details: Mapping[str, pl.DataFrame],
    catalogue: Catalogue | None,
    made_by: Mapping[str, Sequence[str]] | None,
) -> dict[str, Any]:
    """Return how the number that a chart over time shows was found, over the chart's window."""
    number = chart_links.number_of(link.what, service)
    if number is not None:
        stage, what = number
        found = explain(replace(link, stage=stage, what=what), summary, details, catalogue, made_by)
        return found | _head(link) | {"title": f"chart of {found['title']}"}
    if link.what != f"{chart_links.PREFIX}coverage":
        raise UsageError(
            "this run draws no such chart", where=link.path, hint="copy the link from the report"
        )
    nothing: dict[str, Any] = dict.fromkeys(("value", "interval", "rows"))
    nothing |= dict.fromkeys(("measure", "unit", "interval_is", "status", "formula", "basis"), "")
    nothing |= {name: [] for name in ("reasons", "numbers", "metrics", "see_also", "refs")}
    words = {"title": "chart of when each signal was recorded", "method": chart_links.COVERAGE}
    makers = {"made_by": list((made_by or {}).get("signals", ()))}
    return _head(link) | nothing | words | makers | _tail("signals", link, summary, service)


def kinds(summary: Mapping[str, Any]) -> frozenset[str]:
    """Return the kinds of number that a run holds."""
    services = records(summary.get("services"))
    found = {answer.kind for service in services for answer in evidence.answers_of(service)}
    return frozenset(found | {kind_of(sweep) for sweep in records(summary.get("sweeps"))})


def _head(link: EvidenceLink) -> dict[str, Any]:
    return {"link": link.path, "run": link.run, "service": link.service}


def _tail(kind: str, link: EvidenceLink, summary: Mapping[str, Any], service: Entry) -> dict[str, Any]:
    """Return what every explanation says of the run: the window behind the number, and the inputs."""
    inputs = [_input(entry) for entry in summary.get("inputs") or []]
    return {"window": _window(kind, link, summary, service), "inputs": inputs}


def _service(link: EvidenceLink, summary: Mapping[str, Any]) -> Entry:
    services: list[Entry] = summary.get("services") or []
    names = [str(service.get("service")) for service in services]
    if link.service not in names:
        hint = f"it has {', '.join(names[:SIMILAR])}" if names else "it has no service at all"
        raise UsageError("no such service in this run", where=link.service, hint=hint)
    return services[names.index(link.service)]


def _linked_entries(service: Entry) -> Iterator[tuple[str, LinkedEntry]]:
    """Yield every path of a service with its entry: where it lands, and its own evidence if given."""
    for answer in evidence.answers_of(service):
        linked = LinkedEntry(answer.kind, _name(answer), answer.entry)
        yield answer.place, linked
        yield answer.path, linked


def _name(answer: LinkedAnswer) -> str:
    """Return what a title calls an answer."""
    entry = answer.entry
    if answer.kind in ("signals", "thresholds", "drivers"):
        on = on_type(entry) if answer.kind == "signals" else ""
        return signal_label(str(entry["signal"]), str(entry["role"])) + on
    if answer.kind in ("capacity", "startup"):
        on = f" on {entry['gpu_type']}" if answer.kind == "capacity" and entry.get("gpu_type") else ""
        return f"one {entry['role']} instance{on}"
    if answer.kind == "gpu_speeds":
        return f"{entry['gpu_type']} in the {entry['role']} pool"
    return str(entry["policy"]) if answer.kind in ("selection", "replay") else ""


def _unit(linked: LinkedEntry) -> str:
    if linked.kind in ("capacity", "thresholds"):
        role = linked.entry.get("role")
        return f"{unit_of(str(linked.entry.get('signal'))) or 'tokens/s'} per {role} instance"
    units = {
        "startup": "s",
        "pd_ratio": "prefill ÷ decode",
        "selection": "ratio",
        "replay": "instance-hours",
    }
    return units.get(linked.kind, "")


def _status(linked: LinkedEntry) -> str:
    if linked.kind in ("selection", "policy"):
        return "chosen" if linked.entry.get("chosen") else "not chosen"
    return str(linked.entry.get("status") or linked.entry.get("verdict") or "")


def _reasons(entry: Entry) -> list[dict[str, Any]]:
    """Return the reasons as code, text, value and limit, in whatever form the entry has them."""
    given = entry.get("reasons") or ([entry["reason"]] if entry.get("reason") else [])
    empty = {"code": "", "text": "", "value": None, "limit": None}
    return [empty | ({"text": one} if isinstance(one, str) else dict(one)) for one in given]


def _numbers(linked: LinkedEntry) -> list[dict[str, Any]]:
    found = []
    for key, (name, unit) in NUMBERS[linked.kind].items():
        value, interval = linked.entry.get(key), linked.entry.get(INTERVALS.get(key, f"{key}_ci"))
        if isinstance(value, Mapping):  # an estimate carries its own interval
            value, interval = value["value"], [value["low"], value["high"]]
        if value is not None:
            found.append({"name": name, "value": value, "unit": unit, "interval": interval})
    return found


def _window(kind: str, link: EvidenceLink, summary: Mapping[str, Any], service: Entry) -> dict[str, Any]:
    """Return what the number covers: the link's range, else the part of the window it was made from."""
    whole = summary.get("window") or {}
    pair = [whole.get("start"), whole.get("end")]
    part = {"selection": "train", "replay": "test", "drivers": "test"}.get(kind)
    known = (service.get("replay") or {}).get(part) if part else None
    if known:
        pair = list(known.values())[:2] if isinstance(known, Mapping) else list(known)
    for index, moment in enumerate((link.start, link.end)):
        if moment is not None:
            pair[index] = moment.isoformat().replace("+00:00", "Z")
    of = f"the {part}ing window" if part == "train" else "the test window" if part else "the whole window"
    return {"start": pair[0], "end": pair[1], "of": "the link" if link.start or link.end else of}


def _formula(linked: LinkedEntry) -> str:
    if linked.kind != "capacity":
        return DERIVATIONS[linked.kind].formula
    method = str(linked.entry.get("method") or "")
    return next((formula for name, formula in CAPACITY_FORMULAS.items() if method.startswith(name)), "")


def _basis(linked: LinkedEntry, service: Entry) -> str:
    """Return what the run chose among the ways the method knows."""
    words = {
        "offered": "load is offered work",
        "served": "load is served work, which hides demand in saturation",
    }
    found = [words.get(str(service.get("reference")), "")]
    if linked.kind == "capacity" and linked.entry.get("method"):
        found.append(f"law: {linked.entry['method']}")
    if linked.kind == "signals" and linked.entry.get("source"):
        found.append(f"read from {linked.entry['source']}")
    found.append(replica_text(linked.entry) or coverage_text(linked.entry))
    if pairs := linked.entry.get("integer_pairs"):
        found.append("nearest pairs P:D " + ", ".join(f"{p}:{d}" for p, d in pairs))
    return "; ".join(part for part in found if part)


def _metrics(linked: LinkedEntry, service: Entry, catalogue: Catalogue) -> list[str]:
    """Return the metrics that carry the signal: those of its source, or of every one where none is named.

    Names that something on the way gives to the same metrics are left out.
    """
    if linked.kind not in ("signals", "thresholds"):
        return []
    entry = linked.entry
    studied = (row for row in service.get("signals") or [] if _signal(row) == _signal(entry))
    source = entry.get("source") or next((row.get("source") for row in studied), None)
    signal = catalogue.signal(str(entry.get("signal")))
    rows = [row for row in signal.sources if source in (None, row.source)] if signal else []
    copies = {term.metric for row in rows for names in row.names if names.renamed for term in names.terms}
    return sorted({metric for row in rows for metric in row.metrics} - copies)


def _signal(entry: Entry) -> tuple[Any, ...]:
    return tuple(entry.get(key) for key in ("signal", "role", "gpu_type"))


def _rows(
    linked: LinkedEntry, link: EvidenceLink, table: str, details: Mapping[str, pl.DataFrame]
) -> dict[str, Any] | None:
    """Return how many rows of the detail table stand behind the number, and the loads they span."""
    frame = details.get(table)
    if frame is None:
        return None
    keys = {"service": link.service}
    wanted = {"study_points": ("signal", "role"), "timeline": ("policy",), "capacity_points": ("role",)}
    keys |= {key: str(linked.entry.get(key)) for key in wanted.get(table, ())}
    rows = frame.filter(pl.all_horizontal(pl.col(key) == value for key, value in keys.items()))
    time = "start" if "start" in rows.columns else "t"
    if link.start is not None:
        rows = rows.filter(pl.col(time) >= link.start)
    if link.end is not None:
        rows = rows.filter(pl.col(time) < link.end)
    found: dict[str, Any] = {"table": table, "rows": rows.height}
    if "used" in rows.columns:
        found["used"] = int(rows["used"].sum())
    if "violates" in rows.columns:
        found["violating"] = int(rows["violates"].sum())
        found["undecided"] = rows["violates"].null_count()
    load = next((name for name in ("load", "load_per_instance") if name in rows.columns), None)
    if load and rows[load].count():
        found["load"] = [rows[load].min(), rows[load].max()]
    return found


def _input(entry: Any) -> dict[str, Any]:
    if not isinstance(entry, Mapping):
        return {"name": str(entry), "bytes": None, "sha256": None}
    name = next((str(entry[key]) for key in ("name", "path", "file") if entry.get(key)), "")
    size = next((entry[key] for key in ("bytes", "size") if entry.get(key) is not None), None)
    return {"name": name, "bytes": size, "sha256": entry.get("sha256")}


def _see_also(linked: LinkedEntry, service: Entry, by_path: Mapping[str, LinkedEntry]) -> list[str]:
    """Return the links of the numbers this one was made from."""
    name = str(service["service"])
    pairs = list(
        zip(
            str(linked.entry.get("signal") or "").split("+"),
            str(linked.entry.get("role") or "").split("+"),
            strict=False,
        )
    )
    studied = [("study", f"{signal}@{role}") for signal, role in pairs]
    targets = [("derive", f"threshold:{signal}@{role}") for signal, role in pairs]
    capacities = [("derive", f"capacity@{role}") for role in POOL_ROLES]
    policy = str(linked.entry.get("policy") or "")
    parts = {
        "thresholds": [
            *(c for c in capacities if c[1].endswith(f"@{linked.entry.get('role')}")),
            *studied,
            ("derive", f"startup@{linked.entry.get('role')}"),
        ],
        "gpu_speeds": [("derive", f"capacity@{linked.entry.get('role')}@{linked.entry.get('gpu_type')}")],
        "pd_ratio": [] if linked.entry.get("by_mix") else [*capacities, ("derive", "demand")],
        "selection": [*targets, *studied],
        "policy": [*targets, ("derive", "pd_ratio"), ("select", policy), ("replay", policy)],
        "replay": [("select", policy), ("derive", "pd_ratio"), *capacities],
    }.get(linked.kind, [])
    paths = [evidence.path(name, stage, what) for stage, what in parts]
    tests = [str(mix.get("evidence")) for mix in records(linked.entry.get("by_mix"))]
    return [*tests, *(path for path in dict.fromkeys(paths) if path in by_path)]
