"""See which functions and queries run, among those that explanations and reports name."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from importlib import import_module
from pkgutil import walk_packages
from typing import Any

import pytest

import hs_analysis
from hs_analysis.pipeline.provenance import MAKERS, Maker, name_of
from hs_analysis.store import Database


@contextmanager
def traced() -> Iterator[set[str]]:
    """Give the set of names that fills as their functions are called and their queries executed.

    A function is replaced wherever a module or class holds it; what it does stays. All modules are loaded
    before: one that is loaded meanwhile would keep the replacement for good.
    """
    for module in walk_packages(hs_analysis.__path__, "hs_analysis."):
        import_module(module.name)
    ran: set[str] = set()
    named = {maker for makers in MAKERS.values() for maker in makers}
    with pytest.MonkeyPatch.context() as patch:
        for function in (maker for maker in named if not isinstance(maker, str)):
            _replace(patch, function, _noting(function, name_of(function), ran))
        relation = Database.relation

        def noted(self: Database, name: str, *arguments: Any, **more: Any) -> Any:
            ran.add(name_of(name))
            return relation(self, name, *arguments, **more)

        patch.setattr(Database, "relation", noted)
        yield ran


def _noting(function: Callable[..., Any], name: str, ran: set[str]) -> Callable[..., Any]:
    @wraps(function)
    def noted(*arguments: Any, **more: Any) -> Any:
        ran.add(name)
        return function(*arguments, **more)

    return noted


def _replace(patch: pytest.MonkeyPatch, function: Maker, by: Callable[..., Any]) -> None:
    modules = [module for name, module in sys.modules.items() if name.partition(".")[0] == "hs_analysis"]
    classes = [one for module in modules for one in vars(module).values() if isinstance(one, type)]
    for holder in (*modules, *classes):
        for name, held in list(vars(holder).items()):
            if held is function:
                patch.setattr(holder, name, by)
