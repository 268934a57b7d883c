"""Files that look like data of LLM serving and are none that this tool can use: each with its sentence."""

from __future__ import annotations

import re
from collections.abc import Iterator

from hs_analysis.errors import InputError
from hs_analysis.ingest.raw import Dump, Piece, ReadNotes

_GENERATOR = (
    re.compile(rb"\s*\d+(\.\d+)?,\d[\d.eE+-]*,[\d.eE+-]+,(Gamma|Weibull|Exponential|Poisson)\b,"),
    re.compile(rb'\s*\{\s*"\d+"\s*:\s*\{\s*"(input_tokens|output_tokens)"\s*:\s*"\{'),
)


_DISTRIBUTION = re.compile(rb"[^\n]*\b(cdf|cdf_pct|percentile|quantile)\b[^\n]*\r?\n")
"""A header that gives shares of samples instead of times."""

_TIMES = re.compile(rb"\b(time|timestamp|ts|t_s|date|datetime|arrival)\b", re.IGNORECASE)


def is_servegen(head: bytes) -> bool:
    """Whether a head is a chunk of ServeGen: rates with a distribution, or distributions of lengths."""
    return any(pattern.match(head) for pattern in _GENERATOR)


def is_distribution(head: bytes) -> bool:
    """Whether a head is a table of a cumulative distribution: a column of shares and none of times."""
    match = _DISTRIBUTION.match(head[:4096])
    return match is not None and b"," in match[0] and not _TIMES.search(match[0])


def refuse_servegen(dump: Dump, notes: ReadNotes) -> Iterator[Piece]:  # noqa: ARG001
    """Say what a ServeGen chunk is.

    Raises
    ------
    InputError
        Always.
    """
    raise InputError(
        "parameters of a workload generator (ServeGen), not a log of requests",
        where=dump.where,
        hint="generate requests from them, or give a table of rates and describe it under [tables]",
    )


def refuse_distribution(dump: Dump, notes: ReadNotes) -> Iterator[Piece]:  # noqa: ARG001
    """Say what a table of distributions is.

    Raises
    ------
    InputError
        Always.
    """
    raise InputError(
        "distributions of metrics, without times: nothing can be said about load, lag or stability from it",
        where=dump.where,
        hint="export the series that the distributions were made of",
    )
