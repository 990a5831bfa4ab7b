"""The list: a page of it reads at most 20 rows for each that it may hold, however many conversations there are.

A page is made in one of two ways. Where an index finds few conversations by one of the filter's conditions, these are read, filtered
and sorted. Else the order's index is walked from where the last page ended, for a bounded number of rows; the page may then be
short, and the next one goes on behind the last row that was looked at. Where words are looked for it reads some thousand rows.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from switchboard.v1 import conversation_filter_pb2 as filters
from switchboard.v1 import conversation_service_pb2 as service_pb2

from server.conversations.convert import STATUS
from server.conversations.filter import TIMES, WAITING, WINDOW, Where, check, lookups, read_ids, says
from server.conversations.narrow import Narrow
from server.conversations.repository import HEAD
from server.conversations.row import COLUMNS, ConversationRow, from_record
from server.kit.db import Connection
from server.kit.errors import FieldViolation, InvalidFields
from server.kit.few import chosen
from server.log.cursor import HeadRow
from server.rpc.call import Scope

# Rows that are looked for in indexes, and walked, for each row that a page may hold.
SOUGHT, WALKED = 6, 9
# Where words are looked for, at least so many of each: a page then holds what it can of any word (docs/decisions/0023).
SOUGHT_WORDS, WALKED_WORDS = 5000, 10_000
SELECTED = ", ".join(f"c.{name}" for name in COLUMNS)
POSITION = "(SELECT rp.inbound_count FROM read_positions rp WHERE rp.conversation_id = c.id AND rp.agent_id = {agent})"
# The walk is merged from the index of each value, up to so many.
MERGED = 8


@dataclass(frozen=True, slots=True)
class Order:
    """An order of the list: its columns as SQL, all ascending or all descending, and the same as attributes of a row.

    ranges: fields of the filter that are ranges of its first column. merges: whether single values have an index in this order.
    """

    sql: tuple[str, ...]
    columns: tuple[tuple[str, str], ...]
    descending: bool
    ranges: tuple[str, ...] = ()
    merges: bool = False

    @property
    def order_by(self) -> str:
        """ORDER BY of conversations c."""
        return ", ".join(f"{column} DESC" if self.descending else column for column in self.sql)

    def after(self, places: Sequence[str]) -> str:
        """The condition that continues after a row; places: of its values."""
        values = [f"coalesce({place}, 'infinity'::timestamptz)" for place in places[:-1]]
        values = values if self.sql[0].startswith("coalesce") else list(places[:-1])
        return f"({', '.join(self.sql)}) {'<' if self.descending else '>'} ({', '.join([*values, places[-1]])})"


_TIME, _ID = "timestamptz", ("id", "uuid")
_BY_MESSAGE = (("c.last_message_time", "c.id"), (("last_message_time", _TIME), _ID))
_BY_CREATION = (("c.create_time", "c.id"), (("create_time", _TIME), _ID))
ORDERS: dict[int, Order] = {
    service_pb2.CONVERSATION_ORDER_LAST_MESSAGE: Order(
        *_BY_MESSAGE, descending=True, ranges=("last_message_time",), merges=True
    ),
    service_pb2.CONVERSATION_ORDER_OLDEST_MESSAGE: Order(
        *_BY_MESSAGE, descending=False, ranges=("last_message_time",), merges=True
    ),
    service_pb2.CONVERSATION_ORDER_CREATED: Order(*_BY_CREATION, descending=True, ranges=("create_time",)),
    service_pb2.CONVERSATION_ORDER_OLDEST: Order(*_BY_CREATION, descending=False, ranges=("create_time",)),
    service_pb2.CONVERSATION_ORDER_PRIORITY: Order(
        ("c.priority", "c.last_message_time", "c.id"),
        (("priority", "smallint"), ("last_message_time", _TIME), _ID),
        descending=True,
        ranges=("priority",),
    ),
    service_pb2.CONVERSATION_ORDER_LONGEST_WAITING: Order(
        (WAITING, "c.id"), (("waiting_since", _TIME), _ID), descending=False, ranges=("waiting_since",)
    ),
    service_pb2.CONVERSATION_ORDER_REPLY_WINDOW: Order(
        (WINDOW, "c.id"), (("reply_window_expire_time", _TIME), _ID), descending=False, ranges=("reply_window",)
    ),
}


@dataclass(frozen=True, slots=True)
class Query:
    """Which conversations, in which order, after which row, and how many. after: a token's values. deleted: those alone."""

    wanted: filters.ConversationFilter
    order: Order
    after: Sequence[Any] | None
    limit: int
    deleted: bool = False


