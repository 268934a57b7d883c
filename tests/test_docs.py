"""The documentation says what the program does: generated pages, commands, flags and links."""

from __future__ import annotations

import ast
import importlib.util
import re
import shlex
import sys
from pathlib import Path
from types import ModuleType
from typing import get_args, get_type_hints

import pytest

from hs_analysis.catalogue import load_catalogue
from hs_analysis.cli.app import REMOVED
from hs_analysis.pipeline.starter import SAMPLE
from hs_analysis.schema import results

ROOT = Path(__file__).resolve().parents[1]
SINGLE = [ROOT / name for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "reports/README.md")]
PAGES = sorted([*SINGLE, *(p for f in ("docs", "data_samples") for p in (ROOT / f).rglob("*.md"))])
DEVELOPERS = sorted([ROOT / "CONTRIBUTING.md", *(ROOT / "docs" / "dev").rglob("*.md")])
TOP = ("hs_analysis", "tests", "queries", "docs", "data_samples", ".ci")
"""Folders of the repository whose paths the pages for developers name."""

PACKAGES = {path.name for path in (ROOT / "hs_analysis").iterdir() if path.is_dir()}

PLACEHOLDER = "NAME"
"""Stands in a path or a function for the name of what is added."""

RELEASE_LINES, LINE_CHARACTERS, SENTENCE_WORDS = 30, 135, 20


