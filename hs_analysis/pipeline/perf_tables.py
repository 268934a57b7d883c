"""Performance tables of the optional package aiconfigurator-core: the only place that imports it."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module, metadata, resources
from typing import Any

from hs_analysis.derive.prior import STEP_TOKENS
from hs_analysis.errors import UsageError
from hs_analysis.schema.settings import PriorSource
from hs_analysis.settings.values import suggestion

PACKAGE = "aiconfigurator_core"

INSTALL = "pip install 'hs-analysis[prior]'"

MEMORY_SHARE = 0.9
"""Share of GPU memory (TensorRT-LLM: of what the model leaves) that an engine takes [ratio]. Default of
vLLM and TensorRT-LLM."""

SIZED_REQUESTS = 256
"""Requests for whose buffers memory is set aside before the KV cache gets the rest: vLLM's older default."""

WHERE = "prior"


@dataclass(frozen=True)
class Core:
    """What is used of the package.

    Attributes
    ----------
    engine
        Its class ``EngineHandle``.
    estimate_kv_cache
        Its estimate of KV memory.
    engine_version
        (system, engine, alias) → version of the engine that the tables were measured on.
    version
        Its version, for tables differ by it.
    models, systems
        What its tables hold; a model that is none of them would be looked for on the network.
    """

    engine: Any
    estimate_kv_cache: Any
    engine_version: Any
    version: str
    models: tuple[str, ...]
    systems: tuple[str, ...]


def core() -> Core:
    """Return what is used of the package.

    Raises
    ------
    UsageError
        When it is not installed.
    """
    try:
        engine, memory, tables = (
            import_module(f"{PACKAGE}.sdk.{name}") for name in ("engine", "memory", "perf_database")
        )
    except ImportError as error:
        raise UsageError("a prior needs performance tables", where=WHERE, hint=INSTALL) from error
    ends = {"model_configs": "_config.json", "systems": ".yaml"}
    names = {
        folder: [one.name for one in (resources.files(PACKAGE) / folder).iterdir() if one.name.endswith(end)]
        for folder, end in ends.items()
    }
    models = (name.removesuffix("_config.json").replace("--", "/") for name in names["model_configs"])
    return Core(
        engine.EngineHandle,
        memory.estimate_kv_cache,
        tables.resolve_query_version,
        metadata.version("aiconfigurator-core"),
        tuple(sorted(name for name in models if not name.endswith("_hf_quant"))),
        tuple(sorted(name.removesuffix(".yaml") for name in names["systems"])),
    )


@dataclass(frozen=True)
class Instance:
    """Times of one instance, in seconds; satisfies `hs_analysis.derive.prior.PerfTables`."""

    name: str
    gpus: int
    kv_tokens: int | None
    handle: Any

    def prefill_s(self, requests: int, length: int, cached: int) -> float:
        """Return the time of one prefill step [s], NaN where the tables have none."""
        return _seconds(self.handle.predict_prefill_latency, requests, length, cached)

    def decode_s(self, requests: int, context: int) -> float:
        """Return the time of one decode step [s], NaN where the tables have none."""
        return _seconds(self.handle.predict_decode_latency, requests, context, 2)


def _seconds(predict: Callable[..., float], *shape: int) -> float:
    try:
        return float(predict(*shape)) / 1e3
    except Exception:  # the package raises whatever its parts raise
        return math.nan


def instance_of(source: PriorSource) -> Instance:
    """Return the tables of one instance.

    Raises
    ------
    UsageError
        When the package is not installed, or has no tables for the model, system and engine.
    """
    found = core()
    model, system = source.model or "", source.system or ""
    for what, name, known in (("model", model, found.models), ("system", system, found.systems)):
        if not name:
            hint = f"say {what} = … under [prior], or --prior MODEL@SYSTEM"
            raise UsageError(f"a prior needs a {what}", where=WHERE, hint=hint)
        if name not in known:
            raise UsageError(f"the tables hold no {what} {name!r}", where=WHERE, hint=suggestion(name, known))
    try:
        with _quiet():
            release = found.engine_version(system, source.engine, "current")
            # Experts are cut as the rest is: what engines do unless they are told otherwise.
            size = {"backend_version": release, "tp_size": source.tp, "moe_tp_size": source.tp}
            handle = found.engine.compile(model, system, source.engine, **size)
            kv_tokens = _kv_tokens(found, source, size)
    except Exception as error:  # the package raises whatever its parts raise
        said = next(iter(str(error).strip().splitlines()), type(error).__name__)
        hint = "give another system, engine or tp"
        raise UsageError(f"no tables for {source.name} ({said})", where=WHERE, hint=hint) from error
    name = f"{source.name} ({source.engine} {release}, aiconfigurator-core {found.version})"
    return Instance(name, source.tp, kv_tokens, handle)


def _kv_tokens(found: Core, source: PriorSource, size: Mapping[str, Any]) -> int | None:
    """Return the tokens that the KV cache of one instance holds, None where the package can't tell."""
    try:
        estimate = found.estimate_kv_cache(
            source.model, source.system, source.engine, max_num_tokens=STEP_TOKENS,
            max_batch_size=SIZED_REQUESTS, memory_fraction_value=MEMORY_SHARE,
            memory_fraction_kind="of_free" if source.engine == "trtllm" else "of_total", **size,
        )  # fmt: skip
    except ValueError:
        return None
    return int(estimate["total_kv_size_tokens"])


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep what the package logs about tables that a run does not use off the terminal."""
    logger = logging.getLogger(PACKAGE)
    before = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        logger.setLevel(before)
