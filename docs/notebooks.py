"""Make the notebooks from their scripts: ``python docs/notebooks.py``; ``--check`` writes nothing.

A script in percent format (``# %%``) is the source; its notebook holds the same cells and what they gave.
Each is run in a folder of its own, with the samples of the repository below ``data_samples/``. Exits 1 with
``--check`` for a notebook that is stale.
"""

from __future__ import annotations

import ast
import base64
import contextlib
import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from pprint import pformat
from typing import Any, NamedTuple

import altair as alt
import vl_convert

ROOT = Path(__file__).resolve().parents[1]
SCRIPTS = sorted((ROOT / "docs" / "notebooks").glob("*.py"))
MARK = "# %%"
IMAGE = "image/png"
FORMAT = (4, 5)
"""Version of the notebook format (nbformat.readthedocs.io): cells have an id since 4.5."""


class Cell(NamedTuple):
    """A cell of a script; ``text`` is Markdown or code, without blank lines around it."""

    markdown: bool
    text: str


def cells(script: str) -> Iterator[Cell]:
    """Yield the cells of a script in percent format."""
    for part in f"\n{script}".split(f"\n{MARK}")[1:]:
        head, _, body = part.partition("\n")
        markdown = "[markdown]" in head
        lines = [line[2:] if line.startswith("# ") else line.removeprefix("#") for line in body.splitlines()]
        yield Cell(markdown, ("\n".join(lines) if markdown else body).strip())


def notebook(script: str) -> str:
    """Run a script in the current folder and return its notebook."""
    names: dict[str, Any] = {"__name__": "notebook"}
    made, count = [], 0
    for number, cell in enumerate(cells(script)):
        entry: dict[str, Any] = {"id": f"cell-{number}", "metadata": {}, "source": _lines(cell.text)}
        if cell.markdown:
            made.append({"cell_type": "markdown", **entry})
            continue
        count += 1
        shown = _shown(_value(cell.text, names, f"cell {count}"), count)
        made.append({"cell_type": "code", "execution_count": count, **entry, "outputs": shown})
    about = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    whole = {"cells": made, "metadata": about, "nbformat": FORMAT[0], "nbformat_minor": FORMAT[1]}
    return json.dumps(whole, indent=1, ensure_ascii=False) + "\n"


def _value(code: str, names: dict[str, Any], where: str) -> Any:
    """Run a cell and return the value of its last line, None where that is no expression."""
    tree = ast.parse(code, where)
    last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, where, "exec"), names)  # noqa: S102 - our own script
    if last is None:
        return None
    return eval(compile(ast.Expression(last.value), where, "eval"), names)  # noqa: S307 - our own script


def _shown(value: Any, count: int) -> list[dict[str, Any]]:
    """Return what a notebook shows of a value: a chart, a table, else its text."""
    if value is None:
        return []
    data: dict[str, Any] = {"text/plain": _lines(pformat(value, width=100, sort_dicts=False))}
    if isinstance(value, alt.TopLevelMixin):
        version = alt.SCHEMA_VERSION.partition(".")[0]
        data = {
            f"application/vnd.vegalite.{version}+json": value.to_dict(),
            IMAGE: base64.b64encode(vl_convert.vegalite_to_png(value.to_json())).decode(),
            "text/plain": [f"<{type(value).__name__}>"],
        }
    elif hasattr(value, "_repr_html_"):
        data["text/html"] = _lines(value._repr_html_())
    output = {"data": dict(sorted(data.items())), "execution_count": count, "metadata": {}}
    return [{**output, "output_type": "execute_result"}]


def _lines(text: str) -> list[str]:
    return text.splitlines(keepends=True)


def without_images(made: str) -> Any:
    """Return a notebook as plain data without its images: their letters are those of the machine's fonts."""
    whole = json.loads(made)
    for cell in whole["cells"]:
        for output in cell.get("outputs", ()):
            output["data"].pop(IMAGE, None)
    return whole


@contextlib.contextmanager
def _folder() -> Iterator[None]:
    """Stand in a new folder that holds the samples."""
    with tempfile.TemporaryDirectory(prefix="hs-analysis-notebook-") as place:
        (Path(place) / "data_samples").symlink_to(ROOT / "data_samples")
        with contextlib.chdir(place):
            yield


def main() -> int:
    """Write the notebooks, or compare them."""
    stale = 0
    for script in SCRIPTS:
        file = script.with_suffix(".ipynb")
        with _folder():
            text = notebook(script.read_text("utf-8"))
        kept = file.read_text("utf-8") if file.is_file() else ""
        if kept and without_images(kept) == without_images(text):
            continue
        if "--check" in sys.argv[1:]:
            stale += 1
            sys.stdout.write(f"{file.relative_to(ROOT)} is stale: make docs\n")
        else:
            file.write_text(text, "utf-8")
    return min(stale, 1)


if __name__ == "__main__":
    sys.exit(main())
