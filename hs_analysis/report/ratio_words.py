"""What stands beside the P/D ratio in words: splits that tests measured, and what one signal keeps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hs_analysis.report.choice import mapping, records
from hs_analysis.report.sweeps import mix_text, pair_text
from hs_analysis.report.wording import interval, is_number, number, percent, plural

Entry = Mapping[str, Any]

WIDTH = 100
"""Characters of a line of an answer at most, where it is not a path or a name that makes it longer."""

MIX_STATUS = {
    "undecided": ", whether it keeps the limits is undecided",
    "indicative": ", judged by mean latencies",
}
"""What is to be known of a split measured that is not `ok`."""


def beside_ratio(answer: Entry) -> list[str]:
    """Return what a ratio stands on and what stands beside it, as parts of a sentence."""
    return [text for text in (mixes_text(answer), bound_text(answer)) if text]


def mixes_text(answer: Entry) -> str:
    """Return the best split measured for each token mix of a ratio test, empty without one."""
    found = []
    for mix in records(answer.get("by_mix")):
        split, lengths = pair_text([mix.get("prefill"), mix.get("decode")]), mix_text(mix)
        of = f" ({lengths})" if lengths else ""
        found.append(
            f"{split}, ratio {number(mix.get('value'))}{of}{MIX_STATUS.get(str(mix.get('status')), '')}"
        )
    return f"best split measured: {'; '.join(found)}" if found else ""


def bound_text(answer: Entry) -> str:
    """Return what a policy keeps that sizes both pools by one signal; empty where it keeps the ratio."""
    if not is_number(answer.get("one_primary_bound")):
        return ""
    ends = interval(answer.get("one_primary_bound_ci"))
    enough = "each mix tested" if answer.get("by_mix") else "95 % of the hours"
    return (
        f"where one signal has to size both pools, {number(answer['one_primary_bound'])}"
        f"{f' [{ends}]' if ends else ''} prefill per decode instance is enough for {enough}"
    )


def is_ratio_test(service: Entry) -> bool:
    """Whether load and splits of prefill and decode were set on purpose, to compare these."""
    swept = mapping(service.get("pd_ratio")).get("basis") == "sweep"
    alone = any(one.get("code") == "no_history" for one in records(service.get("refusals")))
    return alone or (swept and service.get("history_kind") == "pressure_test")


def best_splits(service: Entry, width: int) -> str:
    """Return the best split of each token mix in at most ``width`` characters, or why there is none."""
    answer = mapping(service.get("pd_ratio"))
    mixes = records(answer.get("by_mix"))
    if not mixes:
        return f"no best split: {mapping(answer.get('reason')).get('text')}"
    said = [f"{_pair(mix)}{f' ({lengths})' if (lengths := mix_text(mix)) else ''}" for mix in mixes]
    shown = len(said)
    while shown > 1 and len(_listed(said, shown)) > width:
        shown -= 1
    return _listed(said, shown)


def _listed(said: list[str], shown: int) -> str:
    rest = len(said) - shown
    more = f" and {plural(rest, 'more mix', 'more mixes')}" if rest else ""
    return f"best split measured {', '.join(said[:shown])}{more}"


def _pair(split: Entry) -> str:
    return pair_text([split.get("prefill"), split.get("decode")])


def ratio_line(service: Entry) -> str:
    """Return the ratio of a ratio test with its range, and how far the splits next to the best fall.

    Of several token mixes the ratio of each.
    """
    answer = mapping(service.get("pd_ratio"))
    mixes = records(answer.get("by_mix"))
    if len(mixes) > 1:
        return _as_many("P/D ratio by mix, as above: ", [_with_range(mix) for mix in mixes])
    sides = [(answer.get("at_least"), "at least"), (answer.get("at_most"), "at most")]
    bounds = "".join(f", {word} {number(value)}" for value, word in sides if is_number(value))
    bounds = "" if mixes and mixes[0].get("between") else bounds
    if not mixes:
        return f"P/D ratio not known{bounds}." if bounds else ""
    near = [pair_text(pair) for pair in list(answer.get("integer_pairs") or ())[1:]]
    falls = [f"{', '.join(near)} within 3 %"] if near else []
    falls += [_fall(one) for one in records(mixes[0].get("neighbours"))]
    gpus = mixes[0].get("gpu_ratio")
    in_gpus = f" ({number(gpus)} in GPUs)" if is_number(gpus) and gpus != mixes[0].get("value") else ""
    beside = f": {', '.join(falls)}" if falls else ""
    return f"P/D ratio {_with_range(mixes[0])}{in_gpus}{bounds}{beside}."


def _with_range(mix: Entry) -> str:
    between = mix.get("between")
    ends = f" ({number(between[0])} to {number(between[1])})" if between else ""
    return f"{number(mix.get('value'))}{ends}"


def _fall(split: Entry) -> str:
    served = split.get("served_ratio")
    return f"{_pair(split)} {f'serves {percent(1 - served)} less' if is_number(served) else 'breaks a limit'}"


def floors_line(service: Entry, slo: Entry) -> str:
    """Return what one instance of the best split carried, which is a floor for that mix only."""
    mixes = records(mapping(service.get("pd_ratio")).get("by_mix"))
    amounts = [(mix.get("prefill_tps_per_instance"), mix.get("decode_tps_per_instance")) for mix in mixes]
    if not any(is_number(tps) for pair in amounts for tps in pair):
        return ""
    if len(mixes) > 1:
        each = [" / ".join(map(number, pair)) for pair in amounts]
        return _as_many("One instance carried, prompt / output tokens/s by mix: ", each)
    kinds = zip(amounts[0], ("prompt", "output"), strict=True)
    known = " or ".join(f"{number(tps)} {kind}" for tps, kind in kinds if is_number(tps))
    limits = any(is_number(slo.get(name)) for name in ("ttft_s", "tbt_s"))
    if limits:
        return f"One instance carried {known} tokens/s within the SLO: floors for this mix."
    return f"One instance carried {known} tokens/s: floors for this mix, without an SLO."


def _as_many(start: str, parts: Sequence[str]) -> str:
    """Return a sentence with as many parts as a line of an answer holds, and how many it leaves out."""
    shown, rest = len(parts), ""
    while shown > 1 and len(f"{start}{', '.join(parts[:shown])}{rest}.") > WIDTH:
        shown -= 1
        rest = f" and {len(parts) - shown} more"
    return f"{start}{', '.join(parts[:shown])}{rest}."
