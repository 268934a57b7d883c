"""The lives of instances: when each of them starts, accepts work and goes."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

FOREVER_S = 1e12
"""Closing time of an instance that outlives the history [s]."""


@dataclass(frozen=True)
class Life:
    """One process of one instance; a restarted pod lives twice under one name, a replaced one has two names.

    Attributes
    ----------
    pod
        Name of its pod.
    open_s
        When it is ready and takes its first request [s since the start of the history].
    close_s
        When it stops taking requests; those it has are finished.
    slowness
        Factor on its step and service times [ratio].
    gpu
        GPU model.
    restarts
        How often its container had been started again before.
    old_names
        Whether it exports metric names of an older release.
    asked_s
        When its pod was created [s since the start of the history]; a pod that was there from the start is
        an hour old then.
    """

    pod: str
    open_s: float = -1.0
    close_s: float = FOREVER_S
    slowness: float = 1.0
    gpu: str = "NVIDIA H20"
    restarts: int = 0
    old_names: bool = False
    asked_s: float = -3600.0


@dataclass(frozen=True)
class Scaler:
    """A target tracker that sized the pools of a recorded history.

    It asks for ⌈5-min mean of offered work ÷ target⌉ instances, out at once and in after ten minutes of
    asking for less; asked-for instances are ready after `startup_s`, unwanted ones stop taking requests at
    once. Work is taken as offered: below saturation the served rate that such trackers see is the same.
    """

    target_tps: float
    least: int
    most: int
    startup_s: float = 240.0
    patience_s: float = 600.0


def still(names: list[str], slowness: Floats, gpus: list[str]) -> tuple[Life, ...]:
    """Return instances that live through the whole history."""
    return tuple(Life(n, slowness=float(s), gpu=g) for n, s, g in zip(names, slowness, gpus, strict=True))


def restarted(lives: tuple[Life, ...], at_s: list[tuple[int, float]], startup_s: float) -> tuple[Life, ...]:
    """Return the lives with some pods restarted in place: (number, time) each; a pod at most once."""
    out = list(lives)
    for number, moment in at_s:
        life = lives[number]
        out[number] = Life(life.pod, life.open_s, moment, life.slowness, life.gpu, 0, life.old_names)
        out.append(Life(life.pod, moment + startup_s, FOREVER_S, life.slowness, life.gpu, 1, life.old_names))
    return tuple(out)


def replaced(
    lives: tuple[Life, ...], names: list[str], at_s: float, spacing_s: float, startup_s: float, faster: float
) -> tuple[Life, ...]:
    """Return the lives with each pod replaced by one of a new release, one after another.

    The new one is ready before the old one closes. ``faster`` multiplies its slowness; the old ones export
    the metric names of the older release.
    """
    out = []
    for number, (life, name) in enumerate(zip(lives, names, strict=True)):
        ready = at_s + number * spacing_s + startup_s
        out.append(Life(life.pod, life.open_s, ready, life.slowness, life.gpu, 0, old_names=True))
        new = Life(name, ready, FOREVER_S, life.slowness * faster, life.gpu, asked_s=ready - startup_s)
        out.append(new)
    return tuple(out)


def scaled(
    work_tps: Floats, step_s: float, scaler: Scaler, pool: str, rng: np.random.Generator
) -> tuple[Life, ...]:
    """Return the lives that a `Scaler` makes of offered work [tokens/s], shape (steps,) of `step_s`.

    The latest to come is the first to go.
    """
    window = max(1, round(300.0 / step_s))
    gained = np.r_[0.0, np.cumsum(work_tps)]
    at = np.arange(work_tps.size)
    mean = (gained[at + 1] - gained[np.maximum(at + 1 - window, 0)]) / np.minimum(at + 1, window)
    wanted = np.clip(np.ceil(mean / scaler.target_tps), scaler.least, scaler.most).astype(int)
    alive: list[tuple[str, float, float]] = []
    done: list[Life] = []

    def add(ready_s: float) -> None:
        name = f"{pool}-{''.join(rng.choice(list('bcdfghjklmnpqrstvwxz2456789'), 5))}"
        alive.append((name, ready_s, 1.0 + 0.02 * float(rng.standard_normal())))

    for _ in range(int(wanted[0])):
        add(-1.0)
    patience, below = math.ceil(scaler.patience_s / step_s), 0
    for k, want in enumerate(wanted.tolist()):
        now = k * step_s
        while len(alive) < want:
            add(now + scaler.startup_s)
        below = below + 1 if want < len(alive) else 0
        if below >= patience:
            name, ready, slow = alive.pop()
            if ready < now:  # one that never got ready leaves no trace
                done.append(Life(name, ready, now, slow))
            below = 0
    done += [Life(name, ready, FOREVER_S, slow) for name, ready, slow in alive]
    lives = sorted(done, key=lambda life: (life.open_s, life.pod))
    return tuple(
        replace(life, asked_s=life.open_s - scaler.startup_s) if life.open_s >= 0.0 else life
        for life in lives
    )
