"""The ratio test drawn as the paper draws it, and what supports its link."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import polars as pl
import pytest
import vl_convert
from derive.bench import paper

from hs_analysis import evidence
from hs_analysis.derive import bench_sweeps
from hs_analysis.derive.split_sweeps import Trial, answer, split_table
from hs_analysis.errors import UsageError
from hs_analysis.pipeline.records import to_plain
from hs_analysis.report import chart_templates
from hs_analysis.report.explain import explain, text
from hs_analysis.report.sweep_charts import draw
from hs_analysis.schema.settings import Slo
from hs_analysis.schema.sweeps import SweepResult


def rows(csv: str) -> list[dict[str, str]]:
    """Return the rows behind a chart."""
    head, *lines = csv.strip().splitlines()
    return [dict(zip(head.split(","), line.split(","), strict=True)) for line in lines]


@pytest.fixture(scope="module")
def published() -> tuple[dict[str, Any], pl.DataFrame]:
    """Return the paper's two ratio tests as a summary, with their splits."""
    results, splits = bench_sweeps(paper(), Slo())
    return {"slo": {}, "sweeps": [to_plain(one) for one in results], "services": []}, splits


def test_the_papers_figure(published: tuple[dict[str, Any], pl.DataFrame]) -> None:
    """Six splits from least to most prefill; 9:7 and 10:6 marked, with those within 3 % of them."""
    a, b = draw(*published)
    assert [row["split"] for row in rows(a.csv)] == ["7P9D", "8P8D", "9P7D", "10P6D", "11P5D", "12P4D"]
    kinds = {row["split"]: row["kind"] for row in rows(a.csv) if row["kind"] != "other split"}
    assert kinds == {"9P7D": "best", "10P6D": "within 3 % of it", "11P5D": "within 3 % of it"}
    assert [float(row["tps"]) for row in rows(b.csv)] == [11200, 13800, 16100, 18200, 18000, 14900]
    assert "10P6D serves most, ratio 1.67" in b.title
    assert not any(row["prefill_line"] or row["decode_line"] for row in rows(a.csv))
    assert "Dashed" not in a.reading
    spec = {**a.spec, "width": 900, "config": chart_templates.CONFIG, "datasets": {"main": a.csv}}
    assert vl_convert.vegalite_to_svg(json.dumps(spec)).count("<path") > 6


def limited_test() -> tuple[dict[str, Any], pl.DataFrame]:
    """Return a test of four splits where α = 2 and β = 3 requests/s, at 100 output tokens a request."""
    trials = tuple(
        Trial(p, 5 - p, None, 8.0, 100.0 * min(2.0 * p, 3.0 * (5 - p)), None, min(2.0 * p, 3.0 * (5 - p)),
              limited="prefill" if 2 * p < 3 * (5 - p) else "decode")
        for p in (1.0, 2.0, 3.0, 4.0)
    )  # fmt: skip
    link = evidence.path("shop/chat", "derive", "sweep:800+100")
    base = SweepResult(name="shop/chat", source="captures", isl=800.0 + 1e-10, osl=100.0, evidence=link)
    found = answer(trials, (), base)
    far = replace(trials[0], load=2.0, decode_tps=1.0)  # another load level of the same captures
    return {"slo": {}, "sweeps": [to_plain(found)], "services": []}, split_table(base, (*trials, far))


def test_lines_are_what_each_role_alone_could_do() -> None:
    """α · P and β · D in tokens/s: at the optimum they cross, and each split lies on the lower one."""
    summary, splits = limited_test()
    (chart,) = draw(summary, splits)
    for row in rows(chart.csv):
        p = int(row["split"][0])
        assert float(row["prefill_line"]) == pytest.approx(200.0 * p)
        assert float(row["decode_line"]) == pytest.approx(300.0 * (5 - p))
        assert float(row["tps"]) == pytest.approx(min(float(row["prefill_line"]), float(row["decode_line"])))
    assert "Dashed: what prefill alone could serve" in chart.reading


def test_the_link_of_a_ratio_test_prints_its_splits() -> None:
    """Every split with what it served and who held it back, the winner, its 3 %, and the balance."""
    summary, splits = limited_test()
    link = evidence.parse(summary["sweeps"][0]["evidence"])
    found = explain(link, summary, {"splits": splits})
    names = {entry["name"]: entry["value"] for entry in found["numbers"]}
    assert names["3P2D, best, held back by decode"] == pytest.approx(600.0)
    assert names["1P4D, other split, held back by prefill"] == pytest.approx(200.0)
    assert names["α, one prefill instance"] == pytest.approx(2.0)
    assert names["balance without limits"] == pytest.approx(1.5)
    assert found["value"] == pytest.approx(1.5)
    assert "no other within 3 %" in found["basis"]
    assert "3P2D, best, held back by decode: 600 tokens/s" in text(found)


def test_an_unknown_test_is_an_error_that_names_the_nearest(
    published: tuple[dict[str, Any], pl.DataFrame],
) -> None:
    """A link to a test that this run has not, in a run of benchmark points alone."""
    summary, splits = published
    link = evidence.parse(evidence.path("service A", "derive", "sweep:1+2"))
    with pytest.raises(UsageError):
        explain(link, summary, {"splits": splits})
