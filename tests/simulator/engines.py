"""What the metric pages of serving engines show of an instance: vLLM and SGLang, under their own names.

Quirks kept: vLLM counts the prompt of a request on the prefill and again on the decode worker, and a prefill
worker counts one generated token per request; prompt counters move when prefill ends. SGLang's
prompt_tokens_total and generation_tokens_total move only when a request is done, its realtime_tokens_total at
once. Releases of vLLM before mid-2025 say gpu_cache_usage_perc and time_per_output_token_seconds.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from simulator import histograms as h
from simulator.physics import Trace
from simulator.readings import kv_usage
from simulator.scrapes import Series, Target, at_scrape, counted

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class View:
    """One instance as its engine sees it: its requests and its moments, shape (own requests,)."""

    trace: Trace
    role: str
    number: int

    def own(self, values: Floats) -> Floats:
        """Return the entries of a per-request array that belong to this instance."""
        return np.asarray(values[self.trace.stays[self.role].life == self.number])

    @property
    def done_s(self) -> Floats:
        """When each request left this instance."""
        return self.own(self.trace.stays[self.role].end_s)

    @property
    def first_s(self) -> Floats:
        """When this instance gave a request's first token: the end of prefill, or the first decode step."""
        stay = self.trace.stays[self.role]
        if self.role == "decode":
            return self.own(stay.start_s) + self.trace.service.decode.fixed_s
        return self.own(self.trace.first_s if self.role == "mixed" else stay.end_s)

    @property
    def entered_s(self) -> Floats:
        """When each request came to this instance."""
        return self.own(self.trace.stays[self.role].enter_s)

    def level(self, name: str, sample_s: Floats) -> Floats:
        """Return one of the levels of its seconds at each scrape."""
        seconds = self.trace.seconds[self.role][self.number]
        return at_scrape(getattr(seconds, name), seconds.first, sample_s)

    def kv(self, sample_s: Floats) -> Floats:
        """Return its KV usage at each scrape [ratio]."""
        seconds = self.trace.seconds[self.role][self.number]
        return at_scrape(kv_usage(seconds, self.role, self.trace.service), seconds.first, sample_s)

    def emitted(self, sample_s: Floats) -> Floats:
        """Return the tokens it has emitted at each scrape, cut to whole ones."""
        seconds = self.trace.seconds[self.role][self.number]
        total = np.r_[0.0, np.cumsum(seconds.tokens)]
        index = np.clip(np.floor(sample_s).astype(int) - seconds.first, 0, seconds.tokens.size)
        return np.asarray(np.floor(total[index] + 1e-6))


def vllm(
    view: View, at: Target, model: str, *, old_names: bool = False, buckets: bool = True
) -> list[Series]:
    """Return the series of a vLLM engine; without ``buckets`` its TTFT histogram has only sum and count."""
    who = {"model_name": model, "engine": "0"}
    requests, when = view.trace.requests, at.sample_s
    prompt, missed = view.own(requests.prompt), view.own(requests.missed)
    first, done = view.first_s, view.done_s
    decodes = view.role == "decode"
    if view.role == "prefill":
        generated = counted(first, None, when)
        answers = np.ones(done.size)
    else:
        generated = view.emitted(when) + (0.0 if decodes else counted(first, None, when))
        answers = view.own(requests.output)
    sources = {
        "local_compute": np.zeros(prompt.size) if decodes else missed,
        "local_cache_hit": np.zeros(prompt.size) if decodes else prompt - missed,
        "external_kv_transfer": prompt if decodes else np.zeros(prompt.size),
    }
    usage = "vllm:gpu_cache_usage_perc" if old_names else "vllm:kv_cache_usage_perc"
    gap = "vllm:time_per_output_token_seconds" if old_names else "vllm:inter_token_latency_seconds"
    rows = [
        at.series("vllm:num_requests_running", view.level("running", when), **who),
        at.series("vllm:num_requests_waiting", view.level("waiting", when), **who),
        at.series(usage, np.round(view.kv(when), 6), **who),
        at.series("vllm:prompt_tokens_total", counted(first, prompt, when), **who),
        at.series("vllm:generation_tokens_total", generated, **who),
        at.series(
            "vllm:request_success_total",
            counted(done, None, when),
            **who,
            finished_reason="length" if view.role == "prefill" else "stop",
        ),
        at.series("vllm:request_prompt_tokens_sum", counted(done, prompt, when), **who),
        at.series("vllm:request_prompt_tokens_count", counted(done, None, when), **who),
        at.series("vllm:request_generation_tokens_sum", counted(done, answers, when), **who),
        at.series("vllm:request_generation_tokens_count", counted(done, None, when), **who),
    ]
    rows += [
        at.series("vllm:prompt_tokens_by_source_total", counted(first, tokens, when), **who, source=source)
        for source, tokens in sources.items()
    ]
    ttft = h.of_events(first, first - view.entered_s, h.VLLM_TTFT, when)
    rows += _kept(
        h.families(at, "vllm:time_to_first_token_seconds", ttft, h.VLLM_TTFT, "python", **who), buckets
    )
    if view.role != "prefill":
        gaps = h.of_gaps(view.trace, view.role, [view.number], h.VLLM_GAP, when)
        rows += h.families(at, gap, gaps, h.VLLM_GAP, "python", **who)
    return rows


