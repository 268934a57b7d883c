"""A release inside the window: which rows are left to the active version, and what is reported of them."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest
from derive.synthetic import SETTINGS, START_S, Service, day_shape, frame_of, make_frame
from hypothesis import given
from hypothesis import strategies as st

from hs_analysis.derive import derive_service, other_version
from hs_analysis.derive.versions import active_version
from hs_analysis.schema.aligned import ServiceFrame
from hs_analysis.schema.frames import VERSIONS, check, empty
from hs_analysis.schema.results import Derived

FEW = replace(SETTINGS, draws=40)
IMAGE = "image of engine"
DAY = 1440.0
OLD, NEW = Service(), Service(prefill_capacity=5000.0, decode_capacity=2600.0)
REQUESTS = 12.0 * day_shape(24.0)


def seen(*rows: tuple[str, str, str, float, float], role: str = "decode", tells: str = "version"):
    """Return sightings given by (what, value, instance, first, last minute)."""
    start = datetime.fromtimestamp(START_S, UTC)
    full = [
        {
            "service": "shop/chat", "capture": "", "role": role, "what": what, "tells": tells,
            "value": value, "instance": instance, "first": start + timedelta(minutes=first),
            "last": start + timedelta(minutes=last),
        }
        for what, value, instance, first, last in rows
    ]  # fmt: skip
    return check(pl.DataFrame(full, schema=empty(VERSIONS).schema), VERSIONS)


def idle(minutes: int, role: str = "decode") -> ServiceFrame:
    """Return a pool of two instances without anything else."""
    return frame_of({f"instances@{role}": np.full(minutes, 2.0)}, "production", 60.0)


def left(versions: pl.DataFrame, minutes: int = 30, role: str = "decode") -> list[int] | None:
    """Return the minutes that a pool's releases leave, None where it had none."""
    kept = active_version(idle(minutes, role), versions).rows.get(role)
    return None if kept is None else np.flatnonzero(kept).tolist()


def test_rows_after_the_old_version_is_gone_are_left() -> None:
    """v2 from minute 10, v1 until minute 14: the minute after it may still hold its last requests."""
    versions = seen((IMAGE, "v1", "a", 0, 12), (IMAGE, "v1", "b", 0, 14), (IMAGE, "v2", "c", 10, 29))
    assert left(versions) == list(range(16, 30))
    (said,) = active_version(idle(30), versions).releases
    assert (said.kind, said.what, said.before, said.after) == ("released", IMAGE, "v1", "v2")
    assert (said.start, said.end) == ("2026-01-01T00:10:00Z", "2026-01-01T00:14:00Z")
    assert (said.used_h, said.left_out_h) == pytest.approx((14 / 60, 16 / 60))
    assert said.text == (
        "decode runs another version since 2026-01-01T00:14Z (image of engine: v2 instead of v1, side by "
        "side from 2026-01-01T00:10Z): its numbers rest on 0.2 h, 0.3 h are left out"
    )


def test_the_last_of_several_releases_counts() -> None:
    """v1, then v2 after a stop, then v3."""
    versions = seen((IMAGE, "v1", "a", 0, 8), (IMAGE, "v2", "b", 11, 20), (IMAGE, "v3", "c", 20, 29))
    assert left(versions) == list(range(22, 30))
    (said,) = active_version(idle(30), versions).releases
    assert (said.before, said.after) == ("v2", "v3")


def test_a_restart_cuts_nothing() -> None:
    """New pods and a new hash of the template, but the same image; the driver is the node's."""
    image = seen((IMAGE, "v1", "a", 0, 14), (IMAGE, "v1", "b", 12, 29))
    name = "pod_template_hash"
    hashes = seen((name, "x", "a", 0, 14), (name, "y", "b", 12, 29), tells="template")
    driver = seen(("driver", "550", "a", 0, 14), ("driver", "570", "b", 12, 29), tells="driver")
    assert left(pl.concat([image, hashes, driver])) is None
    assert left(hashes) == list(range(16, 30)), "nothing else names the version: it may be another"
    assert "kube_pod_container_info" in active_version(idle(30), hashes).releases[0].text
    test = replace(idle(30), kind="pressure_test")
    assert active_version(test, hashes).releases == (), "pools of a sweep are made anew"


def test_a_version_that_was_tried_costs_its_time_only() -> None:
    """An instance of v2 for five minutes, beside v1 or in its place."""
    beside = seen((IMAGE, "v1", "a", 0, 29), (IMAGE, "v2", "b", 10, 15))
    between = seen((IMAGE, "v1", "a", 0, 9), (IMAGE, "v2", "b", 10, 15), (IMAGE, "v1", "c", 16, 29))
    for versions in (beside, between):
        assert left(versions) == [*range(8), *range(17, 30)]
        (said,) = active_version(idle(30), versions).releases
        assert (said.kind, said.before, said.after) == ("tried", "v1", "v2")


