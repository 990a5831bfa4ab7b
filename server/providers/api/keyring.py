"""The secrets of a channel, kept as its one sealed token: the present one first, then those it replaced that sign for a while.

Each is `whsec_...,made_by,until`, and a space stands between them. made_by is the call that made it, empty for connecting; until
is a Unix time, empty for the present one. A secret alone is one that connecting made.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from server.providers.api import signature

# Replaced ones that still sign: every one of them is a signature more in each callback.
MOST_REPLACED = 2


@dataclass(frozen=True, slots=True)
class Secret:
    """One of them."""

    text: str = field(repr=False)
    made_by: str = ""
    until: int | None = None

    def __str__(self) -> str:
        return f"{self.text},{self.made_by},{'' if self.until is None else self.until}"

    def signs(self, seconds: int) -> bool:
        """Whether callbacks carry its signature at this Unix time."""
        return self.until is None or self.until > seconds


def read(token: str) -> Sequence[Secret]:
    """The secrets in a token; none when anything in it is malformed."""
    secrets = []
    for entry in token.split(" "):
        text, made_by, until = [*entry.split(","), "", ""][:3]
        if signature.key_of(text) is None or not (until == "" or (until.isascii() and until.isdigit())):
            return ()
        secrets.append(Secret(text, made_by, int(until) if until else None))
    return secrets


def keys(token: str, *, seconds: int) -> list[bytes]:
    """The keys that sign at this Unix time, the present one first."""
    found = [signature.key_of(secret.text) for secret in read(token) if secret.signs(seconds)]
    return [key for key in found if key is not None]


def rotated(token: str, *, made_by: str, seconds: int, until: int) -> str:
    """A token with a new secret. Those before sign until then, or until the earlier time they were given; malformed ones are dropped."""
    before = [
        replace(secret, until=until if secret.until is None else min(secret.until, until)) for secret in read(token)
    ]
    kept = [secret for secret in before if secret.signs(seconds)][:MOST_REPLACED]
    return " ".join(str(secret) for secret in (Secret(signature.new_secret(), made_by), *kept))


def made_by(token: str, call: str) -> str | None:
    """The present secret, if this call made it."""
    secrets = read(token)
    return secrets[0].text if secrets and secrets[0].made_by == call else None
