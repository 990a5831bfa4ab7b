"""Reads the log: the head row, and pages of events that cannot hide a hole.

A page and its head row come from one statement, hence one snapshot: a floor that rose past the page is seen by the page itself.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from server.kit.db import Connection
from server.log.cursor import HEAD_COLUMNS, CursorExpired, HeadRow

PAGE_EVENTS = 500
PAGE_BYTES = 1 << 20
QUERY_SECONDS = 5.0
_HEAD = f"SELECT {HEAD_COLUMNS} FROM stream_head WHERE id = 1"
_PLACE = (
    f"SELECT {HEAD_COLUMNS}, (SELECT event_id FROM stream_event WHERE seq = $1) AS at FROM stream_head WHERE id = 1"
)

# Seqs are contiguous, so a range of numbers is a range of rows. "ahead" is what the rows before this one weigh: at least one
# row comes, however large.
_PAGE = """
SELECT h.epoch, h.head, h.floor, h.head_event_id, b.event_id AS before, e.*
FROM stream_head h
LEFT JOIN stream_event b ON b.seq = $1
LEFT JOIN LATERAL (
    SELECT p.* FROM (
        SELECT seq, tx_last, event_id, kind, create_time, actor_kind, actor_id, cause_kind, cause_id, conversation_id,
            conversation_version, channel_id, team_before, team_after, assignee_before, assignee_after, payload,
            sum(octet_length(payload)) OVER (ORDER BY seq) - octet_length(payload) AS ahead
        FROM stream_event WHERE seq > $1 AND seq <= $1 + $2
    ) p WHERE p.ahead < $3
) e ON true
WHERE h.id = 1
ORDER BY e.seq
"""


class LogBroken(Exception):
    """The log has a hole inside its retention: a defect of ours or a damaged database. Never skipped over."""


@dataclass(frozen=True, slots=True)
class LogEvent:
    """A stored event: numbers, routing columns, and the bytes of an InboxEvent with nothing but its body."""

    seq: int
    tx_last: int
    id: uuid.UUID
    kind: int
    create_time: datetime
    actor_kind: int
    actor_id: uuid.UUID | None
    cause_kind: int
    cause_id: str
    conversation_id: uuid.UUID | None
    conversation_version: int
    channel_id: uuid.UUID | None
    team_before: uuid.UUID | None
    team_after: uuid.UUID | None
    assignee_before: uuid.UUID | None
    assignee_after: uuid.UUID | None
    payload: bytes


@dataclass(frozen=True, slots=True)
class Page:
    """Contiguous events, and the head row of the same snapshot.

    before: id of the event that they follow, None when it is not there.
    """

    head: HeadRow
    events: list[LogEvent]
    before: uuid.UUID | None

    def reaches_head(self, after: int) -> bool:
        """Whether nothing is left behind the page that was read after this seq."""
        last = self.events[-1].seq if self.events else after
        return last >= self.head.head


async def read_head(connection: Connection) -> HeadRow:
    """The head row."""
    row: Any = await connection.fetchrow(_HEAD, timeout=QUERY_SECONDS)
    return HeadRow.of(row)


async def read_place(connection: Connection, seq: int) -> tuple[HeadRow, uuid.UUID | None]:
    """The head row, and the id of the event at seq, None when it is not there."""
    row: Any = await connection.fetchrow(_PLACE, seq, timeout=QUERY_SECONDS)
    return HeadRow.of(row), row["at"]


async def read_page(
    connection: Connection, *, after: int, limit: int = PAGE_EVENTS, max_bytes: int = PAGE_BYTES
) -> Page:
    """The events after a seq, at most limit and about max_bytes of payload, but one at least when there is one.

    CursorExpired when some of them are no longer kept; LogBroken when one is missing that should be there.
    """
    rows: list[Any] = await connection.fetch(_PAGE, after, limit, max_bytes, timeout=QUERY_SECONDS)
    head = HeadRow.of(rows[0])
    if after < head.floor - 1:
        raise CursorExpired()
    events = [_event(row) for row in rows if row["seq"] is not None]
    expected = range(after + 1, after + 1 + len(events))
    if [event.seq for event in events] != list(expected) or (not events and head.head > after):
        raise LogBroken(f"the events after {after} are not contiguous, head {head.head}, floor {head.floor}")
    return Page(head=head, events=events, before=rows[0]["before"])


def _event(row: Any) -> LogEvent:
    return LogEvent(
        seq=row["seq"],
        tx_last=row["tx_last"],
        id=row["event_id"],
        kind=row["kind"],
        create_time=row["create_time"],
        actor_kind=row["actor_kind"],
        actor_id=row["actor_id"],
        cause_kind=row["cause_kind"],
        cause_id=row["cause_id"],
        conversation_id=row["conversation_id"],
        conversation_version=row["conversation_version"],
        channel_id=row["channel_id"],
        team_before=row["team_before"],
        team_after=row["team_after"],
        assignee_before=row["assignee_before"],
        assignee_after=row["assignee_after"],
        payload=row["payload"],
    )
