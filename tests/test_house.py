"""The shape of the package: no cycle, short functions, no splinters, no dead code, one meaning for a class.

A rule that something may break has a list of it by name; none is added without a reason beside it.
"""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

LONGEST_BODY = 40
"""Lines of a function's body without its docstring: what fits one screen."""

SMALLEST_MODULE = 60
"""Lines below which a module with a single importer is a part of that importer."""

OUTSIDE = ("hs_analysis.api",)
"""Modules whose public names are for users: nothing of the package need name them."""

SHARED_NAMES = {
    "Run": "in Python a user loads a run folder; inside the replay it is one simulation, which no user meets",
}
"""Class names that several modules use, and why."""


def modules(root: Path) -> dict[str, ast.Module]:
    """Return the syntax tree of every module of the package by its dotted name."""
    found = {}
    for path in sorted((root / "hs_analysis").rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = ast.parse(path.read_text("utf-8"))
    return found


@pytest.fixture(scope="module")
def trees(root: Path) -> dict[str, ast.Module]:
    """Return all modules, read once."""
    return modules(root)


@pytest.fixture(scope="module")
def imports(trees: dict[str, ast.Module]) -> dict[str, set[str]]:
    """Return what each module imports, found once."""
    known = set(trees)
    return {module: imported(tree, known) for module, tree in trees.items()}


def for_types_only(tree: ast.Module) -> set[int]:
    """Return the nodes that stand under ``if TYPE_CHECKING``."""
    return {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }


def imported(tree: ast.Module, known: set[str]) -> set[str]:
    """Return the modules of the package that a module imports when it runs, inside functions too."""
    skipped = for_types_only(tree)
    found = set()
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.ImportFrom) and node.module:
            for name in node.names:
                full = f"{node.module}.{name.name}"
                found |= {full if full in known else node.module} & known
        elif isinstance(node, ast.Import):
            found |= {name.name for name in node.names} & known
    return found


def bodies(tree: ast.Module) -> Iterator[tuple[str, int]]:
    """Yield every function with the lines of its body, its docstring left out."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            body = node.body[1:] if ast.get_docstring(node) is not None else node.body
            yield node.name, (node.end_lineno or 0) - body[0].lineno + 1 if body else 0


def cycle_of(imports: dict[str, set[str]]) -> list[str]:
    """Return a cycle of imports, empty when there is none."""
    try:
        TopologicalSorter(imports).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def small_ones(lines: dict[str, int], imports: dict[str, set[str]]) -> set[str]:
    """Return the modules under the limit that a single module imports."""
    importers = defaultdict(set)
    for module, used in imports.items():
        for one in used:
            importers[one].add(module)
    return {
        module for module, length in lines.items() if length < SMALLEST_MODULE and len(importers[module]) == 1
    }


def shared_names(trees: dict[str, ast.Module]) -> dict[str, list[str]]:
    """Return the class names that several modules define, with those modules."""
    owners = defaultdict(list)
    for module, tree in trees.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                owners[node.name].append(module)
    return {name: found for name, found in owners.items() if len(found) > 1}


def unused_names(trees: dict[str, ast.Module]) -> set[str]:
    """Return the functions and classes of a package that none of these modules names.

    A decorator may hand a function on (a command, a property), and ``__getattr__`` is called by Python.
    """
    defined, named = set(), set()
    for module, tree in trees.items():
        for node in tree.body if module not in OUTSIDE else []:
            handed_on = isinstance(node, ast.FunctionDef) and bool(node.decorator_list)
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and not handed_on:
                defined |= {(module, node.name)} if not node.name.startswith("__") else set()
        for node in ast.walk(tree):
            if isinstance(node, ast.Name | ast.Attribute):
                named.add(node.id if isinstance(node, ast.Name) else node.attr)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                named.add(node.value.rpartition(".")[2])
    return {f"{module}.{name}" for module, name in defined if name not in named}


def test_no_module_imports_itself_by_way_of_others(imports: dict[str, set[str]]) -> None:
    """The imports of all modules, those inside functions too, make no cycle."""
    assert cycle_of(imports) == []


def test_functions_fit_one_screen(trees: dict[str, ast.Module]) -> None:
    """No function's body is longer than the limit."""
    long = {
        f"{module}.{name}"
        for module, tree in trees.items()
        for name, lines in bodies(tree)
        if lines > LONGEST_BODY
    }
    assert long == set()


def test_small_modules_have_several_importers(root: Path, imports: dict[str, set[str]]) -> None:
    """A module under the limit that one module imports is a part of it."""
    lines = {}
    for module in imports:
        path = root.joinpath(*module.split(".")).with_suffix(".py")
        if path.exists():
            lines[module] = path.read_text("utf-8").count("\n")
    assert small_ones(lines, imports) == set()


def test_a_class_name_has_one_meaning(trees: dict[str, ast.Module]) -> None:
    """No two modules define a class of the same name, but for those that are listed with a reason."""
    found = shared_names(trees)
    assert sorted(found) == sorted(SHARED_NAMES), found


def test_every_function_and_class_is_used(root: Path, trees: dict[str, ast.Module]) -> None:
    """What only a test calls is no part of the package; what writes the documentation may call it."""
    pages = {path.stem: ast.parse(path.read_text("utf-8")) for path in (root / "docs").glob("*.py")}
    assert {name for name in unused_names(trees | pages) if name.startswith("hs_analysis.")} == set()


def test_arrays_have_one_name_each(root: Path, trees: dict[str, ast.Module]) -> None:
    """What an array holds is said by the names of `hs_analysis.schema.arrays`, nowhere spelt out again."""
    texts = {module: root.joinpath(*module.split(".")).with_suffix(".py") for module in trees}
    spelt = {m for m, path in texts.items() if path.is_file() and "NDArray" in path.read_text("utf-8")}
    assert spelt == {"hs_analysis.schema.arrays"}


def test_each_rule_sees_what_breaks_it() -> None:
    """A cycle, a long body, a splinter, a shared name and dead code are found in made modules."""
    long = "def f():\n    'A sentence.'\n" + "    x = 1\n" * (LONGEST_BODY + 1)
    made = {
        "p.a": ast.parse("from p import b\nclass Same: ..."),
        "p.b": ast.parse("def f():\n    from p import a\nclass Same: ..."),
        "p.c": ast.parse("from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from p import a"),
    }
    imports = {module: imported(tree, set(made)) for module, tree in made.items()}
    assert sorted(set(cycle_of(imports))) == ["p.a", "p.b"]
    assert imports["p.c"] == set()
    assert list(bodies(ast.parse(long))) == [("f", LONGEST_BODY + 1)]
    assert small_ones({"p.a": 59, "p.b": 60}, imports) == {"p.a"}
    assert shared_names(made) == {"Same": ["p.a", "p.b"]}
    dead = {
        "p.a": ast.parse("def used(): ...\ndef dead(): ..."),
        "p.b": ast.parse("from p.a import used\nused()"),
    }
    assert unused_names(dead) == {"p.a.dead"}
