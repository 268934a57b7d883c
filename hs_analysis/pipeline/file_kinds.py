"""Files that can be checked offline: what tells each kind, and every problem of one with its line."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import MISSING, dataclass, fields, is_dataclass
from pathlib import Path
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from hs_analysis.errors import HsError, InputError, ManyErrors
from hs_analysis.export import shape
from hs_analysis.export.model import LOSSES_SUFFIX, Loss
from hs_analysis.pipeline.faults import policy_doubts, policy_faults, promql_problem, refuse
from hs_analysis.pipeline.object_files import CHECKABLE, check_objects
from hs_analysis.schema.places import Lines, lines_of_documents, nearest


@dataclass(frozen=True)
class FileKind:
    """A kind of file: how to know it by (path, text), and what checks it and tells what it holds."""

    kind: str
    knows: Callable[[Path, str], bool]
    check: Callable[[Path, str], str]


@dataclass(frozen=True)
class Checked:
    """A file without a fault: its kind, what it holds, and what is odd in it, each with its line."""

    kind: str
    holds: str
    doubts: tuple[str, ...] = ()


def check_file(path: Path) -> Checked:
    """Return what a file is.

    Raises
    ------
    InputError, ManyErrors
        Every problem of it, with file and line.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise InputError(f"can't be read ({reason})", where=str(path), hint="check the path") from error
    known = next((kind for kind in KINDS if kind.knows(path, text)), None)
    if known is None:
        raise InputError("no kind of file that can be checked", where=str(path), hint=CHECKABLE)
    try:
        holds = known.check(path, text)
    except ManyErrors as error:
        raise ManyErrors([_invalid(problem) for problem in error.errors], all_told=True) from error
    except HsError as error:
        raise _invalid(error) from error
    except RecursionError as error:
        raise InputError("is nested too deep to be read", where=str(path)) from error
    return Checked(known.kind, holds, tuple(policy_doubts(text, str(path))) if known.kind == "policy" else ())


def _invalid(problem: HsError) -> InputError:
    """Return a problem of a file's contents: here the file is the question, so it is no wrong usage."""
    return InputError(problem.what, where=problem.where, hint=problem.hint)


def _settings(path: Path, _text: str) -> str:
    from hs_analysis.settings.file import read_file, resolve

    found, _ = resolve([read_file(path)], "UTC")  # the zone of a flag is not known here, and can't be wrong
    return f"{len(found)} settings"


def _policy(path: Path, text: str) -> str:
    from hs_analysis.policy import load_all

    policies = load_all(text, str(path))
    if not policies:
        raise InputError("holds no policy", where=str(path))
    found = policy_faults(policies, text)
    for policy, lines in zip(policies, lines_of_documents(text), strict=False):
        asked = [(f"spec.primaries[{i}].promql", one.promql) for i, one in enumerate(policy.primaries)]
        asked += [(f"spec.guards[{i}].promql", one.promql) for i, one in enumerate(policy.guards)]
        found += [(f"{where} {said}", lines) for where, one in asked if (said := promql_problem(one))]
    refuse(path, found)
    return ", ".join(f"policy of {policy.service}" for policy in policies)


def _topology(path: Path, text: str) -> str:
    from hs_analysis.policy.topology import load_topology

    found = load_topology(text, str(path))
    gpus = sum(rack.gpus for rack in found.racks)
    return f"{gpus} GPUs in {len(found.racks)} racks, prefill and decode within {found.affinity}"


def _plan(path: Path, text: str) -> str:
    from hs_analysis.collect.plan import PLAN_SCHEMA, Plan
    from hs_analysis.pipeline.plan_files import misplaced
    from hs_analysis.pipeline.records import from_plain

    data = _json(path, text)
    found = _unlike(Plan, data, "")
    if not found and data["schema"] != PLAN_SCHEMA:
        found = [f"schema {data['schema']!r} is not {PLAN_SCHEMA}"]
    found = found or list(misplaced(plan := from_plain(Plan, data)))
    refuse(path, [(one, _lines(text)) for one in found])
    return f"{len(plan.files)} queries from {plan.start} to {plan.end}"


