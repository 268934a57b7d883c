"""The pipeline: every stage in order, what it stands on, which settings change it, which files it writes."""

from __future__ import annotations

from hs_analysis.pipeline.ask import plan_tests
from hs_analysis.pipeline.decide import replay_policies, select_policies, try_drivers
from hs_analysis.pipeline.examine import examine_input
from hs_analysis.pipeline.gather import align_services, ingest_inputs
from hs_analysis.pipeline.judge import derive_numbers, study_signals
from hs_analysis.pipeline.publish import export_policies, write_report
from hs_analysis.pipeline.stages import Stage
from hs_analysis.pipeline.write_policy import write_policies

_HISTORY = ("history_kind", "start", "end", "excluded", "service")
_SPLIT = ("train_share",)
_NUMBERS = ("slo", "startup_s", "headroom_ratio", *_SPLIT)

STAGES: tuple[Stage, ...] = (
    Stage(
        "ingest", "reading the dumps", (), ("reading",),
        ("data/series.parquet", "data/samples/*.parquet", "data/rejected.parquet", "data/requests.parquet",
         "data/bench.parquet", "data/quality.parquet", "data/frozen.parquet", "data/grids.parquet",
         "data/inputs.json"),
        ingest_inputs,
    ),
    Stage(
        "align", "putting services on one grid", ("ingest",),
        ("slo.ttft_s", "slo.tbt_s", "reading", *_HISTORY),
        ("data/signals.parquet", "data/births.parquet", "data/instances.parquet", "data/versions.parquet",
         "data/services.json", "data/disagreements.parquet", "data/rate_bounds.parquet"),
        align_services,
    ),
    Stage(
        "doctor", "checking the input", ("align",),
        ("slo.ttft_s", "slo.tbt_s", "startup_s", "reading", *_HISTORY),
        ("data/findings.parquet", "data/doctor.json"),
        examine_input,
    ),
    Stage(
        "study", "judging signals", ("align",), ("seed", "draws", *_SPLIT),
        ("data/study.parquet", "data/recommended.parquet", "data/study_points.parquet"),
        study_signals,
    ),
    Stage(
        "derive", "deriving targets and the ratio", ("study",), ("seed", "draws", "prior", *_NUMBERS),
        ("data/derived/*.parquet",), derive_numbers,
    ),
    Stage(
        "plan-test", "planning tests for what is open", ("derive",), (),
        ("data/planned_tests.parquet",), plan_tests,
    ),
    Stage(
        "select", "simulating candidates", ("derive",), _NUMBERS,
        ("data/select.parquet", "data/select_search.parquet"), select_policies,
    ),
    Stage(
        "replay", "replaying the test window", ("select",),
        ("seed", "draws", *_NUMBERS, "reading", "prices", "beside"),
        ("data/replay/*.parquet", "data/replay/current.json"), replay_policies,
    ),
    Stage("trial", "trying signals as drivers", ("derive",), _NUMBERS, ("data/trial.parquet",), try_drivers),
    Stage(
        "policy", "writing the policy", ("replay",), (*_NUMBERS, "reading"),
        ("policy.yaml", "data/promql_notes.json"), write_policies,
    ),
    Stage("export", "exporting", ("policy",), (), ("exports/*",), export_policies),
    Stage(
        "report", "drawing the report", ("doctor", "export", "trial"),
        ("slo", "startup_s", *_HISTORY, "events", "seed", "draws", "headroom_ratio", *_SPLIT, "reading",
         "prior", "beside"),
        ("summary.json", "report.html"), write_report,
    ),
)  # fmt: skip
