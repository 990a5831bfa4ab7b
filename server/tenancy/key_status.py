"""Which keys there are, how old, and what is sealed with which: names of keys, never keys."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import asyncpg

from server.kit.db import Connection
from server.kit.errors import Refusal
from server.kit.secrets import sealed_with
from server.tenancy.control import Control
from server.tenancy.keys import KNOWN_AFTER, MAC_KEPT, MAC_KEYS
from server.tenancy.provisioning import connected
from server.tenancy.rotation import OF_CONTROL, OF_TENANT, WRAPPED, Place
from server.tenancy.tenants import TenantRow, Tenants


@dataclass(frozen=True, slots=True)
class DataKey:
    """The data key of an owner: who wrapped it, since when it seals, and how many values it and others seal.

    changing: what is left to do of a change that was begun. error: why its values could not be counted.
    """

    owner: str
    key_id: str
    wrapped_with: str
    since: datetime
    sealed: Counter[str]
    changing: str | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class OtherKey:
    """A key of cursors or of agents' tokens, and what it does now."""

    kind: str
    id: str
    since: datetime
    does: str


async def installation_key(control: Control) -> DataKey:
    """The key of the control database."""
    async with control.database.connection() as connection:
        row = await connection.fetchrow(f"SELECT {', '.join(WRAPPED)}, create_time, key_time FROM installation")
        sealed = await _counted(connection, OF_CONTROL)
    assert row is not None
    return DataKey(
        owner="installation",
        key_id=control.box.key_id,
        wrapped_with=sealed_with(row["wrapped_key"]),
        since=row["key_time"] or row["create_time"],
        sealed=sealed,
        changing=_changing(row),
    )


async def tenant_key(control: Control, tenants: Tenants, row: TenantRow) -> DataKey:
    """The key of a tenant; its database is asked what is sealed with it."""
    sealed, error = Counter[str](), None
    try:
        async with connected(tenants.dsn(row)) as connection:
            sealed = await _counted(connection, OF_TENANT)
    except (Refusal, asyncpg.PostgresError) as problem:
        error = type(problem).__name__
    async with control.database.connection() as connection:
        key_time = await connection.fetchval("SELECT key_time FROM tenants WHERE id = $1", row.id)
    columns = {name: getattr(row, name) for name in WRAPPED}
    return DataKey(
        owner=row.name,
        key_id=tenants.box(row).key_id,
        wrapped_with=sealed_with(row.wrapped_key),
        since=key_time or row.create_time,
        sealed=sealed,
        changing=_changing(columns),
        error=error,
    )


async def other_keys(control: Control) -> list[OtherKey]:
    """The keys of cursors and page tokens, and those of agents' tokens, the oldest first."""
    async with control.database.connection() as connection:
        mac = await connection.fetch("SELECT id, create_time FROM mac_keys ORDER BY create_time, id")
        used = {row["id"]: row["known"] for row in await connection.fetch(MAC_KEYS, KNOWN_AFTER, MAC_KEPT)}
        signing = await connection.fetch(
            "SELECT id, create_time, retire_time, retire_time <= now() AS retired,"
            " create_time <= now() - $1::interval AS known FROM signing_keys ORDER BY create_time, id",
            KNOWN_AFTER,
        )
    living = [row for row in signing if not row["retired"]]
    signs = ([row["id"] for row in living if row["known"]] or [row["id"] for row in living[:1]])[-1:]
    mac_signs = ([number for number, known in used.items() if known] or list(used)[:1])[-1:]
    return [
        *(
            OtherKey("cursors", str(row["id"]), row["create_time"], _does_mac(row["id"], used, mac_signs))
            for row in mac
        ),
        *(OtherKey("agents' tokens", row["id"], row["create_time"], _does_sign(row, signs)) for row in signing),
    ]


def _does_mac(number: int, used: dict[int, bool], signs: Sequence[int]) -> str:
    if number in signs:
        return "signs"
    if number not in used:
        return "nothing"
    return "verifies" if used[number] else "signs soon"


def _does_sign(row: Any, signs: Sequence[str]) -> str:
    if row["id"] in signs:
        return "signs"
    if row["retired"]:
        return "nothing"
    return "signs soon" if row["retire_time"] is None else f"verifies until {row['retire_time']:%H:%M:%S}"


def _changing(row: Any) -> str | None:
    if row["next_wrapped_key"] is not None:
        return "the next key is published"
    return "the previous key still opens" if row["previous_wrapped_key"] is not None else None


async def _counted(connection: Connection, places: Sequence[Place]) -> Counter[str]:
    found: Counter[str] = Counter()
    for table, column, _ in places:
        rows = await connection.fetch(f"SELECT {column} AS sealed FROM {table} WHERE {column} IS NOT NULL")
        found.update(sealed_with(row["sealed"]) for row in rows)
    return found
