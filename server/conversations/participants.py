"""Who takes part in a conversation: whoever was added, had it, or wrote in it. Only adding and removing is stored."""

from __future__ import annotations

import uuid
from typing import Any

from switchboard.v1 import event_pb2, participant_pb2

from server.conversations import convert, repository, rules
from server.conversations.events import conversation_event
from server.conversations.row import ConversationRow
from server.conversations.service import Changed
from server.kit import pb
from server.kit.clock import utc_now
from server.kit.db import Connection, Write
from server.kit.errors import NotFound
from server.log.event import ActorKind, Origin
from server.rpc.call import Scope

MOST = 200
REASON = pb.Words(participant_pb2.ParticipantReason, "PARTICIPANT_REASON_")
# Whoever was removed takes part again by what it did later. An assignment counts as long as it lasts.
LIST = f"""
WITH acts AS (
    SELECT agent_id, 'joined' AS reason, update_time AS time, update_time AS until FROM conversation_participants
    WHERE conversation_id = $1 AND joined
    UNION ALL
    SELECT agent_id, 'assigned', start_time, coalesce(end_time, 'infinity') FROM conversation_assignments
    WHERE conversation_id = $1 AND agent_id IS NOT NULL
    UNION ALL
    SELECT author_id, 'wrote', create_time, create_time FROM messages
    WHERE conversation_id = $1 AND author_kind = {ActorKind.ACTOR_KIND_AGENT}
    UNION ALL
    SELECT author_id, 'noted', create_time, create_time FROM conversation_notes
    WHERE conversation_id = $1 AND author_id IS NOT NULL
)
SELECT a.agent_id, array_agg(DISTINCT a.reason) AS reasons, min(greatest(a.time, r.update_time)) AS since_time
FROM acts a LEFT JOIN conversation_participants r
    ON r.conversation_id = $1 AND r.agent_id = a.agent_id AND NOT r.joined
WHERE r.agent_id IS NULL OR a.until > r.update_time
GROUP BY a.agent_id ORDER BY since_time, a.agent_id LIMIT {MOST}
"""
SET = """
INSERT INTO conversation_participants (conversation_id, agent_id, joined, update_time) VALUES ($1, $2, $3, $4)
ON CONFLICT (conversation_id, agent_id) DO UPDATE SET joined = excluded.joined, update_time = excluded.update_time
"""


async def of(connection: Connection, conversation_id: uuid.UUID) -> list[participant_pb2.Participant]:
    """Who takes part, in the order they began."""
    return [_shown(record) for record in await connection.fetch(LIST, conversation_id)]


async def add(
    write: Write, scope: Scope, conversation_id: uuid.UUID, *, origin: Origin, agent_id: uuid.UUID
) -> Changed:
    """Adds an agent; one that was added already changes nothing. NotFound, ConversationArchived."""
    row = await _locked(write, scope, conversation_id)
    if not await write.connection.fetchval("SELECT count(*) FROM agents WHERE id = $1", agent_id):
        raise NotFound("agent")
    if REASON.number("joined") in (await _reasons(write.connection, row.id)).get(agent_id, ()):
        return Changed(row)
    await _set(write, row, agent_id, joined=True)
    body = event_pb2.ParticipantAdded(agent_id=str(agent_id), conversation=convert.conversation(row))
    return Changed(row, [conversation_event(origin, row, event_pb2.InboxEvent(participant_added=body))])


async def remove(
    write: Write, scope: Scope, conversation_id: uuid.UUID, *, origin: Origin, agent_id: uuid.UUID
) -> Changed:
    """Removes an agent; one that does not take part changes nothing. NotFound, ConversationArchived."""
    row = await _locked(write, scope, conversation_id)
    if agent_id not in await _reasons(write.connection, row.id):
        return Changed(row)
    await _set(write, row, agent_id, joined=False)
    body = event_pb2.ParticipantRemoved(agent_id=str(agent_id), conversation=convert.conversation(row))
    return Changed(row, [conversation_event(origin, row, event_pb2.InboxEvent(participant_removed=body))])


async def _locked(write: Write, scope: Scope, conversation_id: uuid.UUID) -> ConversationRow:
    row = await repository.lock_visible(write.connection, scope, conversation_id)
    rules.check_writable(row)
    return row


async def _reasons(connection: Connection, conversation_id: uuid.UUID) -> dict[uuid.UUID, list[Any]]:
    records = await connection.fetch(LIST, conversation_id)
    return {record["agent_id"]: [REASON.number(word) for word in record["reasons"]] for record in records}


async def _set(write: Write, row: ConversationRow, agent_id: uuid.UUID, *, joined: bool) -> None:
    now = utc_now()
    await write.connection.execute(SET, row.id, agent_id, joined, now)
    rules.touch(row, now)
    await repository.save(write.connection, row)


def _shown(record: Any) -> participant_pb2.Participant:
    return participant_pb2.Participant(
        agent_id=str(record["agent_id"]),
        reasons=sorted(REASON.number(word) for word in record["reasons"]),
        since_time=pb.timestamp(record["since_time"]),
    )
