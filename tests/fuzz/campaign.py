"""Fuzz every reader in turn and print what each run reached.

    python tests/fuzz/campaign.py [SECONDS [MUTANTS [FORMAT...]]]

Each reader gets first a number of seeded mutants, then bytes that grow for some seconds; 0 leaves either
out, and without seconds atheris is not needed. Corpora and findings stay under ``.fuzz/``, a folder a format.
Exit 1 when a reader broke.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from fuzz.lines import lines_reached  # noqa: E402 - found through the path above
from fuzz.seeds import ANY, seeds  # noqa: E402

from hs_analysis.ingest.formats import FORMATS  # noqa: E402

KEPT = ROOT / ".fuzz"
SHARED_MEMORY = Path("/dev/shm")
"""Where files stay in memory, if the system has it; what a fuzzer leaves there goes with its folder."""

SECONDS = 60
MUTANTS = 20_000
COLUMNS = "{:24} {:>6} {:>7} {:>7} {:>10} {:>7} {:>13} {:>8}"


def say(line: str) -> None:
    """Write a line at once: a campaign is long."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def run_one(kind: str, seconds: int, mutants: int) -> int:
    """Fuzz one reader, print its line, and return how many findings its folder holds."""
    folder = KEPT / kind
    folder.mkdir(parents=True, exist_ok=True)
    told = _run("mutants.py", kind, mutants)
    tried = told.said.strip().rpartition("\n")[2] if mutants else "0"
    grown = _run("reader.py", kind, seconds)
    edges = [int(n) for n in re.findall(r"\bcov: (\d+)", grown.said)]
    runs = re.findall(r"stat::number_of_executed_units:\s*(\d+)", grown.said)
    found = [p.name for p in folder.iterdir() if p.name.startswith(("found-", "timeout-", "oom-", "crash-"))]
    findings = [name for name in found if not name.endswith(".txt")]
    findings += [f"exit code {one.code}, see {one.log}" for one in (told, grown) if one.code and not findings]
    corpus = sorted((folder / "corpus").glob("*"))
    reached, all_lines = lines_reached(kind, corpus)
    say(COLUMNS.format(
        kind, len(seeds(kind)), tried, len(corpus), runs[-1] if runs else "0", max(edges, default=0),
        f"{reached}/{all_lines}", len(findings),
    ))  # fmt: skip
    for name in sorted(findings):
        say(f"    {name}")
    return len(findings)


@dataclass(frozen=True)
class _Run:
    """A fuzzer's exit code, what it said, and where that is kept."""

    code: int
    said: str
    log: Path


def _run(script: str, kind: str, much: int) -> _Run:
    """Run a fuzzer on a format for so many seconds or inputs; nothing for 0."""
    folder = KEPT / kind
    path = folder / f"{Path(script).stem}.log"
    if not much:
        return _Run(0, "", path)
    command = [sys.executable, str(Path(__file__).with_name(script)), kind, str(much), str(folder)]
    memory = str(SHARED_MEMORY) if SHARED_MEMORY.is_dir() else None
    with path.open("wb") as log, tempfile.TemporaryDirectory(dir=memory) as scratch:
        environment = {**os.environ, "TMPDIR": scratch}
        code = subprocess.run(
            command, stdout=log, stderr=log, check=False, cwd=ROOT, env=environment
        ).returncode
    return _Run(code, path.read_text("utf-8", "replace"), path)


def main(arguments: list[str]) -> int:
    """Run the campaign; return the exit code."""
    seconds = int(arguments[0]) if arguments else SECONDS
    mutants = int(arguments[1]) if len(arguments) > 1 else MUTANTS
    known = [*(f.id for f in FORMATS), ANY]
    wanted = arguments[2:] or known
    if unknown := sorted(set(wanted) - set(known)):
        say(f"no such format: {', '.join(unknown)}; known: {', '.join(known)}")
        return 2
    names = ("format", "seeds", "mutants", "corpus", "executions", "edges", "reader lines", "findings")
    say(COLUMNS.format(*names))
    return int(sum(run_one(kind, seconds, mutants) for kind in wanted if seeds(kind)) > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
