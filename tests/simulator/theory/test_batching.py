"""The compiled loops do what a plain reading of their rules does, request by request and second by second."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from simulator.batching import LEAST, MASK, TIE, TURNS, TWO
from simulator.decode import DecodeLaw, serve_decode
from simulator.lives import Life
from simulator.prefill import serve_prefill

LIVES = st.lists(
    st.tuples(st.integers(0, 20), st.integers(0, 40), st.sampled_from([1.0, 1.3])), min_size=1, max_size=4
)
ROUTINGS = st.sampled_from([LEAST, TWO, TURNS])
TIMES = st.lists(st.floats(0.0, 39.0, allow_nan=False), min_size=1, max_size=30).map(sorted)


def _lives(drawn: list[tuple[int, int, float]]) -> tuple[Life, ...]:
    """Return instances of which the first is there for good."""
    made = [Life("first", -1.0)]
    made += [
        Life(f"d{n}", float(opens), float(opens + stays), slow)
        for n, (opens, stays, slow) in enumerate(drawn)
    ]
    return tuple(made)


def _looked_at(routing: int, number: int, there: list[int]) -> list[int]:
    """Return the instances between which a router decides for its request of a number."""
    n = len(there)
    if routing == LEAST or n == 1:
        return there
    if routing == TURNS:
        return [there[number % n]]
    bits = number + 1
    for shift, factor in ((15, 2246822519), (13, 3266489917)):
        bits = (bits ^ bits >> shift) * factor & MASK
    bits ^= bits >> 16
    one, step = bits % n, bits // n % (n - 1)
    return [there[i] for i in sorted((one, (one + 1 + step) % n))]


def _decode_plainly(
    times: list[float], prompt: list[float], answer: list[float], law: DecodeLaw, lives: tuple[Life, ...],
    seconds: int,
) -> tuple[list[float], list[float]]:  # fmt: skip
    """Pass the seconds of a pool with lists that are searched: batches hold (tokens at the end, request)."""
    n, starts, ends = len(times), [np.inf] * len(times), [np.inf] * len(times)
    batches: list[list[tuple[float, int]]] = [[] for _ in lives]
    lines: list[list[int]] = [[] for _ in lives]
    virtual, held, load = ([0.0] * len(lives) for _ in range(3))
    coming = list(range(n))
    order = sorted(range(len(lives)), key=lambda i: (max(0, int(lives[i].open_s)), i))

    def reserved(i: int) -> float:
        return sum(prompt[r] + answer[r] for _, r in batches[i])

    def fits(i: int, r: int) -> bool:
        room = reserved(i) + prompt[r] + answer[r] <= law.kv_tokens
        return len(batches[i]) < law.batch and (room or not batches[i])

    for second in range(seconds):
        accepting = [i for i in order if max(0, int(lives[i].open_s)) <= second < int(lives[i].close_s)]
        pace = [
            1.0 / (law.step_s(len(batches[i]) or 1, held[i]) * lives[i].slowness) for i in range(len(lives))
        ]
        late = [0.0] * len(lives)
        while accepting and coming and times[coming[0]] < second + 1.0:
            r = coming.pop(0)
            i = min(_looked_at(law.routing, r, accepting), key=lambda i: load[i])
            load[i] += 1.0 + TIE
            part = max(0.0, times[r] - second)
            if not lines[i] and fits(i, r):
                starts[r] = second + part
                batches[i].append((virtual[i] + part * pace[i] + answer[r], r))
                held[i] += prompt[r]
                late[i] -= part * pace[i]
            else:
                lines[i].append(r)
        for i in range(len(lives)):
            running = len(batches[i])
            after = virtual[i] + pace[i]
            emitted = late[i] + running * pace[i]
            for end, r in sorted(batches[i]):
                if end <= after:
                    batches[i].remove((end, r))
                    ends[r] = second + 1.0 - (after - end) / pace[i]
                    emitted -= after - end
                    load[i] -= 1.0
                    held[i] -= prompt[r] + answer[r]
            virtual[i] = after
            held[i] += emitted
            while lines[i] and fits(i, lines[i][0]):
                r = lines[i].pop(0)
                starts[r] = second + 1.0
                batches[i].append((virtual[i] + answer[r], r))
                held[i] += prompt[r]
    return starts, ends


@given(
    times=TIMES, drawn=LIVES, seed=st.integers(0, 99), batch=st.integers(1, 4), routing=ROUTINGS,
    least_s=st.sampled_from([0.0, 0.1, 0.2]),
)  # fmt: skip
def test_a_decode_pool_is_what_its_rules_say(
    times: list[float], drawn: list[tuple[int, int, float]], seed: int, batch: int, routing: int,
    least_s: float,
) -> None:  # fmt: skip
    """Every request starts and ends when a plain reading says, also where instances come and go."""
    rng = np.random.default_rng(seed)
    prompt, answer = (np.round(rng.uniform(1, top, len(times))) for top in (400, 60))
    law, lives = DecodeLaw(0.2, 0.05, 1e-4, batch, 900.0, least_s, routing), _lives(drawn)
    trace = serve_decode(np.array(times), prompt, answer, law, lives, np.ones(120))
    starts, ends = _decode_plainly(times, prompt.tolist(), answer.tolist(), law, lives, 120)
    np.testing.assert_allclose(trace.start_s, starts, rtol=1e-9)
    np.testing.assert_allclose(trace.end_s, ends, rtol=1e-9)


def _prefill_plainly(
    times: list[float], work: list[float], lives: tuple[Life, ...], routing: int
) -> list[tuple[int, float, float]]:
    """Give each request to the instance that is free first among those that accept work."""
    free, served = [one.open_s for one in lives], []
    for now, needs in zip(times, work, strict=True):
        there = [i for i, one in enumerate(lives) if one.open_s <= now < one.close_s]
        best = min(_looked_at(routing, len(served), there), key=lambda i: free[i])
        start = max(free[best], now)
        free[best] = start + needs * lives[best].slowness
        served.append((best, start, free[best]))
    return served


@given(times=TIMES, drawn=LIVES, seed=st.integers(0, 99), routing=ROUTINGS)
def test_a_prefill_pool_is_what_its_rules_say(
    times: list[float], drawn: list[tuple[int, int, float]], seed: int, routing: int
) -> None:
    """Instances, starts and ends are those of a search over all instances for each request."""
    work = np.random.default_rng(seed).uniform(0.01, 6.0, len(times))
    lives = _lives(drawn)
    trace = serve_prefill(np.array(times), work, lives, routing)
    served = _prefill_plainly(times, work.tolist(), lives, routing)
    assert trace.life.tolist() == [life for life, _, _ in served]
    np.testing.assert_allclose(trace.start_s, [start for _, start, _ in served])
    np.testing.assert_allclose(trace.end_s, [end for _, _, end in served])
