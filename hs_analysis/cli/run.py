"""``hsa run``: everything, in order, into one run folder."""

from __future__ import annotations

from hs_analysis.cli import gates
from hs_analysis.cli.groups import grouped
from hs_analysis.cli.options import (
    ConfigFlags,
    CurrentFlags,
    FailFlags,
    HistoryFlags,
    Inputs,
    MachineFlags,
    MethodFlags,
    OutputFlags,
    PlaceFlags,
    ReadingFlags,
    SloFlags,
    StrictFlags,
)
from hs_analysis.cli.shown import show
from hs_analysis.cli.verdict import run_result
from hs_analysis.cli.work import from_inputs

RUN_HELP = (
    "hsa run dumps/ --slo ttft=1s --slo tbt=50ms --startup 240s\n\n"
    "Everything, in order, into one run folder: reads the dumps, judges the signals, derives targets and the "
    "P/D ratio, selects and backtests a policy, and writes policy.yaml, exports and report.html.\n\n"
    "A second run with the same inputs does nothing and prints the same answer: the run remembers its "
    "settings. With other settings it says what changes, and writes again what they concern."
)


@grouped
def run(
    inputs: Inputs,
    settings: ConfigFlags,
    reading: ReadingFlags,
    history: HistoryFlags,
    slo: SloFlags,
    method: MethodFlags,
    current: CurrentFlags,
    machine: MachineFlags,
    strict: StrictFlags,
    fail: FailFlags,
    place: PlaceFlags,
    out: OutputFlags,
) -> None:
    """Run every stage and print the answers."""
    closed = gates.open_for(fail.fail_on or (), place.run_dir)
    flags = (reading, history, slo, method, current, machine)
    ran = from_inputs(
        inputs, "report", settings.config, flags,
        place=place, out=out, strict=strict.strict, changes_settings=True,
    )  # fmt: skip

    from hs_analysis.pipeline.results import policy_documents, read_summary

    summary = read_summary(ran.folder)
    show(run_result(summary, policy_documents(ran.folder), ran.folder), out.output, no_color=out.no_color)
    gates.close(closed, summary, ran.folder)
