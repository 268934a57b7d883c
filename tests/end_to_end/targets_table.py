"""What the file of each export target does on fresh histories, beside KEDA's.

``hsa run`` sees the dumps of a simulated history and selects for KEDA. What its run folder says of the file
of each target is kept, one line a history: hours and violations on the held part, undisturbed, under faults
and under bursts, and what the file does not hold of the policy.

    PYTHONPATH=tests python -m end_to_end.targets_table --seeds 1 --first-seed 9001 --out targets.jsonl

appends one line a history to the file, leaves out those that are in it already, and prints the table of all.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from end_to_end.closed_loop import in_processes, kinds, written_of
from simulator import Kind, history

from hs_analysis.export.model import Loss
from hs_analysis.schema.names import TARGET_TITLES

SELECTED_FOR = "keda"
"""The target whose controller the policy is selected for: the others are set against its file."""

WHOLE = "*"
"""The item of a loss that speaks of the whole policy."""


@dataclass(frozen=True)
class Seen:
    """What one run says of the file of one target.

    Attributes
    ----------
    written
        Whether an object was written.
    why_not
        Why it was not written or not replayed; empty where it was.
    row
        The row of the backtest that runs it; targets with one row run the same.
    hours
        Instance-hours on the held part.
    over, faults, bursts
        Share of windows over the SLO: undisturbed, under the nine faults (their mean), under bursts.
    dropped, approximated
        Items of the policy that it does not hold or not quite, of those that may change a count.
    gap, read_as_idle
        Share of windows over the SLO while no metric can be read; of llm-d's file also with the queries of
        its guide, for which a missing metric is an idle pool.
    fields
        ``fields`` of the target in summary.json: each field of the policy as its file holds it.
    """

    target: str
    written: bool
    why_not: str
    row: str | None
    hours: float | None
    over: float | None
    faults: float | None
    bursts: float | None
    dropped: tuple[str, ...]
    approximated: tuple[str, ...]
    gap: float | None = None
    read_as_idle: float | None = None
    fields: tuple[Mapping[str, Any], ...] = ()


def seen_of(run_dir: Path) -> list[Seen]:
    """Return what a run folder of one service says of each target."""
    (service,) = json.loads((run_dir / "summary.json").read_text("utf-8"))["services"]
    return [_seen(run_dir / "exports" / one["target"], one) for one in service["replay"]["targets"]]


def _seen(folder: Path, one: Mapping[str, Any]) -> Seen:
    """Return what the backtest and the losses of one target say."""
    losses = [Loss(**row) for path in folder.glob("*.losses.json") for row in json.loads(path.read_text())]
    refused = next((loss.text for loss in losses if (loss.item, loss.kind) == (WHOLE, "refused")), "")
    moving = [loss for loss in losses if loss.changes_counts and loss.item != WHOLE]

    def items(kind: str) -> tuple[str, ...]:
        return tuple(dict.fromkeys(loss.item for loss in moving if loss.kind == kind))

    return Seen(
        one["target"], bool(losses) and not refused, refused or one["why_not"], one["policy"],
        one["instance_hours"], one["slo_violation_ratio"], one["under_faults"], one["under_bursts"],
        items("dropped"), items("approximated"), one["under_gap"], one["gap_read_as_idle"],
        tuple(one["fields"]),
    )  # fmt: skip


def observe(kind: Kind, seed: int, folder: Path) -> dict[str, Any]:
    """Run the command line on one history; return its line: what it says of each target, and how it ended."""
    begun = time.perf_counter()
    written = written_of(history(kind, seed), folder, "--target", SELECTED_FOR)
    line = {
        "kind": kind.name,
        "seed": seed,
        "recommend": written.service["decision"]["recommend"],
        "targets": [asdict(one) for one in seen_of(written.run_dir)],
    }
    shutil.rmtree(written.run_dir)
    return line | {"seconds": time.perf_counter() - begun}


def observe_all(chosen: Sequence[tuple[Kind, int]], out: Path, jobs: int) -> list[dict[str, Any]]:
    """Observe histories, adding the line of each to a file; return the lines of all of them.

    Those that are in the file already are not run again. A line that an interrupt cut short is run again.
    """
    known = {(one["kind"], one["seed"]): one for one in _lines(out)}
    with tempfile.TemporaryDirectory() as folder:
        tasks = [(kind, seed, Path(folder)) for kind, seed in chosen if (kind.name, seed) not in known]
        for number, line in enumerate(in_processes(observe, tasks, jobs), 1):
            known[line["kind"], line["seed"]] = line
            out.write_text("".join(json.dumps(one) + "\n" for one in known.values()), encoding="utf-8")
            sys.stderr.write(
                f"{number}/{len(tasks)} {line['kind']}-{line['seed']}: {line['seconds']:.0f} s\n"
            )
    return [known[kind.name, seed] for kind, seed in chosen]


def _lines(out: Path) -> list[dict[str, Any]]:
    """Return the whole lines of a file; none where there is no file."""
    texts = out.read_text("utf-8").split("\n")[:-1] if out.exists() else []
    return [json.loads(text) for text in texts]


Values = list[float]
Field = Callable[[Seen], float | None]


@dataclass(frozen=True)
class Beside:
    """The file of one target beside KEDA's, over histories.

    ``hours`` are ÷ KEDA's; ``over``, ``faults`` and ``bursts`` are points more than KEDA's.
    """

    target: str
    histories: int
    written: int
    replayed: int
    same: int
    hours: Values
    over: Values
    faults: Values
    bursts: Values
    dropped: Values
    approximated: Values


def beside(lines: Sequence[Mapping[str, Any]]) -> list[Beside]:
    """Return each target beside KEDA's, in the order of `TARGET_TITLES`, over histories where both ran."""
    histories = [{one["target"]: Seen(**one) for one in line["targets"]} for line in lines]
    return [_beside(target, histories) for target in TARGET_TITLES]


