"""Measure the hand-written pages: words, length of sentences, readability, words that no page uses.

``python docs/prose.py`` prints a row a page and every place of a banned word; ``tests/test_prose.py`` has the
limits. Measured is the prose alone: no code, tables, headings, link targets, or formulas (indented blocks).
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
GENERATED = "reference"
"""Folder of docs/ whose pages are made from the code."""

HAND_WRITTEN_WORDS, REFERENCE_WORDS = 15_000, 3_000
"""Most words of all hand-written pages together, and of one generated page with its tables."""

SENTENCE_WORDS, READING_EASE = 25, 45
"""Most words of a mean sentence, and least reading ease (Flesch 1948), of a page."""

LEAST_WORDS = 100
"""A page with fewer words of prose is a table with a lead: its reading ease is chance."""

CODE = "Code"
"""Replaces a code span: a word of its sentence, and no word whose syllables count."""

BANNED = {
    r"(fore)?told": "reported, given, known, predicted",
    r"(stands?|stood|standing)": "is, rests on, applies, replaces",
    r"besides?": "next to, with, also",
    r"c[ao]mes? again": "is repeated",
    r"in silence": "without a message",
    r"does as well": "also works",
    r"(go|goes|went) before": "has priority over",
    r"by turns": "in turn",
    r"telling": "informative",
    r"strangers": "unrelated series",
    r"dearest": "most expensive",
    r"of another hand": "by another author",
    r"hangs? on": "depends on",
    r"taken at (its|their) word": "used unchanged",
    r"bears": "withstands",
    r"and its like": "and similar tools",
    r"the like": "similar things",
    r"of old": "earlier",
    r"(is|are) meant": "means, counts",
    r"for want of": "without",
    r"ahead of time": "earlier",
    r"in vain": "without a result",
    r"what it rests on the": "its basis",
    r"thereof": "of it",
    r"herein": "in this",
}
"""A private or dated word (a pattern of whole words) → what to write instead."""

SENTENCE_MIN = 3
"""Fewest words of a sentence."""

_BANNED = re.compile(r"\b(?:" + "|".join(f"(?:{word})" for word in BANNED) + r")\b", re.IGNORECASE)
_VOWELS = re.compile(r"[aeiouy]+")


@dataclass(frozen=True)
class Measured:
    """What the prose of a page is: its words, sentences, and syllables of a mean word."""

    words: int
    sentences: int
    word_syllables: float

    @property
    def sentence_words(self) -> float:
        """Return the mean words of a sentence."""
        return self.words / max(self.sentences, 1)

    @property
    def reading_ease(self) -> float:
        """Return Flesch's reading ease: 206.835 − 1.015 words ÷ sentences − 84.6 syllables ÷ words (1948)."""
        return 206.835 - 1.015 * self.sentence_words - 84.6 * self.word_syllables


def hand_written() -> list[Path]:
    """Return the pages that people write: the readme and docs/ without the reference."""
    docs = ROOT / "docs"
    pages = (page for page in docs.rglob("*.md") if page.relative_to(docs).parts[0] != GENERATED)
    return [ROOT / "README.md", *sorted(pages)]


def reference() -> list[Path]:
    """Return the pages that are made from the code."""
    return sorted((ROOT / "docs" / GENERATED).rglob("*.md"))


def prose(text: str) -> str:
    """Return the prose of a Markdown page; a code span is one word, a link its text."""
    text = re.sub(r"(?ms)^[ ]*```.*?^[ ]*```[ ]*$", "", text)
    text = re.sub(r"(?s)<!--.*?-->", "", text)
    text = re.sub(r"(?m)^(\s*\||#|!\[).*$", "", text)
    # A formula is an indented block that follows an empty line and no item of a list.
    kept, formula, listed = [], False, False
    for before, line in zip(["", *text.splitlines()], text.splitlines(), strict=False):
        listed = bool(re.match(r"\s*([-*]|\d+\.)\s", line)) or (listed and (not line or line[0] == " "))
        indent = "      " if listed else "    "
        formula = line.startswith(indent) and (formula or not before.strip())
        kept.append("" if formula else line)
    text = "\n".join(kept)
    text = re.sub(r"`[^`]+`", CODE, text)
    return re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", text).replace("*", "")


