"""A run in which a pool belongs to no service says so first, wherever it answers."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import polars as pl
import pytest

from hs_analysis.pipeline import manifest as manifests
from hs_analysis.pipeline.doctor_stage import examine_input
from hs_analysis.pipeline.policy_stages import write_policies
from hs_analysis.pipeline.records import from_plain
from hs_analysis.pipeline.report_stages import write_report
from hs_analysis.pipeline.results import unserved
from hs_analysis.pipeline.stages import Silent, Work
from hs_analysis.policy import load_all
from hs_analysis.schema.results import WITHOUT_SERVICE
from hs_analysis.schema.settings import Settings

LINE = '"^pod=m-prefill-" = "demo/m"'


@pytest.fixture
def work(finished: Path, tmp_path: Path) -> Work:
    """A finished run whose prefill pool was left without a service, and a folder to write to."""
    run = Path(shutil.copytree(finished, tmp_path / "run"))
    place = run / "data" / "series.parquet"
    lost = pl.col("emitter_role") == "prefill"
    series = pl.read_parquet(place)
    series.with_columns(pl.when(~lost).then(pl.col("service")).alias("service")).write_parquet(place)
    manifest = manifests.read(run)
    assert manifest is not None
    out = tmp_path / "out"
    (out / "data").mkdir(parents=True)
    settings = from_plain(Settings, manifest.settings)
    return Work(run, out, settings, (), (), "r", manifest.inputs_sha256, Silent())


def test_summary_and_report_begin_with_it(work: Work) -> None:
    """The first warning of summary.json, and an alert above everything else on the page."""
    write_report(work)
    first = json.loads((work.out / "summary.json").read_text("utf-8"))["warnings"][0]
    assert first["code"] == WITHOUT_SERVICE
    assert first["text"].startswith("3 prefill instances of namespace demo belong to no service")
    assert first["text"].endswith(LINE)
    page = (work.out / "report.html").read_text("utf-8")
    assert 0 < page.find("3 prefill instances of namespace demo belong to no service") < page.find('id="s1"')


def test_the_policy_is_never_confident(work: Work) -> None:
    """Its service may lack a pool; the first of its refusals says so."""
    write_policies(work)
    (policy,) = load_all((work.out / "policy.yaml").read_text("utf-8"))
    assert policy.confidence == "low"
    assert "3 instances of this namespace belong to no service" in policy.confidence_reasons
    assert policy.refusals[0].startswith(f"{WITHOUT_SERVICE}: 3 prefill instances")


def test_doctor_and_the_backtest_say_it_too(work: Work) -> None:
    """The same sentence, with the line of hsa.toml."""
    examine_input(work)
    findings = pl.read_parquet(work.out / "data" / "findings.parquet")
    (sentence,) = (text for text in findings["text"] if "belong to no service, and" in text)
    manifest = manifests.read(work.run)
    assert manifest is not None
    assert [one["text"] for one in unserved(work.run, manifest)] == [sentence]
    assert sentence.endswith(LINE)
