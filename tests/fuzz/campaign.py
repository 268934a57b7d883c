"""Fuzz every reader in turn and print what each run reached.

    python tests/fuzz/campaign.py [SECONDS] [FORMAT...]

Corpora and findings stay under ``.fuzz/``, a folder a format. Exit 1 when a reader broke.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
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
COLUMNS = "{:24} {:>6} {:>7} {:>10} {:>7} {:>13} {:>8}"


def say(line: str) -> None:
    """Write a line at once: a campaign is long."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def run_one(kind: str, seconds: int) -> int:
    """Fuzz one reader, print its line, and return how many findings its folder holds."""
    folder = KEPT / kind
    folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, str(Path(__file__).with_name("reader.py")), kind, str(seconds), str(folder)]
    memory = str(SHARED_MEMORY) if SHARED_MEMORY.is_dir() else None
    with (folder / "log.txt").open("wb") as log, tempfile.TemporaryDirectory(dir=memory) as scratch:
        code = subprocess.run(
            command, stdout=log, stderr=log, check=False, cwd=ROOT, env={**os.environ, "TMPDIR": scratch}
        ).returncode
    said = (folder / "log.txt").read_text("utf-8", "replace")
    edges = [int(n) for n in re.findall(r"\bcov: (\d+)", said)]
    runs = re.findall(r"stat::number_of_executed_units:\s*(\d+)", said)
    found = [p.name for p in folder.iterdir() if p.name.startswith(("found-", "timeout-", "oom-", "crash-"))]
    findings = [name for name in found if not name.endswith(".txt")]
    if code and not findings:
        findings = [f"exit code {code}, see {folder / 'log.txt'}"]
    corpus = sorted((folder / "corpus").iterdir())
    reached, all_lines = lines_reached(kind, corpus)
    say(COLUMNS.format(
        kind, len(seeds(kind)), len(corpus), runs[-1] if runs else "?", max(edges, default=0),
        f"{reached}/{all_lines}", len(findings),
    ))  # fmt: skip
    for name in sorted(findings):
        say(f"    {name}")
    return len(findings)


def main(arguments: list[str]) -> int:
    """Run the campaign; return the exit code."""
    seconds = int(arguments[0]) if arguments else SECONDS
    known = [*(f.id for f in FORMATS), ANY]
    wanted = arguments[1:] or known
    if unknown := sorted(set(wanted) - set(known)):
        say(f"no such format: {', '.join(unknown)}; known: {', '.join(known)}")
        return 2
    say(COLUMNS.format("format", "seeds", "corpus", "executions", "edges", "reader lines", "findings"))
    return int(sum(run_one(kind, seconds) for kind in wanted if seeds(kind)) > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
