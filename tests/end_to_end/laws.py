"""Laws of an answer, whatever the history: one set of numbers in every output of a run.

Each function returns what breaks its law, in words; empty means that it holds.
"""

from __future__ import annotations

import html
import json
import math
import re
from collections.abc import Iterator, Mapping
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from hs_analysis.cli.output import as_markdown
from hs_analysis.cli.verdict import run_result
from hs_analysis.evidence import path as evidence_path
from hs_analysis.export import NOT_RECOMMENDED
from hs_analysis.export.model import plain_number
from hs_analysis.policy import dump, load_all
from hs_analysis.policy.rounding import DIGITS
from hs_analysis.report.answer import answer_of
from hs_analysis.report.choice import choose, mapping
from hs_analysis.report.headlines import HEADLINES
from hs_analysis.report.wording import number
from hs_analysis.schema.number_text import LEAST_PERCENT

SLACK = 1e-9
"""Relative slack of a comparison: numbers are written with 12 digits."""

INTERVALS = {
    "per_instance": ("ci",), "value": ("ci", "band"), "value_s": ("ci",), "relative": ("ci",),
    "slo_violation_ratio": ("slo_violation_ci", "slo_violation_range"),
    "instance_hours": ("instance_hours_ci",), "hours_saved_ratio": ("hours_saved_ci",),
    "undisturbed": ("undisturbed_range",),
}  # fmt: skip
"""Key of a number → keys of its intervals; every other ``x`` has ``x_ci``."""


def outside_their_intervals(plain: Any, place: str = "") -> Iterator[str]:
    """Yield every number that lies outside an interval that stands beside it, wherever it is."""
    if isinstance(plain, list):
        for index, item in enumerate(plain):
            yield from outside_their_intervals(item, f"{place}/{index}")
    if not isinstance(plain, Mapping):
        return
    for key, value in plain.items():
        yield from outside_their_intervals(value, f"{place}/{key}")
        ends = [plain.get(name) for name in (*INTERVALS.get(key, ()), f"{key}_ci")]
        if key == "value" and "low" in plain:
            ends.append([plain["low"], plain["high"]])
        for pair in ends:
            if _outside(value, pair):
                yield f"{place}/{key}: {value} is outside {pair}"


def _outside(value: Any, pair: Any) -> bool:
    if not isinstance(value, int | float) or not isinstance(pair, list) or None in pair:
        return False
    slack = SLACK * max(abs(end) for end in (value, *pair))
    return not pair[0] - slack <= value <= pair[1] + slack


def values_by_link(summary: Mapping[str, Any]) -> dict[str, float | None]:
    """Return the number that each evidence link of summary.json stands for."""
    found = {}
    for service in summary["services"]:
        tables = {kind: service.get(kind) or [] for kind in HEADLINES if kind != "replay"}
        tables["replay"] = service["replay"]["policies"]
        for kind, rows in tables.items():
            for row in rows if isinstance(rows, list) else [rows]:
                if row.get("evidence"):
                    found[row["evidence"]] = row[HEADLINES[kind][0]]
    return found


def apart_in_the_policy(summary: Mapping[str, Any], documents: list[Any]) -> Iterator[str]:
    """Yield what policy.yaml says otherwise than summary.json under the same link."""
    values = values_by_link(summary)
    for document, service in zip(documents, summary["services"], strict=True):
        spec, decision = document["spec"], service["decision"]
        rows = [*(p["target_per_instance"] for p in spec["primaries"]), *filter(None, [spec["pd_ratio"]])]
        for row in rows:
            if row["evidence"] not in values:
                yield f"{row['evidence']} is no link of summary.json"
            elif not _same(row["value"], values[row["evidence"]]):
                yield f"{row['evidence']}: {row['value']}, in summary.json {values[row['evidence']]}"
        thresholds = {row["evidence"]: row for row in service["thresholds"]}
        for row in (p["target_per_instance"] for p in spec["primaries"]):
            ours, theirs = row["capacity"], thresholds[row["evidence"]]["capacity"]
            pairs = [(ours[k], theirs[k]) for k in theirs] if ours and theirs else [(ours, theirs)]
            pairs.append((row["headroom_ratio"], thresholds[row["evidence"]]["headroom_ratio"]))
            yield from (
                f"{row['evidence']}: {one} and {other}" for one, other in pairs if not _same(one, other)
            )
        for key in ("hysteresis", "cooldown"):
            for role, row in ((spec[key] or {}).get("by_role") or {"": spec[key] or {}}).items():
                yield from _band_apart(key, role, row, thresholds)
        yield from _knobs_apart(spec, service)
        status = document["status"]
        reasons = [reason["text"] for reason in decision["confidence_reasons"]]
        if (status["confidence"], status["confidence_reasons"]) != (decision["confidence"], reasons):
            yield f"confidence {status['confidence']}, in summary.json {decision['confidence']}"
        if status["recommended"] != (decision["recommend"] == "apply"):
            yield f"recommended {status['recommended']}, in summary.json {decision['recommend']}"


