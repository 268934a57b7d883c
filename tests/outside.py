"""Programs and packages that installing hs_analysis does not bring, and how tests ask for them.

A test that needs some is marked ``outside("promtool", …)``. Where one is missing the test is skipped before
anything is made for it, and the reason names what is missing; with CI=true it fails, because there all are
installed. ``.ci/run`` runs these tests, and the others of their modules, once more where there is none.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Collection
from importlib.util import find_spec

import pytest

PROGRAMS = {
    "promtool": "Debian package prometheus",
    "prometheus": "Debian package prometheus",
    "chromium": "Debian package chromium, or name another browser in HSA_CHROMIUM",
    "curl": "Debian package curl",
    "git": "Debian package git",
    "jq": "Debian package jq",
    "openssl": "Debian package openssl",
    "sha256sum": "Debian package coreutils",
}
"""What brings each program."""

PACKAGES = {
    "ray": "extra ray of hs-analysis",
    "playwright": "extra test of hs-analysis",
    "axe_playwright_python": "extra test of hs-analysis",
}
"""What brings each package."""

BROWSERS = (os.environ.get("HSA_CHROMIUM", ""), "chromium", "chromium-browser", "google-chrome")

_declared: Collection[str] = ()


def expect(item: pytest.Item) -> None:
    """Note what a test declares; skip it where something of it is missing, or fail where CI promises it."""
    global _declared
    _declared = {name for mark in item.iter_markers("outside") for name in mark.args}
    missing = [f"{name} ({(PROGRAMS | PACKAGES)[name]})" for name in sorted(_declared) if not _found(name)]
    if missing:
        message = f"not installed: {', '.join(missing)}"
        if os.environ.get("CI", "").lower() == "true":
            pytest.fail(f"{message}; CI=true promises it", pytrace=False)
        pytest.skip(message)


def needs(name: str) -> str:
    """Return the path of a program that the running test has declared."""
    assert name in _declared, f'a test that needs {name} is marked @pytest.mark.outside("{name}")'
    return _found(name)


def _found(name: str) -> str:
    if name in PACKAGES:
        return name if find_spec(name) else ""
    names = BROWSERS if name == "chromium" else (name,)
    return next((path for known in names if known and (path := shutil.which(known))), "")
