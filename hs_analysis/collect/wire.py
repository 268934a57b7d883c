"""One HTTP exchange, bounded: in time from the connection to the last byte, and in bytes once unpacked.

Redirects are not followed here: who asks decides where credentials go.
"""

from __future__ import annotations

import http.client
import io
import socket
import ssl
import time
import urllib.error
import urllib.request
import zlib
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from email.message import Message
from functools import partial
from typing import Any

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
