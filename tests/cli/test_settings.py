"""Settings from a file, variables and flags reach the run and its manifest, the strongest first."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cli.conftest import LIMITS
from typer.testing import CliRunner, Result

from hs_analysis.cli.app import app
from hs_analysis.pipeline import tasks
from hs_analysis.report.packing import spread

Hsa = Callable[..., subprocess.CompletedProcess[str]]


def call(*arguments: str | Path, **more: Any) -> Result:
    """Run a command in this process."""
    return CliRunner().invoke(app, [str(a) for a in arguments], catch_exceptions=False, **more)


def settings_of(*arguments: str | Path, **more: Any) -> dict[str, tuple[Any, str]]:
    """Return what hsa settings prints: key → value and source."""
    done = call("settings", *arguments, "-o", "json", **more)
    assert done.exit_code == 0, done.output
    return {row["setting"]: (row["value"], row["source"]) for row in json.loads(done.stdout)["settings"]}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder, and no variables of the user's own."""
    for name in [name for name in os.environ if name.startswith("HSA_") and name != "HSA_REAL_DATA"]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_strongest_source_wins(here: Path) -> None:
    """Default, hsa.toml, variable, flag: each beats the one before, and is named."""
    assert settings_of()["slo.quantile"] == (0.95, "default")
    assert settings_of()["slo.ttft"] == (None, "default")
    (here / "hsa.toml").write_text("seed = 1\n[slo]\nttft = '1s'\nquantile = 0.9\n")
    found = settings_of("--slo", "ttft=3s", env={"HSA_SLO_TTFT": "2s", "HSA_SLO_QUANTILE": "0.8"})
    assert found["seed"] == (1, "hsa.toml line 1")
    assert found["slo.quantile"] == (0.8, "HSA_SLO_QUANTILE")
    assert found["slo.ttft"] == ("3s", "--slo ttft")
    (here / "other.toml").write_text("seed = 5\n")
    assert settings_of("--config", "other.toml")["seed"] == (5, "other.toml line 1")


def test_settings_in_every_form(here: Path) -> None:
    """The table names the file; YAML and CSV hold the same rows."""
    (here / "hsa.toml").write_text("[prices]\n'H20' = 1.5\n[roles]\n'^g-' = 'mixed'\n")
    table = call("settings").stdout
    assert "settings file: hsa.toml" in table
    assert 'prices."H20"' in table
    assert "roles" in call("settings", "-o", "yaml").stdout
    assert call("settings", "-o", "csv").stdout.startswith("setting,value,unit,source\n")


def test_all_adds_the_constants_with_what_each_rests_on(here: Path) -> None:
    """JSON holds them beside the settings, CSV below them, and without --all there are none."""
    done = json.loads(call("settings", "--all", "-o", "json").stdout)
    found = {row["constant"]: row for row in done["constants"]}
    assert found["shared.SUSTAINED_S"]["value"] == 300.0
    assert found["shared.SUSTAINED_S"]["unit"] == "s"
    assert found["shared.DECILES"]["value"] == [0.1, 0.9]
    assert found["derive.EVENTS_MIN"]["source"] == "outside source: Peduzzi et al. (1996)"
    assert found["policy.SCALE_OUT_RATIO"]["source"] == "default"
    assert len(done["settings"]) > 20
    rows = call("settings", "--all", "-o", "csv").stdout.splitlines()
    assert rows[0] == "setting,value,unit,source,constant,meaning"
    assert len(rows) == 1 + len(done["settings"]) + len(found)
    assert "constants" not in json.loads(call("settings", "-o", "json").stdout)


