"""From the inputs on the command line to files with a format and a capture."""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path
from typing import BinaryIO

import polars as pl
import pytest
from ingest.bodies import answer, body, element
from typer.testing import CliRunner

from hs_analysis.cli.app import app
from hs_analysis.errors import InputError, ManyErrors
from hs_analysis.ingest import discovery as module
from hs_analysis.ingest.discovery import discover
from hs_analysis.ingest.formats import FileStart, Format, sniff
from hs_analysis.ingest.near_misses import KnownDamage
from hs_analysis.ingest.stage import ingest

DUMP = body(element("up", [(1764000000, 1)]))


def put(folder: Path, files: dict[str, bytes]) -> Path:
    """Write files below a folder."""
    for name, raw in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(raw)
    return folder


@pytest.mark.parametrize(
    "document",
    [
        DUMP,
        b"\xef\xbb\xbf \n" + DUMP,
        json.dumps(answer(), indent=2).encode(),
        json.dumps(answer(element("m" * 70_000, [(1, 1)])), sort_keys=True).encode(),
        b'{"isPartial":false,"status":"success","data":{"resultType":"vector","result":[]}}',
        b'{"error":"x","errorType":"timeout","status":"error"}',
    ],
)
def test_an_answer_is_known_by_its_content(document: bytes) -> None:
    """Keys may stand in any order: with sorted ones the type comes after a result larger than the head."""
    found = sniff(FileStart(document[: 1 << 16]))
    assert isinstance(found, Format)
    assert found.id == "prom-api"


@pytest.mark.parametrize(
    ("head", "what"),
    [
        (b"", "an empty file"),
        (b" \n", "an empty file"),
        (b"<!DOCTYPE html><html><title>Log in</title>", "an HTML page (Log in), not a metric dump"),
        (b"<html>", "an HTML page, not a metric dump"),
        (b'{"status":"success","data":{"resul', "JSON that ends in the middle at byte 34"),
    ],
)
def test_damage_says_what_it_is(head: bytes, what: str) -> None:
    """What pretends to be a dump is told apart from what is none."""
    found = sniff(FileStart(head))
    assert isinstance(found, KnownDamage)
    assert found.what(head) == what


@pytest.mark.parametrize(
    "head",
    [
        b"ts,a\n1,2",
        b'{"slo":{}}',
        b'{"quantile": 0.95, "metric": "ttft"}\n',
        b"name,the 0.9 quantile\nttft,2\n",
        b"[]",
        b'{"status":"success","data":{"up":[{"type":"gauge"}]}}',
        b"\x00\x01",
    ],
)
def test_other_files_are_no_dump(head: bytes) -> None:
    """Configuration, metadata answers and binaries are none of the tool's business."""
    assert sniff(FileStart(head)) is None


def test_folders_give_captures_and_leave_the_rest_aside(tmp_path: Path) -> None:
    """A sub-folder is a capture; unknown files are skipped, damaged ones noted, hidden ones not looked at."""
    put(
        tmp_path,
        {
            "b.json": DUMP,
            "a.json.gz": gzip.compress(DUMP),
            "run1/x.json": DUMP,
            "run1/deep/y.json": DUMP,
            "truth.json": b"{}",
            "login.json": b"<html><title>Log in</title>",
            "cut.json.gz": gzip.compress(DUMP)[:12],
            ".cache/z.json": DUMP,
        },
    )
    found = discover([tmp_path])
    assert [(f.name, f.capture) for f in found.files] == [
        ("a.json.gz", ""), ("b.json", ""), ("run1/deep/y.json", "run1/deep"), ("run1/x.json", "run1"),
    ]  # fmt: skip
    assert [(p.name, p.state) for p in found.passed] == [
        ("cut.json.gz", "broken"), ("login.json", "broken"), ("truth.json", "skipped"),
    ]  # fmt: skip
    assert "cut or damaged after" in found.passed[0].why


