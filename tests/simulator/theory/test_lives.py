"""Instances start, close and are replaced as the events of a history say."""

from __future__ import annotations

import numpy as np
from simulator.lives import FOREVER_S, Life, Scaler, replaced, restarted, scaled

SCALER = Scaler(target_tps=100.0, least=1, most=5, startup_s=240.0, patience_s=600.0)


def _scaled(work: list[float]) -> tuple[Life, ...]:
    """Scale a pool on work that is given minute by minute."""
    return scaled(np.array(work), 60.0, SCALER, "pool", np.random.default_rng(0))


def test_a_tracker_adds_at_once_and_a_new_pod_is_ready_after_its_start_up() -> None:
    """Work for three from minute 10 on: two more pods, ready four minutes after the mean asks for them."""
    lives = _scaled([90.0] * 10 + [290.0] * 30)
    assert [life.open_s for life in lives] == [-1.0, 600.0 + 240.0, 720.0 + 240.0]
    assert all(life.close_s == FOREVER_S for life in lives)


def test_a_tracker_removes_the_youngest_after_ten_minutes_of_less() -> None:
    """After the load has gone one pod closes each ten minutes, the last to come first."""
    lives = _scaled([290.0] * 20 + [50.0] * 60)
    closed = sorted(life.close_s for life in lives if life.close_s < FOREVER_S)
    assert len(closed) == 2
    assert closed[1] - closed[0] == 600.0
    assert len({life.pod for life in lives}) == len(lives) == 3


def test_a_pod_that_never_got_ready_leaves_no_trace() -> None:
    """Asked for and let go within its start-up time, it has no life."""
    slow = Scaler(target_tps=100.0, least=1, most=5, startup_s=3600.0, patience_s=600.0)
    work = np.array([90.0] * 5 + [190.0] * 6 + [50.0] * 60)
    lives = scaled(work, 60.0, slow, "pool", np.random.default_rng(0))
    assert len(lives) == 1


def test_restarts_keep_the_pod_and_releases_replace_it() -> None:
    """A restarted pod lives twice under its name; a replaced one hands over to a new name without a hole."""
    pool = (Life("a"), Life("b"))
    again = restarted(pool, [(1, 500.0)], 240.0)
    assert [(life.pod, life.open_s, life.close_s, life.restarts) for life in again[1:]] == [
        ("b", -1.0, 500.0, 0),
        ("b", 740.0, FOREVER_S, 1),
    ]
    fresh = replaced(pool, ["c", "d"], 1000.0, 300.0, 240.0, 0.5)
    assert [(life.pod, life.slowness, life.old_names) for life in fresh] == [
        ("a", 1.0, True), ("c", 0.5, False), ("b", 1.0, True), ("d", 0.5, False),
    ]  # fmt: skip
    assert fresh[0].close_s == fresh[1].open_s == 1240.0
    assert fresh[2].close_s == fresh[3].open_s == 1540.0
