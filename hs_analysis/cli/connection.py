"""Flags that say which server is asked and who asks; credentials come from files or the environment."""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hs_analysis.errors import UsageError

if TYPE_CHECKING:
    from hs_analysis.collect.access import Access, Secret

SERVER = "Server"
URL_HELP = "Address of Prometheus, Thanos, Mimir or VictoriaMetrics; with or without /api/v1/…."

UrlFlag = Annotated[
    str,
    typer.Option(
        "--url", metavar="URL", envvar="HSA_URL", rich_help_panel=SERVER,
        help=URL_HELP,
    ),
]  # fmt: skip
TokenFlag = Annotated[
    Path | None,
    typer.Option(
        "--token-file", metavar="FILE", rich_help_panel=SERVER, show_default=False,
        help="File with the bearer token; or HSA_TOKEN.",
    ),
]  # fmt: skip
UserFlag = Annotated[
    str | None,
    typer.Option(
        "--user", metavar="NAME", envvar="HSA_USER", rich_help_panel=SERVER, show_default=False,
        help="User of basic authentication.",
    ),
]  # fmt: skip
PasswordFlag = Annotated[
    Path | None,
    typer.Option(
        "--password-file", metavar="FILE", rich_help_panel=SERVER, show_default=False,
        help="File with the password; or HSA_PASSWORD.",
    ),
]  # fmt: skip
TenantFlag = Annotated[
    str | None,
    typer.Option(
        "--tenant", metavar="ID", envvar="HSA_TENANT", rich_help_panel=SERVER, show_default=False,
        help="Sent as X-Scope-OrgID (Mimir, Cortex).",
    ),
]  # fmt: skip
CaFlag = Annotated[
    Path | None,
    typer.Option(
        "--ca-file", metavar="FILE", rich_help_panel=SERVER, show_default=False,
        help="PEM file of the authority that signed the server's certificate.",
    ),
]  # fmt: skip
CertFlag = Annotated[
    Path | None,
    typer.Option(
        "--client-cert", metavar="FILE", rich_help_panel=SERVER, show_default=False,
        help="PEM file of the client's certificate.",
    ),
]  # fmt: skip
KeyFlag = Annotated[
    Path | None,
    typer.Option(
        "--client-key", metavar="FILE", rich_help_panel=SERVER, show_default=False,
        help="PEM file of its key, where the certificate's file does not hold it.",
    ),
]  # fmt: skip
InsecureFlag = Annotated[
    bool, typer.Option("--insecure", rich_help_panel=SERVER, help="Do not check the server's certificate.")
]
RateFlag = Annotated[
    float,
    typer.Option(
        "--rate", metavar="N", min=0.01, rich_help_panel=SERVER, help="Queries per second, at most."
    ),
]
SamplesFlag = Annotated[
    int,
    typer.Option(
        "--max-samples", metavar="N", min=1, rich_help_panel=SERVER,
        help="Series × points of one query, at most, where the number of series is known.",
    ),
]  # fmt: skip
TimeoutFlag = Annotated[
    str,
    typer.Option(
        "--timeout", metavar="TIME", rich_help_panel=SERVER,
        help="Longest time of one request, its whole answer included. A request that takes longer is asked "
        "again in halves, a busy server up to 6 times; pull ends after 6 requests of a kind in a row that "
        "were not answered in time, or 24 in all.",
    ),
]  # fmt: skip


def access(
    token_file: Path | None,
    user: str | None,
    password_file: Path | None,
    tenant: str | None,
    ca_file: Path | None,
    client_cert: Path | None,
    client_key: Path | None,
    insecure: bool,
) -> Access:
    """Return who asks, with the credentials read from their files or the environment.

    Raises
    ------
    UsageError
        For files that can't be read or hold no credential, and for two ways to be let in at once.
    """
    from hs_analysis.collect.access import Access

    token = _credential(token_file, "--token-file", "HSA_TOKEN")
    password = _credential(password_file, "--password-file", "HSA_PASSWORD")
    if token is not None and (user is not None or password is not None):
        raise UsageError(
            "both are given", where="the token and the user", hint="keep one: bearer or basic authentication"
        )
    return Access(
        token,
        user,
        password,
        tenant,
        path_text(ca_file),
        path_text(client_cert),
        path_text(client_key),
        insecure,
    )


def _credential(file: Path | None, flag: str, variable: str) -> Secret | None:
    from hs_analysis.collect.access import secret

    if file is not None:
        try:
            return secret(file.read_text("utf-8"), f"{flag} {file}")
        except OSError as error:
            raise UsageError(f"can't be read ({error.strerror})", where=f"{flag} {file}") from error
        except UnicodeDecodeError:
            raise UsageError("is no text", where=f"{flag} {file}") from None
    text = os.environ.get(variable)
    return secret(text, variable) if text else None


def shell_word(file: Path | None, variable: str) -> str | None:
    """Return the shell word that gives a credential when a command runs; the credential is not read."""
    if file is not None:
        return f"$(cat {shlex.quote(str(file.resolve()))})"
    return f"${variable}" if os.environ.get(variable) else None


def path_text(path: Path | None) -> str | None:
    """Return a path as text."""
    return None if path is None else str(path)
