"""What customers do to messages that are there already: reactions, edits, withdrawals, and answers that quote.

A webhook names the message by the provider's id. That may be unknown yet (webhooks come in any order, ours before the answer to a
send) or be the other side's id of the same message. What finds no message waits as a timer and looks again, for a week; the
last look leaves it at that. In whatever order changes come, the message ends up the same.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from prometheus_client import Counter
from switchboard.v1 import actor_pb2, event_pb2

from server.conversations import repository as conversations
from server.conversations import rules
from server.conversations.convert import conversation as convert_conversation
from server.conversations.events import conversation_event
from server.conversations.row import ConversationRow
from server.kit.clock import utc_now
from server.kit.db import Connection, Write
from server.kit.ids import new_id
from server.log.event import Actor, NewEvent, Origin
from server.messages import content, convert, repository
from server.messages.row import FIRST_PART, SELECTED, MessageRow, from_record
from server.providers.contract import MessageChange
from server.timers.service import Fired, Handlers, set_timer

CHANGE, REPLY = "message_change", "reply_link"
# When to look again for a message that is not there: soon, since webhooks overtake each other by seconds; then as long as they are
# repeated.
AGAIN = tuple(timedelta(seconds=seconds) for seconds in (2, 10, 60, 600, 3_600, 21_600, 86_400, 172_800, 259_200))
# An id of the other form is looked for among so many of the customer's latest messages.
CANDIDATES = 500
# What stands in `details` beside what the customer wrote: it was added later, and no reading of the payload takes it away.
REACTIONS, VERSIONS, DELETE_TIME = "reactions", "versions", "delete_time"
LATER = (REACTIONS, VERSIONS, DELETE_TIME, content.REPLY_TO)
CUSTOMER, BUSINESS = "customer", "business"
EXTERNAL = Actor(kind=actor_pb2.ACTOR_KIND_EXTERNAL)

DROPPED = Counter(
    "switchboard_message_changes_dropped_total",
    "Reactions, edits, withdrawals and quotes of messages that never came.",
    ["change"],
)

# The provider's id is unique in a channel.
EXACT = """
SELECT k.n, p.message_id, m.conversation_id
FROM unnest($1::uuid[], $2::text[]) WITH ORDINALITY AS k (channel_id, provider_message_id, n)
JOIN message_parts p USING (channel_id, provider_message_id) JOIN messages m ON m.id = p.message_id
"""
LATEST = """
SELECT m.id AS message_id, m.conversation_id, p.provider_message_id
FROM conversations c JOIN messages m ON m.conversation_id = c.id JOIN message_parts p ON p.message_id = m.id
WHERE c.channel_id = $1 AND c.identity_id = ANY($2::uuid[]) AND p.provider_message_id IS NOT NULL
ORDER BY m.sequence DESC LIMIT $3
"""
IDENTITIES = """
SELECT DISTINCT a.identity_id FROM unnest($2::text[], $3::text[]) AS k (kind, value)
JOIN identity_aliases a ON a.channel_id = $1 AND a.kind = k.kind AND a.value = k.value
"""
WAITING = "SELECT key, payload FROM timers WHERE kind = $1 AND key = ANY($2::uuid[])"
QUOTING = """
SELECT m.id, m.channel_id, m.conversation_id, c.identity_id, ch.provider, m.details ->> 'reply_to_id' AS target
FROM messages m JOIN conversations c ON c.id = m.conversation_id JOIN channels ch ON ch.id = m.channel_id
WHERE m.id = ANY($1::uuid[])
"""
LOCKED = f"SELECT {SELECTED} FROM messages m {FIRST_PART} WHERE m.id = $1 FOR UPDATE OF m"
SAVE = "UPDATE messages SET text = $2, details = $3 WHERE id = $1"
FORGET_FILES = "DELETE FROM message_attachments WHERE message_id = $1"

Tokens = Mapping[str, Callable[[str], str | None]]
Target = tuple[uuid.UUID, uuid.UUID]


@dataclass(frozen=True, slots=True)
class Asked:
    """A change as a timer keeps it. by: who of a thread did it; ours: whether the business; tries: how often its message was looked for."""

    id: str
    provider: str
    channel_id: uuid.UUID
    target: str
    change: str
    time: datetime
    addresses: Sequence[tuple[str, str]]
    by: str
    emoji: str | None = None
    text: str | None = None
    tries: int = 0
    ours: bool = False

    @classmethod
    def of(cls, item: MessageChange, *, provider: str, channel_id: uuid.UUID) -> Asked:
        """The change of a webhook."""
        addresses = [(address.kind, address.value) for address in item.addresses]
        return cls(
            id=item.provider_id,
            provider=provider,
            channel_id=channel_id,
            target=item.target_id,
            change=item.discriminator,
            time=item.provider_time,
            addresses=addresses,
            by=item.by if item.member is None else item.member,
            ours=item.by == BUSINESS,
            emoji=item.emoji,
            text=item.text,
        )

    @classmethod
    def load(cls, payload: Mapping[str, Any]) -> Asked:
        """What `dump` gave."""
        whole = {**payload, "channel_id": uuid.UUID(payload["channel_id"])}
        whole["time"] = datetime.fromisoformat(payload["time"])
        whole["addresses"] = [(kind, value) for kind, value in payload["addresses"]]
        return cls(**whole)

    def dump(self, *, tries: int) -> dict[str, Any]:
        """As JSON."""
        names = ("id", "provider", "target", "change", "addresses", "by", "emoji", "text", "ours")
        kept = {name: getattr(self, name) for name in names}
        return {**kept, "channel_id": str(self.channel_id), "time": self.time.isoformat(), "tries": tries}


async def apply(
    write: Write, item: MessageChange, *, item_id: uuid.UUID, provider: str, channel_id: uuid.UUID, origin: Origin
) -> list[NewEvent]:
    """Changes the message, or waits for it. item_id: of the journal."""
    asked = Asked.of(item, provider=provider, channel_id=channel_id)
    found = (await exact(write.connection, [(channel_id, asked.target)])).get((channel_id, asked.target))
    if found is None:
        payload = asked.dump(tries=0)
        await set_timer(write.connection, kind=CHANGE, key=item_id, due_time=utc_now(), payload=payload)
        return []
    rows = await conversations.lock_many(write.connection, [found[1]])
    return await _change(write, rows[found[1]], found[0], asked, origin=origin)


async def exact(connection: Connection, keys: Sequence[tuple[uuid.UUID, str]]) -> dict[tuple[uuid.UUID, str], Target]:
    """Messages, with their conversations, by channel and the provider's id; those that are there."""
    if not keys:
        return {}
    records = await connection.fetch(EXACT, *repository.transposed(keys, 2))
    return {keys[record["n"] - 1]: (record["message_id"], record["conversation_id"]) for record in records}


