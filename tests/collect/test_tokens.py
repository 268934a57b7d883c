"""Tokens from a command, signatures for AWS, client certificates: before a real server, and never shown."""

from __future__ import annotations

import ssl
import stat
import subprocess
import sys
import urllib.request
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlencode

import pytest
from collect.aws_signature import is_signed, signature
from collect.one_file import got, grid, planned
from collect.recording_server import Asked, Reply, Script, serving, small_prometheus
from outside import needs

from hs_analysis.collect.access import Access
from hs_analysis.collect.tokens import AwsSignature, TokenCommand
from hs_analysis.errors import HsError, ServerError, UsageError

TOKENS = ("tok-1-very-secret", "tok-2-very-secret", "tok-3-very-secret")
KEY, SESSION = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", "session-token-very-secret"
AWS = {"AWS_ACCESS_KEY_ID": "AKIDEXAMPLE", "AWS_SECRET_ACCESS_KEY": KEY, "AWS_SESSION_TOKEN": SESSION}
FAST = ("--rate", "1000000", "-q")


def command(folder: Path, text: str) -> str:
    """A program that counts its runs and prints what ``text`` says, as the words of a flag."""
    script = folder / "token.py"
    script.write_text(
        "import json, pathlib, sys\n"
        f"runs = pathlib.Path({str(folder / 'runs')!r})\n"
        "n = int(runs.read_text()) if runs.exists() else 0\n"
        "runs.write_text(str(n + 1))\n"
        f"TOKENS = {TOKENS!r}\n{text}\n"
    )
    return f"{sys.executable} -S {script} --client-secret=argument-very-secret"


def runs(folder: Path) -> int:
    """How often the program ran."""
    return int((folder / "runs").read_text())


def test_a_token_is_asked_for_once(ask: Callable, tmp_path: Path) -> None:
    """The command runs without a shell, once for many requests."""
    line = command(tmp_path, "print(TOKENS[n])")
    server, asked, _ = ask(small_prometheus, Access(proof=TokenCommand.of(f"{line} '$(touch {tmp_path}/x)'")))
    for _ in range(3):
        assert sorted(got(planned(5), server)[1]) == grid(5)
    assert {one.headers["Authorization"] for one in asked} == {f"Bearer {TOKENS[0]}"}
    assert runs(tmp_path) == 1
    assert not (tmp_path / "x").exists()


def test_a_stale_token_is_renewed_once(ask: Callable, tmp_path: Path) -> None:
    """After 401 the command runs again; what is refused then stays refused, and 403 is final at once."""
    good = {TOKENS[1]}

    def gate(asked: Asked) -> Reply:
        known = asked.headers["Authorization"].removeprefix("Bearer ") in good
        return small_prometheus(asked) if known else Reply(401, f"stale: {asked.headers}".encode())

    access = Access(proof=TokenCommand.of(command(tmp_path, "print(TOKENS[min(n, 2)])")))
    server, _, notes = ask(gate, access)
    assert sorted(got(planned(5), server)[1]) == grid(5)
    assert runs(tmp_path) == 2
    good.clear()
    with pytest.raises(
        ServerError, match=r"refused the credentials \(HTTP 401\); .* --token-command"
    ) as caught:
        got(planned(5), server)
    assert runs(tmp_path) == 3
    assert not any(token in str(caught.value) + "".join(notes) for token in TOKENS)
    closed, asked, _ = ask(lambda _: Reply(403), access)
    with pytest.raises(ServerError, match="HTTP 403"):
        got(planned(5), closed)
    assert len(asked) == 1


