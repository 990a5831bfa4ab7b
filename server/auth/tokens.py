"""Tokens of agents: JWTs (RFC 9068, RFC 8725) signed with our Ed25519 keys, good for 15 minutes at most."""

from __future__ import annotations

import asyncio
import hashlib
import secrets
import time
import uuid
from collections import OrderedDict
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from server.kit.clock import utc_now
from server.kit.db import Connection
from server.kit.secrets import SecretBox
from server.rpc.auth import CredentialExpired, CredentialInvalid
from server.tenancy.control import Control
from server.tenancy.keys import KNOWN_AFTER

ISSUER = AUDIENCE = "switchboard"
TYPE = "at+jwt"
ALGORITHM = "EdDSA"
LIFETIME = timedelta(minutes=15)
# For clocks of our own machines that disagree about when a token begins. It ends when it says.
LEEWAY = timedelta(seconds=30)
LONGEST = 2048
KEYS_KEPT = timedelta(seconds=30)
# The newest key that every process knows signs; one that is retired verifies until the last token of it has ended.
KEYS = """
SELECT id, public_key, private_key, create_time <= now() - $1::interval AS known FROM signing_keys
WHERE retire_time IS NULL OR retire_time > now() ORDER BY create_time, id
"""
# Tokens live 15 minutes, and a new key signs nothing before every process knows it.
KEPT = LIFETIME + KNOWN_AFTER + timedelta(minutes=4)
REQUIRED = ["iss", "aud", "sub", "tid", "iat", "nbf", "exp"]


@dataclass(frozen=True, slots=True)
class Claims:
    """What a verified token says."""

    tenant_id: uuid.UUID
    agent_id: uuid.UUID
    expire_time: datetime


class AgentTokens:
    """Issues and verifies tokens with the signing keys of the control database."""

    def __init__(self, control: Control) -> None:
        self._control = control
        self._public: dict[str, Ed25519PublicKey] = {}
        self._signing: tuple[str, Ed25519PrivateKey] | None = None
        self._loaded = float("-inf")
        self._looked = float("-inf")
        self._loading = asyncio.Lock()
        self._verified: OrderedDict[bytes, Claims] = OrderedDict()

    async def issue(
        self, *, tenant_id: uuid.UUID, agent_id: uuid.UUID, lifetime: timedelta = LIFETIME
    ) -> tuple[str, datetime]:
        """A token for an agent, and when it ends. The caller has checked that the agent is one of the tenant."""
        key_id, key = await self._signing_key()
        now = utc_now()
        expire_time = (now + min(lifetime, LIFETIME)).replace(microsecond=0)
        claims = {
            "iss": ISSUER,
            "aud": AUDIENCE,
            "sub": str(agent_id),
            "tid": str(tenant_id),
            "iat": int(now.timestamp()),
            "nbf": int(now.timestamp()),
            "exp": int(expire_time.timestamp()),
            "jti": secrets.token_urlsafe(9),
        }
        return jwt.encode(claims, key, algorithm=ALGORITHM, headers={"typ": TYPE, "kid": key_id}), expire_time

    async def verify(self, token: str) -> Claims:
        """What a token says. CREDENTIAL_INVALID, CREDENTIAL_EXPIRED. Verified tokens are remembered by their hash."""
        if self._stale:
            await self._load()
        digest = hashlib.sha256(token.encode()).digest()
        claims = self._verified.get(digest)
        if claims is None:
            claims = await self._check(token)
            self._verified[digest] = claims
            if len(self._verified) > 10_000:
                self._verified.popitem(last=False)
        if claims.expire_time <= utc_now():
            raise CredentialExpired()
        return claims

    async def _check(self, token: str) -> Claims:
        if len(token) > LONGEST:
            raise CredentialInvalid()
        try:
            header = jwt.get_unverified_header(token)
            # The token names the key among ours, and nothing else: keys and addresses in it (jwk, jku, x5u) are not read.
            if header.get("alg") != ALGORITHM or str(header.get("typ", "")).lower() != TYPE:
                raise CredentialInvalid()
            key = await self._public_key(header.get("kid"))
            return _claims(_decoded(token, key))
        except jwt.ExpiredSignatureError:
            raise CredentialExpired() from None
        except (jwt.PyJWTError, ValueError):
            raise CredentialInvalid() from None

    async def _public_key(self, key_id: object) -> Ed25519PublicKey:
        """The key of that id. Unknown ids make us look at the table once in 30 s at most."""
        if key_id not in self._public and time.monotonic() - self._looked > KEYS_KEPT.total_seconds():
            self._looked = time.monotonic()
            self._loaded = float("-inf")
            await self._load()
        if not isinstance(key_id, str) or key_id not in self._public:
            raise CredentialInvalid()
        return self._public[key_id]

    async def _signing_key(self) -> tuple[str, Ed25519PrivateKey]:
        if self._signing is None or self._stale:
            await self._load()
        if self._signing is None:
            await self._make()
            self._loaded = float("-inf")
            await self._load()
        if self._signing is None:
            raise LookupError("no signing key")
        return self._signing

    @property
    def _stale(self) -> bool:
        return time.monotonic() - self._loaded > KEYS_KEPT.total_seconds()

    async def _load(self) -> None:
        async with self._loading:
            if not self._stale:
                return
            async with self._control.database.connection() as connection:
                rows = await connection.fetch(KEYS, KNOWN_AFTER)
            before = set(self._public)
            self._public = {row["id"]: Ed25519PublicKey.from_public_bytes(row["public_key"]) for row in rows}
            signing = ([row for row in rows if row["known"]] or rows[:1])[-1:]
            self._signing = (signing[0]["id"], self._opened(signing[0])) if signing else None
            if before - set(self._public):
                # What a retired key signed is not remembered either.
                self._verified.clear()
            self._loaded = time.monotonic()

    def _opened(self, row: Any) -> Ed25519PrivateKey:
        raw = self._control.box.open(row["private_key"], table="signing_keys", column="private_key", row=row["id"])
        return Ed25519PrivateKey.from_private_bytes(raw)

    async def _make(self) -> None:
        """Makes the first key; of several processes that try at once, one does."""
        async with self._control.database.connection() as connection:
            await add_signing_key(connection, self._control.box, key_id="1")


