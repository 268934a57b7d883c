"""Topology files: what they say, and what is wrong with those that can't be read."""

from __future__ import annotations

import pytest

from hs_analysis.errors import InputError
from hs_analysis.policy.topology import HIGH, LOW, MEDIUM, load_topology, sizes_of

TEXT = """
schema: hs-analysis/topology/v1alpha1
affinity: s2
gpus_per_instance: {prefill: 2, decode: 4}
gpu_types: {prefill: [L20]}
racks:
  - {s2: a, s1: a1, gpu_type: H20, gpus: 16}
  - {s2: b, s1: b1, gpu_type: H20, gpus: 16}
  - {s2: b, s1: b2, gpu_type: L20, gpus: 8}
  - {s2: c, s1: c1, gpu_type: H20, gpus: 8}
  - {s2: c, s1: c1, gpu_type: L20, gpus: 8}
"""


def test_a_file_says_domains_and_how_scarce_each_rack_is() -> None:
    """One GPU type below an S2 is plain; several are scarce, several below one S1 the scarcest."""
    found = load_topology(TEXT, "t.yaml")
    assert [found.priority(rack) for rack in found.racks] == [LOW, MEDIUM, MEDIUM, HIGH, HIGH]
    assert [found.domain(rack) for rack in found.racks] == [("a",), ("b",), ("b",), ("c",), ("c",)]
    near = load_topology(TEXT.replace("affinity: s2", "affinity: s1"), "t.yaml")
    assert len({near.domain(rack) for rack in near.racks}) == 4
    wide = load_topology(TEXT.replace("affinity: s2", "affinity: cluster"), "t.yaml")
    assert len({wide.domain(rack) for rack in wide.racks}) == 1


def test_gpus_of_an_instance_come_from_the_file_then_from_the_history() -> None:
    """Neither knowing is an error that names the key."""
    found = load_topology(TEXT.replace("prefill: 2, ", ""), "t.yaml")
    assert sizes_of(found, {"prefill": 8.0, "decode": 8.0}, ("prefill", "decode"), "t.yaml") == {
        "prefill": 8,
        "decode": 4,
    }
    with pytest.raises(InputError, match=r"t.yaml: gpus_per_instance.prefill: is missing, and the history"):
        sizes_of(found, {}, ("prefill", "decode"), "t.yaml")


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("affinity: s2", "affinity: s3", "affinity: 's3' is not one of s1, s2, cluster"),
        ("affinity: s2", "afinity: s2", "affinity: is missing"),
        ("affinity: s2", "affinity: s2\nx: 1", "x: is not a key of this topology schema"),
        ("gpus: 16", "gpus: many", r"racks\[0\].gpus: expected a whole number, found 'many'"),
        ("s1: b1, gpu_type: H20", "s1: b2, gpu_type: L20", r"racks\[2\]: L20 below b, b2 is given twice"),
        ("[L20]}", "[A100]}", "gpu_types.prefill: no rack has A100"),
        ("decode: 4", "decode: 0", "gpus_per_instance.decode: an instance takes at least one GPU"),
        ("racks:", "racks: [", "not YAML"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(before: str, after: str, message: str) -> None:
    """One sentence that names file, line and key; what is missing is placed where it belongs."""
    text = TEXT.replace(before, after, 1)
    last = after.splitlines()[-1]
    lines = [number for number, one in enumerate(text.splitlines(), 1) if last in one]
    place = {"affinity: is missing": 2, "not YAML": lines[-1] + 1}.get(message, lines[-1])
    with pytest.raises(InputError, match=f"^t.yaml:{place}: {message}"):
        load_topology(text, "t.yaml")
