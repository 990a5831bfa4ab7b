"""What there is now."""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from switchboard.v1 import conversation_filter_pb2 as filters

from server.conversations.filter import Where
from server.conversations.statistics.follow import CONSUMER
from server.conversations.statistics.known import LIVE_STATUSES
from server.kit.db import Connection
from server.kit.errors import FieldViolation, InvalidFields
from server.log.cursor import HeadRow
from server.rpc.call import Scope

STANDS = """
SELECT h.epoch, h.floor, coalesce(p.seq, 0) AS head, CASE WHEN p.seq = h.head THEN h.head_event_id ELSE e.event_id END AS head_event_id
FROM stream_head h
LEFT JOIN consumers p ON p.name = $1
LEFT JOIN stream_event e ON e.seq = p.seq
"""
NOW = """
SELECT c.channel_id, c.dimension, c.value, c.status, c.provider, c.count, c.unassigned, c.unread, c.unattended
FROM conversation_counts c WHERE c.count > 0 AND {where}
"""


@dataclass(frozen=True, slots=True)
class Counts:
    """How many conversations of a channel have a value of a dimension and a status; of the live ones, how many need somebody."""

    channel_id: uuid.UUID
    dimension: str
    value: str
    status: str
    provider: str
    count: int
    unassigned: int
    unread: int
    unattended: int


async def stands(connection: Connection) -> HeadRow:
    """Where in the log the numbers stand."""
    return HeadRow.of(await connection.fetchrow(STANDS, CONSUMER))


async def now(connection: Connection, scope: Scope, wanted: filters.ConversationFilter) -> list[Counts]:
    """The counts of the channels the caller may see. INVALID_FIELDS for what would be an export."""
    _check(wanted)
    where = Where()
    condition = where.filter(wanted, scope)
    if not scope.all:
        condition += f" AND c.channel_id = ANY({where.value(list(scope.channel_ids), 'uuid[]')})"
    return [Counts(*record.values()) for record in await connection.fetch(NOW.format(where=condition), *where.values)]


def by_status(counts: list[Counts]) -> Counter[str]:
    """All conversations by status: each has one channel, so that dimension counts each once."""
    found: Counter[str] = Counter()
    for item in counts:
        if item.dimension == "channel":
            found[item.status] += item.count
    return found


def live(
    counts: list[Counts], dimension: str, number: Callable[[Counts], int] = lambda item: item.count
) -> Counter[str]:
    """Live conversations by the value of a dimension."""
    found: Counter[str] = Counter()
    for item in counts:
        if item.dimension == dimension and item.status in LIVE_STATUSES:
            found[item.value] += number(item)
    return found


def _check(wanted: filters.ConversationFilter) -> None:
    """Statistics know channel and provider only."""
    for field, _ in wanted.ListFields():
        if field.name not in ("channel_id", "provider"):
            text = "statistics take channel_id and provider only; anything else is an export"
            raise InvalidFields(FieldViolation(f"filter.{field.name}", text))
