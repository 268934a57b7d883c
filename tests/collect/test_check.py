"""The plan against what was read: missing, short and otherwise spaced chunks, each with a command."""

from __future__ import annotations

from dataclasses import replace

from hs_analysis.catalogue import load_catalogue
from hs_analysis.collect.check import (
    FileFacts,
    Received,
    arrived_late,
    is_complete,
    lost_from_plan,
    missing_from_plan,
)
from hs_analysis.collect.plan import (
    Api,
    MetricShare,
    Plan,
    PlanRequest,
    make_plan,
    selector_of,
    wanted_metrics,
)

START, STEP_S = 1_764_000_000.0, 15.0
METRICS = ("vllm:num_requests_waiting", "vllm:num_requests_running", "up")


def two_chunks(api: Api = "query_range", assumed: bool = False) -> Plan:
    """A plan of three metrics in two chunks."""
    needs = [need for need in wanted_metrics(load_catalogue()) if need.metric in METRICS]
    shares = [
        MetricShare(need, selector_of(need, (), None), STEP_S, api=api, assumed=assumed) for need in needs
    ]
    return make_plan(PlanRequest(), (START, START + 20_000 * STEP_S), shares)


def whole(plan: Plan) -> dict[str, FileFacts]:
    """What the files hold when all is well."""
    return {f.file: FileFacts(f.file, 3, f.start, f.end, f.step_s) for f in plan.files}


def findings(plan: Plan, facts: dict[str, FileFacts]):
    """The findings as (code, level, files)."""
    return [
        (f.code, f.level, f.files) for f in missing_from_plan(plan, facts.values(), "http://p:9090", "dumps")
    ]


def test_a_whole_folder() -> None:
    """No finding, also for unpacked files and ones beside the plan."""
    plan = two_chunks()
    facts = whole(plan)
    assert findings(plan, facts) == []
    unpacked = {name: replace(one, name=name.removesuffix(".gz")) for name, one in facts.items()}
    assert findings(plan, unpacked | {"x": FileFacts("other.json", 1, 0.0, 1.0, 1.0)}) == []


def test_a_missing_chunk() -> None:
    """Fails, says which and when, and how to get it; one finding a metric."""
    plan = two_chunks()
    facts = whole(plan)
    gone = "vllm__num_requests_running.001.json.gz"
    del facts[gone]
    assert findings(plan, facts) == [("missing_chunk", "fail", (gone,))]
    (found,) = missing_from_plan(plan, facts.values(), "http://p:9090", "dumps")
    assert found.text == (
        f"vllm:num_requests_running: 1 of 2 planned files are missing ({gone}), the first for "
        "2025-11-26T13:50:00Z to 2025-11-28T03:20:00Z"
    )
    assert found.command == "hsa pull --url http://p:9090 --out dumps"


def test_a_file_without_samples_is_an_answer() -> None:
    """The metric was not there then."""
    plan = two_chunks()
    facts = whole(plan)
    name = plan.files[0].file
    facts[name] = FileFacts(name, 0, None, None, None)
    assert findings(plan, facts) == []


def test_a_short_chunk() -> None:
    """Ends before, or begins after, what other files of the exporter hold there; a scrape does not matter."""
    plan = two_chunks()
    for change in ({"last_s": plan.files[0].end - 3 * STEP_S}, {"first_s": START + 3 * STEP_S}):
        facts = whole(plan)
        name = plan.files[0].file
        facts[name] = replace(facts[name], **change)
        assert findings(plan, facts) == [("short_chunk", "warn", (name,))]
        (found,) = missing_from_plan(plan, facts.values(), "http://p:9090", "dumps")
        assert "curl -fsSG http://p:9090/api/v1/query_range" in found.command
        assert f"-o {name.removesuffix('.gz')}" in found.command
    facts = whole(plan)
    facts[name] = replace(facts[name], last_s=plan.files[0].end - 2 * STEP_S)
    assert findings(plan, facts) == []


