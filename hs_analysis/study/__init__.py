"""Study: which signals follow the load, how much, how cleanly, and what that allows."""

from hs_analysis.schema.results import StudyResult
from hs_analysis.study.study import study_service

__all__ = ["StudyResult", "study_service"]
