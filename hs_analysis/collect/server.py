"""The client of a Prometheus API: one bounded exchange at a time, patient, silent about credentials.

Redirects are not followed here: who asks decides where credentials go.
"""

from __future__ import annotations

import http.client
import io
import math
import socket
import ssl
import time
import urllib.error
import urllib.request
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.message import Message
from email.utils import parsedate_to_datetime
from functools import partial
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote, urlencode, urljoin, urlsplit

import hs_analysis
from hs_analysis.collect.access import Access, candidates
from hs_analysis.collect.answers import NotAnAnswerError, TooManySeriesError, data_of, error_of
from hs_analysis.collect.backends import PROMETHEUS, Backend
from hs_analysis.errors import HsError, ServerError

BLOCK = 1 << 16
"""Bytes read at once: the time is looked at after each."""

LARGEST_REFUSAL = 1 << 20
"""Bytes that are read of an answer that is an error or a redirect; the text of the error is at its start."""


class TooLargeError(Exception):
    """The answer, unpacked, is larger than was allowed."""


@dataclass(frozen=True)
class Reply:
    """Status, headers, and the body, unpacked."""

    status: int
    headers: Message
    body: bytes


class Wire:
    """Sends requests, one at a time, each to the server of its address or the proxy of the environment.

    Parameters
    ----------
    tls
        TLS settings; all of its connections become ones that keep a time limit.
    """

    def __init__(self, tls: ssl.SSLContext) -> None:
        self._deadline = _Deadline()
        tls.sslsocket_class = _TlsSocket
        self._open = urllib.request.build_opener(
            _Http(self._deadline), _Https(self._deadline, tls), _NoRedirects()
        ).open

    def exchange(self, request: urllib.request.Request, timeout_s: float, most: int) -> Reply:
        """Return the reply to a request, whatever its status.

        Parameters
        ----------
        request
            What is sent.
        timeout_s
            Longest time of the whole exchange [s]; looking a name up is the system's and comes on top.
        most
            Most bytes of the body, unpacked.

        Raises
        ------
        TimeoutError
            When it is not over in time.
        TooLargeError
            When the body of a success holds more than ``most`` bytes.
        http.client.HTTPException, OSError, zlib.error
            When the exchange breaks; less than promised is ``IncompleteRead``.
        """
        self._deadline.starts(timeout_s)
        try:
            with self._open(request, timeout=timeout_s) as stream:
                return Reply(stream.status, stream.headers, _whole(stream, stream.headers, most))
        except urllib.error.HTTPError as error:
            with error:
                return Reply(error.code, error.headers, _start(error, error.headers))


class _Deadline:
    """When the exchange under way must be over."""

    def __init__(self) -> None:
        self._ends = 0.0

    def starts(self, timeout_s: float) -> None:
        self._ends = time.monotonic() + timeout_s

    def left(self) -> float:
        """Return the time left [s]; raise TimeoutError when there is none."""
        left = self._ends - time.monotonic()
        if left <= 0:
            raise TimeoutError("timed out")
        return left


class _Socket(socket.socket):
    """A connection that waits no longer than the exchange may last, however slowly its bytes come."""

    deadline: _Deadline | None = None

    def recv_into(self, *arguments: Any, **more: Any) -> int:
        if self.deadline is not None:
            self.settimeout(self.deadline.left())
        return super().recv_into(*arguments, **more)


class _TlsSocket(ssl.SSLSocket):
    """The same over TLS."""

    deadline: _Deadline | None = None

    def recv_into(self, *arguments: Any, **more: Any) -> int:
        if self.deadline is not None:
            self.settimeout(self.deadline.left())
        return super().recv_into(*arguments, **more)


def _connected(deadline: _Deadline, *arguments: Any, **more: Any) -> _Socket:
    found = socket.create_connection(*arguments, **more)
    timed = _Socket(found.family, found.type, found.proto, fileno=found.detach())
    timed.deadline = deadline
    try:
        timed.settimeout(deadline.left())
    except OSError:  # the time was over when the connection stood
        timed.close()
        raise
    return timed


