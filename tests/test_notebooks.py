"""The notebooks run, and hold what their scripts give now."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import re
import shutil
from pathlib import Path
from types import ModuleType

import pytest
from end_to_end.runs import SAMPLES, Finished

from hs_analysis import Replayed, load_run

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def maker() -> ModuleType:
    """Return docs/notebooks.py as a module."""
    spec = importlib.util.spec_from_file_location("docs_notebooks", ROOT / "docs" / "notebooks.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_notebooks_hold_what_their_scripts_give(
    maker: ModuleType, finished: Finished, tmp_path: Path
) -> None:
    """Each script runs from its first cell to its last, and its notebook is what that gives; make docs."""
    sample = "dynamo-pd"
    run = finished(ROOT / "data_samples" / sample, *SAMPLES[sample]).folder
    assert [script.stem for script in maker.SCRIPTS] == ["own_policy"]
    for script in maker.SCRIPTS:
        place = tmp_path / script.stem
        shutil.copytree(run, place / "reports" / "notebook")
        shutil.copytree(ROOT / "data_samples" / sample, place / "data_samples" / sample)
        with contextlib.chdir(place):
            made = maker.without_images(maker.notebook(script.read_text("utf-8")))
        kept = maker.without_images(script.with_suffix(".ipynb").read_text("utf-8"))
        for ours, theirs in zip(made["cells"], kept["cells"], strict=True):
            assert ours == theirs
        assert {**made, "cells": 0} == {**kept, "cells": 0}


def test_examples_of_the_page_run_one_after_another(finished: Finished, tmp_path: Path) -> None:
    """The Python of the how-to page runs as it stands, on a run and on a table of that name."""
    run = finished(ROOT / "data_samples" / "dynamo-pd", *SAMPLES["dynamo-pd"]).folder
    shutil.copytree(run, tmp_path / "reports" / "mine")
    load_run(run).signals().write_parquet(tmp_path / "mine.parquet")
    page = (ROOT / "docs" / "howto" / "python.md").read_text("utf-8")
    blocks = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    assert len(blocks) == 4
    names: dict[str, object] = {}
    with contextlib.chdir(tmp_path):
        for block in blocks:
            exec(block, names)
    assert isinstance(names["found"], Replayed)


def test_cells_of_a_script_become_cells_with_what_they_gave(maker: ModuleType) -> None:
    """Markdown loses its marks; of code only the value of a last expression is shown; names live on."""
    script = "# %% [markdown]\n# # Title\n#\n# text\n\n# %%\nx = 2\n\n# %%\nx + 1\n"
    made = json.loads(maker.notebook(script))
    title, silent, shown = made["cells"]
    assert "".join(title["source"]) == "# Title\n\ntext"
    assert silent["outputs"] == []
    assert shown["outputs"][0]["data"] == {"text/plain": ["3"]}
    assert [silent["execution_count"], shown["execution_count"]] == [1, 2]
    assert made["nbformat"] == 4
    assert len({cell["id"] for cell in made["cells"]}) == 3
