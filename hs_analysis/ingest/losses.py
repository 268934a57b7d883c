"""What other back ends can't give of an exporter's metrics: rows that `hsa doctor` and the docs tell."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class SourceLoss:
    """One thing a source can't give.

    Attributes
    ----------
    code
        Name for readers and tests.
    text
        A sentence: what is lost, what follows from it, and where there is one the remedy.
    always
        Whether every file of the format lacks it; else a reader says so by adding ``code`` to its notes.
    """

    code: str
    text: str
    always: bool = True
