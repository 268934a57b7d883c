"""A Kustomize base for the objects of a target: what ``kubectl apply -k`` puts in place together.

Listed are files of objects that a cluster can create. Rules without a kind, configurations of an adapter or
a planner, and merge patches of objects that exist already stay outside. ``namespace`` changes objects alone:
a query that names a namespace keeps its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hs_analysis.errors import ContractError
from hs_analysis.export import shape
from hs_analysis.export.model import comment, dump_documents, load_documents
from hs_analysis.export.slo_aware import SLO_AWARE_SUFFIX

KUSTOMIZATION = "kustomization.yaml"
KIND = ("kustomize.config.k8s.io/v1beta1", "Kustomization")
PART_OF = {"app.kubernetes.io/part-of": "hs-analysis"}
"""Label of every object of a base, so that they are found and taken back together."""

ALTERNATIVES = (SLO_AWARE_SUFFIX,)
"""Ends of files that are applied in place of others."""

PATCHED = ("LLMInferenceService", "InferenceService")
"""Kinds that a file changes and does not create."""


def kustomization(
    target: str, files: Mapping[str, str], advised_against: Mapping[str, str], said: Sequence[str] = ()
) -> str:
    """Return the base of a target's folder; empty where nothing in it is an object to create.

    Parameters
    ----------
    target
        The export target.
    files
        Every file of the folder, of all services: name → text.
    advised_against
        File of a policy that is not recommended → the first line that says so. It is left out, unless all
        are such files: then the base says it first.
    said
        What the first line of the files says of their policies, a sentence each: for which controller they
        were selected, where that is another one.

    Raises
    ------
    ContractError
        When two objects are the same one for a cluster: a bug here, not the user's mistake.
    """
    created = {name: found for name, text in files.items() if (found := _objects(name, text))}
    good = [name for name in created if name not in advised_against]
    listed = sorted(good or created)
    if not listed:
        return ""
    bodies = [body for name in listed for body in created[name]]
    spaces = {str((body.get("metadata") or {}).get("namespace") or "") for body in bodies}
    base = {
        "apiVersion": KIND[0],
        "kind": KIND[1],
        **({"namespace": spaces.pop()} if len(spaces) == 1 and "" not in spaces else {}),
        "labels": [{"pairs": dict(PART_OF), "includeSelectors": False}],
        "resources": listed,
    }
    if problems := lint_kustomization(base, files):
        raise ContractError("; ".join(problems), where=f"{target}/{KUSTOMIZATION}")
    lines = [] if good else [advised_against[listed[0]]]
    lines += said
    lines.append(f"Kustomize base: kubectl diff -k exports/{target}, then kubectl apply -k exports/{target}.")
    if left := sorted(set(created) - set(listed)):
        lines.append(f"Left out, for applying them is not recommended: {', '.join(left)}.")
    return comment(lines) + dump_documents([base])


def _objects(name: str, text: str) -> list[Mapping[str, Any]]:
    """Return the objects of a file that a cluster can create; none where one of its documents is no such.

    What takes the place of another file of the folder stays outside: the two exclude each other.
    """
    if name.endswith(ALTERNATIVES):
        return []
    documents = load_documents(text) if name.endswith(".yaml") else []
    created = [one for one in documents if one.get("kind") and one["kind"] not in PATCHED]
    return created if len(created) == len(documents) else []


def lint_kustomization(base: Mapping[str, Any], files: Mapping[str, str]) -> list[str]:
    """Return what is wrong with a base beside the files of its folder, one sentence a problem."""
    found = _BASE(base, "")
    if found:
        return [said.removeprefix(".") for said in found]
    if (base["apiVersion"], base["kind"]) != KIND:
        found.append(f"apiVersion and kind are not {' '.join(KIND)}")
    listed: Sequence[str] = base["resources"]
    for place, name in enumerate(listed):
        if name not in files:
            found.append(f"resources[{place}]: {name} is not in the folder")
        if name in listed[:place]:
            found.append(f"resources[{place}]: {name} is listed twice")
    seen: set[tuple[str, ...]] = set()
    for name in dict.fromkeys(listed):
        for body in load_documents(files.get(name, "")):
            meta = body.get("metadata") or {}
            key = tuple(str(one) for one in (body.get("kind"), meta.get("namespace"), meta.get("name")))
            if key in seen:
                found.append(f"{' '.join(key)} is written twice")
            seen.add(key)
    return found


_BASE = shape.keys(
    {"apiVersion": shape.text, "kind": shape.text, "resources": shape.listed(shape.text)},
    {"namespace": shape.text, "labels": shape.listed(shape.anything)},
)
