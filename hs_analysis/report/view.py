"""The page as plain data: summary.json to words, tables and links, without charts and without HTML."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import polars as pl

from hs_analysis.report import first_line, gpu_types, replay_tables, section_answers, tables
from hs_analysis.report.answer import answer_of
from hs_analysis.report.beside import beside
from hs_analysis.report.cells import (
    Anchors,
    bare_path,
    evidence_path,
    number_cell,
    reason_text,
    table,
    text_cell,
)
from hs_analysis.report.choice import Choice, choose, mapping, records
from hs_analysis.report.derivations import DERIVATIONS, Derivation
from hs_analysis.report.driver_words import finding, load_dips
from hs_analysis.report.explain import kinds
from hs_analysis.report.first_screen import first_screen
from hs_analysis.report.ratio_words import beside_ratio
from hs_analysis.report.replay_words import notes
from hs_analysis.report.replica_words import groups_table, replica_text
from hs_analysis.report.slo import judged
from hs_analysis.report.sweeps import sweep_table
from hs_analysis.report.verdict import (
    OVERVIEW_HEADS,
    overview_row,
    pair_text,
    ratio_path,
    verdict,
    worst_first,
)
from hs_analysis.report.wording import (
    interval,
    is_number,
    number,
    percent,
    plain,
    plural,
    policy_name,
    service_name,
    span,
    status,
)
from hs_analysis.schema.names import BASELINES
from hs_analysis.schema.results import CHECK_FAILED, ROWS_LOST

YAML_LINK = re.compile(r"(?:report\.html#/|hsa:[^/\s\"']+/)?([^\s/\"'#{},\[\]]+/[a-z_]+/[^\s/\"',{}\[\]]+)")

METHOD_TITLES = {
    "signals": "Verdicts on signals",
    "capacity": "Capacity of one instance",
    "pd_ratio": "P/D ratio",
}

CROWDED_SERVICES = 20
"""From this many services on the page leaves out the charts of a decision and the further figures of a
backtest, which no link points at: summary.json has them."""

MANY_SERVICES = 2
"""From this many services on the page opens with a table of them."""


def build(
    summary: Mapping[str, Any],
    policies_yaml: Mapping[str, str],
    findings: pl.DataFrame,
    reproduce: str,
    made_by: Mapping[str, Sequence[str]] | None = None,
) -> dict[str, Any]:
    """Return everything the page says, as nested dicts, lists and strings.

    Parameters
    ----------
    summary
        summary.json; null stands for what is not known, a missing key for null.
    policies_yaml
        Text of policy.yaml per service.
    findings
        Findings of all services, contract ``findings``.
    reproduce
        The command line that makes this report again.
    made_by
        Per kind of number the functions and queries that make it.
    """
    anchors = Anchors()
    services: list[Mapping[str, Any]] = [
        {**service, "slo": judged(summary)} for service in records(summary.get("services"))
    ]
    crowded = len(services) >= CROWDED_SERVICES
    views = [
        _service(
            place,
            service,
            policies_yaml.get(str(service.get("service") or ""), ""),
            findings,
            anchors,
            crowded=crowded,
        )
        for place, service in enumerate(services)
    ]
    for view in views:
        view["policy"] = _yaml_lines(view["policy"], anchors)
    rows = worst_first(
        [(service, view.pop("overview")) for service, view in zip(services, views, strict=True)]
    )
    data = _data(summary, findings, len(services))
    for view in views:
        own = section_answers.data(view["findings"], None)
        view["answers"]["data"] = own if len(views) > 1 else data["data_answer"]
    return {
        "title": _title(services),
        "services": views,
        "many": len(views) >= MANY_SERVICES,
        "crowded": crowded,
        "overview": table("All services, worst first", OVERVIEW_HEADS, rows, tall=len(rows) > 8),
        "sweeps": sweep_table(summary, anchors),
        "bench_speeds": gpu_types.bench_table(summary),
        "unserved": first_line.without_service(summary),
        "baselines": [{"name": policy_name(name), "text": text} for name, text in BASELINES.items()],
        "methods": _methods(summary, made_by or {}),
        **data,
        **_warned(summary),
        **_run(summary, reproduce),
    }


def _data(summary: Mapping[str, Any], findings: pl.DataFrame, services: int) -> dict[str, Any]:
    """Return what was found about the input: coverage, roles, missing signals and findings, and the sum."""
    missing, covered = tables.missing(summary), mapping(summary.get("coverage")).get("ratio")
    whole = findings.filter(pl.col("service") == "") if services != 1 else findings
    if missing["rows"]:
        whole = whole.filter(pl.col("check") != "missing")  # the table of missing signals says the same
    found = tables.findings(whole)
    return {
        "coverage": tables.coverage(summary),
        "roles": _roles(summary),
        "missing": missing,
        "findings": found,
        "passed": tables.findings(whole, ("pass",)),
        "data_answer": section_answers.data(found, covered, missing=len(missing["rows"])),
    }


def _warned(summary: Mapping[str, Any]) -> dict[str, Any]:
    """Return the warnings of a run, and the texts of those that stand on top of the page."""
    warnings = [
        {"code": str(warning.get("code") or ""), "text": str(warning.get("text") or "")}
        for warning in records(summary.get("warnings"))
    ]
    on_top = {"broken": "input_broken", "lost": ROWS_LOST, "failed": CHECK_FAILED}
    texts = {key: [one["text"] for one in warnings if one["code"] == code] for key, code in on_top.items()}
    return {"warnings": warnings, **texts}


def _run(summary: Mapping[str, Any], reproduce: str) -> dict[str, Any]:
    """Return what was run on what: version, window, step, input files, and how to make the page again."""
    window, inputs = mapping(summary.get("window")), tables.inputs(summary)
    return {
        "tool_version": str(summary.get("tool_version") or ""),
        "window": tables.window(window),
        "step": plain(window.get("step_s")) + " s" if is_number(window.get("step_s")) else "",
        "inputs": inputs,
        "reproduce": reproduce,
        "reproduce_answer": f"the command line, and {plural(len(inputs['rows']), 'input file')}",
    }


def _methods(summary: Mapping[str, Any], made_by: Mapping[str, Sequence[str]]) -> list[dict[str, Any]]:
    """Return how each kind of number is found, and what makes it in this run."""
    here = kinds(summary)
    return [
        {"key": key, "title": METHOD_TITLES.get(key, key.replace("_", " ").capitalize()), **_words(made)}
        | {"made_by": _made_by(key, here, made_by)}
        for key, made in DERIVATIONS.items()
    ]


def _made_by(key: str, here: Collection[str], made_by: Mapping[str, Sequence[str]]) -> list[str]:
    """Return what makes a kind of number in this run; nothing where the run has no such number."""
    found = [kind for kind in here if kind == key or (key == "sweeps" and kind == "bench_sweeps")]
    return list(dict.fromkeys(name for kind in sorted(found) for name in made_by.get(kind, ())))


def _words(made: Derivation) -> dict[str, Any]:
    """Return a derivation for the page: the name of the single number is left open."""
    words = {"method": made.method, "formula": made.formula, "notes": list(made.notes)}
    return words | {"refs": list(made.refs)}


def _title(services: list[Mapping[str, Any]]) -> str:
    if len(services) == 1:
        return service_name(str(services[0].get("service") or "one service"))
    return f"{len(services)} services" if services else "no service found"


def _service(
    place: int,
    service: Mapping[str, Any],
    policy: str,
    findings: pl.DataFrame,
    anchors: Anchors,
    *,
    crowded: bool,
) -> dict[str, Any]:
    name = str(service.get("service") or "")
    choice = choose(service, policy)
    return {
        "id": f"s{place + 1}",
        "name": name,
        "about": _about(service),
        "choice": choice,
        "verdict": verdict(service, choice, f"/services/{place}"),
        "first": first_screen(service, choice),
        "line": next(iter(answer_of(service, choice, mapping(service.get("slo")), ".").lines), ""),
        "overview": overview_row(service, choice, f"s{place + 1}"),
        "totals": tables.totals(service),
        "saturated": tables.saturated(service),
        "findings": tables.findings(findings.filter(pl.col("service") == name)),
        "further": {} if crowded else replay_tables.further(service, choice),
        "targets": {} if crowded else replay_tables.targets(service),
        "fields": {} if crowded else replay_tables.fields(service),
        "beside": beside(service),
        **_studied(name, service, choice, anchors),
        **_derived(name, service, choice, anchors),
        **_replayed(name, service, choice, anchors),
        "policy": policy,
        "policy_id": anchors.claim(evidence_path(name, "policy", "policy"), "policy.yaml") if policy else "",
    }


# Anchors are claimed in page order, so that the first place that shows a number is the one a link opens.


def _studied(name: str, service: Mapping[str, Any], choice: Choice, anchors: Anchors) -> dict[str, Any]:
    """Return the signals, ranked, and the answers to the questions of all sections."""
    order = tables.ranked(service)
    return {
        "answers": section_answers.answers(service, choice, order),
        "ranked": order,
        "signals": tables.signals(name, tables.ranked(service, types=True), anchors),
    }


def _derived(name: str, service: Mapping[str, Any], choice: Choice, anchors: Anchors) -> dict[str, Any]:
    """Return capacities, thresholds, speeds by GPU type, start-up times, the P/D ratio, and the demand."""
    return {
        "capacity": tables.capacities(name, service, anchors),
        "thresholds": tables.thresholds(name, service, choice, anchors),
        "gpu_types": gpu_types.table_of(name, service, anchors),
        "startups": tables.startups(name, service, anchors),
        "ratio": _ratio(name, service, anchors),
    }


def _replayed(name: str, service: Mapping[str, Any], choice: Choice, anchors: Anchors) -> dict[str, Any]:
    """Return the backtest, the drivers tried and the candidates; then the demand that the capacities meet."""
    drivers = records(service.get("drivers"))
    found = {
        "replay": replay_tables.replay(name, service, choice, anchors) | _replay_words(service, choice),
        "drivers": replay_tables.drivers(name, service, anchors)
        | {"finding": finding(drivers), "dips": load_dips(drivers)},
        "selection": replay_tables.selection(name, service, anchors),
    }
    demand = _demand(service)
    path = evidence_path(name, "derive", "demand")
    return found | {"demand": demand, "demand_id": anchors.claim(path, demand[0]["text"]) if demand else ""}


def _about(service: Mapping[str, Any]) -> str:
    kinds = {"production": "production history", "pressure_test": "pressure test: load set on purpose"}
    references = {
        "offered": "judged against offered work",
        "served": "judged against served work: demand is hidden where the service saturates",
    }
    words = [
        kinds.get(str(service.get("history_kind")), ""),
        references.get(str(service.get("reference")), ""),
    ]
    per = service.get("gpus_per_instance")
    for role, gpus in sorted(per.items()) if isinstance(per, Mapping) else []:
        words.append(f"{_gpus(gpus)} per {role} instance" if is_number(gpus) else "")
    if is_number(per):
        words.append(f"{_gpus(per)} per instance")
    return " · ".join(word for word in words if word)


def _gpus(amount: Any) -> str:
    return f"{plain(amount)} GPU{'' if amount == 1 else 's'}"


def _demand(service: Mapping[str, Any]) -> list[dict[str, Any]]:
    given = mapping(service.get("demand"))
    rows = []
    for key, label, unit in (
        ("prefill_tps", "prefill work", "tokens/s"),
        ("decode_tps", "decode work", "tokens/s"),
        ("reconstruction_error", "reconstruction error", "ratio"),
    ):
        if is_number(given.get(key)):
            rows.append(number_cell(given[key], unit, label=label, key=key))
    return rows


def _ratio(name: str, service: Mapping[str, Any], anchors: Anchors) -> dict[str, Any]:
    answer = mapping(service.get("pd_ratio"))
    path = ratio_path(name, answer) if answer else ""
    cells = []
    for key, words in (("value", ""), ("at_least", "at least"), ("at_most", "at most")):
        if is_number(answer.get(key)):
            ci = answer.get("ci") if key == "value" else None
            cells.append(number_cell(answer[key], "", ci, before=words, strong=True, key=key))
    first = cells[0]["text"] if cells else "no value"
    cells = cells or [text_cell(first, strong=True)]
    cells[0] |= {
        "status": status(answer.get("status")),
        "per": "prefill per decode instance" if answer.get("value") else "",
    }
    band = interval(answer.get("band"))
    return {
        "given": bool(answer),
        "id": anchors.claim(path, first),
        "path": path,
        "cells": cells,
        "band": band,
        "pairs": pair_text(answer),
        "replicas": replica_text(answer),
        "replica_groups": groups_table(answer),
        "by_type": gpu_types.ratios_text(answer),
        "reason": "; ".join(
            part for part in (reason_text(answer.get("reason")), *beside_ratio(answer)) if part
        ),
    }


def _replay_words(service: Mapping[str, Any], choice: Choice) -> dict[str, Any]:
    given = mapping(service.get("replay"))
    train, test = (_pair(given.get(key)) for key in ("train", "test"))
    calibration = mapping(given.get("calibration"))
    listed = [
        {"label": str(key).replace("_", " "), "text": _value(key, value)}
        for key, value in sorted(calibration.items())
        if value is not None
        and key not in ("status", "text", "least_instance_hours")
        and not isinstance(value, Mapping | list)
    ]
    said = {key: str(calibration.get(key) or "").replace("_", " ") for key in ("status", "text")}
    held = {key: value for key, value in calibration.items() if key not in ("status", "text")}
    return {
        "train": span(*train) if train else "",
        "test": span(*test) if test else "",
        "calibration": listed,
        "calibrated": said,
        "notes": notes({**given, "calibration": held}),
        "has_replay": bool(records(given.get("policies"))),
        "has_selection": bool(records(service.get("selection"))),
        "chosen": policy_name(choice.policy),
    }


def _pair(given: Any) -> tuple[Any, Any] | None:
    return (given[0], given[1]) if isinstance(given, list | tuple) and len(given) == 2 else None


def _value(key: Any, value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if is_number(value):
        return percent(value) if str(key).endswith("_ratio") else number(value)
    return str(value)


def _roles(summary: Mapping[str, Any]) -> list[dict[str, str]]:
    roles = mapping(mapping(summary.get("coverage")).get("roles"))
    return [
        {"label": str(role), "text": number(value) if is_number(value) else str(value)}
        for role, value in sorted(roles.items())
    ]


def _yaml_lines(text: str, anchors: Anchors) -> list[list[dict[str, Any]]]:
    """Return the policy's lines as segments; comments are marked, known evidence paths become links."""
    lines = []
    for line in text.splitlines():
        segments, at = [], 0
        for found in YAML_LINK.finditer(line):
            path = bare_path(found.group(0))
            if path not in anchors.shown:
                continue
            segments.append({"text": line[at : found.start()], "href": ""})
            segments.append({"text": found.group(0), "href": f"#/{path}", "shows": anchors.shown[path]})
            at = found.end()
        segments.append({"text": line[at:], "href": ""})
        lines.append([{**s, "comment": line.lstrip().startswith("#")} for s in segments if s["text"]])
    return lines
