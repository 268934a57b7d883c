"""``--prior``: performance tables set beside capacities, which change nothing else."""

from __future__ import annotations

import json
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
from cli.conftest import ISL, LIMITS, OSL
from click.testing import Result
from typer.testing import CliRunner

from hs_analysis.cli.app import app
from hs_analysis.pipeline import perf_tables
from hs_analysis.pipeline.perf_tables import Core, instance_of
from hs_analysis.schema.settings import PriorSource

ASKED = "made/m@made_sxm,tp=2"

NAMES = re.compile(r"(?m)^  run: \w+$|sha256 \w+, run \w+$")
"""What names a run, in its policy and in exports: a hash of its settings."""


class Handle:
    """An instance that computes 20,000 prompt tokens/s and decodes in 10 ms and 20 ns a token held."""

    @classmethod
    def compile(cls, model: str, system: str, backend: str, **size: Any) -> Handle:
        """Return tables of the one model there is."""
        assert (model, system, backend) == ("made/m", "made_sxm", "vllm")
        assert size == {"backend_version": "1.0", "tp_size": 2, "moe_tp_size": 2}
        return cls()

    def predict_prefill_latency(self, bs: int, isl: int, prefix: int = 0) -> float:
        """Return milliseconds."""
        return bs * (isl - prefix) / 20.0

    def predict_decode_latency(self, bs: int, isl: int, osl: int = 2) -> float:
        """Return milliseconds of one step."""
        assert osl == 2
        return 10.0 + 2e-5 * bs * isl


def fake() -> Core:
    """Return what is used of the package, made up."""
    return Core(
        Handle, lambda *_, **__: {"total_kv_size_tokens": 10_000_000}, lambda *_: "1.0", "0.0",
        ("made/m",), ("made_sxm",),
    )  # fmt: skip


@pytest.fixture(scope="module")
def prior_run(dumps: Path, finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of `finished` with a prior beside it, gone on from a copy."""
    folder = shutil.copytree(finished, tmp_path_factory.mktemp("prior") / "run")
    arguments = ["run", str(dumps), "--run-dir", str(folder), "-q", *LIMITS, "--prior", ASKED]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(perf_tables, "core", fake)
        done = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert "prior of prefill, from tables: 20,000 tokens/s per instance; " in done.output
    return folder


def test_nothing_but_the_prior_changes(prior_run: Path, finished: Path) -> None:
    """Summary, policy and exports are byte for byte those of the run without; only its name is not."""
    summary = json.loads((prior_run / "summary.json").read_text())
    for service in summary["services"]:
        assert [entry["role"] for entry in service.pop("prior")] == ["prefill", "decode"]
    without = (finished / "summary.json").read_text()
    assert json.dumps(summary, indent=2, ensure_ascii=False) + "\n" == without

    def named(folder: Path) -> dict[str, str]:
        files = [folder / "policy.yaml", *sorted(p for p in (folder / "exports").rglob("*") if p.is_file())]
        return {str(p.relative_to(folder)): NAMES.sub("", p.read_text()) for p in files}

    assert named(prior_run) == named(finished)


def test_summary_report_and_explain_label_it(prior_run: Path) -> None:
    """Never ok; the tables, the request and the comparison are told in each place."""
    service = json.loads((prior_run / "summary.json").read_text())["services"][0]
    prefill, decode = service["prior"]
    assert {entry["status"] for entry in service["prior"]} == {"prior"}
    assert prefill["tables"] == "made/m@made_sxm@vllm,tp=2 (vllm 1.0, aiconfigurator-core 0.0)"
    assert (prefill["isl"], prefill["osl"]) == (pytest.approx(ISL, rel=0.02), pytest.approx(OSL, rel=0.02))
    together = 1024 / (0.010 + 2e-8 * 1024 * (ISL + OSL / 2))
    assert decode["per_instance"] == pytest.approx(together, rel=0.01)
    capacity = next(one for one in service["capacity"] if one["role"] == "prefill")
    assert prefill["data_per_instance"] == capacity["per_instance"]
    assert prefill["data_ratio"] == pytest.approx(capacity["per_instance"] / 20_000.0)
    page = (prior_run / "report.html").read_text()
    assert "Priors from performance tables" in page
    assert "--prior made/m@made_sxm@vllm,tp=2" in page
    told = CliRunner().invoke(
        app, ["explain", prefill["evidence"], "--run-dir", str(prior_run), "-o", "json"]
    )
    found = json.loads(told.stdout)
    assert (found["value"], found["status"]) == (pytest.approx(20_000.0), "prior")
    assert prefill["tables"] in found["basis"]


def said(*arguments: str) -> Result:
    """Return what `hsa settings` answers."""
    return CliRunner().invoke(app, ["settings", *arguments])


def test_errors_are_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A missing package, an unknown model or system, a word that is none: what, where and what next."""
    monkeypatch.chdir(tmp_path)
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "aiconfigurator_core", None)
        missing = said("--prior", ASKED)
    assert missing.exit_code == 2
    assert "prior: a prior needs performance tables; pip install 'hs-analysis[prior]'" in missing.output
    monkeypatch.setattr(perf_tables, "core", fake)
    assert "hold no model 'made/n'; did you mean made/m?" in said("--prior", "made/n@made_sxm").output
    assert "hold no system 'made'" in said("--prior", "made/m@made").output
    for wrong in ("made/m", "made/m@", "made/m@made_sxm,pp=2", "made/m@a@b@c"):
        assert "is not MODEL@SYSTEM[@ENGINE][,tp=N]" in said("--prior", wrong).output
    assert "known: vllm, sglang, trtllm" in said("--prior", "made/m@made_sxm@none").output


def test_file_flag_and_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The flag stands for all four keys of [prior]; none takes the file's away."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(perf_tables, "core", fake)
    (tmp_path / "hsa.toml").write_text('[prior]\nmodel = "made/m"\nsystem = "made_sxm"\ntp = 2\n')
    lone = tmp_path / "lone.toml"
    lone.write_text('[prior]\nmodel = "made/m"\n')
    assert "a prior needs a system; say system" in said("--config", str(lone)).output
    rows = {row["setting"]: row for row in json.loads(said("-o", "json").stdout)["settings"]}
    assert (rows["prior.model"]["value"], rows["prior.tp"]["value"]) == ("made/m", 2)
    gone = json.loads(said("-o", "json", "--prior", "none").stdout)["settings"]
    assert next(row for row in gone if row["setting"] == "prior.model")["source"] == "--prior"


def test_the_real_tables_answer() -> None:
    """A prompt takes longer than half of it, a step of more sequences longer than one; memory is known."""
    pytest.importorskip("aiconfigurator_core", reason="the extra prior (82 MB) is not installed")
    found = instance_of(PriorSource("Qwen/Qwen3-32B", "h200_sxm", "vllm", 2))
    whole, cached = found.prefill_s(1, 4096, 0), found.prefill_s(1, 4096, 2048)
    assert 0.05 < cached < whole < 1.0
    assert 0.001 < found.decode_s(1, 2048) < found.decode_s(256, 2048) < 0.2
    assert found.kv_tokens is not None
    assert 200_000 < found.kv_tokens < 2_000_000
    assert found.name.startswith("Qwen/Qwen3-32B@h200_sxm@vllm,tp=2 (vllm ")
