"""What a channel had still to send when it was disconnected: it fails, so that nothing old goes out when its account comes back."""

from __future__ import annotations

import uuid
from typing import Any

from switchboard.v1 import actor_pb2

from server.deliveries import service as deliveries
from server.kit.db import Database, Write
from server.log.append import append
from server.log.event import SYSTEM, Cause, NewEvent, Origin
from server.messages import receipts
from server.messages.receipts import Update

CODE = "channel_disconnected"
MESSAGE = "The channel was disconnected before this was sent."
# Of one unit of work: conversations, and sends of each.
CONVERSATIONS, OF_EACH = 50, 20

# By the index of the claims: a conversation that has something to send has a head.
CONCERNED = """
SELECT d.conversation_id FROM channels c CROSS JOIN LATERAL (
    SELECT conversation_id FROM deliveries WHERE channel_id = c.id AND state = 'queued' LIMIT $1
) d WHERE c.state = 'disconnected' LIMIT $1
"""
# Whoever connects the account again waits for this lock, and then finds what is left.
ENDED = "SELECT id FROM channels WHERE state = 'disconnected' ORDER BY id FOR SHARE"
LEFT = """
SELECT d.id, d.part_id, d.channel_id FROM unnest($1::uuid[]) AS c (id) CROSS JOIN LATERAL (
    SELECT id, part_id, channel_id FROM deliveries
    WHERE conversation_id = c.id AND state IN ('queued', 'waiting') ORDER BY position, id LIMIT $3
) d WHERE d.channel_id = ANY($2::uuid[]) ORDER BY d.part_id
"""


async def end_some(database: Database) -> None:
    """Fails some sends of disconnected channels, each with its event. Twice does no more than once."""

    async def unit(write: Write) -> None:
        await append(write, await _end(write))

    await database.write(unit)


async def _end(write: Write) -> list[NewEvent]:
    connection = write.connection
    conversations = [record["conversation_id"] for record in await connection.fetch(CONCERNED, CONVERSATIONS)]
    await deliveries.lock(connection, conversations)
    channels = [record["id"] for record in await connection.fetch(ENDED)]
    left = await connection.fetch(LEFT, conversations, channels, OF_EACH)
    if not left:
        return []
    applied = await receipts.apply(write, [_failed(record) for record in left])
    await deliveries.give_up(connection, [record["id"] for record in left], code=CODE, message=MESSAGE)
    await deliveries.promote(connection, conversations)
    return applied.events


def _failed(record: Any) -> Update:
    delivery_id: uuid.UUID = record["id"]
    return Update(
        channel_id=record["channel_id"],
        provider_message_id=None,
        part_id=record["part_id"],
        status="failed",
        source="system",
        origin=Origin(actor=SYSTEM, cause=Cause(kind=actor_pb2.CAUSE_KIND_DELIVERY, id=str(delivery_id))),
        error_code=CODE,
        error_message=MESSAGE,
    )
