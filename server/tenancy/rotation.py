"""Changing keys while everything runs. Whatever is stopped in the midst of it is finished by running it again.

A data key is changed in four steps: the next key is published; once every process has read it, what is sealed is sealed anew
and the next key becomes the present one, in one transaction for each database; once nobody seals with the old key any more, what
was sealed with it meanwhile is sealed anew, and the old key is forgotten.
"""

from __future__ import annotations

import secrets
import uuid
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta

import asyncpg

from server.kit.clock import utc_now
from server.kit.db import Connection
from server.kit.errors import DatabaseUnavailable, Refusal
from server.kit.secrets import KeyProvider, SecretBox, new_data_key, sealed_with
from server.tenancy.control import Control
from server.tenancy.key_following import learn_keys
from server.tenancy.keys import OWNER, ROOT, load_box
from server.tenancy.provisioning import connected
from server.tenancy.tenants import TenantRow, Tenants

# Table, sealed column, and the column whose value the seal is bound to.
Place = tuple[str, str, str]
OF_TENANT: tuple[Place, ...] = (("channels", "access_token", "id"),)
OF_CONTROL: tuple[Place, ...] = (
    ("tenants", "role_password", "id"),
    ("postgres_servers", "admin_password", "name"),
    ("meta_apps", "app_secret", "id"),
    ("meta_apps", "previous_app_secret", "id"),
    ("meta_apps", "verify_token", "id"),
    ("mac_keys", "secret", "id"),
    ("signing_keys", "private_key", "id"),
    ("installation", "root", "id"),
)
WRAPPED = ("wrapped_key", "next_wrapped_key", "previous_wrapped_key")
# A tenant whose key is so young was done by the run of --all that is being repeated.
FRESH = timedelta(hours=1)
MAC_KEYS_MOST = 256

Advance = Callable[[], None]
Settle = Callable[[], Awaitable[None]]


class TooManyKeys(Refusal):
    """Keys of cursors are told apart by one byte."""

    status = "FAILED_PRECONDITION"
    reason = "RESOURCE_EXISTS"

    def __init__(self) -> None:
        super().__init__("256 keys are kept already; the oldest go a week after they were replaced")


async def reseal(connection: Connection, box: SecretBox, places: Sequence[Place]) -> int:
    """Seals anew, with the box's present key, whatever is sealed with another one of its keys; how many values."""
    changed = 0
    for table, column, key in places:
        rows = await connection.fetch(
            f"SELECT {key}::text AS row, {column} AS sealed FROM {table} WHERE {column} IS NOT NULL FOR NO KEY UPDATE"
        )
        for row in rows:
            if sealed_with(row["sealed"]) == box.key_id:
                continue
            place = {"table": table, "column": column, "row": row["row"]}
            sealed = box.seal(box.open(row["sealed"], **place), **place)
            await connection.execute(f"UPDATE {table} SET {column} = $2 WHERE {key}::text = $1", row["row"], sealed)
            changed += 1
    return changed


async def outdated(control: Control) -> list[tuple[str, str]]:
    """Data keys that another master key wraps: table and id."""
    found = []
    async with control.database.connection() as connection:
        for table in ("installation", "tenants"):
            for row in await connection.fetch(f"SELECT id::text, {', '.join(WRAPPED)} FROM {table} ORDER BY id"):
                wrapped = [row[name] for name in WRAPPED if row[name] is not None]
                if any(sealed_with(value) != control.provider.key_id for value in wrapped):
                    found.append((table, row["id"]))
    return found


async def rewrap(control: Control, table: str, row_id: str) -> None:
    """Wraps the data keys of an owner with the present master key. SecretUnreadable when neither master key opens them."""
    owner = OWNER if table == "installation" else row_id
    async with control.database.connection() as connection, connection.transaction():
        row = await connection.fetchrow(
            f"SELECT {', '.join(WRAPPED)} FROM {table} WHERE id::text = $1 FOR NO KEY UPDATE", row_id
        )
        if row is None:
            return
        wrapped = [_rewrapped(control.provider, row[name], owner) for name in WRAPPED]
        assignments = ", ".join(f"{name} = ${index + 2}" for index, name in enumerate(WRAPPED))
        await connection.execute(f"UPDATE {table} SET {assignments} WHERE id::text = $1", row_id, *wrapped)


def _rewrapped(provider: KeyProvider, wrapped: bytes | None, owner: str) -> bytes | None:
    if wrapped is None or sealed_with(wrapped) == provider.key_id:
        return wrapped
    return provider.wrap(provider.unwrap(wrapped, owner=owner), owner=owner)


@dataclass(slots=True)
class Rotated:
    """What became of the tenants. failed: names and reasons; they are as they were, or are finished by the next run."""

    done: int = 0
    failed: dict[str, str] = field(default_factory=dict)


async def rotate_tenants(
    control: Control, tenants: Tenants, rows: Sequence[TenantRow], *, settle: Settle, advance: Advance = lambda: None
) -> Rotated:
    """Gives tenants new data keys. settle: waits until every process has read what was written last."""
    report = Rotated()
    for row in rows:
        if row.next_wrapped_key is None and row.previous_wrapped_key is None:
            await _publish(control, row.id)
    await settle()
    # The installation's key may be changed at the same time, and this process has to know the new one as all the others do.
    await learn_keys(control)
    for row in rows:
        await _attempt(report, row, _switch(control, tenants, row.id))
        advance()
    await settle()
    await learn_keys(control)
    for row in rows:
        if row.name not in report.failed:
            await _attempt(report, row, _forget(control, tenants, row.id))
    report.done = len(rows) - len(report.failed)
    return report


