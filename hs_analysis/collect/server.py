"""The client of a Prometheus API: one query at a time, patient when it is busy, silent about credentials."""

from __future__ import annotations

import http.client
import ssl
import urllib.error
import urllib.request
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.message import Message
from typing import IO, Any
from urllib.parse import urlencode, urlsplit

import hs_analysis
from hs_analysis.collect.access import Access, candidates
from hs_analysis.collect.answers import NotAnAnswerError, data_of, error_of
from hs_analysis.collect.pace import ATTEMPTS, LONGEST_RETRY_AFTER_S, Pace, backoff_s, retry_after_s
from hs_analysis.errors import ServerError

LONGEST_GET = 4_000
"""Longer parameters [characters] are sent as a form: proxies cut addresses at 8 KB or less."""

LARGEST_BODY = 256 * 1024 * 1024
"""A larger answer [bytes] is not held in memory: the query is split."""

_BUSY = ("maxConcurrentRequests", "too many outstanding requests")
"""What VictoriaMetrics' storage and Mimir's queue say when they have no room now, whatever the status."""

_STORE_GONE = (
    "code = Unavailable",
    "No StoreAPIs matched",
    "vmstorage nodes are unavailable",
    "cannot obtain connection from a pool",
)
"""What Thanos and VictoriaMetrics say when a store is gone and they may give no part: less is vain, too."""

_NO_PATH = "unsupported path"
"""What VictoriaMetrics says, with HTTP 400, where it serves no API."""

Parameters = Sequence[tuple[str, str]]


class TooManyPointsError(Exception):
    """The server wants fewer points per series: a shorter time range."""


class TooHeavyError(Exception):
    """The query is too much at once: too many samples, a timeout, a large answer; the text says which."""


class QueryError(ServerError):
    """One query can't be answered; others may be."""


class RefusedError(QueryError):
    """The server takes the query for wrong: it does not know such a one."""


class _BusyError(Exception):
    """Worth trying again: after ``pause_s`` where the server said so."""

    def __init__(self, text: str, pause_s: float | None = None) -> None:
        super().__init__(text)
        self.pause_s = pause_s


@dataclass(frozen=True)
class _Reply:
    status: int
    headers: Message
    body: bytes


