"""Runs and episodes of masks on a grid of captures."""

from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from hs_analysis.statistics.episodes import dilate, episodes, mask_of, merge_gaps, runs, runs_until_clean


def mask(text: str) -> np.ndarray:
    """Return the mask in which `#` is True."""
    return np.array([c == "#" for c in text])


def groups(text: str) -> np.ndarray:
    """Return capture numbers from digits."""
    return np.array([int(c) for c in text], dtype=np.int64)


def test_runs_are_half_open() -> None:
    """A run spans its first row to the row after its last, at both ends of the mask too."""
    assert runs(mask("##..#.###")) == [(0, 2), (4, 5), (6, 9)]
    assert runs(mask("")) == []
    assert runs(mask("...")) == []


def test_runs_end_with_their_capture() -> None:
    """Two captures that touch do not share a run."""
    assert runs(mask(".####."), groups("000111")) == [(1, 3), (3, 5)]


@given(st.lists(st.booleans(), max_size=40), st.lists(st.integers(0, 3), max_size=40))
def test_runs_rebuild_the_mask(bits: list[bool], numbers: list[int]) -> None:
    """The runs cover exactly the True rows and none crosses a capture."""
    bad = np.array(bits, dtype=bool)
    group = np.sort(np.array((numbers + [0] * len(bits))[: len(bits)], dtype=np.int64))
    found = runs(bad, group)
    assert (mask_of(found, bad.size) == bad).all()
    assert all(group[a] == group[b - 1] for a, b in found)
    assert all(b <= c for (_, b), (c, _) in pairwise(found))


def test_dilation_stays_inside_its_capture() -> None:
    """Each run grows on both sides, but not into the next capture."""
    grown = dilate(mask("..#...#..."), 2, groups("0000000111"))
    assert (grown == mask("#######...")).all()
    assert (dilate(mask(".#."), 0) == mask(".#.")).all()


def test_gaps_up_to_the_limit_are_one_episode() -> None:
    """Runs two rows apart are joined by a gap of two and kept apart by a gap of one."""
    bad = mask("#..#....#")
    assert episodes(bad, 2) == [(0, 4), (8, 9)]
    assert episodes(bad, 1) == [(0, 1), (3, 4), (8, 9)]
    assert merge_gaps([(0, 1), (2, 3)], 5, groups("001")) == [(0, 1), (2, 3)]


def test_a_run_lasts_until_enough_rows_are_clean() -> None:
    """Four clean rows do not end a run, five do; the clean rows at its end are not part of it."""
    bad = mask("#....#.....#")
    always = np.ones(bad.size, dtype=bool)
    assert runs_until_clean(bad, ~bad, always, 5) == [(0, 6), (11, 12)]
    assert runs_until_clean(bad, ~bad, always, 4) == [(0, 1), (5, 6), (11, 12)]


def test_a_run_does_not_end_while_it_is_not_calm() -> None:
    """A backlog keeps the run open and belongs to it."""
    bad = mask("#.........")
    calm = ~mask(".######...")
    assert runs_until_clean(bad, ~bad, calm, 3) == [(0, 7)]


def test_unknown_rows_neither_end_nor_extend_a_run() -> None:
    """Rows that are neither bad nor clean are passed over in the count."""
    bad, clean = mask("#......#"), mask(".#.#....")
    always = np.ones(bad.size, dtype=bool)
    assert runs_until_clean(bad, clean, always, 2) == [(0, 1), (7, 8)]
    assert runs_until_clean(bad, clean, always, 3) == [(0, 8)]


def test_a_run_ends_with_its_capture() -> None:
    """A run that is still open when its capture ends does not go on in the next."""
    bad = mask("..##..#.")
    always = np.ones(bad.size, dtype=bool)
    assert runs_until_clean(bad, ~bad, always, 5, groups("00001111")) == [(2, 4), (6, 7)]
