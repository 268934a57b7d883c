"""HeteroScale's own rule: the policy document is its object, with one signal, ratio, guards and timetable."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from hs_analysis.errors import InputError
from hs_analysis.export import model, rules
from hs_analysis.export.model import Export, ExportOptions, Loss, concerning
from hs_analysis.policy import dump, load_all
from hs_analysis.policy.declaration import SCHEMA
from hs_analysis.policy.model import Policy

TITLE = f"HeteroScale policy {SCHEMA}"
CONTROLLER = "heteroscale"
POLICY_SUFFIX = "policy.yaml"

_PLACEMENT = "written, but the rule sets counts: where instances start is the scheduler's"
_TRANSLATED = "selected and replayed for {was}, written for HeteroScale's rule"


def export_heteroscale(policy: Policy, options: ExportOptions) -> Export:
    """Return the policy document and the recording rules of its signals.

    The document holds every item of the policy, numbers, evidence and status as they are. In mode hold no
    document is written; the refusals are the losses.
    """
    files = dict(rules.export_rules(policy, options).files)
    if policy.mode == "hold":
        why = "; ".join(policy.refusals) or "the policy is on hold"
        return Export(CONTROLLER, files, (Loss("*", "refused", f"no object is written: {why}"),))
    known = [Loss("placement", "approximated", _PLACEMENT), *rules.missing_expressions(policy)]
    if policy.controller != CONTROLLER:
        known.append(Loss("controller", "approximated", _TRANSLATED.format(was=policy.controller)))
    losses = concerning(known, policy)
    # The document has comments of its own: its losses are in their file alone.
    head = model.header(policy, options, TITLE)
    name = f"{model.file_stem(policy.service)}.{POLICY_SUFFIX}"
    files[name] = head + dump(replace(policy, controller="heteroscale"))
    return Export(CONTROLLER, files, losses)


def lint_policy(document: Mapping[str, Any]) -> list[str]:
    """Return what is wrong with a policy document for a controller, one sentence a problem.

    It has to be read as a policy of this rule, with a query behind every signal that sizes a pool.
    """
    try:
        (policy,) = load_all(model.dump_documents([document]), POLICY_SUFFIX)
    except InputError as error:
        return [str(error)]
    found = []
    if policy.controller != CONTROLLER:
        found.append(f"spec.controller is {policy.controller!r}, not {CONTROLLER!r}")
    if policy.mode == "periodic" and not policy.periodic:
        found.append("spec.periodic is empty, and mode periodic follows it")
    if policy.mode == "metric" and not policy.primaries:
        found.append("spec.primaries is empty, and mode metric follows it")
    return found
