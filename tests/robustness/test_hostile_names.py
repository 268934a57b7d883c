"""Names that would be paths, SQL, HTML, YAML or PromQL somewhere: everywhere they stay names."""

from __future__ import annotations

import csv
import json
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import quote

import duckdb
import pytest
from cli.conftest import small_history
from outside import needs
from robustness.machine import LIMITS, Done, here, plain_refusal
from ruamel.yaml import YAML
from seeds import first

from hs_analysis.policy import load_all

MARK = "hsaprobe"
"""Stands in every name, to be found again in what is written."""

MODEL = (
    f'../../{MARK}/"q"\'; DROP VIEW series; --</script><img src=x onerror={MARK}()>{{{{ {MARK} }}}}\x1b[2J'
    "\n- a: &b !!python/object {x: [}\\}#\u202e\u2028\0"
)
NAMESPACE = f"/tmp/{MARK}: |\n  x"
LABELS = {
    "extra": '"} or vector(1) # ', f"na-me {MARK}": "v", "path": f"/etc/{MARK}", "long": MARK * 1250,
    "tag": f"<b id={MARK}>", "percent": "%s %d ${HOME} $(id) `id`",
}  # fmt: skip
FILES = (
    "a'; DROP TABLE x; --.json", "quote\".json", "-rf.json", "<img src=x onerror=alert(1)>.json",
    "line\nbreak.json",     "{{x}}.json", "b[0-9]*?.json", "%2e%2e%2f.json", "\u202eexe.json", "sp ace.json",
    "$(id).json", "a\\b.json",
)  # fmt: skip


def hostile(series: dict[str, Any]) -> dict[str, Any]:
    """Give a series hostile values of every label that names something, and labels nobody asked for."""
    metric = {**series["metric"], **LABELS}
    for name in ("model", "model_name"):
        if name in metric:
            metric[name] = MODEL
    metric["namespace"] = NAMESPACE
    for name in ("pod", "exported_pod"):
        if name in metric:
            metric[name] = f"{metric[name]}'\"<{MARK}>/../\\"
    return {**series, "metric": metric}


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[Done, Path]:
    """A whole run on hostile names, in a folder of its own that shows what was written beside it."""
    home = tmp_path_factory.mktemp("hostile")
    folder = home / "in'put [x]*"
    folder.mkdir()
    history = {name: [hostile(one) for one in series] for name, series in small_history(8).items()}
    history[f"{MARK}_<script>'\"{{}}\n"] = [hostile({"metric": {}, "values": [[1_782_864_000, "1"]]})]
    for number, (name, series) in enumerate(sorted(history.items())):
        for one in series:
            one["metric"]["__name__"] = name
        answer = {"status": "success", "data": {"resultType": "matrix", "result": series}}
        file = FILES[number] if number < len(FILES) else f"{number}.json"
        (folder / file).write_text(json.dumps(answer))
    return here("run", folder, "--run-dir", home / "run", *LIMITS), home


def test_the_run_works_and_writes_only_into_its_folder(done: tuple[Done, Path]) -> None:
    said, home = done
    assert said.code == 0, said.err
    assert sorted(path.name for path in home.iterdir()) == ["in'put [x]*", "run"]
    for path in (home / "run").rglob("*"):
        assert path.resolve().is_relative_to(home / "run")
        assert len(path.name) <= 255
        assert not set(path.name) & set("<>\"'\\\n{}* ")
    assert not Path("/tmp", MARK).exists()
    assert not set(said.out + said.err) & set("\0\x1b\u202e\u2028")


def service_of(home: Path) -> str:
    (service,) = json.loads((home / "run" / "summary.json").read_text())["services"]
    return str(service["service"])


def test_the_names_are_the_very_names(done: tuple[Done, Path]) -> None:
    """The service is namespace/model, in summary.json and in policy.yaml, letter for letter."""
    _, home = done
    service = service_of(home)
    assert service == f"{NAMESPACE}/{MODEL.lower()}"
    text = (home / "run" / "policy.yaml").read_text("utf-8")
    (document,) = YAML(typ="safe").load_all(text)
    assert document["metadata"]["service"] == service
    assert set(document) == {"schema", "metadata", "spec", "status"}
    (policy,) = load_all(text)
    assert policy.service == service


