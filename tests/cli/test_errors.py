"""Mistakes of users are one line and an exit code; bugs keep their traceback."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from hs_analysis.cli import output
from hs_analysis.cli.app import app
from hs_analysis.errors import HsError, InputError, ManyErrors, UsageError

Hsa = Callable[..., subprocess.CompletedProcess[str]]

MATRIX = '{"status":"success","data":{"resultType":"matrix","result":[%s]}}'
UNKNOWN = '{"metric":{"__name__":"foo_total"},"values":[[1764000000,"3"],[1764000015,"4"]]}'
LONG = ",".join(f'[{1764000000 + 15 * i},"{i}"]' for i in range(2000))
CUT = MATRIX % ('{"metric":{"__name__":"vllm:num_requests_waiting","pod":"p"},"values":[' + LONG + "]}")


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("page.json", "<!doctype html><html><title>Sign in</title></html>", "an HTML page (Sign in)"),
        ("error.json", '{"status":"error","errorType":"bad_data","error":"no such thing"}', "no such thing"),
        ("unknown/a.json", MATRIX % UNKNOWN, "no metric that the catalogue knows"),
        ("cut.json", CUT[:20000], "at byte 20000"),
        ("empty.json", "", "an empty file"),
        ("folder/page.json", "<html></html>", "an HTML page"),
        ("folder/notes.md", "nothing", "no metric dump"),
        ("empty/", "", "holds no file"),
        ("", "", "no such file or folder"),
    ],
)
def test_inputs_that_can_not_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, text: str, message: str
) -> None:
    """Exit 1, one line on stderr that says where, nothing on stdout, no traceback, no folder left."""
    path = tmp_path / "in" / (name or "missing")
    if name.endswith("/"):
        path.mkdir(parents=True)
    elif name:
        path.parent.mkdir(parents=True)
        path.write_text(text)
    given = path.parent if path.parent.name in ("unknown", "folder") else path
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, ["run", str(given)])
    assert isinstance(done.exception, SystemExit)
    assert done.exit_code == 1
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("hsa run: ")
    assert message in line
    assert given.name in line
    assert not list(tmp_path.glob("reports/*"))


def test_cut_gzip_names_the_byte(tmp_path: Path, hsa: Hsa) -> None:
    """A compressed file that ends early is told as such, not as a traceback."""
    path = tmp_path / "cut.json.gz"
    path.write_bytes(gzip.compress(CUT.encode())[:-200])
    done = hsa("run", path, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    assert "cut.json.gz" in line
    assert "byte" in line


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run"], "Missing argument"),
        (["run", "x", "--slo", "ttft=2.5"], "--slo ttft: '2.5' has no unit"),
        (["run", "x", "--slo", "tftt=2s"], "did you mean ttft?"),
        (["run", "x", "--from", "2026-07-01"], "has no zone"),
        (["run", "x", "--seed", "-1"], "--seed"),
        (["run", "x", "--output", "xml"], "xml"),
        (["derive", "x", "--startup", "4"], "no unit"),
        (["signals", "tft"], "did you mean ttft?"),
        (["export", "x", "--target", "kedaa"], "did you mean keda?"),
        (["deriv", "x"], "Did you mean 'derive'?"),
        (["explain", "nonsense"], "expected 3"),
    ],
)
def test_wrong_usage_is_two(arguments: list[str], message: str) -> None:
    """Typer's own complaints and ours share the exit code, stdout stays empty."""
    result = CliRunner().invoke(app, arguments, env={"COLUMNS": "200"})
    assert result.exit_code == 2
    assert result.stdout == ""
    assert message in result.stderr


@pytest.mark.parametrize(
    ("path", "message"),
    [("missing", "no such run folder"), (".", "not a run folder (it has no manifest.json)")],
)
def test_commands_on_what_is_no_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str, message: str
) -> None:
    """A stage command says what to run first, and makes nothing."""
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, ["derive", path])
    assert result.exit_code == 1
    assert message in result.stderr
    assert "hsa run INPUT" in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_many_errors_are_counted() -> None:
    """The first three, then how many more and where to look; one line each, whatever they hold."""
    errors: list[HsError] = [InputError(f"broken\n{number}", where="f") for number in range(5)]
    assert output.lines(ManyErrors(errors), "run", "dumps/") == [
        "hsa run: f: broken 0",
        "hsa run: f: broken 1",
        "hsa run: f: broken 2",
        "… and 2 more: hsa doctor dumps/",
    ]
    assert len(output.lines(ManyErrors(errors[:3]), "run")) == 3


def test_exit_codes_by_kind() -> None:
    """Usage is two wherever it is found, all else one."""
    assert output.exit_code(UsageError("x")) == 2
    assert output.exit_code(InputError("x")) == 1
    assert output.exit_code(ManyErrors([InputError("x"), InputError("y")])) == 1


BUG = """
import sys
from hs_analysis.cli import app
from hs_analysis.cli.context import command_line
import hs_analysis.catalogue as catalogue
def broken():
    raise ZeroDivisionError("a bug")
catalogue.load_catalogue = broken
sys.argv = ["hsa", "signals"]
app.main()
"""


def test_bug_keeps_its_traceback() -> None:
    """What is no user's mistake is told with the traceback and a request to report it, on stderr."""
    done = subprocess.run([sys.executable, "-c", BUG], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stdout == ""
    assert "ZeroDivisionError: a bug" in done.stderr
    assert "this is a bug in hsa" in done.stderr.splitlines()[-1]


def test_reader_that_leaves_early_is_no_error() -> None:
    """`hsa signals | head -1` prints no traceback."""
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "hs_analysis", "signals", "-o", "json"]
    done = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, text=True, check=False)
    os.close(write)
    assert done.stderr == ""


def test_two_writers(tmp_path: Path, dumps: Path, hsa: Hsa) -> None:
    """A locked folder is refused with the process that holds it."""
    folder = tmp_path / "run"
    folder.mkdir()
    hold = (
        "import sys\nfrom pathlib import Path\nfrom hs_analysis.pipeline.runner import lock\n"
        "with lock(Path(sys.argv[1])):\n    print('held', flush=True)\n    sys.stdin.readline()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", hold, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout is not None
        other.stdout.readline()
        done = hsa("run", dumps, "--run-dir", folder)
        other.kill()
    assert done.returncode == 1
    assert f"process {other.pid}" in done.stderr
    assert done.stdout == ""


def test_signals_in_every_form(hsa: Hsa) -> None:
    """The catalogue parses, and lists the metric names it looks for."""
    found = json.loads(hsa("signals", "-o", "json").stdout)["signals"]
    assert {"decode_tps", "ttft", "kv_usage", "offered_tps", "instances"} <= {row["signal"] for row in found}
    metrics = [m for row in found for source in row["sources"] for m in source["metrics"]]
    assert "vllm:generation_tokens_total" in metrics
    table = hsa("signals", "ttft").stdout
    assert "dynamo_frontend_time_to_first_token_seconds" in table
    assert "to switch it on: " in table
    assert "made from: request_rate and lengths" in hsa("signals", "offered_tps").stdout