def _band_apart(key: str, role: str, row: Mapping[str, Any], thresholds: Mapping[str, Any]) -> Iterator[str]:
    names = {"hysteresis": {"scale_out_ratio": "scale_out_ratio", "scale_in_ratio": "scale_in_ratio"},
             "cooldown": {"scale_out_s": "cooldown_out_s", "scale_in_s": "cooldown_in_s"}}[key]  # fmt: skip
    if row.get("evidence") in thresholds:
        for ours, theirs in names.items():
            if not _same(row[ours], thresholds[row["evidence"]][theirs]):
                yield f"{key} {role} {ours}: {row[ours]} and {thresholds[row['evidence']][theirs]}"


def _knobs_apart(spec: Mapping[str, Any], service: Mapping[str, Any]) -> Iterator[str]:
    """Yield settings of the controller that are not those of the chosen candidate, or have no link to it."""
    chosen = next((row for row in service["selection"] if row["chosen"]), None)
    if chosen is None or spec["mode"] != "metric":
        return
    link = evidence_path(service["service"], "select", chosen["policy"])
    for role, row in (spec["hysteresis"].get("by_role") or {"": spec["hysteresis"]}).items():
        yield from (
            f"hysteresis {role} {key}: {row[key]} and {chosen[key]}"
            for key in ("scale_out_ratio", "scale_in_ratio")
            if not _same(row[key], chosen[key])
        )
        if row["evidence"] != link:
            yield f"hysteresis {role} links to {row['evidence']}"
    for key, column in (("window_s", "reading_s"), ("over_s", "over_s")):
        if not _same(spec["reading"][key], chosen[column]):
            yield f"reading {key}: {spec['reading'][key]} and {chosen[column]}"


def _same(written: Any, found: Any) -> bool:
    """Whether two numbers are the same to the digits of policy.yaml."""
    if written is None or found is None:
        return written is found
    return bool(math.isclose(written, found, rel_tol=10.0 ** (1 - DIGITS)))


def kept_by_nothing(documents: list[Any]) -> Iterator[str]:
    """Yield a ratio that a policy holds and its rule does not keep."""
    for document in documents:
        spec = document["spec"]
        if spec["pd_ratio"] is not None and (len(spec["primaries"]) != 1 or spec["mode"] != "metric"):
            yield f"{document['metadata']['service']}: a ratio beside {len(spec['primaries'])} primaries"


def apart_in_the_terminal(summary: Mapping[str, Any], documents: list[Any], text: str) -> Iterator[str]:
    """Yield what `hsa run` prints otherwise than the files say: policy, targets, decision, ratio."""
    for document, service in zip(documents, summary["services"], strict=True):
        spec, decision = document["spec"], service["decision"]
        name = "+".join(f"{p['signal']}@{p['role']}" for p in spec["primaries"])
        chosen = next((row["policy"] for row in service["selection"] if row["chosen"]), "")
        same = chosen.partition(", ")[0] == name
        wanted = chosen if same else name
        if spec["mode"] == "hold":
            wanted = "hold: keep the counts as they are"
        (shown,) = re.findall(r"^  selected policy: (.*)$", text, re.M)
        if shown != wanted:
            yield f"selected policy {shown}, in policy.yaml {wanted}"
        if spec["mode"] != "hold":
            shown_targets = re.findall(r"^  target: (\S+) ([\d.,e−-]+) ?(\S*) per instance", text, re.M)
            targets = {
                f"{t['signal']}@{t['role']}": t["target_per_instance"]
                for t in service["thresholds"]
                if not t["gpu_type"]
            }
            for signal, value, unit in shown_targets:
                scale = 100.0 if unit == "%" else 1.0
                if value != number(scale * targets[signal]):
                    yield f"target of {signal}: {value} {unit} on the terminal, {targets[signal]}"
            if len(shown_targets) != len(spec["primaries"]):
                yield f"{len(shown_targets)} targets on the terminal, {len(spec['primaries'])} primaries"
        (said,) = re.findall(r"^  decision: (.*)$", text, re.M)
        if f"confidence {decision['confidence']}" not in said:
            yield f"{said!r} is not {decision['confidence']}"
        first = text.splitlines()[0]
        if (decision["recommend"] != "apply") != ("keep what runs" in first):
            yield f"{decision['recommend']}, and the first line is {first!r}"
        (ratio,) = re.findall(r"^  P/D ratio: (.*)$", text, re.M)
        two = len(spec["primaries"]) == 2 and spec["mode"] == "metric"
        if (two and service["pd_ratio"]["value"] is not None) != ("not kept" in ratio):
            yield f"{len(spec['primaries'])} primaries, and the ratio is told as {ratio[:60]!r}"


