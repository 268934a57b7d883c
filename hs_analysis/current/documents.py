"""Documents of a manifest file: YAML or JSON, several in one, each with its line; templates are refused."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from hs_analysis.current.definitions import Definitions, definitions_in
from hs_analysis.errors import InputError

HPA, KEDA, DYNAMO = "HorizontalPodAutoscaler", "ScaledObject", "Dynamo planner"
PLANNER_KEYS = {
    "optimization_target", "prefill_scale_up_queue_tokens", "decode_scale_up_kv_rate", "max_gpu_budget",
    "prefill_min_endpoint", "decode_min_endpoint", "pre_deployment_sweeping_mode",
}  # fmt: skip
"""Keys that only the configuration of Dynamo's planner has."""

_TEMPLATE = re.compile(r"\{\{[-\s]*[.$\w\"(]|\$\{[A-Za-z_]\w*\}")
_KINDS = f"{HPA} autoscaling/v2, KEDA {KEDA}, or a Dynamo planner configuration"


@dataclass(frozen=True)
class Manifest:
    """One object of an autoscaler: its kind, its body as plain data, and its file and line."""

    kind: str
    body: Mapping[str, Any]
    where: str


def read_definitions(text: str, file: str) -> Definitions:
    """Return the recording and adapter rules of a file, none where it holds none."""
    return definitions_in(body for _, body in _objects(text, file))


def read_manifests(text: str, file: str) -> tuple[Manifest, ...]:
    """Return the autoscaler objects of a file, in order; other objects are passed over.

    A file with rules alone, recording rules or those of an adapter, gives none.

    Parameters
    ----------
    text
        YAML or JSON, one or several documents, also a ``kind: List``.
    file
        Its name, for messages.

    Raises
    ------
    InputError
        When it is a template that was never rendered, no YAML or JSON, holds an HPA of an older API version,
        or no autoscaler at all; with file and line.
    """
    _refuse_templates(text, file)
    found, others = [], []
    for line, body in _objects(text, file):
        where = f"{file}:{line}"
        kind = _kind_of(body, where)
        if kind:
            planner = _planner(body) if kind == DYNAMO else body
            found.append(Manifest(kind, planner, where))
        else:
            others.append(str(body.get("kind") or "a document without kind"))
    if not found and not read_definitions(text, file):
        what = f"holds no autoscaler, but {', '.join(dict.fromkeys(others))}" if others else "is empty"
        raise InputError(what, where=file, hint=f"give a {_KINDS}")
    return tuple(found)


def _refuse_templates(text: str, file: str) -> None:
    for number, line in enumerate(text.splitlines(), start=1):
        if _TEMPLATE.search(line.partition(" #")[0]):
            hint = "render it first, e.g. helm template, or take it from the cluster: kubectl get -o yaml"
            raise InputError(f"a template: {line.strip()}", where=f"{file}:{number}", hint=hint)


def _objects(text: str, file: str) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Yield (line, body) of every document, lists taken apart."""
    try:
        documents = list(YAML(typ="rt", pure=True).load_all(text))
    except MarkedYAMLError as error:
        line = f":{error.problem_mark.line + 1}" if error.problem_mark else ""
        raise InputError(f"no YAML or JSON: {error.problem}", where=f"{file}{line}") from error
    except YAMLError as error:
        raise InputError(f"no YAML or JSON: {error}", where=file) from error
    for document in documents:
        if document is None:
            continue
        if not isinstance(document, Mapping):
            raise InputError("expected an object with keys", where=file)
        listed = str(document.get("kind", "")).endswith("List") and isinstance(document.get("items"), list)
        bodies: list[Any] = document["items"] if listed else [document]
        for body in bodies:
            yield body.lc.line + 1, json.loads(json.dumps(body, default=str))


def _kind_of(body: Mapping[str, Any], where: str) -> str:
    """Return the kind of an autoscaler's object, empty for any other object."""
    api, kind = str(body.get("apiVersion", "")), str(body.get("kind", ""))
    if kind == HPA:
        if api != "autoscaling/v2":
            hint = "take it in the new form: kubectl get hpa.v2.autoscaling NAME -o yaml"
            raise InputError(
                f"apiVersion {api or 'missing'}, only autoscaling/v2 is read", where=where, hint=hint
            )
        return HPA
    if kind == KEDA and api.startswith("keda.sh/"):
        return KEDA
    return DYNAMO if _planner(body) else ""


def _planner(body: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the planner's configuration in a file of its own or in a deployment request; empty for none."""
    if PLANNER_KEYS & set(body):
        return body
    inside: Any = body
    for key in ("spec", "features", "planner"):
        inside = inside.get(key) if isinstance(inside, Mapping) else None
    return inside if isinstance(inside, Mapping) else {}
