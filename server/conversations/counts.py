"""Counts of conversations, exact to 1,000: of a filter's, and of those that are live."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from switchboard.v1 import conversation_filter_pb2 as filters

from server.conversations.filter import Where, check
from server.conversations.narrow import Narrow
from server.conversations.repository import HEAD
from server.kit.db import Connection
from server.kit.few import chosen
from server.log.cursor import HeadRow
from server.rpc.call import Scope

LIMIT = 1000
# Conversations that are looked for in indexes, and then filtered, before the table is.
SOUGHT = 5000
LIVE = "c.status IN ('new', 'open', 'pending', 'snoozed') AND c.delete_time IS NULL"


@dataclass(frozen=True, slots=True)
class Limited:
    """At most 1,000, and whether there are more."""

    count: int
    more: bool

    @classmethod
    def of(cls, found: int) -> Limited:
        """Of a count that stopped one above the limit."""
        return cls(min(found, LIMIT), found > LIMIT)


@dataclass(frozen=True, slots=True)
class Live:
    """Live conversations that the caller may see: its own, nobody's, all."""

    mine: Limited
    unassigned: Limited
    all: Limited


async def count(connection: Connection, scope: Scope, wanted: filters.ConversationFilter) -> tuple[Limited, HeadRow]:
    """How many there are of a filter, and the head, from one statement, one of two."""
    check(wanted, agent_id=scope.agent_id)
    where = Where()
    statements = Narrow(where, scope).statements(wanted)
    if statements:
        share = SOUGHT // len(statements)
        limit, most = where.value(share + 1, "bigint"), where.value(share, "bigint")
        few = chosen([statement(limit) for statement in statements], most)
        counted = _counted(where, scope, wanted, "c.id = ANY(ARRAY(SELECT id FROM chosen)) AND ")
        sql = f"WITH {few} SELECT {HEAD}, f.fits, {counted} AS found FROM stream_head h CROSS JOIN fits f"
        record: Any = await connection.fetchrow(sql, *where.values)
        if record["fits"]:
            return Limited.of(record["found"]), HeadRow.of(record)
    where = Where()
    sql = f"SELECT {HEAD}, {_counted(where, scope, wanted, '')} AS found FROM stream_head h"
    record = await connection.fetchrow(sql, *where.values)
    return Limited.of(record["found"]), HeadRow.of(record)


def _counted(where: Where, scope: Scope, wanted: filters.ConversationFilter, among: str) -> str:
    condition = f"c.delete_time IS NULL AND {where.scope(scope)} AND {where.filter(wanted, scope)}"
    return f"(SELECT count(*) FROM (SELECT FROM conversations c WHERE {among}{condition} LIMIT {LIMIT + 1}) x)"


async def live(connection: Connection, scope: Scope) -> Live:
    """Counts of what the caller may see. Reads at most 1,001 entries of an index for each way in which it may."""
    where = Where()
    own = [] if scope.agent_id is None else [_Way(f"c.assignee_id = {where.value(scope.agent_id, 'uuid')}", _BY_AGENT)]
    ways = _ways(where, scope)
    unassigned = [way.unassigned() for way in ways]
    if not scope.all:
        ways += own
    sql = f"SELECT {_together(own)} AS mine, {_together(unassigned)} AS unassigned, {_together(ways)} AS all_live"
    record: Any = await connection.fetchrow(sql, *where.values)
    return Live(Limited.of(record["mine"]), Limited.of(record["unassigned"]), Limited.of(record["all_live"]))


_BY_CHANNEL, _BY_AGENT, _BY_TEAM = (
    "c.channel_id, c.identity_id",
    "c.assignee_id, c.channel_id",
    "c.team_id, c.assignee_id",
)


@dataclass(frozen=True, slots=True)
class _Way:
    """A condition, and the order of the index that knows it: without it the planner may read the table instead."""

    condition: str
    order: str

    def unassigned(self) -> _Way:
        """Those of nobody among them."""
        order = self.order if self.order == _BY_TEAM else _BY_AGENT
        return _Way(f"{self.condition} AND c.assignee_id IS NULL", order)


def _ways(where: Where, scope: Scope) -> list[_Way]:
    """The ways in which the caller may see a conversation that is nobody's."""
    if scope.all:
        return [_Way("TRUE", _BY_CHANNEL)]
    return [
        *(_Way(f"c.channel_id = {where.value(item, 'uuid')}", _BY_CHANNEL) for item in sorted(scope.channel_ids)),
        *(_Way(f"c.team_id = {where.value(item, 'uuid')}", _BY_TEAM) for item in sorted(scope.team_ids)),
    ]


def _together(ways: list[_Way]) -> str:
    """How many live conversations can be seen in one of these ways; each is followed in its index until the limit."""
    if not ways:
        return "0"
    parts = [
        f"(SELECT c.id FROM conversations c WHERE {LIVE} AND {way.condition} ORDER BY {way.order} LIMIT {LIMIT + 1})"
        for way in ways
    ]
    return f"(SELECT count(*) FROM (SELECT id FROM ({' UNION '.join(parts)}) u LIMIT {LIMIT + 1}) x)"
