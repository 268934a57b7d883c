"""Profiles of one instance: interpolation, the closed forms, what lies outside, and types of GPU."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from derive.bench import points
from hypothesis import given
from hypothesis import strategies as st

from hs_analysis.derive.gpu_speed import equivalents
from hs_analysis.derive.profiles import Profile, decode_rate, prefill_rate, profile_ratio, profiles_of
from hs_analysis.schema.settings import Slo

KV_TOKENS, STEP_S, READ_S, EACH_S = 9e5, 4e-3, 3e-8, 5e-5
"""Decode law of a made-up GPU: step = 4 ms + 30 ns a KV token held + 50 µs a sequence."""


def law(context: float, limit_s: float) -> float:
    """Return the most tokens/s of the made-up GPU at a context under a limit, in closed form."""
    batch = min((limit_s - STEP_S) / (READ_S * context + EACH_S), KV_TOKENS / context)
    return batch / (STEP_S + (READ_S * context + EACH_S) * batch)


def made(contexts: tuple[float, ...] = (500.0, 2000.0, 8000.0)) -> Profile:
    """Return the profile of the made-up GPU: linear prefill, the decode law at a few contexts."""
    lengths = np.array([100.0, 1000.0, 4000.0, 16000.0])
    rows = [
        {"kind": "prefill", "isl": n, "ttft_mean_s": 0.01 + n / 5e4, "prefill_tps": n / (0.01 + n / 5e4)}
        for n in lengths
    ]
    for context in contexts:
        for held in np.linspace(0.01, 1.0, 12) * KV_TOKENS:
            tbt = STEP_S + READ_S * held + EACH_S * held / context
            rows.append({"kind": "decode", "context_tokens": context, "tbt_mean_s": tbt,
                         "decode_tps": held / context / tbt})  # fmt: skip
    (profile,) = profiles_of(points(rows))
    return profile


@given(st.floats(500, 8000), st.floats(0.008, 0.05))
def test_decode_between_the_points_follows_the_law(context: float, limit_s: float) -> None:
    """Between contexts and between batches the law is recovered to 1 %: nothing is snapped to a point."""
    (found,) = decode_rate(made(), np.array([context]), limit_s)
    assert found == pytest.approx(law(context, limit_s), rel=0.01)


@given(st.floats(600, 7000), st.floats(0.05, 0.95), st.floats(0.05, 0.95))
def test_at_one_context_the_ratio_rises_with_isl_over_osl(context: float, a: float, b: float) -> None:
    """Longer prompts and shorter answers at the same context never ask for less prefill."""
    low, high = sorted((a, b))
    ratios = [
        profile_ratio(
            made(), np.array([share * context]), np.array([2 * (1 - share) * context]), Slo(tbt_s=0.03)
        )
        for share in (low, high)
    ]
    if all(one.status == "ok" for one in ratios):
        assert ratios[0].ratio <= ratios[1].ratio * (1 + 1e-9)


def test_nothing_is_extrapolated() -> None:
    """Prompts and contexts outside the grid are NaN, and too many of them refuse with their share."""
    profile = made()
    assert np.isnan(prefill_rate(profile, np.array([99.0, 16001.0]))).all()
    assert np.isnan(decode_rate(profile, np.array([499.0, 8001.0]), 0.03)).all()
    isl = np.array([1000.0] * 9 + [90.0])
    found = profile_ratio(profile, isl, np.full(10, 100.0), Slo(tbt_s=0.03))
    assert (found.status, found.reason.code, found.outside_ratio) == (
        "refused", "outside_grid", pytest.approx(0.1),
    )  # fmt: skip
    assert found.ratio is None


def test_a_limit_no_load_keeps_is_refused_by_name() -> None:
    """One prompt alone over the TTFT limit, or one sequence over the TBT limit: no ratio helps."""
    one = (np.array([4000.0]), np.array([100.0]))
    late = profile_ratio(made(), *one, Slo(ttft_s=0.05))
    slow = profile_ratio(made(), *one, Slo(tbt_s=0.002))
    assert (late.reason.code, slow.reason.code) == ("limit_below_profile",) * 2
    assert "TTFT" in late.reason.text
    assert "TBT" in slow.reason.text


@pytest.fixture(scope="module")
def h200(real_data: Path) -> Profile:
    """The surfaces of one H200."""
    folder = real_data / "dynamo-h200-profile"
    prefill, decode = (pl.read_csv(folder / f"{role}.csv") for role in ("prefill", "decode"))
    rows = [
        {"kind": "prefill", "isl": float(n), "ttft_mean_s": t / 1e3, "prefill_tps": r}
        for n, t, r in prefill.iter_rows()
    ]
    rows += [
        {"kind": "decode", "kv_usage": kv, "context_tokens": c, "tbt_mean_s": t / 1e3, "decode_tps": r}
        for kv, c, t, r, _ in decode.iter_rows()
    ]
    (profile,) = profiles_of(points(rows))
    return profile


@pytest.mark.parametrize(("isl", "osl", "ratio"), [(1024, 1024, 0.5), (8192, 1024, 0.45), (3000, 150, 2.5)])
def test_closed_forms_of_a_measured_profile(h200: Profile, isl: float, osl: float, ratio: float) -> None:
    """The three published ratios under 20 ms, decode taken at the prompt's length as they were worked out."""
    lengths = np.array([float(isl)]), np.array([float(osl)])
    found = profile_ratio(h200, *lengths, Slo(tbt_s=0.02), context=lengths[0])
    assert found.ratio == pytest.approx(ratio, rel=0.15)
    longer = profile_ratio(h200, *lengths, Slo(tbt_s=0.02))  # half of the answer is context too
    assert found.ratio >= longer.ratio


