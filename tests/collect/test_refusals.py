"""Who asks: credentials that go to one server only; servers that are elsewhere, closed or another thing."""

from __future__ import annotations

import ssl
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from collect.conftest import Clock
from collect.one_file import got, grid, planned
from collect.recording_server import Asked, Reply, serving, small_prometheus, success
from outside import needs

from hs_analysis.collect.access import Access, Secret
from hs_analysis.collect.fetch import ServerLimits, fetch
from hs_analysis.collect.server import Pace, PrometheusServer, QueryError
from hs_analysis.collect.survey import usual_spacing
from hs_analysis.errors import ServerError

TOKEN = "tok-3f9a-very-secret"


def test_tenant_token_and_basic(ask: Callable) -> None:
    """Mimir's tenant header beside either way to be let in."""
    access = Access(token=Secret(TOKEN), tenant="team-a|team-b")
    server, asked, _ = ask(small_prometheus, access)
    got(planned(5), server)
    assert asked[0].headers["X-Scope-Orgid"] == "team-a|team-b"
    assert asked[0].headers["Authorization"] == f"Bearer {TOKEN}"
    server, asked, _ = ask(small_prometheus, Access(user="ann", password=Secret("pä55word")))
    got(planned(5), server)
    assert asked[0].headers["Authorization"] == "Basic YW5uOnDDpDU1d29yZA=="


@pytest.mark.parametrize(
    ("status", "body", "access", "what"),
    [
        (401, b"bad token " + TOKEN.encode(), Access(token=Secret(TOKEN)), "refused the credentials"),
        (403, b"", Access(token=Secret(TOKEN)), r"refused the credentials \(HTTP 403\)"),
        (401, b"", Access(), r"wants credentials \(HTTP 401\); give HSA_TOKEN"),
        (401, b"no org id", Access(), r"wants a tenant \(HTTP 401\); give --tenant"),
        (400, b'{"status":"error","errorType":"bad_data","error":"' + TOKEN.encode() + b'"}',
         Access(token=Secret(TOKEN)), r"refused the query \(HTTP 400, bad_data: \*\*\*\)"),
    ],
)  # fmt: skip
def test_refusals_are_final_and_quote_no_token(
    ask: Callable, status: int, body: bytes, access: Access, what: str
) -> None:
    """One query, one line, without what the server quoted."""
    server, asked, notes = ask(lambda _: Reply(status, body), access)
    with pytest.raises(ServerError, match=what) as caught:
        got(planned(5), server)
    assert len(asked) == 1
    assert TOKEN not in str(caught.value) + repr(caught.value) + "".join(notes)
    assert caught.value.__context__ is None or TOKEN not in repr(caught.value.__context__)


def test_an_answer_that_quotes_the_token_is_not_kept(ask: Callable) -> None:
    """A debugging proxy may echo what it was sent."""
    echo = success({"resultType": "matrix", "result": []}, warnings=[f"got Bearer {TOKEN}"])
    server, _, _ = ask(lambda _: echo, Access(token=Secret(TOKEN)))
    kept: list[bytes] = []
    with pytest.raises(QueryError, match="quotes the credentials"):
        fetch(planned(5), server, ServerLimits(10**6), kept.append)
    assert kept == []


def test_credentials_do_not_follow_a_redirect_elsewhere(ask: Callable) -> None:
    """Another server never sees them; the same one at another path does."""
    other, seen, _ = ask(small_prometheus)
    access = Access(token=Secret(TOKEN))
    away, _, _ = ask(lambda asked: Reply(302, b"", {"Location": other.base + asked.path}), access)
    with pytest.raises(ServerError, match=r"sends on to 127\.0\.0\.1"):
        got(planned(5), away)
    assert seen == []

    def moved(asked: Asked) -> Reply:
        query = "&".join(f"{key}={value[0]}" for key, value in asked.parameters.items())
        if not asked.path.startswith("/new"):
            return Reply(307, b"", {"Location": f"/new{asked.path}?{query}"})
        assert asked.headers["Authorization"] == f"Bearer {TOKEN}"
        return small_prometheus(asked)

    server, _, _ = ask(moved, access)
    assert sorted(got(planned(5), server)[1]) == grid(5)