@pytest.mark.parametrize(
    ("text", "arguments", "environment", "message"),
    [
        ("[slo]\nttft = 2", (), {}, "hsa settings: hsa.toml line 2: slo.ttft: expected duration"),
        ("", (), {"HSA_SEED": "x"}, "HSA_SEED: 'x' is not a whole number"),
        ("", ("--config", "none.toml"), {}, "none.toml: no such settings file"),
        ("", ("--engine", "ray"), {}, "--engine: the ray engine needs the package ray, which is not"),
        ("engine = 'ray'", (), {}, "hsa.toml line 1: the ray engine needs the package ray"),
        ("", ("--engine", "dask"), {}, "known: local, ray"),
        ("", ("--exclude", "x"), {}, "--exclude: no such file: x"),
        ("", ("--from", "2026-07-01"), {}, "give the zone with --tz"),
    ],
)  # fmt: skip
def test_wrong_settings_are_one_line(
    here: Path,
    monkeypatch: pytest.MonkeyPatch,
    text: str,
    arguments: tuple[str, ...],
    environment: dict[str, str],
    message: str,
) -> None:
    """The line names file and line, variable or flag."""
    (here / "hsa.toml").write_text(text)
    monkeypatch.setattr(tasks, "find_spec", lambda _: None)
    done = call("settings", *arguments, env=environment)
    assert done.exit_code in (1, 2)
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert message in line


def test_many_wrong_settings_lead_to_validate(here: Path) -> None:
    """Three lines, then how many more and where to see them; validate tells all."""
    (here / "hsa.toml").write_text("a = 1\nb = 1\nc = 1\nd = 1\ne = 1\n")
    lines = call("settings").stderr.splitlines()
    assert len(lines) == 4
    assert lines[3] == "… and 2 more: hsa validate hsa.toml"
    done = call("validate", "hsa.toml")
    assert (done.exit_code, len(done.stderr.splitlines())) == (1, 5)


def test_a_run_takes_its_settings_from_all_sources(here: Path, dumps: Path) -> None:
    """The manifest holds values, origins and the file; -v says them; a misspelt variable is told."""
    (here / "hsa.toml").write_text("[slo]\nttft = '2s'\n[history]\nkind = 'pressure_test'\n")
    environment = {"HSA_SEED": "4", "HSA_MEMORY_LIMIT": "1GB", "HSA_SLO_TFT": "1s"}
    done = call("ingest", dumps, "--run-dir", "run", "-v", env=environment)
    assert done.exit_code == 0, done.output
    assert "settings file: hsa.toml" in done.stderr
    assert "setting slo.ttft = 2s (hsa.toml line 2)" in done.stderr
    assert "warning: HSA_SLO_TFT sets nothing; did you mean HSA_SLO_TTFT?" in done.stderr
    manifest = json.loads((here / "run" / "manifest.json").read_text())
    assert manifest["config"] == "hsa.toml"
    assert manifest["settings"]["slo"]["ttft_s"] == 2.0
    assert manifest["settings"]["history_kind"] == "pressure_test"
    assert manifest["machine"] == {"memory_limit": "1GB", "engine": "local"}
    assert manifest["origins"] == {
        "slo.ttft_s": "hsa.toml line 2", "history_kind": "hsa.toml line 4", "seed": "HSA_SEED",
        "machine.memory_limit": "HSA_MEMORY_LIMIT",
    }  # fmt: skip
    assert settings_of("run")["seed"] == (4, "HSA_SEED")


def test_the_settings_of_a_run_are_those_it_was_made_with(here: Path, finished: Path) -> None:
    """Neither the current folder nor a variable changes what is shown; flags of a run to come are refused."""
    (here / "hsa.toml").write_text("seed = 9\n")
    assert settings_of(finished, env={"HSA_SEED": "8"})["seed"] == (0, "default")
    assert settings_of(finished)["slo.ttft"] == ("2.5s", "--slo ttft")
    for flags in (("--seed", "3"), ("--config", "hsa.toml")):
        done = call("settings", finished, *flags)
        assert done.exit_code == 2
        assert f"{flags[0]}: is for a run that is still to be made" in done.stderr


def test_what_changes_no_answer_runs_nothing_again(here: Path, finished: Path) -> None:
    """Another memory limit is recorded, and no stage works."""
    run = Path(shutil.copytree(finished, here / "run"))
    done = call("study", run, "--memory-limit", "2GB")
    assert "study: nothing to do" in done.stderr
    assert json.loads((run / "manifest.json").read_text())["machine"]["memory_limit"] == "2GB"
    assert call("study", run, "--memory-limit", "4 gigs").exit_code == 2


