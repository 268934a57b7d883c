"""Tiny stages that count how often they work."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import pytest

from hs_analysis.pipeline.stages import Outcome, Stage, Work


@dataclass
class Counting:
    """Three stages, read → judge → tell, and a fourth, side, that stands on read alone."""

    worked: Counter[str] = field(default_factory=Counter)
    seen: list[tuple[str, int, int]] = field(default_factory=list)
    fail_in: str = ""

    def stages(self) -> tuple[Stage, ...]:
        """Return the stages; ``ingest`` reads the inputs, the others what was written before them."""

        def ingest(work: Work) -> Outcome:
            self._enter("ingest")
            text = "".join(file.path.read_text() for file in work.inputs)
            (work.out / "data").mkdir()
            (work.out / "data" / "read.txt").write_text(text)
            self._leave("ingest")
            return Outcome("read", {"start": "2026-07-01T00:00:00Z", "end": "2026-07-02T00:00:00Z"})

        def judge(work: Work) -> Outcome:
            self._enter("judge")
            text = (work.run / "data" / "read.txt").read_text()
            (work.out / "judged.txt").write_text(f"{text} {work.settings.slo.ttft_s}")
            self._leave("judge")
            return Outcome()

        def tell(work: Work) -> Outcome:
            self._enter("tell")
            (work.out / "told.txt").write_text((work.run / "judged.txt").read_text().upper())
            self._leave("tell")
            return Outcome()

        def side(work: Work) -> Outcome:
            self._enter("side")
            (work.out / f"side-{work.settings.seed}.txt").write_text("side")
            return Outcome()

        return (
            Stage("ingest", "reading", (), (), ("data/*",), ingest),
            Stage("judge", "judging", ("ingest",), ("slo.ttft_s",), ("judged.txt",), judge),
            Stage("tell", "telling", ("judge",), (), ("told.txt",), tell),
            Stage("side", "standing by", ("ingest",), ("seed",), ("side-*.txt",), side),
        )

    def _enter(self, name: str) -> None:
        self.worked[name] += 1

    def _leave(self, name: str) -> None:
        if self.fail_in == name:
            raise RuntimeError(f"{name} broke")


@pytest.fixture
def counting() -> Counting:
    """Fake stages with a counter."""
    return Counting()
