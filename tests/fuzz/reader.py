"""Fuzz one reader: bytes grow towards new branches of hs_analysis.ingest, and reading keeps its promises.

    python tests/fuzz/reader.py FORMAT SECONDS FOLDER

Needs atheris; `make fuzz` makes an environment with it and runs this for every format. FOLDER keeps the
corpus, so that a second run goes on from the first, and ``found-*``: inputs on which reading broke, one for
each place that broke. A hang or an excess of memory ends the run and leaves ``timeout-*`` or ``oom-*`` there.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import atheris
import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

with atheris.instrument_imports(include=["hs_analysis.ingest"]):
    import hs_analysis.ingest.stage  # noqa: F401 - all of ingest is watched

from fuzz.kept import keep  # noqa: E402 - the readers come first, watched
from fuzz.seeds import seeds  # noqa: E402
from fuzz.tars import ask_promtool_once_in, with_checksums  # noqa: E402
from fuzz.whole import refused_or_read  # noqa: E402

LONGEST_S = 10
MOST_MEMORY_MB = 2048
LONGEST_INPUT_BYTES = 1 << 16
INPUTS_PER_DUMP = 200
"""Of a TSDB: promtool takes a hundred times as long as unpacking a tar."""


def fuzz(kind: str, seconds: int, folder: Path) -> None:
    """Start from the seeds of a format and run for some seconds; ends the process."""
    corpus = folder / "corpus"
    corpus.mkdir(parents=True, exist_ok=True)
    samples = seeds(kind)
    for number, (raw, _) in enumerate(samples):
        (corpus / f"seed-{number:02d}").write_bytes(raw)
    names = sorted({name for _, name in samples})
    scratch = tempfile.mkdtemp()
    path = Path(scratch) / "file"

    def one(raw: bytes) -> None:
        path.write_bytes(raw)
        for name in names:
            try:
                refused_or_read(kind, path, name)
            except BaseException as error:  # a panic of a library is no Exception
                if isinstance(error, KeyboardInterrupt):
                    raise
                keep(folder, error, raw, name)

    limits = [
        f"-max_total_time={seconds}", f"-max_len={LONGEST_INPUT_BYTES}", f"-timeout={LONGEST_S}",
        f"-rss_limit_mb={MOST_MEMORY_MB}", f"-artifact_prefix={folder}/", "-print_final_stats=1",
    ]  # fmt: skip
    if kind == "tsdb":
        ask_promtool_once_in(INPUTS_PER_DUMP, pytest.MonkeyPatch())
        atheris.Setup([sys.argv[0], *limits, str(corpus)], one, custom_mutator=_changed_tar)
    else:
        atheris.Setup([sys.argv[0], *limits, str(corpus)], one)
    atheris.Fuzz()


def _changed_tar(raw: bytes, longest: int, _seed: int) -> bytes:
    return with_checksums(atheris.Mutate(raw, longest))[:longest]


if __name__ == "__main__":
    fuzz(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]).resolve())
