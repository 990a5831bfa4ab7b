"""What an operator sees of deliveries, and decides about those that got stuck: send once more, or give up."""

from __future__ import annotations

import uuid
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from server.channels import service as channels
from server.conversations import repository as conversations
from server.conversations import rules
from server.deliveries import service as deliveries
from server.kit.clock import utc_now
from server.kit.db import Connection, Write
from server.kit.errors import NotFound, Refusal
from server.log.event import NewEvent, Origin
from server.messages import files, receipts
from server.messages.receipts import Update
from server.rpc.call import Scope

# Rows that a page looks at; with a filter it may be short.
LOOKED = 1000
ENDED = frozenset({"failed", "unknown"})
MAY_RETRY, MAY_GIVE_UP = ENDED, frozenset({"waiting", "queued", "unknown"})

_SHOWN = """
SELECT d.*, p.message_id, p.position AS part, c.team_id, c.assignee_id FROM {source} d
JOIN message_parts p ON p.id = d.part_id
JOIN conversations c ON c.id = d.conversation_id
"""
GET = _SHOWN.format(source="deliveries") + "WHERE d.id = $1"
# Newest first by id. What ended badly has an index by state; a conversation's are found through its messages.
SOURCES = {
    "all": "SELECT * FROM deliveries WHERE ($1::uuid IS NULL OR id < $1) ORDER BY id DESC LIMIT $2",
    "ended": """
        SELECT e.* FROM unnest($3::text[]) AS k (state) CROSS JOIN LATERAL (
            SELECT * FROM deliveries
            WHERE state = k.state AND state IN ('failed', 'unknown') AND ($1::uuid IS NULL OR id < $1)
            ORDER BY id DESC LIMIT $2
        ) e ORDER BY e.id DESC LIMIT $2
    """,
    "conversation": """
        SELECT d.* FROM messages m JOIN message_parts p ON p.message_id = m.id JOIN deliveries d ON d.part_id = p.id
        WHERE m.conversation_id = $3 AND m.direction = 'outbound' AND ($1::uuid IS NULL OR d.id < $1)
        ORDER BY d.id DESC LIMIT $2
    """,
}
AGAIN = """
UPDATE deliveries
SET state = 'waiting', due_time = clock_now(), uncounted = attempt, hold_until = NULL, error_code = NULL, error_message = NULL
WHERE id = $1
"""


