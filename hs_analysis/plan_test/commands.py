"""Command lines of load generators that run a planned test."""

from __future__ import annotations

import math
import shlex
from collections.abc import Callable, Sequence

from hs_analysis.schema.sweeps import Level

URL = "http://FRONTEND:8000"
"""Place for the address of the front end."""

SEED = 1
"""Seed handed to the generators, so that a test can be repeated."""


def _joined(words: Sequence[object]) -> str:
    return shlex.join(str(word) for word in words)


def aiperf(level: Level, isl: int, osl: int, model: str) -> str:
    """Return the aiperf command of one level."""
    return _joined(
        ["aiperf", "profile", "--model", model, "--url", URL, "--endpoint-type", "chat", "--streaming",
         "--request-rate", f"{level.request_rate:.4g}", "--arrival-pattern", "poisson",
         "--benchmark-duration", round(60 * level.minutes), "--isl", isl, "--osl", osl,
         "--random-seed", SEED, "--artifact-dir", f"aiperf-{level.number:02d}"]
    )  # fmt: skip


def guidellm(level: Level, isl: int, osl: int, model: str) -> str:
    """Return the guidellm command of one level."""
    return _joined(
        ["guidellm", "benchmark", "run", "--target", URL, "--model", model, "--profile", "poisson",
         "--rate", f"{level.request_rate:.4g}", "--max-seconds", round(60 * level.minutes),
         "--data", f"prompt_tokens={isl},output_tokens={osl}", "--random-seed", SEED,
         "--output-dir", f"guidellm-{level.number:02d}", "--outputs", "json"]
    )  # fmt: skip


def vllm_bench(level: Level, isl: int, osl: int, model: str) -> str:
    """Return the vLLM command of one level; it counts prompts, not seconds."""
    prompts = math.ceil((level.request_rate or 0.0) * 60 * level.minutes)
    return _joined(
        ["vllm", "bench", "serve", "--backend", "openai", "--base-url", URL, "--endpoint", "/v1/completions",
         "--model", model, "--dataset-name", "random", "--random-input-len", isl, "--random-output-len", osl,
         "--ignore-eos", "--request-rate", f"{level.request_rate:.4g}", "--num-prompts", prompts,
         "--seed", SEED, "--percentile-metrics", "ttft,tpot,itl", "--metric-percentiles", "50,90,95,99",
         "--save-result", "--result-filename", f"vllm-{level.number:02d}.json"]
    )  # fmt: skip


GENERATORS: dict[str, Callable[[Level, int, int, str], str]] = {
    "aiperf": aiperf,
    "guidellm": guidellm,
    "vllm": vllm_bench,
}
"""Load generators by name; each makes the command of one level."""


def command_lines(
    generator: str, levels: Sequence[Level], isl: float, osl: float, service: str
) -> tuple[str, ...]:
    """Return one command a level, empty where the request rates are not known.

    Parameters
    ----------
    generator
        One of `GENERATORS`.
    levels
        Levels in the order they are run.
    isl, osl
        Prompt and output length [tokens].
    service
        ``namespace/model``: the model is asked for by its last part.
    """
    if any(level.request_rate is None for level in levels):
        return ()
    make = GENERATORS[generator]
    model = service.partition("/")[2] or service
    return tuple(make(level, max(1, round(isl)), max(1, round(osl)), model) for level in levels)