class _Connection(http.client.HTTPConnection):
    def __init__(self, *arguments: Any, deadline: _Deadline, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self._create_connection = partial(_connected, deadline)


class _TlsConnection(http.client.HTTPSConnection):
    def __init__(self, *arguments: Any, deadline: _Deadline, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self._deadline = deadline
        self._create_connection = partial(_connected, deadline)

    def connect(self) -> None:
        super().connect()
        if isinstance(self.sock, _TlsSocket):
            self.sock.deadline = self._deadline


class _Http(urllib.request.HTTPHandler):
    def __init__(self, deadline: _Deadline) -> None:
        super().__init__()
        self._kind = partial(_Connection, deadline=deadline)

    def http_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(self._kind, req)


class _Https(urllib.request.HTTPSHandler):
    def __init__(self, deadline: _Deadline, tls: ssl.SSLContext) -> None:
        super().__init__(context=tls)
        self._kind = partial(_TlsConnection, deadline=deadline, context=tls)

    def https_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(self._kind, req)


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """Leaves a redirect as it is: the library would read its body whole and send what it was given along."""

    def _stays(self, *_redirect: Any, **_more: Any) -> None:
        return None

    http_error_301 = http_error_302 = http_error_303 = http_error_307 = http_error_308 = _stays


def _whole(stream: Any, headers: Message, most: int) -> bytes:
    """Return a body, unpacked.

    Raises
    ------
    TooLargeError
        When it is larger than ``most``; not much more of it than that was held.
    http.client.IncompleteRead
        When less arrived than was promised.
    """
    unzip = _unzipper(headers)
    body = io.BytesIO()
    received = 0
    while block := stream.read1(BLOCK):
        received += len(block)
        for piece in _unpacked(unzip, block) if unzip else (block,):
            body.write(piece)
            if body.tell() > most:
                raise TooLargeError(most)
        if unzip and unzip.eof:
            return body.getvalue()
    # Reading in blocks, the library takes a connection that closes early for the end.
    if unzip or received < _promised(headers):
        raise http.client.IncompleteRead(b"")
    return body.getvalue()


def _unpacked(unzip: Any, packed: bytes) -> Iterator[bytes]:
    """Yield what packed bytes hold, a block at a time: 64 KB of them can be 64 MB."""
    while packed:
        yield unzip.decompress(packed, BLOCK)
        packed = unzip.unconsumed_tail


def _unzipper(headers: Message) -> Any:
    packed = headers.get("Content-Encoding", "").strip().lower() in ("gzip", "x-gzip")
    return zlib.decompressobj(31) if packed else None


def _start(stream: Any, headers: Message) -> bytes:
    """Return the start of a body that explains a refusal, unpacked as far as it can be."""
    unzip = _unzipper(headers)
    body = bytearray()
    with suppress(zlib.error):
        while len(body) < LARGEST_REFUSAL and (block := stream.read1(BLOCK)):
            body += unzip.decompress(block, LARGEST_REFUSAL) if unzip else block
            if unzip and unzip.eof:
                break
    return bytes(body[:LARGEST_REFUSAL])


def _promised(headers: Message) -> int:
    """Return how many bytes were promised; none where that is no number."""
    text = headers.get("Content-Length", "").strip()
    return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else 0


ATTEMPTS = 6
"""How often one query is tried while the server is busy or failing."""

FIRST_WAIT_S, LONGEST_WAIT_S = 1.0, 60.0
"""Waits double from the first to the longest [s]: with six attempts about half a minute in all."""

LONGEST_RETRY_AFTER_S = 600.0
"""A server that asks for longer pauses in all, before it answers one query, is taken as down [s]."""


@dataclass
class Pace:
    """Spaces queries out.

    ``queries_per_s`` is the highest rate; ``clock`` [s] and ``sleep`` [s] come from outside, so that tests
    do not wait.
    """

    queries_per_s: float
    clock: Callable[[], float]
    sleep: Callable[[float], None]
    _next: float = field(default=0.0, init=False)

    def wait(self) -> None:
        """Wait until the next query may start."""
        now = self.clock()
        if now < self._next:
            self.sleep(self._next - now)
            now = self._next
        self._next = now + 1.0 / self.queries_per_s


def backoff_s(attempt: int) -> float:
    """Return the wait before attempt number ``attempt`` + 1, counted from 1 [s]."""
    return float(min(FIRST_WAIT_S * 2 ** (attempt - 1), LONGEST_WAIT_S))


def retry_after_s(header: str | None, now: datetime) -> float | None:
    """Return the pause that a Retry-After header asks for [s]: seconds or an HTTP date; None when neither."""
    if header is None:
        return None
    try:
        seconds = float(header)
    except ValueError:
        try:
            seconds = (parsedate_to_datetime(header) - now).total_seconds()
        except (ValueError, TypeError, OverflowError):
            return None
    return max(seconds, 0.0) if math.isfinite(seconds) else None


LONGEST_GET = 4_000
"""Longer parameters [characters] are sent as a form: proxies cut addresses at 8 KB or less."""

LARGEST_BODY = 48 << 20
"""A larger answer [bytes, unpacked] is not held in memory: the query is split. A million samples are about
30 MB; parsed, the densest answer that is read takes six times its length more, 0.4 GB in all."""

MOST_SILENT = 6
"""After so many requests of one kind in a row that were not answered in time, the server is taken as down."""

MOST_SILENT_IN_ALL = 24
"""As much after so many in all, where they are more than a quarter of what was answered: a server that gives
only crumbs in time is asked for a week of them otherwise."""

MOST_REDIRECTS = 5
"""A request is sent on at most this often."""

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
Read = TypeVar("Read")


class TooManyPointsError(Exception):
    """The server wants fewer points per series: a shorter time range."""


class TooHeavyError(Exception):
    """The query is too much at once: too many samples, a timeout, a large answer; the text says which."""


class SilentError(TooHeavyError):
    """The query was not answered in time."""


class QueryError(ServerError):
    """One query can't be answered; others may be."""


class RefusedError(QueryError):
    """The server takes the query for wrong: it does not know such a one."""


class _BusyError(Exception):
    """Worth trying again: after ``pause_s`` where the server said so."""

    def __init__(self, text: str, pause_s: float | None = None) -> None:
        super().__init__(text)
        self.pause_s = pause_s


@dataclass
class PrometheusServer:
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
    backend
        Which kind it is: what is sent with each request, and how lists are asked for.
    """

    base: str
    access: Access
    pace: Pace
    noted: Callable[[str], None]
    timeout_s: float = 120.0
    backend: Backend = PROMETHEUS
    _silent: dict[str, int] = field(default_factory=dict, init=False)
    _late_in_all: int = field(default=0, init=False)
    _answered_in_all: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        self._wire = Wire(self.access.tls())

    def located(self) -> PrometheusServer:
        """Return the server at the address where its API answers.

        Raises
        ------
        ServerError
            When it answers nowhere; speaks of the address as it was given.
        """
        first: ServerError | None = None
        for base in candidates(self.base):
            there = PrometheusServer(base, self.access, self.pace, self.noted, self.timeout_s, self.backend)
            try:
                there._answered("query", [("query", "1")], data_of)
            except (TooHeavyError, TooManyPointsError) as error:
                raise there._error(
                    f"does not answer the query 1 ({there.access.masked(str(error))})",
                    "check --url, or give a longer --timeout",
                ) from None
            except NotAnAnswerError as error:
                first = first or there._no_api(str(error))
            except _NoApiError as error:
                first = first or error
            else:
                return there
        raise first or self._error("does not answer")

    def ask(self, what: str, parameters: Parameters, read: Callable[[bytes], Read]) -> Read:
        """Return what ``read`` makes of the answer to a query; a busy server is asked again.

        Everything a server can answer passes here: what can't be read as an answer, and what nobody expected
        of one, is the one line of a QueryError.

        Raises
        ------
        TooManyPointsError, TooHeavyError
            When less should be asked for at once.
        QueryError
            When this query can't be had.
        ServerError
            When the server can't be had.
        """
        try:
            return self._answered(what, parameters, read)
        except NotAnAnswerError as error:
            raise QueryError(
                f"the answer to {_query_text(what, parameters)} is {self.access.masked(str(error))}",
                where=self.base, hint="ask again; a proxy may have cut or changed it",
            ) from None  # fmt: skip

    def silence(self, what: str) -> int:
        """Return how many queries of a kind in a row were not answered in time, the last one included."""
        return self._silent.get(what, 0)

    def _answered(self, what: str, parameters: Parameters, read: Callable[[bytes], Read]) -> Read:
        waited = 0.0
        for attempt in range(1, ATTEMPTS + 1):
            self.pace.wait()
            try:
                return self._netted(what, parameters, read)
            except _BusyError as busy:
                if attempt == ATTEMPTS:
                    raise self._error(f"{busy}, {ATTEMPTS} times") from None
                wait = busy.pause_s or backoff_s(attempt)
                waited += wait
                if waited > LONGEST_RETRY_AFTER_S:
                    raise self._error(f"{busy}; it asks to come back in {wait:.0f} s", "try then") from None
                self.noted(f"{busy}: asking again in {wait:.0f} s")
                self.pace.sleep(wait)
        raise AssertionError("the last attempt returns or raises")

    def _netted(self, what: str, parameters: Parameters, read: Callable[[bytes], Read]) -> Read:
        """Send one request and read its answer; whatever goes wrong is an error that is caught by name."""
        try:
            body = self._checked(self._once(what, parameters))
            return read(body)
        except (HsError, NotAnAnswerError, TooHeavyError, TooManyPointsError, _BusyError):
            raise
        except (TooManySeriesError, MemoryError) as error:
            raise TooHeavyError(str(error) or "the answer does not fit into memory") from None
        except Exception as error:
            # `from None`: what the library holds of a request includes its headers.
            raise QueryError(
                f"the answer to {_query_text(what, parameters)} could not be read ({self._place(error)})",
                where=self.base, hint="this is a bug in hsa: please report it",
            ) from None  # fmt: skip

    def _place(self, error: Exception) -> str:
        """Return the kind of an unexpected error and where it came from."""
        trace = error.__traceback__
        while trace is not None and trace.tb_next is not None:
            trace = trace.tb_next
        place = f" in {Path(trace.tb_frame.f_code.co_filename).name}:{trace.tb_lineno}" if trace else ""
        return f"{type(error).__name__}{place}: {self.access.masked(str(error))[:200]}"

    def _once(self, what: str, parameters: Parameters) -> Reply:
        """Send one request, and follow it where the same server sends it on."""
        # A space as %20: a signature is over the text, and a `+` is read as itself there.
        asked = (
            f"{self.base}/api/v1/{what}",
            urlencode([*parameters, *self.backend.parameters], quote_via=quote),
        )
        for _ in range(MOST_REDIRECTS + 1):
            request = self._request(*asked)
            reply = self._exchanged(what, request)
            if reply.status == 401 and self.access.proof and self.access.proof.renew():
                # A token went stale on the way. Once: a fresh one that is refused stays refused.
                request = self._request(*asked)
                reply = self._exchanged(what, request)
            if reply.status not in _REDIRECTS:
                return reply
            there = _same_origin(request.full_url, reply.headers.get("Location", ""))
            if there is None or request.data is not None:
                raise self._redirected(reply)
            asked = there
        raise self._error(f"sends on more than {MOST_REDIRECTS} times", "give the final address with --url")

    def _exchanged(self, what: str, request: urllib.request.Request) -> Reply:
        try:
            reply = self._wire.exchange(request, self.timeout_s, LARGEST_BODY)
        except urllib.error.URLError as error:
            raise self._unreachable(error.reason) from None
        except TimeoutError:
            raise self._late(what) from None
        except TooLargeError:
            self._silent.pop(what, None)
            raise TooHeavyError(f"the answer is larger than {LARGEST_BODY >> 20} MiB") from None
        except (http.client.HTTPException, ConnectionError, zlib.error) as error:
            # `from None`: what the library holds of a request includes its headers.
            raise _BusyError(f"the connection broke ({type(error).__name__})") from None
        except OSError as error:  # TLS 1.3 tells a client only now that it wanted a certificate
            raise self._unreachable(error) from None
        self._silent.pop(what, None)
        self._answered_in_all += 1
        return reply

    def _late(self, what: str) -> Exception:
        count = self._silent[what] = self._silent.get(what, 0) + 1
        self._late_in_all += 1
        too_often = self._late_in_all >= MOST_SILENT_IN_ALL and self._late_in_all * 4 > self._answered_in_all
        if count < MOST_SILENT and not too_often:
            return SilentError(f"no whole answer within {self.timeout_s:g} s")
        many = f"{count} requests in a row" if count >= MOST_SILENT else f"{self._late_in_all} requests"
        return self._error(
            f"gave no whole answer to {many}, each within {self.timeout_s:g} s",
            "check the server, or give a longer --timeout",
        )

    def _request(self, address: str, query: str) -> urllib.request.Request:
        lists = not address.endswith(("/query", "/query_range"))
        post = len(query) > LONGEST_GET and not (lists and self.backend.lists_by_get)
        request = urllib.request.Request(  # noqa: S310 - base_url lets only http and https pass
            address if post else f"{address}?{query}", data=query.encode() if post else None
        )
        request.add_header("Accept-Encoding", "gzip")
        request.add_header("User-Agent", f"hs-analysis/{hs_analysis.__version__}")
        body = request.data if isinstance(request.data, bytes) else b""
        for name, value in self.access.headers(request.get_method(), request.full_url, body).items():
            request.add_unredirected_header(name, value)
        return request

    def _checked(self, reply: Reply) -> bytes:
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
            hint = self.access.proof.hint if self.access.proof else "check the token or the password"
            return self._error(f"the server refused the credentials (HTTP {status})", hint)
        return self._error(
            f"the server wants credentials (HTTP {status})", "give HSA_TOKEN, or HSA_USER and HSA_PASSWORD"
        )

    def _redirected(self, reply: Reply) -> ServerError:
        try:
            host = urlsplit(reply.headers.get("Location", "")).netloc.rpartition("@")[2]
        except ValueError:
            host = ""
        return self._error(
            f"the server sends on to {host or 'elsewhere'}, where credentials would leak",
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


_REDIRECTS = (301, 302, 303, 307, 308)


def _same_origin(here: str, location: str) -> tuple[str, str] | None:
    """Return address and query of a redirect that stays on the server; None for any other.

    Credentials go where a request goes: another scheme, host or port is another server.
    """
    try:
        there = urlsplit(urljoin(here, location))
        asked = urlsplit(here)
        _ = there.port
    except ValueError:
        return None
    if not location or (asked.scheme, asked.netloc) != (there.scheme, there.netloc):
        return None
    path = quote(there.path, safe="/%:@!$&'()*+,;=~-._")
    return f"{there.scheme}://{there.netloc}{path}", quote(there.query, safe="=&%+/:@!$'()*,;?~-._")


def _query_text(what: str, parameters: Parameters) -> str:
    """Return a query in the words of an error: what was asked, and for what."""
    asked = next((value for name, value in parameters if name in ("query", "match[]")), "")
    return f"{what} {asked[:200]}".rstrip()
