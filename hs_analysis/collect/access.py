"""Who asks: credentials that never show, TLS files, tenant; and the address they go to."""

from __future__ import annotations

import base64
import re
import ssl
from dataclasses import dataclass
from functools import lru_cache
from urllib.parse import urlsplit

from hs_analysis.errors import UsageError

MASK = "***"

_API = re.compile(r"/api/v1(/.*)?$|/graph$|/-/(ready|healthy)$")
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


@dataclass(frozen=True)
class Access:
    """How to be let in.

    Attributes
    ----------
    token
        Bearer token.
    user, password
        Basic authentication.
    tenant
        Value of ``X-Scope-OrgID`` (Mimir, Cortex); several tenants are joined by ``|``.
    ca_file, client_cert, client_key
        PEM files.
    insecure
        Whether the server's certificate goes unchecked.
    """

    token: Secret | None = None
    user: str | None = None
    password: Secret | None = None
    tenant: str | None = None
    ca_file: str | None = None
    client_cert: str | None = None
    client_key: str | None = None
    insecure: bool = False

    @property
    def known(self) -> bool:
        """Whether there is anything to be known by."""
        return self.token is not None or self.user is not None or self.password is not None

    def headers(self) -> dict[str, str]:
        """Return the headers that say who asks."""
        found = {"X-Scope-OrgID": self.tenant} if self.tenant else {}
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
