"""YAML text of an export: the same bytes for the same values, and the same values for every reader."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.scalarstring import DoubleQuotedScalarString

# Expressions stay on one line: a folded query is hard to copy.
_WIDTH = 100_000
# Text that Kubernetes' YAML 1.1 would read as a boolean, null, time or number, although YAML 1.2 would not.
_MISREAD = re.compile(
    r"y|n|yes|no|on|off|true|false|null|~|[-+]?[0-9][0-9_]*(:[0-5]?[0-9])+(\.[0-9_]*)?|[-+]?[.0-9][0-9_.e+-]*"
    r"|0[xob][0-9a-f_]+|[-+]?\.(inf|nan)",
    re.IGNORECASE,
)


def dump(documents: Sequence[Any]) -> str:
    """Return plain values as YAML documents in the order given, keys in the order they were put in."""
    yaml = YAML()
    yaml.width = _WIDTH
    yaml.indent(mapping=2, sequence=4, offset=2)
    parts = []
    for body in documents:
        stream = io.StringIO()
        yaml.dump(_quoted(body), stream)
        parts.append(stream.getvalue())
    return "---\n".join(parts)


def load(text: str) -> list[Any]:
    """Return the documents of a YAML text as plain values."""
    return list(YAML(typ="safe", pure=True).load_all(text))


def _quoted(value: Any) -> Any:
    if isinstance(value, dict):
        return {_quoted(key): _quoted(below) for key, below in value.items()}
    if isinstance(value, list):
        return [_quoted(below) for below in value]
    if isinstance(value, str) and _MISREAD.fullmatch(value):
        return DoubleQuotedScalarString(value)
    return value
