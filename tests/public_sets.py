"""The folders of public data below HSA_REAL_DATA, and what the tests hold each to: the one place to say it.

A folder that is not named here is left alone. A new one needs:

1. its name in `READ`, with how its files are read, or in `NOT_READ` when a reader refuses them in words;
2. its description's quirks in `QUIRKS`: a few words of each, and the checks that find it, or why none has to;
3. a test that holds what is read to figures of the description (``ingest/test_shared_sets.py``), or the
   answers to its truth (``end_to_end/test_simulated.py``);
4. a test that holds the findings to 2 (``doctor/test_quirks.py``).

``test_public_sets.py`` goes red when a folder that is named here has lost one of these.
"""

from __future__ import annotations

from ingest.mappings import shipped

from hs_analysis.schema.settings import Reading

READ: dict[str, Reading] = {
    "azure-llm-2023": Reading(tz="UTC"),
    "mooncake-fast25": Reading(epoch="2026-11-24"),
    "servegen-derived": shipped("servegen-rates"),
    "wva-h100-autoscaling": shipped("wva-h100"),
    "aiconfigurator-silicon": Reading(),
    "dynamo-h200-profile": Reading(),
    "splitwise-sim": shipped("splitwise-sim"),
    "dstack-h100-mi300x": shipped("dstack"),
    "nab": shipped("nab", on_conflict="max"),
    "dynamo-mocker/pd-diurnal": shipped("request-log"),
    "dynamo-mocker/pd-cycles": shipped("request-log"),
    "dynamo-mocker/pd-sweep": Reading(),
    "simulated/dev_overload": Reading(),
    "simulated": Reading(),
}
"""Folder → how its files are read."""

NOT_READ = ("acmetrace",)
"""Folders whose files a reader refuses in words."""


def known() -> set[str]:
    """Return the names of the sets."""
    return {folder.partition("/")[0] for folder in (*READ, *NOT_READ)}


REFUSED = "refused: the reader says in words that these are distributions without times"

QUIRKS: dict[str, tuple[tuple[str, str | tuple[str, ...]], ...]] = {
    "acmetrace/SOURCE.md": (
        ("`series4` and `series5` are equal", REFUSED),
        ("The names of the first three follow the order", REFUSED),
        ("Training clusters, not serving", REFUSED),
    ),
    "aiconfigurator-silicon/SOURCE.md": (
        ("274 of the 1,602 disaggregated rows", ("bench_workers",)),
        ("There is no throughput column", ("bench_throughput",)),
        ("different dates and engine versions", ("bench_dates", "bench_versions")),
        ("H20 and L20 are not covered", ("bench_gpus",)),
    ),
    "azure-llm-2023/SOURCE.md": (
        ("Seven fractional digits", ("notes",)),
        ("says 11 November 2023", "a slip of its README: no prose beside the data is read"),
        ("No latency, no instance, no model name", ("requests",)),
        ("CRLF line ends", ("notes",)),
    ),
    "dstack-h100-mi300x/SOURCE.md": (
        ("Byte order marks", ("notes", "bench_names")),
        ("Prices are upstream's", ("bench_prices",)),
        ("Four cards against eight", ("bench_sizes",)),
    ),
    "dynamo-h200-profile/SOURCE.md": (
        ("The grid is coarse", ("bench_profile",)),
        ("Closed-form check", "an answer, not a fault: the ratio of profiles is held to it in tests/derive"),
        ("Batch size, queueing and KV transfer", ("bench_profile",)),
    ),
    "mooncake-fast25/SOURCE.md": (
        ("steps of about 3.0 s", ("arrivals",)),
        ("block hit ratio is 0.37", ("notes",)),
        ("No latency, no instance, no model name", ("requests",)),
    ),
    "nab/SOURCE.md": (
        ("Step 300 s, but not everywhere", ("holes", "spacing", "copies", "rejected")),
        ("Not LLM serving", ("missing",)),
    ),
    "servegen-derived/SOURCE.md": (
        ("known for 44 % of the requests only", ("notes",)),
        ("steps at multiples of 21,600 s", ("averaged",)),
        ("No absolute date and no weekday", ("times", "server_warnings", "missing")),
    ),
    "splitwise-sim/SOURCE.md": (
        ("Not the full grid", ("bench_repeats",)),
        ("looks scaled from the uncapped one", ("bench_computed",)),
    ),
    "wva-h100-autoscaling/SOURCE.md": (
        ("The rate is per minute, latencies are in ms", ("named_unit",)),
        ("TTFT and ITL are 0 when there is no traffic", ("idle_zero", "rejected")),
        ("Reconcile spacing is 15, 30 or 60 s", ("spacing",)),
        ("`arrival_rate_rpm` is empty in five", ("captures",)),
        ("Load and replicas are confounded", ("confounded",)),
        ("TTFT is a cliff", ("tail",)),
        ("All logs name one variant", ("services",)),
        ("There is no GPU utilisation", ("missing",)),
        ("Pods come and go", ("fleet",)),
    ),
    "simulated/README.md": (
        ("DCGM gauges repeat (60 s collection, 30 s step)", ("repeats",)),
        ("gaps; one counter reset", ("holes", "restarts")),
        ("GPU_UTIL in whole percents", ("resolution",)),
    ),
    "dynamo-mocker/pd-cycles/README.md": (
        ("its counters restart from zero", ("restarts",)),
        ("under a new `worker_id`", ("renewed",)),
        ("**repeats the last value** across it", ("scrape_gap",)),
        ("the dump has a hole there", ("holes",)),
        ("no role label was added", ("roles",)),
        ("Not present: GPU utilisation, SM activity", ("missing",)),
        (
            "a bare array of series",
            "read like the answer itself: tests/ingest/readers/test_prometheus_promtool.py",
        ),
        ("**Not written by Prometheus**", "another form of the same samples: `files` lists it as superseded"),
        ("`worker_id` is hex on worker pages and decimal", "never a key: series are joined by instance"),
    ),
    "dynamo-mocker/pd-diurnal/README.md": (
        ("its counters restart from zero", ("restarts",)),
        ("under a new `worker_id`", ("renewed",)),
        ("50 s without samples there", ("holes",)),
    ),
    "dynamo-mocker/pd-sweep/README.md": (
        ("each its own fresh stack", ("captures",)),
        ("`client_abort`", ("requests",)),
        ("no faults in these runs", "nothing to find: no restart and no gap is told, see test_mocker_sweep"),
    ),
}
"""Description → (words of a quirk, checks that find it or why none has to), in its order."""
