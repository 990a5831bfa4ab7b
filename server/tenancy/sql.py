"""What CREATE DATABASE and CREATE ROLE cannot take as parameters: identifiers from an allow-list, and password verifiers."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import secrets

IDENTIFIER = re.compile(r"^[a-z][a-z0-9_]{0,62}$")
ITERATIONS = 4096


def identifier(name: str) -> str:
    """A quoted identifier. ValueError for anything but lower-case letters, digits and underscores."""
    if not IDENTIFIER.match(name):
        raise ValueError(f"not an identifier: {name!r}")
    return f'"{name}"'


def scram_verifier(password: str) -> str:
    """A SCRAM-SHA-256 verifier (RFC 5803, RFC 7677), so that the password itself never stands in a statement or a log."""
    salt = secrets.token_bytes(16)
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, ITERATIONS)
    stored = hashlib.sha256(hmac.digest(salted, b"Client Key", "sha256")).digest()
    server = hmac.digest(salted, b"Server Key", "sha256")
    texts = [base64.b64encode(part).decode() for part in (salt, stored, server)]
    return f"SCRAM-SHA-256${ITERATIONS}:{texts[0]}${texts[1]}:{texts[2]}"
