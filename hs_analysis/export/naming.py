"""Names and comments that every export shares: object names, record names, the header of a file."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence

from hs_analysis.export.model import ExportOptions, Loss
from hs_analysis.export.selector import quoted
from hs_analysis.policy.model import Guard, Policy, Primary

# A Kubernetes label value holds 63 characters and KEDA puts the object's name into one; the role follows it.
NAME_LENGTH = 52

_READ = re.compile(r"\b(rate|increase|avg_over_time|max_over_time)\(.*?\[(\w+)\]", re.DOTALL)
_OPERATIONS = {"avg_over_time": "avg", "max_over_time": "max"}


def model_name(service: str) -> str:
    """Return the service's model as a Kubernetes name; a hash is added where something had to go."""
    model = service.split("/", 1)[-1]
    name = re.sub(r"[^a-z0-9]+", "-", model.lower()).strip("-") or "service"
    if name == model and len(name) <= NAME_LENGTH:
        return name
    digest = hashlib.sha256(model.encode()).hexdigest()[:6]
    return f"{name[: NAME_LENGTH - 7].rstrip('-')}-{digest}"


def namespace_of(service: str) -> str | None:
    """Return the Kubernetes namespace in a service's name, None where it has none."""
    namespace, slash, _ = service.partition("/")
    return namespace if slash and re.fullmatch(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?", namespace) else None


def file_stem(service: str) -> str:
    """Return the beginning of the file names of a service, different for different services."""
    namespace = namespace_of(service)
    return f"{namespace}.{model_name(service)}" if namespace else model_name(service)


def record_name(item: Primary | Guard, *, total: bool = False) -> str:
    """Return the name under which an expression is recorded, ``level:name:operation``.

    ``total`` names the sum over instances of a signal that is a mean over them.
    """
    found = _READ.search(item.promql)
    operation = "value"
    if found:
        # A ratio of two totals is a mean: of a latency over its requests, say.
        kind = "mean" if ") / sum(" in item.promql else _OPERATIONS.get(found.group(1), found.group(1))
        operation = f"{kind}{found.group(2)}"
    name = re.sub(r"[^A-Za-z0-9_]", "_", item.signal)
    return f"service:hs_{name}{'_total' if total else ''}:{operation}"


def record_labels(policy: Policy, role: str) -> dict[str, str]:
    """Return the labels of a recorded series: enough to find exactly one of them."""
    date = str(policy.window.get("end", ""))[:10]
    name = model_name(policy.service)
    return {"policy": f"{name}-{date}" if date else name, "service": policy.service, "role": role}


def recorded(policy: Policy, item: Primary | Guard, *, total: bool = False) -> str:
    """Return the query of a recorded series; ``sum`` makes it end in exactly one."""
    matchers = ",".join(f"{k}={quoted(v)}" for k, v in record_labels(policy, item.role).items())
    return f"sum({record_name(item, total=total)}{{{matchers}}})"


def header(policy: Policy, options: ExportOptions, target: str, losses: Sequence[Loss]) -> str:
    """Return the comment a file starts with: what made it, from what, and what it does not say."""
    rest = sorted(set(policy.window) - {"start", "end"})
    window = f"{policy.window.get('start', '?')} to {policy.window.get('end', '?')}"
    window += "".join(f", {key} {policy.window[key]}" for key in rest)
    lines = [
        f"{target}, written by hs_analysis {policy.tool_version or '(version unknown)'}",
        f"service: {policy.service}",
        f"policy: sha256 {options.policy_sha256 or 'unknown'}, run {policy.run or 'unknown'}",
        f"data: {window}; inputs sha256 {policy.inputs_sha256 or 'unknown'}",
    ]
    if losses:
        lines += ["", "Not said here, or not quite:"]
        lines += [f"- {loss.item} ({loss.kind}): {loss.text}" for loss in losses]
    return comment(lines)


def comment(lines: Sequence[str]) -> str:
    """Return lines as YAML comments; a line break inside a line can't end the comment."""
    return "".join(f"# {_visible(' '.join(line.split()))}".rstrip() + "\n" for line in lines)


def _visible(text: str) -> str:
    """Return a text with what can't be seen as escapes: YAML allows no control characters, not even here."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def plain_number(value: float) -> str:
    """Return a number as a decimal string of six significant digits, without an exponent."""
    text = f"{value:.6g}"
    if "e" not in text:
        return text
    digits = max(0, 6 - int(text.partition("e")[2]) - 1)
    text = f"{float(text):.{digits}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
