"""Flags of what is replayed beside the policy, and hsa compare: what they take, what they refuse."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from hs_analysis.cli.app import app
from hs_analysis.cli.options import BesideFlags, CurrentFlags
from hs_analysis.errors import HsError
from hs_analysis.replay import FAULTS
from hs_analysis.schema import choices
from hs_analysis.settings.layers import resolve

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
        BesideFlags(**flags).layer()
    assert caught.value.line().startswith(says)


def test_nothing_given_changes_nothing_and_none_takes_away() -> None:
    """A run keeps what stands beside it until it is taken away."""
    assert BesideFlags().layer() == {}
    taken = resolve(
        [BesideFlags(policy=["none"], current=["none"], fault=["none"], topology="none").layer()]
    )[0]
    assert set(taken.values()) == {()}


def test_a_topology_is_kept_whole_checked_and_shown(tmp_path: Path) -> None:
    """The flag keeps the text; validate says what it holds, or the key that is wrong."""
    path = tmp_path / "racks.yaml"
    path.write_text(
        "schema: hs-analysis/topology/v1alpha1\naffinity: s2\n"
        "racks:\n  - {s2: a, s1: a1, gpu_type: H20, gpus: 12}\n"
    )
    (kept,) = resolve([BesideFlags(topology=str(path)).layer()])[0]["beside.topology"]
    assert (kept.name, kept.text) == (str(path), path.read_text())
    done = CliRunner().invoke(app, ["validate", str(path)])
    assert done.stdout == f"{path}: valid, 12 GPUs in 1 racks, prefill and decode within s2\n"
    path.write_text(path.read_text().replace("gpus: 12", "gpus: -1"))
    done = CliRunner().invoke(app, ["validate", str(path)])
    assert (done.exit_code, "racks[0].gpus: expected a whole number" in done.stderr) == (1, True)


def test_the_faults_of_the_command_line_are_the_rows() -> None:
    """Names and words, in order."""
    assert {fault.name: fault.text for fault in FAULTS} == choices.FAULTS


def test_compare_wants_two_runs(tmp_path: Path) -> None:
    """A folder that is none is one line."""
    done = CliRunner().invoke(app, ["compare", str(tmp_path), str(tmp_path)])
    assert done.exit_code == 1
    assert "not a run folder" in done.stderr
