"""Changes of a history that must not change what is said of it."""

import numpy as np
import polars as pl
import pytest

from hs_analysis.study import study_service


def verdicts(frame, settings):
    result = study_service(frame, settings)
    return {f"{v.signal}@{v.role}": v.verdict for v in result.verdicts}, result.recommended


@pytest.fixture
def columns(load_of, pool, answer):
    load = load_of(36, 61)
    return pool(load) | {
        "decode_tps@decode": answer(load, 1.0, 0.02, 1, scale=5000.0),
        "sm_activity@decode": answer(load, 0.35, 0.01, 2, scale=0.4),
        "running@decode": answer(load, 1.1, 0.3, 3, scale=60.0),
        "tbt@decode": answer(load, 0.5, 0.02, 4, scale=0.03),
    }


def test_units_zones_and_order_of_columns_do_not_matter(columns, make, settings):
    """A signal × 1000, all times shifted by a zone, columns in another order: the same answer."""
    said, best = verdicts(make(columns), settings)
    scaled = columns | {k: v * 1000 for k, v in columns.items() if not k.startswith(("satur", "inst", "off"))}
    for other in (
        make(scaled),
        make(columns, start_s=1_767_225_600 + 5.5 * 3600),
        make(dict(reversed(columns.items()))),
    ):
        again, recommended = verdicts(other, settings)
        assert again == said
        assert recommended.signal == best.signal


def test_a_signal_said_twice_changes_no_verdict(columns, make, settings):
    """A copy under another name gets the verdict of the original, and the others keep theirs."""
    said, best = verdicts(make(columns), settings)
    again, recommended = verdicts(make(columns | {"kv_usage@decode": columns["running@decode"]}), settings)
    assert again == said | {"kv_usage@decode": said["running@decode"]}
    assert (recommended.signal, recommended.role) == (best.signal, best.role)


def test_missing_rows_are_missing_whether_kept_or_cut(columns, make, settings):
    """Null rows at the end, or no rows there at all, say the same."""
    frame = make(columns)
    hole = np.arange(frame.table.height) >= frame.table.height - 60
    nulled = make({k: np.where(hole, np.nan, v) for k, v in columns.items()})
    assert verdicts(nulled, settings)[0] == verdicts(frame.rows(pl.Series(~hole).to_numpy()), settings)[0]


@pytest.mark.parametrize(
    "dead",
    [
        lambda load: np.zeros(load.size),
        lambda load: np.full(load.size, np.nan),
        lambda load: np.where(np.arange(load.size) < load.size // 2, load / 9.0, load[load.size // 2] / 9.0),
        lambda load: np.where(np.arange(load.size) < load.size // 2, load / 9.0, 0.0),
    ],
    ids=["zero", "empty", "frozen at half", "zero from half on"],
)
def test_dead_series_move_no_verdict_and_are_never_proportional(columns, make, settings, dead):
    """Two gauges that never moved, or stopped at one moment, change nothing said of the others."""
    said, best = verdicts(make(columns), settings)
    gone = dead(columns["offered_tps@decode"])
    more = columns | {"kv_usage@decode": gone, "gpu_util@decode": gone, "queue_length@decode": gone}
    again, recommended = verdicts(make(more), settings)
    assert {name: verdict for name, verdict in again.items() if name in said} == said
    assert (recommended.signal, recommended.role) == (best.signal, best.role)
    assert "proportional" not in {again[name] for name in set(again) - set(said)}