def test_a_canary_after_a_release_and_one_before_it() -> None:
    """The one before is beside the point; the one after costs its time."""
    before = seen((IMAGE, "v1", "a", 0, 20), (IMAGE, "v2", "b", 8, 10), (IMAGE, "v3", "c", 18, 59))
    assert left(before, 60) == list(range(22, 60))
    assert [one.kind for one in active_version(idle(60), before).releases] == ["released"]
    after = seen((IMAGE, "v1", "a", 0, 20), (IMAGE, "v2", "b", 18, 59), (IMAGE, "v3", "c", 40, 45))
    assert left(after, 60) == [*range(22, 38), *range(47, 60)]
    assert [one.kind for one in active_version(idle(60), after).releases] == ["released", "tried"]


def test_two_versions_at_the_end() -> None:
    """A canary that still runs leaves what was before it; a roll-out past its half leaves nothing."""
    canary = seen((IMAGE, "v1", "a", 0, 29), (IMAGE, "v1", "b", 0, 29), (IMAGE, "v2", "c", 20, 29))
    assert left(canary) == list(range(18))
    rollout = seen((IMAGE, "v1", "a", 0, 29), (IMAGE, "v2", "b", 18, 29), (IMAGE, "v2", "c", 20, 29))
    assert left(rollout) == []
    assert "most instances v2" in active_version(idle(30), rollout).releases[0].text


def test_what_was_there_from_the_start_is_no_release() -> None:
    """Two deployments of one pool, one of them renewed; names that one instance writes beside others."""
    both = [(IMAGE, "v1", "a", 0, 29), (IMAGE, "w1", "b", 2, 29)]
    assert left(seen(*both)) is None
    renewed = seen((IMAGE, "w1", "b", 0, 29), (IMAGE, "v1", "a", 0, 14), (IMAGE, "v2", "c", 12, 29))
    assert left(renewed) == list(range(16, 30))
    late = seen(("names", "old", "a", 0, 29), ("names", "new", "a", 12, 29), tells="sign")
    assert left(late) is None


def test_the_plainest_evidence_speaks() -> None:
    """One roll-out shows in the image and in metric names, minutes later."""
    versions = pl.concat(
        [
            seen((IMAGE, "v1", "a", 0, 24), (IMAGE, "v2", "b", 10, 59)),
            seen(("names", "old", "a", 0, 22), ("names", "new", "b", 18, 59), tells="sign"),
        ]
    )
    (said,) = active_version(idle(60), versions).releases
    assert said.what == IMAGE


SIGHTINGS = st.lists(
    st.tuples(
        st.sampled_from(["v1", "v2", "v3"]), st.sampled_from("abcd"), st.integers(0, 59), st.integers(0, 59)
    ),
    min_size=1, max_size=8,
)  # fmt: skip


@given(SIGHTINGS, st.randoms())
def test_no_row_that_is_left_ran_what_was_replaced(found: list[tuple[str, str, int, int]], chance) -> None:
    """Whatever was seen when, and in whatever order it is listed."""
    rows = [(IMAGE, value, name, min(a, b), max(a, b)) for value, name, a, b in found]
    result = active_version(idle(60), seen(*rows))
    chance.shuffle(rows)
    again = active_version(idle(60), seen(*rows))
    assert again.releases == result.releases
    assert [mask.tolist() for mask in again.rows.values()] == [mask.tolist() for mask in result.rows.values()]
    for one in result.releases:
        gone = {"released": one.before, "tried": one.after}.get(one.kind)
        for _, value, _, first, last in rows:
            if value == gone:
                assert not result.rows["decode"][first : last + 1].any()


def changed(late_rows: int = 1440) -> ServiceFrame:
    """Return a day of one engine and the first rows of a day of another that can do twice as much decode.

    The second day brings more requests, so that both engines meet their limits.
    """
    first = make_frame(OLD, 1.05 * REQUESTS, 2100.0, 450.0, 1)
    second = make_frame(NEW, 1.35 * REQUESTS, 2100.0, 720.0, 2, start_s=START_S + 86400.0)
    return replace(first, table=pl.concat([first.table, second.table.head(late_rows)]))


def rolled(until: float = DAY, role: str = "decode") -> pl.DataFrame:
    """Return the sightings of an engine that a new one replaces after a day."""
    end = 2.0 * DAY
    return seen((IMAGE, "v1", "a", 0, until), (IMAGE, "v2", "b", DAY - 10.0, end), role=role)


BOTH = pl.concat([rolled(role="prefill"), rolled()])


@pytest.fixture(scope="module")
def blind() -> Derived:
    """What is derived of both engines by somebody who does not see the release."""
    return derive_service(changed(), (), FEW).derived


@pytest.fixture(scope="module")
def found() -> Derived:
    """What is derived of them where both pools show the release."""
    return derive_service(changed(), (), FEW, versions=BOTH).derived


