"""What ``hsa init`` writes: a commented hsa.toml with its schema, the sample dumps, rules to install."""

from __future__ import annotations

import shutil
from importlib.resources import as_file, files
from pathlib import Path

from hs_analysis.catalogue import load_catalogue
from hs_analysis.collect.recording import pack_text, rules_packs
from hs_analysis.errors import RunFolderError
from hs_analysis.schema.json_schema import SCHEMA_FILES, shipped_schema
from hs_analysis.settings.file import FILE_NAME
from hs_analysis.settings.registry import DIRECTIVE, template

SAMPLE = "dynamo-pd"
"""The sample that travels with the package: small, and it has both pools."""

SAMPLE_SETTINGS = {"slo.ttft": '"2s"', "slo.tbt": '"50ms"', "history.kind": '"pressure_test"'}
"""What the sample is run with, as its README says."""


def write_starter(folder: Path, *, demo: bool, force: bool) -> list[Path]:
    """Write hsa.toml, and the sample dumps below ``dynamo-pd/`` when asked for; return what was written.

    The JSON Schema of hsa.toml is written beside it, and the first line names it: editors that know the line
    complete keys and underline mistakes. A schema that is there already is of this program and is replaced.

    Raises
    ------
    RunFolderError
        When something of that name is there and ``force`` is not given, or the folder can't be written.
    """
    settings, dumps, schema = folder / FILE_NAME, folder / SAMPLE, folder / SCHEMA_FILES["settings"]
    for path in (settings, dumps) if demo else (settings,):
        if path.exists() and not force:
            raise RunFolderError("is there already", where=str(path), hint="choose another DIR, or --force")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        settings.write_text(
            DIRECTIVE + template(SAMPLE_SETTINGS if demo else {}), encoding="utf-8", newline="\n"
        )
        schema.write_text(shipped_schema("settings"), encoding="utf-8", newline="\n")
        if demo:
            copy_sample(dumps)
    except OSError as error:
        where = str(error.filename or folder)
        raise RunFolderError(f"can't be written ({error.strerror})", where=where) from error
    return [settings, schema, *(path for path in sorted(dumps.rglob("*")) if demo and path.is_file())]


RULES = "rules"
"""Folder of the rules to install before a study."""


def write_rules(folder: Path, *, force: bool) -> list[Path]:
    """Write the recording rules to install before a study, a file a stack, below ``rules/``.

    Raises
    ------
    RunFolderError
        When that folder is there and ``force`` is not given, or it can't be written.
    """
    place = folder / RULES
    if place.exists() and not force:
        hint = "choose another DIR, or --force"
        raise RunFolderError("is there already", where=str(place), hint=hint)
    written = []
    try:
        place.mkdir(parents=True, exist_ok=True)
        for pack in rules_packs(load_catalogue()):
            written.append(place / pack.file)
            written[-1].write_text(pack_text(pack), encoding="utf-8", newline="\n")
    except OSError as error:
        raise RunFolderError(
            f"can't be written ({error.strerror})", where=str(error.filename or place)
        ) from error
    return written


def copy_sample(folder: Path) -> None:
    """Copy the sample dumps; they lie inside a wheel's package, and beside it in a checkout."""
    packaged = files("hs_analysis").joinpath("_samples", SAMPLE)
    if not packaged.is_dir():
        packaged = Path(__file__).resolve().parents[2] / "data_samples" / SAMPLE
    with as_file(packaged) as source:
        shutil.copytree(source, folder, dirs_exist_ok=True)
