"""Where every evidence link of an old run leads in a new one, or why it leads nowhere any more."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from hs_analysis.compare.changes import Plain
from hs_analysis.compare.services import ComparedRun, ServicePair, pools
from hs_analysis.errors import UsageError
from hs_analysis.evidence import EvidenceLink, LinkedAnswer, answers_of_run, parse, path
from hs_analysis.schema.names import CURRENT, POOL_ROLES

DEATHS = {
    "service_gone": "the new run has no such service",
    "role_gone": "the service has no instances of the role any more",
    "gpu_type_gone": "no instance of the GPU type is left",
    "signal_gone": "the signal is no longer recorded",
    "not_proportional": "only a proportional signal has a target",
    "policy_refused": "the new run writes no policy that follows a metric",
    "candidate_gone": "the candidate is no longer kept: others beat it",
    "not_replayed": "the new run replays no such policy",
    "not_tried": "the signal was not tried as a driver",
    "test_gone": "the new run holds no such ratio test",
    "chart_not_drawn": "the new report does not draw this chart",
    "not_answered": "the new run does not answer it",
    "window_outside": "the link's time range lies outside of the new history",
    "not_a_link": "it is no evidence link, or the old run holds nothing under it",
}
"""Why a link of the old run leads nowhere in the new one: code → in words."""

MOVES = {
    "renamed": "the service goes by another name",
    "selected": "the selected policy has other settings, which are part of its name",
    "window_cut": "the time range is cut to the new history",
    "refused": "it is there, and refused",
    "not_shown": "the new report leaves it out; hsa explain prints it",
}
"""What else there is to know of a link that leads somewhere: code → in words."""


CHART = "chart:"
"""What the last segment of a chart's link begins with."""


@dataclass(frozen=True)
class LinkReason:
    """Why a link died, or what changed about it: a code of `DEATHS` or `MOVES`, and a sentence."""

    code: str
    text: str


@dataclass(frozen=True)
class LinkFate:
    """Where one link of the old run leads.

    Attributes
    ----------
    old
        The link in the old run, without the run.
    new
        The link to the same answer in the new run; None where there is none.
    reason
        Why there is none, or what changed about the link; None for one that leads to the same path.
    """

    old: str
    new: str | None
    reason: LinkReason | None = None


def links_of(run: ComparedRun) -> list[str]:
    """Return every link that a run holds: those of its answers, its policies, and its report's charts."""
    written = (given for document in run.policies for given in _written(document))
    known = [answer.path for answer in answers_of_run(run.summary)]
    charts = sorted(link for link in run.shown or () if _is_chart(link))
    return list(dict.fromkeys([*known, *(_bare(link) for link in written), *charts]))


def fates(
    old: ComparedRun, new: ComparedRun, pairs: Iterable[ServicePair], links: Sequence[str] | None = None
) -> tuple[LinkFate, ...]:
    """Return where links of the old run lead in the new one: those that died first.

    Parameters
    ----------
    old, new
        The two runs.
    pairs
        Which service is which.
    links
        Links in any form; all of the old run without.
    """
    follow = _Follower(old, new, pairs)
    found = [follow.fate(link) for link in (links_of(old) if links is None else links)]
    return tuple(sorted(found, key=lambda fate: (fate.new is not None, fate.reason is None)))


