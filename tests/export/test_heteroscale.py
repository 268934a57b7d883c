"""A policy for HeteroScale's own rule: the document itself, checked as a controller would read it."""

from dataclasses import replace

import pytest
from export.scenes import full_policy

from hs_analysis.export import export
from hs_analysis.export.heteroscale import lint_policy
from hs_analysis.export.model import load_documents
from hs_analysis.policy import load

NAME = "prod.chat.policy.yaml"


def test_the_written_document_is_the_policy():
    """Read back it is the very policy, whichever controller it was selected for; only placement is lost."""
    for controller in ("heteroscale", "keda"):
        policy = full_policy(controller=controller)
        made = export(policy, "heteroscale")
        assert load(made.files[NAME]) == replace(policy, controller="heteroscale")
        lost = ["placement"] + ["controller"] * (controller != "heteroscale")
        assert [loss.item for loss in made.losses] == lost
        assert {loss.kind for loss in made.losses} == {"approximated"}


def test_a_timetable_is_written_and_a_hold_is_not():
    """Mode periodic is a rule of its own; mode hold has nothing to run."""
    assert NAME in export(full_policy(mode="periodic"), "heteroscale").files
    made = export(full_policy(mode="hold"), "heteroscale")
    assert NAME not in made.files
    assert [loss.kind for loss in made.losses] == ["refused"]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda d: d["spec"].update(primaries=[]), "primaries is empty"),
        (lambda d: d["spec"].update(mode="periodic", periodic=[]), "periodic is empty"),
        (lambda d: d["spec"].update(controller="keda"), "controller"),
        (lambda d: d["spec"]["bounds"]["decode"].pop("max"), "bounds.decode.max"),
        (lambda d: d.update(schema="v0"), "schema"),
    ],
)
def test_the_lint_reads_the_document_as_its_controller_does(change, says):
    """A key that is missing, another controller's document, a mode with nothing to follow."""
    (document,) = load_documents(export(full_policy(controller="heteroscale"), "heteroscale").files[NAME])
    assert lint_policy(document) == []
    change(document)
    assert any(says in problem for problem in lint_policy(document))
