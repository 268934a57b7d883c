import dataclasses
import json

import pytest
from export.scenes import UTIL_PROMQL, full_policy

from hs_analysis.export import NOT_RECOMMENDED, TARGETS, ExportOptions, export
from hs_analysis.export.grafana import DASHBOARD_SUFFIX
from hs_analysis.export.model import HEADER_LINES, LOSSES_SHOWN, NO_SETTINGS, Loss, in_order
from hs_analysis.policy.model import Primary, Target
from hs_analysis.schema.names import CONTROLLER_TITLES

# Said in the header comment, not in an object.
METADATA = ("window", "inputs_sha256", "run", "tool_version", "controller")
ONE_VALUE = ("on_missing_metric",)
"""Fields that a policy can set to one value only."""
OTHER_TEXT = {
    "mode": "hold",
    "pool": "mean",
    "promql": UTIL_PROMQL,
    "days": ("sun",),
    "start": "07:00",
    "end": "21:00",
    "zone": "Asia/Tokyo",
}


def leaves(value, path=""):
    """Yield (path, value) of every field of a policy, down to plain values."""
    if dataclasses.is_dataclass(value):
        for field in dataclasses.fields(value):
            yield from leaves(getattr(value, field.name), f"{path}.{field.name}".lstrip("."))
    elif isinstance(value, dict):
        for key, below in value.items():
            yield from leaves(below, f"{path}.{key}")
    elif isinstance(value, tuple) and not all(isinstance(item, str) for item in value):
        for index, below in enumerate(value):
            yield from leaves(below, f"{path}[{index}]")
    elif value not in (None, "", ()):  # not set, so there is nothing to say
        yield path, value


def changed(value, path, target):
    """Return the policy with the one field at `target` set to something else."""
    if path == target:
        name = path.rpartition(".")[2]
        if name in OTHER_TEXT or path == "unit":
            other = OTHER_TEXT.get(name, "group")
            return other if other != value else {"mean": "sum"}.get(value, f"{value}x")
        if isinstance(value, str):
            return f"{value}x"
        if isinstance(value, tuple):
            return (*value, "x")
        return value * 2 + 1
    if dataclasses.is_dataclass(value):
        fields = {f.name: f"{path}.{f.name}".lstrip(".") for f in dataclasses.fields(value)}
        return dataclasses.replace(
            value, **{n: changed(getattr(value, n), p, target) for n, p in fields.items()}
        )
    if isinstance(value, dict):
        return {key: changed(below, f"{path}.{key}", target) for key, below in value.items()}
    if isinstance(value, tuple):
        return tuple(changed(below, f"{path}[{i}]", target) for i, below in enumerate(value))
    return value


def bodies(made):
    """Return what the files say to a program: their lines without comments, dashboards, and no losses."""
    texts = {name: text.splitlines() for name, text in made.files.items() if not name.endswith(".json")}
    found = {name: [line for line in lines if not line.startswith("#")] for name, lines in texts.items()}
    boards = {name: json.loads(text) for name, text in made.files.items() if name.endswith(DASHBOARD_SUFFIX)}
    return found | boards


POLICIES = {
    "metric": full_policy(),
    "periodic": full_policy(mode="periodic"),
    "mean": full_policy(
        primaries=(Primary("gpu_util", "decode", "ratio", UTIL_PROMQL, "dcgm", Target(0.7), "mean"),)
    ),
    "two": full_policy(
        primaries=(
            full_policy().primaries[0],
            dataclasses.replace(full_policy().primaries[0], signal="prefill_tps", role="prefill"),
        )
    ),
    "of another controller": full_policy(controller="aibrix"),
    "mixed": full_policy(primaries=(dataclasses.replace(full_policy().primaries[0], role="mixed"),)),
}


LONG = ("mean", "mixed", "two")
"""What is done to one primary of these is done to those of the others as well."""


def is_long(name, target):
    """Whether a pair waits for the slow run: a policy is another controller's for most targets anyway."""
    return name in LONG or (name == "of another controller" and target not in CONTROLLER_TITLES)


@pytest.mark.parametrize(
    ("name", "target"),
    [
        pytest.param(name, target, marks=[pytest.mark.slow] * is_long(name, target))
        for name in POLICIES
        for target in TARGETS
    ],
)
def test_every_item_of_a_policy_is_in_the_output_or_in_the_losses(name, target):
    """Change any one field: either the written objects change, or a loss speaks of that field.

    One that changes the objects of a whole policy is never listed as dropped: the losses do not cry wolf.
    """
    policy = POLICIES[name]
    made = TARGETS[target].build(policy, ExportOptions())
    before = bodies(made)
    unsaid = []
    for path, _ in leaves(policy):
        if path in ONE_VALUE:
            continue
        after = TARGETS[target].build(changed(policy, "", path), ExportOptions())
        written, losses = bodies(after) != before, [loss for loss in made.losses if loss.covers(path)]
        headed = path.partition(".")[0] in METADATA and after.files != made.files
        said = written or losses or headed
        if not said:
            unsaid.append(path)
        if written and name == "metric":
            assert [loss for loss in losses if loss.kind == "dropped"] == [], path
    assert unsaid == []


