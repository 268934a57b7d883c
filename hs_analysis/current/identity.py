"""What today's objects are called and what they scale: the names that an export takes over."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from hs_analysis.current.documents import DYNAMO, KEDA, AutoscalerManifest
from hs_analysis.current.translate import role_of
from hs_analysis.export.blanks import CREDENTIAL
from hs_analysis.export.keda import ACCESS
from hs_analysis.export.model import PrometheusAccess, TodaysObject, Workload
from hs_analysis.schema.names import KUBERNETES_NAME, WORKLOAD_KINDS

HIDDEN = "***"
"""What a run keeps of a credential in a file that it was given."""


def todays_objects(
    manifests: Sequence[tuple[AutoscalerManifest, str]], pools: Sequence[str]
) -> dict[str, TodaysObject]:
    """Return the object of today per pool; one whose pool or name can't be told is left out.

    Parameters
    ----------
    manifests
        Objects, each with the pool that the user named; if empty, the object tells it.
    pools
        Pools of the service.
    """
    found: dict[str, TodaysObject] = {}
    for manifest, given in manifests:
        role = given or role_of(manifest.body, pools)
        if manifest.kind != DYNAMO and role is not None and role in pools:
            one = _object(manifest)
            if one is not None:
                found[role] = one
    return found


def _object(manifest: AutoscalerManifest) -> TodaysObject | None:
    metadata, spec = (_mapping(manifest.body.get(key)) for key in ("metadata", "spec"))
    name = _name(metadata.get("name"))
    if name is None:
        return None
    labels = {
        str(key): value for key, value in _mapping(metadata.get("labels")).items() if isinstance(value, str)
    }
    access = _access(spec) if manifest.kind == KEDA else PrometheusAccess()
    return TodaysObject(
        manifest.kind, name, _name(metadata.get("namespace")), labels,
        _workload(_mapping(spec.get("scaleTargetRef"))), access, manifest.where,
    )  # fmt: skip


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _name(value: Any) -> str | None:
    """Return a name that Kubernetes takes, else None."""
    return value if isinstance(value, str) and re.fullmatch(KUBERNETES_NAME, value) else None


def _workload(reference: Mapping[str, Any]) -> Workload | None:
    """Return what is scaled; KEDA takes a Deployment where no kind is said."""
    name, kind = _name(reference.get("name")), str(reference.get("kind") or "Deployment")
    version = str(reference.get("apiVersion") or WORKLOAD_KINDS.get(kind, ""))
    return Workload(name, kind, version) if name and version else None


def _access(spec: Mapping[str, Any]) -> PrometheusAccess:
    """Return how the triggers on Prometheus reach it, where they all go one way."""
    triggers = [one for one in spec.get("triggers") or () if _mapping(one).get("type") == "prometheus"]
    ways = []
    for one in triggers:
        metadata = _mapping(one.get("metadata"))
        address = str(metadata.get("serverAddress") or "")
        way = PrometheusAccess(
            address if re.match(r"https?://[^\s/]", address) and HIDDEN not in address else None,
            {str(key): str(value) for key, value in _mapping(one.get("authenticationRef")).items()},
            {key: _kept(metadata[key]) for key in ACCESS if key in metadata},
        )
        ways += [] if way in ways else [way]
    return ways[0] if len(ways) == 1 else PrometheusAccess()


def _kept(value: Any) -> str:
    return CREDENTIAL if HIDDEN in str(value) else str(value)
