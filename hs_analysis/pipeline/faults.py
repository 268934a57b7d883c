"""Problems of a file as sentences that begin with the path of a key, and the line of each."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from hs_analysis.errors import HsError, InputError, ManyErrors
from hs_analysis.policy import Policy, load_all
from hs_analysis.policy.sanity import doubts, signal_faults
from hs_analysis.promql import syntax_problem
from hs_analysis.schema.places import DocumentText, Lines, lines_of_documents, nearest


def given_policies(text: str, name: str) -> tuple[Policy, ...]:
    """Return the policies of a file that a user gives.

    Raises
    ------
    InputError, ManyErrors
        When it can't be read, or names a signal or a unit that is not the catalogue's: it would be replayed
        and exported as if the number were in the catalogue's unit.
    """
    policies = load_all(text, name)
    refuse(name, policy_faults(policies, text))
    return policies


def policy_faults(policies: Sequence[Policy], text: str) -> list[tuple[str, Lines]]:
    """Return what is wrong with the signals and units of policies, each with the lines of its document."""
    return [
        (f"{where}: {said}", lines)
        for policy, lines in zip(policies, lines_of_documents(text), strict=False)
        for where, said in signal_faults(policy)
    ]


def policy_doubts(text: str, name: str) -> list[str]:
    """Return what the policies of a file set that a reader should look at again, each with its line."""
    return [
        f"{DocumentText(name, text, number).at(where)}: {where}: {said}"
        for number, policy in enumerate(load_all(text, name))
        for where, said in doubts(policy)
    ]


def refuse(path: Path | str, found: Sequence[tuple[str, Lines]]) -> None:
    """Raise what is wrong, each once, with the line of the key that its sentence begins with.

    Raises
    ------
    InputError, ManyErrors
        For one problem, or for several.
    """
    lines = [(f"{path}:{line_of_sentence(said, of)}", said) for said, of in found]
    errors: list[HsError] = [InputError(said, where=where) for where, said in dict.fromkeys(lines)]
    if errors:
        raise errors[0] if len(errors) == 1 else ManyErrors(errors, all_told=True)


_KEY = r"[A-Za-z_][\w/-]*(?:\.[\w/-]+|\[\d+\])*"


def line_of_sentence(said: str, lines: Lines) -> int:
    """Return the line that a sentence about a document speaks of.

    It begins with a path, ``spec.triggers[0]: metadata.query is missing``, whole or from some key on; what
    follows a colon is below it. One that begins with none is about the whole document.
    """
    path, rest = "", said
    while found := re.match(_KEY, rest):
        here = _resolved(found[0], path, lines)
        if not here:
            break
        path, rest = here, rest[found.end() :]
        if not rest.startswith(": "):
            break
        rest = rest[2:]
    return nearest(lines, path)


def _resolved(word: str, above: str, lines: Lines) -> str:
    """Return the path that a word is the end of, below another; empty where its first key is not there.

    A key that is missing is known by the one it would stand in: ``metadata.query`` where there is metadata.
    """
    first = re.split(r"[.\[]", word, maxsplit=1)[0]
    if f"{above}.{first}".lstrip(".") in lines:
        return f"{above}.{word}".lstrip(".")
    below = f"{above}." if above else ""
    inside = (path for path in lines if path.startswith(below) and path.endswith(f".{first}"))
    return next((path[: -len(first)] + word for path in inside), "")


def promql_problem(text: str) -> str:
    """Return what is wrong with a PromQL expression, empty where nothing is."""
    problem = syntax_problem(text)
    return f"is no PromQL: {problem}" if problem else ""
