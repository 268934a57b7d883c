"""hsa help: pages of the documentation by topic, which errors can cite."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from hs_analysis.cli.app import app
from hs_analysis.cli.topics import plain, topics

ROOT = Path(__file__).resolve().parents[2]


def asked(*words: str) -> tuple[int, str, str]:
    """Return exit code, stdout and stderr of hsa help."""
    done = CliRunner().invoke(app, ["help", *words])
    return done.exit_code, done.stdout, done.stderr


def test_every_page_for_users_is_one_topic() -> None:
    """No two pages have the same name, and pages for developers are none."""
    pages = [p for p in (ROOT / "docs").rglob("*.md") if p.name != "README.md"]
    deep = [p for p in pages if len(p.relative_to(ROOT / "docs").parts) > 2 or p.parent.name == "dev"]
    named = {p.relative_to(ROOT / "docs").as_posix() for p in pages if p not in deep}
    assert set(topics().values()) == named
    assert len(topics()) == len(named)


def test_the_list_names_every_topic_with_its_title() -> None:
    """One line a topic."""
    code, shown, _ = asked()
    assert code == 0
    listed = [line.split()[0] for line in shown.splitlines() if line.startswith("  ")]
    assert listed == ["apply", *topics()]
    assert "Roles, services and instances" in shown


def test_a_topic_prints_its_page() -> None:
    """The page as it is, without the notes to those who edit it."""
    assert asked("roles")[1].startswith("# Roles, services and instances\n")
    assert "<!--" not in asked("checks")[1]


def test_apply_shows_the_steps_of_a_run_with_names_to_replace() -> None:
    """The parts of APPLY.md in order, its commands, and each alert beside what it watches."""
    code, shown, said = asked("apply")
    assert (code, said) == (0, "")
    assert "exports/APPLY.md" in shown
    assert re.findall(r"^## (.*)$", shown, re.MULTILINE) == [
        "Check first", "Apply in this order", "Watch", "Go back", "When an assumption breaks",
    ]  # fmt: skip
    order = [
        "kubectl get",
        "promtool check rules",
        "kubectl diff -f",
        "kubectl apply -f",
        "kubectl delete -f",
    ]
    places = [shown.index(command) for command in order]
    assert places == sorted(places)
    assert "| The SLO holds | `HsTtftOverSlo`" in shown
    assert "no rule is written" not in shown
    assert len(shown.splitlines()) < 90


def test_links_name_the_command_that_prints_them() -> None:
    """A topic's link names its command, an address stays, and what a terminal can't open is only its text."""
    known = {"roles": "howto/roles.md", "study": "method/study.md"}
    text = "[a](roles.md) [b](../method/study.md#traps) [c](https://x.test/y) [d](../dev/z.md) [e](#here)"
    assert (
        plain("howto/vllm.md", text, known)
        == "a (hsa help roles) b (hsa help study) c (https://x.test/y) d e"
    )


@pytest.mark.parametrize(
    ("topic", "hint"), [("rols", "did you mean roles?"), ("run", "hsa run --help lists its flags")]
)
def test_an_unknown_topic_names_the_nearest(topic: str, hint: str) -> None:
    """A command that is no topic has its own help."""
    assert asked(topic) == (2, "", f"hsa help: TOPIC: no such topic {topic!r}; {hint}\n")


def test_topics_that_messages_cite_exist() -> None:
    """No message sends a user to a file that only a checkout has."""
    texts = [
        node.value
        for module in (ROOT / "hs_analysis").rglob("*.py")
        for node in ast.walk(ast.parse(module.read_text("utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    ]
    cited = {topic for text in texts for topic in re.findall(r"hsa help ([a-z][a-z-]+)", text)}
    assert {"roles", "tables", "capacity"} <= cited
    assert cited <= topics().keys()
    assert [text for text in texts if re.search(r"\bdocs/(howto|method)/", text)] == []
