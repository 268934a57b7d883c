"""The weekly recipe: the script as it is, on a real Prometheus; its objects as Kustomize makes them."""

from __future__ import annotations

import copy
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from export.prometheus_server import prometheus_with, read_query_range
from ruamel.yaml import YAML
from typer.testing import CliRunner

from hs_analysis.cli.app import app
from hs_analysis.errors import GateFailed

WEEK_S = 7 * 86_400.0
RECIPE = Path(__file__).resolve().parents[2] / "docs" / "recipes" / "weekly"
SETTINGS = """[slo]
ttft = "2s"
tbt = "50ms"

[history]
kind = "pressure_test"
"""


def objects(name: str) -> Any:
    """The one document of a file of the recipe."""
    return YAML(typ="safe").load((RECIPE / name).read_text("utf-8"))


def test_the_objects_name_each_other() -> None:
    """What the job mounts is there: claim, script and settings; each file of the recipe is in the list."""
    whole, job, claim = objects("kustomization.yaml"), objects("cronjob.yaml"), objects("volume.yaml")
    (made,) = whole["configMapGenerator"]
    listed = {*whole["resources"], *made["files"], "kustomization.yaml"}
    assert listed == {path.name for path in RECIPE.iterdir()}
    work = job["spec"]["jobTemplate"]["spec"]
    pod = work["template"]["spec"]
    (box,) = pod["containers"]
    volumes = {one["name"]: one for one in pod["volumes"]}
    mounts = {one["mountPath"]: volumes[one["name"]] for one in box["volumeMounts"]}
    assert mounts["/recipe"]["configMap"]["name"] == made["name"]
    assert mounts["/state"]["persistentVolumeClaim"]["claimName"] == claim["metadata"]["name"]
    environment = {one["name"]: one["value"] for one in box["env"]}
    assert mounts.keys() >= {environment["STATE"], environment["TMPDIR"]}
    for path in (box["command"][-1], environment["CONFIG"]):
        assert Path(path).parent == Path("/recipe")
        assert Path(path).name in made["files"]
    assert box["image"] == whole["images"][0]["name"]
    (rule,) = work["podFailurePolicy"]["rules"]
    assert rule["onExitCodes"]["containerName"] == box["name"]
    assert GateFailed.exit_code in rule["onExitCodes"]["values"]
    assert pod["restartPolicy"] == "Never"  # a pod failure policy wants it


def test_settings_of_the_recipe_are_valid() -> None:
    """What users start from passes the check that the page tells them to run."""
    done = CliRunner().invoke(app, ["validate", str(RECIPE / "hsa.toml")])
    assert done.exit_code == 0, done.output


def test_the_hook_finds_its_files(root: Path) -> None:
    """The pre-commit hook runs a command that there is, on settings and policies in any folder."""
    (hook,) = YAML(typ="safe").load((root / ".pre-commit-hooks.yaml").read_text("utf-8"))
    assert hook["entry"] == "hsa validate"
    names = ("hsa.toml", "a/b/policy.yaml", "xhsa.toml", "a/policy.yaml.j2", "plan.json")
    assert [name for name in names if re.search(hook["files"], name)] == ["hsa.toml", "a/b/policy.yaml"]
    assert hook["files"] in (root / "docs" / "howto" / "weekly.md").read_text("utf-8")


def test_the_workflow_runs_the_script_with_its_settings(root: Path) -> None:
    """Each variable that the script demands is set, and state is kept where the script keeps it."""
    flow = YAML(typ="safe").load((root / "docs" / "recipes" / "github-workflow.yaml").read_text("utf-8"))
    week = flow["jobs"]["week"]
    demanded = re.findall(r"\$\{(\w+):\?", (RECIPE / "weekly.sh").read_text("utf-8"))
    assert set(demanded) == {"HSA_URL", "STATE", "CONFIG"}
    assert set(demanded) <= week["env"].keys()
    kept = [step["with"]["path"] for step in week["steps"] if "cache" in step.get("uses", "")]
    assert [Path(week["env"]["STATE"]).name] == kept
    assert {"run": "sh weekly.sh"} in week["steps"]


AWS = """#!/bin/sh
echo "aws $*" >> "$SAID"
"""
GH = """#!/bin/sh
case $2 in view) grep -q "^gh pr create" "$SAID" ;; *) echo "gh $*" >> "$SAID" ;; esac
"""
"""Programs that write down what they are asked; a request that was asked for is there."""


