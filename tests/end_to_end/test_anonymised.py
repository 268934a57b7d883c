"""The report of a run without names: nothing that the dump tells of the fleet stands in the page."""

from __future__ import annotations

import re
from pathlib import Path

import polars as pl
import pytest
from end_to_end.runs import SAMPLES, Finished, here

from hs_analysis.report.anonymise import SHORT_DIGITS, kind_of_label, vocabulary
from hs_analysis.report.packing import spread


@pytest.mark.parametrize("name", sorted(SAMPLES))
def test_no_label_value_of_a_sample_stands_in_its_report(name: str, root: Path, finished: Finished) -> None:
    """Label values, services, instances and files are gone; words of the report and numbers stay."""
    done = finished(root / "data_samples" / name, *SAMPLES[name])
    before = (done.folder / "report.html").read_bytes()
    told = here("report", done.folder, "--anonymise")
    path = done.folder / "report-anonymised.html"
    assert str(path) in told.stdout
    assert (done.folder / "report.html").read_bytes() == before
    page = spread(path.read_text("utf-8"))
    series = pl.read_parquet(done.folder / "data" / "series.parquet")
    values = {
        value
        for labels in series["labels"].unique().to_list()
        for label, value in dict(labels).items()
        if kind_of_label(label)
    }
    values |= set(series["instance"].drop_nulls()) | {entry["name"] for entry in done.summary["inputs"]}
    services = [service["service"] for service in done.summary["services"]]
    values |= {*services, *(part for service in services for part in service.split("/"))} - {"-"}
    values = {value for value in values if not (value.isdigit() and len(value) < SHORT_DIGITS)}
    standing = {
        value for value in values if value in page and re.search(rf"(?<!\w){re.escape(value)}(?!\w)", page)
    }
    assert standing <= vocabulary()
    assert standing <= {"dynamo", "engine", "generate", "prometheus"}
    assert len(values) > 20
    numbers = [
        set(re.findall(r"data-sort=\"[^\"]+\"", text)) for text in (spread(before.decode("utf-8")), page)
    ]
    assert numbers[0] <= numbers[1]


def test_a_key_is_a_file_that_holds_one(root: Path, finished: Finished, tmp_path: Path) -> None:
    """Aliases made with it are no numbers in order; an empty file is a mistake in words."""
    done = finished(root / "data_samples" / "dynamo-pd", *SAMPLES["dynamo-pd"])
    key = tmp_path / "key"
    key.write_text("a long random word\n", "utf-8")
    here("report", done.folder, "--anonymise-key", key)
    page = spread((done.folder / "report-anonymised.html").read_text("utf-8"))
    assert re.search(r"model-[0-9a-f]{8}\b", page)
    assert "model-1" not in page
