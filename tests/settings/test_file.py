"""hsa.toml is read strictly: every problem names file, line and key; the contract's example is valid."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from hs_analysis.errors import HsError, InputError, ManyErrors, UsageError
from hs_analysis.pipeline.records import changed, to_plain
from hs_analysis.schema.settings import ClusterNames, CountLimits, MetricRow, Settings, TableRow
from hs_analysis.settings import file
from hs_analysis.settings.file import line_of, resolve
from hs_analysis.settings.registry import MACHINE, SETTINGS, declared_at
from hs_analysis.settings.sections import SECTIONS

WHOLE = """\
seed = 7
memory_limit = "2GB"
[slo]                        # there is no default SLO
ttft = "2.5s"
tbt = "50ms"
quantile = 0.99
window = "60s"
allowed_window_share = 0.01
[startup]
prefill = "4m"
[history]
kind = "pressure_test"
from = 2026-07-01T00:00:00Z
exclude = ["2026-07-03T08:00..2026-07-03T09:30"]
service = ["chat/llama"]
[reading]
tz = "Europe/Berlin"
salvage = true
[roles]
"^gen-" = "mixed"
[services]
"team=search" = "search/llama"
[captures]
"split.1" = "sweep/p1"
[metrics]
"gateway_qps" = { signal = "request_rate", kind = "gauge", unit = "req/s", where = { type = "chat" } }
[tables.fleet]
match = "va_timeseries*.csv"
time = "ts"
labels = ["variant", "accelerator"]
columns = { ttft_ms = { signal = "ttft", unit = "ms", averaged = "1h" } }
skip_where = { status = ["failed", 500] }
[tables.log]
match = "log.parquet"
holds = "requests"
labels = { variant = "model" }
columns = { started = { signal = "arrival" } }
[gpus]
prefill = 8
[policy]
mode = "periodic"
[export]
target = "hpa"
server_address = "https://prometheus.example:9090/path"
namespace = "llm"
prefill = "StatefulSet/ingress"
decode = "example.io/v2/Pool/gen"
labels = ["release=kps", "app.kubernetes.io/part-of=chat"]
kube_version = "v1.32.4-eks"
runbook_url = "https://wiki.example/serving"
[bounds]
prefill = { max = 12 }
decode = { min = 2, max = 40 }
mixed = "2.."
gpus = 256
[prices]
"NVIDIA H20" = 1
"""


def read(folder: Path, text: str) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the values and origins of a settings file."""
    path = folder / "hsa.toml"
    path.write_text(text)
    return resolve([file.read_file(path)])


def problems(folder: Path, text: str) -> list[str]:
    """Return the lines of the problems of a settings file, from its name on."""
    with pytest.raises(HsError) as caught:
        read(folder, text)
    errors = caught.value.errors if isinstance(caught.value, ManyErrors) else [caught.value]
    return [error.line().removeprefix(f"{folder}/") for error in errors]