def _unlike(hint: Any, value: Any, where: str) -> list[str]:
    """Return where plain data is not of a type, one sentence a problem."""
    origin, arguments = get_origin(hint), get_args(hint)
    if is_dataclass(hint) and isinstance(hint, type):
        hints = get_type_hints(hint)
        checks = {
            one.name: (lambda value, where, kind=hints[one.name]: _unlike(kind, value, where))
            for one in fields(hint)
        }
        needed = [one.name for one in fields(hint) if one.default is one.default_factory is MISSING]
        return shape.keys({k: v for k, v in checks.items() if k in needed}, checks)(value, where)
    if origin in (Union, UnionType):
        if value is None and type(None) in arguments:
            return []
        return _unlike(next(one for one in arguments if one is not type(None)), value, where)
    if origin is tuple:
        return shape.listed(lambda one, place: _unlike(arguments[0], one, place), 0)(value, where)
    if origin is Literal:
        return shape.choice(*arguments)(value, where)
    allowed = (int, float) if hint is float else hint
    right = isinstance(value, allowed) and (hint is bool or not isinstance(value, bool))
    names = {float: "number", int: "whole number", str: "text", bool: "true or false"}
    return [] if right else [f"{where} {value!r} is no {names.get(hint, hint)}"]


def _summary(path: Path, text: str) -> str:
    """Check a summary.json by its JSON Schema."""
    import jsonschema

    from hs_analysis.schema.json_schema import shipped_schema

    data = _json(path, text)
    schema = json.loads(shipped_schema("summary"))
    errors = jsonschema.Draft202012Validator(schema).iter_errors(data)
    refuse(path, [(said, _lines(text)) for error in errors for said in _in_words(error)])
    services = ", ".join(str(one.get("service")) for one in data["services"]) or "no service"
    return f"answer for {services}"


MOST_SHOWN = 60
"""Longest value in a message [characters]."""


def _in_words(error: Any) -> Iterator[str]:
    """Yield what a fault of a JSON Schema says, each time with the path of the key."""
    from jsonschema.exceptions import best_match

    while error.context:
        error = best_match(error.context)
    path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in error.absolute_path)
    path = path.lstrip(".")
    if error.validator == "additionalProperties":
        known = error.schema.get("properties", {})
        yield from shape.keys({}, dict.fromkeys(known, shape.anything))(error.instance, path)
    elif error.validator == "required":
        missing = [key for key in error.validator_value if key not in error.instance]
        yield from (f"{path}.{key} is missing".lstrip(".") for key in missing)
    elif error.validator == "type":
        kinds = error.validator_value if isinstance(error.validator_value, list) else [error.validator_value]
        yield f"{path} {_short(error.instance)} is not of type {' or '.join(kinds)}"
    else:
        yield f"{path} {_short(error.message)}"


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= MOST_SHOWN else f"{text[:MOST_SHOWN]}…"


def _is_stretches(path: Path, text: str) -> bool:
    """Whether a file lists times: a CSV, or a JSON list or object with a time in it."""
    from hs_analysis.settings.time_ranges import END, START

    if path.suffix == ".csv":
        return True
    head = text.lstrip()[:1]
    if path.suffix != ".json" or head not in ("[", "{"):
        return False
    names = "|".join((*START, *END))
    return bool(re.match(rf"\s*\[?\s*\{{[^{{}}]*\"({names})\"\s*:", text, re.IGNORECASE))


def _stretches(path: Path, text: str) -> str:
    """Check a file of ``--exclude``, or of ``--events`` where no record has an end."""
    from hs_analysis.settings import time_ranges

    if time_ranges.has_ends(text):
        count = len(time_ranges.excluded([path.name], str(path), path.parent, "UTC"))
        return f"{count} stretch{'es' * (count != 1)} for --exclude or --events"
    count = len(time_ranges.events([path.name], str(path), path.parent, "UTC"))
    return f"{count} event{'s' * (count != 1)} for --events"


def _dashboard(path: Path, text: str) -> str:
    """Check a dashboard for Grafana as hsa export writes it."""
    from hs_analysis.export.grafana import lint_dashboard

    data = _json(path, text)
    refuse(path, [(said.removeprefix("dashboard."), _lines(text)) for said in lint_dashboard(data)])
    return f"dashboard of {len(data['panels'])} panels"


def _is_dashboard(text: str) -> bool:
    """Whether a file is a dashboard of ours: any other one may hold what is not written here."""
    return text.lstrip().startswith("{") and '"panels"' in text and OUR_DASHBOARD in text[:1000]