class DeliveryNotPossible(Refusal):
    """The delivery is in a state in which that cannot be done."""

    status = "FAILED_PRECONDITION"
    reason = "DELIVERY_NOT_POSSIBLE"

    def __init__(self, state: str) -> None:
        allowed = ["RETRY"] * (state in MAY_RETRY) + ["GIVE_UP"] * (state in MAY_GIVE_UP)
        told = " or ".join(allowed).lower().replace("_", " ") or "nothing, for now"
        super().__init__(
            f"the delivery is {state.replace('_', ' ')}; possible is {told}",
            metadata={"state": state.upper(), "allowed": ",".join(allowed)},
        )


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a list shows: of any of these states (of all, when empty), of a channel, of a conversation."""

    states: Collection[str]
    channel_id: uuid.UUID | None
    conversation_id: uuid.UUID | None

    def fits(self, record: Any) -> bool:
        """Whether a delivery is meant."""
        return (
            (not self.states or record["state"] in self.states)
            and self.channel_id in (None, record["channel_id"])
            and self.conversation_id in (None, record["conversation_id"])
        )


async def get_visible(connection: Connection, scope: Scope, delivery_id: uuid.UUID) -> Any:
    """A delivery whose conversation the caller may see. NotFound."""
    record = await connection.fetchrow(GET, delivery_id)
    if record is None or not _sees(scope, record):
        raise NotFound("delivery")
    return record


async def page(
    connection: Connection, scope: Scope, wanted: Wanted, *, after: Sequence[Any] | None, limit: int
) -> tuple[list[Any], uuid.UUID | None]:
    """At most limit deliveries, newest first, and the id to go on after; None at the end. NotFound for the conversation."""
    more: list[Any] = []
    source = "all"
    if wanted.conversation_id is not None:
        await conversations.get_visible(connection, scope, wanted.conversation_id)
        source, more = "conversation", [wanted.conversation_id]
    elif wanted.states and ENDED.issuperset(wanted.states):
        source, more = "ended", [list(wanted.states)]
    query = _SHOWN.format(source=f"({SOURCES[source]})") + "ORDER BY d.id DESC"
    looked = await connection.fetch(query, uuid.UUID(after[0]) if after else None, LOOKED, *more)
    shown = [record for record in looked if wanted.fits(record) and _sees(scope, record)]
    if len(shown) > limit:
        return shown[:limit], shown[limit - 1]["id"]
    return shown, looked[-1]["id"] if len(looked) == LOOKED else None


async def retry(write: Write, scope: Scope, delivery_id: uuid.UUID, *, origin: Origin) -> list[NewEvent]:
    """Queues a failed or unknown delivery once more, in its place. NotFound, DeliveryNotPossible, ConversationArchived,
    ReplyWindowClosed, ChannelDisconnected.
    """
    connection = write.connection
    record = await _locked(connection, scope, delivery_id, MAY_RETRY)
    await _check_conversation(connection, scope, record["conversation_id"])
    await channels.check_connected(connection, record["channel_id"])
    await deliveries.release(connection, [record["part_id"]])
    await connection.execute(AGAIN, delivery_id)
    await files.forget(connection, record["part_id"], record["channel_id"])
    # The id of the first attempt, if it had one, would keep that of the second from being learned.
    await connection.execute("UPDATE message_parts SET provider_message_id = NULL WHERE id = $1", record["part_id"])
    await deliveries.promote(connection, [record["conversation_id"]])
    return await _tell(write, record, origin, status="pending", asked=True)


async def give_up(
    write: Write, scope: Scope, delivery_id: uuid.UUID, *, origin: Origin, reason: str | None
) -> list[NewEvent]:
    """Fails a delivery that is waiting, queued or unknown, and lets the next one go. NotFound, DeliveryNotPossible."""
    connection = write.connection
    record = await _locked(connection, scope, delivery_id, MAY_GIVE_UP)
    code, message = "given_up", reason or "given up by an operator"
    await deliveries.release(connection, [record["part_id"]])
    await deliveries.give_up(connection, [delivery_id], code=code, message=message)
    await deliveries.promote(connection, [record["conversation_id"]])
    return await _tell(write, record, origin, status="failed", error_code=code, error_message=message)


async def _locked(connection: Connection, scope: Scope, delivery_id: uuid.UUID, possible: Collection[str]) -> Any:
    """The delivery, locked in the order of everybody: its conversation, its part, itself; in one of these states."""
    record = await get_visible(connection, scope, delivery_id)
    await deliveries.lock(connection, [record["conversation_id"]])
    await connection.fetchval("SELECT id FROM message_parts WHERE id = $1 FOR UPDATE", record["part_id"])
    state = await connection.fetchval("SELECT state FROM deliveries WHERE id = $1 FOR UPDATE", delivery_id)
    if state not in possible:
        raise DeliveryNotPossible(state)
    return record


async def _check_conversation(connection: Connection, scope: Scope, conversation_id: uuid.UUID) -> None:
    row, _ = await conversations.get_visible(connection, scope, conversation_id)
    rules.check_writable(row)
    rules.check_not_blocked(row)
    rules.check_window(row, now=utc_now())


async def _tell(write: Write, record: Any, origin: Origin, *, status: str, **more: Any) -> list[NewEvent]:
    update = Update(
        channel_id=record["channel_id"],
        provider_message_id=None,
        part_id=record["part_id"],
        status=status,
        source="system",
        origin=origin,
        **more,
    )
    return (await receipts.apply(write, [update])).events


def _sees(scope: Scope, record: Any) -> bool:
    return scope.sees(channel_id=record["channel_id"], team_id=record["team_id"], assignee_id=record["assignee_id"])
