"""A folder of benchmark points alone: a ratio answer, a reason for having no policy, no error."""

from __future__ import annotations

import json
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

import jsonschema
import polars as pl
import pytest
from derive.bench import paper, points
from pipeline.traced import traced

from hs_analysis.cli.verdict import run_result
from hs_analysis.ingest import formats
from hs_analysis.ingest.rows import BenchRows, Dump, ReadNotes
from hs_analysis.pipeline.chain import STAGES
from hs_analysis.pipeline.provenance import made_by
from hs_analysis.pipeline.results import explained, policy_documents
from hs_analysis.pipeline.session import run_inputs
from hs_analysis.pipeline.stages import Silent
from hs_analysis.pipeline.study_stages import counted
from hs_analysis.policy import load_all
from hs_analysis.schema.frames import BENCH, empty
from hs_analysis.schema.settings import Settings, Slo
from hs_analysis.schema.sweeps import BenchSpeed, SweepResult


def read_made(dump: Dump, notes: ReadNotes) -> Iterator[BenchRows]:
    """Yield the points of a JSON document of rows of the contract."""
    schema = {name: kind for name, kind in empty(BENCH).schema.items() if name not in ("capture", "file")}
    with dump.handle() as handle:
        rows = json.load(handle)["bench"]
    notes.rows += len(rows)
    yield BenchRows(pl.DataFrame(rows, schema=schema))


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to put points into, and a reader for them."""
    made = formats.Format("made", lambda look: look.text.startswith(b'{"bench"'), read_made)
    monkeypatch.setattr(formats, "FORMATS", (*formats.FORMATS, made))
    (tmp_path / "in").mkdir()
    return tmp_path


def whole_run(place: Path, frame: pl.DataFrame, slo: Slo) -> dict:
    rows = frame.drop("capture", "file").to_dicts()
    (place / "in" / "points.json").write_text(json.dumps({"bench": rows}))
    settings = Settings(slo=slo)
    ran = run_inputs(
        [place / "in"], "report", settings, stages=STAGES, progress=Silent(), run_dir=place / "run"
    )
    summary = json.loads((ran.folder / "summary.json").read_text("utf-8"))
    schema = json.loads(files("hs_analysis.schema").joinpath("summary.schema.json").read_text("utf-8"))
    jsonschema.validate(summary, schema)
    return summary


def test_points_alone_answer_the_ratio(place: Path) -> None:
    """The paper's table as input: best splits in summary, policy and report; a warning says no policy."""
    with traced() as ran:
        summary = whole_run(place, paper(), Slo())
    assert set(made_by()["bench_sweeps"]) <= ran
    assert {one["name"]: one["best"] for one in summary["sweeps"]} == {
        "service A": [9, 7], "service B": [10, 6],
    }  # fmt: skip
    services = {one["service"]: one for one in summary["services"]}
    assert set(services) == {"service A", "service B"}
    one = services["service A"]
    assert (one["pd_ratio"]["basis"], one["pd_ratio"]["value"]) == ("sweep", pytest.approx(9 / 7))
    assert (one["decision"]["recommend"], one["decision"]["confidence"]) == ("record", "low")
    assert "9P7D" in one["decision"]["why"]
    assert any("own load" in step for step in one["decision"]["next_steps"])
    assert (one["signals"], one["thresholds"], one["demand"]["decode_tps"]) == ([], [], None)
    assert summary["window"] == {"start": None, "end": None, "step_s": None}
    assert [w["code"] for w in summary["warnings"]] == ["no_history"]
    page = (place / "run" / "report.html").read_text("utf-8")
    assert "9P7D" in page
    assert "Nothing could be studied" not in page
    policies = {
        policy.service: policy for policy in load_all((place / "run" / "policy.yaml").read_text("utf-8"))
    }
    policy = policies["service B"]
    assert (policy.mode, policy.pd_ratio.prefill, policy.pd_ratio.decode) == ("hold", 10, 6)
    assert (policy.recommended, policy.bounds, policy.sized_roles) == (False, {}, ())
    assert not list((place / "run" / "exports").rglob("*.yaml"))  # nothing to apply


def test_the_first_lines_of_a_ratio_test_name_split_neighbours_and_floors(place: Path) -> None:
    """What is printed is what was measured: the split, how far the next ones fall, no hours and no risk."""
    summary = whole_run(place, paper(), Slo())
    page = place / "run"
    texts = policy_documents(page)
    said = run_result(summary, texts, page).data["answers"]
    lines = next(one["lines"] for one in said if one["service"] == "service A")
    assert lines[0] == "service A: no policy; best split measured 9P7D."
    assert lines[1].startswith("P/D ratio 1.29 (1.00 to 3.00): 10P6D, 11P5D within 3 %")
    assert "8P8D serves 4.5 % less" in lines[1]
    assert "floors for this mix, without an SLO" in lines[2]
    assert not any(word in " ".join(lines) for word in ("hours", "Risk", "saves"))
    link = "service%20A/derive/pd_ratio"
    told, _ = explained(link, page)
    assert (told["interval"], told["value"]) == (None, pytest.approx(9 / 7))
    assert told["made_by"] == list(made_by()["bench_sweeps"])
    assert told["see_also"] == [summary["sweeps"][0]["evidence"]]


def test_profiles_alone_wait_for_requests(place: Path) -> None:
    """Profiles without requests or a service give nothing to weigh, and no error either."""
    rows = [{"kind": "prefill", "isl": n, "ttft_mean_s": 0.1, "prefill_tps": n / 0.1} for n in (100.0, 900.0)]
    rows += [
        {"kind": "decode", "context_tokens": 500.0, "tbt_mean_s": t, "decode_tps": r}
        for t, r in ((0.01, 100.0), (0.02, 150.0))
    ]
    summary = whole_run(place, points(rows), Slo(tbt_s=0.05))
    assert (summary["sweeps"], summary["profiles"]) == ([], [])


def test_tests_are_counted_and_not_the_rows_of_their_answers() -> None:
    """One test under five limits is one test, and three types of a benchmark are one comparison."""
    tests = [SweepResult(name="m", source="bench", isl=900.0, osl=100.0, tbt_s=tbt) for tbt in (0.01, 0.02)]
    same = {"name": "m", "isl": 900.0, "osl": 100.0, "gpus": 8.0, "tps_per_gpu": 5.0, "load": 4.0}
    types = [BenchSpeed(**same, gpu_type=kind, relative=1.0, reference="b") for kind in "abc"]
    assert counted(tests, 0, types) == ["ratio tests 1", "comparisons of GPU types 1"]
    other = SweepResult(name="m", source="bench", isl=900.0, osl=200.0)
    assert counted([*tests, other], 2, ()) == ["ratio tests 2", "ratios from profiles 2"]
