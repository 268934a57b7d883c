"""``hsa pull`` and ``hsa export-plan`` as users meet them: one-line errors, clean streams, no credentials."""

from __future__ import annotations

import csv
import io
import json
import os
import shlex
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from collect.recording_server import METRIC, Asked, Reply, failure, serving, small_prometheus, success
from typer.testing import CliRunner

from hs_analysis.cli.app import app
from hs_analysis.pipeline import plan_files

TOKEN, PASSWORD = "tok-3f9a-very-secret", "pass-word-9-very-secret"
WINDOW = ("--from", "2026-11-24T00:00:00Z", "--to", "2026-11-24T01:00:00Z")
ASK = ("pull", "--url", "http://p")
FAST = ("--rate", "1000000")


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in an empty folder, without settings of the environment."""
    for name in [name for name in os.environ if name.startswith("HSA_")]:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def url() -> Iterator[str]:
    """A small Prometheus."""
    with serving(small_prometheus) as (address, _):
        yield address


def hsa(*arguments: str, **environment: str) -> Any:
    """Run the program in this process."""
    return CliRunner().invoke(app, list(arguments), env=environment)


def everything(place: Path) -> bytes:
    """All bytes of all files, and their names."""
    return b"\n".join(str(p).encode() + p.read_bytes() for p in place.rglob("*") if p.is_file())


def one_line(done: Any, exit_code: int) -> str:
    """The only line of an error: nothing on stdout, no traceback."""
    assert done.exit_code == exit_code, done.output
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    return line


def test_pull_prints_what_came(url: str) -> None:
    """A table for people, on stdout alone; notes on stderr; nothing with -q."""
    done = hsa("pull", "--url", url, *WINDOW, *FAST)
    assert done.exit_code == 0, done.output
    assert "vllm:generation_tokens_total" in done.stdout
    assert "next: hsa doctor dumps, then hsa run dumps --slo ttft=… --slo tbt=… --startup …" in done.stdout
    plan, fetched = done.stderr.splitlines()
    assert plan.startswith("plan: metrics 1, files 1 (")
    assert fetched.startswith("pull: files 1 fetched, 0 there already (")
    again = hsa("pull", "--url", url, *WINDOW, *FAST, "-q")
    assert (again.exit_code, again.stderr) == (0, "")
    assert "vllm:generation_tokens_total" in again.stdout


@pytest.mark.parametrize("output", ["json", "csv"])
def test_pull_for_programs(url: str, output: str) -> None:
    """JSON has all, CSV one record a file."""
    done = hsa("pull", "--url", url, *WINDOW, *FAST, "-q", "-o", output)
    if output == "csv":
        (row,) = csv.DictReader(io.StringIO(done.stdout))
    else:
        found = json.loads(done.stdout)
        (row,) = found["files"]
        assert found["start"] == "2026-11-24T00:00:00Z"
        assert "up" in found["absent"]
    assert row["file"] == "vllm__generation_tokens_total.000.json.gz"
    assert (str(row["series"]), str(row["points"]), row["state"]) == ("4", str(241 + 3 * 240), "fetched")


def test_going_on_needs_no_flags_and_no_clock(url: str) -> None:
    """The plan in the folder is gone on with; a request that contradicts it is refused without --force."""
    assert hsa("pull", "--url", url, "--last", "2h", *FAST).exit_code == 0
    plan = Path("dumps/plan.json").read_bytes()
    done = hsa("pull", "--url", url, *FAST)
    assert done.exit_code == 0
    assert "going on with dumps/plan.json" in done.stderr
    assert "0 fetched, 1 there already" in done.stderr
    assert Path("dumps/plan.json").read_bytes() == plan
    assert "0 fetched" in hsa("pull", "--url", url, "--last", "2h", *FAST).stderr
    line = one_line(hsa("pull", "--url", url, "--last", "3h", *FAST), 1)
    assert "holds the plan of another request (--last was 7200" in line
    assert "1 fetched" in hsa("pull", "--url", url, "--last", "3h", *FAST, "--force").stderr


def test_other_files_are_not_mixed_in(url: str) -> None:
    """A folder with somebody else's dumps is left alone, even with --force."""
    Path("dumps").mkdir()
    Path("dumps/mine.json").write_text("{}")
    line = one_line(hsa("pull", "--url", url, *WINDOW, *FAST), 1)
    assert "is not empty (mine.json)" in line
    assert hsa("pull", "--url", url, *WINDOW, *FAST, "--force").exit_code == 1
    assert Path("dumps/mine.json").read_text() == "{}"


def test_a_plan_made_by_hand_is_run(url: str) -> None:
    """export-plan writes it, pull runs the very same queries."""
    done = hsa("export-plan", *WINDOW, "--step", "15s", "--exporter", "vllm", "-q")
    assert done.exit_code == 0
    pulled = hsa("pull", "--url", url, *FAST, "-q", "-o", "json")
    files = json.loads(pulled.stdout)["files"]
    assert len(files) == len(done.stdout.splitlines()) - 1
    assert {file["metric"] for file in files if file["series"]} == {"vllm:generation_tokens_total"}


