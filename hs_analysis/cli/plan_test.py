"""``hsa plan-test``: the cheapest tests that would answer what a run left open."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from hs_analysis.cli.groups import grouped
from hs_analysis.cli.options import (
    METHOD,
    ConfigFlags,
    HistoryFlags,
    MachineFlags,
    MethodFlags,
    OutputFlags,
    Run,
    SloFlags,
)
from hs_analysis.cli.shown import Block, Shown, Table, number, show
from hs_analysis.cli.work import on_folder

PLAN_TEST_HELP = """hsa plan-test reports/dumps-20260701T0000-20260708T0000

For each refusal and floor that a load test would answer: pools, load levels, minutes, GPU-hours, the interval
to expect, and command lines of a load generator."""

Generator = Literal["aiperf", "guidellm", "vllm"]


@grouped
def plan_test(
    run: Run,
    generator: Annotated[
        Generator,
        typer.Option("--generator", rich_help_panel=METHOD, help="Load generator of the command lines."),
    ] = "aiperf",
    *,
    settings: ConfigFlags,
    history: HistoryFlags,
    slo: SloFlags,
    method: MethodFlags,
    machine: MachineFlags,
    out: OutputFlags,
) -> None:
    """Plan the tests and print them with their commands."""
    ran = on_folder(run, "plan-test", settings.config, (history, slo, method, machine), out=out)
    show(_planned(ran.folder, generator), out.output, no_color=out.no_color)


def _planned(folder: Path, generator: str) -> Shown:
    from hs_analysis.pipeline.results import planned_tests

    found = planned_tests(folder, generator)
    flat = [{key: value for key, value in test.items() if key != "levels"} for test in found]
    return Shown({"tests": found}, flat, lambda: _blocks(found))


def _blocks(found: list[dict[str, Any]]) -> list[Block]:
    if not found:
        return ["nothing is open that a load test would answer; hsa derive prints what is"]
    rows = [
        {
            **test,
            "pools": ", ".join(
                f"{test[role]} {role}" for role in ("prefill", "decode", "mixed") if test[role] is not None
            ),
            "expect": f"×÷ {number(1.0 + test['expect_ratio'])}",
            "minutes": sum(level["minutes"] for level in test["levels"]) or None,
        }
        for test in found
    ]
    columns = [
        ("what", "to know"), ("code", "because"), ("pools", "pools in the test"), ("minutes", "minutes"),
        ("instance_hours", "instance-hours"), ("gpu_hours", "GPU-hours"), ("expect", "95 % interval"),
    ]  # fmt: skip
    blocks: list[Block] = [Table("Planned tests", columns, rows)]
    for test in found:
        blocks.append(f"{test['service']} {test['what']}: {test['text']}")
        if test["levels"]:
            heads = [("number", "level"), ("load", "tokens/s per instance"),
                     ("request_rate", "requests/s"), ("minutes", "minutes")]  # fmt: skip
            blocks.append(Table(f"Levels of {test['what']}", heads, test["levels"]))
        blocks += test["commands"]
    return blocks
