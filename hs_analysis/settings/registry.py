"""Every setting with one value: its key, form, default, unit, meaning, provenance, flag and template."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any

from hs_analysis.schema.settings import Machine, Settings
from hs_analysis.settings import values
from hs_analysis.settings.sections import SECTIONS, Section

MACHINE = "machine"
"""First part of the field of a setting that changes no result."""


@dataclass(frozen=True)
class Kind:
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
    """

    name: str
    toml: tuple[type, ...] = (str,)
    read: Callable[[str, str], Any] = values.plain
    many: bool = False
    local: str = ""


DURATION = Kind("duration", read=values.seconds)
SHARE = Kind("share, 0 to 1", (float, int, str), values.share)
WHOLE_SHARE = Kind("share, 0 to 1", (float, int, str), values.whole_share)
SWITCH = Kind("true or false", (bool,), values.switch)
MOMENT = Kind("time", (str, datetime), local="moment")
SPANS = Kind("list of START..END or files", many=True, local="excluded")
EVENT_FILES = Kind("list of files", many=True, local="events")
NAMES = Kind("list of names", many=True)
TEXT = Kind("text")


def _words(*known: str) -> Kind:
    return Kind(", ".join(known[:-1]) + f" or {known[-1]}", read=values.word_of(*known))


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
    unit
        Unit of the number behind it; empty for what is no number.
    meaning
        What it says, for the reference and for the file that ``hsa init`` writes.
    provenance
        Where the default comes from, or what happens without one.
    example
        A value as hsa.toml writes it.
    flag
        The flag that sets it too; empty when there is none.
    """

    key: str
    field: str
    kind: Kind
    unit: str
    meaning: str
    provenance: str
    example: str
    flag: str = ""

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


def variable_of(key: str) -> str:
    """Return the environment variable of a dotted key: ``slo.ttft`` → ``HSA_SLO_TTFT``."""
    return "HSA_" + key.replace(".", "_").upper()


_NONE = "no default: "

SETTINGS: tuple[Setting, ...] = (
    Setting("seed", "seed", Kind("whole number", (int,), values.whole_number(0)), "",
            "seed of every resampling", "convention", "0", "--seed"),
    Setting("draws", "draws", Kind("whole number", (int,), values.whole_number(20)), "replicates",
            "bootstrap replicates behind each interval",
            "this project: enough for 95 % intervals; 1000 takes five times as long", "200"),
    Setting("headroom_ratio", "headroom_ratio", WHOLE_SHARE, "ratio",
            "share of the lower end of capacity that a target may use",
            "this project: room for the time a new instance needs", "0.85"),
    Setting("train_share", "train_share", SHARE, "ratio",
            "first share of the window that selection and backtest learn on; the rest judges",
            "this project", "0.6"),
    Setting("memory_limit", f"{MACHINE}.memory_limit", Kind("size", read=values.size), "bytes",
            "what may be held in memory before it is spilled to disk; changes no result", "this project",
            '"4GB"', "--memory-limit"),
    Setting("engine", f"{MACHINE}.engine", _words("local", "ray"), "",
            "where tasks run: processes of this machine, or a Ray cluster; changes no result", "this project",
            '"local"', "--engine"),
    Setting("slo.ttft", "slo.ttft_s", DURATION, "s", "limit on the time to first token",
            _NONE + "without a limit capacity is a floor", '"2.5s"', "--slo ttft"),
    Setting("slo.tbt", "slo.tbt_s", DURATION, "s", "limit on the time between tokens",
            _NONE + "without a limit capacity is a floor", '"50ms"', "--slo tbt"),
    Setting("slo.quantile", "slo.quantile", SHARE, "ratio",
            "share of requests (TTFT) or token gaps (TBT) of a window that must be within the limit",
            "common in serving SLOs: p95", "0.95", "--slo quantile"),
    Setting("slo.window", "slo.window_s", DURATION, "s", "width of a judged window",
            "this project: a minute, as alerts often use", '"60s"', "--slo window"),
    Setting("slo.allowed_window_share", "slo.allowed_window_share", SHARE, "ratio",
            "share of windows that may break the SLO", "this project", "0.05"),
    *(
        Setting(f"startup.{role}", f"startup_s.{role}", DURATION, "s",
                f"from asking for {what} instance to its first request",
                "measured where the dump shows three instances coming, else cooldowns are refused",
                '"240s"', "--startup")
        for role, what in (("prefill", "a prefill"), ("decode", "a decode"), ("mixed", "an undivided"))
    ),
    Setting("history.kind", "history_kind", _words("production", "pressure_test"), "",
            "pressure_test when someone set the load on purpose: a ramp, steps, a sweep", "the usual case",
            '"production"', "--pressure-test"),
    Setting("history.from", "start", MOMENT, "", "leave out what is before", _NONE + "all of the input",
            '"2026-07-01T00:00:00Z"', "--from"),
    Setting("history.to", "end", MOMENT, "", "leave out what is from then on", _NONE + "all of the input",
            '"2026-07-08T00:00:00Z"', "--to"),
    Setting("history.exclude", "excluded", SPANS, "",
            "stretches to leave out (incidents, deploys, load tests), or CSV or JSON files of them",
            _NONE + "nothing is left out", '["2026-07-03T08:00Z..2026-07-03T09:30Z"]', "--exclude"),
    Setting("history.events", "events", EVENT_FILES, "", "CSV or JSON files of events to mark on the charts",
            _NONE + "no marks", '["events.json"]', "--events"),
    Setting("history.service", "service", NAMES, "", "services to go on with after ingest",
            _NONE + "all of them", '["chat/llama"]', "--service"),
    Setting("reading.format", "reading.format", TEXT, "", "reader of every file", _NONE + "told by content",
            '"prom-api"', "--format"),
    Setting("reading.tz", "reading.tz", Kind("time zone", read=values.zone), "",
            "zone of times that carry none", _NONE + "they are refused", '"Europe/Berlin"', "--tz"),
    Setting("reading.time_unit", "reading.time_unit", _words("s", "ms", "us", "ns"), "",
            "unit of a table's numeric times", _NONE + "told by their size, and said", '"ms"', "--time-unit"),
    Setting("reading.epoch", "reading.epoch", MOMENT, "", "start of logs whose times are relative",
            _NONE + "they stay relative", '"2026-07-01T00:00:00Z"', "--epoch"),
    Setting("reading.legend_regex", "reading.legend_regex",
            Kind("regular expression", read=values.named_groups), "",
            "named groups that turn a Grafana legend into labels", _NONE + "legends are not read",
            "'(?P<pod>[^ ]+) (?P<model>.+)'", "--legend-regex"),
    Setting("reading.on_conflict", "reading.on_conflict", _words("reject", "first", "last", "max"), "",
            "what to do with different values of one series at one time", "nothing is guessed", '"reject"',
            "--on-conflict"),
    Setting("reading.dedup_label", "reading.dedup_label", TEXT, "",
            "label in which replicas of one Prometheus differ; the fuller copy is kept",
            _NONE + "they are different series", '"replica"', "--dedup-label"),
    Setting("reading.salvage", "reading.salvage", SWITCH, "",
            "keep the complete series of a document that is cut", "a cut file is a finding", "false",
            "--salvage"),
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