@pytest.mark.parametrize("mode", ["metric", "periodic", "hold"])
@pytest.mark.parametrize("target", TARGETS)
def test_a_policy_that_is_not_recommended_says_so_first(target, mode):
    """First line of every file that has comments, first of the losses, with why; nowhere where it is."""
    options = ExportOptions(advised_against="nothing beats what runs")
    said = f"{NOT_RECOMMENDED}: nothing beats what runs."
    made = export(full_policy(mode=mode, recommended=False), target, options)
    for name, text in made.files.items():
        lines = text.splitlines()
        if name.endswith(DASHBOARD_SUFFIX):
            body = json.loads(text)
            assert body["description"].startswith(said)
            assert body["panels"][0]["options"]["content"].startswith(said)
        elif name.endswith("losses.json"):
            assert json.loads(text)[0]["text"] == said
        elif name.endswith(".yaml"):
            assert lines[0] == f"# {said}"
    usual = export(full_policy(mode=mode), target)
    assert set(usual.files) == set(made.files)
    assert not any("not recommended" in text for text in usual.files.values())


def test_losses_cover_paths_below_them_and_no_others():
    """A loss of a pool is not a loss of a pool whose name begins alike."""
    made = export(full_policy(), "keda")
    covered = {path: [x.item for x in made.losses if x.covers(path)] for path, _ in leaves(full_policy())}
    assert covered["guards[1].slo_s"] == ["guards"]
    assert covered["bounds.decode.min"] == []
    assert covered["unit"] == []
    assert covered["primaries[0].unit"] == ["*.unit"]
    assert json.loads(made.files["prod.chat.losses.json"])


def comment_lines(text):
    """Return the comment lines that a file starts with."""
    lines = text.splitlines()
    return lines[: next((n for n, line in enumerate(lines) if not line.startswith("#")), len(lines))]


@pytest.mark.parametrize("mode", ["metric", "periodic", "hold"])
@pytest.mark.parametrize("target", TARGETS)
def test_a_file_starts_with_six_lines_at_most(target, mode):
    """Also where it is not recommended, is another controller's, and its queries have notes."""
    options = ExportOptions(notes=("one", "two", "three"), selected_for={target: "It costs 3 % more."})
    made = export(full_policy(mode=mode, recommended=False), target, options)
    for name, text in made.files.items():
        if name.endswith(".yaml"):
            assert 1 < len(comment_lines(text)) <= HEADER_LINES, name


@pytest.mark.parametrize("target", ["keda", "hpa", "kthena", "kserve", "aibrix", "dynamo", "rbg", "ome"])
def test_the_first_line_names_what_changes_counts_and_counts_the_rest(target):
    """A measured cost first, then what acts otherwise; links and units are in the losses file alone."""
    stray = "prefill ÷ decode is off in 12.0% of windows"
    made = export(full_policy(replay={"pd_ratio_stray": stray}), target)
    acting = [loss for loss in made.losses if loss.changes_counts]
    texts = [text for name, text in made.files.items() if not name.endswith(("rules.yaml", ".json"))]
    head = texts[0].splitlines()[0]
    shown = list(dict.fromkeys((loss.text, loss.cost) for loss in acting))[:LOSSES_SHOWN]
    left = sum((loss.text, loss.cost) not in shown for loss in made.losses)
    assert all(text in head and cost.rstrip(".") in head for text, cost in shown)
    assert head.startswith(f"# Otherwise than the policy: {acting[0].item}")
    assert head.endswith(f"; {left} more items in prod.chat.losses.json.")
    assert not any(f"{item}: " in head for item in NO_SETTINGS)
    assert list(made.losses) == sorted(made.losses, key=lambda loss: not loss.changes_counts)


def test_measured_losses_are_first_of_those_that_change_counts():
    """Then refusals, what is held nearly, and what is not held; what nothing acts on is last."""
    silent = Loss("*.evidence", "dropped", "no links")
    dropped, near = Loss("step.dampening", "dropped", "x"), Loss("reading", "approximated", "x")
    refused, measured = (
        Loss("primaries[0]", "refused", "x"),
        Loss("pd_ratio", "dropped", "x", "In the backtest."),
    )
    assert in_order([silent, dropped, near, refused, measured]) == (measured, refused, near, dropped, silent)
