"""hs_analysis: which metric to autoscale prefill/decode LLM serving on, proved from metric dumps.

From Python: ``from hs_analysis import load_run, run, study, derive, replay``; see `hs_analysis.api`.
Nothing is loaded before it is used. ``study``, ``derive`` and ``replay`` are packages of the program too: the
packages themselves can be called, so that an import of one never takes the function away.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from hs_analysis.api import (
        Replayed,
        Run,
        as_frame,
        derive,
        frame_of,
        load_run,
        replay,
        run,
        study,
        with_targets,
    )
    from hs_analysis.errors import HsError

__all__ = [
    "HsError",
    "Replayed",
    "Run",
    "as_frame",
    "derive",
    "frame_of",
    "load_run",
    "replay",
    "run",
    "study",
    "with_targets",
]

_STAGES = ("study", "derive", "replay")
"""Names that are a package of the program and a function of `hs_analysis.api`."""


class _Stage(ModuleType):
    # A package of the program that is called as the function of the same name.
    __doc__ = property(lambda self: self.__wrapped__.__doc__)

    @property
    def __wrapped__(self) -> Any:
        """The function, for what shows signatures."""
        return getattr(import_module("hs_analysis.api"), self.__name__.rpartition(".")[2])

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.__wrapped__(*args, **kwargs)


class _Package(ModuleType):
    """The package itself: it loads names when they are asked for, and makes stages' packages callable."""

    def __setattr__(self, name: str, value: Any) -> None:
        if name in _STAGES and isinstance(value, ModuleType):  # Python binds a package that it has imported
            value.__class__ = _Stage
        super().__setattr__(name, value)

    def __getattr__(self, name: str) -> Any:
        if name in _STAGES:
            return import_module(f"hs_analysis.{name}")
        if name == "HsError":
            return import_module("hs_analysis.errors").HsError
        if name in __all__:
            return getattr(import_module("hs_analysis.api"), name)
        raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *__all__})


sys.modules[__name__].__class__ = _Package
