"""``hsa validate``: a file of the tool's own kinds, checked without running anything."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from hs_analysis.cli.groups import grouped
from hs_analysis.cli.options import FormFlags
from hs_analysis.cli.shown import Shown, show
from hs_analysis.errors import HsError, InputError, ManyErrors

VALIDATE_HELP = """hsa validate hsa.toml

A settings file, policy.yaml, topology file or plan.json, checked offline: every problem with its place, and
exit code 1."""


@dataclass(frozen=True)
class Checked:
    """A kind of file: how to know it by (path, text), and what checks it and tells what it holds."""

    kind: str
    knows: Callable[[Path, str], bool]
    check: Callable[[Path, str], str]


def _settings(path: Path, _text: str) -> str:
    from hs_analysis.settings.file import read_file, resolve

    found, _ = resolve([read_file(path)], "UTC")  # the zone of a flag is not known here, and can't be wrong
    return f"{len(found)} settings"


def _policy(path: Path, text: str) -> str:
    from hs_analysis.policy import load_all

    policies = load_all(text, str(path))
    if not policies:
        raise InputError("holds no policy", where=str(path))
    return ", ".join(f"policy of {policy.service}" for policy in policies)


def _plan(path: Path, _text: str) -> str:
    from hs_analysis.pipeline.plan_files import read_plan

    plan = read_plan(path.parent)
    if plan is None:
        raise InputError("a plan of another program", where=str(path))
    return f"{len(plan.files)} queries from {plan.start} to {plan.end}"


def _topology(path: Path, text: str) -> str:
    from hs_analysis.policy.topology import load_topology

    found = load_topology(text, str(path))
    gpus = sum(rack.gpus for rack in found.racks)
    return f"{gpus} GPUs in {len(found.racks)} racks, prefill and decode within {found.affinity}"


KINDS: tuple[Checked, ...] = (
    Checked("settings", lambda path, _text: path.suffix == ".toml", _settings),
    Checked("plan", lambda path, _text: path.name == "plan.json", _plan),
    Checked("policy", lambda _path, text: "schema: hs-analysis/policy/" in text, _policy),
    Checked("topology", lambda _path, text: "schema: hs-analysis/topology/" in text, _topology),
)
"""What can be checked, in the order it is tried."""


@grouped
def validate(
    file: Annotated[
        Path,
        typer.Argument(metavar="FILE", help="hsa.toml, policy, topology or plan.json.", show_default=False),
    ],
    *,
    form: FormFlags,
) -> None:
    """Check a file and print what it is."""
    text = _text_of(file)
    known = next((kind for kind in KINDS if kind.knows(file, text)), None)
    if known is None:
        kinds = "hsa.toml, policy.yaml, a topology and plan.json can be; a settings file ends in .toml"
        raise InputError("no kind of file that can be checked", where=str(file), hint=kinds)
    try:
        holds = known.check(file, text)
    except ManyErrors as error:
        raise ManyErrors([_invalid(problem) for problem in error.errors], all_told=True) from error
    except HsError as error:
        raise _invalid(error) from error
    found: dict[str, Any] = {"file": str(file), "kind": known.kind, "valid": True, "holds": holds}
    lines = [f"{file}: valid, {holds}"]
    show(Shown(found, [found], lambda: lines), form.output, no_color=form.no_color)


def _text_of(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise InputError(f"can't be read ({reason})", where=str(file), hint="check the path") from error


def _invalid(problem: HsError) -> InputError:
    """Return a problem of a file's contents: here the file is the question, so it is no wrong usage."""
    return InputError(problem.what, where=problem.where, hint=problem.hint)