async def _change(
    write: Write, row: ConversationRow, message_id: uuid.UUID, asked: Asked, *, origin: Origin
) -> list[NewEvent]:
    """Changes a message whose conversation is locked; no event when that changes nothing."""
    if row.contact_blocked and not asked.ours:
        return []
    message = await locked(write.connection, message_id)
    before = _details(message)
    changed = take(message, asked, contact_id=row.contact_id)
    if not changed:
        # What is not seen counts still: a reaction taken away before it came, an edit that another one came before.
        if _details(message) != before:
            await write.connection.execute(SAVE, message.id, message.text, message.details)
        return []
    if asked.change == "revoke":
        await write.connection.execute(FORGET_FILES, message.id)
    return await saved(write, row, message, changed, _by(asked, origin, row))


async def set_reaction(
    write: Write, row: ConversationRow, message_id: uuid.UUID, emoji: str | None, *, origin: Origin
) -> tuple[MessageRow, list[NewEvent]]:
    """The tenant's reaction to a message whose conversation is locked; None takes it away. No event when it was so before."""
    message = await locked(write.connection, message_id)
    asked = Asked(
        id=str(new_id()),
        provider=row.provider,
        channel_id=row.channel_id,
        target="",
        change="reaction",
        time=utc_now(),
        addresses=(),
        by=BUSINESS,
        emoji=emoji,
    )
    details, actor = _details(message), origin.actor
    author = {"kind": int(actor.kind), **({} if actor.id is None else {"id": str(actor.id)})}
    changed = react(details, asked, author=author)
    if not changed:
        return message, []
    message.details = json.dumps(details)
    return message, await saved(write, row, message, changed, origin)


async def take_back(
    write: Write, conversation_id: uuid.UUID, message_id: uuid.UUID, emoji: str | None, *, origin: Origin
) -> list[NewEvent]:
    """A reaction that did not go: it is not there, unless it was changed again since."""
    row = (await conversations.lock_many(write.connection, [conversation_id])).get(conversation_id)
    if row is None:
        return []
    held = _details(await locked(write.connection, message_id)).get(REACTIONS, [])
    if emoji is None or not any(each["by"] == BUSINESS and each["emoji"] == emoji for each in held):
        return []
    return (await set_reaction(write, row, message_id, None, origin=origin))[1]


def _by(asked: Asked, origin: Origin, row: ConversationRow) -> Origin:
    actor = EXTERNAL if asked.ours else Actor(kind=actor_pb2.ACTOR_KIND_CONTACT, id=row.contact_id)
    return Origin(actor=actor, cause=origin.cause)


