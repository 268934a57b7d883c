"""policy.yaml out and in: the policy as a document that people read and programs load.

Comments say in plain words where each number comes from, the structure says it again for programs.
Writing is byte-equal for equal policies, and reading gives the very policy that was written.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping
from functools import lru_cache
from numbers import Real
from typing import TYPE_CHECKING, Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap
from ruamel.yaml.error import YAMLError

from hs_analysis.errors import InputError
from hs_analysis.policy import timetable
from hs_analysis.policy.declaration import SCHEMA
from hs_analysis.policy.model import FLOOR, Policy, Primary, Ratio, SignalReading, Target
from hs_analysis.policy.parse import parse_policy
from hs_analysis.schema.declare import declared
from hs_analysis.schema.places import DocumentText, documents_of, yaml_fault

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

READABLE = (SCHEMA, "hs-analysis/policy/v1alpha1")
"""Schemas that are read; the newest is written."""

HEADER = """What to scale on, at which targets, with how many prefill per decode instances.
`evidence` is a link: `hsa explain <link> --run-dir <run folder>` prints how the number was found;
`default` marks a number that no data gave. Ratios are prefill ÷ decode. Times are UTC."""

WIDTH = 100_000
"""Longest line [characters]: queries stay on one line, so that they can be copied."""

WEIGHTS = "what one pod of a type counts: the target is that of a pod that counts 1, the mean pod recorded"

GPUS = """all pools together hold no more. Objects that scale pools apart keep it by max; a controller that
steps all pools at once keeps it in its step, and lets a pool have up to most"""

STATUS_WORDS = {
    "ok": "measured",
    "floor": "a load the fleet already carried; where a limit breaks is not known: capacity is at least this",
    "refused": "the data do not give it, see status.refusals",
}

RATIO_WORDS = {
    "ok": "the balance of the two capacities under the load-weighted mix",
    "floor": "the balance of the two targets under the load-weighted mix; a capacity behind them is a floor",
    "drifting": "the balance under the load-weighted mix; the mix moves, so that no single value is right",
    "sweep": "the best split that a ratio test measured",
    "sweeps": "the mean of the best splits of the token mixes below; none is right for all",
}
"""What the value of a ratio is, by status; ``sweep`` and ``sweeps`` where ratio tests of one or more token
mixes gave it."""

ONE_PRIMARY_BOUND = """kept in place of the value, since one signal sizes both pools: with it the pool that
follows has what it needs in 95 % of the hours"""

BY_MIX = """the best split measured for each token mix (mean tokens of prompt and output), and what one
instance of it carried within the limits, which is a floor for that mix only"""


def dump(policy: Policy) -> str:
    """Return policy.yaml for one service."""
    return dump_all([policy])


def dump_all(policies: Iterable[Policy]) -> str:
    """Return policy.yaml for several services, one document each."""
    writer = YAML()
    writer.width = WIDTH
    writer.indent(mapping=2, sequence=4, offset=2)
    stream = io.StringIO()
    for number, policy in enumerate(policies):
        if number:
            stream.write("---\n")
        writer.dump(_document(policy), stream)
    return stream.getvalue()


def load(text: str, where: str = "policy.yaml") -> Policy:
    """Return the policy of a document.

    Raises
    ------
    InputError
        When the text is not YAML, holds more than one document, has another schema, or a key is missing,
        unknown or of the wrong kind; the message names the key.
    """
    policies = load_all(text, where)
    if len(policies) != 1:
        raise InputError(f"{len(policies)} documents, expected 1", where=where)
    return policies[0]


@lru_cache(maxsize=8)
def load_all(text: str, where: str = "policy.yaml") -> tuple[Policy, ...]:
    """Return the policies of a file, in its order; see ``load`` for errors.

    A run reads its policy.yaml several times, and the parser of YAML is the slowest part of it: the last few
    texts are kept. The policies are not to be changed.
    """
    try:
        documents = [one for _, one in documents_of(text) if one is not None]
    except YAMLError as error:
        problem, place = yaml_fault(error, where)
        raise InputError(f"not YAML: {problem}", where=place) from error
    texts = [DocumentText(where, text, number) for number in range(len(documents))]
    for document, one in zip(documents, texts, strict=True):
        found = document.get("schema") if isinstance(document, Mapping) else None
        if found not in READABLE:
            raise InputError(f"schema is {found!r}, expected {SCHEMA!r}", where=one.at("schema"))
    return tuple(parse_policy(document, one) for document, one in zip(documents, texts, strict=True))


def _document(policy: Policy) -> CommentedMap:
    spec = _spec(policy)
    _comment_spec(spec, policy)
    metadata = _map(
        service=policy.service,
        window=_map(**policy.window),
        tool_version=policy.tool_version,
        inputs_sha256=policy.inputs_sha256,
        run=policy.run,
    )
    status = _map(
        recommended=policy.recommended, confidence=policy.confidence,
        confidence_reasons=list(policy.confidence_reasons), refusals=list(policy.refusals),
        replay=_map(**policy.replay),
    )  # fmt: skip
    _comment(
        status, "recommended", "false: keep what runs, or record more; `decision` of summary.json says why"
    )
    _comment(
        status, "confidence", "high: both fits agree, and a calibrated replay on unseen data supports it"
    )
    document = _map(schema=SCHEMA, metadata=metadata, spec=spec, status=status)
    document.yaml_set_start_comment(HEADER)
    return document


def _spec(policy: Policy) -> CommentedMap:
    return _map(
        mode=policy.mode,
        unit=policy.unit,
        primaries=[_primary(p) for p in policy.primaries],
        pd_ratio=_ratio(policy.pd_ratio) if policy.pd_ratio else None,
        controller=policy.controller,
        reading=_reading(policy.reading),
        hysteresis=_by_role(policy, {r: _fields(h) for r, h in policy.hysteresis.items()}, _widest_band),
        cooldown=_by_role(policy, {r: _fields(c) for r, c in policy.cooldown.items()}, _longest_cooldown),
        step=_fields(policy.step),
        guards=[_fields(g) | {"tiers": [_fields(t) for t in g.tiers]} for g in policy.guards],
        soft_scale_in=_fields(policy.soft_scale_in) if policy.soft_scale_in else None,
        bounds=_bounds(policy),
        evaluation=_map(window_s=policy.window_s, start_up_s=_map(**policy.start_up_s)),
        on_missing_metric=policy.on_missing_metric,
        periodic=[_map(**timetable.written(entry)) for entry in policy.periodic],
        placement=_map(**policy.placement),
    )


def _bounds(policy: Policy) -> CommentedMap:
    """Return the bounds of each pool, and the limit on GPUs where there is one."""
    found = _map(**{role: _fields(b) for role, b in policy.bounds.items()})
    if policy.gpus is not None:
        found["gpus"] = _map(
            limit=policy.gpus.limit,
            per_instance=_map(**{role: float(gpus) for role, gpus in policy.gpus.per_instance.items()}),
            most=_map(**policy.gpus.most),
        )
        _comment(found, "gpus", GPUS, indent=4)
    return found


def _fields(value: DataclassInstance) -> CommentedMap:
    """Return a dataclass as a mapping in the order of its fields, numbers of a float field as floats."""
    found = CommentedMap()
    for item in declared(type(value)):
        content = getattr(value, item.name)
        real = item.kind is float and isinstance(content, Real)
        found[item.key] = float(content) if real else content
    return found


def _map(**items: Any) -> CommentedMap:
    return CommentedMap(items)


def _primary(primary: Primary) -> CommentedMap:
    return _map(
        signal=primary.signal,
        role=primary.role,
        unit=primary.unit,
        promql=primary.promql,
        source=primary.source,
        pool=primary.pool,
        target_per_instance=_target(primary.target_per_instance),
        gpu_types=_map(**primary.gpu_types),
        waiting=_fields(primary.waiting) if primary.waiting else None,
    )


def _target(target: Target) -> CommentedMap:
    found = _fields(target)
    if target.capacity is not None:
        found["capacity"] = _fields(target.capacity)
    return found


def _ratio(ratio: Ratio) -> CommentedMap:
    """Return the ratio; bound, splits by mix and weights of GPU types only where there are any."""
    found = _fields(ratio)
    weights, bound, mixes = (found.pop(name) for name in ("gpu_types", "one_primary_bound", "by_mix"))
    if bound is not None:
        found["one_primary_bound"] = float(bound)
        _comment(found, "one_primary_bound", ONE_PRIMARY_BOUND, indent=4)
    if mixes:
        found["by_mix"] = [
            CommentedMap((k, v) for k, v in _fields(mix).items() if v is not None or "_per_" not in k)
            for mix in mixes
        ]
        _comment(found, "by_mix", BY_MIX, indent=4)
    if weights:
        found["gpu_types"] = _map(**weights)
    return found


def _reading(reading: SignalReading) -> CommentedMap:
    """Return the reading; what each direction follows is the same in every policy."""
    surge = {"surge": _fields(reading.surge)} if reading.surge else {}
    return _map(
        **{
            "window_s": float(reading.window_s), "out": "newest", "in": "highest",
            "over_s": float(reading.over_s), **surge,
        }
    )  # fmt: skip


def _widest_band(entries: list[CommentedMap]) -> CommentedMap:
    return _map(
        scale_out_ratio=max(e["scale_out_ratio"] for e in entries),
        scale_in_ratio=min(e["scale_in_ratio"] for e in entries),
    )


def _longest_cooldown(entries: list[CommentedMap]) -> CommentedMap:
    def longest(key: str) -> float | None:
        values = [e[key] for e in entries]
        return None if None in values else max(values)

    return _map(scale_out_s=longest("scale_out_s"), scale_in_s=longest("scale_in_s"))


def _by_role(policy: Policy, entries: dict[str, CommentedMap], summary: Any) -> CommentedMap | None:
    """Return one entry when all sized pools share it, else the calmest values and each pool's own."""
    if not entries:
        return None
    values = list(entries.values())
    if set(entries) == set(policy.sized_roles) and all(v == values[0] for v in values):
        return values[0]
    calmest: CommentedMap = summary(values)
    calmest["by_role"] = CommentedMap(entries)
    return calmest


