"""One seam for work that splits: a function over tasks, here, in other processes, or on a Ray cluster."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from importlib.util import find_spec
from multiprocessing import resource_tracker
from pathlib import Path
from typing import Any, TypeVar

from hs_analysis import interrupts
from hs_analysis.errors import MachineError
from hs_analysis.schema.settings import Machine

Task = TypeVar("Task")
Found = TypeVar("Found")

LEAST_FOR_PROCESSES = 4
"""Fewest tasks for other processes: each loads the libraries first, for some seconds. A default."""

PROGRAMS = ("__main__", "hsa", "hs-analysis")
"""Main modules that a process can be started from again; a script without a guard would run itself anew."""


def missing_engine(engine: str) -> str:
    """Say which package an engine needs and does not find; empty when nothing is missing."""
    return "ray" if engine == "ray" and find_spec("ray") is None else ""


def map_tasks(
    function: Callable[[Task], Found], tasks: Sequence[Task], machine: Machine | None = None
) -> Iterator[Found]:
    """Apply a function to tasks and yield what it returns, in the order of the tasks.

    Parameters
    ----------
    function
        A function of a module; it depends on nothing but its task, so that the result is the same anywhere.
    tasks
        Frozen dataclasses of paths and parameters. On a cluster the paths must be there on every machine.
    machine
        ``engine`` says where: ``local``, in processes of this machine where there are many tasks, or ``ray``,
        the cluster of ``RAY_ADDRESS``, else one started on this machine.

    Raises
    ------
    HsError
        What the function raises; the first task in order that fails ends the map.
    MachineError
        When the engine's package is not installed or its cluster can't be reached.
    """
    engine = (machine or Machine()).engine
    if engine == "ray":
        yield from _on_ray(function, tasks)
        return
    workers = min(len(tasks), os.cpu_count() or 1)
    if workers < 2 or len(tasks) < LEAST_FOR_PROCESSES or not _can_start_again():
        yield from map(function, tasks)
        return
    context = multiprocessing.get_context("spawn")  # a forked copy of a threaded library can hang
    with interrupts.undone(_kill_workers), ProcessPoolExecutor(workers, mp_context=context) as pool:
        with _deaf_children():
            found = pool.map(function, tasks)  # starts them
        yield from found


def _kill_workers() -> None:
    for one in multiprocessing.active_children():
        one.kill()


@contextmanager
def _deaf_children() -> Iterator[None]:
    """Start processes inside that never hear Ctrl-C: a terminal sends it to all, and the first decides.

    A system that knows no masks of signals (Windows) starts them as they are.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    resource_tracker.ensure_running()  # starting it ends any blocking of signals
    blocked = {signal.SIGINT} - set(signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT}))
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, blocked)


def _can_start_again() -> bool:
    main = getattr(sys.modules.get("__main__"), "__file__", None)
    inside = multiprocessing.parent_process() is not None
    return not inside and (main is None or Path(main).stem in PROGRAMS)


def _on_ray(function: Callable[[Task], Found], tasks: Sequence[Task]) -> Iterator[Found]:
    ray = _ray()
    remote = ray.remote(function)
    waiting = [remote.remote(task) for task in tasks]
    for one in waiting:
        try:
            yield ray.get(one)
        except ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, Exception):
                raise error.cause from None
            raise


def _ray() -> Any:
    """Return the library with a cluster: one that runs, that of ``RAY_ADDRESS``, else one of this machine."""
    if missing_engine("ray"):
        raise MachineError(
            "the ray engine needs the package ray", hint="pip install 'hs-analysis[ray]', or --engine local"
        )
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # it would report its use over the network
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # else a warning: no task takes a GPU
    import ray

    if not ray.is_initialized():
        try:
            ray.init(include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
        except (ConnectionError, RuntimeError, TimeoutError) as error:
            raise MachineError(
                f"no Ray cluster: {str(error).splitlines()[0]}",
                where=os.environ.get("RAY_ADDRESS", ""),
                hint="check RAY_ADDRESS, or use --engine local",
            ) from error
    return ray
