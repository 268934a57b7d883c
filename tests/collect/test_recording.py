import re
import subprocess
from pathlib import Path

import pytest
from outside import needs
from ruamel.yaml import YAML

from hs_analysis.catalogue import load_catalogue
from hs_analysis.collect.plan import SUPPORTING_METRICS
from hs_analysis.collect.recording import PACKS, STUDIED, is_recorded, pack_text, rules_packs

CATALOGUE = load_catalogue()
PACK = {pack.name: pack for pack in rules_packs(CATALOGUE)}

NOT_RECORDED = {"node", "prometheus"}
"""Exporters of which a study needs nothing: networks, and who was scraped."""


def groups_of(name: str) -> list[dict]:
    return YAML(typ="safe").load(pack_text(PACK[name]))["groups"]


def rules_of(name: str) -> dict[str, str]:
    return {rule["record"]: rule["expr"] for group in groups_of(name) for rule in group["rules"]}


def test_every_exporter_has_a_pack() -> None:
    """No stack of the catalogue is left out, and none is in two packs."""
    packed = [exporter for exporters in PACKS.values() for exporter in exporters]
    assert len(packed) == len(set(packed))
    assert set(packed) | NOT_RECORDED == {exporter.name for exporter in CATALOGUE.exporters}


def test_a_pack_keeps_every_metric_of_what_a_study_needs() -> None:
    """Each source of a needed signal is recorded whole, and buckets where a limit is judged by them."""
    assert set(STUDIED) <= {signal.id for signal in CATALOGUE.signals}
    for name, exporters in PACKS.items():
        recorded = set(rules_of(name))
        for signal in filter(is_recorded, CATALOGUE.signals):
            for source in (one for one in signal.sources if one.source in exporters):
                assert {f"hs_{term.metric}" for term in source.terms} <= recorded
                buckets = f"hs_{source.histogram}_bucket"
                assert (buckets in recorded) == (bool(source.histogram) and signal.id in ("ttft", "tbt"))


def test_recorded_names_are_read_like_those_of_the_exporter() -> None:
    """Signal, exporter and kind of a recorded name are those of the metric itself."""
    for name in PACK:
        for recorded in rules_of(name):
            metric = recorded.removeprefix("hs_")
            if metric not in SUPPORTING_METRICS:
                assert CATALOGUE.first_signal(recorded) == CATALOGUE.first_signal(metric)
                assert CATALOGUE.kind_of(recorded) == CATALOGUE.kind_of(metric)
            assert CATALOGUE.exporter_of(recorded) == CATALOGUE.exporter_of(metric)


def test_series_are_recorded_as_they_are() -> None:
    """No function and no sum: selectors only, as the plan of a pull has them."""
    for name in PACK:
        for record, expr in rules_of(name).items():
            metric = record.removeprefix("hs_")
            assert re.fullmatch(rf"{metric}({{[^}}]*}})?( or {metric}{{[^}}]*}})*", expr), expr


@pytest.mark.parametrize("name", PACK)
def test_a_pack_fits_every_managed_server(name: str) -> None:
    """Groups of at most twenty rules, evaluated once a minute, under names of their own."""
    groups = groups_of(name)
    assert all(0 < len(group["rules"]) <= 20 for group in groups)
    assert {group["interval"] for group in groups} == {"1m"}
    assert len({group["name"] for group in groups}) == len(groups)
    assert len(rules_of(name)) == sum(len(group["rules"]) for group in groups)


def test_the_parts_of_a_formula_are_recorded_at_one_moment() -> None:
    """Groups are evaluated at different seconds: what is divided or subtracted is in one of them."""
    for name, exporters in PACKS.items():
        place = {rule["record"]: group["name"] for group in groups_of(name) for rule in group["rules"]}
        for signal in filter(is_recorded, CATALOGUE.signals):
            for source in (one for one in signal.sources if one.source in exporters):
                assert len({place[f"hs_{term.metric}"] for term in source.terms}) == 1, source.terms


@pytest.mark.parametrize("name", PACK)
def test_a_pack_says_what_it_costs(name: str) -> None:
    """Series a pod or GPU, edges that come on top, and the query that counts them on the server."""
    pack = PACK[name]
    text = pack_text(pack)
    single = sum(not one.buckets for one in pack.metrics)
    assert f"# Cost: {single} series a " in text
    cost = text.partition("# Cost: ")[2].partition("\n")[0]
    for one in pack.metrics:
        assert (one.metric.removesuffix("_bucket") in cost) == one.buckets
        assert re.search(rf'[|"]{re.escape(one.metric)}[|"]', pack.count)
    assert f"# How many they are now: {pack.count}" in text


@pytest.mark.outside("promtool")
def test_promtool_takes_every_pack(tmp_path: Path) -> None:
    """All files at once, lint included, and the queries that count."""
    paths = []
    for name, pack in PACK.items():
        paths.append(tmp_path / pack.file)
        paths[-1].write_text(pack_text(pack), "utf-8")
        paths.append(tmp_path / f"{name}.count.yaml")
        rule = {"record": "a:b:c", "expr": pack.count}
        YAML().dump({"groups": [{"name": "count", "rules": [rule]}]}, paths[-1])
    done = subprocess.run(
        [needs("promtool"), "check", "rules", "--lint-fatal", *paths],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
