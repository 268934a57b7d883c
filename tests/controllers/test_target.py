"""Which controller a run speaks of."""

from __future__ import annotations

import pytest

from hs_analysis.controllers.registry import DEFAULT_TARGET, TARGET_OF_KIND, target_of
from hs_analysis.current.documents import HPA, KEDA
from hs_analysis.schema.names import EXPORT_TARGETS
from hs_analysis.schema.settings import Settings


@pytest.mark.parametrize(
    ("kinds", "want"),
    [
        ((), "keda"),
        ((HPA,), "hpa"),
        ((HPA, HPA), "hpa"),
        ((KEDA,), "keda"),
        ((HPA, KEDA), "keda"),
        (("Dynamo planner",), "keda"),
        (("Dynamo planner", HPA), "hpa"),
    ],
)
def test_what_runs_today_names_it(kinds: tuple[str, ...], want: str) -> None:
    """KEDA keeps an HPA of its own, so one beside a ScaledObject changes nothing."""
    assert target_of(Settings(), kinds) == want


def test_what_is_asked_for_wins() -> None:
    """A fleet on HPA may ask for KEDA objects."""
    assert target_of(Settings(target="heteroscale"), (HPA,)) == "heteroscale"


def test_every_kind_is_one_that_is_read_and_leads_to_what_is_written() -> None:
    """Readers of today's objects and exporters speak of the same controllers."""
    assert set(TARGET_OF_KIND) == {HPA, KEDA}
    assert {*TARGET_OF_KIND.values(), DEFAULT_TARGET} <= set(EXPORT_TARGETS)
