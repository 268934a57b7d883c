"""Written policies against the simulated physics: does the replay foretell them?"""

from __future__ import annotations

from pathlib import Path

import pytest
from end_to_end.closed_loop import in_processes
from end_to_end.foretold import FORETOLD_KINDS, foretold
from end_to_end.foretold_table import Foretold, foretold_table
from end_to_end.test_closed_loop import FIRST_SEED, SEEDS, printed


@pytest.mark.slow
def test_the_replay_foretells_what_the_physics_does(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """No goal on replayed instance-hours and violation shares is refuted."""
    tasks = [(kind, FIRST_SEED + seed, tmp_path) for seed in range(SEEDS) for kind in FORETOLD_KINDS]
    scores = list(in_processes(foretold, tasks, 2))
    lines, texts = foretold_table(scores)
    printed(capsys, f"{len(scores)} policies replayed and run", [*(line.text() for line in lines), *texts])
    assert not [line.text() for line in lines if line.standing == "missed"]


def test_a_replay_is_judged_on_hours_and_on_the_side_of_one_percent() -> None:
    """Shares count only where the replay claims a side: neither about a mark, nor without a range."""
    good = {"between": (0.0, 0.008), "replayed_hours": 102.0, "true_hours": 100.0}
    scores = [
        vars(Foretold("day", 1, **good, true_share=0.005)),
        vars(Foretold("day", 2, **(good | {"replayed_hours": 104.0}), true_share=0.04)),
        vars(Foretold("day", 3, **(good | {"between": (0.005, 0.02)}), true_share=0.04)),
        vars(Foretold("day", 4, **(good | {"between": (0.06, 0.2)}), true_share=0.1)),
        vars(Foretold("day", 5, **(good | {"between": None}), true_share=0.5)),
    ]
    lines, texts = foretold_table(scores)
    assert [(line.hits, line.trials) for line in lines] == [(4, 5), (2, 3), (4, 4)]
    assert texts[2].endswith("side of 1% unclear, of 5% under")
