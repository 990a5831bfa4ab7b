"""Secrets and signatures of callbacks, as Standard Webhooks has them: any library of it verifies what we send.

Source: github.com/standard-webhooks/standard-webhooks, spec/standard-webhooks.md.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import secrets
from collections.abc import Iterable

PREFIX = "whsec_"
# The specification asks for 24 to 64 bytes.
KEY_BYTES, LEAST, MOST = 32, 24, 64


def new_secret() -> str:
    """A secret nobody knows yet."""
    return PREFIX + base64.b64encode(secrets.token_bytes(KEY_BYTES)).decode()


def key_of(secret: str) -> bytes | None:
    """The key in a secret; None when there is none."""
    try:
        key = base64.b64decode(secret.removeprefix(PREFIX), validate=True)
    except (binascii.Error, ValueError):
        return None
    return key if secret.startswith(PREFIX) and LEAST <= len(key) <= MOST else None


def headers(keys: Iterable[bytes], *, message_id: str, seconds: int, body: bytes) -> dict[str, str]:
    """The three headers of a callback sent at this Unix time: a signature by each key, with spaces between them."""
    signed = f"{message_id}.{seconds}.".encode() + body
    digests = [hmac.new(key, signed, hashlib.sha256).digest() for key in keys]
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(seconds),
        "webhook-signature": " ".join(f"v1,{base64.b64encode(digest).decode()}" for digest in digests),
    }