def published(folder: Path, **more: str) -> subprocess.CompletedProcess[str]:
    """Run the script that publishes."""
    programs = folder / "bin"
    programs.mkdir(exist_ok=True)
    for name, text in (("aws", AWS), ("gh", GH)):
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    who = {f"GIT_{who}_{what}": "a" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    environment = {
        "PATH": f"{programs}:{os.environ['PATH']}", "STATE": str(folder / "state"), "WEEK": "2026-W48",
        "SAID": str(folder / "said"), "HOME": str(folder), **who, **more,
    }  # fmt: skip
    return subprocess.run(
        ["sh", str(RECIPE / "publish.sh")], env=environment, capture_output=True, text=True, check=False
    )


@pytest.mark.outside("git")
def test_a_week_is_published(tmp_path: Path) -> None:
    """A bucket gets the newest week, a clone a branch and a request; done again, the branch moves."""
    latest = tmp_path / "state" / "latest"
    latest.mkdir(parents=True)
    for name, text in (
        ("answer.md", "apply"),
        ("changes.md", "more"),
        ("policy.yaml", "a: 1"),
        ("gate", "3"),
    ):
        (latest / name).write_text(f"{text}\n")
    git = ["git", "-c", "user.name=a", "-c", "user.email=a", "-C"]
    subprocess.run(["git", "init", "-q", "--bare", "-b", "main", str(tmp_path / "origin")], check=True)
    subprocess.run(
        ["git", "clone", "-q", str(tmp_path / "origin"), str(tmp_path / "clone")], check=True, stderr=-3
    )
    clone = str(tmp_path / "clone")
    subprocess.run([*git, clone, "commit", "-q", "--allow-empty", "-m", "first"], check=True)
    subprocess.run([*git, clone, "push", "-q", "origin", "HEAD:main"], check=True)
    subprocess.run([*git, clone, "remote", "set-head", "origin", "main"], check=True)
    done = published(tmp_path, BUCKET="s3://b/hsa/", REPO=clone)
    assert (done.returncode, done.stderr) == (0, "")
    bucket, request = (tmp_path / "said").read_text().splitlines()
    assert bucket == f"aws s3 cp --recursive --only-show-errors {latest} s3://b/hsa/2026-W48"
    assert "--head hsa-2026-W48 --title hsa: 2026-W48, something to act on" in request
    assert request.endswith("--body-file hsa/changes.md")
    show = [*git, str(tmp_path / "origin"), "show", "hsa-2026-W48:hsa/policy.yaml"]
    assert subprocess.run(show, capture_output=True, text=True, check=True).stdout == "a: 1\n"
    (latest / "policy.yaml").write_text("a: 2\n")
    assert published(tmp_path, REPO=clone).returncode == 0
    assert (tmp_path / "said").read_text().count("gh pr create") == 1
    assert subprocess.run(show, capture_output=True, text=True, check=True).stdout == "a: 2\n"
    wrong = published(tmp_path, BUCKET="https://b")
    assert wrong.returncode == 2
    assert wrong.stderr == "BUCKET: https://b begins with neither s3:// nor gs://\n"
    assert published(tmp_path).returncode == 0


def later(series: list[dict], weeks: int, slower: float) -> list[dict]:
    """The same series some weeks later, from workers that get through fewer tokens."""
    found = copy.deepcopy(series)
    for row in found:
        name = row["metric"]["__name__"]
        factor = 1 / slower if name.endswith(("_tokens_total", "tokens_sum")) else 1.0
        row["values"] = [
            [t + weeks * WEEK_S, value if factor == 1.0 else f"{float(value) * factor:.6g}"]
            for t, value in row["values"]
        ]
    return found


@pytest.fixture(scope="module")
def sample(root: Path) -> list[dict]:
    """The sample's series."""
    return read_query_range(root / "data_samples" / "dynamo-pd")


@pytest.fixture(scope="module")
def three_weeks(sample: list[dict]) -> Iterator[tuple[str, float]]:
    """A Prometheus with a load test of three weeks, the last one on slower workers; where the first ends."""
    rows = [*sample, *later(sample, 1, 1.0), *later(sample, 2, 1.5)]
    end = max(t for row in sample for t, _ in row["values"])
    with prometheus_with(rows) as url:
        yield url, end


def weekly(
    url: str, folder: Path, week: str, until: float, *, python: Path = Path(sys.executable),
    settings: str = SETTINGS, **more: str,
) -> subprocess.CompletedProcess[str]:  # fmt: skip
    """Run the recipe's script for one week, with the program as an interpreter has it."""
    bin_folder = folder / "bin"
    bin_folder.mkdir(exist_ok=True)
    program = bin_folder / "hsa"
    program.write_text(f'#!/bin/sh\nexec "{python}" -m hs_analysis "$@"\n')
    program.chmod(0o755)
    (folder / "hsa.toml").write_text(settings)
    clean = {name: value for name, value in os.environ.items() if not name.startswith("HSA_")}
    environment = {
        **clean, "PATH": f"{bin_folder}:{os.environ['PATH']}", "NO_PROXY": "127.0.0.1", "HSA_URL": url,
        "STATE": str(folder / "state"), "CONFIG": str(folder / "hsa.toml"), "WEEK": week,
        "UNTIL": datetime.fromtimestamp(until, UTC).isoformat(), "PULL_FLAGS": "--rate 1000 -q", **more,
    }  # fmt: skip
    return subprocess.run(
        ["sh", str(RECIPE / "weekly.sh")], env=environment, cwd=folder, capture_output=True, text=True,
        timeout=900, check=False,
    )  # fmt: skip


HSA = """#!/bin/sh
echo "$*" | sed "s#$STATE/##g; s# --config [^ ]*##; s# -o markdown##; s#--url [^ ]* ##" >> "$SAID"
case $1 in
  pull) mkdir -p "$STATE/$WEEK/dumps" ;;
  run | report)
    case "$*" in *"$FAILS"*) [ -z "$FAILS" ] || exit "$FAILS_WITH" ;; esac
    mkdir -p "$STATE/$WEEK/run"
    touch "$STATE/$WEEK/run/report.html" "$STATE/$WEEK/run/summary.json" ;;
esac
"""
"""A program that writes down what it is asked, and does not do it where that holds a word."""


def asked(folder: Path, week: str, **more: str) -> tuple[int, list[str], str]:
    """Run the script with that program: exit code, what was asked but for comparisons, and what was said."""
    programs = folder / "bin"
    programs.mkdir(exist_ok=True)
    (programs / "hsa").write_text(HSA)
    (programs / "hsa").chmod(0o755)
    (folder / "said").write_text("")
    environment = {
        "PATH": f"{programs}:{os.environ['PATH']}", "HSA_URL": "u", "STATE": str(folder / "state"),
        "CONFIG": "c", "WEEK": week, "UNTIL": f"end-of-{week}", "SAID": str(folder / "said"),
        "FAILS": "", "FAILS_WITH": "1", **more,
    }  # fmt: skip
    done = subprocess.run(
        ["sh", str(RECIPE / "weekly.sh")], env=environment, capture_output=True, text=True, check=False
    )
    lines = (folder / "said").read_text().splitlines()
    return done.returncode, [line for line in lines if not line.startswith("compare")], done.stderr


def gate(week: str) -> str:
    """What the run of a week is compared with."""
    return f"--fail-on decision-changed:{week}/run"


def test_a_week_is_added_to_the_run_of_the_last(tmp_path: Path) -> None:
    """What follows the last week is pulled alone; a run that holds as many weeks as it may begins anew."""
    assert asked(tmp_path, "2026-W48") == (
        0,
        [
            "pull --last 7d --to end-of-2026-W48 --out 2026-W48/dumps",
            "run 2026-W48/dumps --run-dir 2026-W48/run",
        ],
        "",
    )
    (tmp_path / "state" / "2026-W48" / "run" / "manifest.json").write_text("w48")
    code, lines, _ = asked(tmp_path, "2026-W50", RUN_WEEKS="2")
    assert (code, lines) == (
        0,
        [
            "pull --from end-of-2026-W48 --to end-of-2026-W50 --out 2026-W50/dumps",
            f"run 2026-W50/dumps --extend 2026-W50/run {gate('2026-W48')}",
        ],
    )
    assert (tmp_path / "state" / "2026-W50" / "run" / "manifest.json").read_text() == "w48"
    code, lines, _ = asked(tmp_path, "2026-W51")
    assert lines[-1] == f"run 2026-W51/dumps --run-dir 2026-W51/run {gate('2026-W50')}"


def test_a_week_that_cant_be_added_is_read_by_itself(tmp_path: Path) -> None:
    """That is said in a line; a wrong setting and an interrupt end the script, which goes on where it was."""
    asked(tmp_path, "2026-W48")
    code, lines, said = asked(tmp_path, "2026-W49", FAILS="--extend", FAILS_WITH="130", RUN_WEEKS="4")
    assert (code, len(lines), said) == (130, 2, "")
    code, lines, said = asked(tmp_path, "2026-W49", FAILS="--extend", UNTIL="later", RUN_WEEKS="4")
    assert code == 0
    assert said == (
        "weekly.sh: 2026-W49: this week can't be added to last week's run; seven days are pulled and read by "
        "themselves\n"
    )
    assert lines == [
        f"run 2026-W49/dumps --extend 2026-W49/run {gate('2026-W48')}",
        "pull --last 7d --to end-of-2026-W49 --out 2026-W49/dumps",
        f"run 2026-W49/dumps --run-dir 2026-W49/run {gate('2026-W48')}",
    ]
    code, lines, _ = asked(tmp_path, "2026-W50", RUN_WEEKS="4")
    assert "--extend 2026-W50/run" in lines[-1]
    assert (tmp_path / "state" / "2026-W50" / "weeks").read_text() == "2\n"


def test_a_week_is_pulled_again_where_its_run_cant_be_renewed(tmp_path: Path) -> None:
    """After an upgrade the files that were read are gone; the run of before stays until others are there."""
    asked(tmp_path, "2026-W48")
    run = tmp_path / "state" / "2026-W48" / "run" / "old"
    run.touch()
    assert asked(tmp_path, "2026-W48") == (0, ["report 2026-W48/run"], "")
    code, lines, said = asked(tmp_path, "2026-W48", FAILS="report ", UNTIL="later")
    assert code == 0
    assert said == (
        "weekly.sh: 2026-W48: the run can't be renewed, and its files were removed; seven days are pulled "
        "and read by themselves\n"
    )
    assert lines == [
        "report 2026-W48/run",
        "pull --last 7d --to end-of-2026-W48 --out 2026-W48/dumps",
        "run 2026-W48/dumps --run-dir 2026-W48/run",
    ]
    assert not run.exists()


@pytest.mark.slow
@pytest.mark.outside("prometheus", "promtool")
def test_three_mondays(three_weeks: tuple[str, float], tmp_path: Path) -> None:
    """The same week passes; slower workers close the gate: changes.md says what moved.

    So do a retry, and a week that is read again after an upgrade. A run of two weeks is added to.
    """
    url, end = three_weeks
    latest, state = tmp_path / "state" / "latest", tmp_path / "state"
    first = weekly(url, tmp_path, "2026-W48", end + 60)
    assert first.returncode == 0, first.stderr
    names = {path.name for path in latest.iterdir()}
    assert names == {"answer.md", "report.html", "summary.json", "policy.yaml", "gate"}
    assert not (state / "2026-W48" / "dumps").exists()
    second = weekly(url, tmp_path, "2026-W49", end + WEEK_S + 60)
    assert second.returncode == 0, second.stderr
    assert (latest / "changes.md").exists()
    shutil.rmtree(state / "2026-W49")
    grown = weekly(url, tmp_path, "2026-W49", end + WEEK_S + 60, RUN_WEEKS="2")
    assert grown.returncode in (0, 3), grown.stderr
    assert "new files" in grown.stderr
    assert (state / "2026-W49" / "weeks").read_text() == "2\n"
    shutil.rmtree(state / "2026-W49")
    assert weekly(url, tmp_path, "2026-W49", end + WEEK_S + 60).returncode == 0
    third = weekly(url, tmp_path, "2026-W50", end + 2 * WEEK_S + 60, KEEP_WEEKS="2")
    assert third.returncode == 3, third.stderr
    assert "--fail-on decision-changed" in third.stderr
    assert "target" in (latest / "changes.md").read_text()
    assert (latest / "gate").read_text() == "3\n"
    assert sorted(path.name for path in state.iterdir()) == ["2026-W49", "2026-W50", "latest"]
    again = weekly(url, tmp_path, "2026-W50", end + 2 * WEEK_S + 60)
    assert again.returncode == 3, again.stderr
    assert json.loads((latest / "summary.json").read_text())["services"]
    # Made by another version, and its files gone.
    upgraded(state / "2026-W50" / "run")
    renewed = weekly(url, tmp_path, "2026-W50", end + 2 * WEEK_S + 60)
    assert renewed.returncode == 3, renewed.stderr
    assert "the run can't be renewed, and its files were removed; seven days are pulled" in renewed.stderr
    assert (state / "2026-W50" / "weeks").read_text() == "1\n"


def upgraded(run: Path) -> None:
    """Make a run one that another version has made."""
    manifest = json.loads((run / "manifest.json").read_text("utf-8"))
    for stage in manifest["stages"].values():
        stage["fingerprint"] = "other"
    (run / "manifest.json").write_text(json.dumps(manifest), "utf-8")


@pytest.mark.outside("prometheus", "promtool")
def test_a_wrong_week_or_no_server(tmp_path: Path) -> None:
    """Nothing is made of them: one line, and an exit code that is not tried again or is."""
    wrong = weekly("http://127.0.0.1:9", tmp_path, "december", 1.8e9)
    assert (wrong.returncode, wrong.stderr) == (2, "WEEK: december is no week; write it as 2026-W48\n")
    gone = weekly("http://127.0.0.1:9", tmp_path, "2026-W48", 1.8e9)
    assert gone.returncode == 1
    assert "can't be reached" in gone.stderr
    assert not (tmp_path / "state" / "latest").exists()
