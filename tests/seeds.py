"""Which of many cases of one law the fast suite takes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest


def first(fast: int, cases: Iterable[Any]) -> list[Any]:
    """Return the cases as parameters; those after the first few are slow tests."""
    return [
        pytest.param(
            *(case if isinstance(case, tuple) else (case,)), marks=[pytest.mark.slow] * (number >= fast)
        )
        for number, case in enumerate(cases)
    ]
