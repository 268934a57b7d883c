"""The reader of a TSDB's own files, and other readers held to what promtool says of the same samples."""

from __future__ import annotations

import io
import os
import re
import shutil
import stat
import subprocess
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ingest.texts import Samples, collected, plain_quoted, read_bytes

from hs_analysis.errors import InputError
from hs_analysis.ingest.discovery import discover
from hs_analysis.ingest.readers.prometheus import read_openmetrics
from hs_analysis.ingest.readers.tsdb import is_tsdb, read_tsdb, read_tsdb_dump
from hs_analysis.ingest.rows import Dump, ReadNotes
from hs_analysis.ingest.stage import ingest
from hs_analysis.pipeline.inputs import list_inputs
from hs_analysis.schema.frames import label_map

PROMTOOL = shutil.which("promtool")
needs_promtool = pytest.mark.outside("promtool")

T = 1764000000
SIMPLE = (
    "".join(f'm{{pod="p{p}",x="a b"}} {p + i}.5 {T + 15 * i}\n' for p in range(3) for i in range(9))
    + "# EOF\n"
)


def make_tsdb(openmetrics: str, folder: Path) -> Path:
    """Have promtool write a TSDB."""
    source = folder / "source.om"
    source.write_text(openmetrics, encoding="utf-8", newline="")
    command = [
        str(PROMTOOL),
        "tsdb",
        "create-blocks-from",
        "openmetrics",
        "-q",
        str(source),
        str(folder / "db"),
    ]
    subprocess.run(command, check=True, capture_output=True)
    return folder / "db"


def read_path(path: Path) -> tuple[Samples, ReadNotes]:
    notes = ReadNotes()
    return collected(read_tsdb(Dump(path, str(path), path.name), notes)), notes


def tar_of(
    folder: Path, path: Path, change: Callable[[tarfile.TarInfo], tarfile.TarInfo | None] | None = None
) -> Path:
    """Pack a folder as `tar czf` does."""
    with tarfile.open(path, "w:gz") as archive:
        archive.add(folder, arcname=f"snap/{folder.name}", filter=change)
    return path


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder for temporary files of its own, which must be empty in the end."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    yield folder
    assert list(folder.iterdir()) == []