def test_pools_that_stop_together_are_not_short() -> None:
    """All files of the exporter end early: the service was gone, the files are whole."""
    plan = two_chunks()
    facts = whole(plan)
    for file in plan.files:
        if file.exporter == "vllm" and file.start == START:
            facts[file.file] = replace(facts[file.file], last_s=START + 600)
    assert findings(plan, facts) == []


def test_another_step() -> None:
    """Says both; all chunks of a metric are one finding; jitter is no other step."""
    plan = two_chunks()
    facts = {
        name: replace(one, spacing_s=60.0) if "waiting" in name else one for name, one in whole(plan).items()
    }
    names = tuple(name for name in facts if "waiting" in name)
    assert findings(plan, facts) == [("wrong_step", "warn", names)]
    (found,) = missing_from_plan(plan, facts.values())
    assert "has a sample every 60 s, the plan says 15 s; 2 of its 2 files are like this" in found.text
    facts = {name: replace(one, spacing_s=17.0) for name, one in whole(plan).items()}
    assert findings(plan, facts) == []


def test_samples_as_scraped_have_the_step_of_their_scrapes() -> None:
    """One that was measured is held against them, an assumed one is not; short chunks are found anyway."""
    for assumed, codes in ((False, ["wrong_step"]), (True, [])):
        plan = two_chunks("query", assumed)
        facts = {name: replace(one, spacing_s=30.0) for name, one in whole(plan).items() if "up" in name}
        facts = whole(plan) | facts
        assert [code for code, *_ in findings(plan, facts)] == codes
        first = plan.files[0].file
        facts = whole(plan) | {first: replace(whole(plan)[first], last_s=plan.files[0].end - 3 * STEP_S)}
        (short,) = missing_from_plan(plan, facts.values(), "http://p:9090", "dumps")
        assert short.code == "short_chunk"
        assert "curl -fsSG http://p:9090/api/v1/query --data-urlencode" in short.command


def came(plan: Plan, **change: object) -> dict[str, Received]:
    """What pull wrote down: all that the plan expects of three series, but for one file's changes."""
    facts = {f.file: Received(f.file, 3, 3 * (f.expected_points or 1), 0, f.start, f.end) for f in plan.files}
    first = plan.files[0].file
    return facts | {first: replace(facts[first], **change)}  # type: ignore[arg-type]


def listed() -> Plan:
    """A plan of three listed series a metric."""
    plan = two_chunks()
    return replace(plan, files=tuple(replace(f, expected_series=3) for f in plan.files))


def test_fewer_samples_than_the_server_counts_are_lost() -> None:
    """With both figures; as many are enough, whatever the plan expected; some may have come late."""
    plan = listed()
    short = {"points": 400, "series": 2, "held_against": "server"}
    (found,) = lost_from_plan(plan, came(plan, **short, counted=900).values(), "http://p", "dumps")
    name = plan.files[0].file
    assert (found.code, found.level, found.files) == ("lost_samples", "fail", (name,))
    assert found.text == (
        f"{plan.files[0].metric}: {name} holds 400 of the 900 samples that the server counts of 2 of 3 "
        "listed series"
    )
    assert found.command == "hsa pull --url http://p --out dumps"
    for enough in ({"counted": 400}, {"counted": 390}, {"counted": 405, "late": 8}):
        assert lost_from_plan(plan, came(plan, **short, **enough).values()) == ()


def test_without_a_count_the_plan_is_what_is_held_to() -> None:
    """Of a metric that nobody listed nothing is known, and nothing is said."""
    plan = listed()
    short = {"points": 400, "held_against": "nothing"}
    (found,) = lost_from_plan(plan, came(plan, **short).values())
    assert (
        "holds 400 of the 33,000 samples that the plan expects of 3 series, and the server gives no"
        in found.text
    )
    assert lost_from_plan(two_chunks(), came(two_chunks(), **short).values()) == ()
    unknown = replace(plan, files=tuple(replace(f, expected_points=None) for f in plan.files))
    assert lost_from_plan(unknown, came(unknown, **short).values()) == ()
    (found,) = lost_from_plan(unknown, came(unknown, **short, series=1).values())
    assert "holds 1 of 3 listed series, and the server gives no count" in found.text


