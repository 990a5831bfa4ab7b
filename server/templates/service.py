"""Templates in their table. Every function works inside the caller's unit of work and commits nothing."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from switchboard.v1 import event_pb2

from server.deliveries import service as deliveries
from server.kit.clock import utc_now
from server.kit.db import Connection, Write
from server.kit.errors import NotFound
from server.kit.ids import new_id
from server.log.event import NewEvent, Origin
from server.providers.contract import Capabilities
from server.providers.template import ListedTemplate, TemplateChange
from server.templates import convert
from server.templates.row import NAMES, TemplateRow, changed_fields, listed, new_row, row_of, told

COLUMNS = ", ".join(NAMES)
# Of every channel of an account; the details are the provider's own.
READ_SOON = """
UPDATE channels SET templates_due_time = least(coalesce(templates_due_time, $3), $3)
WHERE provider = $1 AND state <> 'disconnected' AND EXISTS (SELECT FROM jsonb_each_text(details) AS d WHERE d.value = $2)
"""
BY_ID = f"SELECT {COLUMNS} FROM templates WHERE id = $1"
OF_ID = f"{BY_ID} FOR UPDATE"
# Of which account how many were made here since.
MADE = """
SELECT count(*) AS count, min(made_time) AS first FROM templates
WHERE provider = $1 AND business_account_id = $2 AND made_time > $3
"""
NAME_FREE = """
SELECT max(name_free_time) FROM templates
WHERE provider = $1 AND business_account_id = $2 AND name = $3 AND language = $4 AND name_free_time > $5
"""
LANGUAGES = f"""
SELECT {COLUMNS} FROM templates WHERE provider = $1 AND business_account_id = $2 AND name = $3 AND gone_time IS NULL
ORDER BY language, id
"""
GET = f"SELECT {COLUMNS} FROM templates WHERE provider = $1 AND business_account_id = $2 AND id = $3"
LOCK = f"""
SELECT {COLUMNS} FROM templates WHERE provider = $1 AND business_account_id = $2 AND provider_template_id = ANY($3::text[])
ORDER BY id FOR UPDATE
"""
NAMED = f"""
SELECT {COLUMNS} FROM templates WHERE provider = $1 AND business_account_id = $2 AND name = $3 AND language = $4
ORDER BY gone_time IS NOT NULL, update_time DESC LIMIT 1
"""
GONE_WITH = f"""
SELECT {COLUMNS} FROM templates WHERE provider = $1 AND business_account_id = $2 AND name = $3 AND gone_time = $4
ORDER BY language, id
"""
PAGE = f"""
SELECT {COLUMNS} FROM templates
WHERE provider = $1 AND business_account_id = $2 AND (NOT $3 OR (status = 'APPROVED' AND gone_time IS NULL))
    AND ($4::text IS NULL OR (name, language, id) > ($4, $5::text, $6::uuid))
ORDER BY name, language, id LIMIT $7
"""
INSERT = f"""
INSERT INTO templates ({COLUMNS}) VALUES ({", ".join(f"${index + 1}" for index in range(len(NAMES)))})
ON CONFLICT (provider, business_account_id, provider_template_id) DO NOTHING
"""
UPDATE = f"UPDATE templates SET {', '.join(f'{name} = ${index + 1}' for index, name in enumerate(NAMES))} WHERE id = $1"
VANISHED = f"""
SELECT {COLUMNS} FROM templates
WHERE provider = $1 AND business_account_id = $2 AND gone_time IS NULL AND create_time < $3
    AND provider_template_id <> ALL ($4::text[])
