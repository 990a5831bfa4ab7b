"""A small inbox of everything that filters speak of, and what a filter means, said in Python."""

from __future__ import annotations

import random
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from switchboard.v1 import conversation_filter_pb2 as filters
from switchboard.v1 import conversation_pb2
from switchboard.v1 import conversation_service_pb2 as rpc

from server.conversations.convert import CLOSING, PROVIDER, STATUS
from server.conversations.row import ConversationRow, from_record
from server.kit.ids import new_id
from server.rpc.call import Scope
from tests.desk import Desk

NOW = datetime.now(UTC).replace(microsecond=0)
TAGS = ["vip", "Late", "Ümlaut"]
WORDS = ["parcel", "parking", "late", "退货", "货"]
ATTRIBUTES = [None, '{"plan": "gold"}', '{"plan": "1"}', '{"plan": 1}', '{"plan": 1.5, "eu": true}']
LIVE = ("new", "open", "pending", "snoozed")


@dataclass(repr=False)
class Inbox:
    """What there is: rows as they are stored, and the ids that filters may name."""

    rows: list[ConversationRow]
    channels: list[uuid.UUID]
    teams: list[uuid.UUID]
    agents: list[uuid.UUID]
    contacts: list[uuid.UUID]
    positions: dict[tuple[uuid.UUID, uuid.UUID], int]
    words: dict[uuid.UUID, list[str]]


async def fill(desk: Desk, *, seed: int, count: int = 60) -> Inbox:
    """An inbox of so many conversations; many times and priorities are shared by several."""
    chance = random.Random(seed)
    channels = [(await desk.new_channel()).id for _ in range(2)]
    agents = [await desk.new_agent() for _ in range(2)]
    teams = [new_id() for _ in range(2)]
    for team_id in teams:
        await desk.execute("INSERT INTO teams (id, name, create_time) VALUES ($1, $2, now())", team_id, str(team_id))
    contacts = []
    for _ in range(5):
        contacts.append(new_id())
        await desk.execute(
            "INSERT INTO contacts (id, name, name_source, create_time, update_time) VALUES ($1, 'Cara', 'provider', now(), now())",
            contacts[-1],
        )
    tag_ids = [
        await desk.value(
            "INSERT INTO tags (id, name, create_time) VALUES ($1, $2, now())"
            " ON CONFLICT (lower(name)) WHERE delete_time IS NULL DO UPDATE SET name = tags.name RETURNING id",
            new_id(),
            name,
        )
        for name in TAGS
    ]
    world = Inbox([], channels, teams, agents, contacts, {}, {})
    for _ in range(count):
        await _one(desk, world, chance, tag_ids)
    return world


async def _one(desk: Desk, world: Inbox, chance: random.Random, tag_ids: list[uuid.UUID]) -> None:
    conversation_id, identity_id, contact_id = new_id(), new_id(), chance.choice(world.contacts)
    channel_id, status = chance.choice(world.channels), chance.choice([*LIVE, "resolved", "archived"])
    inbound = chance.randrange(4)
    chosen = [index for index in range(len(TAGS)) if chance.random() < 0.3]
    await desk.execute(
        "INSERT INTO identities (id, contact_id, channel_id, create_time) VALUES ($1, $2, $3, now())",
        *(identity_id, contact_id, channel_id),
    )
    await desk.execute(
        "INSERT INTO conversations (id, channel_id, provider, contact_id, contact_name, identity_id, status, assignee_id, team_id,"
        " tags, priority, attributes, message_count, inbound_count, team_read_count, last_message_time, waiting_since,"
        " reply_window_expire_time, create_time, update_time, resolve_time, delete_time) VALUES"
        " ($1, $2, 'whatsapp', $3, 'Cara', $4, $5, $6, $7, $8, $9, $10::jsonb, 9, $11, $12, $13, $14, $15, $16, now(), $17, $18)",
        *(conversation_id, channel_id, contact_id, identity_id, "resolved" if status == "archived" else status),
        *(chance.choice([None, *world.agents]), chance.choice([None, *world.teams])),
        *(sorted(TAGS[index] for index in chosen), chance.randint(1, 5)),
        chance.choice(ATTRIBUTES),
        *(inbound, chance.randint(0, inbound), _time(chance)),
        _time(chance) if status in LIVE and chance.random() < 0.5 else None,
        chance.choice([None, *(NOW + timedelta(minutes=minutes) for minutes in (-60, -5, 30, 90, 300, 600))]),
        *(_time(chance), NOW if status in ("resolved", "archived") else None, NOW if chance.random() < 0.15 else None),
    )
    for index in chosen:
        await desk.execute("INSERT INTO conversation_tags VALUES ($1, $2, now())", conversation_id, tag_ids[index])
    world.words[conversation_id] = [word for word in WORDS if chance.random() < 0.3]
    await desk.execute(
        "INSERT INTO conversation_words SELECT $1, unnest($2::text[])", conversation_id, world.words[conversation_id]
    )
    for agent_id in world.agents:
        if chance.random() < 0.4:
            read = chance.randint(0, inbound)
            await desk.execute(
                "INSERT INTO read_positions VALUES ($1, $2, 0, $3, now())", conversation_id, agent_id, read
            )
            world.positions[conversation_id, agent_id] = read
    await desk.execute("UPDATE conversations SET status = $2 WHERE id = $1", conversation_id, status)
    (record,) = await desk.rows("SELECT * FROM conversations WHERE id = $1", conversation_id)
    world.rows.append(from_record(record))


