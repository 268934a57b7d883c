"""The record of llm-d's router about the prefill throughput of an instance, as its maintainers propose it.

After llm-d-router#2938 (17dd1ab, open), pkg/epp/framework/plugins/scheduling/filter/prefixcacheaffinity.
The router applies a record of status OK that was measured on an idle stack, with prompts of one chunk of its
engine. A history tells no chunk, so that the status here is NOT_RUN and the router skips the record: what the
history does tell is beside it, under a key of our own that the router does not read.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from hs_analysis.export.model import ExportOptions, warning_of
from hs_analysis.policy.model import Policy

CALIBRATION_SUFFIX = "calibration.json"
SCHEMA_VERSION = 1
STATUSES = ("OK", "NOT_RUN", "FAILED", "BLOCKED")
SAMPLES_MIN = 10
"""Valid samples below which the router does not apply a record [requests]."""

OWN = "hs_analysis"
"""Key of what the router does not read."""

_DEFINITION = "cache-missed prompt tokens per second that a prefill instance takes while the SLO just holds"
_REASON = (
    "the router's throughput is one chunk of prompt ÷ the median TTFT of an idle stack, and metrics tell no "
    "chunk (--max-num-batched-tokens): run its recipe, or take the value below for what its definition says"
)


def calibration_record(policy: Policy, options: ExportOptions) -> str:
    """Return the record as JSON; a key whose value is not known is absent.

    The median TTFT and its requests are there where requests found the service empty. The interval of the
    capacity, its definition and the fingerprint of the input ride along under `OWN`.
    """
    measured = options.measured
    capacity, idle = measured.prefill_capacity, measured.idle_ttft
    warning = {} if policy.recommended else {"warning": warning_of(options)}
    own: dict[str, Any] = {**warning, "reason": _REASON}
    if capacity is not None:
        own |= {
            "definition": _DEFINITION,
            "prefill_tokens_per_second": {
                "value": capacity.value, "low": capacity.low, "high": capacity.high,
            },
        }  # fmt: skip
    if idle is not None:
        own["idle_prompt_tokens"] = idle.prompt_tokens
    own |= {
        "window": policy.window,
        "fingerprint": f"sha256:{policy.inputs_sha256}",
        "tool_version": policy.tool_version,
    }
    body = {
        "schema_version": SCHEMA_VERSION,
        "status": "NOT_RUN",
        "fingerprint": "",
        "valid_samples": 0 if idle is None else idle.requests,
        **({} if idle is None else {"median_ttft_seconds": idle.median_s}),
        "applied": False,
        OWN: own,
    }
    return json.dumps(body, indent=2, ensure_ascii=False, default=str) + "\n"


_KEYS: Mapping[str, tuple[type, ...]] = {
    "schema_version": (int,),
    "status": (str,),
    "fingerprint": (str,),
    "model_revision": (str,),
    "engine_image_digest": (str,),
    "chunk_tokens": (int,),
    "valid_samples": (int,),
    "median_ttft_seconds": (int, float),
    "peak_prefill_tokens_per_second": (int, float),
    "applied": (bool,),
}
_NEEDED_IF_OK = ("chunk_tokens", "median_ttft_seconds", "peak_prefill_tokens_per_second")


def lint_calibration(record: Mapping[str, Any]) -> list[str]:
    """Return why the router would not take a record as it is meant, one sentence a problem."""
    found = [f"{key} is no key of the record" for key in record if key not in _KEYS and key != OWN]
    for key, kinds in _KEYS.items():
        value = record.get(key)
        if value is not None and (
            not isinstance(value, kinds) or isinstance(value, bool) != (kinds == (bool,))
        ):
            found.append(f"{key} {value!r} is of another type")
    if record.get("schema_version") != SCHEMA_VERSION:
        found.append(f"schema_version is not {SCHEMA_VERSION}")
    if record.get("status") not in STATUSES:
        found.append(f"status is not one of {', '.join(STATUSES)}")
    if found or record.get("status") != "OK":
        return found
    for key in _NEEDED_IF_OK:
        value = record.get(key)
        if value is None or not math.isfinite(value) or value <= 0:
            found.append(f"{key} is not above 0, and the status is OK")
    if (record.get("valid_samples") or 0) < SAMPLES_MIN:
        found.append(f"valid_samples is below {SAMPLES_MIN}, and the status is OK")
    if not record.get("fingerprint"):
        found.append("fingerprint is empty, and the status is OK")
    return found