class Elements(HTMLParser):
    """Collects tags, attributes and the text outside of scripts."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))


def test_the_report_has_no_element_of_theirs(done: tuple[Done, Path]) -> None:
    _, home = done
    page = Elements()
    page.feed((home / "run" / "report.html").read_text("utf-8"))
    assert MARK in (home / "run" / "report.html").read_text("utf-8")
    for tag, attributes in page.tags:
        assert tag != "img"
        assert not any(name.startswith("on") for name in attributes), (tag, attributes)
        assert attributes.get("id") != MARK
        assert not (attributes.get("src") or "").startswith("x")
    assert sum(tag == "b" and attributes.get("id") == MARK for tag, attributes in page.tags) == 0


def test_exports_and_policy_pass_their_checks(done: tuple[Done, Path]) -> None:
    """`hsa validate` accepts the policy, and each file is YAML."""
    _, home = done
    checked = here("validate", home / "run" / "policy.yaml")
    assert checked.code == 0, checked.err
    files = sorted((home / "run" / "exports").rglob("*.y*ml"))
    assert files
    for path in files:
        for document in YAML(typ="safe").load_all(path.read_text("utf-8")):
            assert document


@pytest.mark.outside("promtool")
def test_promtool_accepts_the_rules(done: tuple[Done, Path]) -> None:
    """PromQL keeps its structure."""
    _, home = done
    rules = sorted((home / "run" / "exports" / "rules").glob("*.y*ml"))
    assert rules
    for path in rules:
        checked = subprocess.run([needs("promtool"), "check", "rules", path], capture_output=True, text=True)
        assert checked.returncode == 0, checked.stdout + checked.stderr


def test_sql_views_open_and_hold_the_names(done: tuple[Done, Path]) -> None:
    _, home = done
    with duckdb.connect(str(home / "run" / "run.duckdb"), read_only=True) as connection:
        views = [
            name
            for (name,) in connection.execute(
                "SELECT view_name FROM duckdb_views() WHERE NOT internal"
            ).fetchall()
        ]
        for view in views:
            connection.execute(f'SELECT count(*) FROM "{view}"').fetchone()
        services = connection.execute(
            "SELECT DISTINCT service FROM series WHERE service IS NOT NULL"
        ).fetchall()
    assert services == [(service_of(home),)]
    shown = here("sql", home / "run", "SELECT DISTINCT service FROM series", "-o", "json")
    assert shown.code == 0, shown.err


def test_links_of_hostile_services_lead_back(done: tuple[Done, Path]) -> None:
    """Evidence links percent-encode the name, and `hsa explain` finds the number behind them."""
    _, home = done
    (service,) = json.loads((home / "run" / "summary.json").read_text())["services"]
    links = {one["evidence"] for one in service["signals"] if one["evidence"]}
    assert links
    assert all(quote(service["service"], safe="") in link for link in links)
    explained = here("explain", min(links), "--run-dir", home / "run")
    assert explained.code == 0, explained.err


@pytest.mark.parametrize(
    "name",
    first(1, ["../up", "/etc/up", "x" * 300, "..", "a\nb"]),
)
def test_captures_are_names_too(name: str, done: tuple[Done, Path], tmp_path: Path) -> None:
    """A capture named like a path makes no path."""
    _, home = done
    folder = home / "in'put [x]*"
    out = home / "run"
    before = sorted(path.name for path in home.iterdir())
    said = here("doctor", folder, "--capture", f"{name}={folder}", "--run-dir", tmp_path / "own")
    assert [path.name for path in tmp_path.iterdir()] in (["own"], [])
    assert said.code == 0 or plain_refusal(said) or said.code == 2, said.err
    assert sorted(path.name for path in home.iterdir()) == before
    assert out.exists()


READING = """
[tables.runs]
match = "*.csv"
time = "ts"
labels = { experiment = "capture", pod = "pod" }
fixed = { role = "decode", model = "m" }

[tables.runs.columns]
tokens = { signal = "decode_tps" }
"""


def test_a_capture_named_by_a_cell_stays_a_name(tmp_path: Path) -> None:
    """A path, SQL or HTML in a table's cell names a capture, letter for letter, and nothing else."""
    names = [MODEL.replace("\0", "").strip(), f"/etc/{MARK}", "'; DROP VIEW series; --"]
    folder = tmp_path / "in"
    folder.mkdir()
    (tmp_path / "hsa.toml").write_text(READING)
    with (folder / "runs.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["ts", "experiment", "pod", "tokens"])
        writer.writerows(
            [1_782_864_000 + 60 * minute, name, f"p-{name}", 100 + minute]
            for name in names for minute in range(20)
        )  # fmt: skip
    said = here("ingest", folder, "--run-dir", tmp_path / "run", "--config", tmp_path / "hsa.toml")
    assert said.code == 0, said.err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["hsa.toml", "in", "run"]
    with duckdb.connect(str(tmp_path / "run" / "run.duckdb"), read_only=True) as connection:
        found = connection.execute("SELECT DISTINCT capture FROM series ORDER BY capture").fetchall()
    assert [capture for (capture,) in found] == sorted(names)


@pytest.mark.parametrize("form", ["dump", "grafana"])
def test_names_in_text_forms_stay_names(form: str, tmp_path: Path) -> None:
    """Labels of a text dump, and a legend, that would be paths or structure elsewhere."""
    folder = tmp_path / "in"
    folder.mkdir()
    label = f"../../{MARK}/'; DROP TABLE x; --</script><img src=x>"
    if form == "dump":
        line = f'{{__name__="vllm:num_requests_running", model_name="{label}", pod="{label}"}} 4 '
        (folder / "dump.txt").write_text(
            "".join(f"{line}{1_782_864_000_000 + 15_000 * i}\n" for i in range(50))
        )
    else:
        rows = "".join(f"2026-07-01 00:{i:02d}:00,{i}\n" for i in range(50))
        legend = f'vllm:num_requests_running{{model_name=""{label}"", pod=""{label}""}}'
        (folder / "panel.csv").write_text(f'"Time","{legend}"\n{rows}')
    said = here("ingest", folder, "--run-dir", tmp_path / "run", "--tz", "UTC")
    assert said.code == 0, said.err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "run"]
    with duckdb.connect(str(tmp_path / "run" / "run.duckdb"), read_only=True) as connection:
        ((labels,),) = connection.execute("SELECT labels FROM series").fetchall()
    assert dict(labels)["pod"] == label
