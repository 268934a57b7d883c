"""How a policy is put in place: what to check, what to type in order, what to watch, and how to go back.

APPLY.md, the first screen of the report and the terminal's next command all read one guide of a service.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from hs_analysis.report.choice import mapping, records
from hs_analysis.report.decision_words import LOADS, policy_of, scale_in_line, target_name
from hs_analysis.report.wording import fixed, is_number, number, percent, service_name
from hs_analysis.schema.exported import ApplyAlert, ApplyGuide, ApplyStep
from hs_analysis.schema.names import NOT_RECOMMENDED

APPLY_FILE = "exports/APPLY.md"

SAVED = "before.json"
"""Where the commands keep today's autoscalers."""


@dataclass(frozen=True)
class ExportedFile:
    """One file of a target: its path in the run folder, and its documents as plain data."""

    path: str
    documents: tuple[Mapping[str, Any], ...]

    @property
    def kind(self) -> str:
        """What is done with it: ``rules``, ``adapter``, ``object``, ``patch``, ``planner`` or ``policy``."""
        first = self.documents[0] if self.documents else {}
        for key, kind in _BY_KEY.items():
            if key in first:
                return kind
        if first.get("kind") in PATCHED:
            return "patch"
        if first.get("kind") == "PrometheusRule":
            return "rules"
        return "object" if first.get("kind") else "policy"


_BY_KEY = {"groups": "rules", "externalRules": "adapter", "optimization_target": "planner"}
"""Key that only one kind of file without a Kubernetes kind has → the kind."""

ORDER = ("rules", "adapter", "object", "patch", "planner", "policy")
"""Order in which files are put in place: what an object reads comes before it."""

PATCHED = {"LLMInferenceService": "llminferenceservice", "InferenceService": "inferenceservice.ome.io"}
"""Kinds that exist already and are changed by a merge patch → their name for kubectl."""

SCALABLE = ("Deployment", "StatefulSet", "LeaderWorkerSet", "RoleBasedGroupScalingAdapter")
"""Kinds whose count ``kubectl scale`` sets."""

_LOOKS = ("kubectl diff", "kubectl patch", "python")
"""How the commands begin that show what would change."""

_KEPT = (
    ".items |= map(select(.metadata.ownerReferences | not)) "
    "| del(.items[].metadata.resourceVersion, .items[].metadata.uid)"
)
"""What of a list of objects can be applied again, as a filter of jq."""

_SCALES = ".spec.scaleTargetRef // .spec.targetRef // .spec.disaggregatedTarget.targetRef | .name?"
"""Name of what an autoscaler scales, as a filter of jq."""

_NAMED = r'"\(.kind | ascii_downcase)/\(.metadata.name)"'
"""An object as kubectl names it, as a filter of jq."""

ASSUMPTIONS = {
    "The SLO holds": r"slo|ttft|tbt",
    "Prefill and decode keep the P/D ratio": r"ratio",
    "An instance still carries its target": r"target|capacity",
    "The signal can be read": r"missing|absent",
    "The guards are under their limits": r"guard",
    "Requests have the tokens of the history": r"mix",
}
"""What the policy assumes → how the name of the alert rule that watches it is recognised."""


def guide(
    decision: Mapping[str, Any],
    target: str,
    files: Sequence[ExportedFile],
    not_filled: Sequence[str] = (),
) -> ApplyGuide:
    """Return how the files of one target are put in place for a service.

    Parameters
    ----------
    decision
        Its decision as summary.json has it.
    target
        Key of ``EXPORT_TARGETS``.
    files
        The target's files of this service, and the rules that come with every target; without one that acts
        there is no step.
    not_filled
        What a file needs and the dump does not tell, as sentences.
    """
    ordered = sorted(files, key=lambda file: ORDER.index(file.kind))
    acting = [file for file in ordered if file.kind not in ("rules", "adapter")]
    bodies = [body for file in acting for body in file.documents]
    cost = mapping(decision.get("scale_in"))
    return ApplyGuide(
        target=target,
        not_filled=tuple(not_filled),
        check=tuple(_checks(bodies)) if acting else (),
        steps=tuple(_all_steps(ordered, _namespace(bodies))) if acting else (),
        watch=tuple(_watch(bodies, decision)) if acting else (),
        back=tuple(step for file in reversed(acting) for step in _back(file, decision)),
        alerts=tuple(_alerts(files)),
        scale_in=f"{line[0].upper()}{line[1:]}." if cost and (line := scale_in_line(cost)) else "",
    )