@dataclass(frozen=True, slots=True)
class Page:
    """Rows of the list; edge: the last row that was looked at when there may be more behind it, else None."""

    rows: list[ConversationRow]
    edge: ConversationRow | None
    head: HeadRow


def check_order(query: Query) -> None:
    """Deleted conversations have one index. InvalidFields."""
    if query.deleted and not query.order.merges:
        raise InvalidFields(
            FieldViolation("order", "deleted conversations are listed by newest or oldest message only")
        )


def keyset(row: ConversationRow, order: Order) -> list[Any]:
    """A row's values in an order, as JSON scalars for a page token."""
    values = [getattr(row, name) for name, _ in order.columns]
    return [
        value.isoformat() if isinstance(value, datetime) else str(value) if isinstance(value, uuid.UUID) else value
        for value in values
    ]


def _read_keyset(values: Sequence[Any], order: Order) -> list[Any]:
    readers: dict[str, Callable[[Any], Any]] = {
        _TIME: lambda text: text and datetime.fromisoformat(text),
        "uuid": uuid.UUID,
        "smallint": int,
    }
    return [readers[kind](value) for value, (_, kind) in zip(values, order.columns, strict=True)]


async def page(connection: Connection, scope: Scope, query: Query) -> Page:
    """A page of what the caller may see. Its rows and the head are of one statement, one of two."""
    check_order(query)
    check(query.wanted, agent_id=scope.agent_id)
    found = await _few(connection, scope, query)
    return found if found is not None else await _walk(connection, scope, query)


async def _few(connection: Connection, scope: Scope, query: Query) -> Page | None:
    """The page out of the few conversations that an index finds; None when no index finds few."""
    where = Where()
    statements = Narrow(where, scope).statements(query.wanted) if not query.deleted else []
    if not statements or _walks_well(query, scope):
        return None
    # Each that is found is read, with as many rows of other tables as the filter looks up.
    sought = max(SOUGHT * query.limit, SOUGHT_WORDS if says(query.wanted, "text") else 0)
    share = sought // max(len(statements), 2 * lookups(query.wanted) // 3)
    limit, most = where.value(share + 1, "bigint"), where.value(share, "bigint")
    sql = (
        f"WITH {chosen([statement(limit) for statement in statements], most)}"
        f" SELECT l.*, {HEAD}, f.fits FROM stream_head h CROSS JOIN fits f LEFT JOIN LATERAL ("
        f"SELECT {_shown(where, scope)} FROM conversations c WHERE c.id = ANY(ARRAY(SELECT id FROM chosen))"
        f" AND {_all_of(where, scope, query)} ORDER BY {query.order.order_by} LIMIT {where.value(query.limit, 'bigint')}"
        ") l ON TRUE"
    )
    records = await connection.fetch(sql, *where.values)
    if not records[0]["fits"]:
        return None
    return Page([from_record(record) for record in records if record["id"]], None, HeadRow.of(records[0]))


def _all_of(where: Where, scope: Scope, query: Query) -> str:
    """Everything that a row of the page must meet."""
    deleted = f"c.delete_time IS {'NOT ' if query.deleted else ''}NULL"
    return " AND ".join([deleted, where.scope(scope), where.filter(query.wanted, scope), _after(where, query)])


def _after(where: Where, query: Query) -> str:
    if query.after is None:
        return "TRUE"
    values = _read_keyset(query.after, query.order)
    pairs = zip(values, query.order.columns, strict=True)
    return query.order.after([where.value(value, kind) for value, (_, kind) in pairs])


