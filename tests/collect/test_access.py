"""Credentials never show; addresses are understood in all the forms people paste."""

from __future__ import annotations

import copy
import json
import pickle
from pathlib import Path

import pytest

from hs_analysis.collect.access import Access, Secret, base_url, candidates, secret
from hs_analysis.errors import UsageError

TOKEN = "tok-3f9a-very-secret"


def test_a_secret_never_shows() -> None:
    """Neither in text nor in a container, and it can't be copied into a file."""
    one = secret(f" {TOKEN}\n", "HSA_TOKEN")
    access = Access(token=one, user="u", password=Secret("pass-word-9"))
    for text in (repr(one), str(one), f"{one}", repr(access), repr([access]), repr({"a": one})):
        assert TOKEN not in text
        assert "pass-word-9" not in text
    with pytest.raises(TypeError):
        json.dumps(one)
    with pytest.raises(TypeError):
        pickle.dumps(one)
    with pytest.raises(TypeError):
        copy.copy(one)
    assert one.reveal() == TOKEN


@pytest.mark.parametrize("text", ["", "  \n", f"{TOKEN}\nX-Evil: 1", f"{TOKEN}\x00", f"{TOKEN}→"])
def test_what_is_no_credential(text: str) -> None:
    """The error names where it came from and never the text."""
    with pytest.raises(UsageError, match="HSA_TOKEN") as caught:
        secret(text, "HSA_TOKEN")
    assert TOKEN not in str(caught.value)


def test_texts_are_masked() -> None:
    """Also the encoded pair that basic authentication sends."""
    access = Access(user="ann", password=Secret("pass-word-9"))
    sent = access.headers()["Authorization"].removeprefix("Basic ")
    assert access.masked(f"bad pass-word-9 and {sent}!") == "bad *** and ***!"
    assert Access(token=Secret(TOKEN)).masked(f"Bearer {TOKEN} is wrong") == "Bearer *** is wrong"
    assert access.shows_in(b'{"a":"pass-word-9"}')
    assert not Access(token=Secret("12345678")).shows_in(b"[1764012345678]")


@pytest.mark.parametrize(
    ("given", "base"),
    [
        ("http://p:9090", "http://p:9090"),
        ("http://p:9090/", "http://p:9090"),
        (" http://p:9090/api/v1/query ", "http://p:9090"),
        ("http://p:9090/api/v1/query_range?query=up&start=1", "http://p:9090"),
        ("http://p:9090/api/v1", "http://p:9090"),
        ("http://p:9090/api/v1/", "http://p:9090"),
        ("https://p/graph?g0.expr=up", "https://p"),
        ("https://m.example/prometheus/", "https://m.example/prometheus"),
        ("https://m.example/prometheus/api/v1/query", "https://m.example/prometheus"),
        ("http://vm:8481/select/0/prometheus/api/v1/query", "http://vm:8481/select/0/prometheus"),
        ("http://[::1]:9090/", "http://[::1]:9090"),
    ],
)
def test_addresses(given: str, base: str) -> None:
    """With or without the API's path, a trailing slash, a prefix."""
    assert base_url(given) == base


@pytest.mark.parametrize(
    "given",
    [
        "localhost:9090",
        "ftp://p",
        "http://",
        "http://ann:pass-word-9@p",
        "http://p/?token=pass-word-9",
        "http://[::1",
    ],
)
def test_what_is_no_address(given: str) -> None:
    """A usage error that repeats no password."""
    with pytest.raises(UsageError, match="--url") as caught:
        base_url(given)
    assert "pass-word-9" not in str(caught.value)


def test_the_prefix_is_tried_both_ways() -> None:
    """As given first."""
    assert candidates("http://m") == ("http://m", "http://m/prometheus")
    assert candidates("http://m/prometheus") == ("http://m/prometheus", "http://m")


def test_tls_files_are_checked_before_anything_is_sent(tmp_path: Path) -> None:
    """A missing or unusable file is a usage error that names flag and file."""
    with pytest.raises(UsageError, match=r"--ca-file .*missing.pem: No such file"):
        Access(ca_file=str(tmp_path / "missing.pem")).tls()
    (tmp_path / "no.pem").write_text("no certificate")
    with pytest.raises(UsageError, match=r"--client-cert .*holds no usable PEM"):
        Access(client_cert=str(tmp_path / "no.pem")).tls()
    assert not Access(insecure=True).tls().check_hostname