class _Follower:
    """Both runs, looked up by path and by what an answer is of."""

    def __init__(self, old: ComparedRun, new: ComparedRun, pairs: Iterable[ServicePair]) -> None:
        self.pairs = {pair.old: pair for pair in pairs if pair.old is not None}
        self.old = {at: one for one in answers_of_run(old.summary) for at in (one.place, one.path)}
        self.old_services, self.new_services = _services(old.summary), _services(new.summary)
        self.new = {(a.service, a.kind, a.what): a for a in answers_of_run(new.summary)}
        self.run, self.missing = new, _missing(new.summary)
        self.left_out = _left_out(old, new)
        self.charts = {at for at in old.shown or () if _is_chart(at)}

    def fate(self, text: str) -> LinkFate:
        """Return where a link leads."""
        try:
            link = parse(text)
        except UsageError as error:
            return LinkFate(text, None, LinkReason("not_a_link", f"it is no evidence link: {error}"))
        answer = self.old.get(_bare(link))
        if answer is None and _bare(link) in self.charts:
            return self._drawn(link)
        if answer is None:
            return LinkFate(link.path, None, LinkReason("not_a_link", "the old run holds nothing under it"))
        found = self._found(answer)
        if found is None:
            return LinkFate(link.path, None, self._death(answer))
        return self._led(link, answer, found)

    def _pair(self, answer: LinkedAnswer) -> ServicePair:
        return self.pairs.get(answer.service, ServicePair(answer.service, None))

    def _found(self, answer: LinkedAnswer) -> LinkedAnswer | None:
        """Return the same answer in the new run: of the same thing, or of what both runs selected."""
        pair = self._pair(answer)
        name = answer.service if answer.kind == "sweeps" and pair.new is None else pair.new
        if name is None:
            return None
        same = self.new.get((name, answer.kind, answer.what))
        if same is not None or answer.kind not in ("selection", "replay"):
            return same
        was_selected = answer.what == _selected(self.old_services.get(answer.service, {}))
        return self.new.get((name, answer.kind, _selected(self.new_services[name]))) if was_selected else None

    def _drawn(self, link: EvidenceLink) -> LinkFate:
        """Return where the link of a chart leads: to the same chart of the service, where one is drawn."""
        pair = self.pairs.get(link.service, ServicePair(link.service, None))
        if pair.new is None:
            reason = LinkReason("service_gone", f"the new run has no service {link.service}")
            return LinkFate(link.path, None, reason)
        if path(pair.new, link.stage, link.what) not in (self.run.shown or ()):
            return LinkFate(link.path, None, LinkReason("chart_not_drawn", DEATHS["chart_not_drawn"]))
        chart = LinkedAnswer("chart", pair.new, link.stage, link.what, {})
        return self._led(link, replace(chart, service=link.service), chart)

    def _led(self, link: EvidenceLink, old: LinkedAnswer, new: LinkedAnswer) -> LinkFate:
        """Return where a link leads, with all that is to be known of it; its range may rule it out."""
        first, last = self._history(new)
        start = max((t for t in (link.start, first) if t and link.start), default=None)
        end = min((t for t in (link.end, last) if t and link.end), default=None)
        if _outside(link, first, last):
            text = f"{DEATHS['window_outside']}, which is {_span(first, last)}"
            return LinkFate(link.path, None, LinkReason("window_outside", text))
        there = parse(new.path)
        known: list[tuple[str, str]] = []
        if self.left_out(old.path, new.path):
            known.append(("not_shown", MOVES["not_shown"]))
        if new.service != old.service:
            known.append(("renamed", f"{old.service} is {new.service} now: {self._pair(old).why}"))
        if new.what != old.what:
            known.append(("selected", f"{MOVES['selected']}: {new.what}"))
        if _refused(new) and not _refused(old):
            known.append(("refused", f"{MOVES['refused']}: {_cause(new.entry)}"))
        if (start, end) != (link.start, link.end):
            known.append(("window_cut", MOVES["window_cut"]))
        reason = LinkReason(known[0][0], "; ".join(text for _, text in known)) if known else None
        return LinkFate(link.path, path(there.service, there.stage, there.what, start, end), reason)

    def _history(self, answer: LinkedAnswer) -> tuple[datetime | None, datetime | None]:
        """Return start and end of what an answer of the new run was made from."""
        window = self.run.summary.get("window") or {}
        part = {"selection": "train", "replay": "test", "drivers": "test"}.get(answer.kind, "")
        own = (self.new_services.get(answer.service, {}).get("replay") or {}).get(part)
        own = own.values() if isinstance(own, Mapping) else own
        ends = list(own)[:2] if own else [window.get("start"), window.get("end")]
        first, last = (datetime.fromisoformat(str(end)) if end else None for end in ends)
        return first, last

    def _death(self, answer: LinkedAnswer) -> LinkReason:
        """Return why the new run has no such answer: what it is of is gone, else what it stands on."""
        if answer.kind == "sweeps":
            return LinkReason("test_gone", DEATHS["test_gone"])
        name = self._pair(answer).new
        if name is None:
            return LinkReason("service_gone", f"the new run has no service {answer.service}")
        return LinkReason(*self._cause(answer, self.new_services[name]))

    def _cause(self, answer: LinkedAnswer, service: Plain) -> tuple[str, str]:
        name, entry = str(service["service"]), answer.entry
        if lost := self._lost_roles(answer, service):
            return "role_gone", f"{name} has no {' and no '.join(lost)} instances in the new run"
        gpu = entry.get("gpu_type")
        if gpu and gpu not in _gpu_types(service):
            return "gpu_type_gone", f"{name} has no instances on {gpu} in the new run"
        if answer.kind in ("signals", "thresholds", "drivers"):
            return self._signal_cause(answer, service)
        if answer.kind in ("selection", "policy", "replay"):
            return _policy_cause(answer, service)
        return "not_answered", _refusal(service, answer.what) or f"the new run does not answer {answer.what}"

    def _lost_roles(self, answer: LinkedAnswer, service: Plain) -> list[str]:
        """Return the pools that an answer is of and that the service has no more."""
        had, has = pools(self.old_services.get(answer.service, {})), pools(service)
        named = set(str(answer.entry.get("role") or "").split("+")) & set(POOL_ROLES)
        if answer.kind == "pd_ratio":
            named = {"prefill", "decode"}
        return [role for role in POOL_ROLES if role in named & had - has]

    def _signal_cause(self, answer: LinkedAnswer, service: Plain) -> tuple[str, str]:
        signal, role = str(answer.entry["signal"]), str(answer.entry["role"])
        rows = [row for row in service.get("signals") or [] if row.get("signal") == signal]
        same = next((row for row in rows if row.get("role") == role and not row.get("gpu_type")), None)
        if same is None:
            others = " and ".join(dict.fromkeys(str(row["role"]) for row in rows if row["role"] != role))
            only = f"; it is for {others}" if others else ""
            how = self.missing.get((signal, role), "")
            return "signal_gone", f"{signal}@{role} is no longer recorded{only}{f'; {how}' if how else ''}"
        if answer.kind == "drivers":
            return "not_tried", f"{signal}@{role} was not tried as a driver in the new run"
        if answer.kind == "thresholds" and same.get("verdict") != "proportional":
            return (
                "not_proportional",
                f"{DEATHS['not_proportional']}: {signal}@{role} is {same['verdict']}",
            )
        return "not_answered", _refusal(service, answer.what) or f"the new run does not answer {answer.what}"


