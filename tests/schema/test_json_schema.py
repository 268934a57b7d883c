"""The JSON Schemas of the package: generated, named without an address, and true to files of before.

``kept/`` holds files as they were written under each version of a schema. A schema of the same version has to
accept them: a new key says ``since`` in its declaration, and what takes a key away or changes one makes a new
version. Files of a version that no release has written yet may be written again.
"""

from __future__ import annotations

import gzip
import json
import re
import tomllib
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from ruamel.yaml import YAML

from hs_analysis.errors import HsError
from hs_analysis.policy import declaration
from hs_analysis.schema import summary
from hs_analysis.schema.declare import declared
from hs_analysis.schema.json_schema import DIALECT, SCHEMA_FILES, schema_text, shipped_schema
from hs_analysis.settings import json_schema as settings_schema
from hs_analysis.settings.file import read_file
from hs_analysis.settings.registry import template

KEPT = Path(__file__).parent / "kept"
GOLDEN = Path(__file__).resolve().parents[1] / "golden"
MAKERS = {
    "summary": summary.json_schema,
    "policy": declaration.json_schema,
    "settings": settings_schema.json_schema,
}


EXAMPLE = "http://prometheus.monitoring.svc:9090"
"""An address that the description of a setting may show."""


@cache
def validator(kind: str) -> Draft202012Validator:
    """Return what checks files of a kind by the schema that the package ships."""
    schema = json.loads(shipped_schema(kind))
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema)


def plain(value: Any) -> Any:
    """Return TOML as editors see it: its times are texts."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [plain(item) for item in value]
    return value.isoformat() if isinstance(value, datetime) else value


def documents(path: Path) -> list[Any]:
    """Return the documents of a file."""
    data = path.read_bytes()
    text = (gzip.decompress(data) if path.suffix == ".gz" else data).decode("utf-8")
    if ".json" in path.suffixes:
        return [json.loads(text)]
    if path.suffix == ".toml":
        return [plain(tomllib.loads(text))]
    return list(YAML(typ="safe", pure=True).load_all(text))


def problems(kind: str, document: Any) -> list[str]:
    """Return what the shipped schema of a kind says against a document."""
    return [f"{'/'.join(map(str, e.path))}: {e.message[:200]}" for e in validator(kind).iter_errors(document)]


@pytest.mark.parametrize("kind", sorted(SCHEMA_FILES))
def test_a_shipped_schema_is_the_generated_one(kind: str) -> None:
    """The file in the package is what the declarations say now; `make docs` renews it."""
    assert shipped_schema(kind) == schema_text(MAKERS[kind]())


def test_a_schema_is_named_without_an_address() -> None:
    """Its name is a URN with the version of the file's shape; only the dialect is an address."""
    names = {kind: json.loads(shipped_schema(kind))["$id"] for kind in SCHEMA_FILES}
    assert names == {
        "summary": f"urn:hs-analysis:summary:{summary.SCHEMA_VERSION}",
        "policy": f"urn:hs-analysis:policy:{declaration.SCHEMA.rpartition('/')[2]}",
        "settings": f"urn:hs-analysis:settings:{settings_schema.VERSION}",
    }
    for kind in SCHEMA_FILES:
        assert "://" not in shipped_schema(kind).replace(DIALECT, "").replace(EXAMPLE, ""), kind


@pytest.mark.parametrize("path", sorted(KEPT.iterdir()), ids=lambda path: path.name)
def test_files_of_before_still_validate(path: Path) -> None:
    """What was written under a version of a schema is valid under that version as it is now."""
    kind, version = path.name.split(".")[0].split("-")[:2]
    assert json.loads(shipped_schema(kind))["$id"].endswith(f":{version}"), (
        "keep files of the new version too"
    )
    for document in documents(path):
        assert problems(kind, document) == []


@pytest.mark.parametrize("name", ["dynamo-pd", "simulated-days"])
def test_answers_of_the_samples_validate(name: str) -> None:
    """The kept answers of both samples are what their schemas say."""
    for kind, file in (("summary", "summary.json"), ("policy", "policy.yaml")):
        for document in documents(GOLDEN / name / file):
            assert problems(kind, document) == []


