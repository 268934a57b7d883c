"""What is taken over from today's objects: names, what they scale, and the way to Prometheus."""

from __future__ import annotations

from hs_analysis.current import read_manifests, todays_objects
from hs_analysis.export import TodaysObject, Workload
from hs_analysis.export.model import PrometheusAccess

POOLS = ("prefill", "decode")


def named(text: str, role: str = "decode") -> dict[str, TodaysObject]:
    """Return the objects of a file given for a pool."""
    return todays_objects([(one, role) for one in read_manifests(text, "t.yaml")], POOLS)


def scaled(*triggers: str, metadata: str = "name: gen", target: str = "name: pool") -> str:
    """Return a ScaledObject with these triggers."""
    head = f"apiVersion: keda.sh/v1alpha1\nkind: ScaledObject\nmetadata: {{{metadata}}}\n"
    return f"{head}spec: {{scaleTargetRef: {{{target}}}, triggers: [{', '.join(triggers)}]}}\n"


def asks(address: str, more: str = "", reference: str = "") -> str:
    """Return a trigger on Prometheus."""
    return f"{{type: prometheus{reference}, metadata: {{serverAddress: '{address}', query: q{more}}}}}"


def test_the_way_to_prometheus_is_taken_over_with_its_authentication() -> None:
    """The address, the reference to a secret, and metadata that is about the way; not what is asked."""
    trigger = asks("https://t:9091", ", authModes: bearer, threshold: '1'", ", authenticationRef: {name: a}")
    (one,) = named(scaled(trigger, "{type: cron}")).values()
    assert one.access == PrometheusAccess("https://t:9091", {"name": "a"}, {"authModes": "bearer"})
    assert one.workload == Workload("pool"), "KEDA takes a Deployment unless said"
    assert (one.name, one.namespace, one.where) == ("gen", None, "t.yaml:1")


def test_two_ways_to_prometheus_are_none() -> None:
    """Which of them a new trigger would go is not guessed."""
    assert named(scaled(asks("http://a:9090"), asks("http://b:9090")))["decode"].access == PrometheusAccess()


def test_what_is_no_name_and_what_was_hidden_is_not_taken_over() -> None:
    """A name that Kubernetes refuses, an address with a credential, a hidden header."""
    hidden = named(scaled(asks("http://***@a:9090", ", customHeaders: 'X-Token=***'")))["decode"].access
    assert hidden == PrometheusAccess(None, {}, {"customHeaders": "fill-in-credential"})
    assert named(scaled(metadata="name: GEN_1")) == {}
    assert named(scaled(metadata="name: gen, namespace: 7"))["decode"].namespace is None
    assert named(scaled(target="kind: Thing, name: x"))["decode"].workload is None, "of which group?"


def test_an_object_whose_pool_can_not_be_told_gives_no_names() -> None:
    """Its names say no pool and the user named none; a planner has none."""
    assert named(scaled(), role="") == {}
    assert list(named(scaled(target="name: my-prefill-pool"), role="")) == ["prefill"]
    assert named("max_gpu_budget: 8\n") == {}
