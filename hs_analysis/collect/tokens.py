"""Credentials that are made when they are needed: a command's token, an AWS signature over each request.

Both go stale during a long pull. What they made is remembered, so that it can be masked.
"""

from __future__ import annotations

import json
import shlex
import subprocess
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from hs_analysis.collect.access import Secret, secret
from hs_analysis.errors import HsError, UsageError

COMMAND_TIMEOUT_S = 60.0
"""Longest time a token's command may take [s]: a login that waits for a browser never ends by itself."""

EXPIRY_MARGIN_S = 60.0
"""A token is asked for anew so long before it expires [s]: the request that carries it takes time, too."""

_TOKEN_KEYS = ("access_token", "accessToken", "token")
"""Where JSON has the token: OAuth 2 (RFC 6749 §5.1), the Azure CLI, a Kubernetes ExecCredential."""

_EXPIRY_KEYS = ("expires_on", "expirationTimestamp", "expiresOn", "expiry")
"""Where it says when the token ends: Unix seconds or ISO 8601, local where it has no zone (Azure CLI)."""

AWS_EXTRA = "pip install hs-analysis[aws]"
"""What brings botocore."""

_FLAG = "--token-command"


@dataclass
class TokenCommand:
    """A program that prints a bearer token, run without a shell when one is needed.

    The token is kept until its stated expiry or until the server says 401. The program may print the token
    alone, or JSON as OAuth 2 servers, the Azure CLI and Kubernetes credential plug-ins do.

    Parameters
    ----------
    words
        Program and arguments.
    clock
        The time [Unix s]; from outside, so that tests do not wait.
    """

    words: tuple[str, ...]
    clock: Callable[[], float] = time.time
    _token: Secret | None = field(default=None, init=False)
    _ends_s: float | None = field(default=None, init=False)
    _given: dict[Secret, None] = field(default_factory=dict, init=False)

    hint = "check that the command of --token-command gives a token for this server"

    def __repr__(self) -> str:
        # The arguments may hold a secret: another program's, so that nobody here knows it.
        return f"TokenCommand({Path(self.words[0]).name})"

    @classmethod
    def of(cls, text: str) -> TokenCommand:
        """Return the command of a flag's text, split into words as a shell would.

        Raises
        ------
        UsageError
            For no words, or a quote that is not closed.
        """
        try:
            words = tuple(shlex.split(text))
        except ValueError:
            raise UsageError("has a quote that is not closed", where=_FLAG) from None
        if not words:
            raise UsageError(
                "names no command", where=_FLAG, hint="write e.g. 'gcloud auth print-access-token'"
            )
        return cls(words)

    def headers(self, *_request: object) -> dict[str, str]:
        """Return the header that carries the token, whatever the request.

        Raises
        ------
        HsError
            When the command gives none; it may another time, so that this is no wrong usage.
        UsageError
            When it can't be run.
        """
        if self._token is None or (self._ends_s is not None and self.clock() >= self._ends_s):
            asked_s = self.clock()
            self._token, self._ends_s = _token_of(self._printed(), asked_s)
            self._given[self._token] = None
        return {"Authorization": f"Bearer {self._token.reveal()}"}

    def renew(self) -> bool:
        """Forget the token, since the server refused it; True: another one can be had."""
        self._token = None
        return True

    def secrets(self) -> list[str]:
        """Return all tokens so far: a server may still quote an older one."""
        return [one.reveal() for one in self._given]

    def _printed(self) -> str:
        """Return what the command prints; what it says on stderr may quote a secret and is not repeated."""
        program = Path(self.words[0]).name
        again = "run it by hand to see what it says"
        try:
            done = subprocess.run(  # noqa: S603 - the user's own command; no shell reads it
                self.words, stdin=subprocess.DEVNULL, capture_output=True, timeout=COMMAND_TIMEOUT_S,
                check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            text = f"{program} did not end within {COMMAND_TIMEOUT_S:g} s"
            raise HsError(text, where=_FLAG, hint="log in first: nobody can answer its questions") from None
        except OSError as error:
            why = error.strerror or "unknown reason"
            hint = "name a program on PATH; the line is not read by a shell"
            raise UsageError(f"{program} can't be run ({why})", where=_FLAG, hint=hint) from None
        if done.returncode:
            raise HsError(f"{program} ended with exit code {done.returncode}", where=_FLAG, hint=again)
        # Bytes that are no text are refused with the credential, by what no header carries.
        return done.stdout.decode("utf-8", "replace")


def _token_of(printed: str, asked_s: float) -> tuple[Secret, float | None]:
    """Return the token that a command printed, and when to ask again [Unix s]; None where it says no time."""
    if not printed.lstrip().startswith("{"):
        return _credential(printed), None
    found: Any = None
    with suppress(ValueError):  # such an error would hold what was printed
        found = json.loads(printed)
    if not isinstance(found, dict):
        raise HsError("prints damaged JSON", where=_FLAG, hint="print the token alone")
    if isinstance(found.get("status"), dict):
        found = found["status"]
    text = next((found[key] for key in _TOKEN_KEYS if isinstance(found.get(key), str)), None)
    if text is None:
        raise HsError(
            "prints JSON without a token", where=_FLAG,
            hint=f"it must hold one of {', '.join(_TOKEN_KEYS)}; or print the token alone",
        )  # fmt: skip
    ends_s = _ends_s(found, asked_s)
    return _credential(text), None if ends_s is None else ends_s - EXPIRY_MARGIN_S


def _credential(text: str) -> Secret:
    try:
        return secret(text, f"the output of {_FLAG}")
    except UsageError as error:  # the program's fault, not the flag's: another time it may do
        raise HsError(error.what, where=error.where, hint=error.hint) from None


def _ends_s(found: Mapping[str, Any], asked_s: float) -> float | None:
    """Return when a token ends [Unix s]; None where that is not said, or in no known form."""
    for key in ("expires_in", *_EXPIRY_KEYS):
        text = str(found.get(key, ""))
        try:
            return float(text) + (asked_s if key == "expires_in" else 0.0)
        except ValueError:
            pass
        try:
            return datetime.fromisoformat(text).timestamp()
        except (ValueError, OverflowError):
            continue
    return None


_ACTIONS = {
    "aps": "aps:QueryMetrics, aps:GetSeries and aps:GetLabels",
    "monitoring": "cloudwatch:GetMetricData and cloudwatch:ListMetrics",
}
"""Service that is signed for → what a role must allow."""


@dataclass
class AwsSignature:
    """Signs each request by AWS Signature Version 4, as Amazon Managed Service for Prometheus asks.

    Keys come from where the AWS tools have them (environment, profile, web identity, container, instance) and
    are renewed there. What a proxy may change (`User-Agent`, `Accept-Encoding`) is not signed.

    Parameters
    ----------
    region, service
        What the signature is for.
    """

    region: str
    service: str = "aps"
    _keys: Any = field(default=None, init=False, repr=False)
    _given: dict[Secret, None] = field(default_factory=dict, init=False)

    @property
    def hint(self) -> str:
        """What to check when the server refuses it."""
        needed = _ACTIONS.get(self.service, "")
        return "check region, clock and role" + (f": it needs {needed}" if needed else "")

    def __post_init__(self) -> None:
        try:
            from botocore.session import Session
        except ImportError:
            raise UsageError(
                "needs the extra aws, which is not installed", where="--sigv4-region", hint=AWS_EXTRA
            ) from None
        self._keys = self._had(Session().get_credentials)
        if self._keys is None:
            raise HsError(
                "finds no AWS credentials", where="--sigv4-region",
                hint="set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or run under a role",
            )  # fmt: skip

    def headers(self, method: str, url: str, body: bytes, sent: Mapping[str, str]) -> dict[str, str]:
        """Return the headers that sign a request to which ``sent`` are added unchanged.

        Raises
        ------
        HsError
            When the keys can't be had or renewed.
        """
        from botocore.auth import SigV4Auth
        from botocore.awsrequest import AWSRequest

        keys = self._had(self._keys.get_frozen_credentials)
        self._given |= {Secret(text): None for text in (keys.secret_key, keys.token) if text}
        request = AWSRequest(method, url, headers=dict(sent), data=body)
        SigV4Auth(keys, self.service, self.region).add_auth(request)
        return {name: value for name, value in request.headers.items() if name not in sent}

    def renew(self) -> bool:
        """Whether a request that was refused with 401 is signed again: no, the keys would be the same."""
        return False

    def secrets(self) -> list[str]:
        """Return the secret keys and session tokens so far."""
        return [one.reveal() for one in self._given]

    def _had(self, ask: Callable[[], Any]) -> Any:
        """Return what botocore gives; its words on a failure may quote another program and are left out."""
        from botocore.exceptions import BotoCoreError

        try:
            return ask()
        except BotoCoreError as error:
            raise HsError(
                f"can't get the AWS credentials ({type(error).__name__})", where="--sigv4-region",
                hint="aws sts get-caller-identity shows whether the profile or role works",
            ) from None  # fmt: skip