def test_all_files_of_a_metric_are_one_finding() -> None:
    """As many as there are; a time that no calendar has is told all the same."""
    plan = listed()
    own = [f.file for f in plan.files if f.metric == plan.files[0].metric]
    facts = came(plan)
    for name in own:
        facts[name] = replace(facts[name], outside=5, last_s=1e18)
    (found,) = lost_from_plan(plan, facts.values())
    assert (found.code, found.files) == ("other_times", tuple(own))
    assert f"to 1e+18 s; 2 of its 2 files are like this ({own[0]}, {own[1]})" in found.text


def test_when_a_file_holds_what_the_plan_expects() -> None:
    """But for a scrape or two a series; where the plan does not know, it is not said to be whole."""
    (file, *_) = listed().files
    assert is_complete(file, 3, 3 * 11_000)
    assert is_complete(file, 3, 3 * 11_000 - 7)
    assert not is_complete(file, 3, 3 * 11_000 - 8)
    assert not is_complete(file, 2, 3 * 11_000)
    assert not is_complete(file, 3, 3 * 11_000, outside=1)
    assert not is_complete(replace(file, expected_series=None), 3, 3 * 11_000)
    assert not is_complete(replace(file, expected_points=None), 3, 3 * 11_000)
    assert is_complete(replace(file, expected_series=0, expected_points=None), 0, 0)


def test_what_may_still_be_on_its_way() -> None:
    """Of a stretch that ends now some scrapes a series; of an older one none."""
    (file, *_) = listed().files
    assert arrived_late(file, 1, file.end + 10) == 8
    assert arrived_late(file, 7, file.end + 10) == 18
    assert arrived_late(file, 7, file.end + 301) == 0


def test_files_that_nobody_wrote_down_are_held_to_times_and_lists() -> None:
    """As commands by hand leave them: other times, and fewer series than were listed in all files."""
    plan = listed()
    first, second, *_ = [f.file for f in plan.files if f.metric == plan.files[0].metric]
    facts = whole(plan)
    assert findings(plan, facts | {second: replace(facts[second], series=0)}) == []
    fewer = facts | {first: replace(facts[first], series=1), second: replace(facts[second], series=1)}
    assert findings(plan, fewer) == [("fewer_series", "warn", (first, second))]
    early = replace(facts[first], first_s=START - 3600.0)
    assert ("other_times", "fail", (first,)) in findings(plan, facts | {first: early})
    written = came(plan, held_against="server", counted=1).values()
    told = missing_from_plan(
        plan, (facts | {first: replace(facts[first], series=1)}).values(), received=written
    )
    assert told == ()


def test_a_share_of_instances_that_ended_is_not_short() -> None:
    """Its server counts no more of them, and other instances of the metric go on; uncounted, it is short."""
    plan = two_chunks()
    first = plan.files[0]
    ended = replace(first, file=f"ended.{first.file}", query=f"{first.query} ended")
    plan = replace(plan, files=(ended, *plan.files))
    facts = whole(plan)
    facts[ended.file] = replace(facts[ended.file], last_s=first.end - 600)
    got = came(plan, points=400, series=3, held_against="server", counted=400)
    assert [f.code for f in missing_from_plan(plan, facts.values())] == ["short_chunk"]
    assert missing_from_plan(plan, facts.values(), received=got.values()) == ()
    fewer = {**got, ended.file: replace(got[ended.file], counted=900)}
    codes = [f.code for f in missing_from_plan(plan, facts.values(), received=fewer.values())]
    assert codes == ["short_chunk", "lost_samples"]
