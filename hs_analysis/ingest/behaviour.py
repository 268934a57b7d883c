"""What an engine does by what it counts, where neither labels nor names tell its role.

A prefill worker is asked for one token a request; a decode worker gets its prompts' KV from elsewhere. Each
alone proves little: a scoring service asks for one token too, and a KV store sends prompts to workers that do
both. A pair is proof: what one side prefilled arrives at the other, token for token or request for request.
Where there is no such pair, and no worker that computes its own prompts either, the role stays unknown.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import polars as pl

from hs_analysis.schema.frames import label_map

ONE_TOKEN = 1.5
"""Output tokens per finished request below which a worker answers with one token [tokens]."""

RECEIVES = 0.5
"""Share of the prompt tokens it did not find in its own cache above which a worker receives them [ratio]."""

COMPUTES = 0.1
"""Share below which it computes its prompts itself; between the two nothing is said [ratio]."""

ENOUGH_REQUESTS = 100
"""Finished requests below which a worker has not shown what it does [count]; default of this project."""

TOKENS_ARRIVED = (0.5, 1.25)
"""Prompt tokens received ÷ prompt tokens prefilled of a pair [ratio]: KV moves in whole blocks, so that short
prompts arrive with less; more cannot arrive than was made, up to what straddles the window's ends."""

SAME_REQUESTS = 0.05
"""Relative difference up to which two sides handled the same requests and prompt tokens [ratio]."""

QUANTITIES: dict[str, tuple[tuple[str, str | None], ...]] = {
    "output": (
        ("vllm:generation_tokens_total", None), ("trtllm_generation_tokens_total", None),
        ("trtllm:generation_tokens_total", None),
    ),
    "finished": (
        ("vllm:request_success_total", None), ("trtllm_request_success_total", None),
        ("trtllm:request_success_total", None),
    ),
    "prompt": (
        ("vllm:prompt_tokens_total", None), ("trtllm_prompt_tokens_total", None),
        ("trtllm:prompt_tokens_total", None),
    ),
    "computed": (("vllm:prompt_tokens_by_source_total", "local_compute"),),
    "received": (("vllm:prompt_tokens_by_source_total", "external_kv_transfer"),),
}  # fmt: skip
"""Quantity → metric, and the value its label ``source`` must have (vLLM and TensorRT-LLM sources)."""

COUNTERS = {"series_id": pl.Int64, "quantity": pl.String}
ENGINES = ("vllm", "trtllm")
_PLACE = ("capture", "service", "instance")


@dataclass(frozen=True)
class _Worker:
    """Totals of one instance; None where the engine does not count it."""

    key: tuple[str, str, str]
    role: str
    output: float | None
    finished: float | None
    prompt: float | None
    computed: float | None
    received: float | None

    @property
    def per_request(self) -> float | None:
        """Output tokens per finished request."""
        if self.output is None or self.finished is None or self.finished < ENOUGH_REQUESTS:
            return None
        return self.output / self.finished

    @property
    def received_share(self) -> float | None:
        """Share received of the prompt tokens that were not in its own cache."""
        if self.computed is None or self.received is None or self.computed + self.received <= 0:
            return None
        return self.received / (self.computed + self.received)

    @property
    def answers_one_token(self) -> bool:
        """Whether it looks like a prefill worker."""
        return self.per_request is not None and self.per_request < ONE_TOKEN

    @property
    def generates(self) -> bool:
        """Whether it looks like a worker that decodes."""
        return self.per_request is not None and self.per_request >= ONE_TOKEN

    @property
    def receives(self) -> bool:
        """Whether its prompts come from elsewhere."""
        return self.received_share is not None and self.received_share > RECEIVES


def behaviour_counters(series: pl.DataFrame) -> pl.DataFrame:
    """Return the counters whose totals are needed: those of services with an engine of unknown role.

    Parameters
    ----------
    series
        Frame of contract SERIES.

    Returns
    -------
    Frame (series_id, quantity), input ``counters`` of the query ``ingest/behaviour_totals``; empty when every
    engine's role is known.
    """
    engines = series.filter(
        pl.col("source").is_in(ENGINES) & pl.col("service").is_not_null() & pl.col("instance").is_not_null()
    )
    open_ones = engines.filter(pl.col("emitter_role") == "unknown").select("capture", "service").unique()
    asked = engines.join(open_ones, ["capture", "service"], how="semi")
    found = [
        (row["series_id"], quantity)
        for row in asked.select("series_id", "metric", "labels").iter_rows(named=True)
        for quantity, carriers in QUANTITIES.items()
        for metric, source in carriers
        if row["metric"] == metric and source in (None, label_map(row["labels"]).get("source"))
    ]
    return pl.DataFrame(found, schema=COUNTERS, orient="row").sort("series_id", "quantity")


