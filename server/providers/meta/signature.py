"""Who sent a webhook: the signature of its body, and the handshake that proves the URL is ours.

Source: Meta's Graph API webhooks documentation, "Validate payloads" and "Verification requests".
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Sequence
from enum import Enum

_PREFIX = "sha256="
_DIGEST = re.compile(r"[0-9a-f]{64}", re.ASCII)
_CHALLENGE = re.compile(r"[A-Za-z0-9._-]{1,128}", re.ASCII)

# Stands in where an app has no secrets, so that an unknown app takes as long to refuse as a wrong signature.
_NO_SECRETS = (b"",)


def matching_secret(raw: bytes, header: str | None, secrets: Sequence[bytes]) -> int | None:
    """The index of the secret that signed `raw`, or None.

    raw: the body as it came, not one byte changed. header: the value of X-Hub-Signature-256, "sha256=" and 64
    hexadecimal digits of either case; a header given twice arrives joined and matches nothing. X-Hub-Signature
    (SHA-1) is no substitute. Every secret is tried, whichever matches, so the time taken tells nothing. An empty
    secret never matches.
    """
    given = _digest(header)
    found: int | None = None
    for index, secret in enumerate(secrets or _NO_SECRETS):
        made = hmac.new(secret, raw, hashlib.sha256).hexdigest()
        equal = hmac.compare_digest(made, given)
        if equal and secret and found is None:
            found = index
    return found


class Handshake(Enum):
    """What a verification request deserves; the value is the HTTP status."""

    ANSWER = 200
    """Echo the challenge: its bytes, as plain text, and nothing else."""
    MALFORMED = 400
    """A parameter is missing, or the challenge is not one that Meta would send."""
    FORBIDDEN = 403
    """Wrong mode or token, or no such app."""


def check_handshake(
    *, mode: str | None, token: str | None, challenge: str | None, verify_tokens: Sequence[bytes]
) -> Handshake:
    """Judges `hub.mode`, `hub.verify_token`, `hub.challenge` of a GET; other hub.* parameters do not matter.

    verify_tokens: those of the app, none for an unknown app. The challenge is echoed to whoever asks, so only
    characters that mean nothing to a browser pass.
    """
    if not mode or not token or not challenge:
        return Handshake.MALFORMED
    given = token.encode("utf-8", "surrogatepass")
    matches = [hmac.compare_digest(expected, given) and expected != b"" for expected in verify_tokens or _NO_SECRETS]
    if mode != "subscribe" or not any(matches):
        return Handshake.FORBIDDEN
    return Handshake.ANSWER if _CHALLENGE.fullmatch(challenge) else Handshake.MALFORMED


def _digest(header: str | None) -> str:
    """The hexadecimal digits in lower case; a string that equals no digest when the header has another form."""
    text = header or ""
    digits = text.removeprefix(_PREFIX).lower() if text.startswith(_PREFIX) else ""
    return digits if _DIGEST.fullmatch(digits) else ""
