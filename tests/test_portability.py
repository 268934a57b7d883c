"""Nothing in the code stands against macOS and Windows: modules, calls, encodings, line ends, file names."""

from __future__ import annotations

import ast
import re
import signal
from collections.abc import Iterator
from pathlib import Path, PureWindowsPath

import pytest

from hs_analysis.export.model import file_stem
from hs_analysis.pipeline import tables, tasks

MODULES = {
    "fcntl",
    "pwd",
    "grp",
    "resource",
    "termios",
    "tty",
    "pty",
    "posix",
    "syslog",
    "curses",
    "readline",
}
"""Modules that Windows has not."""

CALLS = {
    "os": {
        "fork", "getuid", "geteuid", "getgid", "getpgid", "killpg", "sysconf", "uname", "mkfifo", "chown",
        "getloadavg", "sched_getaffinity", "statvfs", "setsid", "fchmod", "O_NOFOLLOW", "O_DIRECTORY",
    },
    "signal": {"SIGKILL", "SIGALRM", "SIGHUP", "SIGCHLD", "SIGPIPE", "SIGUSR1", "alarm", "pthread_sigmask"},
}  # fmt: skip
"""Names of modules that Windows or macOS has without them."""

GUARDED = {("hs_analysis/pipeline/tasks.py", "signal.pthread_sigmask")}
"""Uses behind a question whether the system has it."""


@pytest.fixture(scope="module")
def trees(root: Path) -> list[tuple[str, ast.AST]]:
    """The modules of the package, parsed; only those that name something of interest."""
    words = re.compile("|".join([*(rf"\b{one}\b" for one in (*MODULES, *CALLS)), "read_text", "write_text"]))
    texts = {path: path.read_text("utf-8") for path in sorted((root / "hs_analysis").rglob("*.py"))}
    wanted = {path: text for path, text in texts.items() if words.search(text)}
    return [(path.relative_to(root).as_posix(), ast.parse(text)) for path, text in wanted.items()]


def of_one_system(tree: ast.AST) -> Iterator[str]:
    """Return what a module uses that not every system has."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (one.name for one in node.names if one.name.partition(".")[0] in MODULES)
        elif isinstance(node, ast.ImportFrom) and node.module:
            if node.module.partition(".")[0] in MODULES:
                yield node.module
            names = CALLS.get(node.module, set())
            yield from (f"{node.module}.{one.name}" for one in node.names if one.name in names)
        elif isinstance(node, ast.Attribute):
            module = getattr(node.value, "id", "")
            yield from (f"{module}.{name}" for name in CALLS.get(module, ()) if name == node.attr)


def texts_of_the_system(tree: ast.AST) -> Iterator[str]:
    """Return calls that read or write text by the system's own encoding or line ends."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        given = {one.arg for one in node.keywords}
        if name == "read_text" and not (node.args or "encoding" in given):
            yield f"line {node.lineno}: read_text without an encoding"
        whole = (len(node.args) > 1 or "encoding" in given) and "newline" in given
        if name == "write_text" and isinstance(node.func, ast.Attribute) and not whole:
            yield f"line {node.lineno}: write_text without an encoding or its line ends"


def test_the_package_uses_what_every_system_has(trees: list[tuple[str, ast.AST]]) -> None:
    """No module or call that Windows or macOS lacks, but behind a question for it."""
    found = {(path, name) for path, tree in trees for name in of_one_system(tree)}
    assert found == GUARDED


def test_texts_have_one_encoding_and_one_line_end(trees: list[tuple[str, ast.AST]]) -> None:
    """UTF-8 and a line feed whatever the system: answers are byte-equal everywhere."""
    found = [f"{path} {what}" for path, tree in trees for what in texts_of_the_system(tree)]
    assert found == []


@pytest.mark.parametrize(
    "code",
    ["import fcntl", "from os import fork", "import os\nos.getuid()", "import signal\nsignal.alarm(1)"],
)
def test_a_call_of_one_system_is_seen(code: str) -> None:
    """The search is not blind."""
    assert list(of_one_system(ast.parse(code)))
    assert list(texts_of_the_system(ast.parse("path.write_text(text, encoding='utf-8')")))


def test_processes_start_where_signals_have_no_masks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows has neither masks of signals nor the tracker that goes with them."""
    monkeypatch.delattr(signal, "pthread_sigmask")
    monkeypatch.setattr(tasks, "resource_tracker", None)
    entered = []
    with tasks._deaf_children():
        entered.append(True)
    assert entered == [True]


RESERVED = re.compile(r'[<>:"|?*\\]|[. ]$|^(con|prn|aux|nul|com\d|lpt\d)(\.|$)', re.IGNORECASE)


@pytest.mark.parametrize(
    "name",
    [*tables.PLACES.values(), *(file_stem(s) for s in ("demo/M:1", "a b/c?*", "-/x", "é/ü|"))],
)
def test_names_of_files_are_names_everywhere(name: str) -> None:
    """Tables and exports have names that Windows takes: no colon, no reserved word, no dot at the end."""
    for part in PureWindowsPath(name.replace("*", "0")).parts:
        assert not RESERVED.search(part), name
