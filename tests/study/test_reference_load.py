"""What a served reference may and may not prove, and when requests stand for tokens."""

import numpy as np
import pytest

from hs_analysis.study import study_service


def codes(verdict):
    return {reason.code for reason in verdict.reasons}


@pytest.fixture
def served(load_of, pool, answer):
    """A decode pool of which only the served rate is known: it is its own reference."""
    load = load_of(24, 21)
    return pool(load) | {
        "decode_tps@decode": load.copy(),
        "running@decode": answer(load, 1.2, 0.02, 1, scale=60.0),
    }


def test_a_served_rate_counts_with_a_witness_and_known_saturation(served, make, settings):
    """Another signal that follows the same load lets it pass, and the circle is spelled out."""
    verdict = study_service(make(served, reference="served"), settings).verdict_of("decode_tps", "decode")
    assert verdict.verdict == "proportional"
    assert "served_reference" in codes(verdict)


def test_a_served_rate_alone_is_unknown(served, make, settings):
    """Without a witness its perfect association proves nothing."""
    rng = np.random.default_rng(1)
    alone = served | {"running@decode": 60 + rng.normal(size=1440)}
    result = study_service(make(alone, reference="served"), settings)
    verdict = result.verdict_of("decode_tps", "decode")
    assert (verdict.verdict, codes(verdict)) == ("unknown", {"circular_reference", "indicative_interval"})
    assert result.recommended is None


def test_a_served_rate_with_unknown_saturation_is_unknown(served, make, settings):
    """Where saturated rows can't be told, served is not offered."""
    blind = served | {"saturated@decode": np.full(1440, np.nan)}
    verdict = study_service(make(blind, reference="served"), settings).verdict_of("decode_tps", "decode")
    assert verdict.verdict == "unknown"
    assert "circular_reference" in codes(verdict)


def test_other_signals_are_judged_on_a_served_reference(served, make, settings):
    """Only the rate itself is circular."""
    verdict = study_service(make(served, reference="served"), settings).verdict_of("running", "decode")
    assert verdict.verdict == "proportional"
    assert "served_reference" not in codes(verdict)


@pytest.mark.parametrize(("swing", "named"), [(0.02, True), (0.6, False)])
def test_request_rate_is_named_only_with_steady_lengths(load_of, pool, answer, make, settings, swing, named):
    """Requests stand for tokens while tokens per request keep still and nothing better is there."""
    load = load_of(48, 22)
    length = 300 * np.exp(swing * np.sin(2 * np.pi * np.arange(load.size) / 1000))
    columns = pool(load) | {"request_rate@service": load / length}
    recommended = study_service(make(columns), settings).recommended
    assert (recommended is not None) == named
    if named:
        assert (recommended.signal, recommended.role) == ("request_rate", "service")
    tps = study_service(
        make(columns | {"decode_tps@decode": answer(load, 1.0, 0.02, 1)}), settings
    ).recommended
    assert tps.signal == "decode_tps"
    assert tps.runner_up is None
    assert tps.why.startswith("the only proportional signal of a pool: ")  # that of the service is one too
    if named:
        assert recommended.why.startswith("the only proportional signal: ")


def test_requests_are_not_named_when_prompts_move(load_of, pool, make, settings):
    """Steady output lengths are not enough: prefill's tokens per request must keep still too."""
    load = load_of(48, 25)
    prompt = 2000 * np.exp(0.5 * np.sin(2 * np.pi * np.arange(load.size) / 1000))
    columns = pool(load) | {"request_rate@service": load / 300}
    steady = columns | pool(load / 300 * 2000, "prefill")
    moving = columns | pool(load / 300 * prompt, "prefill")
    assert study_service(make(steady), settings).recommended.signal == "request_rate"
    result = study_service(make(moving), settings)
    assert result.verdict_of("request_rate", "service").verdict == "proportional"
    assert result.recommended is None


def test_ties_go_to_decode_tps(load_of, pool, answer, make, settings):
    """Equally good signals: the rate that serves every model wins, the next is named."""
    load = load_of(24, 23)
    columns = (
        pool(load)
        | pool(load * 8, "prefill")
        | {
            "gpu_util@prefill": answer(load, 1.0, 0.01, 1),
            "decode_tps@decode": answer(load, 1.0, 0.012, 2),
        }
    )
    recommended = study_service(make(columns), settings).recommended
    assert (recommended.signal, recommended.role) == ("decode_tps", "decode")
    assert recommended.runner_up == "gpu_util@prefill"