@pytest.mark.parametrize(
    ("answer", "ends_s"),
    [
        ({"access_token": TOKENS[0], "expires_in": 3600}, 1000 + 3600),
        ({"accessToken": TOKENS[0], "expires_on": 9000, "expiresOn": "2026-01-01 00:00:00.0"}, 9000),
        ({"status": {"token": TOKENS[0], "expirationTimestamp": "1970-01-01T02:00:00Z"}}, 7200),
        ({"token": TOKENS[0], "expires_on": "soon"}, None),
    ],
)
def test_stated_expiry(tmp_path: Path, answer: dict, ends_s: float | None) -> None:
    """JSON of OAuth, the Azure CLI and Kubernetes says when to ask again, a minute earlier."""
    now = [1000.0]
    one = TokenCommand(tuple(command(tmp_path, f"print(json.dumps({answer!r}))").split()), lambda: now[0])
    assert one.headers() == {"Authorization": f"Bearer {TOKENS[0]}"}
    now[0] = 1e12 if ends_s is None else ends_s - 61
    one.headers()
    assert runs(tmp_path) == 1
    if ends_s is not None:
        now[0] = ends_s - 60
        one.headers()
        assert runs(tmp_path) == 2


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("print(TOKENS[0], file=sys.stderr); sys.exit(3)", r"ended with exit code 3; run it by hand"),
        ("pass", "holds no credential"),
        ("print('Logged in.'); print(TOKENS[0])", "holds line breaks"),
        ("print('{' + TOKENS[0])", "prints damaged JSON; print the token alone"),
        ("print(json.dumps({'secret': TOKENS[0]}))", "prints JSON without a token; it must hold one of"),
        ("print(json.dumps({'token': {'x': TOKENS[0]}}))", "prints JSON without a token"),
        ("sys.stdout.buffer.write(b'\\xff' + TOKENS[0].encode())", "characters no header carries"),
    ],
)
def test_a_command_that_gives_no_token(tmp_path: Path, text: str, what: str) -> None:
    """One line that says what to do, without the output and without the arguments of the command."""
    one = TokenCommand.of(command(tmp_path, text))
    with pytest.raises(HsError, match=what) as caught:
        one.headers()
    assert caught.value.exit_code == 1  # a wrong flag is 2 and not tried again; a login server may be down
    shown = str(caught.value) + repr(caught.value.__context__) + repr(one)
    assert "very-secret" not in shown
    assert "--token-command" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_command_that_is_none() -> None:
    """Not there, no words, an open quote."""
    with pytest.raises(UsageError, match=r"no-such-program can't be run \(No such file"):
        TokenCommand.of("no-such-program --secret=very-secret").headers()
    with pytest.raises(UsageError, match="names no command"):
        TokenCommand.of("  ")
    with pytest.raises(UsageError, match="quote that is not closed"):
        TokenCommand.of("print 'token")


def test_a_command_that_waits_is_ended(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A login that asks a question finds no answer, and one that waits is not waited for."""
    import hs_analysis.collect.tokens as tokens

    monkeypatch.setattr(tokens, "COMMAND_TIMEOUT_S", 0.2)
    with pytest.raises(HsError, match=r"did not end within 0.2 s; log in first"):
        TokenCommand.of(command(tmp_path, "import time; time.sleep(20)")).headers()


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Keys of AWS' published examples, and no others."""
    for name in ("AWS_PROFILE", "AWS_DEFAULT_PROFILE", *AWS):
        monkeypatch.delenv(name, raising=False)
    for name, value in {**AWS, "AWS_EC2_METADATA_DISABLED": "true"}.items():
        monkeypatch.setenv(name, value)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))


@pytest.mark.parametrize(
    ("query", "want"),
    [
        ("", "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"),
        ("Param2=value2&Param1=value1", "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500"),
    ],
)
def test_the_reference_signs_as_published(query: str, want: str) -> None:
    """AWS's test suite: get-vanilla and get-vanilla-query-order-key-case."""
    headers = {"Host": "example.amazonaws.com", "X-Amz-Date": "20150830T123600Z"}
    scope = "20150830/us-east-1/service/aws4_request"
    assert signature(KEY, "GET", "/", query, headers, b"", scope, "host;x-amz-date") == want


def check(asked: Asked) -> bool:
    """Whether a request is signed for Amazon Managed Service for Prometheus in Frankfurt."""
    query, body = ("", asked.text.encode()) if asked.method == "POST" else (asked.text, b"")
    scope = "eu-central-1/aps"
    return is_signed(KEY, asked.method, asked.path, query, asked.headers, body, scope)