def test_the_numbers_are_those_of_the_engine_that_runs(blind, found) -> None:
    """Known truth: blind to the release the capacity is a mean over two engines, else the new one's."""
    ratio = found.pd_ratio
    for role, true in (("prefill", NEW.prefill_capacity), ("decode", NEW.decode_capacity)):
        capacity = found.capacity_of(role)
        assert capacity.status == ratio.status == "ok"
        assert capacity.ci[0] <= true <= capacity.ci[1]
    assert ratio.ci[0] <= 2100.0 / 720.0 * NEW.decode_capacity / NEW.prefill_capacity <= ratio.ci[1]
    assert blind.capacity_of("prefill").ci[1] < NEW.prefill_capacity
    assert [one.role for one in found.releases] == ["prefill", "decode"]
    assert blind.releases == ()


def test_demand_and_growth_are_of_the_whole_window(blind, found) -> None:
    """Who asks does not know which engine answers."""
    assert found.demand == blind.demand
    assert found.capacity_of("decode").growth_ratio == blind.capacity_of("decode").growth_ratio


@pytest.mark.parametrize("rows", [120, 400])
def test_too_little_after_a_release_is_never_the_old_engine(rows: int) -> None:
    """Two quiet hours are no capacity, near seven give a floor: both say when enough will be recorded."""
    short = derive_service(changed(rows), (), FEW, versions=BOTH).derived
    assert short.pd_ratio.status != "ok"
    for role, true in (("prefill", NEW.prefill_capacity), ("decode", NEW.decode_capacity)):
        capacity = short.capacity_of(role)
        assert capacity.status != "ok"
        assert capacity.per_instance is None or capacity.per_instance < true
        collect = next(r.collect for r in short.refusals if r.what == f"capacity@{role}")
        assert (
            f"a whole day of the new {role} version will have been recorded by 2026-01-03T00:00Z" in collect
        )
        assert ("the 6 h that any answer needs not before" in collect) is (rows == 120)
    assert "a whole day of the new" in next(r for r in short.refusals if r.what == "pd_ratio").collect


def test_one_pool_alone(blind) -> None:
    """Prefill upgraded first: decode keeps its numbers, and the mix is of the time both ran as now."""
    one = derive_service(changed(), (), FEW, versions=rolled(role="prefill")).derived
    assert one.capacity_of("decode") == blind.capacity_of("decode")
    assert one.capacity_of("prefill") != blind.capacity_of("prefill")
    assert {w.start[:10] for w in one.pd_ratio.by_window} == {"2026-01-02"}
    assert [release.role for release in one.releases] == ["prefill"]


def test_a_half_done_roll_out_refuses() -> None:
    """Most instances run the new version, and no row shows it alone."""
    versions = seen(
        (IMAGE, "v1", "a", 0, 2 * DAY), (IMAGE, "v2", "b", DAY, 2 * DAY), (IMAGE, "v2", "c", DAY, 2 * DAY)
    )
    half = derive_service(changed(), (), FEW, versions=versions).derived
    assert half.capacity_of("decode").status == half.pd_ratio.status == "refused"
    refusal = next(r for r in half.refusals if r.what == "capacity@decode")
    assert "after the last instance of the other one is gone" in refusal.collect


@pytest.mark.parametrize(
    "versions",
    [
        seen(),
        seen((IMAGE, "v1", "a", 0, 2000), (IMAGE, "v1", "b", 1990, 2 * DAY)),
        seen((IMAGE, "v1", "a", 0, 2 * DAY), (IMAGE, "w1", "b", 0, 2 * DAY)),
        rolled().with_columns(pl.lit("other/service").alias("service")),
        rolled().with_columns(pl.col("first", "last") + timedelta(days=9)),
    ],
    ids=["none", "restart", "two deployments", "another service", "later"],
)
def test_without_a_release_nothing_changes(versions: pl.DataFrame) -> None:
    """Metamorphic: the same results to the last digit, the same tables."""
    few = replace(FEW, draws=8)
    plain, same = (derive_service(changed(400), (), few, versions=v) for v in (None, versions))
    assert same.derived == plain.derived
    for table in ("capacity_points", "capacity_curve", "mix"):
        assert getattr(same, table).equals(getattr(plain, table))


def test_a_release_in_the_test_window_is_told() -> None:
    """Fitted on v1: a window that runs v2 is no test of it; a restart, or a release before, is one."""
    whole = changed()
    train, test = (
        whole.rows(pl.col("t") < whole.table["t"][900]),
        whole.rows(pl.col("t") >= whole.table["t"][900]),
    )
    (text,) = other_version(test, train, rolled())
    assert text.startswith(
        "decode ran v2 (image of engine) from 2026-01-01T23:50Z on, in 73 % of the test window"
    )
    assert (
        other_version(test, train, seen((IMAGE, "v1", "a", 0, DAY), (IMAGE, "v1", "b", DAY, 2 * DAY))) == ()
    )
    early = seen((IMAGE, "v1", "a", 0, 300), (IMAGE, "v2", "b", 290, 2 * DAY))
    assert other_version(test, train, early) == ()
    canary = seen(
        (IMAGE, "v1", "a", 0, DAY), (IMAGE, "v2", "b", 300, 310), (IMAGE, "v2", "c", DAY - 5.0, 2 * DAY)
    )
    assert other_version(test, train, canary) != ()