def test_every_section_is_read(tmp_path: Path) -> None:
    """Numbers, durations, times of a zone from elsewhere in the file, maps and tables become settings."""
    values, origins = read(tmp_path, WHOLE)
    assert values.pop(f"{MACHINE}.memory_limit") == "2GB"
    found = changed(Settings(), values)
    assert (found.seed, found.slo.ttft_s, found.slo.tbt_s, found.slo.quantile) == (7, 2.5, 0.05, 0.99)
    assert found.startup_s == {"prefill": 240.0}
    assert (found.history_kind, found.start) == ("pressure_test", "2026-07-01T00:00:00Z")
    (excluded,) = found.excluded
    assert (excluded.start, excluded.end) == ("2026-07-03T06:00:00Z", "2026-07-03T07:30:00Z")
    reading = found.reading
    assert (reading.tz, reading.salvage) == ("Europe/Berlin", True)
    assert reading.roles == {"^gen-": "mixed"}
    assert reading.services == {"team=search": "search/llama"}
    assert reading.captures == {"split.1": str(tmp_path / "sweep/p1")}
    assert reading.metrics == {"gateway_qps": MetricRow("request_rate", "gauge", "req/s", {"type": "chat"})}
    assert reading.tables["fleet"] == TableRow(
        match="va_timeseries*.csv", time="ts",
        labels={"variant": "variant", "accelerator": "accelerator"},
        columns={"ttft_ms": MetricRow("ttft", "gauge", "ms", averaged=3600.0)},
        skip_where={"status": ["failed", "500"]},
    )  # fmt: skip
    assert reading.tables["log"].labels == {"variant": "model"}
    assert reading.gpus_per_instance == {"prefill": 8.0}
    assert found.bounds == {
        "prefill": CountLimits(None, 12), "decode": CountLimits(2, 40), "mixed": CountLimits(2),
    }  # fmt: skip
    assert found.gpus_limit == 256
    assert (found.target, found.policy_mode) == ("hpa", "periodic")
    assert found.server_address == "https://prometheus.example:9090/path"
    assert found.cluster == ClusterNames(
        "llm",
        {"prefill": "StatefulSet/ingress", "decode": "example.io/v2/Pool/gen"},
        labels=("release=kps", "app.kubernetes.io/part-of=chat"),
    )
    assert found.kube_version == "1.32"
    assert found.runbook_url == "https://wiki.example/serving"
    assert changed(Settings(), to_plain(found)) == found
    assert found.prices == {"NVIDIA H20": 1.0}
    assert origins["slo.ttft_s"] == f"{tmp_path}/hsa.toml line 4"
    assert origins["reading.tables"] == f"{tmp_path}/hsa.toml line 27"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sed = 3", "hsa.toml line 1: sed: no such key 'sed'; did you mean seed?"),
        ('[prior]\nmodel = "m"', "line 1: prior: this section was removed; take it out: performance tables"),
        ("\n[starup]\nprefill = '1s'", "line 2: starup: no such section [starup]; did you mean startup?"),
        ("[slo]\ntbtt = '1s'", "hsa.toml line 2: slo.tbtt: no such key 'tbtt' in [slo]; did you mean tbt?"),
        ("[slo]\nseed = 1", "slo.seed: no such key 'seed' in [slo]; it belongs above the first"),
        ("tz = 'UTC'", "hsa.toml line 1: tz: no such key 'tz'; it belongs below [reading]"),
        ("[slo]\nttft = 2.5", 'slo.ttft: expected duration, found 2.5; write e.g. ttft = "2.5s"'),
        ("[slo]\nttft = '2.5'", "hsa.toml line 2: slo.ttft: '2.5' has no unit; write e.g. 2.5s or 2.5ms"),
        ("seed = '1'", "hsa.toml line 1: seed: expected whole number, found '1'; write e.g. seed = 0"),
        ("seed = true", "hsa.toml line 1: seed: expected whole number, found true; write e.g. seed = 0"),
        ("[history]\nexclude = 'a..b'", "is no list"),
        ("[history]\nkind = 'presure_test'", "did you mean pressure_test?"),
        ("[history]\nfrom = '2026-07-01'", "has no zone"),
        ("[reading]\ntz = 'Berlin'", "no such time zone 'Berlin'"),
        ("[reading]\nsalvage = 'true'", "expected true or false, found 'true'"),
        ("[roles]\n'^gen-' = 'mixd'", "roles.^gen-: 'mixd' is none of its values; did you mean mixed?"),
        ("[roles]\n'(' = 'mixed'", "no regular expression"),
        ("[services]\n'a' = 3", "3 is no text"),
        ("[tables.t]\nmatch='*'\ntime='t'\ncolumns={a={signal='ttft',kind='histogram'}}", "is none of its"),
        ("[metrics]\na = { signal = 'request_work', weights = { size = { S = 0 } } }", "0 is no weight"),
        (
            "[metrics]\na = { signal = 'request_work', weights = { size = { S = 1 }, steps = { a = 2 } } }",
            "weights go by one label",
        ),
        ("roles = 3", "hsa.toml line 1: roles: this is a section; write it below [roles]"),
        ("[metrics]\nqps = { signal = 'request_rat' }", "no such signal 'request_rat'; did you mean"),
        ("[metrics]\nqps = { kind = 'gauge' }", "it says no signal"),
        ("[metrics]\nqps = { signal = 'ttft', kind = 'gage' }", "did you mean gauge?"),
        ("[metrics]\nqps = { sgnal = 'ttft' }", "metrics.qps.sgnal: no such key 'sgnal'; did you mean"),
        ("[metrics]\nqps = 'ttft'", "'ttft' is no table"),
        ("[tables.a]\ntime = 't'", "it matches no file"),
        ("[tables.a]\nmatch = '*'\ntime = 't'", "no column carries anything"),
        ("[tables.a]\nmatch = '*'\ntime = 't'\nmetric = 'm'", "it has metric but no value"),
        ("[tables.a]\nmatch = '*'\nmetric = 'm'\nvalue = 'v'", "it has no time"),
        ("[tables.a]\nmatch = '*'\nholds = 'bench'\ncolumns = { a = { signal = 'modl' } }", "mean model?"),
        (
            "[metrics]\na = { signal = 'ttft', averaged = '6' }",
            "'6' has no unit",
        ),
        ("[gpus]\ndecod = 8", "did you mean decode?"),
        ("[gpus]\ndecode = 0", "no number above 0"),
        ("[bounds]\ndecode = { min = 5, max = 2 }", "line 2: bounds.decode: min 5 is above max 2; swap them"),
        ("[bounds.decode]\nmin = 2\nmax = 2.5", "3: bounds.decode.max: expected whole number, found 2.5"),
        ("[bounds]\ndecode = { min = 0 }", "bounds.decode.min: '0' is not a whole number from 1 on"),
        ("[bounds]\ndecode = { max = true }", "bounds.decode.max: expected whole number, found true"),
        ("[bounds]\ndecode = { mx = 2 }", "bounds.decode.mx: no such key 'mx'; did you mean max?"),
        ("[bounds]\ndecode = {}", "bounds.decode: it limits nothing; give min, max or both"),
        ("[bounds]\ndecode = 5", "bounds.decode: expected MIN..MAX, in hsa.toml also { min, max }"),
        ("[bounds]\ndecode = '5'", "bounds.decode: '5' is not MIN..MAX; write e.g. 2..40, 2.. or ..40"),
        ("[bounds]\nencode = { max = 5 }", "bounds.encode: no such key 'encode' in [bounds]; did you mean"),
        ("[bounds]\ngpus = 0", "hsa.toml line 2: bounds.gpus: '0' is not a whole number from 1 on"),
        ("[export]\ntarget = 'kda'", "export.target: 'kda' is none of its values; did you mean keda?"),
        ("[export]\nserver_address = 'prometheus:9090'", "'prometheus:9090' is no address of a server"),
        ("[export]\nserver_address = 'http://a:b@prom:9090'", "the address holds credentials; leave"),
        ("[export]\nserver_address = 'http://prom:99999'", "is no address of a server"),
        ("[export]\nnamespace = 'LLM'", "'LLM' is no name of an object; small letters"),
        ("[export]\ndecode = 'gen'", "export.decode: 'gen' is not KIND/NAME; write e.g. Deployment/chat"),
        ("[export]\ndecode = 'Deploymnt/gen'", "no kind 'Deploymnt' is known; did you mean Deployment?; of"),
        ("[export]\ndecode = 'v2/Pool/gen'", "is not KIND/NAME"),
        ("[export]\nlabels = ['release']", "'release' is no label; write e.g. release=prometheus"),
        ("[export]\nkube_version = 1.30", "expected version, found 1.3; write e.g. kube_version = \"1.33\""),
        ("[export]\nkube_version = 'latest'", "'latest' is no version of Kubernetes"),
        ("[export]\nrunbook_url = 'wiki/serving'", "'wiki/serving' is no address of a page; write it"),
        ("[export]\nrunbook_url = 'https://a:b@wiki'", "the address holds credentials; leave them out"),
        ("[policy]\nmode = 'daily'", "policy.mode: 'daily' is none of its values; known: metric, periodic"),
        ("[prices]\nH20 = '1'", "no number from 0 on"),
    ],
)  # fmt: skip
def test_problems_name_line_and_key(tmp_path: Path, text: str, message: str) -> None:
    """What is unknown or of another form is refused with its place and the right form."""
    (line,) = problems(tmp_path, text)
    assert message in line
    assert line.startswith("hsa.toml")


