"""What scale-in costs, as one line."""

from __future__ import annotations

from hs_analysis.report.decision_words import scale_in_line

COST = {
    "role": "decode", "grace_s": 30.0, "grace_from": "default", "grace_where": "",
    "longest_request_s": 41.0, "longest_request_bound_s": 60.0, "is_at_least": False,
    "requests_cut_per_day": 12.0, "change": "terminationGracePeriodSeconds: 60", "reason": None,
}  # fmt: skip


def test_line_says_times_grace_cut_and_the_line_to_change() -> None:
    """Kubernetes' default is said as such, a file by its place; no change is named where none is needed."""
    assert scale_in_line(COST) == (
        "scale-in: 99.9 % of requests end within 41 s (bucket edge 60 s), decode pods have 30 s (the "
        "default) to end their requests: 12.0 requests a day are cut; set terminationGracePeriodSeconds: 60 "
        "in the pod template"
    )
    file = {"grace_s": 90.0, "grace_from": "file", "grace_where": "d.yaml:7", "change": None}
    assert scale_in_line(COST | file | {"requests_cut_per_day": 0.0}).endswith(
        "decode pods have 90 s (d.yaml:7) to end their requests: 0 requests a day are cut"
    )


def test_line_of_what_is_not_known_says_what_to_record() -> None:
    """No histogram at all, and one whose buckets end too early."""
    reason = {"code": "latency_not_recorded", "text": "record x_seconds, with its buckets"}
    nothing = {"longest_request_s": None, "longest_request_bound_s": None, "change": None, "reason": reason}
    assert scale_in_line(COST | nothing | {"requests_cut_per_day": None}) == (
        "scale-in: decode pods have 30 s (the default) to end their requests; what is cut is not known: "
        "record x_seconds, with its buckets"
    )
    short = {"longest_request_s": None, "longest_request_bound_s": 10.0, "is_at_least": True}
    assert "more than 0.1 % of requests take longer than the last bucket edge, 10 s" in scale_in_line(
        COST | short
    )
    assert "at least 12.0 requests a day" in scale_in_line(COST | short)
