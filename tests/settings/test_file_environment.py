"""HSA_* variables set what hsa.toml sets; the strongest source wins and is named."""

from __future__ import annotations

import pytest

from hs_analysis.errors import UsageError
from hs_analysis.schema.settings import CountLimits
from hs_analysis.settings import file
from hs_analysis.settings.file import GivenValue, resolve
from hs_analysis.settings.registry import SETTINGS


def test_every_setting_has_its_variable() -> None:
    """The rule: HSA_ and the key in capitals, dots as underscores; no two are the same."""
    names = [setting.variable for setting in SETTINGS]
    assert len(names) == len(set(names))
    assert {"HSA_SLO_TTFT", "HSA_STARTUP_PREFILL", "HSA_READING_TZ", "HSA_MEMORY_LIMIT"} <= set(names)


def test_values_are_read_as_in_the_file() -> None:
    """Durations, numbers, switches and lists; an empty variable gives nothing."""
    variables = {
        "HSA_SLO_TTFT": "2s", "HSA_SEED": "3", "HSA_READING_SALVAGE": "true", "HSA_SLO_QUANTILE": "99%",
        "HSA_HISTORY_SERVICE": "a/b, c", "HSA_SLO_TBT": "", "HSA_READING_TZ": "Europe/Berlin",
        "HSA_HISTORY_FROM": "2026-07-01T02:00", "HOME": "x", "HSA_BOUNDS_DECODE": "2..40",
        "HSA_BOUNDS_PREFILL": "..9", "HSA_BOUNDS_GPUS": "64", "HSA_EXPORT_TARGET": "hpa",
    }  # fmt: skip
    layer, warnings = file.read_environment(variables)
    values, origins = resolve([layer])
    assert warnings == ()
    assert values == {
        "slo.ttft_s": 2.0, "seed": 3, "reading.salvage": True, "slo.quantile": 0.99, "service": ("a/b", "c"),
        "reading.tz": "Europe/Berlin", "start": "2026-07-01T00:00:00Z",
        "bounds.decode": CountLimits(2, 40), "bounds.prefill": CountLimits(None, 9), "gpus_limit": 64,
        "target": "hpa",
    }  # fmt: skip
    assert origins["slo.ttft_s"] == "HSA_SLO_TTFT"


def test_wrong_values_name_the_variable() -> None:
    """A variable that can't be understood is an error, never ignored."""
    with pytest.raises(UsageError, match="HSA_SLO_TTFT: '2' has no unit"):
        file.read_environment({"HSA_SLO_TTFT": "2"})
    with pytest.raises(UsageError, match="HSA_BOUNDS_DECODE: min 9 is above max 2"):
        file.read_environment({"HSA_BOUNDS_DECODE": "9..2"})


@pytest.mark.parametrize(
    ("name", "warning"),
    [
        ("HSA_SLO_TFT", "did you mean HSA_SLO_TTFT?"),
        ("HSA_PRIOR_MODEL", "its setting was removed: take it out"),
        ("HSA_MEMORY_LIMT", "did you mean HSA_MEMORY_LIMIT?"),
        ("HSA_SLO_E2E", "known: HSA_SLO_TTFT, HSA_SLO_TBT"),
        ("HSA_READING_ENCODING", "known: HSA_READING_FORMAT"),
    ],
)
def test_misspelt_variables_are_told(name: str, warning: str) -> None:
    """What looks like a setting and is none sets nothing, and is said."""
    layer, (told,) = file.read_environment({name: "1"})
    assert layer == {}
    assert told.startswith(f"{name} sets nothing; ")
    assert warning in told


def test_variables_of_others_are_left_alone() -> None:
    """Those of the project's tests, and of other programs, are no settings."""
    others = (
        "HSA_REAL_DATA",
        "HSA_UPDATE_GOLDEN",
        "HSA_RECOVERY_SEEDS",
        "HSA_CHROMIUM",
        "HSA_URL",
        "HSA_TOKEN",
        "HSA_XNACK",
        "HSA_OVERRIDE_GFX_VERSION",
    )
    assert file.read_environment(dict.fromkeys(others, "1")) == ({}, ())


def test_later_layers_win() -> None:
    """A stronger source replaces a value and its origin; others stay."""
    weak = {"seed": GivenValue(1, "hsa.toml line 1"), "slo.ttft_s": GivenValue(1.0, "hsa.toml line 2")}
    values, origins = resolve([weak, {"seed": GivenValue(2, "HSA_SEED")}, {"seed": GivenValue(3, "--seed")}])
    assert values == {"seed": 3, "slo.ttft_s": 1.0}
    assert origins == {"seed": "--seed", "slo.ttft_s": "hsa.toml line 2"}


def test_the_zone_of_one_source_reads_times_of_another() -> None:
    """--tz on the command line tells how a time without a zone in hsa.toml is read."""
    start = GivenValue(lambda tz: f"read in {tz}", "hsa.toml line 1")
    assert resolve([{"start": start}, {"reading.tz": GivenValue("UTC", "--tz")}])[0]["start"] == "read in UTC"
    assert resolve([{"start": start}], "Europe/Berlin")[0]["start"] == "read in Europe/Berlin"
