"""Dumps are byte for byte the same for a seed, and the ingest stage reads every sample of them."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import pytest
from simulator import History, history, pressure, shortened, write
from simulator.dumps import write_dumps
from simulator.scrapes import Series

from hs_analysis.ingest.discovery import discover
from hs_analysis.ingest.stage import ingest


def test_the_same_seed_gives_the_same_bytes_and_another_does_not(tmp_path: Path) -> None:
    """Every file is equal for equal kind and seed; with another seed none of the engines' is."""
    made = shortened("near_limit_days", 0.5)
    again = shortened("near_limit_days", 0.5)
    other = history(made.kind, made.seed + 1)
    folders = [tmp_path / name for name in ("one", "two", "three")]
    files = [write(one, folder) for one, folder in zip((made, again, other), folders, strict=True)]
    assert [path.name for path in files[0]] == [path.name for path in files[1]]
    assert all(a.read_bytes() == b.read_bytes() for a, b in zip(files[0], files[1], strict=True))
    name = "vllm__generation_tokens_total.json.gz"
    assert (folders[0] / name).read_bytes() != (folders[2] / name).read_bytes()


def test_an_answer_is_what_prometheus_writes(tmp_path: Path) -> None:
    """Whole numbers have no point, others read back the same, missing points are absent, empty series too."""
    rows = [
        Series({"__name__": "a:b", "pod": "x"}, np.array([1.0, np.nan, 2.0])),
        Series({"__name__": "a:b", "pod": "y"}, np.array([0.1, 1 / 3, 2.0])),
        Series({"__name__": "c"}, np.full(3, np.nan)),
        Series({"__name__": "d"}, np.array([9223372036854775794.0, 1.0, 1.0])),
    ]
    files = write_dumps(rows, np.array([100, 115, 130]), tmp_path)
    assert [path.name for path in files] == ["a__b.json.gz", "d.json.gz"]
    answer = json.loads(gzip.decompress(files[0].read_bytes()))
    first, second = answer["data"]["result"]
    assert answer["status"] == "success"
    assert first == {"metric": {"__name__": "a:b", "pod": "x"}, "values": [[100, "1"], [130, "2"]]}
    assert [float(text) for _, text in second["values"]] == [0.1, 1 / 3, 2.0]
    blank = json.loads(gzip.decompress(files[1].read_bytes()))["data"]["result"][0]["values"][0][1]
    assert float(blank) == 9223372036854775794.0
    (whole,) = write_dumps(rows, np.array([100, 115, 130]), tmp_path / "one", one_file=True)
    assert len(json.loads(gzip.decompress(whole.read_bytes()))["data"]["result"]) == 3


@pytest.mark.parametrize("name", ["restarts_and_gaps", "compute_bound_pool", "wandering", "sglang_days"])
def test_a_dump_is_read_whole_with_its_roles(name: str, busy: History, tmp_path: Path) -> None:
    """Rows read = stored + duplicates + rejected, as many as were written; every pod has its role."""
    made = busy if name == "restarts_and_gaps" else shortened(name, 1.0)
    write(made, tmp_path / "dumps")
    found = ingest(discover([tmp_path / "dumps"]), tmp_path / "data", lambda _: None)
    written = sum(int(np.isfinite(one.values).sum()) for one in made.series())
    assert sum(f.rows_read for f in found.files) == written
    for file in found.files:
        assert file.rows_read == file.rows_stored + file.duplicates + file.rows_rejected
        assert file.rows_rejected == 0
    roles = {life.pod: role for role, lives in made.trace.service.lives.items() for life in lives}
    seen = {
        row["instance"]: row["emitter_role"]
        for row in found.series.iter_rows(named=True)
        if row["instance"] in roles
    }
    assert seen == roles
    assert set(found.series["service"].drop_nulls()) == {"prod-llm/qwen2.5-72b-instruct"}


def test_answers_can_be_written_beside_the_dumps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The answers of a short history are plain JSON with roles, verdicts and capacities."""
    monkeypatch.setattr(pressure, "TEST_H", 0.3)  # the numbers do not matter here
    monkeypatch.setattr(pressure, "TEST_SEEDS", 1)
    made = shortened("too_short", 0.5)
    write(made, tmp_path / "dumps", answers=tmp_path / "truth.json")
    truth = json.loads((tmp_path / "truth.json").read_text("utf-8"))
    assert set(truth["roles"].values()) == {"prefill", "decode"}
    assert truth["signals"]["decode_tps@decode"]["verdict"] == "unknown"
    assert truth["capacity"]["decode"][0] > 0
    assert len(truth["offered_300s"]["output"]) == 6
    assert not (tmp_path / "dumps" / "truth.json").exists()