async def locked(connection: Connection, message_id: uuid.UUID) -> MessageRow:
    """A message with its files; its conversation is locked."""
    records = [from_record(record) for record in await connection.fetch(LOCKED, message_id)]
    (message,) = await repository.with_attachments(connection, records)
    return message


async def saved(
    write: Write, row: ConversationRow, message: MessageRow, changed: Sequence[str], origin: Origin
) -> list[NewEvent]:
    """Stores a message whose conversation is locked, and says which fields of it changed."""
    await write.connection.execute(SAVE, message.id, message.text, message.details)
    if row.last_message_id == message.id:
        row.last_message_preview = rules.preview(message.text, "deleted" if "delete_time" in changed else message.type)
    rules.touch(row, utc_now())
    await conversations.save(write.connection, row)
    body = event_pb2.MessageUpdated(
        message=convert.message(message), conversation=convert_conversation(row), changed_fields=changed
    )
    return [conversation_event(origin, row, event_pb2.InboxEvent(message_updated=body))]


def take(message: MessageRow, asked: Asked, *, contact_id: uuid.UUID) -> list[str]:
    """Changes the row by the rules of its kind; returns the fields of Message that changed.

    Of two changes the later one by the provider's time counts, in whatever order they come, and by their ids in one second. What
    was taken back stays so.
    """
    details = _details(message)
    if asked.change == "reaction":
        author: dict[str, Any] = {"kind": int(actor_pb2.ACTOR_KIND_CONTACT), "id": str(contact_id)}
        if asked.ours:
            author = {"kind": int(actor_pb2.ACTOR_KIND_EXTERNAL)}
        changed = react(details, asked, author=author)
    elif message.direction != ("outbound" if asked.ours else "inbound"):
        return []
    elif asked.change == "edit":
        changed = _edit(message, details, asked)
    else:
        changed = _revoke(message, details, asked)
    message.details = json.dumps(details) if details else None
    return changed


def is_deleted(message: MessageRow) -> bool:
    """Whether the customer took it back."""
    return DELETE_TIME in _details(message)


def _details(message: MessageRow) -> dict[str, Any]:
    found: dict[str, Any] = {} if message.details is None else json.loads(message.details)
    return found


def react(details: dict[str, Any], asked: Asked, *, author: Mapping[str, Any]) -> list[str]:
    """One reaction each; one that was taken away is kept without its emoji, so that an older one does not come back."""
    if DELETE_TIME in details:
        return []
    held = [dict(each) for each in details.get(REACTIONS, [])]
    new = {"by": asked.by, "id": asked.id, "time": asked.time.isoformat(), "emoji": asked.emoji, "author": dict(author)}
    before = next((each for each in held if each["by"] == asked.by), None)
    if before is not None and _moment(before) >= _moment(new):
        return []
    held = [each for each in held if each["by"] != asked.by] + [new]
    details[REACTIONS] = sorted(held, key=_moment)
    return ["reactions"] if (before or {}).get("emoji") != asked.emoji else []


def _moment(each: Mapping[str, Any]) -> tuple[datetime, str]:
    return datetime.fromisoformat(each["time"]), each["id"]


def _edit(message: MessageRow, details: dict[str, Any], asked: Asked) -> list[str]:
    """The text of the latest version; all of them are kept, the first as the customer wrote it."""
    if DELETE_TIME in details:
        return []
    first = {"id": "", "time": (message.provider_time or message.create_time).isoformat(), "text": message.text}
    versions = details.get(VERSIONS, [first])
    if asked.id in {each["id"] for each in versions}:
        return []
    new = {"id": asked.id, "time": asked.time.isoformat(), "text": asked.text}
    versions = [versions[0], *sorted([*versions[1:], new], key=_moment)]
    details[VERSIONS] = versions
    if versions[-1] != new:
        return []
    message.text = asked.text
    return ["text", "edit_time"]


def _revoke(message: MessageRow, details: dict[str, Any], asked: Asked) -> list[str]:
    """Nothing of what it carried stays, but that it was there."""
    before = details.get(DELETE_TIME)
    if before is not None and datetime.fromisoformat(before) <= asked.time:
        return []
    kept = {name: details[name] for name in ("sender", "username", "origin") if name in details}
    had = [*(["text"] if message.text is not None else []), *(["attachments"] if message.attachments else [])]
    details.clear()
    details.update(kept | {DELETE_TIME: asked.time.isoformat()})
    message.text, message.attachments = None, ()
    return [*had, "delete_time"]


@dataclass(frozen=True, slots=True)
class _Wait:
    """What a timer waits for. message_id: the one that quotes, None of a change."""

    asked: Asked
    message_id: uuid.UUID | None
    conversation_id: uuid.UUID | None
    target: Target | None


