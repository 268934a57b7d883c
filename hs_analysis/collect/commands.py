"""The plan as commands to run by hand: curl, and promtool where it can say who is asking."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from hs_analysis.collect.plan import PlannedFile, parameters

DRAFT_PREFIX = ".draft-"
"""Of a file that is not whole yet; what begins with a dot is no input."""


@dataclass(frozen=True)
class Caller:
    """Who asks which server, as the commands should say it: never the secrets, only where they are kept.

    ``token`` and ``password`` are shell words that give the secret when the command runs.
    """

    url: str
    tenant: str | None = None
    token: str | None = None
    user: str | None = None
    password: str | None = None
    ca_file: str | None = None
    client_cert: str | None = None
    client_key: str | None = None
    insecure: bool = False


def curl(file: PlannedFile, caller: Caller) -> str:
    """Return the shell line of one file for curl; of an answer that is an error nothing is kept."""
    head = ["curl", "-fsSG", *_curl_access(caller), shlex.quote(f"{caller.url}/api/v1/{file.api}")]
    commands = []
    for match in file.selections:
        (_, query), *others = parameters(file.api, match, file.chunk, file.step_s)
        words = [*head, "--data-urlencode", shlex.quote(f"query={query}")]
        commands.append(" ".join([*words, *(f"-d {name}={value}" for name, value in others)]))
    return _line(file, commands, "-o")


def _line(file: PlannedFile, commands: Sequence[str], into: str) -> str:
    """Return a shell line that leaves a finished file alone, and under ``set -e`` ends at what fails.

    The answers to several commands are kept only when all are there: some would pass for all of them.
    """
    plain = shlex.quote(file.file.removesuffix(".gz"))
    fetched = f"{commands[0]} {into} {plain}"
    if len(commands) > 1:
        draft = shlex.quote(f"{DRAFT_PREFIX}{file.file}")
        fetched = f"{{ {'; '.join(commands)}; }} > {draft}; mv {draft} {plain}"
    return f"[ -s {shlex.quote(file.file)} ] || {{ {fetched}; gzip -f {plain}; }}"


def _curl_access(caller: Caller) -> list[str]:
    words = [f'-H "Authorization: Bearer {caller.token}"'] if caller.token else []
    if caller.user is not None or caller.password is not None:
        words.append(f'-u "{caller.user or ""}:{caller.password or ""}"')
    words += _option("-H", f"X-Scope-OrgID: {caller.tenant}" if caller.tenant else None)
    words += _option("--cacert", caller.ca_file)
    words += _option("--cert", caller.client_cert) + _option("--key", caller.client_key)
    return words + (["-k"] if caller.insecure else [])


def _option(flag: str, value: str | None) -> list[str]:
    return [flag, shlex.quote(value)] if value else []


def promtool(file: PlannedFile, caller: Caller) -> str:
    """Return the shell line of one file for promtool; its answers have no envelope, and so no warnings."""
    head = ["promtool", "query", "instant" if file.api == "query" else "range", "--format=json"]
    if caller.token:
        head.append(f'--header "Authorization=Bearer {caller.token}"')
    if caller.tenant:
        head.append(f"--header {shlex.quote(f'X-Scope-OrgID={caller.tenant}')}")
    commands = []
    for match in file.selections:
        (_, query), *others = parameters(file.api, match, file.chunk, file.step_s)
        flags = [f"--{name}={value}{'s' * (name == 'step')}" for name, value in others]
        commands.append(" ".join([*head, *flags, shlex.quote(caller.url), shlex.quote(query)]))
    return _line(file, commands, ">")


TOOLS: dict[str, Callable[[PlannedFile, Caller], str]] = {"curl": curl, "promtool": promtool}


def promtool_lacks(caller: Caller, files: Iterable[PlannedFile]) -> str | None:
    """Return what promtool can't do for this caller, None when it can do all."""
    if caller.user is not None or caller.password is not None:
        return "promtool takes no user and password"
    if caller.ca_file or caller.client_cert or caller.insecure:
        return "promtool takes no certificates"
    if (caller.token or caller.tenant) and any(file.api == "query" for file in files):
        return "promtool takes no token and no tenant where samples are asked for as scraped"
    return None