def test_a_noisier_signal_ranks_lower(load_of, pool, answer, make, settings):
    """Decode TPS loses to a signal with several times its signal-to-noise ratio."""
    load = load_of(24, 24)
    columns = (
        pool(load)
        | pool(load, "prefill")
        | {"gpu_util@prefill": answer(load, 1.0, 0.01, 1), "decode_tps@decode": answer(load, 1.0, 0.2, 2)}
    )
    result = study_service(make(columns), settings)
    assert result.verdict_of("decode_tps", "decode").verdict == "proportional"
    assert result.recommended.signal == "gpu_util"


@pytest.fixture
def images(load_of, pool, answer):
    """A single pool whose work is known in requests alone, and signals that follow it."""
    rate = load_of(24, 26) / 1000
    return pool(rate, "mixed") | {
        "request_rate@service": rate.copy(),
        "completion_rate@service": rate * 1.0,
        "gpu_util@mixed": answer(rate * 1000, 1.0, 0.03, 1, scale=0.5),
        "e2e_latency@service": answer(rate * 1000, 0.5, 0.03, 2, scale=3.0),
    }


def test_utilisation_wins_where_requests_are_all_that_is_counted(images, make, settings):
    """It follows the requests; a latency is a guard; the count of requests says on what it rests."""
    frame = make(images)
    result = study_service(frame, settings)
    assert (frame.served("mixed"), frame.work_unit("mixed")) == (("request_rate", "service"), "requests/s")
    assert (result.recommended.signal, result.recommended.role) == ("gpu_util", "mixed")
    assert result.verdict_of("e2e_latency", "service").verdict == "guard"
    rate = result.verdict_of("request_rate", "service")
    assert rate.verdict == "proportional"
    assert "served_reference" in codes(rate)


@pytest.mark.parametrize("kept", [("gpu_util@mixed", "e2e_latency@service"), ()])
def test_nothing_is_recommended_where_no_signal_follows_the_requests(
    images, load_of, answer, make, settings, kept
):
    """Signals of an independent pool, or none at all: requests alone prove nothing of the work."""
    other = load_of(24, 27)
    foreign = {
        "gpu_util@mixed": answer(other, 1.0, 0.03, 1, scale=0.5),
        "e2e_latency@service": answer(other, 0.5, 0.03, 2, scale=3.0),
    }
    columns = {name: values for name, values in images.items() if name not in foreign}
    result = study_service(make(columns | {name: foreign[name] for name in kept}), settings)
    assert result.recommended is None
    rate = result.verdict_of("request_rate", "service")
    assert rate.verdict == "unknown"
    assert "circular_reference" in codes(rate)
    assert all(result.verdict_of(*name.split("@")).verdict == "unusable" for name in kept)


def test_sizes_that_move_unmask_a_plain_count_of_requests(images, make, settings):
    """Judged on requests weighed by their size a plain count drifts, and utilisation does not."""
    rate = images["request_rate@service"]
    size = np.exp(0.6 * np.sin(2 * np.pi * np.arange(rate.size) / 700))
    weighed = {"offered_tps@mixed": rate * size, "request_work@service": rate * size}
    weighed |= {"gpu_util@mixed": images["gpu_util@mixed"] * size}
    result = study_service(make(images | weighed), settings)
    assert result.verdict_of("gpu_util", "mixed").verdict == "proportional"
    plain = result.verdict_of("request_rate", "service")
    assert plain.verdict == "unusable"
    assert "circular_reference" not in codes(plain)
    assert "served_reference" in codes(result.verdict_of("request_work", "service"))


def test_what_rests_on_raw_prompt_tokens_says_so(load_of, pool, answer, make, settings):
    """Signals judged on prefill's work carry the note, those of decode do not."""
    load = load_of(24, 28)
    columns = pool(load) | pool(load * 4, "prefill")
    columns |= {
        "prefill_tps@prefill": load * 4, "gpu_util@prefill": answer(load, 1.0, 0.02, 1, scale=0.5),
        "decode_tps@decode": answer(load, 1.0, 0.02, 2, scale=5000.0),
    }  # fmt: skip
    result = study_service(make(columns), settings)
    assert result.verdict_of("prefill_tps", "prefill").verdict == "proportional"
    assert "hit_rate_unknown" in codes(result.verdict_of("prefill_tps", "prefill"))
    assert "hit_rate_unknown" in codes(result.verdict_of("gpu_util", "prefill"))
    assert "hit_rate_unknown" not in codes(result.verdict_of("decode_tps", "decode"))