@pytest.mark.parametrize(
    ("given", "environment"),
    [
        (("--token-file", "secret"), {}),
        ((), {"HSA_TOKEN": TOKEN}),
        (("--user", "ann", "--password-file", "secret"), {}),
        ((), {"HSA_USER": "ann", "HSA_PASSWORD": TOKEN}),
        (("--token-command", "cat secret"), {}),
        ((), {"HSA_TOKEN_COMMAND": "cat secret"}),
    ],
)
@pytest.mark.parametrize("fault", ["refused", "busy", "warned", "none"])
def test_credentials_appear_nowhere(
    place: Path, given: tuple[str, ...], environment: dict[str, str], fault: str
) -> None:
    """Sent in the header and in no output, file or exception, although the server quotes them."""
    secret = place / "secret"
    secret.write_text(f"{TOKEN}\n")
    sent: list[str] = []

    def script(asked: Asked) -> Reply:
        header = asked.headers["Authorization"]
        sent.append(header)
        if fault == "refused":
            return Reply(401, f"no such token {header} {TOKEN}".encode())
        if fault == "busy" and len(sent) % 3 == 1:
            return Reply(429, header.encode(), {"Retry-After": "0.01"})
        if fault == "warned" and asked.for_data:
            return failure(400, "bad_data", f"{TOKEN} {header}")
        return small_prometheus(asked)

    with serving(script) as (address, _):
        done = hsa("pull", "--url", address, *WINDOW, *FAST, *given, **environment)
    encoded = sent[0].split()[1]
    secret.unlink()
    shown = (
        done.stdout + done.stderr + repr(done.exception) + repr(getattr(done.exception, "__context__", ""))
    )
    for word in (TOKEN, encoded):
        assert word not in shown
        assert word.encode() not in everything(place)
    assert done.exit_code == (1 if fault in ("refused", "warned") else 0)
    if fault == "refused":
        runs = bool({"--token-command"}.intersection(given) or environment.get("HSA_TOKEN_COMMAND"))
        hint = (
            "that the command of --token-command gives a token for this server"
            if runs
            else ("the token or the password")
        )
        what = f"the server refused the credentials (HTTP 401); check {hint}"
        assert one_line(done, 1) == f"hsa pull: {address}: {what}"
        assert len(sent) == 1 + runs


def test_commands_name_the_place_of_credentials_only(place: Path) -> None:
    """The token's value is in no command and not in plan.json."""
    (place / "token").write_text(TOKEN)
    done = hsa("export-plan", *WINDOW, HSA_TOKEN=TOKEN)
    assert '-H "Authorization: Bearer $HSA_TOKEN"' in done.stdout
    filed = hsa("export-plan", *WINDOW, "--token-file", "token", "--out", "other")
    assert f"Bearer $(cat {shlex.quote(str(place / 'token'))})" in filed.stdout
    (place / "token").unlink()
    assert TOKEN not in done.output + filed.output
    assert TOKEN.encode() not in everything(place)


@pytest.mark.parametrize(
    ("arguments", "environment", "text"),
    [
        (("pull", "--url", "localhost:9090"), {}, "--url: is no http address; write e.g. http://localhost:9090"),
        (("pull", "--url", f"http://ann:{PASSWORD}@p"), {}, "--url: holds credentials"),
        ((*ASK, "--from", "2026-11-24T00:00:00Z", "--last", "1d"), {}, "--from and --last"),
        ((*ASK, "--step", "15"), {}, "--step: '15' has no unit"),
        ((*ASK, "--match", "pod=p"), {}, "--match: no label matcher at 'pod=p'"),
        ((*ASK, "--exporter", "vlm"), {}, "no such exporter 'vlm'; did you mean vllm?"),
        ((*ASK, "--token-file", "gone"), {}, "--token-file gone: can't be read (No such file"),
        (
            (*ASK, "--user", "ann"), {"HSA_TOKEN": TOKEN},
            "the token and the user: are given together; keep one",
        ),
        (ASK, {"HSA_TOKEN": f"{TOKEN}\nX: y"}, "HSA_TOKEN: is no credential"),
        ((*ASK, "--to", "2020-01-01T00:00:00Z", "--timeout", "0s"), {}, "--timeout: '0s': a duration"),
        (("export-plan", "--from", "2999-01-01T00:00:00Z"), {}, "the window ends before it starts"),
        (("export-plan", "--series", "gone"), {}, "--series gone: can't be read (No such file"),
        (("export-plan", "--tool", "promtool", "--user", "ann"), {}, "promtool takes no user and password"),
        (("export-plan", "--tool", "promtool", "--tenant", "a"), {}, "promtool takes no token and no tenant"),
    ],
)  # fmt: skip
def test_wrong_usage(arguments: tuple[str, ...], environment: dict[str, str], text: str) -> None:
    """Exit 2, one line that names the flag, before anything is asked or written."""
    line = one_line(hsa(*arguments, **environment), 2)
    assert text in line
    assert PASSWORD not in line
    assert TOKEN not in line
    assert not list(Path().iterdir())