@dataclass
class Server:
    """One server and who asks it.

    Attributes
    ----------
    base
        Address up to, without, ``/api/v1``.
    access
        Credentials and TLS.
    pace
        Spaces queries out.
    noted
        Told about waits; never a credential.
    timeout_s
        Longest silence of the server [s].
    """

    base: str
    access: Access
    pace: Pace
    noted: Callable[[str], None]
    timeout_s: float = 120.0

    def __post_init__(self) -> None:
        self._open = urllib.request.build_opener(
            urllib.request.HTTPSHandler(context=self.access.tls()), _SameOrigin()
        ).open

    def located(self) -> Server:
        """Return the server at the address where its API answers.

        Raises
        ------
        ServerError
            When it answers nowhere; speaks of the address as it was given.
        """
        first: ServerError | None = None
        for base in candidates(self.base):
            there = Server(base, self.access, self.pace, self.noted, self.timeout_s)
            try:
                there.data("query", [("query", "1")])
            except _NoApiError as error:
                first = first or error
            else:
                return there
        raise first or self._error("does not answer")

    def data(self, what: str, parameters: Parameters) -> Any:
        """Return ``data`` of a small query, decoded."""
        body = self.get(what, parameters)
        try:
            return data_of(body)
        except NotAnAnswerError as error:
            raise self._no_api(str(error)) from None

    def get(self, what: str, parameters: Parameters) -> bytes:
        """Return the body of a successful query; a busy server is asked again.

        Raises
        ------
        TooManyPointsError, TooHeavyError
            When less should be asked for at once.
        ServerError
            When it can't be had.
        """
        for attempt in range(1, ATTEMPTS + 1):
            self.pace.wait()
            try:
                return self._checked(self._once(what, parameters))
            except _BusyError as busy:
                if attempt == ATTEMPTS:
                    raise self._error(f"{busy}, {ATTEMPTS} times") from None
                wait = busy.pause_s or backoff_s(attempt)
                if wait > LONGEST_RETRY_AFTER_S:
                    raise self._error(f"{busy}; it asks to come back in {wait:.0f} s", "try then") from None
                self.noted(f"{busy}: asking again in {wait:.0f} s")
                self.pace.sleep(wait)
        raise AssertionError("the last attempt returns or raises")

    def _once(self, what: str, parameters: Parameters) -> _Reply:
        request = self._request(f"{self.base}/api/v1/{what}", urlencode(list(parameters)))
        try:
            with self._open(request, timeout=self.timeout_s) as reply:
                return _Reply(reply.status, reply.headers, _whole(reply, reply.headers))
        except urllib.error.HTTPError as error:
            with error:
                return _Reply(error.code, error.headers, _whole(error, error.headers))
        except urllib.error.URLError as error:
            raise self._unreachable(error.reason) from None
        except TimeoutError:
            raise TooHeavyError(f"no answer within {self.timeout_s:.0f} s") from None
        except (http.client.HTTPException, ConnectionError, zlib.error) as error:
            # `from None`: what the library holds of a request includes its headers.
            raise _BusyError(f"the connection broke ({type(error).__name__})") from None
        except OSError as error:  # TLS 1.3 tells a client only now that it wanted a certificate
            raise self._unreachable(error) from None

    def _request(self, address: str, query: str) -> urllib.request.Request:
        post = len(query) > LONGEST_GET
        request = urllib.request.Request(  # noqa: S310 - base_url lets only http and https pass
            address if post else f"{address}?{query}", data=query.encode() if post else None
        )
        request.add_header("Accept-Encoding", "gzip")
        request.add_header("User-Agent", f"hs-analysis/{hs_analysis.__version__}")
        for name, value in self.access.headers().items():
            request.add_unredirected_header(name, value)
        return request

    def _checked(self, reply: _Reply) -> bytes:
        """Return the body of a success; raise what the status asks for."""
        if reply.status == 200:
            return reply.body
        kind, text = error_of(reply.body)
        text = self.access.masked(text)[:300]
        if reply.status in (401, 403):
            raise self._refused(reply.status, text)
        if 300 <= reply.status < 400:
            raise self._redirected(reply)
        if reply.status == 404 and not kind:
            raise self._no_api(f"no API there (HTTP 404, {text})")
        if reply.status == 400 and not kind and _NO_PATH in text:
            raise self._no_api(
                f"no API at this path (HTTP 400, {_NO_PATH})", "a VictoriaMetrics cluster has it below "
                "/select/0/prometheus",
            )  # fmt: skip
        if any(word in text for word in _STORE_GONE):
            raise QueryError(
                "a store did not answer, and the server gives no part of its data "
                f"(HTTP {reply.status}: {text})",
                where=self.base, hint="ask again when every store is up",
            )  # fmt: skip
        if "maximum resolution" in text or "query length" in text or "time range exceeds" in text:
            raise TooManyPointsError(text)
        busy = any(word in text for word in _BUSY)
        if not busy and (reply.status in (408, 413, 422, 504) or kind in ("timeout", "execution")):
            raise TooHeavyError(f"HTTP {reply.status}: {text}")
        if busy or reply.status == 429 or reply.status >= 500:
            pause = retry_after_s(reply.headers.get("Retry-After"), datetime.now(UTC))
            raise _BusyError(f"the server is busy (HTTP {reply.status})", pause)
        raise RefusedError(
            f"the server refused the query (HTTP {reply.status}, {kind or 'error'}: {text})", where=self.base
        )

    def _refused(self, status: int, text: str) -> ServerError:
        if "org id" in text.lower():
            return self._error(f"the server wants a tenant (HTTP {status})", "give --tenant")
        if self.access.known:
            return self._error(
                f"the server refused the credentials (HTTP {status})", "check the token or the password"
            )
        return self._error(
            f"the server wants credentials (HTTP {status})", "give HSA_TOKEN, or HSA_USER and HSA_PASSWORD"
        )

    def _redirected(self, reply: _Reply) -> ServerError:
        host = urlsplit(reply.headers.get("Location", "")).netloc.rpartition("@")[2] or "elsewhere"
        return self._error(
            f"the server sends on to {host}, where credentials would leak",
            "give the final address with --url, or a token that spares the login page",
        )

    def _unreachable(self, reason: object) -> ServerError:
        if isinstance(reason, ssl.SSLCertVerificationError):
            return self._error(
                f"its certificate is not trusted ({reason.verify_message})",
                "name its authority with --ca-file",
            )
        if isinstance(reason, ssl.SSLError):
            return self._error(
                f"TLS failed ({reason.reason or 'unknown reason'})",
                "check http or https in --url, and --client-cert where one is wanted",
            )
        if isinstance(reason, TimeoutError):
            return self._error("can't be reached (timed out)", "check --url")
        if isinstance(reason, ConnectionResetError | BrokenPipeError):
            raise _BusyError("the connection broke")
        text = reason.strerror if isinstance(reason, OSError) and reason.strerror else str(reason)
        return self._error(f"can't be reached ({self.access.masked(text)})", "check --url, and that it runs")

    def _no_api(
        self, what: str, hint: str = "check --url; behind a login page a token is needed"
    ) -> _NoApiError:
        return _NoApiError(f"is no Prometheus API: {self.access.masked(what)}", where=self.base, hint=hint)

    def _error(self, what: str, hint: str = "") -> ServerError:
        return ServerError(what, where=self.base, hint=hint)


class _NoApiError(ServerError):
    """Something answers, but it is not the API."""


class _SameOrigin(urllib.request.HTTPRedirectHandler):
    """Follows redirects that stay on the server; others are not followed: credentials would go along."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        """Return the next request, with its credentials, or None for another server's."""
        here, there = urlsplit(req.full_url), urlsplit(newurl)
        if (here.scheme, here.netloc) != (there.scheme, there.netloc) or req.data is not None:
            return None
        following = super().redirect_request(req, fp, code, msg, headers, newurl)
        if following is not None:
            for name, value in req.unredirected_hdrs.items():
                if name in ("Authorization", "X-scope-orgid"):
                    following.add_unredirected_header(name, value)
        return following


def _whole(stream: Any, headers: Message) -> bytes:
    """Return a body, decompressed.

    Raises
    ------
    TooHeavyError
        When it is larger than memory should hold.
    http.client.IncompleteRead
        When less arrived than was promised.
    """
    unzip = zlib.decompressobj(31) if headers.get("Content-Encoding") == "gzip" else None
    promised = headers.get("Content-Length")
    parts: list[bytes] = []
    size = received = 0
    while block := stream.read(1 << 20):
        received += len(block)
        parts.append(unzip.decompress(block) if unzip else block)
        size += len(parts[-1])
        if size > LARGEST_BODY:
            raise TooHeavyError(f"the answer is larger than {LARGEST_BODY >> 20} MiB")
    # Reading in blocks, the library takes a connection that closes early for the end.
    if (unzip and not unzip.eof) or (promised and received < int(promised)):
        raise http.client.IncompleteRead(b"")
    return b"".join(parts)
