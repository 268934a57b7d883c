"""The plan as commands to run by hand: curl, and promtool where it can say who is asking."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import dataclass

from hs_analysis.collect.plan import PlannedFile, number


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
    """Return the curl command of one file; of an answer that is an error nothing is kept."""
    words = ["curl", "-fsSG", *_curl_access(caller), shlex.quote(f"{caller.url}/api/v1/query_range")]
    words += ["--data-urlencode", shlex.quote(f"query={file.query}")]
    words += [
        f"-d start={number(file.start)}",
        f"-d end={number(file.end)}",
        f"-d step={number(file.step_s)}",
    ]
    return _unless_done(file, f"{' '.join(words)} -o {shlex.quote(_plain(file))}")


def _plain(file: PlannedFile) -> str:
    return file.file.removesuffix(".gz")


def _unless_done(file: PlannedFile, command: str) -> str:
    """Return a shell line that leaves a finished file alone, and under ``set -e`` ends at what fails."""
    return f"[ -s {shlex.quote(file.file)} ] || {{ {command}; gzip -f {shlex.quote(_plain(file))}; }}"


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
    """Return the promtool command of one file; its answer has no envelope, and so no warnings."""
    words = ["promtool", "query", "range", "--format=json"]
    if caller.token:
        words.append(f'--header "Authorization=Bearer {caller.token}"')
    if caller.tenant:
        words.append(f"--header {shlex.quote(f'X-Scope-OrgID={caller.tenant}')}")
    words += [f"--start={number(file.start)}", f"--end={number(file.end)}", f"--step={number(file.step_s)}s"]
    words += [shlex.quote(caller.url), shlex.quote(file.query)]
    return _unless_done(file, f"{' '.join(words)} > {shlex.quote(_plain(file))}")


TOOLS: dict[str, Callable[[PlannedFile, Caller], str]] = {"curl": curl, "promtool": promtool}


def promtool_lacks(caller: Caller) -> str | None:
    """Return what promtool can't do for this caller, None when it can do all."""
    if caller.user is not None or caller.password is not None:
        return "promtool takes no user and password"
    if caller.ca_file or caller.client_cert or caller.insecure:
        return "promtool takes no certificates"
    return None
