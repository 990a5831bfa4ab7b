"""Reading messages, and what makes a send."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Any

from server.conversations import repository as conversations
from server.kit.db import Connection, Database
from server.log.cursor import HeadRow
from server.log.event import origin_of
from server.log.read import read_head
from server.messages import repository
from server.messages.row import MessageRow
from server.rpc.call import Call, Scope


async def repeated(connection: Connection, call: Call, request_id: str) -> MessageRow | None:
    """What an earlier call with this id sent; None of the first one."""
    actor = origin_of(call, request_id).actor
    if not request_id or actor.id is None:
        return None
    found = await repository.repeated(connection, [], [(actor.id, request_id)])
    return found[0] if found else None


async def page(
    database: Database, scope: Scope, conversation_id: uuid.UUID, *, after: Sequence[Any] | None, limit: int
) -> tuple[list[MessageRow], HeadRow]:
    """The history of a conversation, newest first, and the head. NotFound."""
    async with database.snapshot() as connection:
        row, _ = await conversations.get_visible(connection, scope, conversation_id)
        return await repository.page(connection, row.id, before=after[0] if after else None, limit=limit)


async def get(database: Database, scope: Scope, message_id: uuid.UUID) -> tuple[MessageRow, HeadRow]:
    """A message, and the head. NotFound."""
    async with database.snapshot() as connection:
        head = await read_head(connection)
        return await repository.get_visible(connection, scope, message_id), head


async def with_files(database: Database, row: MessageRow) -> MessageRow:
    """A message with its files."""
    async with database.snapshot() as connection:
        return (await repository.with_attachments(connection, [row]))[0]


async def status_updates(
    database: Database,
    scope: Scope,
    message_id: uuid.UUID,
    *,
    part: int | None,
    after: Sequence[Any] | None,
    limit: int,
) -> tuple[list[Any], HeadRow]:
    """The audit trail of a message, or of one of its parts, and the head. NotFound."""
    async with database.snapshot() as connection:
        head = await read_head(connection)
        await repository.get_visible(connection, scope, message_id)
        return await repository.status_updates(connection, message_id, part=part, after=after, limit=limit), head