def requests_outside(profile: Profile, isl: np.ndarray, osl: np.ndarray) -> float:
    """Return the share outside by the obvious count."""
    context = isl + osl / 2
    inside = (isl >= profile.isl[0]) & (isl <= profile.isl[-1])
    inside &= (context >= profile.decode[0].context) & (context <= profile.decode[-1].context)
    return float(1 - inside.mean())


def test_public_traces_lie_partly_outside(h200: Profile, real_data: Path) -> None:
    """14 % and 30 % of two traces lie outside one H200's profile: refused, with the share."""
    azure = pl.read_csv(real_data / "azure-llm-2023" / "AzureLLMInferenceTrace_conv.csv.gz")
    text = gzip.decompress((real_data / "mooncake-fast25" / "conversation_trace.jsonl.gz").read_bytes())
    mooncake = [json.loads(line) for line in text.splitlines()]
    sets = {
        "azure": tuple(azure[c].to_numpy().astype(float) for c in ("ContextTokens", "GeneratedTokens")),
        "mooncake": tuple(
            np.array([row[c] for row in mooncake], dtype=float) for c in ("input_length", "output_length")
        ),
    }
    shares = {}
    for name, (isl, osl) in sets.items():
        found = profile_ratio(h200, isl, osl, Slo(tbt_s=0.02))
        assert (found.status, found.reason.code) == ("refused", "outside_grid")
        assert found.outside_ratio == pytest.approx(requests_outside(h200, isl, osl))
        shares[name] = round(found.outside_ratio, 2)
    assert shares == {"azure": 0.14, "mooncake": 0.3}


def test_types_of_gpu_in_equivalents(real_data: Path) -> None:
    """An H100 is about two A100 at prefill, one and a half at decode; a power cap costs prefill only."""
    raw = pl.read_csv(real_data / "splitwise-sim" / "perf_model.csv")
    raw = raw.filter((pl.col("model") == "llama2-70b") & (pl.col("tensor_parallel") == 8))
    keys = ["hardware", "prompt_size", "batch_size", "token_size"]
    median = raw.group_by(keys).agg(pl.col("prompt_time", "token_time").median()).sort(keys)
    rows = []
    for row in median.iter_rows(named=True):
        prompt_s, token_s = row["prompt_time"] / 1e3, row["token_time"] / 1e3
        rows += [
            {"kind": "prefill", "model": "llama2-70b", "prefill_gpu_type": row["hardware"],
             "isl": row["prompt_size"], "ttft_mean_s": prompt_s,
             "prefill_tps": row["batch_size"] * row["prompt_size"] / prompt_s},
            {"kind": "decode", "model": "llama2-70b", "decode_gpu_type": row["hardware"],
             "context_tokens": row["prompt_size"] + row["token_size"] / 2, "tbt_mean_s": token_s,
             "decode_tps": row["batch_size"] / token_s},
        ]  # fmt: skip
    found = equivalents(profiles_of(points(rows)), 512.0, 128.0, Slo(tbt_s=0.06))
    assert sorted(found) == ["a100-80gb", "h100-80gb", "h100-80gb-pcap"]
    (a_prefill, a_decode), (prefill, decode), (capped, capped_decode) = (
        found[name] for name in sorted(found)
    )
    assert 1.5 < prefill / a_prefill < 3.0
    assert 1.3 < decode / a_decode < 3.0
    assert capped == pytest.approx(prefill / 1.3, rel=0.02)
    assert capped_decode == pytest.approx(decode, rel=0.02)
