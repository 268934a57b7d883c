"""What to say of a query that picks other series than those of one signal of one pool, and what to write."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from hs_analysis.current.model import Known, Stored

CHANGING = ("pod", "exported_pod", "instance", "pod_ip", "endpoint_name")
"""Labels whose values change with each pod: matchers name them last."""


def misfit(
    metric: str, numbers: Collection[int], own: Mapping[tuple[str, str], str], pool: str, known: Known
) -> str:
    """Return how the series that a query picks differ from those of a pool.

    Parameters
    ----------
    metric
        What they are series of.
    numbers
        Which of the history's series are picked.
    own
        (label, value) of that metric that are signals of their own → the signal.
    pool
        The pool that is scaled.
    known
        The service.
    """
    rows = [known.series[number] for number in sorted(numbers)]
    strangers = [one for one in rows if not one.ours]
    if strangers:
        share = f"{len(strangers)} of the {len(rows)} series it picks"
        return f"{metric}: {share} are of no or another service{_told_apart(strangers[0], known)}"
    emitters = sorted({one.emitter for one in rows})
    if len(emitters) > 1:
        together = f"it picks series of {' and '.join(emitters)} together"
        return f"{metric}: {together}, and a replay knows each by itself{_narrowed(rows, pool)}"
    mixed = _added_up(rows, own)
    if mixed:
        return f"{metric}: {mixed}"
    of_pool = [
        one
        for one in known.series
        if one.ours and one.labels["__name__"] == metric and one.emitter == emitters[0]
    ]
    everyone = {one.instance for one in of_pool} - {None}
    chosen = {one.instance for one in rows} - {None}
    if chosen < everyone:
        return f"{metric}: it picks {len(chosen)} of {len(everyone)} instances of {emitters[0]}"
    return f"{metric}: it picks {len(rows)} of the {len(of_pool)} series of {emitters[0]}"


def _added_up(rows: Sequence[Stored], own: Mapping[tuple[str, str], str]) -> str:
    """Return which values of a label are quantities of their own where a query adds them up; else nothing."""
    for label in dict.fromkeys(label for label, _ in own):
        values = sorted({one.labels.get(label, "") for one in rows} - {""})
        if len(values) > 1:
            named = (f'{label}="{value}" ({signal})' for (of, value), signal in own.items() if of == label)
            return (
                f"it adds up {len(values)} values of {label} ({', '.join(values)}), and each is another "
                f"quantity: choose {' or '.join(named)}"
            )
    return ""


def _narrowed(rows: Sequence[Stored], pool: str) -> str:
    """Return the matcher by which the series of one pool, the scaled one if there, differ from the others."""
    emitters = {one.emitter for one in rows}
    role = pool if pool in emitters else min(emitters)
    ours = [one.labels for one in rows if one.emitter == role]
    theirs = [one.labels for one in rows if one.emitter != role]
    names = sorted(
        {label for one in ours for label in one} - {"__name__"}, key=lambda name: (name in CHANGING, name)
    )
    for name in names:
        values, others = ({one.get(name, "") for one in of} for of in (ours, theirs))
        start = _beginning(values)
        if len(values) == 1 and not values & others:
            return f': add a matcher, such as {name}="{values.pop()}" for {role}'
        if start and not any(value.startswith(start) for value in others):
            return f': add a matcher, such as {name}=~"{start}.*" for {role}'
    return ""


def _beginning(values: Collection[str]) -> str:
    """Return what all of some texts begin with."""
    first, last = min(values), max(values)
    length = next((n for n, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), len(first))
    return first[: min(length, len(last))]


def _told_apart(stranger: Stored, known: Known) -> str:
    """Return labels by which a series of another service differs from all of ours."""
    ours = [one.labels for one in known.series if one.ours]
    found = [
        f'{name}="{value}"'
        for name, value in sorted(stranger.labels.items())
        if name in ("namespace", "model_name", "model", "exported_namespace")
        and all(labels.get(name) != value for labels in ours)
    ]
    return f", such as {', '.join(found)}" if found else ""
