"""Evidence links: their one written grammar, and the answers of a run that have a link."""

from hs_analysis.evidence.answers import LinkedAnswer, answers_of, answers_of_run
from hs_analysis.evidence.grammar import (
    REPORT_FILE,
    STAGES,
    EvidenceLink,
    in_report,
    parse,
    path,
    permalink,
)

__all__ = [
    "REPORT_FILE",
    "STAGES",
    "EvidenceLink",
    "LinkedAnswer",
    "answers_of",
    "answers_of_run",
    "in_report",
    "parse",
    "path",
    "permalink",
]
