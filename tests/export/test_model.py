import pytest
from export.scenes import full_policy
from hypothesis import given
from hypothesis import strategies as st
from ruamel.yaml import YAML

from hs_analysis.export import ExportOptions, export
from hs_analysis.export.model import Export, dump_documents, load_documents
from hs_analysis.export.targets import TARGETS, ExportTarget

WORDS = [
    "y",
    "NO",
    "On",
    "true",
    "null",
    "~",
    "1900",
    "0.05",
    "1e3",
    "0x1f",
    "010",
    "8:30",
    "1_000",
    ".inf",
    "-",
    "",
]
TEXT = st.text(
    st.characters(min_codepoint=32, max_codepoint=0x2FF, exclude_characters="\x7f\x85\xa0"), max_size=12
)
VALUES = st.recursive(
    TEXT | st.sampled_from(WORDS) | st.integers(-9, 9) | st.booleans(),
    lambda below: (
        st.lists(below, min_size=1, max_size=3)
        | st.dictionaries(TEXT.filter(len), below, min_size=1, max_size=3)
    ),
    max_leaves=8,
)


@pytest.mark.parametrize("word", WORDS)
def test_text_stays_text_for_readers_of_yaml_1_1(word):
    """Kubernetes reads YAML 1.1: `no` and `1900` written as text must not come back as false or a number."""
    old = YAML(typ="safe", pure=True)
    old.version = (1, 1)
    assert old.load(dump_documents([{"key": word}])) == {"key": word}


@given(st.lists(st.dictionaries(TEXT.filter(len), VALUES, min_size=1, max_size=3), min_size=1, max_size=2))
def test_documents_read_back_as_they_were(documents):
    """Whatever is in them, several documents of one text are the values that went in."""
    assert load_documents(dump_documents(documents)) == documents


def test_a_long_query_stays_on_one_line():
    """Nothing is folded, so a query can be copied."""
    query = "sum(rate(m_total[5m])) + " * 40
    assert f"expr: {query}".strip() in dump_documents([{"expr": query.strip()}])


def test_a_file_of_neither_yaml_nor_json_is_checked_and_written_as_its_text(monkeypatch):
    """A table of commas: its check gets the text with its lines, and no comment goes before its first row."""
    text, seen = "signal,target\ndecode_tps,3800\n", []
    row = ExportTarget(
        "table",
        lambda policy, options: Export("table", {"prod.chat.table.csv": text}, ()),
        {"table.csv": lambda body: seen.append(body) or []},
    )
    monkeypatch.setitem(TARGETS, "table", row)
    made = export(full_policy(recommended=False), "table", ExportOptions(advised_against="nothing is better"))
    assert made.files["prod.chat.table.csv"] == text
    assert seen == [text]
    assert "nothing is better" in made.losses[0].text