def test_all_problems_are_told_together(tmp_path: Path) -> None:
    """One run tells every problem of the file, those inside one section too."""
    lines = problems(tmp_path, "sed = 1\n[slo]\nttft = 1\n[roles]\na = 'x'\nb = 'y'\n")
    assert [re.search(r"line (\d)", line)[1] for line in lines] == ["1", "3", "5", "6"]  # type: ignore[index]


def test_not_toml_names_the_line(tmp_path: Path) -> None:
    """The parser's own words, in one line."""
    (line,) = problems(tmp_path, "[slo]\nttft = 2.5s\n")
    assert line.startswith("hsa.toml line 2: not TOML: ")


def test_a_named_file_must_be_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a name the one in the current folder counts, and none is fine."""
    monkeypatch.chdir(tmp_path)
    assert file.find(None) is None
    (tmp_path / "hsa.toml").write_text("")
    assert file.find(None) == Path("hsa.toml")
    with pytest.raises(InputError, match="no such settings file"):
        file.find(Path("other.toml"))


def test_relative_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    """A file of stretches beside hsa.toml is found from anywhere."""
    (tmp_path / "out.csv").write_text("start,end\n2026-07-01T00:00Z,2026-07-01T01:00Z\n")
    values, _ = read(tmp_path, "[history]\nexclude = ['out.csv']")
    assert len(values["excluded"]) == 1
    with pytest.raises(UsageError, match=r"no such file: none\.csv"):
        read(tmp_path, "[history]\nevents = ['none.csv']")


def test_lines_of_keys() -> None:
    """Sections, dotted and quoted keys, inline tables, and keys of tables of tables."""
    text = "a = 1\n[b.'c.d']\n\"e f\" = 2\ng.h = { i = 3 }\n[[j]]\nk = 1\n"
    for path, line in (
        (("a",), 1), (("b",), 2), (("b", "c.d"), 2), (("b", "c.d", "e f"), 3), (("b", "c.d", "g", "h"), 4),
        (("b", "c.d", "g", "h", "i"), 4), (("z",), None), (("b", "c.d", "z"), 2),
    ):  # fmt: skip
        assert line_of(text, path) == line, path


def test_settings_and_fields_are_one_to_one() -> None:
    """Every value of Settings can be set by exactly one key, and every key sets a value that exists.

    ``beside`` and ``edited`` hold what files named by --current, --policy and --fault say, by flags alone.
    """
    fields = [setting.field for setting in SETTINGS] + [section.field for section in SECTIONS]
    assert len(fields) == len(set(fields))
    names = {name.partition(".")[0] for name in fields} - {MACHINE}
    assert names == set(Settings.__dataclass_fields__) - {"beside", "edited"}
    nested = {name.partition(".")[2] for name in fields if name.startswith("reading.")}
    assert nested == set(Settings().reading.__dataclass_fields__)
    for setting in SETTINGS:
        assert setting.default is None or setting.default == () or setting.example


def test_a_setting_says_what_its_field_says() -> None:
    """Meaning, unit and default stand at the field alone; one that is not there is an error."""
    by = {setting.key: setting for setting in SETTINGS}
    assert (by["slo.window"].meaning, by["slo.window"].unit) == ("width of a judged window", "s")
    assert (by["slo.window"].default, by["slo.window"].example) == (60.0, '"60s"')
    assert by["startup.decode"].unit == "s"
    assert by["reading.salvage"].example == "false"
    for path in ("slo.window", "windows", "machine.disk"):
        with pytest.raises(KeyError):
            declared_at(path)


def test_examples_of_the_reference_are_valid(tmp_path: Path) -> None:
    """Each setting's example is read, on its own, as that setting."""
    (tmp_path / "events.json").write_text('[{"t": 1795525390, "kind": "deploy"}]')
    for setting in SETTINGS:
        section, _, key = setting.key.rpartition(".")
        text = (f"[{section}]\n" if section else "") + f"{key} = {setting.example}\n"
        assert tomllib.loads(text)
        values, _ = read(tmp_path, text)
        assert list(values) == [setting.field]
        if setting.default not in (None, ()):
            assert values[setting.field] == setting.default, setting.key