def images(view: View, at: Target, model: str) -> list[Series]:
    """Return the series of an engine that makes images under vLLM's names: requests, and no tokens."""
    who, when, done = {"model_name": model, "engine": "0"}, at.sample_s, view.done_s
    took = h.of_events(done, done - view.entered_s, h.VLLM_REQUEST, when)
    return [
        at.series("vllm:num_requests_running", view.level("running", when), **who),
        at.series("vllm:num_requests_waiting", view.level("waiting", when), **who),
        at.series("vllm:request_success_total", counted(done, None, when), **who, finished_reason="stop"),
        *h.families(at, "vllm:e2e_request_latency_seconds", took, h.VLLM_REQUEST, "python", **who),
    ]


def sglang(view: View, at: Target, model: str) -> list[Series]:
    """Return the series of an SGLang engine; its TTFT starts when the request reached the service."""
    kind = {"prefill": "prefill", "decode": "decode", "mixed": "unified"}[view.role]
    who = {"model_name": model, "engine_type": kind, "tp_rank": "0", "pp_rank": "0", "dp_rank": "0"}
    requests, when = view.trace.requests, at.sample_s
    prompt, missed, output = (view.own(v) for v in (requests.prompt, requests.missed, requests.output))
    first, done = view.first_s, view.done_s
    rows = [
        at.series("sglang:num_running_reqs", view.level("running", when), **who),
        at.series("sglang:num_queue_reqs", view.level("waiting", when), **who),
        at.series("sglang:token_usage", np.round(view.kv(when), 4), **who),
        at.series("sglang:prompt_tokens_total", counted(done, prompt, when), **who),
        at.series("sglang:num_requests_total", counted(done, None, when), **who),
    ]
    if view.role != "decode":
        rows += [
            at.series(
                "sglang:realtime_tokens_total", counted(first, missed, when), **who, mode="prefill_compute"
            ),
            at.series(
                "sglang:realtime_tokens_total",
                counted(first, prompt - missed, when),
                **who,
                mode="prefill_cache",
            ),
        ]
    if view.role != "prefill":
        arrived = view.own(requests.time_s)
        ttft = h.of_events(first, first - arrived, h.SGLANG_TTFT, when)
        gaps = h.of_gaps(view.trace, view.role, [view.number], h.SGLANG_GAP, when)
        rows += [
            at.series("sglang:realtime_tokens_total", view.emitted(when), **who, mode="decode"),
            at.series("sglang:generation_tokens_total", counted(done, output, when), **who),
            *h.families(at, "sglang:time_to_first_token_seconds", ttft, h.SGLANG_TTFT, "python", **who),
            *h.families(at, "sglang:inter_token_latency_seconds", gaps, h.SGLANG_GAP, "python", **who),
        ]
    return rows


def _kept(rows: list[Series], buckets: bool) -> list[Series]:
    return [row for row in rows if buckets or not row.labels["__name__"].endswith("_bucket")]
