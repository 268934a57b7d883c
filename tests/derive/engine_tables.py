"""Capacities of the recorded mocker captures by their engines' step tables, and shares by the client's log.

The captures' READMEs give the tables: a prefill step of n tokens lasts 20 ms + 0.27 ms · n + 2e-7 ms · n², at
most 2048 tokens a step; a decode step 22 ms + 3e-4 ms a KV token held + 0.5 ms a running sequence.
"""

from __future__ import annotations

import gzip
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

Floats = np.ndarray


@dataclass(frozen=True)
class ClientLog:
    """What the client measured, one entry a request; NaN where there is none."""

    arrival_s: Floats
    first_s: Floats
    end_s: Floats
    ttft_s: Floats
    gap_s: Floats
    prompt: Floats
    missed: Floats
    output: Floats

    @classmethod
    def of(cls, folder: Path) -> ClientLog:
        """Read the log of a capture."""
        log = pl.read_csv(gzip.decompress((folder / "requests.csv.gz").read_bytes()))
        prompt = log["prompt_tokens"].fill_null(log["req_prompt"])
        arrival = log["arrival_unix"].to_numpy()
        ttft, gap, e2e = (
            log[name].cast(pl.Float64).fill_null(np.nan).to_numpy()
            for name in ("ttft_s", "mean_tbt_s", "e2e_s")
        )
        return cls(
            arrival, arrival + ttft, arrival + e2e, ttft, gap, prompt.to_numpy(),
            (prompt - log["cached_tokens"].fill_null(0)).to_numpy(),
            log["output_tokens"].fill_null(log["req_output"]).to_numpy(),
        )  # fmt: skip

    def ttft_over(self, limit_s: float, start_s: Floats, window_s: float) -> Floats:
        """Return the share of the first tokens of each window that came later than a limit."""
        edges = np.r_[start_s, start_s[-1] + window_s]
        known = np.isfinite(self.ttft_s)
        count, late = (
            np.histogram(self.first_s[known], edges, weights=weights)[0]
            for weights in (None, (self.ttft_s[known] > limit_s).astype(float))
        )
        return np.where(count > 0, late / np.maximum(count, 1), np.nan)

    def gaps_over(self, limit_s: float, start_s: Floats, window_s: float) -> Floats:
        """Return the share of the tokens of each window whose request had a mean gap over a limit."""
        known = np.isfinite(self.gap_s) & (self.end_s > self.first_s)
        first, end, output = self.first_s[known], self.end_s[known], self.output[known]
        over = self.gap_s[known] > limit_s
        found = np.full(start_s.size, np.nan)
        for row, start in enumerate(start_s):
            inside = np.clip(np.minimum(end, start + window_s) - np.maximum(first, start), 0.0, None)
            tokens = inside / (end - first) * output
            if tokens.sum() > 0:
                found[row] = (tokens * over).sum() / tokens.sum()
        return found


def decode_capacity(log: ClientLog, limit_s: float, since_s: float = 0.0, until_s: float = np.inf) -> float:
    """Return the output tokens/s of a worker whose mean step is 95 % of a limit, under the log's mean mix.

    As the READMEs have it: roughly where the 95 % quantile of the gaps meets the limit.
    """
    part = (log.arrival_s >= since_s) & (log.arrival_s < until_s)
    prompt, output = log.prompt[part], log.output[part]
    held = float(((prompt + output / 2.0) * output).sum() / output.sum())
    step_ms = 0.95 * limit_s * 1000.0
    return (step_ms - 22.0) / (0.5 + 3e-4 * held) / step_ms * 1000.0


def prefill_capacity(log: ClientLog, limit_s: float, workers: int, seed: int = 0) -> float:
    """Return the cache-missed prompt tokens/s of a worker at which 5 % of first tokens miss a limit.

    Requests of the log in random order come at random; each goes to the worker with the least queue, which
    does steps of up to 2048 tokens of the oldest requests. Decode adds 60 ms: a step, and the way out.
    """
    rng = np.random.default_rng(seed)
    tokens = rng.permutation(log.missed[log.missed > 0])[:4000].astype(float)
    spacing = rng.exponential(1.0, tokens.size)

    def over(load: float) -> float:
        arrival = np.cumsum(spacing) * tokens.mean() / (load * workers)
        # One prompt at a time has the throughput of full steps: batches only share the 20 ms between prompts.
        service = 0.02 * np.minimum(1.0, tokens / 2048.0) + 0.27e-3 * tokens + 2e-10 * tokens**2
        free = np.zeros(workers)
        late = np.empty(tokens.size)
        for number, (at, takes) in enumerate(zip(arrival, service, strict=True)):
            worker = int(np.argmin(free))
            free[worker] = max(free[worker], at) + takes
            late[number] = free[worker] - at + 0.06
        return float((late > limit_s).mean())

    low, high = 1000.0, 3560.0
    for _ in range(9):
        middle = (low + high) / 2.0
        low, high = (low, middle) if over(middle) > 0.05 else (middle, high)
    return (low + high) / 2.0
