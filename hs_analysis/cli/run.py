"""``hsa run``: everything, in order, into one run folder."""

from __future__ import annotations

from hs_analysis.cli.options import (
    ForceFlag,
    FormatFlag,
    FromFlag,
    Inputs,
    Method,
    NoColorFlag,
    PressureFlag,
    QuietFlag,
    RunDirFlag,
    SeedFlag,
    SloFlag,
    StartupFlag,
    ToFlag,
)
from hs_analysis.cli.shown import show
from hs_analysis.cli.verdict import run_result
from hs_analysis.cli.work import from_inputs

RUN_HELP = (
    "hsa run dumps/ --slo ttft=1s --slo tbt=50ms --startup 240s\n\n"
    "Everything, in order, into one run folder: reads the dumps, judges the signals, derives targets and the "
    "P/D ratio, selects and backtests a policy, and writes policy.yaml, exports and report.html.\n\n"
    "A second run with the same inputs and settings does nothing and prints the same answer."
)


def run(
    inputs: Inputs,
    slo: SloFlag = None,
    startup: StartupFlag = None,
    pressure_test: PressureFlag = None,
    start: FromFlag = None,
    end: ToFlag = None,
    seed: SeedFlag = None,
    run_dir: RunDirFlag = None,
    force: ForceFlag = False,
    output: FormatFlag = "table",
    quiet: QuietFlag = False,
    no_color: NoColorFlag = False,
) -> None:
    """Run every stage and print the answers."""
    method = Method(slo, startup, pressure_test, start, end, seed)
    ran = from_inputs(inputs, "report", method, run_dir=run_dir, force=force, quiet=quiet, no_color=no_color)

    from hs_analysis.pipeline.results import policy_documents, read_summary

    result = run_result(read_summary(ran.folder), policy_documents(ran.folder), ran.folder)
    show(result, output, no_color=no_color)
