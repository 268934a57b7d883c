"""Where instances may stand: switches, the GPUs below them, and how near prefill and decode must be."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from hs_analysis.errors import InputError
from hs_analysis.policy.node import Node
from hs_analysis.schema.names import POOL_ROLES
from hs_analysis.schema.places import DocumentText, yaml_fault

SCHEMA = "hs-analysis/topology/v1alpha1"

AFFINITIES = ("s1", "s2", "cluster")
"""What prefill and decode of a deployment group share: an S1 switch, an S2 switch above it, or nothing."""

LOW, MEDIUM, HIGH = range(3)
"""Priority of a subgroup (arXiv:2508.19559 §3.4): an S2 of one GPU type; an S2 of several, each S1 of one; an
S1 of several. The higher, the scarcer."""


@dataclass(frozen=True)
class Rack:
    """GPUs of one type below one S1 switch; ``s1`` is unique with its ``s2``."""

    s2: str
    s1: str
    gpu_type: str
    gpus: int


@dataclass(frozen=True)
class Topology:
    """What there is to place on.

    Attributes
    ----------
    affinity
        One of ``AFFINITIES``.
    racks
        In the order of the file.
    gpus_per_instance
        GPUs an instance takes, per role; those not given come from the history.
    gpu_types
        Types that a role may run on; a role that is not given takes any.
    """

    affinity: str
    racks: tuple[Rack, ...]
    gpus_per_instance: dict[str, int]
    gpu_types: dict[str, tuple[str, ...]]

    def domain(self, rack: Rack) -> tuple[str, ...]:
        """Return the network domain of a rack: the racks with the same one may hold one deployment group."""
        return {"s1": (rack.s2, rack.s1), "s2": (rack.s2,), "cluster": ()}[self.affinity]

    def priority(self, rack: Rack) -> int:
        """Return how scarce the subgroup of a rack is."""
        beside = [one for one in self.racks if one.s2 == rack.s2]
        if len({one.gpu_type for one in beside}) == 1:
            return LOW
        return HIGH if len({one.gpu_type for one in beside if one.s1 == rack.s1}) > 1 else MEDIUM


def load_topology(text: str, where: str) -> Topology:
    """Read a topology file.

    Raises
    ------
    InputError
        When it is not YAML, or a key is missing, unknown or of the wrong kind; the key is named.
    """
    try:
        document = YAML(typ="safe").load(text)
    except YAMLError as error:
        problem, place = yaml_fault(error, where)
        raise InputError(f"not YAML: {problem}", where=place, hint="give a topology file") from error
    node = Node(document, "", DocumentText(where, text), "topology")
    node.text("schema", (SCHEMA,))
    racks = node.items("racks", _rack)
    if not racks:
        raise node.wrong("racks", "holds none")
    seen: set[tuple[str, str, str]] = set()
    for number, rack in enumerate(racks):
        if (key := (rack.s2, rack.s1, rack.gpu_type)) in seen:
            raise node.wrong(f"racks[{number}]", f"{rack.gpu_type} below {rack.s2}, {rack.s1} is given twice")
        seen.add(key)
    sizes = node.child("gpus_per_instance", _sizes) if "gpus_per_instance" in node.data else {}
    types = node.child("gpu_types", _types) if "gpu_types" in node.data else {}
    known = {rack.gpu_type for rack in racks}
    for role, names in types.items():
        if missing := sorted(set(names) - known):
            raise node.wrong(f"gpu_types.{role}", f"no rack has {', '.join(missing)}")
    return node.done(Topology(node.text("affinity", AFFINITIES), racks, sizes, types))


def _rack(node: Node) -> Rack:
    return Rack(node.text("s2"), node.text("s1"), node.text("gpu_type"), node.whole("gpus"))


def _sizes(node: Node) -> dict[str, int]:
    found = {role: node.whole(role) for role in POOL_ROLES if role in node.data}
    for role, gpus in found.items():
        if not gpus:
            raise node.wrong(role, "an instance takes at least one GPU")
    return found


def _types(node: Node) -> dict[str, tuple[str, ...]]:
    return {role: node.texts(role) for role in POOL_ROLES if role in node.data}


def sizes_of(
    topology: Topology, gpus: Mapping[str, float], roles: tuple[str, ...], where: str
) -> dict[str, int]:
    """Return the GPUs of an instance per role: the file's, else the history's.

    Raises
    ------
    InputError
        When neither knows them.
    """
    found = {}
    for role in roles:
        size = topology.gpus_per_instance.get(role) or gpus.get(role)
        if not size:
            raise InputError(
                f"gpus_per_instance.{role}: is missing, and the history does not tell it",
                where=where,
                hint="say how many GPUs an instance takes",
            )
        found[role] = round(size)
    return found
