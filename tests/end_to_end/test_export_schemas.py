"""What every export target writes for a shipped sample passes the strict schema of its own kind."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from end_to_end.runs import SAMPLES, Finished, Run
from ruamel.yaml import YAML

from hs_analysis.export import TARGETS
from hs_analysis.export.model import HEADER_LINES

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


@pytest.mark.parametrize("target", [name for name in TARGETS if name not in ("rules", "heteroscale")])
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