def sentences(text: str) -> list[str]:
    """Return the sentences of prose: they end with a full stop, a question, a paragraph or an item of a list.

    Shorter parts, such as the bold title of a paragraph, are none.
    """
    parts = re.split(r"(?<=[.?!])[\"”)]?\s+(?=[\"“(]?[A-Z0-9α-ω])|\n\s*\n|\n\s*(?:[-*]|\d+\.)\s", text)
    return [" ".join(part.split()) for part in parts if len(words_of(part)) >= SENTENCE_MIN]


def words_of(text: str) -> list[str]:
    """Return the words of a text: what holds a letter or a digit."""
    return [word for word in re.split(r"[\s/—–]+", text) if re.search(r"\w", word)]


def syllables(word: str) -> int:
    """Return the syllables of a word by its groups of vowels, without a silent e at its end."""
    plain = re.sub(r"[^a-z]", "", word.lower())
    silent = re.search(r"[^aeiouyl]e$|[^aeiouytd]ed$|[^aeiouycsxzgh]es$", plain)
    split = len(re.findall(r"i[ao](?!n\b|ns\b|us)|eo|[^q]ua|ying", plain))
    return max(len(_VOWELS.findall(plain)) + split - bool(silent), 1)


def measure(text: str) -> Measured:
    """Return the measure of a page's prose."""
    plain = prose(text)
    parts = sentences(plain)
    words = [word for part in parts for word in words_of(part)]
    read = [word for word in words if word.strip(".,:;()") != CODE and not re.search(r"\d", word)]
    return Measured(len(words), len(parts), sum(map(syllables, read)) / max(len(read), 1))


def banned_in(text: str) -> list[tuple[int, str, str]]:
    """Return (line, banned word, what to write) of a page; code is left alone."""
    blanked = re.sub(r"(?ms)^[ ]*```.*?^[ ]*```[ ]*$", lambda found: "\n" * found[0].count("\n"), text)
    blanked = re.sub(r"`[^`]+`|\]\([^)]*\)", lambda found: "\n" * found[0].count("\n"), blanked)
    return [
        (blanked.count("\n", 0, found.start()) + 1, found[0], instead(found[0]))
        for found in _BANNED.finditer(blanked)
    ]


def instead(word: str) -> str:
    """Return what to write for a banned word."""
    return next(better for banned, better in BANNED.items() if re.fullmatch(banned, word, re.IGNORECASE))


def texts_of(tree: ast.Module) -> list[tuple[int, str]]:
    """Return (line, text) of a module's texts with a space in them, without its docstrings."""
    alone = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    return [
        (node.lineno, node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
        if " " in node.value and id(node) not in alone
    ]


def in_messages() -> list[tuple[str, int, str, str]]:
    """Return (module, line, banned word, what to write) of the texts in the package."""
    return [
        (module.relative_to(ROOT).as_posix(), line, word, better)
        for module in sorted((ROOT / "hs_analysis").rglob("*.py"))
        for line, text in texts_of(ast.parse(module.read_text("utf-8")))
        for _, word, better in banned_in(text)
    ]


def main(arguments: Sequence[str]) -> int:
    """Print a row for each page, the sums, and every banned word."""
    out, total = sys.stdout.write, 0
    if "--messages" in arguments:
        for name, line, word, better in in_messages():
            out(f"{name}:{line}: {word}: write {better}\n")
        return 0
    out(f"{'page':60} {'words':>6} {'a sentence':>10} {'Flesch':>7}\n")
    for page in hand_written():
        one = measure(page.read_text("utf-8"))
        total += one.words
        name = str(page.relative_to(ROOT))
        out(f"{name:60} {one.words:6} {one.sentence_words:10.1f} {one.reading_ease:7.1f}\n")
    out(f"{'hand-written, all pages':60} {total:6}\n")
    for page in reference():
        out(f"{page.relative_to(ROOT)!s:60} {len(page.read_text('utf-8').split()):6}\n")
    for page in [*hand_written(), *reference()]:
        for line, word, better in banned_in(page.read_text("utf-8")):
            out(f"{page.relative_to(ROOT)}:{line}: {word}: write {better}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