def _shown(where: Where, scope: Scope) -> str:
    if scope.agent_id is None:
        return f"{SELECTED}, NULL::integer AS my_read_count"
    return f"{SELECTED}, {POSITION.format(agent=where.value(scope.agent_id, 'uuid'))} AS my_read_count"


async def _walk(connection: Connection, scope: Scope, query: Query) -> Page:
    """The page out of the next rows of the order."""
    where, order = Where(), query.order.order_by
    limit = where.value(query.limit, "bigint")
    values = _merged(where, scope, query)
    # Words, and how far who asks has read, are looked up for each row as well.
    dearer = 1 + lookups(query.wanted)
    most_read = max(WALKED * query.limit, WALKED_WORDS if says(query.wanted, "text") else 0)
    walked = max(1, most_read // dearer // len(values))
    most = where.value(walked, "bigint")
    matched = f"coalesce({where.scope(scope)} AND {where.filter(query.wanted, scope)}, FALSE)"
    inside = [f"c.delete_time IS {'NOT ' if query.deleted else ''}NULL", _after(where, query)]
    inside += where.fields(query.wanted, scope, _ranges(query)).values()
    parts = [
        f"SELECT c.* FROM conversations c WHERE {' AND '.join([*inside, value])} ORDER BY {order} LIMIT {most}"
        for value in values
    ]
    rows = (
        f"SELECT c.*, row_number() OVER (ORDER BY {order}) AS place FROM ({' UNION ALL '.join(f'({part})' for part in parts)}) c"
        f" ORDER BY {order} LIMIT {most}"
    )
    sql = (
        f"SELECT l.*, {HEAD} FROM stream_head h LEFT JOIN LATERAL ("
        f"SELECT {_shown(where, scope)}, c.matched, c.place = {most} AS is_edge"
        f" FROM (SELECT c.*, {matched} AS matched FROM ({rows}) c) c"
        f" WHERE c.matched OR c.place = {most} ORDER BY {order} LIMIT {limit}"
        ") l ON TRUE"
    )
    records = await connection.fetch(sql, *where.values)
    found = [record for record in records if record["id"]]
    edge = from_record(found[-1]) if found and found[-1]["is_edge"] else None
    return Page([from_record(record) for record in found if record["matched"]], edge, HeadRow.of(records[0]))


def _ranges(query: Query) -> list[str]:
    """The fields that are a range of the order's first column: times are, and of a set of values one alone."""
    return [name for name in query.order.ranges if name in TIMES or len(getattr(query.wanted, name)) == 1]


def _merged(where: Where, scope: Scope, query: Query) -> list[str]:
    """What is walked: all, or the part of each value of a field that has an index in this order."""
    field = _merging(query)
    if field is None:
        return ["TRUE"]
    if field == "unread":
        return ["c.inbound_count > c.team_read_count"]
    return _values(where, scope, field, query)


def _merging(query: Query) -> str | None:
    """The field whose index is walked."""
    if not query.order.merges or query.deleted:
        return None
    for name in ("assignee_id", "team_id", "status", "channel_id"):
        if 0 < len(getattr(query.wanted, name)) <= MERGED:
            return name
    return "unread" if query.wanted.unread == filters.UNREAD_TEAM else None


def _values(where: Where, scope: Scope, field: str, query: Query) -> list[str]:
    if field == "status":
        words = sorted({STATUS.word(item) for item in query.wanted.status})
        return [f"c.status = {where.value(word, 'text')}" for word in words]
    ids, absent = read_ids(field, getattr(query.wanted, field), scope)
    found = [f"c.{field} = {where.value(item, 'uuid')}" for item in sorted(set(ids))]
    return [*found, f"c.{field} IS NULL"] if absent else found


def _walks_well(query: Query, scope: Scope) -> bool:
    """Whether the walk finds nothing but what the filter asks for, so that nothing need be looked for first."""
    names = {field.name for field, _ in query.wanted.ListFields()}
    return scope.all and names <= {_merging(query), *_ranges(query)}
