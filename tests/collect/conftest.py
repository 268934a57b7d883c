"""A client of a scripted server, with a clock that only sleeping moves; a real one over a snapshot."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from collect.recording_server import Script, serving
from collect.snapshot import fetch_into, unpacked
from export.prometheus_server import prometheus_over
from typer.testing import CliRunner

from hs_analysis.cli.app import app
from hs_analysis.collect.access import Access
from hs_analysis.collect.server import Pace, PrometheusServer


class Clock:
    """A clock that only sleeping moves."""

    def __init__(self) -> None:
        self.now, self.slept = 0.0, []

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


@pytest.fixture
def clock() -> Clock:
    """Return a clock that stands still."""
    return Clock()


@pytest.fixture
def ask(clock: Clock) -> Iterator[Callable]:
    """Return a maker of clients for a script; every note is kept."""
    stack = []

    def make(script: Script, access: Access | None = None, rate: float = 1e9, timeout_s: float = 10.0):
        serves = serving(script)
        url, asked = serves.__enter__()
        stack.append(serves)
        notes: list[str] = []
        pace = Pace(rate, lambda: clock.now, clock.sleep)
        return PrometheusServer(url, access or Access(), pace, notes.append, timeout_s), asked, notes

    yield make
    for serves in reversed(stack):
        serves.__exit__(None, None, None)


def pytest_itemcollected(item: pytest.Item) -> None:
    """Mark what looks at a real server."""
    if "prometheus" in getattr(item, "fixturenames", ()):
        item.add_marker(pytest.mark.outside("prometheus"))


@pytest.fixture(scope="session")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Prometheus over the snapshot."""
    with prometheus_over(unpacked(tmp_path_factory.mktemp("tsdb"))) as url:
        yield url


@pytest.fixture(scope="session")
def pulled(prometheus: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder pulled in one go; tests must not change it."""
    folder = tmp_path_factory.mktemp("pulled") / "dumps"
    fetch_into(folder, prometheus)
    return folder


@pytest.fixture
def hsa():
    """Run the program in this process, without settings of the user's own."""

    def run(*arguments: str | Path, **more: str) -> subprocess.CompletedProcess[str]:
        words = [str(word) for word in arguments]
        environment = {name: None for name in os.environ if name.startswith("HSA_")}
        done = CliRunner().invoke(
            app, words, env={**environment, "NO_PROXY": "127.0.0.1", **more}, catch_exceptions=False
        )
        return subprocess.CompletedProcess(words, done.exit_code, done.stdout, done.stderr)

    return run