def apart_in_the_exports(folder: Path, documents: list[Any]) -> Iterator[str]:
    """Yield thresholds of exported objects that are not the policy's, and files without their warning."""
    for document in documents:
        spec = document["spec"]
        allowed = set()
        for primary in spec["primaries"]:
            target = primary["target_per_instance"]["value"]
            if target is not None:
                kept = spec["pd_ratio"] or {}
                ratio = kept.get("one_primary_bound", kept.get("value"))
                allowed |= {target, *((target / ratio, target * ratio) if ratio else ())}
        # Kubernetes compares in thousandths and cuts the rest off; the file says what it will compare with.
        texts = {plain_number(math.floor(1000.0 * value + 1e-6) / 1000.0) for value in allowed}
        for path in sorted((folder / "exports").rglob("*")):
            if path.is_file():
                yield from _export_apart(path, texts, spec, document["status"]["recommended"])


def _export_apart(path: Path, texts: set[str], spec: Any, recommended: bool) -> Iterator[str]:
    text = path.read_text("utf-8")
    warned = NOT_RECOMMENDED in text.split("\n- " if path.suffix == ".json" else "\n", 1)[0]
    if warned == recommended:
        yield f"{path.name}: warned {warned}, recommended {recommended}"
    if path.suffix != ".yaml":
        return
    for body in YAML(typ="safe", pure=True).load_all(text):
        for key, told in _thresholds(body):
            if told not in texts:
                yield f"{path.name}: {key} {told}, in policy.yaml {texts}"
    links = {p["target_per_instance"]["evidence"]: p["target_per_instance"] for p in spec["primaries"]}
    for line in re.findall(r"(?<=[#;] )\w+: threshold [^;\n]*", text):
        link = line.rpartition("(")[2].rstrip(")")
        if link in links:
            target = links[link]
            told = [target["value"], *(target["capacity"] or {}).values()]
            yield from (f"{path.name}: {v} is not in {line!r}" for v in told if plain_number(v) not in line)


THRESHOLDS = ("threshold", "averageValue", "targetValue")
"""Keys of exported objects that hold what one instance should carry."""
OWN_UNIT = ("llm_d_epp_inflight_tokens", "vllm:kv_cache_usage_perc")
"""Metrics of llm-d's guide: their thresholds are seconds of the SLO and a share, no targets of a policy."""


def _thresholds(body: Any) -> Iterator[tuple[str, str]]:
    """Yield every threshold of an object with its key, at any depth; operands of a formula have none."""
    if isinstance(body, list):
        for one in body:
            yield from _thresholds(one)
    if not isinstance(body, dict):
        return
    llmd = any(name in str(body.get("query", "")) for name in OWN_UNIT) and "job=" not in str(body["query"])
    formula = (body.get("advanced") or {}).get("scalingModifiers")
    for key, value in body.items():
        if key == "triggers" and formula:
            continue
        if key in THRESHOLDS and isinstance(value, str) and not llmd:
            yield key, value
        else:
            yield from _thresholds(value)


def dear_and_no_better(summary: Mapping[str, Any]) -> Iterator[str]:
    """Yield policies that are to be applied though they cost more and break the SLO no less often."""
    for service in summary["services"]:
        rows = {row["policy"]: row for row in service["replay"]["policies"]}
        chosen = next((row["policy"] for row in service["selection"] if row["chosen"]), None)
        ours, ran = rows.get(chosen), rows.get("recorded")
        if not ours or not ran or service["decision"]["recommend"] != "apply" or not ours["vs_recorded"]:
            continue
        rough = service["replay"]["calibration"].get("uncalibrated_shares") or {}
        shares = [
            row["slo_violation_ratio"] if row["slo_violation_ratio"] is not None else rough.get(row["policy"])
            for row in (ours, ran)
        ]
        if ours["vs_recorded"] < 0 and (None in shares or shares[0] >= shares[1]):
            yield f"{service['service']}: {ours['vs_recorded']:+.1%} hours saved, {shares}, and applied"


