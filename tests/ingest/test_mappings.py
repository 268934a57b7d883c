"""The mappings that ship: each says of known columns what they carry."""

from __future__ import annotations

import re
from importlib.resources import files
from pathlib import Path

import pytest
from ingest.mappings import shipped

from hs_analysis.catalogue import load_catalogue
from hs_analysis.catalogue.rows import factor
from hs_analysis.ingest.readers.table import MappedTable, fill_of
from hs_analysis.schema.frames import BENCH, REQUESTS
from hs_analysis.settings import file

NAMES = sorted(
    one.name.removesuffix(".toml")
    for one in files("hs_analysis").joinpath("mappings").iterdir()
    if one.name.endswith(".toml")
)


def test_they_ship() -> None:
    assert NAMES == ["dstack", "nab", "request-log", "servegen-rates", "splitwise-sim", "wva-h100"]


@pytest.mark.parametrize("name", NAMES)
def test_each_is_a_valid_settings_file(name: str, root: Path) -> None:
    """Read as hsa.toml it says what the readers are tested with."""
    read = file.read_file(root / "hs_analysis" / "mappings" / f"{name}.toml")
    assert {key: given.value for key, given in read.items()} == {"reading.tables": shipped(name).tables}


@pytest.mark.parametrize("name", NAMES)
def test_every_column_goes_to_a_signal_or_a_column_in_its_unit(name: str) -> None:
    catalogue = load_catalogue()
    for table, row in shipped(name).tables.items():
        if row.holds != "samples":
            assert fill_of(MappedTable(table, row, "file"), name).targets
            continue
        assert row.time is not None
        for column in row.columns.values():
            signal = catalogue.signal(column.signal)
            assert signal is not None, column.signal
            if column.unit is not None:
                assert factor(column.unit, signal.unit) > 0


def test_the_page_names_every_mapping_and_every_column_that_can_be_filled(root: Path) -> None:
    page = (root / "docs" / "howto" / "tables.md").read_text("utf-8")
    assert set(re.findall(r"mappings/([\w-]+)\.toml", page)) == set(NAMES)
    for contract in (REQUESTS, BENCH):
        for field in contract:
            if field.name not in ("capture", "file", "format"):
                assert f"`{field.name}`" in page or field.name.startswith(("ttft_p", "tbt_p")), field.name
