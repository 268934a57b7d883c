"""What the parts of today's files have to be before they are read: an object, a list, or a value.

Whether it makes sense is for its reader; what a reader would trip over is said here, with its place.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hs_analysis.errors import InputError
from hs_analysis.export import shape
from hs_analysis.export.shape import Check


def _value(value: Any, where: str) -> list[str]:
    """Check that a text or a number stands there."""
    return [f"{where} is a list or an object"] if isinstance(value, list | Mapping) else []


def _said(check: Check) -> Check:
    """Return a check of what may be left out."""
    return lambda value, where: [] if value is None else check(value, where)


def _some(**parts: Check) -> Check:
    return _said(shape.some({key: _said(check) for key, check in parts.items()}))


def _there(check: Check) -> Check:
    """Return the check of an entry: unlike a key it can't be left out."""
    return lambda value, where: [f"{where} is no object"] if value is None else check(value, where)


def _each(check: Check) -> Check:
    return _said(shape.listed(_there(check), 0))


def _named(check: Check) -> Check:
    return _said(shape.named(_there(check), 0))


_ANY = _some()
_METADATA = _some(name=_value, namespace=_value, labels=_ANY, annotations=_ANY)
_REFERENCE = _some(name=_value, kind=_value, apiVersion=_value)
_DIRECTION = _some(policies=_each(_some(type=_value)))
_BEHAVIOR = _some(scaleUp=_DIRECTION, scaleDown=_DIRECTION)
_ASKED = _some(
    metric=_some(name=_value, selector=_some(matchLabels=_ANY)), target=_ANY, describedObject=_REFERENCE
)
HPA = _some(
    scaleTargetRef=_REFERENCE,
    metrics=_each(_some(external=_ASKED, pods=_ASKED, object=_ASKED, resource=_ANY, containerResource=_ANY)),
    behavior=_BEHAVIOR,
)
KEDA = _some(
    scaleTargetRef=_REFERENCE,
    triggers=_each(_some(type=_value, name=_value, metadata=_ANY, authenticationRef=_ANY)),
    advanced=_some(scalingModifiers=_ANY, horizontalPodAutoscalerConfig=_some(behavior=_BEHAVIOR)),
    fallback=_ANY,
)
_ROLE = _some(metrics=_each(_some(name=_value)), metricSources=_named(_some(prometheus=_ANY)))
KTHENA = _some(
    disaggregatedTarget=_some(
        roles=_named(_ROLE),
        ratioConstraint=_ANY,
    ),
    behavior=_some(scaleUp=_some(stablePolicy=_ANY, panicPolicy=_ANY), scaleDown=_ANY),
)
AIBRIX = _some(metricsSources=_each(_ANY), subTargetSelector=_ANY, scaleTargetRef=_REFERENCE)
_SCALING = _some(keda=KEDA)
KSERVE = _some(scaling=_SCALING, prefill=_some(scaling=_SCALING))
_COMPONENT = _some(autoscalerPolicyRef=_REFERENCE)
OME = _some(engine=_COMPONENT, decoder=_COMPONENT)
OME_POLICY = _SCALING

CONFIG_MAP = _some(data=_ANY)
RECORD = _some(record=_value, expr=_value, labels=_ANY)
"""A recording rule."""

ADAPTED = _some(
    name=_ANY,
    resources=_some(overrides=_named(_some(resource=_value))),
    seriesFilters=_each(_some(**{"is": _value, "isNot": _value})),
)
"""A rule of the metrics adapter."""

_HINT = "its API refuses that too: take it from the cluster, kubectl get -o yaml"


def require_shape(spec: Check | None, body: Mapping[str, Any], where: str) -> None:
    """Raise `InputError` for an autoscaler's object that has something else where a part belongs."""
    require(_some(metadata=_METADATA, spec=spec or shape.anything), body, "", where)


def require(check: Check, part: Any, place: str, where: str = "") -> None:
    """Raise `InputError` for the first fault of a part."""
    faults = check(part, place)
    if faults:
        raise InputError(faults[0], where=where, hint=_HINT)
