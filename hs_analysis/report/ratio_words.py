"""What stands beside the P/D ratio in words: splits that tests measured, and what one signal keeps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hs_analysis.report.choice import records
from hs_analysis.report.sweeps import mix_text, pair_text
from hs_analysis.report.wording import interval, is_number, number

Answer = Mapping[str, Any]

MIX_STATUS = {
    "undecided": ", whether it keeps the limits is undecided",
    "indicative": ", judged by mean latencies",
}
"""What is to be known of a split measured that is not `ok`."""


def beside_ratio(answer: Answer) -> list[str]:
    """Return what a ratio stands on and what stands beside it, as parts of a sentence."""
    return [text for text in (mixes_text(answer), bound_text(answer)) if text]


def mixes_text(answer: Answer) -> str:
    """Return the best split measured for each token mix of a ratio test, empty without one."""
    found = []
    for mix in records(answer.get("by_mix")):
        split, lengths = pair_text([mix.get("prefill"), mix.get("decode")]), mix_text(mix)
        of = f" ({lengths})" if lengths else ""
        found.append(
            f"{split}, ratio {number(mix.get('value'))}{of}{MIX_STATUS.get(str(mix.get('status')), '')}"
        )
    return f"best split measured: {'; '.join(found)}" if found else ""


def bound_text(answer: Answer) -> str:
    """Return what a policy keeps that sizes both pools by one signal; empty where it keeps the ratio."""
    if not is_number(answer.get("one_primary_bound")):
        return ""
    ends = interval(answer.get("one_primary_bound_ci"))
    enough = "each mix tested" if answer.get("by_mix") else "95 % of the hours"
    return (
        f"where one signal has to size both pools, {number(answer['one_primary_bound'])}"
        f"{f' [{ends}]' if ends else ''} prefill per decode instance is enough for {enough}"
    )