def _kustomization(path: Path, text: str) -> str:
    """Check a Kustomize base as hsa export writes it, with the objects beside it."""
    from ruamel.yaml.error import YAMLError

    from hs_analysis.export.kustomize import lint_kustomization
    from hs_analysis.export.model import load_documents
    from hs_analysis.pipeline.object_files import bodies

    ((base, _), lines), *more = bodies(path, text)
    if more:
        raise InputError("holds more than one document", where=str(path))
    beside, broken = {}, []
    for place, name in enumerate(base.get("resources") or []):
        if (other := path.parent / str(name)).is_file():
            beside[name] = other.read_text("utf-8")
            try:
                load_documents(beside[name])
            except YAMLError:
                beside[name] = ""
                broken.append(f"resources[{place}]: {name} is no YAML: hsa validate {other}")
    refuse(path, [(said, lines) for said in [*lint_kustomization(base, beside), *broken]])
    return f"Kustomize base of {len(base['resources'])} files"


def _losses(path: Path, text: str) -> str:
    """Check the list of what an exported file does not hold of its policy."""
    found, lines = _parsed(path, text), _lines(text)
    said = _unlike(tuple[Loss, ...], found, "")
    refuse(path, [(one, {"": nearest(lines, one.partition(" ")[0])}) for one in said])
    kinds = [one["kind"] for one in found]
    counts = ", ".join(f"{kinds.count(kind)} {kind}" for kind in dict.fromkeys(kinds))
    return f"what a file does not hold of its policy: {counts or 'nothing'}"


def _table(path: Path, text: str) -> str:
    """Check a file of a target that is neither YAML nor JSON: its check names lines as ``line 3: …``."""
    from hs_analysis.export.targets import lint_of_text

    lint = lint_of_text(path.name)
    found = [re.fullmatch(r"(?:line (\d+): )?(.*)", said, re.DOTALL) for said in (lint(text) if lint else [])]
    refuse(path, [(one[2], {"": int(one[1] or 1)}) for one in found if one])
    return f"{len(text.splitlines())} lines as hsa export writes them"


def _is_table(path: Path) -> bool:
    from hs_analysis.export.targets import lint_of_text

    return lint_of_text(path.name) is not None


def _is_kustomization(path: Path, text: str) -> bool:
    """Whether a file is a base of ours: those of others list folders, addresses and patches."""
    from hs_analysis.export.kustomize import KUSTOMIZATION, PART_OF

    return path.name == KUSTOMIZATION and all(f"{key}: {value}" in text for key, value in PART_OF.items())


def _parsed(path: Path, text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise InputError(f"no JSON: {error.msg}", where=f"{path}:{error.lineno}") from error


def _json(path: Path, text: str) -> Any:
    found = _parsed(path, text)
    if not isinstance(found, dict):
        raise InputError("expected an object with keys", where=f"{path}:1")
    return found


def _lines(text: str) -> Lines:
    found = lines_of_documents(text)
    return found[0] if found else {"": 1}


OUR_DASHBOARD = '"hs_analysis"'
"""Tag of a dashboard that hsa export wrote."""

PLAN = '"hs-analysis/plan/'
"""Beginning of the schema's name in a plan."""

KINDS: tuple[FileKind, ...] = (
    FileKind("settings", lambda path, _text: path.suffix == ".toml", _settings),
    FileKind("plan", lambda path, text: path.name == "plan.json" or PLAN in text[:500], _plan),
    FileKind("summary", lambda path, text: path.name == "summary.json" or _is_summary(text), _summary),
    FileKind("policy", lambda _path, text: "schema: hs-analysis/policy/" in text, _policy),
    FileKind("topology", lambda _path, text: "schema: hs-analysis/topology/" in text, _topology),
    FileKind("dashboard", lambda path, text: path.suffix == ".json" and _is_dashboard(text), _dashboard),
    FileKind("losses", lambda path, _text: path.name.endswith(LOSSES_SUFFIX), _losses),
    FileKind("exported table", lambda path, _text: _is_table(path), _table),
    FileKind("stretches", _is_stretches, _stretches),
    FileKind("kustomization", _is_kustomization, _kustomization),
    FileKind("objects", lambda path, _text: path.suffix in (".yaml", ".yml", ".json"), check_objects),
)
"""What can be checked, in the order it is tried."""


def _is_summary(text: str) -> bool:
    return text.lstrip().startswith("{") and '"schema_version"' in text[:200] and '"coverage"' in text