def next_command(service: Mapping[str, Any], folder: str) -> str:
    """Return what to type next to apply a service's policy: it shows what would change; empty for nothing.

    Parameters
    ----------
    service
        Its part of summary.json.
    folder
        The run folder as a user types it.
    """
    steps = records(mapping(service.get("apply")).get("steps"))
    commands = [str(step.get("command")) for step in steps if step.get("command")]
    found = next((command for command in commands if command.startswith(_LOOKS)), "")
    return found if folder == "." else found.replace("exports/", f"{folder}/exports/")


def _namespace(bodies: Iterable[Mapping[str, Any]]) -> str:
    names = (str(mapping(body.get("metadata")).get("namespace") or "") for body in bodies)
    return next(filter(None, names), "")


def _in(namespace: str) -> str:
    return f" -n {namespace}" if namespace else ""


def _scaled(bodies: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """Return what the objects scale as ``kind/name`` → the kind, each once."""
    found = {}
    for body in bodies:
        spec = mapping(body.get("spec"))
        reference = spec.get("scaleTargetRef") or mapping(spec.get("disaggregatedTarget")).get("targetRef")
        if reference:
            found[f"{reference['kind'].lower()}/{reference['name']}"] = str(reference["kind"])
        elif body.get("kind") in PATCHED:
            name = mapping(body.get("metadata")).get("name")
            found[f"{PATCHED[body['kind']]}/{name}"] = str(body["kind"])
    return found


def _kinds(bodies: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return the kinds of autoscalers as kubectl names them, and the HPA that KEDA keeps."""
    names = [str(body["kind"]).lower() for body in bodies if body.get("kind") and body["kind"] not in PATCHED]
    return list(dict.fromkeys(names))


def _checks(bodies: Sequence[Mapping[str, Any]]) -> Iterator[ApplyStep]:
    namespace, scaled = _namespace(bodies), _scaled(bodies)
    if scaled:
        names = " ".join(scaled)
        yield ApplyStep(command=f"kubectl get {names}{_in(namespace)}", why="See that each of them exists.")
    if kinds := _kinds(bodies):
        asked = ",".join([*(kind for kind in kinds if kind != "horizontalpodautoscaler"), "hpa"])
        yield ApplyStep(
            command=f"kubectl get {asked}{_in(namespace)} -o json | jq '{_KEPT}' > {SAVED}",
            why="Save the autoscalers of today. An HPA that another object owns comes back with its owner.",
        )
        if scaled:
            rivals = f"jq -r '{_rivals(bodies, scaled)}' {SAVED}"
            yield ApplyStep(
                command=f"{rivals} | xargs -r kubectl delete{_in(namespace)}",
                why="Delete the others that scale the same pods.",
            )


def _rivals(bodies: Iterable[Mapping[str, Any]], scaled: Iterable[str]) -> str:
    """Return the filter of jq for saved objects that scale the same pods and are not applied over."""
    same = ", ".join(json.dumps(name.partition("/")[2]) for name in scaled)
    ours = ", ".join(
        json.dumps(f"{str(body['kind']).lower()}/{mapping(body['metadata']).get('name')}")
        for body in bodies
        if body.get("kind") and body["kind"] not in PATCHED
    )
    return f".items[] | select(({_SCALES}) | IN({same})) | {_NAMED} | select(IN({ours}) | not)"


def _all_steps(ordered: Sequence[ExportedFile], namespace: str) -> Iterator[ApplyStep]:
    """Yield what puts the files in place; rule files are loaded together, once all of them are checked."""
    checked = [file.path for file in ordered if _plain_rules(file)]
    for file in ordered:
        yield from _steps(file, namespace)
        if checked and file.path == checked[-1]:
            yield ApplyStep(command="", why=LOAD_RULES.format(files=" and ".join(checked)))


def _plain_rules(file: ExportedFile) -> bool:
    """Return whether a file holds rules for Prometheus itself, and is no object of Kubernetes."""
    return file.kind == "rules" and not file.documents[0].get("kind")


LOAD_RULES = (
    "Name {files} under rule_files of Prometheus and reload it: charts and alerts read these rules. "
    "With the Prometheus Operator, put the groups into the spec of a PrometheusRule instead."
)
"""How the rule files get into Prometheus."""


def _steps(file: ExportedFile, namespace: str) -> Iterator[ApplyStep]:
    """Yield what puts a file in place."""
    path = file.path
    if file.kind == "object" or (file.kind == "rules" and not _plain_rules(file)):
        yield ApplyStep(command=f"kubectl diff -f {path}", why="See what would change.")
        yield ApplyStep(command=f"kubectl apply -f {path}", why="Apply it.")
    elif file.kind == "rules":
        yield ApplyStep(command=f"promtool check rules {path}", why="Check the rules.")
    elif file.kind == "adapter":
        yield ApplyStep(
            command="", why=f"Add the rules of {path} to the configuration of prometheus-adapter."
        )
        place = f"/apis/external.metrics.k8s.io/v1beta1/namespaces/{namespace or 'default'}"
        for rule in records(file.documents[0]["externalRules"]):
            name = mapping(rule.get("name")).get("as")
            yield ApplyStep(command=f"kubectl get --raw '{place}/{name}'", why="See that it has a value.")
    elif file.kind == "patch":
        for body in file.documents:
            named = f"{PATCHED[body['kind']]} {body['metadata']['name']}{_in(namespace)}"
            patch = f"kubectl patch {named} --type merge --patch-file {path}"
            yield ApplyStep(command=f"{patch} --dry-run=server -o yaml", why="See what would change.")
            yield ApplyStep(command=patch, why="Apply it.")
    elif file.kind == "planner":
        yield ApplyStep(
            command=f"python -m dynamo.planner --config {path}",
            why="It only advises. Set advisory to false once its advice is what you want.",
        )
    else:
        yield ApplyStep(command="", why=f"Give {path} to a controller that runs HeteroScale's own rule.")


def _watch(bodies: Sequence[Mapping[str, Any]], decision: Mapping[str, Any]) -> Iterator[ApplyStep]:
    namespace, kinds = _namespace(bodies), _kinds(bodies)
    if "scaledobject" in kinds:
        why = "READY is True and FALLBACK is False. KEDA keeps an HPA for each object."
        yield ApplyStep(command=f"kubectl get scaledobject,hpa{_in(namespace)} --watch", why=why)
    elif kinds:
        yield ApplyStep(
            command=f"kubectl get {','.join(kinds)}{_in(namespace)} --watch",
            why="Each of them reads its metric.",
        )
    for pool in records(decision.get("pools")):
        loads = mapping(pool.get("at_load"))
        named = [(load, mapping(loads.get(load)).get("recommended")) for load in LOADS]
        known = [(load, float(count)) for load, count in named if is_number(count)]
        if known:
            yield ApplyStep(command="", why=_expected(str(pool.get("role")), known))
    yield ApplyStep(
        command="", why="After a week, type hsa pull and hsa run again, and hsa compare both runs."
    )


def _expected(role: str, known: Sequence[tuple[str, float]]) -> str:
    """Return how many instances of a pool to expect: at each load where they rise with it, else a range."""
    if all(lower <= higher for (_, lower), (_, higher) in pairwise(known)):
        counts = ", ".join(f"{fixed(count, 1)} at {load} load" for load, count in known)
        return f"Expect these {role} instances: {counts}."
    # A window shorter than the policy's own lags shows no count of a load.
    least, most = (fixed(end(count for _, count in known), 1) for end in (min, max))
    return f"Expect {least} to {most} {role} instances; they did not rise with the load."


def _back(file: ExportedFile, decision: Mapping[str, Any]) -> Iterator[ApplyStep]:
    """Yield what takes a file back, and the counts that ran before."""
    namespace = _namespace(file.documents)
    if file.kind == "object":
        yield ApplyStep(command=f"kubectl delete -f {file.path}", why="Scaling stops, and the counts stay.")
        yield ApplyStep(command=f"kubectl apply -f {SAVED}", why="If you saved any, they act again.")
        for body in file.documents:
            for name, kind in _scaled([body]).items():
                if kind in SCALABLE and (count := _peak(decision, str(body["metadata"]["name"]))):
                    yield ApplyStep(
                        command=f"kubectl scale {name} --replicas={count}{_in(namespace)}",
                        why="What ran at peak load.",
                    )
    elif file.kind == "patch":
        for body in file.documents:
            undone = json.dumps({"spec": _undone(body["spec"], decision)})
            yield ApplyStep(
                command=f"kubectl patch {PATCHED[body['kind']]} {body['metadata']['name']}{_in(namespace)} "
                f"--type merge -p '{undone}'",
                why="Scaling stops, and each role has a fixed count where one is known.",
            )
    elif file.kind == "planner":
        yield ApplyStep(command="", why="Set advisory to true and start the planner again.")
    else:
        yield ApplyStep(command="", why="Stop the controller, or give it the policy that it had.")


def _undone(spec: Mapping[str, Any], decision: Mapping[str, Any]) -> dict[str, Any]:
    """Return a merge patch that takes another one back: scaling goes, the count of the peak comes."""
    found: dict[str, Any] = {}
    for key in spec:
        if key == "scaling":
            found["scaling"] = None
        elif key == "replicas":
            found["replicas"] = _peak(decision, "decode") or _peak(decision, "mixed")
        elif key == "prefill":
            found["prefill"] = {"scaling": None, "replicas": _peak(decision, "prefill")}
        else:
            found[key] = {"autoscalerPolicyRef": None}
    return found


def _peak(decision: Mapping[str, Any], name: str) -> int | None:
    """Return how many instances ran at peak load in the pool whose role is in a name, None where unknown."""
    pools = records(decision.get("pools"))
    mine = [pool for pool in pools if str(pool.get("role")) in name] or (pools if len(pools) == 1 else [])
    ran = [mapping(mapping(pool.get("at_load")).get("peak")).get("now") for pool in mine]
    return next((math.ceil(count) for count in ran if is_number(count)), None)


def _alerts(files: Iterable[ExportedFile]) -> Iterator[ApplyAlert]:
    """Yield what the policy assumes, and the alert rules of its files that watch it."""
    rules = [
        str(rule["alert"])
        for file in files
        if file.kind == "rules"
        for body in file.documents
        for group in records(body.get("groups") or mapping(body.get("spec")).get("groups"))
        for rule in records(group.get("rules"))
        if rule.get("alert")
    ]
    left = list(dict.fromkeys(rules))
    for text, pattern in ASSUMPTIONS.items():
        mine = [name for name in left if re.search(pattern, name, re.IGNORECASE)]
        left = [name for name in left if name not in mine]
        yield ApplyAlert(assumption=text, alerts=tuple(mine))
    if left:
        yield ApplyAlert(assumption="Anything else", alerts=tuple(left))


INSTEAD = (
    "`{second}` sizes each pool by its latency ÷ SLO, by the formula of llm-d's SLO-aware guide. Apply it in "
    "place of the token-aware objects, never both: KEDA refuses two on one workload."
)


@dataclass(frozen=True)
class ServiceSection:
    """One service of APPLY.md.

    Attributes
    ----------
    service
        ``namespace/model``.
    decision
        Its decision as summary.json has it.
    guide
        How the files of the decision's target are put in place.
    others
        Other target → its guide.
    replays
        What the file of each target does in the backtest, as ``replay.targets`` of summary.json has it.
    instead
        Target → the file of its objects, and the one that is applied in their place.
    """

    service: str
    decision: Mapping[str, Any]
    guide: ApplyGuide
    others: Mapping[str, ApplyGuide]
    replays: Sequence[Mapping[str, Any]] = ()
    instead: Mapping[str, tuple[str, str]] = field(default_factory=dict)


def markdown(sections: Sequence[ServiceSection], made: str) -> str:
    """Return APPLY.md: a part for each service.

    Parameters
    ----------
    sections
        One entry a service.
    made
        What wrote it, from which run.
    """
    lines = [*_warned(sections), "# How to apply", "", f"{made} Type the commands in the run folder.", ""]
    if len(sections) > 1:
        lines += ["`kubectl apply -k exports/TARGET` applies what a target has of all services.", ""]
    for one in sections:
        lines += [f"## {_heading(one.service)}", "", *_opening(one), ""]
        lines += [line for part in _parts(one) for line in part]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).rstrip() + "\n"


def in_general(alerts: Sequence[str]) -> str:
    """Return how a policy is applied, with names to replace: the guide of a KEDA object for each pool.

    Parameters
    ----------
    alerts
        Names of the alert rules that may be written.
    """
    rules = {"groups": [{"rules": [{"alert": name} for name in alerts]}]}
    objects = tuple(_placeholder(role) for role in ("prefill", "decode"))
    found = guide(
        {},
        "keda",
        [
            ExportedFile("exports/rules/SERVICE.alerts.yaml", (rules,)),
            ExportedFile("exports/keda/SERVICE.scaledobjects.yaml", objects),
        ],
    )
    lines = [
        "# How to apply",
        "",
        f"The run folder's {APPLY_FILE} has these steps with your service's names, for other targets too.",
        "Here they are for KEDA: replace SERVICE, MODEL and NAMESPACE. Type the commands in the run folder.",
        "",
        *(line for part in _parts(ServiceSection("SERVICE", {}, found, {})) for line in part),
    ]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines).replace("\n### ", "\n## ")).rstrip() + "\n"


def _placeholder(role: str) -> dict[str, Any]:
    """Return a ScaledObject whose names a reader replaces."""
    name = f"MODEL-{role}"
    return {
        "kind": "ScaledObject",
        "metadata": {"name": name, "namespace": "NAMESPACE"},
        "spec": {"scaleTargetRef": {"kind": "Deployment", "name": name}},
    }


def _heading(service: str) -> str:
    """Return a service in one line that no Markdown page takes for HTML."""
    return " ".join(service_name(service).split()).replace("<", "&lt;")


def _warned(sections: Sequence[ServiceSection]) -> list[str]:
    """Return the first line where none of the policies is recommended."""
    if any(one.decision.get("recommend") == "apply" for one in sections):
        return []
    reasons = [str(one.decision.get("why") or "").rstrip(".") for one in sections]
    why = reasons[0] if len(reasons) == 1 else "each service says why below"
    return [f"{NOT_RECOMMENDED}: {why}.", ""]


def _opening(one: ServiceSection) -> list[str]:
    decision, why = one.decision, str(one.decision.get("why") or "").rstrip(".")
    if not one.guide.steps:
        more = [str(step) for step in decision.get("next_steps") or []]
        return [
            f"**There is nothing to apply**: {why}.",
            *([""] if more else []),
            *(f"- {step}" for step in more),
        ]
    title = target_name(decision) or one.guide.target
    if decision.get("recommend") == "apply":
        return [f"Apply {policy_of(title)}: {why}."]
    return [
        f"**Applying this is not recommended**: {why}. The commands below are those of the best candidate, "
        f"{policy_of(title)}."
    ]


def _parts(one: ServiceSection) -> Iterator[list[str]]:
    found = one.guide
    if not found.steps:
        return
    if found.not_filled:
        yield ["### Not filled in", "", *(f"- {text}" for text in found.not_filled), ""]
    for title, steps in (
        ("Check first", found.check),
        ("Apply in this order", found.steps),
        ("Watch", found.watch),
        ("Go back", found.back),
    ):
        if steps:
            yield [f"### {title}", "", *_numbered(steps), ""]
    if found.scale_in:
        yield ["### Requests that a scale-in cuts", "", found.scale_in, ""]
    yield ["### When an assumption breaks", "", *_table(("assumption", "alert rule"), _alert_rows(found)), ""]
    figures = {str(row.get("target")): row for row in one.replays}
    rows = [
        (
            f"`{target}`",
            f"`{command}`" if (command := _first(other)) else "read its files",
            *_cost(figures, target),
        )
        for target, other in one.others.items()
        if other.steps
    ]
    if rows:
        heads = ("target", "see what would change", "instance-hours", "windows over the SLO")
        yield ["### Other targets", "", *_table(heads, rows), ""]
    for target, (first, second) in one.instead.items():
        yield [f"### The other file of `{target}`", "", INSTEAD.format(second=second), ""]
        yield [*_numbered(list(_swap(first, second))), ""]


def _swap(first: str, second: str) -> Iterator[ApplyStep]:
    """Yield how objects take the place of others, and how to go back."""
    gone = "kubectl delete --ignore-not-found -f"
    yield ApplyStep(command=f"{gone} {first}", why="Delete what the other file made; the counts stay.")
    yield ApplyStep(command=f"kubectl apply -f {second}", why="Apply it.")
    yield ApplyStep(
        command=f"{gone} {second} && kubectl apply -f {first}",
        why="To go back, the same the other way round.",
    )


def _cost(figures: Mapping[str, Mapping[str, Any]], target: str) -> tuple[str, str]:
    row = figures.get(target) or {}
    return number(row.get("instance_hours")), percent(row.get("slo_violation_ratio"))


def _first(found: ApplyGuide) -> str:
    steps = [{"command": step.command} for step in found.steps]
    return next_command({"apply": {"steps": steps}}, ".")


def _alert_rows(found: ApplyGuide) -> list[tuple[str, str]]:
    return [
        (one.assumption, ", ".join(f"`{name}`" for name in one.alerts) or "no rule is written for it")
        for one in found.alerts
    ]


def _numbered(steps: Sequence[ApplyStep]) -> Iterator[str]:
    for place, step in enumerate(steps, 1):
        yield f"{place}. {step.why}"
        if step.command:
            yield from ("", "   ```sh", f"   {step.command}", "   ```", "")


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    lines = [f"| {' | '.join(heads)} |", f"|{'---|' * len(heads)}"]
    return [*lines, *(f"| {' | '.join(cell.replace('|', '&#124;') for cell in row)} |" for row in rows)]
