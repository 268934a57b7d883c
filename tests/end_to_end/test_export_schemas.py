"""What every export target writes for a shipped sample passes the strict schema of its own kind."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from end_to_end.runs import SAMPLES, Finished, Run
from ruamel.yaml import YAML
from test_prose import prose

from hs_analysis.export.model import HEADER_LINES
from hs_analysis.schema.names import TARGET_TITLES

SCHEMAS = {
    "ScaledObject": "scaledobject",
    "HorizontalPodAutoscaler": "hpa",
    "LLMInferenceService": "kserve",
    "PodAutoscaler": "aibrix",
    "CoordinatedPolicy": "coordinatedpolicy",
    "AutoscalerPolicy": "ome",
    "AutoscalingPolicy": "kthena",
}


@pytest.fixture(scope="module", params=["dynamo-pd", pytest.param("simulated-days", marks=pytest.mark.slow)])
def sample(request: pytest.FixtureRequest, root: Path, finished: Finished) -> Run:
    """A run of a shipped sample."""
    return finished(root / "data_samples" / request.param, *SAMPLES[request.param])


def _schema(root: Path, name: str) -> Any:
    return json.loads((root / "tests" / "export" / f"{name}.schema.json").read_text("utf-8"))


def _schema_name(document: dict[str, Any]) -> str | None:
    """Return the schema of a document; None for rules and for kinds without one."""
    if "optimization_target" in document:
        return "planner"
    kind = str(document.get("kind", ""))
    return SCHEMAS.get(kind)


@pytest.mark.parametrize("target", [*sorted({*TARGET_TITLES} - {"heteroscale"}), "grafana"])
def test_every_object_of_a_sample_passes_its_strict_schema(sample: Run, root: Path, target: str) -> None:
    """One object at least, no unknown field, and few lines above it."""
    checked = 0
    for path in sorted((sample.folder / "exports" / target).glob("*.dashboard.json")):
        jsonschema.validate(json.loads(path.read_text("utf-8")), _schema(root, "dashboard"))
        checked += 1
    for path in sorted((sample.folder / "exports" / target).glob("*.yaml")):
        text = path.read_text("utf-8")
        for document in YAML(typ="safe", pure=True).load_all(text):
            if (name := _schema_name(document)) is None:
                continue
            jsonschema.validate(document, _schema(root, name))
            checked += 1
            assert sum(line.startswith("#") for line in text.splitlines()) <= HEADER_LINES, path.name
    assert checked


def test_the_page_beside_the_exports_names_every_file_and_is_plain(sample: Run) -> None:
    """APPLY.md and summary.json have the same steps; each path is a file, and the prose keeps its rules."""
    text = (sample.folder / "exports" / "APPLY.md").read_text("utf-8")
    (service,) = sample.summary["services"]
    steps = [one for part in ("check", "steps", "watch", "back") for one in service["apply"][part]]
    assert all(one["command"] in text and one["why"] in text for one in steps)
    paths = re.findall(r"exports/[\w./-]+\.yaml", text)
    assert paths
    assert [path for path in paths if not (sample.folder / path).is_file()] == []
    found = prose().measure(text)
    assert prose().banned_in(text) == []
    assert found.sentence_words <= prose().SENTENCE_WORDS
    assert found.reading_ease >= prose().READING_EASE
