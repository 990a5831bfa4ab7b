"""The rules hold against a careless session too: the role of the tenant may run each of these, and the database refuses."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import asyncpg
import pytest

from server.assignments import service as assignments
from server.conversations import notes, reads, tags
from server.conversations.row import ConversationRow
from server.kit.clock import utc_now
from server.kit.ids import new_id
from server.messages import receipts
from server.messages.items import Stored
from server.messages.receipts import Update
from tests.desk import ALL, Desk, agent, nobody, phone
from tests.installation import Installed, connection_to


@dataclass
class Kept:
    """An inbox in which each rule has something to be broken at."""

    conversation: ConversationRow
    archived: uuid.UUID
    agent_id: uuid.UUID
    message_id: uuid.UUID
    part_id: uuid.UUID
    waiting_part_id: uuid.UUID
    note_id: uuid.UUID
    journal_id: uuid.UUID


@pytest.fixture(scope="module")
async def kept(desk: Desk) -> Kept:
    channel, sender, ana = await desk.new_channel(), phone(), await desk.new_agent()
    row, other = await desk.started(channel, sender), await desk.started(channel)
    writer = desk.writer()
    first, second = [await writer.submit(desk.send(row.id, text, by=agent(ana))) for text in ("one", "two")]
    assert isinstance(first, Stored)
    assert isinstance(second, Stored)
    part, waiting = [await _part(desk, each.message.id) for each in (first, second)]
    for status in ("sent", "delivered"):
        await desk.database.write(
            lambda write, status=status: receipts.apply(write, [_receipt(channel.id, part, status)])
        )
    await desk.do(lambda write: tags.add(write, ALL, row.id, origin=nobody(), names=["vip"]))
    note_id = new_id()
    await desk.do(
        lambda write: notes.add(write, ALL, row.id, origin=agent(ana), note_id=note_id, text="look", pinned=False)
    )
    for agent_id in (ana, await desk.new_agent()):
        await desk.do(
            lambda write, agent_id=agent_id: assignments.assign(
                write, ALL, row.id, origin=nobody(), agent_id=agent_id, team_id=None, reason=None, expected_version=None
            )
        )
    await desk.do(
        lambda write: reads.mark_read(write, ALL, row.id, origin=agent(ana), message_id=None, providers=desk.providers)
    )
    for status in ("resolved", "archived"):
        await desk.move(other.id, status)
    journal_id = await _payload(desk)
    row = await desk.conversation(row.id)
    return Kept(row, other.id, ana, first.message.id, part, waiting, note_id, journal_id)


async def _part(desk: Desk, message_id: uuid.UUID) -> uuid.UUID:
    found: uuid.UUID = await desk.value("SELECT id FROM message_parts WHERE message_id = $1", message_id)
    return found


def _receipt(channel_id: uuid.UUID, part_id: uuid.UUID, status: str) -> Update:
    return Update(
        channel_id=channel_id,
        provider_message_id="wamid.kept",
        part_id=part_id,
        status=status,
        source="receipt",
        origin=nobody(),
        provider_time=utc_now() - timedelta(seconds=1),
    )


async def _payload(desk: Desk) -> uuid.UUID:
    await desk.value("SELECT ensure_journal_day(now()::date)")
    found: uuid.UUID = await desk.value(
        "INSERT INTO journal (id, receive_time, provider, meta_app_id, body, sha256, split, secret_index, state)"
        " VALUES ($1, now(), 'whatsapp', 'app', '{}', sha256('{}'), false, 0, 'applied') RETURNING id",
        new_id(),
    )
    return found


# {conversation}, {channel}, {identity} and so on are those of `kept`. What a constraint or an index refuses.
REFUSED = {
    "a second live conversation of an identity": """
        INSERT INTO conversations (id, channel_id, provider, contact_id, contact_name, identity_id, status, last_message_time,
            create_time, update_time)
        SELECT gen_random_uuid(), channel_id, provider, contact_id, contact_name, identity_id, 'new', now(), now(), now()
        FROM conversations WHERE id = {conversation}""",
    "two open assignments": """
        INSERT INTO conversation_assignments (id, conversation_id, agent_id, type, assigned_by_kind, start_time)
        VALUES (gen_random_uuid(), {conversation}, {agent}, 'manual', 1, now())""",
    "an assignment that ends before it starts": """
        UPDATE conversation_assignments SET end_time = start_time - interval '1 s' WHERE end_time IS NULL""",
    "an assignment to nobody": """
        INSERT INTO conversation_assignments (id, conversation_id, type, assigned_by_kind, start_time)
        VALUES (gen_random_uuid(), {archived}, 'manual', 1, now())""",
    "an arrival that is used again": """
        INSERT INTO messages (id, conversation_id, channel_id, direction, type, status, sequence, arrival, author_kind, create_time)
        SELECT gen_random_uuid(), conversation_id, channel_id, 'inbound', 'text', 'read', sequence + 7, arrival, 2, now()
        FROM messages WHERE id = {message}""",
    "more read than there is": "UPDATE conversations SET team_read_count = inbound_count + 1 WHERE id = {conversation}",
    "more inbound than messages": "UPDATE conversations SET inbound_count = message_count + 1 WHERE id = {conversation}",
    "an end of a snooze without one": "UPDATE conversations SET snooze_until = now() WHERE id = {conversation}",
    "a customer who waits for what is resolved": """
        UPDATE conversations SET status = 'resolved', resolve_time = now(), waiting_since = now() WHERE id = {conversation}""",
    "resolved at no time": """
        UPDATE conversations SET status = 'resolved', resolve_time = NULL, waiting_since = NULL WHERE id = {conversation}""",
    "a status that is none": "UPDATE conversations SET status = 'closed' WHERE id = {conversation}",
    "a priority that is none": "UPDATE conversations SET priority = 9 WHERE id = {conversation}",
    "two deliveries of a conversation in flight": """
        UPDATE deliveries SET state = 'in_flight' WHERE conversation_id = {conversation}""",
    "an id of the provider that another part has": """
        UPDATE message_parts SET provider_message_id = 'wamid.kept' WHERE id = {waiting_part}""",
    "a tag in other letters": "INSERT INTO tags (id, name, create_time) VALUES (gen_random_uuid(), 'ViP', now())",
    "a colour that is none": "UPDATE tags SET color = 'red' WHERE name = 'vip'",
    "a second head": "INSERT INTO stream_head (id, epoch, head, floor) VALUES (2, gen_random_uuid(), 0, 1)",
    "a seq that is used again": "INSERT INTO stream_event SELECT * FROM stream_event WHERE seq = 1",
    "a read position before the first message": "UPDATE read_positions SET arrival = -1 WHERE conversation_id = {conversation}",
}
# What a guard refuses to the tenant's role, and lets the owner do, who repairs.
GUARDED = {
    "the head moved back": "UPDATE stream_head SET head = head - 1",
    "the floor moved back": "UPDATE stream_head SET floor = floor - 1",
    "a log without a head": "DELETE FROM stream_head",
    "an event changed": "UPDATE stream_event SET payload = '' WHERE seq = 1",
    "an event changed in its partition": "UPDATE stream_event_0 SET create_time = now() WHERE seq = 1",
    "an event deleted": "DELETE FROM stream_event WHERE seq = 2",
    "a payload changed": "UPDATE journal SET body = 'x' WHERE id = {journal}",
    "a receipt changed": "UPDATE message_status_updates SET status = 'read' WHERE message_id = {message}",
    "a sequence changed": "UPDATE messages SET sequence = sequence + 1 WHERE id = {message}",
    "a message moved to another conversation": "UPDATE messages SET conversation_id = {archived}, arrival = 99 WHERE id = {message}",
    "the status of a message moved back": "UPDATE messages SET status = 'sent' WHERE id = {message}",
    "the status of a part moved back": "UPDATE message_parts SET status = 'pending' WHERE id = {part}",
    "a part's id changed": "UPDATE message_parts SET provider_message_id = 'wamid.other' WHERE id = {part}",
    "a part moved to another message": "UPDATE message_parts SET position = 5 WHERE id = {part}",
    "a message without parts": """
        INSERT INTO messages (id, conversation_id, channel_id, direction, type, status, sequence, arrival, author_kind, create_time)
        SELECT gen_random_uuid(), conversation_id, channel_id, 'inbound', 'text', 'read', sequence + 7, 77, 2, now()
        FROM messages WHERE id = {message}""",
    "what was accepted queued again": "UPDATE deliveries SET state = 'waiting' WHERE part_id = {part}",
    "a version that goes back": "UPDATE conversations SET version = version - 1 WHERE id = {conversation}",
    "messages that are no longer counted": """
        UPDATE conversations SET message_count = message_count - 1, last_inbound_arrival = 0, last_outbound_arrival = 0
        WHERE id = {conversation}""",
    "an open conversation archived": """
        UPDATE conversations SET status = 'archived', resolve_time = now(), waiting_since = NULL WHERE id = {conversation}""",
    "an answered conversation made new": "UPDATE conversations SET status = 'new' WHERE id = {conversation}",
    "a conversation of another channel": "UPDATE conversations SET channel_id = channel_id WHERE id = {conversation}",
    "an archived conversation made urgent": "UPDATE conversations SET priority = 5 WHERE id = {archived}",
    "a tag for an archived conversation": "INSERT INTO conversation_tags SELECT {archived}, id, now() FROM tags WHERE name = 'vip'",
    "a note on an archived conversation": """
        INSERT INTO conversation_notes (id, conversation_id, text, pinned, create_time)
        VALUES (gen_random_uuid(), {archived}, 'late', false, now())""",
    "a read position beyond the newest message": """
        UPDATE read_positions SET arrival = 1000 WHERE conversation_id = {conversation} AND agent_id = {agent}""",
    "a read position that goes back": """
        UPDATE read_positions SET arrival = 0 WHERE conversation_id = {conversation} AND agent_id = {agent}""",
    "the ledger says somebody else": "UPDATE conversation_assignments SET agent_id = {agent} WHERE conversation_id = {conversation}",
    "an assignment that goes on": """
        UPDATE conversation_assignments SET end_time = now() + interval '1 h'
        WHERE conversation_id = {conversation} AND end_time IS NOT NULL""",
}
FORBIDDEN = {
    "a log emptied": "TRUNCATE stream_event",
    "a guard taken away": "DROP TRIGGER guard_event_final ON stream_event",
    "a guard switched off": "ALTER TABLE messages DISABLE TRIGGER ALL",
    "guards passed by": "SET session_replication_role = replica",
    "a rule dropped": "ALTER TABLE conversations DROP CONSTRAINT ck_conversations_counts",
}


def said(statement: str, kept: Kept) -> str:
    values: dict[str, Any] = {
        "conversation": kept.conversation.id,
        "archived": kept.archived,
        "agent": kept.agent_id,
        "message": kept.message_id,
        "part": kept.part_id,
        "waiting_part": kept.waiting_part_id,
        "journal": kept.journal_id,
    }
    return statement.format(**{name: f"'{value}'::uuid" for name, value in values.items()})


@pytest.mark.parametrize("name", REFUSED)
async def test_a_constraint_refuses(desk: Desk, kept: Kept, name: str) -> None:
    with pytest.raises(asyncpg.IntegrityConstraintViolationError) as refused:
        await desk.execute(said(REFUSED[name], kept))
    assert not isinstance(refused.value, asyncpg.NotNullViolationError | asyncpg.RestrictViolationError)


@pytest.mark.parametrize("name", GUARDED)
async def test_a_guard_refuses(desk: Desk, desks: Installed, kept: Kept, name: str) -> None:
    statement = said(GUARDED[name], kept)
    with pytest.raises(asyncpg.RestrictViolationError):
        await desk.execute(statement)
    async with connection_to(desks.owned(desk.dsn)) as owner:
        transaction = owner.transaction()
        await transaction.start()
        assert not (await owner.execute(statement)).endswith(" 0"), "nothing was there to be refused"
        await transaction.rollback()


@pytest.mark.parametrize("name", FORBIDDEN)
async def test_the_role_may_not_change_the_rules(desk: Desk, kept: Kept, name: str) -> None:
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await desk.execute(FORBIDDEN[name])


async def test_after_all_of_it_the_inbox_is_as_it_was(desk: Desk, kept: Kept) -> None:
    assert await desk.conversation(kept.conversation.id) == kept.conversation
    await desk.check()