def _time(chance: random.Random) -> datetime:
    return NOW - timedelta(minutes=10 * chance.randrange(12))


def sees(scope: Scope, row: ConversationRow) -> bool:
    return scope.sees(channel_id=row.channel_id, team_id=row.team_id, assignee_id=row.assignee_id)


def meets(world: Inbox, wanted: filters.ConversationFilter, row: ConversationRow, me: uuid.UUID | None) -> bool:
    """Whether a conversation is one of a filter's."""
    if not all(
        FIELDS[field.name](world, value, row, me) for field, value in wanted.ListFields() if field.name in FIELDS
    ):
        return False
    either = getattr(wanted, "or")
    return (
        all(meets(world, item, row, me) for item in getattr(wanted, "and"))
        and (not either or any(meets(world, item, row, me) for item in either))
        and not (wanted.HasField("not") and meets(world, getattr(wanted, "not"), row, me))
    )


def _among(value: uuid.UUID | None, wanted: Any, me: uuid.UUID | None) -> bool:
    names = {"nobody" if value is None else str(value), "none" if value is None else str(value)}
    return bool(names & set(wanted)) or (value is not None and value == me and "me" in wanted)


def _within(value: datetime | None, wanted: filters.TimeRange) -> bool:
    if value is None or (wanted.HasField("start_time") and value < wanted.start_time.ToDatetime(tzinfo=UTC)):
        return False
    return not wanted.HasField("end_time") or value < wanted.end_time.ToDatetime(tzinfo=UTC)


def _unread(world: Inbox, wanted: int, row: ConversationRow, me: uuid.UUID | None) -> bool:
    read = row.team_read_count
    if wanted == filters.UNREAD_MINE and me is not None:
        read = world.positions.get((row.id, me), read)
    return row.inbound_count > read


def _window(row: ConversationRow) -> int:
    until, now = row.reply_window_expire_time, datetime.now(UTC)
    if until is None:
        return conversation_pb2.REPLY_WINDOW_STATE_NONE
    if until <= now:
        return conversation_pb2.REPLY_WINDOW_STATE_CLOSED
    return (
        conversation_pb2.REPLY_WINDOW_STATE_CLOSING
        if until <= now + CLOSING
        else conversation_pb2.REPLY_WINDOW_STATE_OPEN
    )


def _attribute(row: ConversationRow, wanted: filters.AttributeCondition) -> bool:
    value = getattr(wanted, wanted.WhichOneof("value") or "")
    found = (row.attributes_object or {}).get(wanted.name)
    if isinstance(found, bool) or isinstance(value, bool):
        return found is value
    return found is not None and type(found) in ((str,) if isinstance(value, str) else (int, float)) and found == value


def _text(world: Inbox, wanted: str, row: ConversationRow) -> bool:
    return all(any(word.startswith(part) for word in world.words[row.id]) for part in wanted.lower().split())


def _tags(row: ConversationRow, names: Any) -> set[str]:
    return {tag.lower() for tag in row.tags} & {name.lower() for name in names}


FIELDS: dict[str, Callable[[Inbox, Any, ConversationRow, uuid.UUID | None], bool]] = {
    "status": lambda _, value, row, me: STATUS.number(row.status) in value,
    "provider": lambda _, value, row, me: PROVIDER.number(row.provider) in value,
    "channel_id": lambda _, value, row, me: str(row.channel_id) in value,
    "contact_id": lambda _, value, row, me: str(row.contact_id) in value,
    "assignee_id": lambda _, value, row, me: _among(row.assignee_id, value, me),
    "team_id": lambda _, value, row, me: _among(row.team_id, value, None),
    "priority": lambda _, value, row, me: row.priority in value,
    "tags": lambda _, value, row, me: bool(_tags(row, value)),
    "tags_all": lambda _, value, row, me: _tags(row, value) == {name.lower() for name in value},
    "tags_none": lambda _, value, row, me: not _tags(row, value),
    "unread": _unread,
    "reply_window": lambda _, value, row, me: _window(row) in value,
    "create_time": lambda _, value, row, me: _within(row.create_time, value),
    "last_message_time": lambda _, value, row, me: _within(row.last_message_time, value),
    "waiting_since": lambda _, value, row, me: _within(row.waiting_since, value),
    "text": lambda world, value, row, me: _text(world, value, row),
    "attributes": lambda _, value, row, me: all(_attribute(row, item) for item in value),
}
LATE = datetime.max.replace(tzinfo=UTC)
KEYS: dict[int, Callable[[ConversationRow], Any]] = {
    rpc.CONVERSATION_ORDER_LAST_MESSAGE: lambda row: (row.last_message_time, row.id),
    rpc.CONVERSATION_ORDER_OLDEST_MESSAGE: lambda row: (row.last_message_time, row.id),
    rpc.CONVERSATION_ORDER_CREATED: lambda row: (row.create_time, row.id),
    rpc.CONVERSATION_ORDER_OLDEST: lambda row: (row.create_time, row.id),
    rpc.CONVERSATION_ORDER_PRIORITY: lambda row: (row.priority, row.last_message_time, row.id),
    rpc.CONVERSATION_ORDER_LONGEST_WAITING: lambda row: (row.waiting_since or LATE, row.id),
    rpc.CONVERSATION_ORDER_REPLY_WINDOW: lambda row: (row.reply_window_expire_time or LATE, row.id),
}