async def add_signing_key(connection: Connection, box: SecretBox, *, key_id: str) -> None:
    """A new key, unless there is one of that id."""
    key = Ed25519PrivateKey.generate()
    raw = key.private_bytes(serialization.Encoding.Raw, serialization.PrivateFormat.Raw, serialization.NoEncryption())
    await connection.execute(
        "INSERT INTO signing_keys (id, public_key, private_key, create_time) VALUES ($1, $2, $3, $4)"
        " ON CONFLICT DO NOTHING",
        key_id,
        key.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw),
        box.seal(raw, table="signing_keys", column="private_key", row=key_id),
        utc_now(),
    )


async def rotate_signing_key(control: Control, *, at_once: bool) -> str:
    """A new key; its id. The others sign until every process knows it, and verify until the last token of them has ended.

    at_once: the others verify nothing any more, so that every agent has to sign in again.
    """
    async with control.database.connection() as connection, connection.transaction():
        await connection.execute("LOCK TABLE signing_keys IN SHARE ROW EXCLUSIVE MODE")
        number: int = await connection.fetchval("SELECT coalesce(max(id::bigint), 0) + 1 FROM signing_keys")
        await connection.execute(
            "UPDATE signing_keys SET retire_time = least(retire_time, now() + $1::interval)",
            timedelta(0) if at_once else KEPT,
        )
        await add_signing_key(connection, control.box, key_id=str(number))
    return str(number)


def _decoded(token: str, key: Ed25519PublicKey) -> dict[str, Any]:
    options: Any = {"require": REQUIRED, "verify_exp": False}
    return jwt.decode(
        token, key, algorithms=[ALGORITHM], issuer=ISSUER, audience=AUDIENCE, leeway=LEEWAY, options=options
    )


def _claims(claims: dict[str, Any]) -> Claims:
    begin, end = claims["iat"], claims["exp"]
    if not isinstance(begin, int) or not isinstance(end, int) or end - begin > LIFETIME.total_seconds():
        raise CredentialInvalid()
    return Claims(
        tenant_id=uuid.UUID(str(claims["tid"])),
        agent_id=uuid.UUID(str(claims["sub"])),
        expire_time=datetime.fromtimestamp(end, UTC),
    )
