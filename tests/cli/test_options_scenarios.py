"""Flags of what is replayed beside the policy, and hsa compare: what they take, what they refuse."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from hs_analysis.cli.app import app
from hs_analysis.cli.options import CurrentFlags, ScenarioFlags
from hs_analysis.errors import HsError
from hs_analysis.replay import FAULTS
from hs_analysis.schema import names
from hs_analysis.settings.file import resolve

KEDA = "apiVersion: keda.sh/v1alpha1\nkind: ScaledObject\nmetadata: {name: a}\nspec: {triggers: []}\n"


def test_files_are_kept_whole_and_without_credentials(tmp_path: Path) -> None:
    """A pool before the file, a name with an equals sign, a token in a header."""
    path = tmp_path / "a=b.yaml"
    path.write_text(f"{KEDA}# customHeaders: Authorization=Bearer abc123\n")
    layer = CurrentFlags(current=[f"decode={path}", str(path)]).layer()
    first, second = resolve([layer])[0]["beside.current"]
    assert (first.name, first.role, second.role) == (str(path), "decode", "")
    assert first.text.startswith(KEDA)
    assert "abc123" not in first.text


def test_a_word_at_the_end_of_a_document_hides_nothing_of_the_next(tmp_path: Path) -> None:
    """``authModes: bearer`` names a way, and what follows on the next line is no token."""
    path = tmp_path / "today.yaml"
    path.write_text(text := f"{KEDA}# authModes: bearer\n---\n{KEDA}")
    assert resolve([CurrentFlags(current=[str(path)]).layer()])[0]["beside.current"][0].text == text


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        ({"fault": ["no_stok"]}, "--fault: no such fault 'no_stok'; did you mean no_stock"),
        ({"policy": ["missing.yaml"]}, "missing.yaml: can't be read"),
        ({"current": ["decode=missing.yaml"]}, "missing.yaml: can't be read"),
        ({"topology": "missing.yaml"}, "missing.yaml: can't be read"),
    ],
)
def test_what_can_not_be_used_is_refused_before_anything_runs(flags: dict[str, object], says: str) -> None:
    """One line with the place."""
    with pytest.raises(HsError) as caught:
        ScenarioFlags(**flags).layer()
    assert caught.value.line().startswith(says)


def test_nothing_given_changes_nothing_and_none_takes_away() -> None:
    """A run keeps what stands beside it until it is taken away."""
    assert ScenarioFlags().layer() == {}
    taken = resolve(
        [ScenarioFlags(policy=["none"], current=["none"], fault=["none"], topology="none").layer()]
    )[0]
    assert set(taken.values()) == {()}


def test_a_topology_is_kept_whole_checked_and_shown(tmp_path: Path) -> None:
    """The flag keeps the text; validate says what it holds, or the key that is wrong."""
    path = tmp_path / "racks.yaml"
    path.write_text(
        "schema: hs-analysis/topology/v1alpha1\naffinity: s2\n"
        "racks:\n  - {s2: a, s1: a1, gpu_type: H20, gpus: 12}\n"
    )
    (kept,) = resolve([ScenarioFlags(topology=str(path)).layer()])[0]["beside.topology"]
    assert (kept.name, kept.text) == (str(path), path.read_text())
    done = CliRunner().invoke(app, ["validate", str(path)])
    assert done.stdout == f"{path}: valid, 12 GPUs in 1 racks, prefill and decode within s2\n"
    path.write_text(path.read_text().replace("gpus: 12", "gpus: -1"))
    done = CliRunner().invoke(app, ["validate", str(path)])
    assert (done.exit_code, "racks[0].gpus: expected a whole number" in done.stderr) == (1, True)


def test_the_faults_of_the_command_line_are_the_rows() -> None:
    """Names and words, in order."""
    assert {fault.name: fault.text for fault in FAULTS} == names.FAULTS


def test_compare_wants_two_runs(tmp_path: Path) -> None:
    """A folder that is none is one line."""
    done = CliRunner().invoke(app, ["compare", str(tmp_path), str(tmp_path)])
    assert done.exit_code == 1
    assert "not a run folder" in done.stderr


def edited(run: Path, copy: Path, *changes: tuple[str, str]) -> Path:
    """Return a folder with what compare reads of a run, its policy edited."""
    copy.mkdir()
    for name in ("manifest.json", "summary.json", "policy.yaml"):
        text = (run / name).read_text("utf-8")
        for old, new in changes if name == "policy.yaml" else ():
            assert old in text
            text = text.replace(old, new)
        (copy / name).write_text(text, "utf-8")
    return copy


def test_compare_begins_with_whether_one_must_act(finished: Path, tmp_path: Path) -> None:
    """The first line says it, the changes follow with old and new, a line counts what is the same."""
    longer = edited(finished, tmp_path / "longer", ("over_s: ", "over_s: 1"))
    held = edited(finished, tmp_path / "held", ("mode: metric", "mode: hold"))

    def lines(*arguments: Path) -> list[str]:
        done = CliRunner().invoke(app, ["compare", *map(str, arguments)])
        assert done.exit_code == 0, done.output
        return done.stdout.splitlines()

    same = lines(finished, finished)
    assert same[0] == "Nothing changed."
    assert same[-1].startswith("unchanged: ")
    first, *rest = lines(finished, longer)
    assert first.startswith("Nothing changed that you must act on; ")
    assert any(line.endswith(f": hsa compare {finished} {longer} -v") for line in rest)
    rest = lines(finished, longer, Path("-v"))
    assert any("reading" in line and ", over: " in line and " s (+" in line for line in rest)
    assert lines(finished, held)[0] == "Something changed that you must act on: mode: metric → hold."


def test_compare_says_the_same_to_programs(finished: Path, tmp_path: Path) -> None:
    """JSON has whether anything and whether the decision changed, and each change with path, old and new."""
    held = edited(finished, tmp_path / "held", ("mode: metric", "mode: hold"))
    done = CliRunner().invoke(app, ["compare", str(finished), str(held), "-o", "json"])
    found = json.loads(done.stdout)
    assert (found["changed"], found["decision_changed"]) == (True, True)
    (change,) = found["changes"]
    assert (change["path"], change["before"], change["after"], change["relevance"]) == (
        "spec.mode", "metric", "hold", "act",
    )  # fmt: skip
    done = CliRunner().invoke(app, ["compare", str(finished), str(finished), "-o", "json"])
    found = json.loads(done.stdout)
    assert (found["changed"], found["decision_changed"], found["changes"]) == (False, False, [])


def test_compare_follows_links(finished: Path, tmp_path: Path) -> None:
    """JSON maps every link of the old run, dead ones first; ``--link`` follows those that are given."""
    other = edited(finished, tmp_path / "other")
    summary = json.loads((other / "summary.json").read_text("utf-8"))
    name = summary["services"][0]["service"]
    lost = summary["services"][0]["drivers"].pop()["evidence"]
    summary["services"][0]["service"] = "other/name"
    (other / "summary.json").write_text(json.dumps(summary), "utf-8")
    arguments = ["compare", str(finished), str(other), "-o", "json"]
    found = json.loads(CliRunner().invoke(app, arguments).stdout)["links"]
    assert (found[0]["old"], found[0]["new"], found[0]["reason"]["code"]) == (lost, None, "not_tried")
    # The copy has no page, so that none of its charts is drawn.
    assert {row["reason"]["code"] for row in found[1:]} == {"renamed", "chart_not_drawn"}
    gone = json.loads(CliRunner().invoke(app, [*arguments, "--renamed", f"{name}="]).stdout)["links"]
    assert {row["reason"]["code"] for row in gone} == {"service_gone"}
    given = f"hsa:0123abcd/{lost}"
    done = CliRunner().invoke(app, [*arguments[:3], "--link", given])
    assert f"  {lost} → nowhere; ttft@service" in done.stdout
    done = CliRunner().invoke(app, [*arguments, "--renamed", "nothing"])
    assert isinstance(done.exception, SystemExit)
    assert (done.exit_code, done.stderr.count("\n")) == (2, 1)
    assert "not OLD=NEW" in done.stderr


def test_compare_writes_a_page_where_it_is_asked_to(finished: Path, tmp_path: Path) -> None:
    """The result names the file; a folder that is not there is one line and no page."""
    held, page = edited(finished, tmp_path / "held", ("mode: metric", "mode: hold")), tmp_path / "page.html"
    arguments = ["compare", str(finished), str(held), "--html"]
    done = CliRunner().invoke(app, [*arguments, str(page)])
    assert (done.exit_code, done.stdout.splitlines()[-1]) == (0, f"page: {page}")
    assert "mode: metric → hold" in page.read_text("utf-8")
    assert str(page) in page.read_text("utf-8").partition("<h2>Reproduce</h2>")[2]
    done = CliRunner().invoke(app, [*arguments, str(page), "-o", "json"])
    assert (json.loads(done.stdout)["page"], json.loads(done.stdout)["act_on"]) == (
        str(page), ["mode: metric → hold"],
    )  # fmt: skip
    done = CliRunner().invoke(app, [*arguments, str(tmp_path / "none" / "page.html")])
    assert (done.exit_code, done.stdout, len(done.stderr.splitlines())) == (2, "", 1)
    assert "can't be written" in done.stderr


def test_compare_says_which_run_holds_stale_parts(finished: Path, tmp_path: Path) -> None:
    """What was kept from before a change is compared, and a line beside the result says so."""
    old = edited(finished, tmp_path / "old")
    manifest = json.loads((old / "manifest.json").read_text("utf-8"))
    manifest["stages"]["report"]["stale"] = "replay was written again after it"
    (old / "manifest.json").write_text(json.dumps(manifest), "utf-8")
    done = CliRunner().invoke(app, ["compare", str(finished), str(old)])
    assert (done.exit_code, done.stdout.splitlines()[0]) == (0, "Nothing changed.")
    assert done.stderr.startswith("stale, kept as before: report ")
    assert f"hsa report {old} writes them again" in done.stderr


def test_a_run_that_compare_can_not_read_is_one_line(finished: Path, tmp_path: Path) -> None:
    """A policy that is no YAML, one of a later schema, a run without a summary: which run, and what next."""
    broken = edited(finished, tmp_path / "broken", ("mode: metric", "mode: [metric"))
    later = edited(finished, tmp_path / "later", ("policy/v1", "policy/v9"))
    bare = edited(finished, tmp_path / "bare")
    (bare / "summary.json").unlink()
    for folder, says in ((broken, "not YAML; hsa validate"), (later, "has schema"), (bare, "no summary yet")):
        done = CliRunner().invoke(app, ["compare", str(finished), str(folder)])
        assert (done.exit_code, len(done.stderr.splitlines())) == (1, 1)
        assert done.stderr.startswith(f"hsa compare: {folder}")
        assert says in done.stderr