def test_each_request_is_signed(ask: Callable, aws: None) -> None:
    """Addresses and forms; tenant, session token and body are under the signature."""

    def gate(asked: Asked) -> Reply:
        return small_prometheus(asked) if check(asked) else Reply(403, f"{asked.headers}".encode())

    access = Access(proof=AwsSignature("eu-central-1"), tenant="team a")
    server, asked, _ = ask(gate, access)
    assert sorted(got(planned(5), server)[1]) == grid(5)
    long = f'vllm:generation_tokens_total{{pod!="{"x y+z/~*" * 600}"}}'
    server.ask("series", [("match[]", long), ("start", "0"), ("end", "1")], lambda body: body)
    server.ask("series", [("match[]", '{a="b c+d"}')], lambda body: body)
    assert [one.method for one in asked] == ["GET", "POST", "GET"]
    assert all(f"Credential={AWS['AWS_ACCESS_KEY_ID']}" in one.headers["Authorization"] for one in asked)
    assert all(one.headers["X-Amz-Security-Token"] == SESSION for one in asked)
    assert (
        "content-type;host;x-amz-date;x-amz-security-token;x-scope-orgid" in asked[1].headers["Authorization"]
    )


def test_a_refused_signature_shows_no_key(ask: Callable, aws: None) -> None:
    """403 is final, says what to check, and quotes neither key nor session token."""
    access = Access(proof=AwsSignature("eu-west-1"))
    server, _, notes = ask(lambda one: Reply(400, f"{KEY} {one.headers}".encode()), access)
    with pytest.raises(ServerError) as quoted:
        got(planned(5), server)
    closed, tries, _ = ask(lambda one: Reply(403, f"{KEY} {one.headers}".encode()), access)
    with pytest.raises(ServerError, match=r"HTTP 403\); check region, clock and role") as refused:
        got(planned(5), closed)
    assert len(tries) == 1
    shown = "".join([str(quoted.value), str(refused.value), repr(access), *notes])
    assert KEY not in shown
    assert SESSION not in shown


