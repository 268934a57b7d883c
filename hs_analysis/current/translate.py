"""Today's objects of a service, read into one autoscaler for the replay, with notes on what was not read."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from hs_analysis.catalogue import Catalogue
from hs_analysis.controllers import Autoscaler
from hs_analysis.current.documents import (
    AIBRIX,
    DYNAMO,
    HPA,
    KSERVE,
    KTHENA,
    OME,
    OME_POLICY,
    AutoscalerManifest,
    Definitions,
)
from hs_analysis.current.dynamo import read_planner
from hs_analysis.current.kubernetes import Reader, left_out, read_hpa, read_scaled_object
from hs_analysis.current.model import CurrentObject, Known
from hs_analysis.current.queries import QuantileAnswer
from hs_analysis.current.serving import (
    Read,
    policies_by_name,
    read_components,
    read_inference_service,
    read_kthena,
    read_pod_autoscaler,
)
from hs_analysis.current.slo_aware import follows_slo, read_slo_aware
from hs_analysis.errors import InputError
from hs_analysis.schema.names import CURRENT

_WORD = {role: re.compile(rf"(?<![a-z]){role}(?![a-z])", re.IGNORECASE) for role in ("prefill", "decode")}
_HINT = "say which pool it scales: --current prefill=FILE or --current decode=FILE"


@dataclass(frozen=True)
class CurrentAutoscaler:
    """Today's autoscaler as its objects set it up.

    Attributes
    ----------
    scaler
        What a replay runs; None where nothing can be.
    objects
        What was read.
    notes
        Parts of the objects that were not read, and what that means for the pool.
    answers
        Quantiles that it follows, (signal, role) → the expression whose values are the signal's.
    """

    scaler: Autoscaler | None
    objects: tuple[CurrentObject, ...]
    notes: tuple[str, ...]
    answers: Mapping[tuple[str, str], QuantileAnswer] = field(default_factory=dict)


def translate(
    manifests: Sequence[tuple[AutoscalerManifest, str]],
    known: Known,
    catalogue: Catalogue,
    definitions: Definitions | None = None,
) -> CurrentAutoscaler:
    """Return the autoscaler that the objects set up together.

    Parameters
    ----------
    manifests
        Objects, each with the pool that the user named; if empty, the pool follows from the words prefill and
        decode in the scale target, the name or the labels.
    known
        The service.
    catalogue
        Signals and their metrics.
    definitions
        Rules behind recorded names and external metrics.

    Raises
    ------
    InputError
        When a value can't be read, when two objects scale one pool, or when the pool of one can't be told.
    """
    found: list[CurrentObject] = []
    reader = Reader(known, catalogue, definitions or Definitions())
    together, policies = None, policies_by_name([one.body for one, _ in manifests if one.kind == OME_POLICY])
    for manifest, given in manifests:
        if manifest.kind == KTHENA:
            reads, together = read_kthena(manifest.body, known, reader, manifest.where)
            found += _of_roles(manifest, reads)
        elif manifest.kind == KSERVE:
            found += _of_roles(manifest, read_inference_service(manifest.body, known, reader, manifest.where))
        elif manifest.kind == OME:
            reads = read_components(manifest.body, policies, known, reader, manifest.where)
            found += _of_roles(manifest, reads)
        elif manifest.kind != OME_POLICY:
            found += _objects(manifest, given, known, reader)
    pools: dict[str, Any] = {}
    for one in found:
        other = next((o for o in found if o.role == one.role and o is not one), None)
        if other is not None:
            raise InputError(f"scales {one.role}, and so does {other.where}", where=one.where, hint=_HINT)
        if one.parameters is not None:
            pools[one.role] = one.parameters
    notes = [f"{one.where}: {one.name}: {text}" for one in found for text in one.notes]
    notes += [
        f"{one.where}: {one.name} can't be replayed, {one.role} keeps its count"
        for one in found
        if one.parameters is None
    ]
    covered = {one.role for one in found}
    notes += [f"no object scales {role}: it keeps its count" for role in known.pools if role not in covered]
    scaler = Autoscaler(CURRENT, pools, together) if pools else None
    return CurrentAutoscaler(scaler, tuple(found), tuple(notes), reader.answers)


def _objects(manifest: AutoscalerManifest, given: str, known: Known, reader: Reader) -> list[CurrentObject]:
    body, where = manifest.body, manifest.where
    if manifest.kind == DYNAMO:
        return [
            CurrentObject(DYNAMO, f"planner ({role})", where, role, parameters, (), notes, numbers)
            for role, parameters, notes, numbers in read_planner(body, known, where)
        ]
    name = str((body.get("metadata") or {}).get("name") or "without name")
    role = given or role_of(body, known.pools)
    if role is None:
        raise InputError(
            f"{name}: neither its name nor what it scales says the pool", where=where, hint=_HINT
        )
    if role not in known.pools:
        raise InputError(
            f"{name} scales {role}, but the service has {' and '.join(known.pools)}", where=where, hint=_HINT
        )
    if manifest.kind == AIBRIX:
        return _of_roles(manifest, [read_pod_autoscaler(body, role, reader, where)])
    read = read_hpa if manifest.kind == HPA else read_scaled_object
    read = read_slo_aware if follows_slo(manifest.kind, body) else read
    parameters, metrics, notes = read(body, role, reader, where)
    unread = left_out(body, manifest.kind == HPA, len(metrics))
    return [CurrentObject(manifest.kind, name, where, role, parameters, metrics, notes, unread=unread)]


def _of_roles(manifest: AutoscalerManifest, reads: Sequence[Read]) -> list[CurrentObject]:
    """Return an object of each role that one object scales."""
    name = str((manifest.body.get("metadata") or {}).get("name") or "without name")
    return [
        CurrentObject(manifest.kind, f"{name} ({role})", manifest.where, role, parameters, metrics, notes)
        for role, parameters, metrics, notes in reads
    ]


def role_of(body: Mapping[str, Any], pools: Sequence[str]) -> str | None:
    """Return the pool named by the scale target, else by the object's name or labels; None for none."""
    if len(pools) == 1:
        return pools[0]
    metadata, spec = body.get("metadata") or {}, body.get("spec") or {}
    places = (
        (spec.get("subTargetSelector") or {}).get("roleName"),
        (spec.get("scaleTargetRef") or {}).get("name"),
        metadata.get("name"),
        metadata.get("labels"),
    )
    for place in places:
        said = [role for role, word in _WORD.items() if word.search(str(place or ""))]
        if len(said) == 1:
            return said[0]
    return None
