"""Gates end with their own exit codes after the result; init, sql and validate do what they say."""

from __future__ import annotations

import gzip
import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from hs_analysis.catalogue import load_catalogue
from hs_analysis.cli.app import app
from hs_analysis.cli.inspect import compact
from hs_analysis.collect.recording import rules_packs
from hs_analysis.schema.json_schema import shipped_schema
from hs_analysis.store import operators_pack

Hsa = Callable[..., subprocess.CompletedProcess[str]]
BROKEN = '{"status":"error","errorType":"bad_data","error":"no such thing"}'


def call(*arguments: str | Path, **more: Any) -> Result:
    """Run a command in this process."""
    return CliRunner().invoke(app, [str(a) for a in arguments], catch_exceptions=False, **more)


@pytest.fixture
def rejected(tmp_path: Path, dumps: Path) -> Path:
    """A folder of dumps in which one row is rejected."""
    source = next(iter(sorted(dumps.glob("*prompt_tokens_total.json"))))
    folder = tmp_path / "rejected"
    folder.mkdir()
    answer = json.loads(source.read_text())
    answer["data"]["result"][0]["values"][3][1] = "many"
    (folder / source.name).write_text(json.dumps(answer))
    return folder


def test_strict_stops_at_rejected_rows(rejected: Path, tmp_path: Path) -> None:
    """Exit 4 with the file, the count and where to look; without it the run goes on; twice alike."""
    run = tmp_path / "run"
    for _ in range(2):
        done = call("doctor", rejected, "--strict")
        assert (done.exit_code, done.stdout) == (4, "")
        assert "1 row rejected" in done.stderr
        assert 'hsa ingest INPUT keeps them, then hsa sql RUN "FROM rejected"' in done.stderr
        done = call("ingest", rejected, "--run-dir", run, "--strict")
        assert f'hsa sql {run} "FROM rejected"' in done.stderr
    assert call("doctor", rejected).exit_code == 0
    assert json.loads(call("sql", run, "SELECT reason FROM rejected", "-o", "json").stdout) == [
        {"reason": "bad_value"}
    ]