def behaviour_roles(series: pl.DataFrame, totals: pl.DataFrame) -> pl.DataFrame:
    """Return the series with the roles that instances of unknown role show by what they count.

    Parameters
    ----------
    series
        Frame of contract SERIES.
    totals
        Result of the query ``ingest/behaviour_totals``.

    Returns
    -------
    Frame of contract SERIES: ``emitter_role`` and ``role_evidence`` of all series of an instance that was
    unknown and shows its role; the rest as it was.
    """
    workers = _workers(series, totals)
    decided: dict[tuple[str, str, str], tuple[str, str]] = {}
    for group in {worker.key[:2] for worker in workers}:
        decided |= _decided([worker for worker in workers if worker.key[:2] == group])
    if not decided:
        return series
    shown = pl.DataFrame(
        [(*key, *role) for key, role in sorted(decided.items())],
        schema=[*_PLACE, "shown_role", "shown_by"],
        orient="row",
    )
    joined = series.join(shown, list(_PLACE), how="left", maintain_order="left")
    takes = (pl.col("emitter_role") == "unknown") & pl.col("shown_role").is_not_null()
    return joined.with_columns(
        pl.when(takes).then("shown_role").otherwise("emitter_role").alias("emitter_role"),
        pl.when(takes).then("shown_by").otherwise("role_evidence").alias("role_evidence"),
    ).select(series.columns)


def _workers(series: pl.DataFrame, totals: pl.DataFrame) -> list[_Worker]:
    summed = (
        totals.join(series.select("series_id", "emitter_role", *_PLACE), "series_id")
        .group_by(*_PLACE, "quantity")
        .agg(pl.col("total").sum(), pl.col("emitter_role").first())
        .sort(*_PLACE, "quantity")
    )
    counts: dict[tuple[str, str, str], dict[str, float]] = {}
    roles: dict[tuple[str, str, str], str] = {}
    for row in summed.iter_rows(named=True):
        key = (row["capture"], row["service"], row["instance"])
        counts.setdefault(key, {})[row["quantity"]] = row["total"]
        roles[key] = row["emitter_role"]
    return [_Worker(key, roles[key], *map(own.get, QUANTITIES)) for key, own in counts.items()]


def _decided(workers: list[_Worker]) -> Mapping[tuple[str, str, str], tuple[str, str]]:
    """Return the roles of one service's unknown workers in one capture."""
    unknown = [worker for worker in workers if worker.role == "unknown"]
    prefilling = [w for w in workers if w.role == "prefill" or (w.role == "unknown" and w.answers_one_token)]
    decoding = [w for w in workers if w.role == "decode" or (w.role == "unknown" and w.generates)]
    if not prefilling:
        return {} if any(w.role == "decode" for w in workers) else _by_computing(unknown)
    if not decoding:
        return {}
    if _arrived(prefilling, decoding):
        shown = {
            w.key: ("decode", "behaviour:receives_its_prompts")
            for w in unknown
            if w in decoding and w.receives
        }
    elif _same_requests(prefilling, decoding):
        shown = {w.key: ("decode", "behaviour:finishes_what_prefill_began") for w in unknown if w in decoding}
    else:
        return {}
    return shown | {
        w.key: ("prefill", "behaviour:answers_with_one_token") for w in unknown if w in prefilling
    }


def _by_computing(unknown: Iterable[_Worker]) -> Mapping[tuple[str, str, str], tuple[str, str]]:
    """Return mixed for workers that generate and compute their own prompts, with no prefill worker around."""
    return {
        w.key: ("mixed", "behaviour:computes_its_prompts")
        for w in unknown
        if w.generates and w.received_share is not None and w.received_share < COMPUTES
    }


def _arrived(prefilling: Iterable[_Worker], decoding: Iterable[_Worker]) -> bool:
    """Whether the prompt tokens that one side prefilled are those that the other received."""
    made, received = [w.prompt for w in prefilling], [w.received for w in decoding if w.receives]
    sent = _known_sum(made)
    got = _known_sum(received)
    if not sent or not got:
        return False
    low, high = TOKENS_ARRIVED
    return low <= got / sent <= high


def _same_requests(prefilling: Iterable[_Worker], decoding: Iterable[_Worker]) -> bool:
    """Whether both sides finished the same requests over the same prompt tokens, and none says otherwise."""
    sides = [list(prefilling), list(decoding)]
    if any(w.received_share is not None for w in sides[1]):
        return False  # the engines count what they received: that decides
    for quantity in ("finished", "prompt"):
        one, other = (_known_sum([getattr(w, quantity) for w in side]) for side in sides)
        if not one or not other or abs(one - other) > SAME_REQUESTS * max(one, other):
            return False
    return True


def _known_sum(values: Iterable[float | None]) -> float | None:
    """Return the sum, None when a part of it is not known or there is none."""
    parts = list(values)
    return None if not parts or any(part is None for part in parts) else sum(part for part in parts if part)