_SURGE = "\nsurge: the mean over its window is read instead while it is above_ratio times as high"


_KEPT = "\nfloor: prefill keeps the size at which an instance still carries headroom_ratio of its floor"


def _comment_spec(spec: CommentedMap, policy: Policy) -> None:
    comments = {
        "mode": "metric: follow the primaries; periodic: follow the timetable; hold: change nothing",
        "unit": "what one instance is: a group of pods, or a pod",
        "primaries": "one entry sizes both pools where there is a pd_ratio; two size a pool each.\n"
        "Instances = total ÷ target, or for a pool mean current × value ÷ target, rounded up",
        "pd_ratio": _about_ratio(policy),
        "controller": "what runs this policy: it was selected and replayed by the rules of this controller",
        "reading": "growth follows the newest mean over window_s, shrinking the highest of them in over_s"
        + (_SURGE if policy.reading.surge else ""),
        "hysteresis": "act only when wanted ÷ current leaves this band (as the chosen candidate has it)",
        "cooldown": "rest after an action [s]; null = unknown, then nothing is removed",
        "step": "largest part of a pool changed at once, at least one instance; null = no limit",
        "guards": "latency that may add instances and forbid removal, never size a pool",
        "soft_scale_in": "removed instances leave discovery, run on this long, and come back on a breach",
        "bounds": "twice the most ever seen, or the highest need; at least 2, or 1 where one was enough"
        + (_KEPT if any(one.provenance == FLOOR for one in policy.bounds.values()) else ""),
        "evaluation": "seconds between decisions, and start-up time used",
        "on_missing_metric": "a missing metric never removes an instance",
        "placement": "network affinity (null = not known) and GPU types seen",
    }  # fmt: skip
    for key, text in comments.items():
        _comment(spec, key, text)
    for entry in spec["primaries"]:
        _comment(entry, "target_per_instance", _target_words(entry["target_per_instance"]), indent=6)
        if entry["gpu_types"]:
            _comment(entry, "gpu_types", WEIGHTS, indent=6)