def test_the_api_is_found_under_its_prefix(ask: Callable) -> None:
    """Mimir answers under /prometheus, whichever way the address was written; the first error speaks."""

    def mimir(asked: Asked) -> Reply:
        return (
            small_prometheus(asked) if asked.path.startswith("/prometheus/api") else Reply(404, b"not found")
        )

    server, _, _ = ask(mimir)
    assert server.located().base == f"{server.base}/prometheus"
    plain, _, _ = ask(lambda asked: Reply(404) if "prometheus" in asked.path else small_prometheus(asked))
    wrong = PrometheusServer(f"{plain.base}/prometheus", plain.access, plain.pace, plain.noted)
    assert wrong.located().base == plain.base
    page, _, _ = ask(lambda _: Reply(200, b"<html><title>Welcome</title>"))
    with pytest.raises(ServerError, match=rf"{page.base}: is no Prometheus API: an HTML page \(Welcome\)"):
        page.located()


def test_the_usual_spacing() -> None:
    """The commonest distance, to the second where it is near one; a gap or a jitter changes nothing."""
    assert usual_spacing([[0, 15, 30.002, 45, 105, 120], [3, 18, 33]]) == 15.0
    assert usual_spacing([[0, 14.96, 29.92]]) == 15.0
    assert usual_spacing([[0, 0.5, 1.0]]) == 0.5
    assert usual_spacing([[], [7]]) is None


def test_nobody_there(clock: Clock) -> None:
    """Refused connections and unknown hosts are one clear line at once."""
    pace = Pace(1e9, lambda: 0.0, clock.sleep)
    with pytest.raises(ServerError, match=r"http://127\.0\.0\.1:9: can't be reached \(Connection refused\)"):
        PrometheusServer("http://127.0.0.1:9", Access(), pace, str).located()
    assert clock.slept == []


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A key and a certificate of its own authority for 127.0.0.1, in one PEM file."""
    folder = tmp_path_factory.mktemp("tls")
    pair = folder / "pair.pem"
    request = [
        needs("openssl"),
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-days",
        "2",
        "-subj",
        "/CN=test",
    ]
    names = [
        "-addext",
        "subjectAltName=IP:127.0.0.1",
        "-keyout",
        str(folder / "key"),
        "-out",
        str(folder / "cert"),
    ]
    subprocess.run([*request, *names], check=True, capture_output=True)
    pair.write_text((folder / "key").read_text() + (folder / "cert").read_text())
    return pair


@pytest.mark.outside("openssl")
def test_tls(certificate: Path) -> None:
    """An unknown authority is refused, unless it is named or nobody wants to know; clients show theirs."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(certificate))
    context.load_cert_chain(certificate)
    pace = Pace(1e9, lambda: 0.0, lambda _: None)
    pem = str(certificate)
    with serving(small_prometheus, context) as (url, _):
        with pytest.raises(
            ServerError, match=r"its certificate is not trusted .*; name its authority with --ca-file"
        ):
            PrometheusServer(url, Access(), pace, str).located()
        assert sorted(got(planned(5), PrometheusServer(url, Access(ca_file=pem), pace, str))[1]) == grid(5)
        assert sorted(got(planned(5), PrometheusServer(url, Access(insecure=True), pace, str))[1]) == grid(5)
        with pytest.raises(ServerError, match=r"the connection broke|can't be reached"):
            PrometheusServer(url.replace("https", "http"), Access(), pace, str).located()
    context.verify_mode = ssl.CERT_REQUIRED
    with serving(small_prometheus, context) as (url, _):
        access = Access(ca_file=pem, client_cert=pem)
        assert sorted(got(planned(5), PrometheusServer(url, access, pace, str))[1]) == grid(5)
        with pytest.raises(ServerError, match=r"TLS failed .*--client-cert|the connection broke"):
            PrometheusServer(url, Access(ca_file=pem), pace, str).located()
