"""A catalogue file with a mistake is refused where the mistake stands."""

from __future__ import annotations

import pytest

from hs_analysis.catalogue.parse import parse_catalogue
from hs_analysis.catalogue.rows import RECORDED_BY
from hs_analysis.errors import HsError, ManyErrors

GOOD = """\
schema_version: 2
catalogue_date: "2026-11-24"
exporters:
  vllm: {match: "vllm:", versions: "0.x"}
  dcgm: {match: "DCGM_", versions: "4.x"}
clock_like: []
signals:
- id: kv_usage
  meaning: share of blocks
  unit: ratio
  family: memory
  pool: mean
  role: emitter
  sources:
  - {source: vllm, read: gauge, emitters: [decode], num: [{metric: "vllm:kv"}], OLDER}
  - {source: dcgm, read: gauge, unit: percent, num: [{metric: DCGM_KV}]}
  enable: nothing to do
""".replace("OLDER", 'older: [{until: "1", num: [{metric: "vllm:old"}]}]')


def test_a_good_file_is_read() -> None:
    """Units become factors, older names stand behind today's, and last those that rules record."""
    (signal,) = parse_catalogue(GOOD).signals
    first, second = signal.sources
    assert [names.until for names in first.names] == ["", "1", ""]
    assert first.metrics == ("vllm:kv", "vllm:old", "hs_vllm:kv")
    assert second.scale == pytest.approx(0.01)
    assert signal.wanted


def test_names_that_a_relabelling_makes_say_nothing_of_a_version() -> None:
    """They stand behind the others, with what renames them."""
    (signal,) = parse_catalogue(GOOD.replace('until: "1"', 'renamed: "a monitor"')).signals
    assert [(names.until, names.renamed) for names in signal.sources[0].names] == [
        ("", ""),
        ("", "a monitor"),
        ("", RECORDED_BY),
    ]


@pytest.mark.parametrize(
    ("old", "new", "line", "row", "what"),
    [
        ("source: dcgm", "source: dgcm", 16, "signals[0].sources[1]", "source is 'dgcm'"),
        ("read: gauge, unit", "reed: gauge, unit", 16, "signals[0].sources[1]", "no such field 'reed'"),
        ("unit: percent", "unit: percents", 16, "signals[0].sources[1]", "no unit 'percents'"),
        ("unit: percent", "unit: ms", 16, "signals[0].sources[1]", "does not measure a signal in ratio"),
        ("emitters: [decode]", "emitters: [decoder]", 15, "signals[0].sources[0]", "an emitter is 'decoder'"),
        ("[{metric: DCGM_KV}]", "[{metrik: DCGM_KV}]", 16, "signals[0].sources[1].num[0]", "'metrik'"),
        ("num: [{metric: DCGM_KV}]", "steps: 1", 16, "signals[0].sources[1]", "needs num or histogram"),
        ("[{metric: DCGM_KV}]", "[{metric: x}], den: [{metric: y}]", 16, "sources[1]", "pool is mean"),
        ("DCGM_KV", "vllm:other", 16, "signals[0].sources[1]", "metric of vllm, not of dcgm"),
        ("vllm:old", "DCGM_OLD", 15, "signals[0].sources[0]", "metric of dcgm, not of vllm"),
        ('until: "1", ', "", 15, "signals[0].sources[0].older[0]", "`until`"),
        ('until: "1", ', 'until: "1", renamed: by, ', 15, "signals[0].sources[0].older[0]", "`renamed`"),
        ("family: memory", "family: memmory", 8, "signals[0]", "family is 'memmory'"),
        ("role: emitter", "role: everyone", 8, "signals[0]", "role is 'everyone'"),
        ("  enable: nothing to do\n", "", 8, "signals[0]", "enable is missing"),
        ("versions: \"4.x\"", "version: \"4.x\"", 5, "exporters.dcgm", "no such field 'version'"),
    ],
)  # fmt: skip
def test_a_mistake_is_named_with_file_line_and_row(
    old: str, new: str, line: int, row: str, what: str
) -> None:
    """Never a traceback, never a silent row."""
    assert old in GOOD
    with pytest.raises(HsError) as raised:
        parse_catalogue(GOOD.replace(old, new), "mine.yaml")
    first = raised.value.errors[0] if isinstance(raised.value, ManyErrors) else raised.value
    assert first.where.startswith(f"mine.yaml, line {line}, ")
    assert row in first.where
    assert what in first.line()


def test_a_name_is_old_or_of_today() -> None:
    """Else the same increase would be dropped for one signal and needed for another."""
    more = GOOD.replace(
        "  - {source: dcgm",
        '  - {source: vllm, read: gauge, num: [{metric: "vllm:old"}]}\n  - {source: dcgm',
    )
    with pytest.raises(HsError, match="older name here and today's name elsewhere"):
        parse_catalogue(more)


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("a: [", "no YAML"),
        ("schema_version: 2\n", "is missing"),
        ("nonsense: 1\n", "no such field 'nonsense'"),
    ],
)
def test_what_is_no_catalogue_is_refused(text: str, what: str) -> None:
    """Broken YAML and a file of something else."""
    with pytest.raises(HsError, match=what):
        parse_catalogue(text)


def test_several_mistakes_are_all_named() -> None:
    """One run of the tool shows them together."""
    bad = GOOD.replace("source: dcgm", "source: dgcm").replace("emitters: [decode]", "emitters: [nobody]")
    with pytest.raises(ManyErrors) as raised:
        parse_catalogue(bad)
    assert len(raised.value.errors) == 2