def _is_chart(link: str) -> bool:
    return f"/{CHART}" in link


def _left_out(old: ComparedRun, new: ComparedRun) -> Callable[[str, str], bool]:
    """Return whether the old report shows an old path and the new one leaves out the new path."""

    def left_out(was: str, now: str) -> bool:
        showed = old.shown is None or was in old.shown
        return showed and new.shown is not None and now not in new.shown

    return left_out


def _outside(link: EvidenceLink, first: datetime | None, last: datetime | None) -> bool:
    """Whether a link's time range holds nothing of a history, whose end is not part of it."""
    too_late = link.start is not None and last is not None and link.start >= last
    too_early = link.end is not None and first is not None and link.end <= first
    return too_late or too_early


def _policy_cause(answer: LinkedAnswer, service: Plain) -> tuple[str, str]:
    decision = service.get("decision") or {}
    why = str(decision.get("why") or "")
    if not service.get("selection") and answer.kind != "replay":
        return "policy_refused", _because(DEATHS["policy_refused"], why)
    if answer.kind == "selection":
        return "candidate_gone", DEATHS["candidate_gone"]
    if answer.kind == "replay" and not (service.get("replay") or {}).get("policies"):
        code = "not_replayed" if service.get("selection") else "policy_refused"
        return code, _because("the new run replays no policy", why)
    given = "; no --current was given" if answer.what == CURRENT else ""
    return "not_replayed", f"{DEATHS['not_replayed']}{given}"


def _because(text: str, why: str) -> str:
    return f"{text}: {why}" if why else text


def _services(summary: Plain) -> dict[str, Plain]:
    return {str(one["service"]): one for one in summary.get("services") or []}


def _selected(service: Plain) -> str:
    """Return the name of the selected policy; empty without one."""
    return next((str(row["policy"]) for row in service.get("selection") or [] if row.get("chosen")), "")


def _refused(answer: LinkedAnswer) -> bool:
    return answer.entry.get("status") == "refused"


def _cause(entry: Plain) -> str:
    reason = entry.get("reason")
    return str((reason.get("text") if isinstance(reason, Mapping) else reason) or "no reason was recorded")


def _refusal(service: Plain, what: str) -> str:
    """Return what the new run says of an answer that it refused; empty where it says nothing."""
    rows = service.get("refusals") or []
    said = next((row for row in rows if row.get("what") == what), None)
    return f"{what} was not answered: {said.get('text')}" if said else ""


def _gpu_types(service: Plain) -> set[str]:
    lists = (service.get(key) or [] for key in ("capacity", "signals", "thresholds", "gpu_speeds"))
    return {str(row["gpu_type"]) for rows in lists for row in rows if row.get("gpu_type")}


def _missing(summary: Plain) -> dict[tuple[str, str], str]:
    """Return how to switch on what was not found, by signal and role."""
    rows = (summary.get("coverage") or {}).get("missing") or []
    return {(str(one["signal"]), str(one["role"])): str(one.get("how_to_enable") or "") for one in rows}


def _written(node: Any) -> Iterator[str]:
    """Yield the links that a document carries, in its order."""
    if isinstance(node, Mapping):
        for key, child in node.items():
            if key == "evidence" and isinstance(child, str) and child.strip():
                yield child
            else:
                yield from _written(child)
    elif isinstance(node, list):
        for child in node:
            yield from _written(child)


def _bare(link: str | EvidenceLink) -> str:
    found = parse(link) if isinstance(link, str) else link
    return path(found.service, found.stage, found.what)


def _span(*ends: datetime | None) -> str:
    return " to ".join("open" if end is None else end.isoformat().replace("+00:00", "Z") for end in ends)