def apart_in_the_report(summary: Mapping[str, Any], page: str) -> Iterator[str]:
    """Yield numbers of the report's verdict boxes that are not those of summary.json at their pointer."""
    parser = _Pointed()
    parser.feed(page)
    for pointer, text in parser.found:
        value: Any = summary
        for key in pointer.strip("/").split("/"):
            value = value[int(key)] if isinstance(value, list) else value[key]
        if isinstance(value, int | float) and not isinstance(value, bool) and not _shows(text, abs(value)):
            yield f"{pointer}: {text!r} on the page, {value} in summary.json"
    if not parser.found and summary["services"]:
        yield "no number of the page has a pointer"


def _shows(text: str, value: float) -> bool:
    """Whether a text shows a number, in any of the units that the page writes numbers in."""
    if text.startswith("<"):
        return value < LEAST_PERCENT / 100
    digits = re.search(r"[\d,]*\.?\d+(e[−-]\d+)?", text)
    if digits is None:
        return False
    shown = float(digits.group().replace(",", "").replace("−", "-"))
    decimals = len(digits.group().partition("e")[0].partition(".")[2])
    scales = (1.0, 100.0, 1e3, 1 / 60, 1 / 3600, 1 / 86_400)
    last = 0.5 * 10.0**-decimals * 1.001
    return any(abs(shown - value * scale) <= max(last, 0.005 * value * scale) for scale in scales)


def apart_in_words(
    summary: Mapping[str, Any], policies: Mapping[str, str], folder: Path, page: str
) -> Iterator[str]:
    """Yield sentences of the answer that Markdown or the first screen does not hold word for word."""
    slo = mapping(summary.get("slo"))
    blocks = run_result(summary, list(policies.values()), folder).blocks()
    markdown = as_markdown(blocks).replace("\\", "")
    shown = " ".join(html.unescape(re.sub(r"<[^>]+>", " ", page)).split())
    for service in summary["services"]:
        choice = choose(service, policies.get(service["service"], ""))
        said = answer_of(service, choice, slo, str(folder))
        yield from (f"{line!r} is not in Markdown" for line in said.lines if line not in markdown)
        yield from (f"{line!r} is not on the page" for line in (said.hours, said.risk) if line not in shown)


class _Pointed(HTMLParser):
    """Collects the text of every element that points at a value of summary.json."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, str]] = []
        self._open: list[tuple[str, str]] = []
        self._text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        pointer = dict(attrs).get("data-pointer")
        if pointer is not None and not pointer.endswith(("_ci", "/ci")):
            self._open, self._text = [(tag, pointer)], ""

    def handle_data(self, data: str) -> None:
        self._text += data

    def handle_endtag(self, tag: str) -> None:
        if self._open and self._open[0][0] == tag:
            self.found.append((self._open[0][1], self._text.strip()))
            self._open = []


def told(folder: Path) -> tuple[dict[str, Any], list[Any], str]:
    """Return summary.json, the documents of policy.yaml, and what the terminal prints of them."""
    summary = json.loads((folder / "summary.json").read_text("utf-8"))
    text = (folder / "policy.yaml").read_text("utf-8")
    documents = [d for d in YAML(typ="safe", pure=True).load_all(text) if d]
    policies = [dump(policy) for policy in load_all(text)]
    return (
        summary,
        documents,
        "\n".join(map(str, run_result(summary, policies, folder, verbose=True).blocks())),
    )


def broken_laws(folder: Path) -> list[str]:
    """Return everything that a run folder breaks, each with its law in front."""
    summary, documents, printed = told(folder)
    page, text = ((folder / name).read_text("utf-8") for name in ("report.html", "policy.yaml"))
    laws = {
        "interval": [*outside_their_intervals(summary), *outside_their_intervals(documents)],
        "policy.yaml": apart_in_the_policy(summary, documents),
        "ratio": kept_by_nothing(documents),
        "terminal": apart_in_the_terminal(summary, documents, printed),
        "exports": apart_in_the_exports(folder, documents),
        "decision": dear_and_no_better(summary),
        "report": apart_in_the_report(summary, page),
        "words": apart_in_words(summary, {one.service: dump(one) for one in load_all(text)}, folder, page),
    }
    return [f"{law}: {what}" for law, found in laws.items() for what in found]