@dataclass(slots=True)
class _Firing:
    """Changes and quotes whose messages are looked for again; their conversations are locked."""

    write: Write
    rows: Mapping[uuid.UUID, ConversationRow]
    waits: Mapping[tuple[str, uuid.UUID], _Wait]
    again: list[tuple[str, uuid.UUID, timedelta, dict[str, Any]]] = field(default_factory=list)

    async def fire(self, fired: Fired) -> Sequence[NewEvent]:
        """Applies it to its message, waits on, or lets it be."""
        wait = self.waits.get((fired.kind, fired.key))
        if wait is None:
            return []
        tries = int(fired.payload.get("tries", 0))
        if wait.target is None:
            if tries < len(AGAIN):
                payload = wait.asked.dump(tries=tries + 1) if fired.kind == CHANGE else {"tries": tries + 1}
                self.again.append((fired.kind, fired.key, AGAIN[tries], payload))
            else:
                DROPPED.labels(wait.asked.change).inc()
            return []
        if wait.message_id is None:
            row = self.rows[wait.target[1]]
            return await _change(self.write, row, wait.target[0], wait.asked, origin=fired.origin)
        row = self.rows[wait.conversation_id or wait.target[1]]
        return await _link(self.write, row, wait.message_id, wait.target[0], origin=fired.origin)

    async def save(self) -> None:
        """Sets anew what waits on."""
        for kind, key, after, payload in self.again:
            await set_timer(self.write.connection, kind=kind, key=key, due_time=utc_now() + after, payload=payload)


async def _link(
    write: Write, row: ConversationRow, message_id: uuid.UUID, target: uuid.UUID, *, origin: Origin
) -> list[NewEvent]:
    message = await locked(write.connection, message_id)
    details = _details(message)
    if target == message_id or DELETE_TIME in details or content.REPLY_TO in details:
        return []
    message.details = json.dumps({**details, content.REPLY_TO: str(target)})
    return await saved(write, row, message, ["reply_to_message_id"], origin)


def handlers(tokens: Tokens) -> Handlers:
    """tokens: by provider, what two ids of one message have in common."""

    async def open_waiting(write: Write, keys: Sequence[uuid.UUID]) -> _Firing:
        connection = write.connection
        waits = {**await _changes(connection, keys, tokens), **await _quotes(connection, keys, tokens)}
        ids = {wait.conversation_id or wait.target[1] for wait in waits.values() if wait.target is not None}
        return _Firing(write, await conversations.lock_many(connection, sorted(ids)), waits)

    return {CHANGE: open_waiting, REPLY: open_waiting}


async def _changes(
    connection: Connection, keys: Sequence[uuid.UUID], tokens: Tokens
) -> dict[tuple[str, uuid.UUID], _Wait]:
    found: dict[tuple[str, uuid.UUID], _Wait] = {}
    for record in await connection.fetch(WAITING, CHANGE, list(keys)):
        asked = Asked.load(json.loads(record["payload"]))
        kinds, values = [kind for kind, _ in asked.addresses], [value for _, value in asked.addresses]
        identities = [each[0] for each in await connection.fetch(IDENTITIES, asked.channel_id, kinds, values)]
        target = await _find(connection, asked, identities, tokens)
        found[(CHANGE, record["key"])] = _Wait(asked, None, None, target)
    return found


async def _quotes(
    connection: Connection, keys: Sequence[uuid.UUID], tokens: Tokens
) -> dict[tuple[str, uuid.UUID], _Wait]:
    found: dict[tuple[str, uuid.UUID], _Wait] = {}
    for record in await connection.fetch(QUOTING, list(keys)):
        if record["target"] is None:
            continue
        asked = Asked(
            id="",
            provider=record["provider"],
            channel_id=record["channel_id"],
            target=record["target"],
            change="reply",
            time=utc_now(),
            addresses=(),
            by=CUSTOMER,
        )
        target = await _find(connection, asked, [record["identity_id"]], tokens)
        found[(REPLY, record["id"])] = _Wait(asked, record["id"], record["conversation_id"], target)
    return found


async def _find(connection: Connection, asked: Asked, identities: Sequence[uuid.UUID], tokens: Tokens) -> Target | None:
    """The message of this very id; else the one of the customer's whose id has the same token, if it is the only one."""
    key = (asked.channel_id, asked.target)
    found = (await exact(connection, [key])).get(key)
    if found is not None:
        return found
    token_of = tokens.get(asked.provider)
    token = None if token_of is None else token_of(asked.target)
    if token is None or token_of is None:
        return None
    latest = await connection.fetch(LATEST, asked.channel_id, list(identities), CANDIDATES)
    same = {
        (record["message_id"], record["conversation_id"])
        for record in latest
        if token_of(record["provider_message_id"]) == token
    }
    return same.pop() if len(same) == 1 else None
