"""Who asks: credentials that never show, TLS files, tenant; and the address they go to."""

from __future__ import annotations

import base64
import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol
from urllib.parse import urlsplit

from hs_analysis.errors import UsageError

MASK = "***"

TENANT_HEADER = "X-Scope-OrgID"
"""Header that names a tenant to Mimir, Cortex and Grafana Cloud; Thanos has THANOS-TENANT."""

_API = re.compile(r"/api/v1(/.*)?$|/graph$|/-/(ready|healthy)$")
_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f]|[^\x00-\xff]")


class Secret:
    """A text that shows itself only to who asks by name: never in a repr, a message or a traceback."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def __repr__(self) -> str:
        return MASK

    __str__ = __repr__

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self._text == other._text

    def __hash__(self) -> int:
        return hash(self._text)

    def __reduce__(self) -> str:
        raise TypeError("a secret is not written anywhere")

    def reveal(self) -> str:
        """Return the text, to send it and for nothing else."""
        return self._text


def secret(text: str, origin: str) -> Secret:
    """Return a credential without the blanks around it.

    Raises
    ------
    UsageError
        When nothing is left, or it holds what no HTTP header carries; ``origin`` is named, never the text.
    """
    word = text.strip()
    if not word:
        raise UsageError("holds no credential", where=origin, hint="check what was written there")
    if _UNPRINTABLE.search(word):
        raise UsageError(
            "is no credential: it holds line breaks or characters no header carries",
            where=origin,
            hint="it must be one line of text",
        )
    return Secret(word)


class Proof(Protocol):
    """What lets in and is made anew when needed."""

    @property
    def hint(self) -> str:
        """What to do when the server refuses it."""

    def headers(self, method: str, url: str, body: bytes, sent: Mapping[str, str], /) -> dict[str, str]:
        """Return the headers for a request with the headers ``sent``."""

    def renew(self) -> bool:
        """Return whether another try may help after a 401."""

    def secrets(self) -> list[str]:
        """Return what must not show."""


@dataclass(frozen=True)
class Access:
    """How to be let in.

    Attributes
    ----------
    token
        Bearer token.
    user, password
        Basic authentication.
    proof
        Makes a token or a signature, in place of the three above.
    tenant, tenant_header
        Whose data, and the header that says it; Mimir takes several tenants joined by ``|``.
    ca_file, client_cert, client_key
        PEM files.
    insecure
        Whether the server's certificate goes unchecked.
    """

    token: Secret | None = None
    user: str | None = None
    password: Secret | None = None
    proof: Proof | None = None
    tenant: str | None = None
    tenant_header: str = TENANT_HEADER
    ca_file: str | None = None
    client_cert: str | None = None
    client_key: str | None = None
    insecure: bool = False

    @property
    def known(self) -> bool:
        """Whether there is anything to be known by."""
        return any(one is not None for one in (self.token, self.user, self.password, self.proof))

    def headers(self, method: str = "GET", url: str = "", body: bytes = b"") -> dict[str, str]:
        """Return the headers that say who asks, for a request to which nothing is changed any more."""
        found = {self.tenant_header: self.tenant} if self.tenant else {}
        if body:
            found["Content-Type"] = "application/x-www-form-urlencoded"
        if self.proof is not None:
            return found | self.proof.headers(method, url, body, found)
        if self.token is not None:
            found["Authorization"] = f"Bearer {self.token.reveal()}"
        elif self.known:
            found["Authorization"] = f"Basic {self._basic()}"
        return found

    def _basic(self) -> str:
        pair = f"{self.user or ''}:{self.password.reveal() if self.password else ''}"
        return base64.b64encode(pair.encode()).decode()

    def masked(self, text: str) -> str:
        """Return a text in which no credential stands: servers and proxies quote what they were sent."""
        for word in self._secrets():
            text = text.replace(word, MASK)
        return text

    def _secrets(self) -> list[str]:
        found = [one.reveal() for one in (self.token, self.password) if one is not None]
        found += self.proof.secrets() if self.proof else []
        return sorted([*found, self._basic()] if self.password else found, key=len, reverse=True)

    def shows_in(self, body: bytes) -> bool:
        """Whether a body quotes a credential; short ones and numbers occur by chance and do not count."""
        return any(
            word.encode("utf-8") in body for word in self._secrets() if len(word) >= 8 and not word.isdigit()
        )

    def tls(self) -> ssl.SSLContext:
        """Return the TLS settings, one context for all servers that are asked the same way.

        Raises
        ------
        UsageError
            For files that are missing or hold no certificate or key.
        """
        return _tls(self.ca_file, self.client_cert, self.client_key, self.insecure)


@lru_cache(maxsize=8)
def _tls(
    ca_file: str | None, client_cert: str | None, client_key: str | None, insecure: bool
) -> ssl.SSLContext:
    """Return a context; made once, because the system's certificates take longer to load than to ask with."""
    try:
        context = ssl.create_default_context(cafile=ca_file)
    except OSError as error:
        raise _unreadable(error, ca_file or "", "--ca-file") from error
    if insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if client_cert:
        try:
            # An empty password: an encrypted key is an error, not a question on the terminal.
            context.load_cert_chain(client_cert, client_key, password="")
        except OSError as error:
            raise _unreadable(error, client_cert, "--client-cert and --client-key") from error
    return context


def _unreadable(error: OSError, path: str, flag: str) -> UsageError:
    why = "holds no usable PEM text" if isinstance(error, ssl.SSLError) else error.strerror or "can't be read"
    return UsageError(why, where=f"{flag} {path}", hint="name PEM files; keys without a passphrase")


def header_name(text: str) -> str:
    """Return a header's name.

    Raises
    ------
    UsageError
        For what is none (RFC 9110 §5.1), and for the header that carries credentials.
    """
    if not _HEADER_NAME.fullmatch(text) or text.lower() in ("authorization", "host", "content-type"):
        raise UsageError(
            f"is no header for a tenant: {text[:60]!r}", where="--tenant-header",
            hint=f"write e.g. {TENANT_HEADER} or THANOS-TENANT",
        )  # fmt: skip
    return text


def base_url(url: str) -> str:
    """Return the address of a server's API without ``/api/v1/…``, a trailing slash, or a page's path.

    Raises
    ------
    UsageError
        For what is no http(s) address, or holds a password or a query; what stands there is not repeated.
    """
    try:
        parts = urlsplit(url.strip())
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise UsageError("is no address", where="--url", hint="write e.g. http://localhost:9090") from error
    if parts.scheme not in ("http", "https") or not host:
        raise UsageError("is no http address", where="--url", hint="write e.g. http://localhost:9090")
    if "@" in parts.netloc:
        raise UsageError(
            "holds credentials, which would stay in the shell's history",
            where="--url",
            hint="take them out; give HSA_USER and HSA_PASSWORD, or --user and --password-file",
        )
    path = parts.path.rstrip("/")
    api = _API.search(path)
    if (parts.query or parts.fragment) and not (api and path.endswith(("/query", "/query_range", "/graph"))):
        raise UsageError(
            "holds a query after the path", where="--url", hint="give the address of the server alone"
        )
    return f"{parts.scheme}://{parts.netloc}{_API.sub('', path)}"


def candidates(base: str) -> tuple[str, ...]:
    """Return where the API may be: as given, then with the prefix of Mimir and of proxies, then without."""
    stripped = base.removesuffix("/prometheus")
    return (base, stripped if stripped != base else f"{base}/prometheus")
