"""Help is fast, starts with an example, and names only what is built."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

import hs_analysis
from hs_analysis.cli.app import COMMANDS, app

HEAVY = (
    "altair", "scipy", "statsmodels", "sklearn", "polars", "duckdb", "pandas", "pyarrow", "numba", "jinja2",
)  # fmt: skip
STATISTICS = ("altair", "scipy", "statsmodels", "sklearn", "numba", "jinja2")
NOT_IN_RUNS = ("altair", "scipy.stats", "statsmodels", "sklearn", "pandas", "hs_analysis.current")
Hsa = Callable[..., subprocess.CompletedProcess[str]]

SNIFF = """
import contextlib, io, json, sys
from hs_analysis.__main__ import main
found = []
for arguments in {commands!r}:
    sys.argv, said = ["hsa", *arguments], io.StringIO()
    try:
        with contextlib.redirect_stdout(said):
            main()
    except SystemExit as end:
        found.append((end.code, [name for name in {heavy!r} if name in sys.modules], said.getvalue()))
print(json.dumps(found))
"""


def sniffed(commands: list[list[str]], heavy: tuple[str, ...]) -> list[tuple[int, list[str], str]]:
    """Run commands in one fresh process; return exit code, heavy modules loaded by then, and stdout."""
    code = SNIFF.format(commands=commands, heavy=heavy)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    found = [(code, loaded, said) for code, loaded, said in json.loads(done.stdout)]
    assert len(found) == len(commands)
    return found


def command_of(name: str) -> Any:
    """Return a command with its parameters."""
    group = typer.main.get_command(app)
    return group.get_command(None, name)  # type: ignore[attr-defined]


def test_the_list_of_commands_loads_none_of_them() -> None:
    """The modules of commands, and the settings that their flags name, wait until one is asked for."""
    modules = (
        *sorted({f"hs_analysis.cli.{one.module}" for one in COMMANDS.values()}),
        "hs_analysis.settings",
    )
    for code, loaded, said in sniffed([["--help"], ["--version"]], modules):
        assert (code, loaded) == (0, [])
        assert "hsa" in said
    ((_, loaded, _),) = sniffed([["sql", "--help"]], modules)
    assert "hs_analysis.cli.commands" in loaded
    assert "hs_analysis.cli.pull" not in loaded


def test_heavy_libraries_are_not_imported() -> None:
    """Nothing that only work needs is loaded for help, the version, or the catalogue."""
    commands = [["--help"], ["run", "--help"], ["derive", "--help"], ["--version"], ["signals"]]
    for arguments, (code, loaded, said) in zip(commands, sniffed(commands, HEAVY), strict=True):
        assert (code, loaded) == (0, []), arguments
        assert said, arguments


def test_reading_dumps_loads_no_statistics(dumps: Path, tmp_path: Path) -> None:
    """What ingest and doctor do needs neither fits nor charts, so they don't wait for them to load."""
    run = str(tmp_path / "run")
    commands = [["ingest", str(dumps), "--run-dir", run], ["doctor", run], ["sql", run, "FROM series"]]
    commands = [[*arguments, "-o", "json"] for arguments in commands]
    for arguments, (code, loaded, said) in zip(commands, sniffed(commands, STATISTICS), strict=True):
        assert (code, loaded) == (0, []), arguments
        assert json.loads(said), arguments


def test_a_run_loads_no_library_for_a_few_numbers() -> None:
    """The stages, a frame and an Arrow array bring none of what takes seconds and 100 MB to load."""
    code = (
        "import json, sys, pyarrow\n"
        "from hs_analysis.pipeline import doctor_stage, policy_stages, report_stages\n"
        "from hs_analysis.report import html\n"
        "from hs_analysis.schema.frames import SERIES, arrow, empty\n"
        "empty(SERIES), arrow([1], pyarrow.int64())\n"
        f"print(json.dumps([name for name in {NOT_IN_RUNS!r} if name in sys.modules]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == []


def test_nothing_is_collected_on_the_way_out() -> None:
    """Looking for circular garbage among all that a run made took 2 % of its CPU time."""
    code = "import gc, sys; from hs_analysis.__main__ import main; sys.argv = ['hsa', '--version']\n"
    code += "try: main()\nfinally: print(gc.get_freeze_count() > 10_000)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "True"


@pytest.mark.parametrize(("given", "threads"), [(None, "1"), ("3", "3")])
def test_algebra_has_one_thread_unless_it_is_told(given: str | None, threads: str) -> None:
    """Threads that wait for small matrices took a sixth of a run's CPU time."""
    code = "import os, sys; from hs_analysis.__main__ import main; sys.argv = ['hsa', '--version']\n"
    code += "try: main()\nfinally: print(os.environ['OPENBLAS_NUM_THREADS'], 'numpy' in sys.modules)"
    variables = {name: value for name, value in os.environ.items() if name != "OPENBLAS_NUM_THREADS"}
    variables |= {} if given is None else {"OPENBLAS_NUM_THREADS": given}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=variables)
    assert done.stdout.splitlines()[-1] == f"{threads} False"