def _target_words(target: CommentedMap) -> str:
    """Say what the target is a share of; the capacity has the interval."""
    text = _words(target["status"])
    if target["capacity"] is None or target["headroom_ratio"] is None:
        return text
    of = "the floor" if target["status"] == "floor" else "the lower end of the capacity"
    return f"{text}; value: what the signal reads at headroom_ratio × {of}"


def _about_ratio(policy: Policy) -> str:
    """Say what the ratio is and whether the policy keeps it, or why there is none."""
    found = policy.pd_ratio
    if found is None or found.value is None:
        return _no_ratio(policy)
    return _ratio_words(found, keeps=policy.mode != "hold")


def _no_ratio(policy: Policy) -> str:
    """Say why the policy keeps no ratio."""
    if "mixed" in policy.bounds:
        return "none: a single pool"
    if mixes := len(policy.pd_ratio.by_mix) if policy.pd_ratio else 0:
        why = f"the best split differs between the {mixes} token mixes tested, and " if mixes > 1 else ""
        own = "each pool is sized by its own signal" if len(policy.primaries) > 1 else "nothing keeps a ratio"
        return f"no value: {why}{own};\nby_mix: the best split measured of each mix, to start a service with"
    if len(policy.primaries) > 1:
        return "none is kept: each pool is sized by its own signal; summary.json holds the balance as derived"
    return "none is kept"


def _ratio_words(ratio: Ratio, *, keeps: bool) -> str:
    """Say what the ratio is, and what ``low`` and ``high`` are: they differ by status."""
    if not keeps:
        kept = "nothing keeps it"
    else:
        bound = ratio.one_primary_bound
        kept = "kept within max_deviation" if bound is None else "not kept: see the bound below"
    said = ratio.status
    if ratio.by_mix:
        said = "sweep" if len(ratio.by_mix) == 1 else "sweeps"
    text = f"prefill ÷ decode instances, {kept}:\n{RATIO_WORDS.get(said, _words(said))}"
    if ratio.low is None or ratio.high is None:
        return text
    if ratio.by_mix:
        return f"{text};\nlow and high: the nearest splits that serve less, or the best splits of all mixes"
    if ratio.status == "drifting":
        return f"{text};\nlow and high: the band in which the balance moves, the value in it"
    if ratio.value is None:
        return f"{text};\nlow and high: one-sided bounds"
    return f"{text};\nlow and high: the 95 % interval of the value"


def _words(status: str) -> str:
    return STATUS_WORDS.get(status, status)


def _comment(holder: CommentedMap, key: str, text: str, indent: int = 2) -> None:
    holder.yaml_set_comment_before_after_key(key, before=text, indent=indent)
