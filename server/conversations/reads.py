"""Read positions: one of the team, one of each agent. Both go by arrival, and unread counts are differences of counters."""

from __future__ import annotations

import uuid
from collections.abc import Mapping

from switchboard.v1 import event_pb2

from server.conversations import convert, repository, rules
from server.conversations.events import conversation_event
from server.conversations.row import ConversationRow
from server.conversations.service import Changed
from server.deliveries import marks
from server.kit.clock import utc_now
from server.kit.db import Connection, Write
from server.kit.errors import NotFound
from server.log.event import ActorKind, Origin
from server.providers.contract import Provider
from server.rpc.call import Scope

# Counts the messages after the position, which are few, instead of those before it.
# Of a history, which counts as read.
COPIED = "coalesce(m.details ? 'origin', FALSE)"
INBOUND_AFTER = f"""
SELECT count(*) FROM messages m WHERE conversation_id = $1 AND arrival > $2 AND direction = 'inbound' AND NOT {COPIED}
"""
INBOUND_UNTIL = f"""
SELECT p.provider_message_id FROM messages m JOIN message_parts p ON p.message_id = m.id
WHERE m.conversation_id = $1 AND m.arrival <= $2 AND m.direction = 'inbound' AND NOT {COPIED}
ORDER BY m.arrival DESC LIMIT 1
"""
ARRIVAL = "SELECT arrival FROM messages WHERE id = $1 AND conversation_id = $2"
MOVE = """
INSERT INTO read_positions (conversation_id, agent_id, arrival, inbound_count, update_time)
SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::integer[], $4::integer[], $5::timestamptz[])
ON CONFLICT (conversation_id, agent_id) DO UPDATE
SET arrival = excluded.arrival, inbound_count = excluded.inbound_count, update_time = excluded.update_time
WHERE read_positions.arrival < excluded.arrival
"""


async def mark_read(
    write: Write,
    scope: Scope,
    conversation_id: uuid.UUID,
    *,
    origin: Origin,
    message_id: uuid.UUID | None,
    providers: Mapping[str, Provider],
) -> Changed:
    """Marks a conversation read, up to a message or whole. Positions only move forward. NotFound.

    What nobody of the team had read before is told to the provider, where that takes it.
    """
    row = await repository.lock_visible(write.connection, scope, conversation_id)
    arrival = await _arrival(write.connection, row, message_id)
    after = await write.connection.fetchval(INBOUND_AFTER, row.id, arrival)
    read = row.inbound_count - after
    agent_id = origin.actor.id if origin.actor.kind == ActorKind.ACTOR_KIND_AGENT else None
    mine_moved = agent_id is not None and await move(write.connection, row, agent_id, arrival=arrival, read=read)
    if read <= row.team_read_count and not mine_moved:
        return Changed(row)
    if read > row.team_read_count and "read" in providers[row.provider].capabilities.marks:
        await _tell(write.connection, row, arrival)
    row.team_read_count = max(row.team_read_count, read)
    if mine_moved:
        row.my_read_count = read
    rules.touch(row, utc_now())
    await repository.save(write.connection, row)
    body = event_pb2.ConversationRead(
        conversation=convert.conversation(row), agent_id=None if agent_id is None else str(agent_id), arrival=arrival
    )
    return Changed(row, [conversation_event(origin, row, event_pb2.InboxEvent(conversation_read=body))])


async def _tell(connection: Connection, row: ConversationRow, arrival: int) -> None:
    newest = row.last_inbound_provider_id
    if arrival < row.last_inbound_arrival:
        newest = await connection.fetchval(INBOUND_UNTIL, row.id, arrival)
    if newest is not None:
        await marks.want(connection, row.id, channel_id=row.channel_id, provider_message_id=newest)


async def _arrival(connection: Connection, row: ConversationRow, message_id: uuid.UUID | None) -> int:
    if message_id is None:
        return row.message_count
    arrival: int | None = await connection.fetchval(ARRIVAL, message_id, row.id)
    if arrival is None:
        raise NotFound("message")
    return arrival


async def move(connection: Connection, row: ConversationRow, agent_id: uuid.UUID, *, arrival: int, read: int) -> bool:
    """Moves an agent's position forward; false when it stood there or further."""
    tag = await connection.execute(MOVE, [row.id], [agent_id], [arrival], [read], [utc_now()])
    return tag.endswith(" 1")