@pytest.fixture(scope="module")
def tsdb(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A TSDB with one block and no log, as a snapshot is."""
    folder = make_tsdb(SIMPLE, tmp_path_factory.mktemp("tsdb"))
    shutil.rmtree(folder / "wal", ignore_errors=True)
    return folder


@needs_promtool
def test_a_folder_a_tar_and_a_single_block_give_the_same(tsdb: Path, tmp_path: Path) -> None:
    """All equal the samples that went in; nothing is written into the user's folder, nothing stays behind."""
    expected, _ = read_bytes(read_openmetrics, SIMPLE.encode(), tmp_path)
    before = contents(tsdb)
    (block,) = (p for p in tsdb.iterdir() if p.is_dir())
    for path in (tsdb, block, tar_of(tsdb, tmp_path / "s.tar.gz")):
        found, notes = read_path(path)
        assert found == expected
        assert (notes.rows, notes.rejections.total) == (27, 0)
    assert contents(tsdb) == before
    assert not (tsdb / "wal").exists()


@needs_promtool
def test_a_folder_of_a_tsdb_is_one_input(tsdb: Path, tmp_path: Path) -> None:
    """Its files are neither read nor skipped one by one, whether it is named or lies in the input."""
    inputs = tmp_path / "in"
    shutil.copytree(tsdb, inputs / "run1" / "snap")
    (inputs / "notes.txt").write_text("nothing")
    found = discover([inputs])
    assert [(f.name, f.capture, f.named, f.format.id) for f in found.files] == [
        ("run1/snap", "run1", False, "tsdb")
    ]
    assert [p.name for p in found.passed] == ["notes.txt"]
    (named,) = discover([inputs / "run1" / "snap"]).files
    assert (named.name, named.capture, named.named) == ("snap", "", True)
    assert len(list_inputs([inputs])) > 3  # every file is still hashed


@needs_promtool
def test_the_log_of_a_young_server_is_replayed(tsdb: Path, tmp_path: Path) -> None:
    """A folder with nothing but a log is a TSDB too, and is only read."""
    young = tmp_path / "young"
    (young / "wal").mkdir(parents=True)
    (young / "chunks_head").mkdir()
    assert is_tsdb(young)
    found, notes = read_path(young)
    assert (found, notes.rows) == ({}, 0)


@needs_promtool
def test_without_promtool_the_command_to_run_is_named(tsdb: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It can be run where the server is."""
    monkeypatch.setenv("PATH", "")
    with pytest.raises(
        InputError, match=r"not on PATH; .*mkdir -p db/wal; promtool tsdb dump db \| gzip > dump.txt.gz"
    ):
        read_path(tsdb)


@needs_promtool
def test_a_broken_block_gives_promtools_last_words(tsdb: Path, tmp_path: Path) -> None:
    """And an error, whatever was printed before."""
    broken = shutil.copytree(tsdb, tmp_path / "db")
    next(broken.rglob("index")).write_bytes(b"nothing")
    with pytest.raises(
        InputError, match=r"promtool could not read it: corrupted block .* invalid magic number"
    ):
        read_path(broken)


@needs_promtool
def test_a_promtool_that_dies_midway_is_an_error(
    tsdb: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Samples that came before are not taken for all there are."""
    fake = tmp_path / "bin" / "promtool"
    fake.parent.mkdir()
    fake.write_text(
        "#!/bin/sh\necho '{__name__=\"m\"} 1 1764000000000'\necho first >&2\necho out of memory >&2\nexit 3\n"
    )
    fake.chmod(fake.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{fake.parent}{os.pathsep}{os.environ['PATH']}")
    with pytest.raises(InputError, match="promtool could not read it: out of memory"):
        read_path(tsdb)


def hostile(
    name: str, kind: bytes = tarfile.REGTYPE, link: str = "", size: int = 4
) -> tuple[tarfile.TarInfo, bytes]:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, link
    member.size = size if kind == tarfile.REGTYPE else 0
    return member, b"evil"[: member.size] + bytes(max(0, member.size - 4))


ULID = "01M86RY54DBG77SG2WC81TBWP4"


@needs_promtool
def test_hostile_members_land_nowhere(tsdb: Path, tmp_path: Path) -> None:
    """Absolute names, parents, links and devices are passed over or put below the temporary folder."""
    path = tmp_path / "evil.tar"
    outside = tmp_path / "outside"
    members = [
        hostile(f"../../../../{tmp_path}/outside/evil"),
        hostile(f"{outside}/evil"),
        hostile(f"{ULID}/../../evil/meta.json"),
        hostile(f"{ULID}/index", tarfile.SYMTYPE, "/etc/passwd"),
        hostile(f"{ULID}/tombstones", tarfile.LNKTYPE, "/etc/passwd"),
        hostile(f"{ULID}/chunks", tarfile.SYMTYPE, str(tmp_path)),
        hostile(f"{ULID}/chunks/000001"),
        hostile(f"{ULID}/meta.json", tarfile.FIFOTYPE),
    ]
    with tarfile.open(path, "w") as archive:
        for member, data in members:
            archive.addfile(member, io.BytesIO(data))
    before = {p.name for p in tmp_path.iterdir()}
    read_path(path)  # a block without meta.json is none to promtool: no sample
    assert {p.name for p in tmp_path.iterdir()} == before


class Zeros(io.RawIOBase):
    """Zeros without end."""

    def read(self, size: int = -1) -> bytes:
        return bytes(size)


@needs_promtool
def test_a_bomb_is_refused(tmp_path: Path) -> None:
    """A small archive that unpacks to far more than a snapshot can is stopped on the way."""
    path = tmp_path / "bomb.tar.gz"
    size = 200 << 20
    with tarfile.open(path, "w:gz", compresslevel=1) as archive:
        member = tarfile.TarInfo(f"{ULID}/chunks/000001")
        member.size = size
        archive.addfile(member, Zeros())
    assert path.stat().st_size < size // 50
    with pytest.raises(InputError, match=r"no whole tar of a snapshot: .*(50 times its size|claims)"):
        read_path(path)


@needs_promtool
@pytest.mark.parametrize("share", [0.3, 0.9])
@needs_promtool
def test_a_cut_tar_is_an_error(tsdb: Path, tmp_path: Path, share: float) -> None:
    """Half a block holds half the truth."""
    raw = tar_of(tsdb, tmp_path / "s.tar.gz").read_bytes()
    (tmp_path / "cut.tar.gz").write_bytes(raw[: int(len(raw) * share)])
    with pytest.raises(InputError):
        read_path(tmp_path / "cut.tar.gz")


TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=6)
VALUES = st.one_of(
    st.floats(allow_nan=False).map(repr), st.sampled_from(["NaN", "+Inf", "-Inf", "1e+06", "0"])
)
FAMILIES = st.dictionaries(
    st.tuples(TEXTS, TEXTS),
    st.dictionaries(st.integers(0, 10**6), VALUES, min_size=1, max_size=4),
    min_size=1,
    max_size=5,
)


@needs_promtool
@settings(max_examples=6)
@given(families=FAMILIES)
def test_promtool_reads_the_same_in_our_text_and_in_its_dump(
    tmp_path_factory: pytest.TempPathFactory, families: dict[tuple[str, str], dict[int, str]]
) -> None:
    """OpenMetrics through promtool's parser, its TSDB and its dump equals OpenMetrics through ours."""
    folder = tmp_path_factory.mktemp("differential")
    rows = sorted(
        (offset, pair, value) for pair, samples in families.items() for offset, value in samples.items()
    )
    raw = "".join(
        f"m{{a={plain_quoted(a)},b={plain_quoted(b)}}} {value} {T + offset // 1000}.{offset % 1000:03}\n"
        for offset, (a, b), value in rows
    )
    ours, notes = read_bytes(read_openmetrics, (raw + "# EOF\n").encode(), folder)
    database = make_tsdb(raw + "# EOF\n", folder)
    (database / "wal").mkdir(exist_ok=True)
    said = subprocess.run(
        [str(PROMTOOL), "tsdb", "dump", str(database)], check=True, capture_output=True
    ).stdout
    theirs, also = read_bytes(read_tsdb_dump, said, folder, "dump.txt")
    assert theirs == ours
    assert notes.rejections == also.rejections == []
    assert read_path(database)[0] == ours


@needs_promtool
def test_a_real_snapshot_holds_all_of_the_real_dump(real_data: Path) -> None:
    """The snapshot of a capture gives every sample that the shipped dump of its core metrics gives."""
    folder = real_data / "dynamo-mocker" / "pd-diurnal"
    found, notes = read_path(folder / "tsdb_snapshot.tar.gz")
    dump = folder / "tsdb_dump.txt.gz"
    core = collected(read_tsdb_dump(Dump(dump, str(dump), dump.name), ReadNotes()))
    assert notes.rejections == []
    assert {key: found[key] for key in core} == core


@needs_promtool
def test_what_is_stored_is_what_promtool_dumps(tmp_path: Path) -> None:
    """Series, times and values of a snapshot after the whole stage, against promtool's text."""
    text = "".join(
        f'vllm:num_requests_waiting{{pod="p-{p}",x="a b"}} {value} {T + 15 * i}\n'
        for p in range(3)
        for i, value in enumerate(("1", "0.1", "NaN", "1e-300", "9007199254740993", "-0.5"))
    )
    made = make_tsdb(text + "# EOF\n", tmp_path)
    (made / "wal").mkdir(exist_ok=True)
    said = subprocess.run(
        [str(PROMTOOL), "tsdb", "dump", str(made)], check=True, capture_output=True, text=True
    )
    dumped = set()
    for line in said.stdout.splitlines():
        series, value, t_ms = line.rsplit(" ", 2)
        labels = frozenset(re.findall(r'(\w+)="([^"]*)"', series))
        dumped.add((labels, int(t_ms) * 1000, None if value == "NaN" else float(value)))
    found = ingest(discover([made]), tmp_path / "out", lambda _: None)
    samples = pl.read_parquet(tmp_path / "out" / "samples" / "*.parquet").join(found.series, "series_id")
    stored = {
        (frozenset({**label_map(labels), "__name__": metric}.items()), t_us, value)
        for metric, labels, t_us, value in samples.select(
            "metric", "labels", pl.col("t").dt.epoch("us"), "value"
        ).iter_rows()
    }
    assert len(dumped) == 18
    assert stored == dumped
