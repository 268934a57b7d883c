"""The Kustomize base of a target's folder: what it lists, what it leaves out, and that kubectl builds it."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from export.scenes import full_policy
from ruamel.yaml import YAML

from hs_analysis.errors import ContractError
from hs_analysis.export import TARGETS, ExportOptions, Measured, export
from hs_analysis.export.kustomize import KIND, PART_OF, kustomization, lint_kustomization
from hs_analysis.export.model import load_documents
from hs_analysis.schema.results import Estimate

OPTIONS = ExportOptions(
    measured=Measured(
        (0.45, 0.56), {"prefill": 8.0, "decode": 8.0}, Estimate(9000.0, 8500.0, 9500.0), 1500.0, 0.7
    )
)
BUILT = ("keda", "hpa", "kthena", "aibrix", "llmd", "rbg", "ome")
"""Targets whose files hold objects that a cluster creates."""


def folder(target: str, *services: str) -> dict[str, str]:
    """Return the files of a target's folder."""
    made = [export(full_policy(service=one), target, OPTIONS).files for one in services or ("prod/chat",)]
    return {name: text for files in made for name, text in files.items()}


@pytest.mark.parametrize("target", TARGETS)
def test_a_base_lists_the_objects_of_its_folder_and_nothing_else(target: str) -> None:
    """Rules, adapters, planners, policies and patches of what exists stay outside; without objects none."""
    files = folder(target)
    text = kustomization(target, files, {})
    assert bool(text) is (target in BUILT)
    if not text:
        return
    (base,) = load_documents(text)
    assert base["namespace"] == "prod"
    assert base["labels"] == [{"pairs": PART_OF, "includeSelectors": False}]
    outside = {
        name
        for name in files
        if name.endswith(("rules.yaml", "adapter.yaml", ".json", "service.yaml", "slo-aware.yaml"))
    }
    assert set(base["resources"]) == set(files) - outside
    assert lint_kustomization(base, files) == []


def test_services_of_several_namespaces_keep_their_own() -> None:
    """One namespace for all of them would move objects."""
    files = folder("keda", "prod/chat", "test/chat")
    (base,) = load_documents(kustomization("keda", files, {}))
    assert "namespace" not in base
    assert len(base["resources"]) == 2


def test_a_base_says_for_whom_its_policy_was_selected() -> None:
    """As the files that it lists do, before what to type; a base of the target itself says nothing."""
    said = "The policy was selected and replayed for KEDA. Its file was not replayed: no gauge."
    files = folder("hpa")
    lines = kustomization("hpa", files, {}, [said]).splitlines()
    assert lines[0] == f"# {said}"
    assert lines[1].startswith("# Kustomize base: kubectl diff -k exports/hpa")
    assert kustomization("hpa", files, {}).splitlines()[0] == lines[1]


def test_what_is_not_recommended_is_left_out_or_said_first() -> None:
    """Applying a folder may not apply what its file warns of; alone, the base warns in its first line."""
    files = folder("keda", "prod/chat", "prod/other")
    bad = {"prod.other.scaledobjects.yaml": "WARNING: not recommended: why."}
    text = kustomization("keda", files, bad)
    assert load_documents(text)[0]["resources"] == ["prod.chat.scaledobjects.yaml"]
    assert "# Left out, for applying them is not recommended: prod.other.scaledobjects.yaml." in text
    alone = folder("keda", "prod/other")
    assert kustomization("keda", alone, bad).splitlines()[0] == "# WARNING: not recommended: why."


def test_a_broken_base_is_seen() -> None:
    """A missing file, a file listed twice, one object in two files, an unknown key."""
    files = folder("keda")
    good = {"apiVersion": KIND[0], "kind": KIND[1], "resources": ["prod.chat.scaledobjects.yaml"]}
    assert lint_kustomization(good, files) == []
    for change, said in (
        ({"resources": ["x.yaml"]}, "x.yaml is not in the folder"),
        ({"resources": good["resources"] * 2}, "is listed twice"),
        ({"resource": []}, "resource is unknown"),
        ({"kind": "Component"}, "are not"),
        ({"resources": []}, "resources"),
    ):
        assert any(said in text for text in lint_kustomization(good | change, files)), said
    copied = files | {"copy.yaml": files["prod.chat.scaledobjects.yaml"]}
    with pytest.raises(ContractError, match="ScaledObject prod chat-prefill is written twice"):
        kustomization("keda", copied, {})


KUBECTL = shutil.which("kubectl")


# No promise of CI: the kubectl that Debian 12 packages is of 2021 and does not know `labels` of a base.
@pytest.mark.skipif(KUBECTL is None, reason="kubectl is not installed; the check of the base runs above")
@pytest.mark.parametrize("target", BUILT)
def test_kubectl_builds_the_base(target: str, tmp_path: Path) -> None:
    """The same objects with the label, and nothing lost."""
    files = folder(target)
    for name, text in (files | {"kustomization.yaml": kustomization(target, files, {})}).items():
        (tmp_path / name).write_text(text, "utf-8")
    done = subprocess.run(
        [str(KUBECTL), "kustomize", str(tmp_path)],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    built = list(YAML(typ="safe").load_all(done.stdout))
    (base,) = load_documents(kustomization(target, files, {}))
    given = [body for name in base["resources"] for body in load_documents(files[name])]
    assert {(one["kind"], one["metadata"]["name"]) for one in built} == {
        (one["kind"], one["metadata"]["name"]) for one in given
    }
    assert len(built) == len(given)
    assert all(one["metadata"]["labels"] == PART_OF for one in built)
    specs = {(one["kind"], one["metadata"]["name"]): one["spec"] for one in built}
    assert all(specs[one["kind"], one["metadata"]["name"]] == one["spec"] for one in given)
