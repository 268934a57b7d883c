"""The pipeline: every stage in order, what it stands on, which settings change it, which files it writes.

The code of a stage is loaded when it works: reading a folder of dumps needs no statistics.
"""

from __future__ import annotations

from hs_analysis.evidence import REPORT_FILE
from hs_analysis.pipeline.stages import Outcome, Stage, Work
from hs_analysis.schema.settings import HISTORY, LIMITS, NUMBERS, SPLIT


def _ingest(work: Work) -> Outcome:
    from hs_analysis.pipeline.ingest_stages import ingest_inputs

    return ingest_inputs(work)


def _align(work: Work) -> Outcome:
    from hs_analysis.pipeline.ingest_stages import align_services

    return align_services(work)


def _doctor(work: Work) -> Outcome:
    from hs_analysis.pipeline.doctor_stage import examine_input

    return examine_input(work)


def _study(work: Work) -> Outcome:
    from hs_analysis.pipeline.study_stages import study_signals

    return study_signals(work)


def _derive(work: Work) -> Outcome:
    from hs_analysis.pipeline.study_stages import derive_numbers

    return derive_numbers(work)


def _plan_test(work: Work) -> Outcome:
    from hs_analysis.pipeline.study_stages import plan_tests

    return plan_tests(work)


def _select(work: Work) -> Outcome:
    from hs_analysis.pipeline.select_stage import select_policies

    return select_policies(work)


def _replay(work: Work) -> Outcome:
    from hs_analysis.pipeline.policy_stages import replay_policies

    return replay_policies(work)


def _policy(work: Work) -> Outcome:
    from hs_analysis.pipeline.policy_stages import write_policies

    return write_policies(work)


def _export(work: Work) -> Outcome:
    from hs_analysis.pipeline.report_stages import export_policies

    return export_policies(work)


def _report(work: Work) -> Outcome:
    from hs_analysis.pipeline.report_stages import write_report

    return write_report(work)


CONTROLLER = (*LIMITS, "target")
"""What selection chooses for, and within which limits: every later stage speaks of the same object."""

CLUSTER = ("server_address", "cluster", "kube_version")
"""What exported objects are told of the cluster."""

STAGES: tuple[Stage, ...] = (
    Stage(
        "ingest", "reading the dumps", (), ("reading",),
        ("data/series.parquet", "data/samples/*.parquet", "data/rejected.parquet", "data/requests.parquet",
         "data/bench.parquet", "data/quality.parquet", "data/frozen.parquet",
         "data/frozen_series.parquet", "data/grids.parquet", "data/inputs.json", "data/bugs.txt",
         "data/checkpoint/*"),
        _ingest,
    ),
    Stage(
        "align", "putting services on one grid", ("ingest",),
        ("slo.ttft_s", "slo.tbt_s", "reading", *HISTORY),
        ("data/signals.parquet", "data/births.parquet", "data/lives.parquet", "data/instances.parquet",
         "data/versions.parquet", "data/services.json", "data/disagreements.parquet",
         "data/pools.parquet"),
        _align,
    ),
    Stage(
        "doctor", "checking the input", ("align",),
        ("slo.ttft_s", "slo.tbt_s", "startup_s", "reading", *HISTORY),
        ("data/findings.parquet", "data/doctor.json"),
        _doctor,
    ),
    Stage(
        "study", "judging signals", ("align",), ("seed", "draws", *SPLIT),
        ("data/study.parquet", "data/recommended.parquet", "data/study_points.parquet"),
        _study,
    ),
    Stage(
        "derive", "deriving targets and the ratio", ("study",), ("seed", "draws", *NUMBERS),
        ("data/derived/*.parquet",), _derive,
    ),
    Stage(
        "plan-test", "planning tests for what is open", ("derive",), (),
        ("data/planned_tests.parquet",), _plan_test,
    ),
    Stage(
        "select", "simulating candidates", ("derive",),
        ("seed", *NUMBERS, *CONTROLLER, "kube_version"),
        ("data/select.parquet", "data/drivers.parquet"), _select,
    ),
    Stage(
        "replay", "replaying the test window", ("select",),
        ("seed", "draws", *NUMBERS, *CONTROLLER, "policy_mode", "kube_version", "cluster", "reading",
         "prices", "beside"),
        ("data/replay/*.parquet", "data/replay/current.json"), _replay,
    ),
    Stage(
        "policy", "writing the policy", ("replay",),
        (*NUMBERS, *CONTROLLER, "policy_mode", "reading", "service"),
        ("policy.yaml", "policy.schema.json", "data/promql_notes.json", "data/decisions.json"), _policy,
    ),
    Stage(
        "export", "exporting", ("policy",),
        (*CONTROLLER, *CLUSTER, "beside.current", "edited", "runbook_url", "slo", "reading"),
        ("exports/*",), _export,
    ),
    Stage(
        "report", "drawing the report", ("doctor", "export"),
        ("slo", "startup_s", *HISTORY, "events", "seed", "draws", "headroom_ratio", *SPLIT, "reading",
         "beside", "target"),
        ("summary.json", REPORT_FILE), _report,
    ),
)  # fmt: skip