@pytest.fixture(scope="module")
def generator() -> ModuleType:
    """Return docs/generate.py as a module; the modules beside it are found as when it is run."""
    sys.path.insert(0, str(ROOT / "docs"))
    spec = importlib.util.spec_from_file_location("docs_generate", ROOT / "docs" / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def commands_in(text: str) -> list[list[str]]:
    """Return the words of every `hsa …` command in code blocks and code spans, continuation lines joined."""
    blocks = re.findall(r"```\w*\n(.*?)```", text, re.DOTALL)
    spans = re.findall(r"`(hsa [^`\n]+)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL))
    lines = [line.strip() for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    lines = [re.sub(r"^(\$|\.venv/bin/)\s*", "", line) for line in lines]
    return [shlex.split(line, comments=True)[1:] for line in lines + spans if line.startswith("hsa ")]


def test_generated_pages_are_current(generator: ModuleType) -> None:
    """Each reference page is what the code says now; `make docs` renews them."""
    assert generator.stale() == []


def test_every_command_is_documented(generator: ModuleType) -> None:
    """Each command has help with a runnable example, and is mentioned on a hand-written page."""
    text = "\n".join(p.read_text("utf-8") for p in PAGES if "reference" not in p.parts)
    for name, command in generator.commands():
        assert re.search(rf"(?m)^\s*(\$ )?hsa {name}\b", command.help or ""), (
            f"{name} has no example in its help"
        )
        assert re.search(rf"hsa {name}\b|`{name}`", text), f"{name} is not in the documentation"
        assert [p.opts for p in generator.flags(command) if not p.help] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_documented_commands_exist(page: Path, generator: ModuleType) -> None:
    """Each command and flag that a page shows is one the program accepts."""
    known = dict(generator.commands())
    for words in commands_in(page.read_text("utf-8")):
        if words[0].startswith("-") or (page.name == "CHANGELOG.md" and words[0] in REMOVED):
            continue
        assert words[0] in known, f"hsa {words[0]}"
        accepted = {name for p in known[words[0]].params for name in (*p.opts, *p.secondary_opts)} | {
            "--help"
        }
        given = {re.split("[= ]", word)[0] for word in words[1:] if re.match(r"--?[a-zA-Z]", word)}
        assert given <= accepted, f"hsa {' '.join(words)}"


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    """Relative links and pictures point to files, and fragments to headings."""
    text = re.sub(r"```.*?```", "", page.read_text("utf-8"), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+://", target):
            continue
        path, _, fragment = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), target
        if fragment:
            heads = re.findall(r"(?m)^#+ (.+)$", file.read_text("utf-8"))
            slugs = {re.sub(r"[^\w\- ]", "", head.lower()).strip().replace(" ", "-") for head in heads}
            assert fragment in slugs, target


def test_status_words_are_explained() -> None:
    """The readme explains every word that a verdict or a status can be."""
    text = (ROOT / "README.md").read_text("utf-8")
    of_split = get_args(get_type_hints(results.MixRatio)["status"])
    kinds = (results.Verdict, results.Status, results.RatioStatus)
    words = {w for kind in kinds for w in get_args(kind)} | set(of_split)
    assert {w for w in words if f"| `{w}` |" not in text} == set()


def test_the_demo_and_the_samples_are_told_apart() -> None:
    """The pages show another sample than the one that `hsa init --demo` writes, and say so."""
    for page in ("README.md", "docs/tutorial.md"):
        text = (ROOT / page).read_text("utf-8")
        said = [part for part in text.split("\n\n") if "--demo" in part]
        assert any(f"`{SAMPLE}`" in part and "simulated-days" in part for part in said), page


def spans_of(page: Path) -> list[str]:
    """Return the code spans of a page."""
    return re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", page.read_text("utf-8"), flags=re.DOTALL))


def defined_in(path: Path) -> set[str]:
    """Return the names that a module defines: functions, classes, methods, fields and constants."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            found.add(node.target.id)
        elif isinstance(node, ast.Assign):
            found |= {target.id for target in node.targets if isinstance(target, ast.Name)}
    return found


@pytest.mark.parametrize("page", DEVELOPERS, ids=lambda p: str(p.relative_to(ROOT)))
def test_paths_that_developers_are_sent_to_exist(page: Path) -> None:
    """Every module, folder and file pattern that a page for developers names is there."""
    named = {
        s for s in spans_of(page) if s.partition("/")[0] in TOP and " " not in s and PLACEHOLDER not in s
    }
    assert {s for s in named if not (ROOT / s).exists() and not any(ROOT.glob(s))} == set()


@pytest.mark.parametrize("page", DEVELOPERS, ids=lambda p: str(p.relative_to(ROOT)))
def test_functions_that_developers_are_sent_to_exist(page: Path) -> None:
    """A name of code is defined in a module that the page names, and in that one where the page says so."""
    modules = {s for s in spans_of(page) if s.endswith(".py") and (ROOT / s).is_file()}
    defined = set[str]().union(*(defined_in(ROOT / module) for module in modules))
    names = {s for s in spans_of(page) if re.fullmatch(r"[A-Za-z]+(_[A-Za-z]+)*", s)}
    code = {s for s in names if ("_" in s or s != s.lower()) and PLACEHOLDER not in s}
    assert code - defined - {signal.id for signal in load_catalogue().signals} - PACKAGES == set()
    text = page.read_text("utf-8")
    for name, module in re.findall(r"`(\w+)`(?: \(|\s+in\s+)`([\w/]+\.py)`", text):
        if PLACEHOLDER not in name + module:
            assert name in defined_in(ROOT / module), f"{name} is not in {module}"


@pytest.mark.parametrize("page", DEVELOPERS, ids=lambda p: str(p.relative_to(ROOT)))
def test_pages_for_developers_have_short_sentences(page: Path) -> None:
    """At most twenty words a sentence on average: many readers have English as a second language."""
    text = re.sub(r"(?s)```.*?```", "", page.read_text("utf-8"))
    text = re.sub(r"(?m)^(#|\|).*$", "", text)
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)|`[^`]*`", lambda found: found[1] or "code", text)
    ends = re.split(r"(?<=[.:?!])\s+|\n\s*\n|\n\s*(?:-|\d+\.)\s", text)
    lengths = [len(part.split()) for part in ends if len(part.split()) > 2]
    assert lengths
    assert sum(lengths) / len(lengths) <= SENTENCE_WORDS


def test_a_release_of_the_changelog_is_short() -> None:
    """What a user notices, in at most thirty lines a release; internals stand in the commits."""
    releases = (ROOT / "CHANGELOG.md").read_text("utf-8").split("\n## ")[1:]
    for release in releases:
        lines = [line for line in release.splitlines()[1:] if line.strip()]
        assert len(lines) <= RELEASE_LINES, release.splitlines()[0]
        assert max(map(len, lines)) <= LINE_CHARACTERS
