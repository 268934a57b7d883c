"""Every setting with one value: its key, form, default, unit, meaning, provenance, flag and template."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, is_dataclass
from datetime import datetime
from functools import cache
from typing import Any

from hs_analysis.schema.declare import Declared, declared
from hs_analysis.schema.json_schema import SCHEMA_FILES
from hs_analysis.schema.names import POOL_ROLES
from hs_analysis.schema.settings import Machine, Settings
from hs_analysis.settings import values
from hs_analysis.settings.sections import SECTIONS, Section

MACHINE = "machine"
"""First part of the field of a setting that changes no result."""


@dataclass(frozen=True)
class ValueKind:
    """A form that values have.

    Attributes
    ----------
    name
        The form in a word or two.
    toml
        Types that hsa.toml may use for it.
    read
        Reads one value from text: (text, where) → value. Numbers of hsa.toml are read by their text.
    many
        Whether the setting is a list; a variable separates them by commas.
    local
        Whether it holds times, which may need a zone from elsewhere: moment, excluded or events.
    ends
        Keys of the table that hsa.toml may write instead of the text ``START..END``, its two ends; empty for
        what is no such pair.
    json
        JSON Schema of one value as hsa.toml writes it, for editors.
    """

    name: str
    toml: tuple[type, ...] = (str,)
    read: Callable[[str, str], Any] = values.plain
    many: bool = False
    local: str = ""
    ends: tuple[str, ...] = ()
    json: Mapping[str, Any] = field(default_factory=lambda: values.TEXT_JSON)


_PERCENT = {"type": "string", "pattern": r"^[0-9.]+%?$"}
_OPEN_SHARE = {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1}
_CLOSED_SHARE = {"type": "number", "exclusiveMinimum": 0, "maximum": 1}
_COUNT = {"type": "integer", "minimum": 1}
_COUNTS = {
    "anyOf": [
        {"type": "string", "pattern": r"^\s*(\d+\s*\.\.\s*\d*|\.\.\s*\d+)\s*$"},
        {
            "type": "object", "properties": {"min": _COUNT, "max": _COUNT}, "additionalProperties": False,
            "minProperties": 1,
        },
    ]
}  # fmt: skip

DURATION = ValueKind(
    "duration", read=values.seconds, json={"type": "string", "pattern": values.DURATION_PATTERN}
)
SHARE = ValueKind("share, 0 to 1", (float, int, str), values.share, json={"anyOf": [_OPEN_SHARE, _PERCENT]})
WHOLE_SHARE = ValueKind(
    "share, 0 to 1", (float, int, str), values.whole_share, json={"anyOf": [_CLOSED_SHARE, _PERCENT]}
)
SWITCH = ValueKind("true or false", (bool,), values.switch, json={"type": "boolean"})
MOMENT = ValueKind("time", (str, datetime), local="moment")
SPANS = ValueKind("list of START..END or files", many=True, local="excluded")
EVENT_FILES = ValueKind("list of files", many=True, local="events")
COUNTS = ValueKind(
    "MIN..MAX, in hsa.toml also { min, max }; either may be left out",
    read=values.count_limits,
    ends=("min", "max"),
    json=_COUNTS,
)
NAMES = ValueKind("list of names", many=True)
TEXT = ValueKind("text")


def _words(*known: str) -> ValueKind:
    name = ", ".join(known[:-1]) + f" or {known[-1]}"
    return ValueKind(name, read=values.word_of(*known), json={"enum": list(known)})


def _whole(least: int) -> ValueKind:
    form = {"type": "integer", "minimum": least}
    return ValueKind("whole number", (int,), values.whole_number(least), json=form)


@dataclass(frozen=True)
class Setting:
    """One setting.

    Attributes
    ----------
    key
        Dotted place in hsa.toml.
    field
        Dotted place in Settings, or ``machine.<field>``.
    kind
        Its form.
    provenance
        Where the default comes from, or what happens without one.
    flag
        The flag that sets it too; empty when there is none.
    sample
        A value as hsa.toml writes it, where there is no default to show.
    said
        What it means, where it is only a part of the field.
    """

    key: str
    field: str
    kind: ValueKind
    provenance: str
    flag: str = ""
    sample: str = ""
    said: str = ""

    @property
    def variable(self) -> str:
        """The environment variable: ``HSA_`` and the key in capitals, dots as underscores."""
        return variable_of(self.key)

    @property
    def default(self) -> Any:
        """The value when nobody gives one; None when there is none."""
        place: Any = Settings()
        parts = self.field.split(".")
        if parts[0] == MACHINE:
            place, parts = Machine(), parts[1:]
        for part in parts:
            place = place.get(part) if isinstance(place, dict) else getattr(place, part)
        return place

    @property
    def unit(self) -> str:
        """Unit of the number behind it; empty for what is no number."""
        return declared_at(self.field).field.unit

    @property
    def meaning(self) -> str:
        """What it says, for the reference and for the file that ``hsa init`` writes."""
        return self.said or declared_at(self.field).meaning

    @property
    def example(self) -> str:
        """A value as hsa.toml writes it: the default, where there is one."""
        if self.sample:
            return self.sample
        plain = f"{self.default:g}s" if self.kind is DURATION else self.default
        return json.dumps(plain)


def declared_at(path: str) -> Declared:
    """Return the declaration of a field by its place in Settings or, behind ``machine.``, in Machine.

    What lies below a dict is a key of it, and has the declaration of the dict.

    Raises
    ------
    KeyError
        For a field that is not there.
    """
    place: type[Any] = Settings
    parts = path.split(".")
    if parts[0] == MACHINE:
        place, parts = Machine, parts[1:]
    found = None
    for part in parts:
        if is_dataclass(place):
            found = {one.name: one for one in declared(place)}[part]
            place = found.kind
    if found is None:
        raise KeyError(path)
    return found


def _choice(path: str) -> ValueKind:
    """Return the form of a setting whose field is one of a few words."""
    return _words(*declared_at(path).words)


def variable_of(key: str) -> str:
    """Return the environment variable of a dotted key: ``slo.ttft`` → ``HSA_SLO_TTFT``."""
    return "HSA_" + key.replace(".", "_").upper()


_NONE = "no default: "
_FOUND = _NONE + "that of --current, else a blank to fill in"
_SEEN = _NONE + "that of --current, kube-state-metrics, labels or names of pods, else a blank to fill in"

SETTINGS: tuple[Setting, ...] = (
    Setting("seed", "seed", _whole(0), "convention",
            flag="--seed"),
    Setting("draws", "draws", _whole(20),
            "this project: enough for 95 % intervals; 1000 takes five times as long"),
    Setting("headroom_ratio", "headroom_ratio", WHOLE_SHARE,
            "this project: room for the time a new instance needs"),
    Setting("train_share", "train_share", SHARE, "this project"),
    Setting("memory_limit", f"{MACHINE}.memory_limit", ValueKind("size", read=values.size), "this project",
            flag="--memory-limit"),
    Setting("engine", f"{MACHINE}.engine", _choice(f"{MACHINE}.engine"), "this project", flag="--engine"),
    Setting("slo.ttft", "slo.ttft_s", DURATION, _NONE + "without a limit capacity is a floor",
            flag="--slo ttft", sample='"2.5s"'),
    Setting("slo.tbt", "slo.tbt_s", DURATION, _NONE + "without a limit capacity is a floor",
            flag="--slo tbt", sample='"50ms"'),
    Setting("slo.quantile", "slo.quantile", SHARE, "common in serving SLOs: p95", flag="--slo quantile"),
    Setting("slo.window", "slo.window_s", DURATION, "this project: a minute, as alerts often use",
            flag="--slo window"),
    Setting("slo.allowed_window_share", "slo.allowed_window_share", SHARE, "this project"),
    *(
        Setting(f"startup.{role}", f"startup_s.{role}", DURATION,
                "measured where the dump shows three instances coming, else 300 s are assumed",
                flag="--startup", sample='"240s"',
                said=f"from asking for {what} instance to its first request")
        for role, what in (("prefill", "a prefill"), ("decode", "a decode"), ("mixed", "an undivided"))
    ),
    *(
        Setting(f"grace.{role}", f"grace_s.{role}", DURATION,
                "that of a pod template among --current, else Kubernetes' default of 30 s",
                sample='"120s"', said=f"terminationGracePeriodSeconds of {what} pods")
        for role, what in (("prefill", "prefill"), ("decode", "decode"), ("mixed", "undivided"))
    ),
    Setting("history.kind", "history_kind", _choice("history_kind"), "the usual case",
            flag="--pressure-test"),
    Setting("history.from", "start", MOMENT, _NONE + "all of the input", flag="--from",
            sample='"2026-07-01T00:00:00Z"'),
    Setting("history.to", "end", MOMENT, _NONE + "all of the input", flag="--to",
            sample='"2026-07-08T00:00:00Z"'),
    Setting("history.exclude", "excluded", SPANS, _NONE + "nothing is left out", flag="--exclude",
            sample='["2026-07-03T08:00Z..2026-07-03T09:30Z"]'),
    Setting("history.events", "events", EVENT_FILES, _NONE + "no marks", flag="--events",
            sample='["events.json"]'),
    Setting("history.service", "service", NAMES, _NONE + "all of them", flag="--service",
            sample='["chat/llama"]'),
    *(
        Setting(f"bounds.{role}", f"bounds.{role}", COUNTS,
                _NONE + "the policy's own, from the counts that ran",
                sample="{ min = 2, max = 40 }", said=f"least and most instances of the {role} pool")
        for role in POOL_ROLES
    ),
    Setting("bounds.gpus", "gpus_limit", _whole(1),
            _NONE + "as many as the pools may grow to", sample="256"),
    Setting("export.target", "target", _choice("target"),
            _NONE + "the kind of --current, else keda", flag="--target", sample='"keda"'),
    Setting("export.server_address", "server_address", ValueKind("address", read=values.web_address),
            _FOUND, sample='"http://prometheus.monitoring.svc:9090"'),
    Setting("export.namespace", "cluster.namespace", ValueKind("name", read=values.object_name),
            _NONE + "that of --current or of the series, else a blank to fill in", sample='"llm"'),
    *(
        Setting(f"export.{role}", f"cluster.workloads.{role}", ValueKind("KIND/NAME", read=values.workload),
                _SEEN, sample=f'"Deployment/chat-{role}"', said=f"what runs the {what} pods: KIND/NAME, or "
                "GROUP/VERSION/KIND/NAME of kinds that are not known")
        for role, what in (("prefill", "prefill"), ("decode", "decode"), ("mixed", "undivided"))
    ),
    Setting("export.serving", "cluster.serving", ValueKind("name", read=values.object_name),
            _NONE + "that in labels of pods, else a blank to fill in", sample='"chat"'),
    Setting("export.labels", "cluster.labels", ValueKind("list of NAME=VALUE", read=values.label, many=True),
            _NONE + "those of --current", sample='["release=prometheus"]'),
    Setting("export.kube_version", "kube_version", ValueKind("version", read=values.kube_version),
            _NONE + "1.35, the first whose HPA has its tolerance without a gate", flag="--kube-version",
            sample='"1.33"'),
    Setting("export.runbook_url", "runbook_url", ValueKind("address of a page", read=values.web_page),
            _NONE + "alerts name no page", sample='"http://prometheus.monitoring.svc:9090/alerts"'),
    Setting("policy.mode", "policy_mode", _choice("policy_mode"), "the usual case", flag="--mode"),
    Setting("reading.format", "reading.format", TEXT, _NONE + "found by content", flag="--format",
            sample='"prom-api"'),
    Setting("reading.tz", "reading.tz", ValueKind("time zone", read=values.zone), _NONE + "they are refused",
            flag="--tz", sample='"Europe/Berlin"'),
    Setting("reading.time_unit", "reading.time_unit", _words("s", "ms", "us", "ns"),
            _NONE + "found by their size, and printed", flag="--time-unit", sample='"ms"'),
    Setting("reading.epoch", "reading.epoch", MOMENT, _NONE + "they stay relative", flag="--epoch",
            sample='"2026-07-01T00:00:00Z"'),
    Setting("reading.legend_regex", "reading.legend_regex",
            ValueKind("regular expression", read=values.named_groups), _NONE + "legends are not read",
            flag="--legend-regex", sample="'(?P<pod>[^ ]+) (?P<model>.+)'"),
    Setting("reading.on_conflict", "reading.on_conflict", _choice("reading.on_conflict"),
            "nothing is guessed", flag="--on-conflict"),
    Setting("reading.dedup_label", "reading.dedup_label", TEXT, _NONE + "they are different series",
            flag="--dedup-label", sample='"replica"'),
    Setting("reading.salvage", "reading.salvage", SWITCH, "a cut file is a finding", flag="--salvage"),
)  # fmt: skip
"""In the order of hsa.toml: what stands before the first section comes first."""


REMOVED = {
    "prior": "take it out: performance tables changed no number (hsa plan-test lays out a test)",
}
"""Section of settings that earlier versions read → what to do."""


@cache
def by_key() -> dict[str, Setting]:
    """Return the settings by key."""
    return {setting.key: setting for setting in SETTINGS}


DIRECTIVE = f"#:schema ./{SCHEMA_FILES['settings']}\n"
"""First line of an hsa.toml beside which its schema lies, as taplo and editors with it read it."""

WIDTH = 100

LEAD = (
    "Settings of hs-analysis. Every one is optional: take away the # before those you need. A flag wins over "
    "an HSA_* variable, and that over this file; hsa settings prints what is in effect, hsa validate checks "
    "this file."
)


def template(given: Mapping[str, str]) -> str:
    """Return the text of hsa.toml.

    Parameters
    ----------
    given
        Settings to set, by key, as TOML writes them. The others are comments: prose after ``# ``, settings
        after ``#`` alone.
    """
    lines = [*_prose(LEAD)]
    section = ""
    for setting in SETTINGS:
        first = setting.key.rpartition(".")[0]
        if first != section:
            section = first
            lines += ["", f"[{section}]"]
        else:
            lines.append("")
        lines += _setting(setting, given.get(setting.key))
    for one in SECTIONS:
        lines += ["", *_section(one)]
    return "\n".join(lines) + "\n"


def _prose(text: str) -> Iterator[str]:
    yield from textwrap.wrap(text, WIDTH, initial_indent="# ", subsequent_indent="# ")


def _setting(setting: Setting, value: str | None) -> Iterator[str]:
    ways = ", ".join(way for way in (setting.variable, setting.flag) if way)
    yield from _prose(f"{setting.meaning} ({setting.provenance}); {ways}")
    name = setting.key.rpartition(".")[2]
    yield f"{name} = {value}" if value is not None else f"#{name} = {setting.example}"


def _section(section: Section) -> Iterator[str]:
    # A table of tables has no key of its own: its header is part of the example.
    header = f"#[{section.name}.fleet]" if section.name == "tables" else f"[{section.name}]"
    yield from _prose(section.meaning) if header.startswith("#") else ()
    yield header
    yield from () if header.startswith("#") else _prose(section.meaning)
    yield from (f"#{line}" for line in section.example)
