"""The hand-written pages are short and plain, and nothing that a user reads has a private word."""

from __future__ import annotations

import ast
import importlib.util
import sys
from functools import cache
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[1]


@cache
def prose() -> ModuleType:
    """Return docs/prose.py as a module."""
    spec = importlib.util.spec_from_file_location("docs_prose", ROOT / "docs" / "prose.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def named(page: Path) -> str:
    """Return the path of a page below the project."""
    return page.relative_to(ROOT).as_posix()


def test_hand_written_pages_are_short() -> None:
    """All of them together have at most 15,000 words of prose."""
    words = {named(page): prose().measure(page.read_text("utf-8")).words for page in prose().hand_written()}
    assert sum(words.values()) <= prose().HAND_WRITTEN_WORDS, words


def test_generated_pages_are_short() -> None:
    """None has more than 3,000 words, tables included: a longer one is split."""
    words = {named(page): len(page.read_text("utf-8").split()) for page in prose().reference()}
    assert {name: n for name, n in words.items() if n > prose().REFERENCE_WORDS} == {}


@pytest.mark.parametrize("page", prose().hand_written(), ids=named)
def test_pages_are_easy_to_read(page: Path) -> None:
    """A mean sentence has at most 25 words, and the reading ease is at least 45."""
    found = prose().measure(page.read_text("utf-8"))
    assert found.sentence_words <= prose().SENTENCE_WORDS
    if found.words >= prose().LEAST_WORDS:
        assert found.reading_ease >= prose().READING_EASE


def test_no_page_has_a_private_word() -> None:
    """No banned word is on a page, so in no help text, setting, check or column either."""
    pages = [*prose().hand_written(), *prose().reference()]
    found = [(named(page), *one) for page in pages for one in prose().banned_in(page.read_text("utf-8"))]
    assert found == []


def test_messages_have_no_private_words() -> None:
    """The messages of the package are in words that anyone knows."""
    assert prose().in_messages() == []


def test_only_prose_is_measured() -> None:
    """Code, tables, headings, formulas and the targets of links are no prose; a code span is one word."""
    page = "\n".join(
        [
            "# A heading of many words",
            "",
            "Run `hsa run dumps/ --slo ttft=1s` and read [the method](method/README.md). Then stop here.",
            "",
            "    formula = one + two + three",
            "",
            "- a list item of six words",
            "",
            "| a | table |",
            "|---|---|",
            "",
            "```",
            "code that is long",
            "```",
        ]
    )
    found = prose().measure(page)
    assert (found.words, found.sentences) == (6 + 3 + 6, 3)


def test_reading_ease_is_that_of_flesch() -> None:
    """206.835 − 1.015 words a sentence − 84.6 syllables a word, computed by hand."""
    found = prose().measure("The cat sat on the mat. It was a beautiful day.")
    assert found.reading_ease == pytest.approx(206.835 - 1.015 * 11 / 2 - 84.6 * 13 / 11)


@pytest.mark.parametrize(
    ("word", "count"),
    [("mat", 1), ("scrape", 1), ("table", 2), ("ratio", 3), ("capacity", 4), ("asked", 1), ("wanted", 2)],
)
def test_syllables(word: str, count: int) -> None:
    """A silent e at the end is no syllable; two vowels that are read apart are two."""
    assert prose().syllables(word) == count


def test_a_banned_word_comes_with_another_one() -> None:
    """A finding holds its line and what to write; code is left alone."""
    text = "Fine.\n\nIt stands `beside` it, as foretold.\n"
    assert [(line, word) for line, word, _ in prose().banned_in(text)] == [(3, "stands"), (3, "foretold")]
    assert all(better for *_, better in prose().banned_in(text))


def test_messages_are_read_from_the_code() -> None:
    """Texts count and docstrings do not."""
    tree = ast.parse('"""It stands."""\ndef f():\n    """It stands."""\n    return "it stands there"\n')
    assert prose().texts_of(tree) == [(4, "it stands there")]