def test_a_folder_below_a_hidden_or_a_parent_folder_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only names below the input can hide a file: the way to it may hold dots."""
    put(tmp_path / ".data", {"a.json": DUMP})
    assert [f.name for f in discover([tmp_path / ".data"]).files] == ["a.json"]
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert [f.name for f in discover([Path("../.data")]).files] == ["a.json"]


def test_a_file_counts_once_and_the_order_of_inputs_does_not_matter(tmp_path: Path) -> None:
    """A file that is named and lies in a named folder is read once, as named."""
    put(tmp_path, {"a.json": DUMP, "run/b.json": DUMP})
    inputs = [tmp_path, tmp_path / "run" / "b.json"]
    found = discover(inputs)
    assert [(f.name, f.capture, f.named) for f in found.files] == [
        ("a.json", "", False), ("b.json", "", True),
    ]  # fmt: skip
    assert discover(inputs[::-1]) == found


def test_named_files_must_be_readable_and_all_problems_are_told(tmp_path: Path) -> None:
    """Every missing or unknown input is an error with its path and the next step."""
    put(tmp_path, {"web.json": b"<html>", "notes.txt": b"hello"})
    with pytest.raises(ManyErrors) as caught:
        discover([tmp_path / "web.json", tmp_path / "notes.txt", tmp_path / "gone"])
    lines = [error.line() for error in caught.value.errors]
    assert [line.split(":")[0].rsplit("/", 1)[1] for line in lines] == ["gone", "notes.txt", "web.json"]
    assert [line.split(";")[1].strip()[:10] for line in lines] == ["check the ", "export it ", "log in or "]
    with pytest.raises(InputError, match=r"gone: no such file or folder"):
        discover([tmp_path / "gone"])


def test_nothing_to_read_says_why(tmp_path: Path) -> None:
    """An empty folder, a folder without dumps and a folder of broken dumps are three different things."""
    with pytest.raises(InputError, match="the folder is empty"):
        discover([tmp_path])
    put(tmp_path, {"notes.txt": b"hello"})
    with pytest.raises(InputError, match="no metric dump in 1 files"):
        discover([tmp_path])
    put(tmp_path, {"web.json": b"<html>", "empty.json": b""})
    with pytest.raises(InputError, match=r"nothing readable: empty\.json: an empty file \(and 1 more\)"):
        discover([tmp_path])


def test_a_file_that_can_not_be_opened_inside_a_folder_is_noted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One locked file does not stop the others."""
    put(tmp_path, {"a.json": DUMP, "locked.json": DUMP})
    real = module.open_decompressed

    def refuse(path: Path) -> BinaryIO:
        if path.name == "locked.json":
            raise InputError("can't be opened (Permission denied)")
        return real(path)

    monkeypatch.setattr(module, "open_decompressed", refuse)
    found = discover([tmp_path])
    assert [f.name for f in found.files] == ["a.json"]
    assert [(p.name, p.state, p.why) for p in found.passed] == [
        ("locked.json", "broken", "can't be opened (Permission denied)")
    ]


def test_a_table_nobody_knows_lists_its_columns_and_says_how_to_map_them(tmp_path: Path) -> None:
    """Named on the command line it is an error; in a folder it is skipped with the same words."""
    notes = {"notes.md": b"# Notes, and more\n- a, b\n", "prose.txt": b"Dear all, hello\nthis is prose\n"}
    put(tmp_path, {"fleet.csv": b"when,pod,load\n1,a,2\n", **notes})
    words = "a table that no reader knows, with the columns when, pod, load"
    with pytest.raises(InputError, match=rf"fleet\.csv: {words}; describe its columns under \[tables"):
        discover([tmp_path / "fleet.csv"])
    with pytest.raises(InputError, match=rf"no metric dump in 3 files; fleet\.csv is {words}; describe"):
        discover([tmp_path])
    put(tmp_path, {"dump.json": DUMP})
    passed = {p.name: (p.state, p.why) for p in discover([tmp_path]).passed}
    assert passed == {"fleet.csv": ("skipped", words)} | dict.fromkeys(notes, ("skipped", "no dump"))


def test_a_parquet_table_nobody_knows_lists_its_columns(tmp_path: Path) -> None:
    pl.DataFrame({"when": [1], "load": [2.0]}).write_parquet(tmp_path / "fleet.parquet")
    with pytest.raises(InputError, match="no reader knows, with the columns when, load"):
        discover([tmp_path / "fleet.parquet"])


def test_answers_inside_another_document_are_told(tmp_path: Path) -> None:
    """A script put several together under names of its own: named, alone in a folder, or beside a dump."""
    whole = json.loads(body(element("m", [(1764000000, 1)])))
    (tmp_path / "all.json").write_text(json.dumps({"tps": {"expr": "sum(rate(x[1m]))", "response": whole}}))
    for place in (tmp_path / "all.json", tmp_path):
        with pytest.raises(InputError, match="holds API answers inside a document of its own") as caught:
            discover([place])
        assert "name its query with --query" in str(caught.value)
    (tmp_path / "m.json").write_bytes(body(element("vllm:num_requests_waiting", [(1764000000, 1)], pod="p")))
    found = ingest(discover([tmp_path]), tmp_path / "out", lambda _name: None)
    assert found.skipped == ("all.json",)
    assert [(name, "write each answer to a file of its own" in text) for name, text in found.infos] == [
        ("all.json", True)
    ]


def test_a_name_that_is_no_utf8(tmp_path: Path) -> None:
    """In a folder such a file is a finding with its bytes shown, and the others are read; named, an error."""
    folder = tmp_path / "in"
    folder.mkdir()
    put(folder, {"good.json": body(element("vllm:num_requests_waiting", [(1764000000, 1)], pod="p"))})
    odd = Path(os.fsdecode(os.fsencode(folder) + b"/\xff.json"))
    odd.write_bytes(DUMP)
    done = CliRunner().invoke(app, ["ingest", str(folder), "--run-dir", str(tmp_path / "run")])
    assert done.exit_code == 0, done.stderr
    assert r"warning: \xff.json could not be read: its name is no UTF-8; rename it" in done.stderr
    named = CliRunner().invoke(app, ["ingest", str(odd), "--run-dir", str(tmp_path / "other")])
    assert (named.exit_code, len(named.stderr.splitlines())) == (1, 1)
    assert r"\xff.json: its name is no UTF-8; rename it" in named.stderr
