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


REQUESTS = 4000
"""How many requests a constant load is made of."""


@dataclass(frozen=True, eq=False)
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


def decode_capacity(log: ClientLog, limit_s: float, workers: int, seed: int = 0) -> float:
    """Return the output tokens/s of a worker at which 5 % of the gaps between tokens are over a limit.

    Under constant load: requests of the log in random order come at random, each to the worker with the
    shortest step. The mean step of the READMEs' rule, 95 % of the limit, leaves no room for the chance in how
    many sequences run together, the larger the shorter the step: their loads have 7 to 20 % of gaps over.
    """
    known = log.output > 1
    rng = np.random.default_rng(seed)
    picked = rng.integers(0, int(known.sum()), REQUESTS)
    prompt, output = log.prompt[known][picked], log.output[known][picked]
    spacing = rng.exponential(1.0, REQUESTS)

    def over(load: float) -> float:
        arrival = np.cumsum(spacing) * output.mean() / (load * workers)
        pool = [_DecodeWorker(limit_s) for _ in range(workers)]
        for number, (at, p, o) in enumerate(zip(arrival, prompt, output, strict=True)):
            if number == REQUESTS // 10:  # the pool has filled
                for worker in pool:
                    worker.gaps = worker.late = 0
            for worker in pool:
                worker.run(at)
            min(pool, key=lambda worker: worker.step_s).add(int(p), int(o))
        return sum(worker.late for worker in pool) / sum(worker.gaps for worker in pool)

    low, high = 100.0, 693.0
    for _ in range(7):
        middle = (low + high) / 2.0
        low, high = (low, middle) if over(middle) > 0.05 else (middle, high)
    return (low + high) / 2.0


class _DecodeWorker:
    """A decode worker between steps: its running sequences, and the gaps it has made."""

    def __init__(self, limit_s: float) -> None:
        self.limit_s, self.clock_s, self.steps = limit_s, 0.0, 0
        self.running = self.held = self.gaps = self.late = 0
        self.ends: dict[int, list[int]] = {}

    @property
    def step_s(self) -> float:
        """Return how long its next step takes."""
        return 0.022 + 3e-7 * self.held + 5e-4 * self.running

    def add(self, prompt: int, output: int) -> None:
        """Take a sequence into the next step."""
        self.running += 1
        self.held += prompt
        self.ends.setdefault(self.steps + output, []).append(prompt + output)

    def run(self, until_s: float) -> None:
        """Make steps until a moment; an idle worker waits."""
        while self.running and self.clock_s < until_s:
            step_s = self.step_s
            self.clock_s += step_s
            self.steps += 1
            self.gaps += self.running
            self.late += self.running if step_s > self.limit_s else 0
            self.held += self.running
            for tokens in self.ends.pop(self.steps, ()):
                self.running -= 1
                self.held -= tokens
        self.clock_s = max(self.clock_s, until_s)


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
