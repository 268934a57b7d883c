"""What hsa init writes lists every setting, and each line is valid when its # is taken away.

`HSA_UPDATE_GOLDEN=1` writes the kept file again.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from hs_analysis.settings import file
from hs_analysis.settings.file import resolve
from hs_analysis.settings.registry import SETTINGS, WIDTH, template
from hs_analysis.settings.sections import SECTIONS

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "init" / "hsa.toml"


def test_the_file_is_the_one_kept() -> None:
    """A change of it is seen and has to be meant."""
    text = template({})
    if os.environ.get("HSA_UPDATE_GOLDEN"):
        GOLDEN.write_text(text, "utf-8")
    assert text == GOLDEN.read_text("utf-8")
    assert max(len(line) for line in text.splitlines()) <= WIDTH + 20  # examples may be longer than prose


def test_as_written_it_sets_nothing(tmp_path: Path) -> None:
    """Every setting is a comment until its # is taken away."""
    path = tmp_path / "hsa.toml"
    path.write_text(template({}))
    assert file.read_file(path) == {}


def test_every_line_is_valid_when_uncommented(tmp_path: Path) -> None:
    """All settings at once: each is read, none is refused, and what has a default gets it."""
    path = tmp_path / "hsa.toml"
    path.write_text(re.sub(r"(?m)^#(?=[^ #])", "", template({})))
    (tmp_path / "events.json").write_text('[{"t": "2026-07-02T00:00Z"}]')
    values, _ = resolve([file.read_file(path)])
    assert set(values) == {s.field for s in SETTINGS} | {s.field for s in SECTIONS}
    for setting in SETTINGS:
        if setting.default not in (None, ()):
            assert values[setting.field] == setting.default


def test_given_settings_are_set(tmp_path: Path) -> None:
    """What is given stands without a #, in its section."""
    path = tmp_path / "hsa.toml"
    path.write_text(template({"slo.ttft": '"2s"', "seed": "4"}))
    values, _ = resolve([file.read_file(path)])
    assert values == {"slo.ttft_s": 2.0, "seed": 4}
