"""Histories that lack what a cluster often does not export, and what a run answers of them.

    PYTHONPATH=tests python -m end_to_end.degraded --seeds 3

prints, per class, how often an object was written (apply or keep), with the causes where none was.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from end_to_end.runs import Run, run
from simulator import Kind, history, kind_of
from simulator.dumps import write_dumps
from simulator.kinds import SGLANG_SLO, VLLM_SLO
from simulator.scrapes import Series

Kept = Callable[[Series], bool]


def without(*words: str) -> Kept:
    """Keep the series in whose metric none of some words is found."""
    return lambda one: not any(word in one.labels["__name__"] for word in words)


def _of_front(one: Series) -> bool:
    """Keep what a front end and the cluster itself export."""
    return one.labels["__name__"].startswith(("dynamo_frontend", "kube_"))


EVERYTHING = without()

CACHE = ("prompt_tokens_by_source", "cached_tokens", "realtime_tokens")
"""Words in the metrics that tell which prompt tokens missed the cache."""


@dataclass(frozen=True)
class Degraded:
    """What is missing from a class of histories: series, the objective, the front end; and whose engines."""

    kept: Kept = EVERYTHING
    slo: bool = True
    frontend: bool = True
    sglang: bool = False

    def of(self, kind: Kind) -> Kind:
        """Return a kind as its cluster exports it."""
        if self.frontend:
            return kind
        engine = "sglang" if self.sglang else "vllm"
        setup = replace(kind.setup, frontend=False, engine=engine, engine_buckets=True)
        return replace(kind, setup=setup, slo=SGLANG_SLO if self.sglang else VLLM_SLO)


CLASSES = {
    "no start counter": Degraded(without("requests_started", "inflight")),
    "no start counter, no queues": Degraded(
        without("requests_started", "inflight", "stage_requests", "num_requests")
    ),
    "no TTFT histogram": Degraded(without("time_to_first_token")),
    "no cache counter": Degraded(without(*CACHE)),
    "no SLO": Degraded(slo=False),
    "front end only": Degraded(_of_front),
    "engines only": Degraded(frontend=False),
    "engines only, no cache counter": Degraded(without(*CACHE), frontend=False),
    "SGLang only, no cache counter": Degraded(without(*CACHE), frontend=False, sglang=True),
}


def kinds() -> tuple[Kind, ...]:
    """Return an over-provisioned day, and one of ramps."""
    roomy = replace(kind_of("roomy_day"), instances=(3, 8))
    return roomy, replace(roomy, name="roomy_ramps", load=kind_of("ramps_and_bursts").load)


def answered(kind: Kind, seed: int, folder: Path, missing: Degraded) -> Run:
    """Run the command line on the dumps of a history that lacks something."""
    made = history(missing.of(kind), seed)
    dumps = folder / f"{kind.name}-{seed}"
    write_dumps([one for one in made.series() if missing.kept(one)], made.grid_unix_s, dumps)
    slo = made.kind.slo
    limits = ("--slo", f"ttft={slo.ttft_s}s", "--slo", f"tbt={slo.tbt_s}s") if missing.slo else ()
    done = run(dumps, folder / f"{kind.name}-{seed}-run", "--startup", f"{made.startup_s:.0f}s", *limits)
    shutil.rmtree(dumps)
    return done


def lines(seeds: Sequence[int]) -> Iterator[str]:
    """Yield a line a class: how many of how many left with an object, and why the others did not."""
    for name, missing in CLASSES.items():
        found: dict[str, int] = {}
        causes = []
        for kind in kinds():
            for seed in seeds:
                with tempfile.TemporaryDirectory() as folder:
                    decision = answered(kind, seed, Path(folder), missing).service["decision"]
                found[decision["recommend"]] = found.get(decision["recommend"], 0) + 1
                if decision["recommend"] == "record":
                    causes.append(f"{kind.name}-{seed}: {decision['why']}")
        counts = ", ".join(f"{word} {found.get(word, 0)}" for word in ("apply", "keep", "record"))
        yield "; ".join([f"{name}: {counts}", *causes])


def main() -> None:
    """Print the table."""
    options = argparse.ArgumentParser(description="What is answered of histories that lack something.")
    options.add_argument("--seeds", type=int, default=3, help="histories of each kind and class")
    options.add_argument("--first-seed", type=int, default=1, help="seed of the first one")
    given = options.parse_args()
    for line in lines(range(given.first_seed, given.first_seed + given.seeds)):
        sys.stdout.write(f"{line}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