def test_a_policy_has_its_keys_in_the_declared_order() -> None:
    """The declaration is the order of the file too; a fresher range for growth is optional."""
    (document,) = documents(GOLDEN / "simulated-days" / "policy.yaml")
    parts = (
        (declaration.PolicyDocument, document),
        (declaration.Metadata, document["metadata"]),
        (declaration.Spec, document["spec"]),
        (declaration.ReadingRule, document["spec"]["reading"]),
        (declaration.Status, document["status"]),
    )
    for kind, part in parts:
        left_out = {"surge"} - set(part) if kind is declaration.ReadingRule else set()
        assert list(part) == [one.key for one in declared(kind) if one.key not in left_out], kind


def test_every_setting_of_the_starter_validates() -> None:
    """All settings at once, as hsa init shows them, and none at all."""
    text = template({})
    assert problems("settings", plain(tomllib.loads(text))) == []
    every = plain(tomllib.loads(re.sub(r"(?m)^#(?=[^ #])", "", text)))
    assert problems("settings", every) == []
    assert set(every) == set(json.loads(shipped_schema("settings"))["properties"])


@pytest.mark.parametrize(
    "text",
    [
        "sead = 1",
        "seed = 1.5",
        "seed = -1",
        "draws = 19",
        "headroom_ratio = 1.5",
        'engine = "spark"',
        "slo = 1",
        '[slo]\nttft = "2.5"',
        "[slo]\nttft = 2.5",
        "[slo]\nquantile = 1.0",
        '[slo]\nttfb = "1s"',
        '[export]\ntarget = "swarm"',
        "[reading]\nsalvage = 1",
        '[history]\nservice = "chat/llama"',
        '[bounds]\ndecode = "many"',
        "[bounds]\ndecode = { least = 2 }",
        "[bounds]\ndecode = { min = 0 }",
        '[roles]\n"^gen-" = "both"',
        '[gpus]\nrouter = 1',
        "[gpus]\ndecode = 0",
        '[prices]\n"NVIDIA H20" = "1"',
        '[metrics]\nqps = "request_rate"',
        '[metrics]\nqps = { kind = "gauge" }',
        '[metrics]\nqps = { signal = "request_rte" }',
        '[metrics]\nqps = { signal = "request_rate", king = "gauge" }',
        '[tables.fleet]\ntime = "ts"\ncolumns = { a = { signal = "ttft" } }',
        '[tables.fleet]\nmatch = "a.csv"\ntime = "ts"\ntime_unit = "h"\nmetric = "m"\nvalue = "v"',
        '[unknown]\na = 1',
    ],
)  # fmt: skip
def test_the_schema_refuses_what_the_reader_refuses(tmp_path: Path, text: str) -> None:
    """An editor underlines what hsa would refuse: unknown keys, other forms, words that are none."""
    path = tmp_path / "hsa.toml"
    path.write_text(text, "utf-8")
    with pytest.raises(HsError):
        read_file(path)
    assert problems("settings", plain(tomllib.loads(text))) != []


@pytest.mark.parametrize(
    "text",
    [
        'headroom_ratio = 1',
        'headroom_ratio = "85%"',
        '[slo]\nttft = "1h30m"\nquantile = "95%"',
        "[history]\nfrom = 2026-07-01T00:00:00Z",
        '[bounds]\ndecode = "2.."\nprefill = "..40"\nmixed = { max = 3 }\ngpus = 256',
        '[gpus]\n"*" = 8',
        '[metrics]\nqps = { signal = "request_rate", averaged = "6h", where = { type = "chat" } }',
        '[tables.fleet]\nmatch = "a.csv"\ntime = "ts"\nlabels = { v = "model" }\n'
        'skip_where = { ok = [false, "x"] }\ncolumns = { a = { signal = "ttft", unit = "ms" } }',
        '[tables.log]\nmatch = "a.csv"\nholds = "requests"\ntime = "ts"\nmetric = "m"\nvalue = "v"',
    ],
)  # fmt: skip
def test_the_schema_accepts_what_the_reader_accepts(tmp_path: Path, text: str) -> None:
    """An editor underlines nothing that is right, in each of the forms that a setting has."""
    path = tmp_path / "hsa.toml"
    path.write_text(text, "utf-8")
    read_file(path)
    assert problems("settings", plain(tomllib.loads(text))) == []
