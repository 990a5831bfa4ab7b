"""API keys: "sb_<key id>_<secret>". Found by the key id; of the secret, 32 random bytes, only the SHA-256 is stored.

A high-entropy secret needs no slow hash (OWASP ASVS 5, 7.2.3 and 11.4).
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import secrets
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from server.kit.cache import Cache
from server.kit.clock import utc_now
from server.kit.db import Database
from server.kit.errors import NotFound
from server.kit.ids import new_id

PREFIX = "sb_"
FORM = re.compile(r"^sb_([a-z2-7]{16})_([0-9a-f]{64})$")

# The columns of ApiKey, in its order.
GET = """
SELECT id, tenant_id, key_id, name, secret_hash, permissions, create_time, expire_time, revoke_time, last_use_time
FROM api_keys WHERE key_id = $1
"""
GET_BY_ID = """
SELECT id, tenant_id, key_id, name, secret_hash, permissions, create_time, expire_time, revoke_time, last_use_time
FROM api_keys WHERE id = $1
"""
PAGE = """
SELECT id, tenant_id, key_id, name, secret_hash, permissions, create_time, expire_time, revoke_time, last_use_time
FROM api_keys WHERE tenant_id = $1 AND ($2::timestamptz IS NULL OR (create_time, id) < ($2, $3))
ORDER BY create_time DESC, id DESC LIMIT $4
"""
INSERT = """
INSERT INTO api_keys (id, tenant_id, key_id, name, secret_hash, permissions, create_time, expire_time)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (key_id) DO NOTHING
"""
REVOKE = """
UPDATE api_keys SET revoke_time = coalesce(revoke_time, clock_now()) WHERE id = $1 AND tenant_id = $2
RETURNING id, tenant_id, key_id, name, secret_hash, permissions, create_time, expire_time, revoke_time, last_use_time
"""


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key's row. tenant_id is None for keys of the platform's operator."""

    id: uuid.UUID
    tenant_id: uuid.UUID | None
    key_id: str
    name: str
    secret_hash: bytes
    permissions: frozenset[int]
    create_time: datetime
    expire_time: datetime | None
    revoke_time: datetime | None
    last_use_time: datetime | None

    def matches(self, secret: str) -> bool:
        """Whether this is the key's secret; takes the same time whatever it is."""
        return hmac.compare_digest(self.secret_hash, hashed(secret))


class ApiKeys:
    """The keys of the installation."""

    def __init__(self, control: Database) -> None:
        self._control = control
        self._cache: Cache[str, ApiKey] = Cache(self._load, name="api_keys")
        self._used: set[uuid.UUID] = set()

    async def get(self, key_id: str) -> ApiKey | None:
        """The key of this key id, at most 30 s old."""
        return await self._cache.get(key_id)

    async def by_id(self, api_key_id: uuid.UUID) -> ApiKey | None:
        """The key of this id, as it is now."""
        async with self._control.connection() as connection:
            row = await connection.fetchrow(GET_BY_ID, api_key_id)
        return None if row is None else _key(row)

    def used(self, key: ApiKey) -> None:
        """Notes that a key was used; `flush` writes it."""
        self._used.add(key.id)

    async def flush(self) -> None:
        """Writes the times of last use, to the minute, in one statement."""
        used, self._used = self._used, set()
        if used:
            async with self._control.connection() as connection:
                await connection.execute(
                    "UPDATE api_keys SET last_use_time = date_trunc('minute', clock_now()) WHERE id IN"
                    " (SELECT id FROM api_keys WHERE id = ANY($1) ORDER BY id FOR UPDATE)",
                    list(used),
                )

    async def create(
        self,
        *,
        tenant_id: uuid.UUID | None,
        name: str,
        permissions: Iterable[int],
        expire_time: datetime | None = None,
        entropy: bytes | None = None,
    ) -> tuple[ApiKey, str]:
        """Makes a key; answers its row and the key itself, which is not stored.

        entropy: 42 bytes to make it of in place of random ones; the key of given bytes is made once and found again.
        """
        key_id, secret = parts(entropy or secrets.token_bytes(42))
        async with self._control.connection() as connection:
            await connection.execute(
                INSERT,
                *(new_id(), tenant_id, key_id, name, hashed(secret), sorted(permissions), utc_now(), expire_time),
            )
        self._cache.forget(key_id)
        key = await self._cache.get(key_id)
        if key is None:
            raise LookupError(f"API key {key_id} is gone")
        return key, f"{PREFIX}{key_id}_{secret}"

    async def page(self, tenant_id: uuid.UUID, *, after: tuple[datetime, uuid.UUID] | None, size: int) -> list[ApiKey]:
        """Up to size keys of a tenant, newest first, after that one."""
        create_time, key = after or (None, None)
        async with self._control.connection() as connection:
            rows = await connection.fetch(PAGE, tenant_id, create_time, key, size)
        return [_key(row) for row in rows]

    async def revoke(self, tenant_id: uuid.UUID, api_key_id: uuid.UUID) -> ApiKey:
        """Ends a key, once and for all; again is no change. NOT_FOUND."""
        async with self._control.connection() as connection:
            row = await connection.fetchrow(REVOKE, api_key_id, tenant_id)
        if row is None:
            raise NotFound("api_key")
        self._cache.forget(row["key_id"])
        return _key(row)

    def forget(self, tenant_id: uuid.UUID) -> None:
        """Loads the keys of a tenant anew at their next use."""
        self._cache.forget_where(lambda _, key: key is None or key.tenant_id == tenant_id)

    async def _load(self, key_id: str) -> ApiKey | None:
        async with self._control.connection() as connection:
            row = await connection.fetchrow(GET, key_id)
        return None if row is None else _key(row)


def split(credential: str) -> tuple[str, str] | None:
    """Key id and secret of a key; None when it has not the form of one."""
    match = FORM.match(credential)
    return (match[1], match[2]) if match else None


def parts(entropy: bytes) -> tuple[str, str]:
    """Key id and secret made of 42 bytes."""
    return base64.b32encode(entropy[:10]).decode().lower(), entropy[10:42].hex()


def hashed(secret: str) -> bytes:
    """What is stored of a secret."""
    return hashlib.sha256(secret.encode()).digest()


def _key(row: Any) -> ApiKey:
    return ApiKey(**{**row, "permissions": frozenset(row["permissions"])})
