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

from hs_analysis.ingest import formats
from hs_analysis.ingest.rows import BenchRows, Dump, ReadNotes
from hs_analysis.pipeline.chain import STAGES
from hs_analysis.pipeline.provenance import made_by
from hs_analysis.pipeline.session import run_inputs
from hs_analysis.pipeline.stages import Silent
from hs_analysis.schema.frames import BENCH, empty
from hs_analysis.schema.settings import Settings, Slo


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
    """The paper's table as input: both best splits, no service, a warning in place of a policy, a report."""
    with traced() as ran:
        summary = whole_run(place, paper(), Slo())
    assert set(made_by()["bench_sweeps"]) <= ran
    assert {one["name"]: one["best"] for one in summary["sweeps"]} == {
        "service A": [9, 7], "service B": [10, 6],
    }  # fmt: skip
    assert summary["services"] == []
    assert summary["window"] == {"start": None, "end": None, "step_s": None}
    assert [w["code"] for w in summary["warnings"]] == ["no_history"]
    page = (place / "run" / "report.html").read_text("utf-8")
    assert "9P7D" in page
    assert "Nothing could be studied" not in page
    assert (place / "run" / "policy.yaml").read_text("utf-8") == ""


def test_profiles_alone_wait_for_requests(place: Path) -> None:
    """Profiles without requests or a service give nothing to weigh, and no error either."""
    rows = [{"kind": "prefill", "isl": n, "ttft_mean_s": 0.1, "prefill_tps": n / 0.1} for n in (100.0, 900.0)]
    rows += [
        {"kind": "decode", "context_tokens": 500.0, "tbt_mean_s": t, "decode_tps": r}
        for t, r in ((0.01, 100.0), (0.02, 150.0))
    ]
    summary = whole_run(place, points(rows), Slo(tbt_s=0.05))
    assert (summary["sweeps"], summary["profiles"]) == ([], [])
