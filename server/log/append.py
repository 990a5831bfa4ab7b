"""The append: the last statement of every writing transaction. Nothing follows it but COMMIT.

The head row is locked last and released by the commit, so that seq n + 1 becomes visible only after n, and a rollback leaves
no hole.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from switchboard.v1 import event_pb2

from server.kit.db import Connection, Write
from server.log.event import NewEvent
from server.log.read import LogEvent

PARTITION_WIDTH = 1_000_000
# Names in Write.notes: the appended range; and that the rights of callers changed, which every process must hear.
NOTE, RIGHTS = "appended", "rights"
_OF_RIGHTS = frozenset({event_pb2.EVENT_TYPE_SCOPE_CHANGED, event_pb2.EVENT_TYPE_CREDENTIAL_REVOKED})

# The columns of an event after its numbers, as parallel arrays, in the order of `columns`. `{first}` is the number of the
# first array's parameter. The head update reads the number of events from the same arrays, so it cannot run ahead of them.
_EVENTS = """
    unnest(
        ${0}::uuid[], ${1}::smallint[], ${2}::timestamptz[], ${3}::smallint[], ${4}::uuid[], ${5}::smallint[], ${6}::text[],
        ${7}::uuid[], ${8}::bigint[], ${9}::uuid[], ${10}::uuid[], ${11}::uuid[], ${12}::uuid[], ${13}::uuid[], ${14}::bytea[]
    ) WITH ORDINALITY AS e (
        event_id, kind, create_time, actor_kind, actor_id, cause_kind, cause_id,
        conversation_id, conversation_version, channel_id, team_before, team_after, assignee_before, assignee_after, payload, n
    )
"""


def append_sql(*, first: int, after: str = "0", only_if: str = "TRUE") -> str:
    """SQL of the append as parts of a WITH, ending in a SELECT of what `Appended` needs.

    first: number of the first event parameter. after: an expression over earlier parts of the WITH that is always 0 and makes
    the head wait for them: Postgres runs the parts of a WITH in any order. only_if: where it is false, nothing is appended and
    no row comes back.
    """
    events = _EVENTS.format(*(first + offset for offset in range(15)))
    return f"""
    advanced AS (
        UPDATE stream_head
        SET head = head + cardinality(${first}::uuid[]) + {after}, head_event_id = (${first}::uuid[])[cardinality(${first}::uuid[])]
        WHERE {only_if}
        RETURNING epoch, old.head AS prev_head, old.head_event_id AS prev_event_id, new.head AS new_head
    ),
    appended AS (
        INSERT INTO stream_event (
            seq, tx_last, event_id, kind, create_time, actor_kind, actor_id, cause_kind, cause_id,
            conversation_id, conversation_version, channel_id, team_before, team_after, assignee_before, assignee_after, payload
        )
        SELECT a.prev_head + e.n, a.new_head, e.event_id, e.kind, e.create_time, e.actor_kind, e.actor_id, e.cause_kind, e.cause_id,
            e.conversation_id, e.conversation_version, e.channel_id, e.team_before, e.team_after, e.assignee_before,
            e.assignee_after, e.payload
        FROM advanced a, {events}
    )
    SELECT epoch, prev_head, prev_event_id, new_head FROM advanced
    """


APPEND = "WITH " + append_sql(first=1).lstrip()


@dataclass(frozen=True, slots=True)
class Appended:
    """The events of a transaction: prev_head < seq <= new_head. prev_event_id: of the event at prev_head, None when it is 0."""

    prev_head: int
    new_head: int
    epoch: uuid.UUID
    prev_event_id: uuid.UUID | None
    new: Sequence[NewEvent]

    def events(self) -> list[LogEvent]:
        """As they are stored: what a read would return."""
        return [_stored(event, self.prev_head + n, self.new_head) for n, event in enumerate(self.new, start=1)]


def columns(events: Sequence[NewEvent]) -> list[list[Any]]:
    """The arrays of `append_sql`, in its order."""
    return [
        [event.id for event in events],
        [event.kind for event in events],
        [event.create_time for event in events],
        [event.actor.kind for event in events],
        [event.actor.id for event in events],
        [event.cause.kind for event in events],
        [event.cause.id for event in events],
        [event.conversation_id for event in events],
        [event.conversation_version for event in events],
        [event.channel_id for event in events],
        [event.before.team_id for event in events],
        [event.after.team_id for event in events],
        [event.before.assignee_id for event in events],
        [event.after.assignee_id for event in events],
        [event.payload for event in events],
    ]


async def append(write: Write, events: Sequence[NewEvent]) -> Appended | None:
    """Numbers and stores the events; None when there are none. The last call of a unit of work."""
    await write.flush()
    if not events:
        return None
    write.notes[RIGHTS] = any(event.kind in _OF_RIGHTS for event in events)
    row = await write.connection.fetchrow(APPEND, *columns(events))
    return await finish(write, row, events)


async def finish(write: Write, row: Any, events: Sequence[NewEvent]) -> Appended:
    """Notes what was appended for the callbacks after the commit, and makes partitions in time."""
    appended = Appended(**row, new=events)
    write.notes[NOTE] = appended
    await _ensure_partitions(write.connection, appended)
    return appended


async def _ensure_partitions(connection: Connection, appended: Appended) -> None:
    """Keeps three partitions ahead: once in a million events, so that no insert ever lacks one."""
    before, now = appended.prev_head // PARTITION_WIDTH, appended.new_head // PARTITION_WIDTH
    if now > before:
        await connection.execute("SELECT ensure_event_partition($1)", (now + 3) * PARTITION_WIDTH)


def _stored(event: NewEvent, seq: int, tx_last: int) -> LogEvent:
    return LogEvent(
        seq=seq,
        tx_last=tx_last,
        id=event.id,
        kind=event.kind,
        create_time=event.create_time,
        actor_kind=event.actor.kind,
        actor_id=event.actor.id,
        cause_kind=event.cause.kind,
        cause_id=event.cause.id,
        conversation_id=event.conversation_id,
        conversation_version=event.conversation_version,
        channel_id=event.channel_id,
        team_before=event.before.team_id,
        team_after=event.after.team_id,
        assignee_before=event.before.assignee_id,
        assignee_after=event.after.assignee_id,
        payload=event.payload,
    )