@pytest.mark.parametrize("name", COMMANDS)
def test_help_starts_with_an_example_of_itself(name: str) -> None:
    """The first line of each command's help can be run as it stands, and its flags exist."""
    command = command_of(name)
    example = str(command.help).splitlines()[0]
    assert example.startswith(f"hsa {name} ")
    known = {flag for parameter in command.params for flag in parameter.opts}
    assert set(re.findall(r"(?<!\S)--?[a-z][a-z-]*", example)) <= known
    result = CliRunner().invoke(app, [name, "--help"], env={"COLUMNS": "200"})
    assert result.exit_code == 0
    assert example in result.stdout.replace("\n", " ").replace("  ", " ") or example[:60] in result.stdout


def test_words_users_of_peers_look_for() -> None:
    """Ratio is in derive's help, backtest in replay's, both with their flags in panels."""
    derive = CliRunner().invoke(app, ["derive", "--help"], env={"COLUMNS": "200"}).stdout
    replay = CliRunner().invoke(app, ["replay", "--help"], env={"COLUMNS": "200"}).stdout
    assert "ratio" in derive
    assert "Backtest" in replay
    for panel in ("Input", "History", "Method", "Output"):
        assert f" {panel} " in derive


@pytest.mark.parametrize("flag", ["--policy", "--fault", "--topology"])
def test_flags_that_are_not_built_are_not_accepted(flag: str) -> None:
    """A flag that would do nothing is a usage error."""
    result = CliRunner().invoke(app, ["run", "x", flag, "y"])
    assert result.exit_code == 2
    assert "No such option" in result.stderr


def test_version(hsa: Hsa) -> None:
    """One line on stdout."""
    done = hsa("--version")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"hsa {hs_analysis.__version__}\n", "")


def test_commands_of_the_contract() -> None:
    """These twenty-one, and completion comes with them."""
    assert set(COMMANDS) == {
        "run", "ingest", "doctor", "study", "derive", "select", "policy", "replay", "export", "report",
        "explain", "signals", "init", "settings", "sql", "validate", "pull", "export-plan", "compare",
        "plan-test", "help",
    }  # fmt: skip


def test_a_removed_command_names_what_takes_its_place() -> None:
    """Whatever else is on the line; it is not listed."""
    result = CliRunner().invoke(app, ["trial", "reports/x", "-o", "json"])
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == "hsa trial: this command was removed; hsa select shows every signal as a driver\n"


@pytest.mark.parametrize("words", [["--prior", "m@s"], ["--prior=m@s"]])
def test_a_removed_flag_says_what_to_do(words: list[str]) -> None:
    """One line, with or without an equals sign."""
    result = CliRunner().invoke(app, ["derive", "reports/x", *words])
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("hsa derive: --prior: this flag was removed; leave it out: ")
    assert result.stderr.count("\n") == 1


OTHER_MEANING = ("help", "run_dir", "force", "target", "policy")
"""Flags whose help tells what they do in that command: export also writes what no controller is, and writes
the policy that replay only replays."""


def test_flags_are_spelt_alike() -> None:
    """One meaning and one spelling of a flag in every command that has it."""
    seen: dict[str, tuple[Any, ...]] = {}
    for command in map(command_of, COMMANDS):
        for parameter in command.params:
            if parameter.param_type_name == "option" and parameter.name not in OTHER_MEANING:
                spelt = (tuple(parameter.opts), parameter.help)
                assert seen.setdefault(parameter.name, spelt) == spelt
