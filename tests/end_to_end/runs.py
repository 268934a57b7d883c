"""Run the command line on a folder of dumps and read what it left."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from typer.testing import CliRunner, Result

SIMULATED = ("--slo", "ttft=2.5s", "--slo", "tbt=50ms", "--startup", "240s")
"""The objective and start-up time that the simulated histories were made with."""


SAMPLES = {
    "simulated-days": SIMULATED,
    "dynamo-pd": ("--pressure-test", "--slo", "ttft=2s", "--slo", "tbt=50ms"),
}
"""The shipped samples, as `make demo` runs them."""


@dataclass(frozen=True)
class Run:
    """A finished run: its folder and its summary."""

    folder: Path
    summary: dict[str, Any]

    @property
    def service(self) -> dict[str, Any]:
        """The only service."""
        (service,) = self.summary["services"]
        return service

    def verdicts(self) -> dict[str, str]:
        """Verdict per signal@role."""
        return {f"{s['signal']}@{s['role']}": s["verdict"] for s in self.service["signals"]}

    def capacity(self, role: str) -> dict[str, Any]:
        """The capacity of a role over all GPU types."""
        return next(c for c in self.service["capacity"] if c["role"] == role and c["gpu_type"] is None)

    def findings(self) -> list[str]:
        """What doctor found, as sentences."""
        import polars as pl

        return pl.read_parquet(self.folder / "data" / "findings.parquet")["text"].to_list()


Finished = Callable[..., Run]
"""Takes a source and options, and returns the run of them that all tests share."""


def here(*arguments: str | Path) -> Result:
    """Run the command line in this process: the libraries take longer to load than a sample to read."""
    from hs_analysis.cli.app import app

    done = CliRunner().invoke(app, [str(word) for word in arguments], catch_exceptions=False)
    assert done.exit_code == 0, done.stderr
    return done


def run(source: Path, folder: Path, *options: str) -> Run:
    """Run `hsa run` into a folder of its own."""
    here("run", source, "--run-dir", folder, "-q", *options)
    return Run(folder, json.loads((folder / "summary.json").read_text("utf-8")))


def copy_changed(
    source: Path, target: Path, change: Callable[[dict[str, Any]], dict[str, Any] | None]
) -> Path:
    """Copy a folder of query_range answers with every series changed; None drops the series."""
    target.mkdir(parents=True)
    for path in sorted(source.glob("*.json.gz")):
        answer = json.loads(gzip.decompress(path.read_bytes()))
        answer["data"]["result"] = [s for s in map(change, answer["data"]["result"]) if s is not None]
        (target / path.name).write_bytes(gzip.compress(json.dumps(answer).encode(), 1, mtime=0))
    return target