ORDER BY id FOR UPDATE
"""

# A webhook that says half of it is often followed by one with the rest.
SOON = timedelta(seconds=2)


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    """Whose templates: an account of a provider, which channels share."""

    provider: str
    business_account_id: str


async def get(connection: Connection, *, of: Owner, template_id: uuid.UUID) -> TemplateRow:
    """A template of an account. NotFound."""
    row = await find(connection, of=of, template_id=template_id)
    if row is None:
        raise NotFound("template")
    return row


async def find(connection: Connection, *, of: Owner, template_id: uuid.UUID) -> TemplateRow | None:
    """A template of an account, if there is one of this id."""
    record = await connection.fetchrow(GET, of.provider, of.business_account_id, template_id)
    return None if record is None else row_of(record)


async def gone_with(connection: Connection, row: TemplateRow, *, of: Owner) -> list[TemplateRow]:
    """A template that is gone, and what went with it, by language."""
    records = await connection.fetch(GONE_WITH, of.provider, of.business_account_id, row.name, row.gone_time)
    return [row_of(record) for record in records]


async def named(connection: Connection, *, of: Owner, name: str, language: str) -> TemplateRow:
    """A template of an account by its name, the one that is there before one that is gone. NotFound."""
    record = await connection.fetchrow(NAMED, of.provider, of.business_account_id, name, language)
    if record is None:
        raise NotFound("template")
    return row_of(record)


def account_of(capabilities: Capabilities, details: Any) -> str | None:
    """The account whose templates a channel may send, by what it was connected with; None where there are none."""
    if not capabilities.templates or capabilities.shared_account is None:
        return None
    found: dict[str, str] = json.loads(details) if isinstance(details, str) else details
    return found.get(capabilities.shared_account)


async def page(
    connection: Connection,
    *,
    of: Owner,
    sendable: bool,
    after: Sequence[Any] | None,
    limit: int,
) -> list[TemplateRow]:
    """Templates of an account by name and language."""
    name, language, last = after or (None, None, None)
    values = (of.provider, of.business_account_id, sendable, name, language, last and uuid.UUID(last), limit)
    return [row_of(record) for record in await connection.fetch(PAGE, *values)]


async def store_listed(
    write: Write, *, of: Owner, found: Sequence[ListedTemplate], at: datetime, origin: Origin
) -> list[NewEvent]:
    """Takes over what a list has, which was asked for at a time."""
    by_id = {item.provider_id: item for item in found}

    def changed(row: TemplateRow) -> TemplateRow:
        return listed(row, by_id[row.provider_template_id], at=at)

    return await _change(write, of, list(by_id.values()), changed, origin)


async def apply(
    write: Write, change: TemplateChange, *, provider: str, received: datetime, origin: Origin
) -> list[NewEvent]:
    """Takes over what a webhook tells. received: when it came, which stands for its time where it has none."""
    at = change.provider_time or received

    def changed(row: TemplateRow) -> TemplateRow:
        return told(row, change, at=at)

    of = Owner(provider=provider, business_account_id=change.business_account_id)
    return await _change(write, of, [change], changed, origin)


async def languages(connection: Connection, *, of: Owner, name: str) -> list[TemplateRow]:
    """All that are there of a name, by language."""
    return [row_of(record) for record in await connection.fetch(LANGUAGES, of.provider, of.business_account_id, name)]


async def name_free_time(connection: Connection, *, of: Owner, name: str, language: str) -> datetime | None:
    """Until when the name is blocked, since what was approved was deleted; None where it is free."""
    values = (of.provider, of.business_account_id, name, language, utc_now())
    found: datetime | None = await connection.fetchval(NAME_FREE, *values)
    return found


async def made_since(connection: Connection, *, of: Owner, since: datetime) -> tuple[int, datetime | None]:
    """How many templates of an account were made here since a time, and when the first of these."""
    record = await connection.fetchrow(MADE, of.provider, of.business_account_id, since)
    assert record is not None
    return record["count"], record["first"]


async def alter(
    write: Write,
    *,
    of: Owner,
    provider_ids: Sequence[str],
    change: Callable[[TemplateRow], TemplateRow],
    origin: Origin,
) -> tuple[list[TemplateRow], list[NewEvent]]:
    """Changes templates that are known; how they are now, and an event for each that the contract shows differently."""
    rows, events, changes = [], [], []
    locked = await write.connection.fetch(LOCK, of.provider, of.business_account_id, list(provider_ids))
    for row in map(row_of, locked):
        after = change(row)
        if after != row:
            after = replace(after, update_time=utc_now())
            await write.connection.execute(UPDATE, *_values(after))
        if changed_fields(row, after):
            events.append(_event(origin, row, after, new=False))
        rows.append(after)
        changes.append((row, after))
    await _follow(write.connection, of, changes)
    return rows, events


async def present(connection: Connection, template_id: uuid.UUID) -> TemplateRow | None:
    """A template as it is now, if it is there still."""
    record = await connection.fetchrow(BY_ID, template_id)
    return None if record is None else row_of(record)


async def mark_stale(write: Write, template_id: uuid.UUID, *, origin: Origin) -> list[NewEvent]:
    """The provider refused a message of a template for what is not known here yet: it is read again soon."""
    record = await write.connection.fetchrow(OF_ID, template_id)
    if record is None:
        return []
    row = row_of(record)
    of = Owner(provider=row.provider, business_account_id=row.business_account_id)
    _, events = await alter(
        write,
        of=of,
        provider_ids=[row.provider_template_id],
        change=lambda before: replace(before, stale=True),
        origin=origin,
    )
    return events


async def read_again(connection: Connection, *, of: Owner, at: datetime) -> None:
    """Has the templates of an account read at a time, if not before."""
    await connection.execute(READ_SOON, of.provider, of.business_account_id, at)


async def _follow(connection: Connection, of: Owner, changes: Sequence[tuple[TemplateRow, TemplateRow]]) -> None:
    """What else comes of changes: what is stale is read soon, and what waits for a template that may be sent now waits no longer."""
    if any(after.stale and not after.gone_time for _, after in changes):
        await read_again(connection, of=of, at=utc_now() + SOON)
    free = [
        after.id
        for before, after in changes
        if after.sendable and not after.stale and (before.stale or not before.sendable)
    ]
    if free:
        await deliveries.release_template(connection, free)


async def mark_gone(write: Write, *, of: Owner, kept: Sequence[str], at: datetime, origin: Origin) -> list[NewEvent]:
    """Marks what a complete pass that began at a time did not find. kept: the provider's ids of what it found."""
    records = await write.connection.fetch(VANISHED, of.provider, of.business_account_id, at, list(kept))
    events = []
    for row in map(row_of, records):
        after = replace(row, gone_time=utc_now(), update_time=utc_now())
        await write.connection.execute(UPDATE, *_values(after))
        events.append(_event(origin, row, after, new=False))
    return events