def test_a_server_without_the_metrics(url: str) -> None:
    """The line says what to check; no plan is left that would be gone on with."""
    line = one_line(hsa("pull", "--url", url, *WINDOW, *FAST, "--match", 'pod="other"'), 1)
    assert "has no metric of the catalogue in this window" in line
    assert not list(Path().iterdir())


def test_a_window_after_the_data_says_when_they_end() -> None:
    """The command that would fetch the last week of them differs by what the line says to add."""
    end = datetime(2026, 11, 24, 1, tzinfo=UTC).timestamp()

    def ended(asked: Asked) -> Reply:
        what = asked.path.rpartition("/")[2]
        if what in ("values", "series") and float(asked.parameters.get("start", ["0"])[0]) > end:
            return success([])
        if what == "query_range":
            row = {"metric": {}, "values": [[end - 3600, "1"], [end, "1"]]}
            return success({"resultType": "matrix", "result": [row]})
        return small_prometheus(asked)

    after = ("--last", "7d", "--to", "2026-12-24T00:00:00Z")
    with serving(ended) as (address, _):
        line = one_line(hsa("pull", "--url", address, *after, *FAST), 1)
    assert "has no metric of the catalogue in this window" in line
    assert f"samples of {METRIC} end about 2026-11-24T01:00:00Z: ask with --to 2026-11-24T02:00:00Z" in line


def test_one_query_that_fails_does_not_stop_the_others(place: Path) -> None:
    """The rest is there; the same command fetches what was missing."""
    broken = True

    def script(asked: Asked) -> Reply:
        if asked.for_data and broken and asked.one("query").startswith("vllm:num_requests_running["):
            return failure(400, "bad_data", "boom")
        return small_prometheus(asked)

    assert hsa("export-plan", *WINDOW, "--exporter", "vllm", "-q").exit_code == 0
    with serving(script) as (address, _):
        done = hsa("pull", "--url", address, *FAST)
        assert "the server refused the query (HTTP 400, bad_data: boom)" in done.stderr.splitlines()[-1]
        assert "0 there already, 1 failed" in done.stderr
        assert (done.exit_code, done.stdout) == (1, "")
        broken = False
        assert "pull: files 1 fetched" in hsa("pull", "--url", address, *FAST).stderr


def test_the_servers_warnings_are_shown(place: Path) -> None:
    """Once on stderr while pulling, and in the result."""

    def script(asked: Asked) -> Reply:
        reply = small_prometheus(asked)
        if not asked.for_data:
            return reply
        return Reply(200, json.dumps({**json.loads(reply.body), "warnings": ["store unreachable"]}).encode())

    with serving(script) as (address, _):
        done = hsa("pull", "--url", address, *WINDOW, *FAST, "-o", "json")
    assert "warning: vllm__generation_tokens_total.000.json.gz: store unreachable" in done.stderr
    assert [w["text"] for w in json.loads(done.stdout)["warnings"]] == ["store unreachable"]


def test_two_at_once_are_refused(url: str, place: Path) -> None:
    """The second says who is at work."""
    from hs_analysis.pipeline.runner import lock

    Path("dumps").mkdir()
    with lock(Path("dumps")):
        assert "another hsa is writing this folder" in one_line(hsa("pull", "--url", url, *WINDOW, *FAST), 1)


def test_a_plan_that_is_none(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Too large or too deep as well; nothing is overwritten; no file is out of the folder or of the API."""
    Path("dumps").mkdir()
    monkeypatch.setattr(plan_files, "MOST_PLAN_BYTES", 2_000_000)
    endless = " " * 2_000_001
    for text in ("{}", "[]", "no json", '{"schema":"hs-analysis/plan/v9"}', "[" * 100_000, endless):
        Path("dumps/plan.json").write_text(text)
        assert "is no plan of this hsa" in one_line(hsa("pull", "--url", url, *WINDOW, *FAST), 1)
    Path("dumps/plan.json").unlink()
    assert hsa("export-plan", *WINDOW, "-q").exit_code == 0
    plan: dict[str, Any] = json.loads(Path("dumps/plan.json").read_text())
    for change in ({"file": "../evil.json.gz"}, {"api": "../admin"}, {"api": "query", "match": []}):
        files = [{**plan["files"][0], **change}, *plan["files"][1:]]
        Path("dumps/plan.json").write_text(json.dumps({**plan, "files": files}))
        assert "is no plan of this hsa" in one_line(hsa("pull", "--url", url, *FAST), 1)
    assert not Path("evil.json.gz").exists()