def test_without_keys_or_extra(aws: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """One line each: what to install, where keys are looked for, what is wrong with a profile."""
    monkeypatch.setenv("AWS_PROFILE", "none-such")
    with pytest.raises(HsError, match=r"can't get the AWS credentials \(ProfileNotFound\); aws sts"):
        AwsSignature("eu-west-1")
    monkeypatch.delenv("AWS_PROFILE")
    for name in AWS:
        monkeypatch.delenv(name)
    with pytest.raises(HsError, match=r"--sigv4-region: finds no AWS credentials; set AWS_PROFILE"):
        AwsSignature("eu-west-1")
    for name in ("botocore", "botocore.session"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(UsageError, match=r"needs the extra aws.*; pip install hs-analysis\[aws\]"):
        AwsSignature("eu-west-1")


@pytest.mark.parametrize(
    ("given", "environment", "what"),
    [
        (("--token-command", "a", "--sigv4-region", "b"), {}, "--token-command and --sigv4-region: are"),
        (("--token-command", "a"), {"HSA_TOKEN": "t"}, "the token and --token-command: are given together"),
        (("--sigv4-region", "b"), {"HSA_PASSWORD": "t"}, "--sigv4-region and the user: are given together"),
        (
            ("--tenant", "a", "--tenant-header", "A: b"),
            {},
            "--tenant-header: is no header for a tenant: 'A: b'",
        ),
        (("--tenant", "a", "--tenant-header", "Authorization"), {}, "is no header for a tenant"),
    ],
)
def test_one_way_to_be_let_in(hsa, given: tuple, environment: dict, what: str) -> None:
    """Two ways at once are a usage error before anything is asked."""
    done = hsa("pull", "--url", "http://127.0.0.1:9", *given, **environment)
    assert (done.returncode, done.stdout) == (2, "")
    assert what in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_commands_by_hand(hsa, tmp_path: Path) -> None:
    """export-plan writes the command that gives the token, another tenant header, and no signature."""
    window = ("--from", "2026-11-24T00:00:00Z", "--to", "2026-11-24T01:00:00Z", "--exporter", "vllm", "-q")
    out = ("--out", tmp_path / "dumps")
    tenant = ("--tenant", "team-a", "--tenant-header", "THANOS-TENANT")
    done = hsa("export-plan", *window, *out, *tenant, "--token-command", "give token --for 'a b'")
    lines = done.stdout.splitlines()[1:]
    assert lines
    assert all("-H \"Authorization: Bearer $(give token --for 'a b')\"" in line for line in lines)
    assert all("-H 'THANOS-TENANT: team-a'" in line for line in lines)
    done = hsa("export-plan", *window, *out, "--sigv4-region", "eu-west-1")
    assert (done.returncode, done.stdout) == (2, "")
    assert "signs requests as they are sent; use hsa pull" in done.stderr


def before(prometheus: str, is_let_in: Callable[[Asked], bool]) -> Script:
    """A proxy that lets some requests through to a real Prometheus and quotes the others."""
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def script(asked: Asked) -> Reply:
        if not is_let_in(asked):
            return Reply(401, f"who are you? {asked.headers}".encode())
        query = urlencode([(name, value) for name, values in asked.parameters.items() for value in values])
        with direct.open(f"{prometheus}{asked.path}?{query}", timeout=30) as stream:
            return Reply(200, stream.read())

    return script


def pulls(hsa, url: str, folder: Path, *given: str, **environment: str) -> str:
    """Pull an hour of the snapshot's router; return all that was said and written, unpacked."""
    import gzip

    window = ("--from", "2026-11-24T12:10:00Z", "--to", "2026-11-24T12:30:00Z")
    done = hsa(
        "pull", "--url", url, *window, "--exporter", "dynamo_router", "--out", folder / "dumps", *FAST,
        *given, **environment,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    files = list((folder / "dumps").iterdir())
    assert any(path.name.endswith(".json.gz") for path in files)
    texts = [gzip.decompress(p.read_bytes()) if p.suffix == ".gz" else p.read_bytes() for p in files]
    return done.stdout + done.stderr + b"".join(texts).decode()


def test_a_real_server_behind_a_token(prometheus: str, hsa, tmp_path: Path) -> None:
    """Tokens that are good for ten requests each: as many runs of the command, and no token in any file."""
    left: dict[str, int] = {}

    def is_let_in(asked: Asked) -> bool:
        token = asked.headers.get("Authorization", "").removeprefix("Bearer ")
        left[token] = left.get(token, 10) - 1
        return left[token] >= 0 and asked.headers.get("Thanos-Tenant") == "team-a"

    line = command(tmp_path, "print(f'tok-{n}-very-secret')")
    tenant = ("--tenant", "team-a", "--tenant-header", "THANOS-TENANT")
    with serving(before(prometheus, is_let_in)) as (url, asked):
        said = pulls(hsa, url, tmp_path, "--token-command", line, *tenant)
    assert runs(tmp_path) == -(-len(asked) // 11) > 1
    assert "very-secret" not in said


def test_a_real_server_behind_signatures(prometheus: str, hsa, tmp_path: Path, aws: None) -> None:
    """Every request of a pull is signed anew; neither key nor session token is in any file."""
    with serving(before(prometheus, check)) as (url, asked):
        said = pulls(hsa, url, tmp_path, "--sigv4-region", "eu-central-1")
    assert len({one.headers["Authorization"] for one in asked}) > 3
    assert KEY not in said
    assert SESSION not in said


@pytest.mark.outside("openssl")
def test_a_real_server_behind_client_certificates(prometheus: str, hsa, tmp_path: Path) -> None:
    """A client certificate with its key in another file; without one the pull ends with one line."""
    key, cert = tmp_path / "key.pem", tmp_path / "cert.pem"
    make = [needs("openssl"), "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=t"]
    more = ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(cert)]
    subprocess.run([*make, *more], check=True, capture_output=True)
    key.chmod(stat.S_IRUSR)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(cert))
    context.load_cert_chain(cert, key)
    context.verify_mode = ssl.CERT_REQUIRED
    with serving(before(prometheus, lambda _: True), context) as (url, _):
        tls = ("--ca-file", str(cert))
        pulls(hsa, url, tmp_path, *tls, "--client-cert", str(cert), "--client-key", str(key))
        done = hsa("pull", "--url", url, "--out", tmp_path / "other", *tls)
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