def test_a_cut_file_is_said_beside_its_rows(tmp_path: Path) -> None:
    """Whole lines before the cut are kept, so that the counts alone look like those of a whole file."""
    line = '{{__name__="vllm:num_requests_running", pod="w0", model_name="m"}} {0} {1}\n'
    text = "".join(line.format(k % 7, 1767225600000 + k * 30000) for k in range(5000))
    packed = gzip.compress(text.encode())
    (tmp_path / "dump.txt.gz").write_bytes(packed[: len(packed) // 2])
    done = call("ingest", tmp_path / "dump.txt.gz", "--run-dir", tmp_path / "run")
    assert done.exit_code == 0
    assert "warning: dump.txt.gz: truncated: the compressed data is cut" in done.stdout


def test_strict_stops_at_broken_files(rejected: Path, dumps: Path, tmp_path: Path) -> None:
    """A file that can't be read is a warning, with --strict exit 4; nothing readable at all is 1."""
    folder = tmp_path / "some"
    folder.mkdir()
    (folder / "broken.json").write_text(BROKEN)
    assert call("ingest", folder, "--run-dir", tmp_path / "a", "--strict").exit_code == 1
    source = next(iter(sorted(dumps.glob("*prompt_tokens_total.json"))))
    (folder / "fine.json").write_text(source.read_text())
    assert call("ingest", folder, "--run-dir", tmp_path / "b").exit_code == 0
    done = call("ingest", folder, "--run-dir", tmp_path / "c", "--strict")
    assert done.exit_code == 4
    assert "broken.json: can't be read" in done.stderr


def test_gates_close_after_the_result(finished: Path, tmp_path: Path) -> None:
    """The answer is printed all the same, then a line a condition, and exit 3; open gates are silent."""
    fine = call("report", finished, "--fail-on", "coverage<0.1", "--fail-on", f"verdict-changed:{finished}")
    assert fine.exit_code == 0
    done = call("report", finished, "-o", "json", "--fail-on", "coverage<2", "--fail-on", "rows_rejected>=0")
    assert done.exit_code == 3
    assert json.loads(done.stdout)["report"].endswith("report.html")
    lines = [line for line in done.stderr.splitlines() if line.startswith("hsa report: --fail-on")]
    assert len(lines) == 2
    assert call("report", finished, "--fail-on", "covrage<1").exit_code == 2


def test_a_cell_of_doctor_says_whole_numbers_and_what_a_second_one_means() -> None:
    """100 is no 1e+02, and how rarely values change stands beside how often they are scraped."""
    row = {"interval_s": 30.0, "news_s": 2520.0, "scale": "percent", "low": 1.4, "high": 100.0}
    rest = {
        "signal": "gpu_util",
        "role": "decode",
        "gaps": 0,
        "resets": 0,
        "coverage": 1.0,
        "difference": None,
    }
    cells = compact(row | rest)
    assert (cells["range"], cells["every"]) == ("1.4 to 100", "30 s, new every 2,520 s")
    assert compact(row | rest | {"news_s": 30.0})["every"] == "30 s"


def test_gates_of_doctor(finished: Path) -> None:
    """What doctor knows can be a condition there."""
    assert call("doctor", finished, "--fail-on", "check-failed").exit_code == 0
    assert call("doctor", finished, "--fail-on", "coverage<=1").exit_code == 3
    assert call("doctor", finished, "--fail-on", "refused").exit_code == 2


def test_init_writes_a_valid_file_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the current folder or a new one; never over what is there."""
    monkeypatch.chdir(tmp_path)
    done = call("init")
    assert done.stdout.splitlines() == ["wrote hsa.toml", "wrote hsa.schema.json", "next: hsa run dumps/"]
    named = Path("hsa.toml").read_text("utf-8").partition("\n")[0].removeprefix("#:schema ")
    assert json.loads(Path(named).read_text("utf-8"))["$id"].startswith("urn:hs-analysis:settings:")
    assert call("validate", "hsa.toml").stdout == "hsa.toml: valid, 0 settings\n"
    again = call("init")
    assert again.exit_code == 1
    assert "hsa.toml: is there already" in again.stderr
    assert call("init", "--force").exit_code == 0
    assert "next: hsa run dumps/ --config new/hsa.toml" in call("init", "new").stdout


def test_init_writes_rules_for_every_stack_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file a stack and nothing else, so that a folder with an hsa.toml can take them; never twice."""
    monkeypatch.chdir(tmp_path)
    assert call("init").exit_code == 0
    done = call("init", "--rules")
    lines = done.stdout.splitlines()
    assert lines[:-1] == [
        f"wrote {path}" for path in (Path("rules") / pack.file for pack in rules_packs(load_catalogue()))
    ]
    assert lines[-1].startswith("next: load the files of the stacks you run")
    assert all(Path(line.removeprefix("wrote ")).read_text("utf-8").startswith("# ") for line in lines[:-1])
    again = call("init", "--rules")
    assert (again.exit_code, "rules: is there already" in again.stderr) == (1, True)
    assert call("init", "--rules", "--force").exit_code == 0
    assert call("init", "new", "--rules", "--demo").exit_code == 2
    assert not Path("new").exists()


def test_init_demo_can_be_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The printed command works as it stands."""
    monkeypatch.chdir(tmp_path)
    found = json.loads(call("init", "demo", "--demo", "-o", "json").stdout)
    assert found["next"] == "hsa run demo/dynamo-pd --config demo/hsa.toml"
    assert (tmp_path / "demo" / "dynamo-pd" / "query_range.core.json.gz").stat().st_size < 1024 * 1024
    done = call("doctor", *found["next"].split()[2:], "-o", "json")
    assert done.exit_code == 0, done.output
    done = call("settings", *found["next"].split()[3:], "-o", "json")
    settings = {row["setting"]: row["value"] for row in json.loads(done.stdout)["settings"]}
    assert (settings["history.kind"], settings["slo.ttft"]) == ("pressure_test", "2s")


def test_sql_lists_and_queries(finished: Path, tmp_path: Path) -> None:
    """Tables with their rows; rows in every form; mistakes in one line with exit 2."""
    tables = {t["table"]: t for t in json.loads(call("sql", finished, "-o", "json").stdout)["tables"]}
    assert tables["samples"]["rows"] > 10_000
    assert "emitter_role" in tables["series"]["columns"]
    query = "SELECT signal, verdict FROM study WHERE fit = 'whole' ORDER BY ALL"
    rows = json.loads(call("sql", finished, query, "-o", "json").stdout)
    assert {row["verdict"] for row in rows} <= {"proportional", "guard", "unusable", "unknown"}
    assert call("sql", finished, query, "-o", "csv").stdout.startswith("signal,verdict\n")
    wrong = call("sql", finished, "SELECT * FROM studdy")
    assert (wrong.exit_code, wrong.stdout, len(wrong.stderr.splitlines())) == (2, "", 1)
    assert call("sql", tmp_path).exit_code == 1
    assert call("sql", finished, f"COPY study TO '{tmp_path}/x.csv'").exit_code == 2
    assert not (tmp_path / "x.csv").exists()


def test_sql_lists_the_pack_and_runs_a_query_of_it(finished: Path) -> None:
    """@ lists every query with what it answers; @name gives the rows that the text of --show gives."""
    listed = json.loads(call("sql", finished, "@", "-o", "json").stdout)["queries"]
    assert [query["query"] for query in listed] == [f"@{query.name}" for query in operators_pack()]
    assert all(query["answers"].endswith(".") for query in listed)
    text = call("sql", finished, "@noisiest_signals", "--show").stdout
    named = call("sql", finished, "@noisiest_signals", "-o", "csv").stdout
    assert named == call("sql", finished, "-", "-o", "csv", input=text).stdout
    assert len(named.splitlines()) > 5
    header = call("sql", finished, "@source_disagreements", "-o", "csv").stdout
    assert header.startswith("service,role,signal,source,other,difference_ratio,")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["@capacity"], "no query @capacity in the pack; did you mean @capacity_by_hour?"),
        (["--show"], "--show: there is no text to print; name a query of the pack: @name"),
        (["FROM study", "--show"], "--show: there is no text to print; name a query of the pack: @name"),
    ],
)
def test_sql_says_what_is_wrong_with_a_name(finished: Path, arguments: list[str], said: str) -> None:
    """One line with exit 2, and what may be meant."""
    done = call("sql", finished, *arguments)
    assert (done.exit_code, done.stdout) == (2, "")
    assert said in done.stderr


def test_sql_names_the_tables_that_a_query_lacks(rejected: Path, tmp_path: Path) -> None:
    """A run that stopped early has no study yet: the query names the table and what to type."""
    run = tmp_path / "early"
    assert call("ingest", rejected, "--run-dir", run).exit_code == 0
    done = call("sql", run, "@noisiest_signals")
    assert (done.exit_code, done.stdout) == (1, "")
    assert (
        f"@noisiest_signals reads study, and the run has no such table yet; hsa report {run}" in done.stderr
    )


def test_sql_says_when_rows_are_left_out(finished: Path) -> None:
    """The first thousand rows and a note; another limit, or none."""
    few = call("sql", finished, "SELECT t FROM samples", "-o", "csv")
    assert len(few.stdout.splitlines()) == 1001
    assert "the first 1,000 rows; --limit 0 prints all of them" in few.stderr
    every = call("sql", finished, "SELECT t FROM samples", "-o", "csv", "--limit", "0")
    assert len(every.stdout.splitlines()) > 10_000
    assert every.stderr == ""


def test_validate_prints_the_schemas_that_ship(finished: Path, tmp_path: Path) -> None:
    """Each as the file it is; a policy of a run has its own beside it, as its first line says."""
    for kind in ("policy", "settings", "summary"):
        text = call("validate", "--schema", kind).stdout
        assert text == shipped_schema(kind)
        assert json.loads(call("validate", "--schema", kind, "-o", "json").stdout) == json.loads(text)
    first = (finished / "policy.yaml").read_text("utf-8").partition("\n")[0]
    named = finished / first.removeprefix("# yaml-language-server: $schema=")
    assert named.read_text("utf-8") == shipped_schema("policy")
    for wrong in ([], ["--schema", "policy", finished / "policy.yaml"]):
        done = call("validate", *wrong)
        assert (done.exit_code, done.stdout) == (2, "")
        assert "name a file, or --schema policy, settings or summary" in done.stderr


def test_validate_tells_kinds_apart(finished: Path, tmp_path: Path) -> None:
    """A policy and a settings file are known by what they are; anything else is refused with the kinds."""
    policy = call("validate", finished / "policy.yaml")
    assert policy.exit_code == 0
    assert "valid, policy of demo/m" in policy.stdout
    broken = tmp_path / "p.yaml"
    broken.write_text((finished / "policy.yaml").read_text().replace("mode: metric", "mode: magic"))
    done = call("validate", broken)
    assert done.exit_code == 1
    assert "mode" in done.stderr
    assert call("export-plan", "--last", "1d", "--out", tmp_path / "plan", "-q").exit_code == 0
    assert ": valid, " in call("validate", tmp_path / "plan" / "plan.json").stdout
    (tmp_path / "plan.json").write_text("{")
    assert call("validate", tmp_path / "plan.json").exit_code == 1
    other = tmp_path / "notes.txt"
    other.write_text("hello")
    assert "no kind of file that can be checked" in call("validate", other).stderr
    assert call("validate", tmp_path / "none").exit_code == 1


def test_validate_takes_many_files(finished: Path, tmp_path: Path) -> None:
    """A line each; the problems of all of them together, whichever come first."""
    settings, wrong = tmp_path / "hsa.toml", tmp_path / "wrong.toml"
    settings.write_text('[slo]\nttft = "2s"\n')
    wrong.write_text('[slo]\nttfx = "2s"\nquantile = 7\n')
    done = call("validate", settings, finished / "policy.yaml")
    assert [line.split(":")[0] for line in done.stdout.splitlines()] == [
        str(settings),
        str(finished / "policy.yaml"),
    ]
    rows = json.loads(call("validate", settings, settings, "-o", "json").stdout)["files"]
    assert [row["kind"] for row in rows] == ["settings", "settings"]
    alone = call("validate", wrong).stderr.splitlines()
    done = call("validate", wrong, settings, tmp_path / "none")
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr.splitlines()[:-1] == alone
    assert str(tmp_path / "none") in done.stderr.splitlines()[-1]