async def _change(
    write: Write,
    of: Owner,
    found: Sequence[ListedTemplate | TemplateChange],
    changed: Callable[[TemplateRow], TemplateRow],
    origin: Origin,
) -> list[NewEvent]:
    """Makes what is not known and changes what is; an event for each that the contract shows differently."""
    ids, connection = [item.provider_id for item in found], write.connection
    locked = await connection.fetch(LOCK, of.provider, of.business_account_id, ids)
    held = {record["provider_template_id"] for record in locked}
    now = utc_now()
    made = [
        new_row(new_id(), provider=of.provider, business_account_id=of.business_account_id, of=item, now=now)
        for item in sorted(found, key=lambda item: item.provider_id)
        if item.provider_id not in held
    ]
    new = {row.id for row in made}
    # Another process may have made one meanwhile: then its row is the one that is locked and changed.
    await connection.executemany(INSERT, [_values(row) for row in made])
    events, changes = [], []
    for row in map(row_of, await connection.fetch(LOCK, of.provider, of.business_account_id, ids)):
        after = changed(row)
        if after != row:
            shown = row.id in new or changed_fields(row, after)
            after = replace(after, update_time=now) if shown else after
            await connection.execute(UPDATE, *_values(after))
        if row.id in new or changed_fields(row, after):
            events.append(_event(origin, row, after, new=row.id in new))
            changes.append((row, after))
    await _follow(connection, of, changes)
    return events


def _values(row: TemplateRow) -> list[Any]:
    return [json.dumps(row.components) if name == "components" else getattr(row, name) for name in NAMES]


def _event(origin: Origin, before: TemplateRow, after: TemplateRow, *, new: bool) -> NewEvent:
    told_fields = [] if new else changed_fields(before, after)
    body = event_pb2.TemplateChanged(template=convert.template(after), changed_fields=told_fields)
    return NewEvent(body=event_pb2.InboxEvent(template_changed=body), actor=origin.actor, cause=origin.cause)