def _beside(target: str, histories: Sequence[Mapping[str, Seen]]) -> Beside:
    both = [(one[target], one[SELECTED_FOR]) for one in histories if {target, SELECTED_FOR} <= set(one)]
    theirs = [own for own, _ in both if own.written]

    def more(field: Field) -> Values:
        pairs = [(field(own), field(keda)) for own, keda in both]
        return [100.0 * (own - keda) for own, keda in pairs if own is not None and keda is not None]

    ran = [(own, keda) for own, keda in both if own.row is not None]
    hours = [own.hours / keda.hours for own, keda in ran if own.hours is not None and keda.hours]
    return Beside(
        target, len(histories), len(theirs), len(ran), sum(own.row == keda.row for own, keda in ran), hours,
        more(lambda one: one.over), more(lambda one: one.faults), more(lambda one: one.bursts),
        [len(own.dropped) for own in theirs], [len(own.approximated) for own in theirs],
    )  # fmt: skip


def field_table(lines: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the table of field and target in Markdown: how a file holds it, and what that costs alone."""
    found: dict[tuple[str, str], list[tuple[str, float, float | None]]] = {}
    for line in lines:
        files = {one["target"]: Seen(**one) for one in line["targets"]}
        for target, seen in files.items():
            for one in seen.fields:
                whole = seen if one["kind"] == "added" else files["heteroscale"]
                found.setdefault((one["field"], target), []).append((one["kind"], *_change(whole, one)))
    names = list(dict.fromkeys(name for name, _ in found))
    targets = [target for target in TARGET_TITLES if any(target == other for _, other in found)]
    head = [
        f"{len(lines)} histories. How a file holds a field, and what that alone changes: hours [%], and",
        "points of windows over the SLO under faults; median (farthest from 0).",
        "",
        f"| field | {' | '.join(f'`{one}`' for one in targets)} |",
        f"|{'---|' * (len(targets) + 1)}",
    ]
    return head + [
        f"| {name} | {' | '.join(_field_cell(found.get((name, one), [])) for one in targets)} |"
        for name in names
    ]


def _change(whole: Seen, one: Mapping[str, Any]) -> tuple[float, float | None]:
    """Return what a field changes: hours [%], and points of windows over the SLO under faults."""
    hours = 100.0 * (one["instance_hours"] / whole.hours - 1.0) if whole.hours else 0.0
    before, after = whole.faults, one["under_faults"]
    return hours, None if before is None or after is None else 100.0 * (after - before)


def _field_cell(seen: Sequence[tuple[str, float, float | None]]) -> str:
    if not seen:
        return ""
    kind = statistics.mode(one for one, _, _ in seen)
    hours = [one for _, one, _ in seen]
    points = [one for _, _, one in seen if one is not None]

    def far(values: Values) -> str:
        return f"{statistics.median(values):+.2f} ({max(values, key=abs):+.2f})" if values else "not known"

    alike = not any(hours) and not any(points)
    return kind if alike else f"{kind}: {far(hours)} %, {far(points)}"


COLUMNS = (
    "target", "written", "replayed", "as KEDA's", "hours ÷ KEDA's", "over the SLO", "under faults",
    "under bursts", "dropped", "approximated",
)  # fmt: skip


def table(lines: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the table in Markdown, a line each, with what its columns mean above it."""
    recommended = [line["recommend"] for line in lines]
    counts = ", ".join(f"{word} {recommended.count(word)}" for word in sorted(set(recommended)))
    head = [
        f"{len(lines)} histories, policies selected for KEDA ({counts}). Replayed: read back and run on the "
        "held part. As KEDA's: it sets up the same.",
        "Hours: median (least to most). The next three: percentage points of windows over the SLO more than "
        "KEDA's, median (most). The last two: items of the policy that may change a count, median.",
        "",
        f"| {' | '.join(COLUMNS)} |",
        f"|{'---|' * len(COLUMNS)}",
    ]
    return head + [f"| {' | '.join(cells(one))} |" for one in beside(lines)] + [both_ways(lines)]


def both_ways(lines: Sequence[Mapping[str, Any]]) -> str:
    """Return what a gap does to llm-d's file, held and read as idle, over histories where both are known."""
    every = [Seen(**one) for line in lines for one in line["targets"]]
    both = [(one.gap, one.read_as_idle) for one in every if one.over is not None]
    known = [(held, idle) for held, idle in both if held is not None and idle is not None]
    if not known:
        return "llm-d's file was replayed with a missing metric read both ways on no history."
    held, idle = (100.0 * statistics.median(one[side] for one in known) for side in (0, 1))
    return (
        f"llm-d's file while no metric can be read, {len(known)} histories, median: over the SLO in "
        f"{held:.1f} % of windows, read as idle in {idle:.1f} %."
    )


def cells(one: Beside) -> list[str]:
    """Return the cells of one row; what is not known is left empty."""

    def points(values: Values) -> str:
        return f"{statistics.median(values):+.2f} ({max(values):+.2f})" if values else ""

    def median(values: Values) -> str:
        return f"{statistics.median(values):g}" if values else ""

    hours, own = one.hours, one.target == SELECTED_FOR
    ratio = f"{statistics.median(hours):.3f} ({min(hours):.3f} to {max(hours):.3f})" if hours else ""
    return [
        f"`{one.target}`", f"{one.written} of {one.histories}", str(one.replayed),
        "" if own else str(one.same),
        *(["1"] + ["0"] * 3 if own else [ratio, points(one.over), points(one.faults), points(one.bursts)]),
        median(one.dropped), median(one.approximated),
    ]  # fmt: skip


SHORT = (0, 1, 4, 5, 6, 7)
"""Columns of the short table."""


def short_table(lines: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the table as a page shows it: fewer columns, and where it comes from in its head."""
    seeds = sorted({line["seed"] for line in lines})
    origin = f"{len(lines)} simulated histories, seed {', '.join(map(str, seeds))}"
    head = [
        f"file ({origin})", "written", "hours ÷ KEDA's: median (range)",
        "windows over the SLO: points more than KEDA's, median (most)", "the same under faults",
        "under bursts",
    ]  # fmt: skip
    rows = [[cells(one)[at] for at in SHORT] for one in beside(lines)]
    return [f"| {' | '.join(row)} |" for row in [head, ["---"] * len(SHORT), *rows]]


def main() -> None:
    """Observe histories by the options of the command line and print the table."""
    options = argparse.ArgumentParser(description="The file of each export target beside KEDA's.")
    options.add_argument("--seeds", type=int, default=1, help="histories of each kind")
    options.add_argument("--first-seed", type=int, default=9001, help="seed of the first one")
    options.add_argument("--kinds", nargs="*", default=[], help="names of kinds; all by default")
    options.add_argument("--jobs", type=int, default=1, help="processes")
    options.add_argument("--out", type=Path, required=True, help="JSON lines, one a history; added to")
    options.add_argument("--short", action="store_true", help="print the table as docs/ shows it")
    options.add_argument("--fields", action="store_true", help="print the table of field and target")
    given = options.parse_args()
    wanted = [kind for kind in kinds() if not given.kinds or kind.name in given.kinds]
    chosen = [(kind, given.first_seed + seed) for seed in range(given.seeds) for kind in wanted]
    printed = field_table if given.fields else short_table if given.short else table
    sys.stdout.write("\n".join(printed(observe_all(chosen, given.out, given.jobs))) + "\n")


if __name__ == "__main__":
    main()
