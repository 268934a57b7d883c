"""Objects of autoscalers and exported files: which check is whose, and what is wrong with each document."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from hs_analysis.errors import InputError
from hs_analysis.export import shape
from hs_analysis.pipeline.faults import promql_problem, refuse
from hs_analysis.schema.places import Lines, documents_of, lines_of_documents, yaml_fault

OURS = re.compile(r"^#.*written by hs_analysis", re.MULTILINE)
"""A comment that every exported file starts with."""
HEAD = 5000
"""Where that comment ends at the latest [characters]."""

CHECKABLE = (
    "hsa.toml, policy.yaml, summary.json, a topology, plan.json, a file of --exclude or --events, an "
    "autoscaler's object and what hsa export writes can be; a settings file ends in .toml"
)


def check_objects(path: Path, text: str) -> str:
    """Check the objects of autoscalers, and the rules, in a YAML or JSON file."""
    from hs_analysis.current.documents import refuse_templates

    refuse_templates(text, str(path))
    ours = bool(OURS.search(text[:HEAD]))
    found, names, others = list[tuple[str, Lines]](), list[str](), list[str]()
    for (body, prefix), lines in bodies(path, text):
        check = _check_of(path, body, ours=ours)
        if check is None:
            others.append(str(body.get("kind") or "a document without kind"))
            continue
        names.append(_called(body))
        found += [(f"{prefix}{one}", lines) for one in (*check(body), *_queries(body, ""))]
    refuse(path, found)
    if not names:
        what = f"holds {', '.join(dict.fromkeys(others))}" if others else "is empty"
        raise InputError(f"{what}: no kind of file that can be checked", where=str(path), hint=CHECKABLE)
    return ", ".join(names)


def _called(body: Mapping[str, Any]) -> str:
    """Return kind and name of an object, or what a document without a kind is."""
    if body.get("kind"):
        metadata = body.get("metadata")
        name = metadata.get("name") if isinstance(metadata, Mapping) else None
        return f"{body['kind']} {name}" if name else str(body["kind"])
    names = {
        "groups": "rules",
        "externalRules": "rules of an adapter",
        "valid_samples": "calibration record of a router",
    }
    return next((name for key, name in names.items() if key in body), "planner")


def bodies(path: Path, text: str) -> Iterator[tuple[tuple[Mapping[str, Any], str], Lines]]:
    """Yield every object with its path in its document, lists taken apart, and the lines of the document."""
    from ruamel.yaml.error import YAMLError

    try:
        documents = [one for _, one in documents_of(text) if one is not None]
    except YAMLError as error:
        problem, where = yaml_fault(error, str(path))
        raise InputError(f"no YAML or JSON: {problem}", where=where) from error
    for document, lines in zip(documents, lines_of_documents(text), strict=False):
        if not isinstance(document, Mapping):
            raise InputError("expected an object with keys", where=f"{path}:{lines['']}")
        listed = str(document.get("kind", "")).endswith("List") and isinstance(document.get("items"), list)
        for number, body in enumerate(document["items"] if listed else [document]):
            if isinstance(body, Mapping):
                yield (body, f"items[{number}]." if listed else ""), lines


_Check = Callable[[Mapping[str, Any]], Sequence[str]]


def _check_of(path: Path, body: Mapping[str, Any], *, ours: bool) -> _Check | None:
    """Return what checks an object; None for one that nothing does."""
    from hs_analysis.current.documents import planner_of
    from hs_analysis.current.objects import hpa_faults, scaled_object_faults
    from hs_analysis.export.dynamo import lint_planner, planner_faults
    from hs_analysis.export.targets import lints_of

    if found := _STRUCTURE(body, ""):
        return lambda _body: found
    api, kind = str(body.get("apiVersion", "")), str(body.get("kind", ""))
    strict = lints_of(path.name, body)
    if kind == "HorizontalPodAutoscaler":
        if api != "autoscaling/v2":
            return lambda _body: [f"apiVersion {api or 'is missing'}: only autoscaling/v2 is read"]
        return lambda one: hpa_faults(one) or (strict(one) if ours and strict else ())
    if kind == "ScaledObject" and api.startswith("keda.sh/"):
        return lambda one: scaled_object_faults(one) or (strict(one) if ours and strict else ())
    if "schema" in body and str(body["schema"]).startswith("hs"):
        return lambda one: [f"schema {one['schema']!r} is none of hs_analysis"]
    if planner_of(body):
        said = (lint_planner if ours else planner_faults)(planner_of(body))
        return lambda _body: [one if "kind" in body else one.removeprefix("planner.") for one in said]
    if strict is None or ours or kind:
        return strict
    return lambda one: [said for said in strict(one) if not _only_ours(said)]


_ANY = shape.named(shape.anything, 0)
_RULES = {"rules": shape.listed(_ANY, 0), "name": shape.text}
_STRUCTURE = shape.some(
    {
        "metadata": _ANY,
        "groups": shape.listed(shape.some(_RULES)),
        "externalRules": shape.listed(shape.some({"name": _ANY, "resources": _ANY})),
    }
)
"""What has to be an object or a list before anything else of a document can be looked at."""


def _only_ours(said: str) -> bool:
    """Whether a sentence speaks of a rule of the exports alone: of a key that they always or never write."""
    return said.endswith((" is missing", " is unknown")) or "is not level:name:operation" in said


def _queries(value: Any, where: str) -> Iterator[str]:
    """Yield what is wrong with the PromQL inside an object."""
    if isinstance(value, Mapping):
        for key, below in value.items():
            place = f"{where}.{key}".lstrip(".")
            if key in ("query", "expr") and isinstance(below, str):
                if problem := promql_problem(below):
                    yield f"{place} {problem}"
            else:
                yield from _queries(below, place)
    elif isinstance(value, list):
        for number, below in enumerate(value):
            yield from _queries(below, f"{where}[{number}]")
