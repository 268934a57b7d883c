"""AWS Signature Version 4 as its documentation describes it, to check what a client signed."""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Mapping
from urllib.parse import quote, unquote


def _hmac(key: bytes, text: str) -> bytes:
    return hmac.new(key, text.encode(), hashlib.sha256).digest()


def signature(
    secret_key: str, method: str, path: str, query: str, headers: Mapping[str, str], body: bytes, scope: str,
    signed: str,
) -> str:  # fmt: skip
    """Return the signature of a request; ``scope`` is date/region/service/aws4_request."""
    known = {name.lower(): " ".join(value.split()) for name, value in headers.items()}
    pairs = sorted(
        tuple(quote(unquote(text), safe="-_.~") for text in pair.split("=", 1))
        for pair in query.split("&")
        if pair
    )
    canonical = "\n".join(
        [
            method, quote(path, safe="/-_.~"), "&".join(f"{name}={value}" for name, value in pairs),
            *(f"{name}:{known[name]}" for name in signed.split(";")), "", signed,
            hashlib.sha256(body).hexdigest(),
        ]
    )  # fmt: skip
    to_sign = "\n".join(
        ["AWS4-HMAC-SHA256", known["x-amz-date"], scope, hashlib.sha256(canonical.encode()).hexdigest()]
    )
    key = f"AWS4{secret_key}".encode()
    for part in scope.split("/"):
        key = _hmac(key, part)
    return _hmac(key, to_sign).hex()


def is_signed(
    secret_key: str, method: str, path: str, query: str, headers: Mapping[str, str], body: bytes, scope: str
) -> bool:
    """Whether a request carries the right signature for ``region/service``."""
    pattern = r"AWS4-HMAC-SHA256 Credential=[^/]+/(\d{8}/" + re.escape(scope)
    found = re.fullmatch(
        pattern + r"/aws4_request), SignedHeaders=([^,]+), Signature=([0-9a-f]{64})",
        headers.get("Authorization", ""),
    )
    if found is None:
        return False
    want = signature(secret_key, method, path, query, headers, body, found[1], found[2])
    return hmac.compare_digest(want, found[3])