async def fresh(control: Control) -> set[uuid.UUID]:
    """Tenants whose key was changed to the end just now."""
    async with control.database.connection() as connection:
        rows = await connection.fetch(
            "SELECT id FROM tenants WHERE key_time > now() - $1::interval"
            " AND next_wrapped_key IS NULL AND previous_wrapped_key IS NULL",
            FRESH,
        )
    return {row["id"] for row in rows}


async def _attempt(report: Rotated, row: TenantRow, work: Awaitable[None]) -> None:
    try:
        await work
    except (Refusal, asyncpg.PostgresError) as error:
        report.failed[row.name] = type(error).__name__


async def _publish(control: Control, tenant_id: uuid.UUID) -> None:
    async with control.database.connection() as connection:
        await connection.execute(
            # As the row is now: beside another run of the command, a key would come before the last one is forgotten.
            "UPDATE tenants SET next_wrapped_key = $2"
            " WHERE id = $1 AND next_wrapped_key IS NULL AND previous_wrapped_key IS NULL",
            tenant_id,
            new_data_key(control.provider, owner=str(tenant_id)),
        )


def _next_box(control: Control, row: TenantRow) -> SecretBox:
    """The box that seals with the tenant's next key."""
    assert row.next_wrapped_key is not None
    others = (row.wrapped_key, row.previous_wrapped_key)
    return SecretBox.unwrapped(row.next_wrapped_key, control.provider, owner=str(row.id), others=others)


async def _reseal_tenant(tenants: Tenants, row: TenantRow, box: SecretBox) -> None:
    async with connected(tenants.dsn(row)) as connection, connection.transaction():
        await reseal(connection, box, OF_TENANT)


async def _switch(control: Control, tenants: Tenants, tenant_id: uuid.UUID) -> None:
    """Seals anew first: what the next key sealed can be opened by everybody, whether it is the present one yet or not."""
    row = await tenants.row(tenant_id)
    if row.next_wrapped_key is None:
        return
    await _reseal_tenant(tenants, row, _next_box(control, row))
    async with control.database.connection() as connection:
        await connection.execute(
            "UPDATE tenants SET wrapped_key = next_wrapped_key, previous_wrapped_key = wrapped_key, next_wrapped_key = NULL,"
            " key_time = $3 WHERE id = $1 AND next_wrapped_key = $2",
            tenant_id,
            row.next_wrapped_key,
            utc_now(),
        )


async def _forget(control: Control, tenants: Tenants, tenant_id: uuid.UUID) -> None:
    row = await tenants.row(tenant_id)
    await _reseal_tenant(tenants, row, tenants.box(row))
    async with control.database.connection() as connection:
        await connection.execute(
            "UPDATE tenants SET previous_wrapped_key = NULL WHERE id = $1 AND previous_wrapped_key = $2",
            tenant_id,
            row.previous_wrapped_key,
        )


async def rotate_installation(control: Control, *, settle: Settle) -> None:
    """Gives the control database a new data key. What is derived from its first one stays as it is."""
    async with control.database.connection() as connection:
        await connection.execute(
            "UPDATE installation SET next_wrapped_key = $1 WHERE next_wrapped_key IS NULL AND previous_wrapped_key IS NULL",
            new_data_key(control.provider, owner=OWNER),
        )
    await settle()
    async with control.database.connection() as connection, connection.transaction():
        await _switch_installation(connection, control)
        replaced = await connection.fetchval("SELECT previous_wrapped_key FROM installation")
    await settle()
    async with control.database.connection() as connection, connection.transaction():
        await reseal(connection, await _installation_box(connection, control), OF_CONTROL)
        # That of another run of the command, which may have begun since, is in use still.
        await connection.execute(
            "UPDATE installation SET previous_wrapped_key = NULL WHERE previous_wrapped_key = $1", replaced
        )
    await learn_keys(control)


async def _installation_box(connection: Connection, control: Control) -> SecretBox:
    await connection.execute("SELECT FROM installation FOR NO KEY UPDATE")
    box = await load_box(connection, control.provider)
    if box is None:
        raise DatabaseUnavailable("the installation's key is gone")
    return box


async def _switch_installation(connection: Connection, control: Control) -> None:
    present = await _installation_box(connection, control)
    sealed_root = present.seal(present.root, **ROOT)
    changed = await connection.fetchval(
        "UPDATE installation SET root = coalesce(root, $1), wrapped_key = next_wrapped_key, previous_wrapped_key = wrapped_key,"
        " next_wrapped_key = NULL, key_time = $2 WHERE next_wrapped_key IS NOT NULL RETURNING true",
        sealed_root,
        utc_now(),
    )
    if changed:
        await reseal(connection, await _installation_box(connection, control), OF_CONTROL)


async def add_mac_key(control: Control) -> int:
    """A new key of cursors and page tokens; it signs once every process knows it. Those that verify nothing any more go."""
    async with control.database.connection() as connection, connection.transaction():
        await connection.execute("LOCK TABLE mac_keys IN SHARE ROW EXCLUSIVE MODE")
        await connection.execute(
            "DELETE FROM mac_keys WHERE id IN (SELECT id FROM"
            " (SELECT id, lead(create_time) OVER (ORDER BY create_time, id) AS replace_time FROM mac_keys) k"
            " WHERE replace_time < now() - interval '8 days')"
        )
        taken = {row["id"] for row in await connection.fetch("SELECT id FROM mac_keys")}
        free = sorted(set(range(MAC_KEYS_MOST)) - taken, key=lambda number: (number <= max(taken, default=0), number))
        if not free:
            raise TooManyKeys()
        sealed = control.box.seal(secrets.token_bytes(32), table="mac_keys", column="secret", row=str(free[0]))
        await connection.execute(
            "INSERT INTO mac_keys (id, secret, create_time) VALUES ($1, $2, $3)", free[0], sealed, utc_now()
        )
    return free[0]