def test_a_service_that_is_not_there_is_told(here: Path, dumps: Path) -> None:
    """Did you mean; and with its name, the run is of it."""
    done = call("doctor", dumps, "--service", "demo/n")
    assert done.exit_code == 2
    assert "no such service 'demo/n'; did you mean demo/m?" in done.stderr
    assert call("doctor", dumps, "--service", "demo/m").exit_code == 0


def test_excluded_stretches_and_events_reach_the_answer(
    here: Path, small_dumps: Callable[[int], Path]
) -> None:
    """summary.json lists them, a warning says what totals leave out, and the report marks both."""
    run, dumps = here / "run", small_dumps(5)
    assert call("run", dumps, "--run-dir", run, "-q", *LIMITS).exit_code == 0
    (here / "events.json").write_text('[{"t": 1782871200, "kind": "deploy", "text": "v2 of the model"}]')
    before = json.loads((run / "summary.json").read_text())["services"][0]["totals"]["requests"]
    stretch = "2026-07-01T03:00..2026-07-01T04:00"
    again = ("run", dumps, "--run-dir", run)
    done = call(*again, "--exclude", stretch, "--events", "events.json")
    assert done.exit_code == 2  # no zone
    config = here / "marks.toml"
    config.write_text(
        f"[history]\nexclude = ['{stretch}']\nevents = ['events.json']\n[reading]\ntz = 'UTC'\n"
    )
    done = call(*again, "--config", config)
    assert done.exit_code == 0, done.output
    summary = json.loads((run / "summary.json").read_text())
    assert summary["excluded"] == [
        {"start": "2026-07-01T03:00:00Z", "end": "2026-07-01T04:00:00Z", "label": ""}
    ]
    assert summary["events"][0]["t"] == "2026-07-01T02:00:00Z"
    (warning,) = [w for w in summary["warnings"] if w["code"] == "excluded"]
    assert "totals do not count" in warning["text"]
    assert summary["services"][0]["totals"]["requests"] < before
    page = spread((run / "report.html").read_text())
    assert "deploy: v2 of the model" in page
    assert "stretches that were excluded" in page
    assert "--exclude 2026-07-01T03:00:00Z..2026-07-01T04:00:00Z" in page


def test_captures_are_inputs(here: Path, small_dumps: Callable[[int], Path]) -> None:
    """A place that no INPUT holds is read too, under its name; one inside an INPUT is read once."""
    one, two = small_dumps(1), small_dumps(2)
    inside = next(iter(sorted(one.glob("*prompt_tokens_total.json"))))
    done = call("ingest", one, "--capture", f"b.1={two}", "--capture", f"a={inside}", "--run-dir", "run")
    assert done.exit_code == 0, done.output
    query = "SELECT capture, count(DISTINCT metric) AS n FROM series GROUP BY 1 ORDER BY 1"
    rows = json.loads(call("sql", "run", query, "-o", "json").stdout)
    metrics = len(list(two.iterdir()))
    assert [row["capture"] for row in rows] == ["", "a", "b.1"]
    assert rows[1]["n"] == 1
    assert rows[2]["n"] == rows[0]["n"] + 1
    assert rows[2]["n"] <= metrics


def test_standard_input_is_an_input(here: Path, dumps: Path, hsa: Hsa) -> None:
    """A dump piped in is read like a file named stdin, and leaves nothing behind."""
    path = next(iter(sorted(dumps.glob("*prompt_tokens_total.json"))))
    done = hsa("ingest", "-", "-o", "json", cwd=here, stdin=path.read_text())
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert [file["name"] for file in found["files"]] == ["stdin"]
    assert Path(found["run_dir"]).name.startswith("stdin-2026")
    assert [p.name for p in (here / "reports").iterdir()] == [Path(found["run_dir"]).name]
    for text, message in (("", "standard input is empty"), ("<html>", "an HTML page")):
        broken = call("ingest", "-", "--run-dir", "other/run", input=text)
        assert broken.exit_code == 1
        assert message in broken.stderr
        assert not (here / "other").exists()
