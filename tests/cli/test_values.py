"""Values of flags are read exactly or refused with the flag, the fault and the right form."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hs_analysis.cli.options import Method
from hs_analysis.cli.values import (
    UNIT_SECONDS,
    bounds_changes,
    moment,
    seconds,
    share,
    slo_changes,
    startup_changes,
    suggestion,
)
from hs_analysis.errors import UsageError


@pytest.mark.parametrize(
    ("text", "want"),
    [("50ms", 0.05), ("2.5s", 2.5), ("4m", 240.0), ("1h30m", 5400.0), (" 1s ", 1.0), (".5s", 0.5)],
)
def test_durations(text: str, want: float) -> None:
    """Milliseconds, seconds, minutes, hours, and several in one."""
    assert seconds(text, "--startup") == want


@given(st.integers(1, 10**6), st.sampled_from(sorted(UNIT_SECONDS)))
def test_every_whole_number_of_a_unit_is_a_duration(number: int, unit: str) -> None:
    """The value is the number times the unit."""
    assert seconds(f"{number}{unit}", "--slo ttft") == pytest.approx(number * UNIT_SECONDS[unit])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("2.5", "'2.5' has no unit; write e.g. 2.5s or 2.5ms"),
        ("2.5 s", "not a duration"),
        ("s", "not a duration"),
        ("", "not a duration"),
        ("2w", "not a duration"),
        ("1s!", "not a duration"),
        ("0s", "above zero"),
        ("-1s", "not a duration"),
        ("nan", "not a duration"),
    ],
)
def test_bad_durations(text: str, message: str) -> None:
    """The message names the flag, the fault and what to write."""
    with pytest.raises(UsageError, match=message) as caught:
        seconds(text, "--startup")
    assert caught.value.line().startswith("--startup: ")


def test_slo_words() -> None:
    """Limits in seconds, the share as a number or percentage, the window."""
    assert slo_changes(["ttft=2.5s", "tbt=50ms", "quantile=99%", "window=1m"]) == {
        "slo.ttft_s": 2.5, "slo.tbt_s": 0.05, "slo.quantile": 0.99, "slo.window_s": 60.0,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["ttft"], "has no value"),
        (["ttft="], "has no value"),
        (["tftt=1s"], "no such limit 'tftt'; did you mean ttft"),
        (["e2e=1s"], "known: ttft, tbt, quantile, window"),
        (["ttft=1s", "ttft=2s"], "ttft is given twice"),
        (["quantile=1.5"], "not between 0 and 1"),
        (["quantile=p95"], "not a share"),
    ],
)
def test_bad_slo_words(words: list[str], message: str) -> None:
    """A misspelt or impossible limit is never taken for another."""
    with pytest.raises(UsageError, match=message):
        slo_changes(words)


def test_startup_for_all_and_for_one() -> None:
    """One time for every pool; a time for one pool wins over it, in either order."""
    assert startup_changes(["240s"]) == dict.fromkeys(
        ("startup_s.prefill", "startup_s.decode", "startup_s.mixed"), 240.0
    )
    assert startup_changes(["prefill=4m"]) == {"startup_s.prefill": 240.0}
    mixed = {"startup_s.prefill": 60.0, "startup_s.decode": 240.0, "startup_s.mixed": 240.0}
    assert startup_changes(["240s", "prefill=60s"]) == mixed
    assert startup_changes(["prefill=60s", "240s"]) == mixed


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["prefil=1s"], "did you mean prefill"),
        (["prefill=1s", "prefill=2s"], "given twice"),
        (["1s", "2s"], "given twice"),
        (["prefill="], "not a duration"),
    ],
)
def test_bad_startup_words(words: list[str], message: str) -> None:
    """Unknown pools and doubled values are refused."""
    with pytest.raises(UsageError, match=message):
        startup_changes(words)


def test_moments_are_utc() -> None:
    """Any zone is read, UTC is kept."""
    assert moment("2026-07-01T02:00:00+02:00", "--from") == "2026-07-01T00:00:00Z"
    assert moment("2026-07-01T00:00Z", "--from") == "2026-07-01T00:00:00Z"


@pytest.mark.parametrize(
    ("text", "message"),
    [("2026-07-01T00:00:00", "has no zone; write e.g. 2026-07-01T00:00:00Z"), ("yesterday", "not a time")],
)
def test_bad_moments(text: str, message: str) -> None:
    """A time without a zone is never guessed at."""
    with pytest.raises(UsageError, match=message):
        moment(text, "--from")


def test_bounds_in_order() -> None:
    """The end comes after the start."""
    assert bounds_changes("2026-07-01T00:00Z", None) == {"start": "2026-07-01T00:00:00Z"}
    with pytest.raises(UsageError, match="is not before"):
        bounds_changes("2026-07-02T00:00Z", "2026-07-01T00:00Z")
    with pytest.raises(UsageError, match="is not before"):
        bounds_changes("2026-07-01T01:00+01:00", "2026-07-01T00:00Z")


def test_share_forms() -> None:
    """A number or a percentage."""
    assert share("95%", "--slo quantile") == share("0.95", "--slo quantile") == 0.95


@pytest.mark.parametrize(
    ("method", "want"),
    [
        (Method(), {}),
        (Method(pressure_test=True), {"history_kind": "pressure_test"}),
        (Method(pressure_test=False), {"history_kind": "production"}),
        (Method(seed=0), {"seed": 0}),
        (
            Method(slo=["ttft=1s"], start="2026-07-01T00:00Z"),
            {"slo.ttft_s": 1.0, "start": "2026-07-01T00:00:00Z"},
        ),
    ],
)
def test_only_given_flags_change_settings(method: Method, want: dict[str, Any]) -> None:
    """A flag that was not given leaves the run's setting as it is."""
    assert method.changes() == want


@pytest.mark.parametrize(
    ("word", "want"),
    [("kedaa", "did you mean keda?"), ("zzz", "known: keda, rules"), ("rule", "did you mean rules?")],
)
def test_suggestions(word: str, want: str) -> None:
    """The nearest name, or all of them."""
    check: Callable[..., str] = suggestion
    assert check(word, ["keda", "rules"]) == want
