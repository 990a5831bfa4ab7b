"""The list of contacts: a page of it reads at most 20 rows for each that it may hold, whatever is looked for and however many there are.

A page is made in one of two ways. Where an index finds few contacts by one of the conditions, these are read, filtered and sorted. Else
the order is walked from where the last page ended, for a bounded number of rows: among all contacts, or among those of one channel,
provider, attribute's value, or that are blocked. With a second condition the page may then be short, and the next one goes on behind
the last row that was looked at.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

import phonenumbers
from switchboard.v1 import contact_service_pb2 as rpc

from server.contacts import resolve
from server.contacts.filter import Conditions, Wanted
from server.contacts.service import CHANNEL, region
from server.kit.db import Connection
from server.kit.few import chosen
from server.rpc.call import Scope

# Rows for each that a page may hold: that are looked for in indexes, each of which may take two reads, and that are read in all.
SOUGHT, READ = 4, 19
COLUMNS = ", ".join(f"ct.{name}" for name in (*resolve.COLUMNS, "name_key"))


@dataclass(frozen=True, slots=True)
class Order:
    """An order of the list: by a column of contacts, and of contact_keys, then by id."""

    column: str
    cast: str
    descending: bool

    def by(self, table: str, contact_id: str) -> str:
        """ORDER BY of a table."""
        way = " DESC" if self.descending else ""
        return f"{table}.{self.column}{way}, {table}.{contact_id}{way}"

    def read(self, after: Sequence[Any]) -> tuple[Any, uuid.UUID]:
        """A token's values."""
        value, contact_id = after
        return (value if self.cast == "text" else datetime.fromisoformat(value)), uuid.UUID(contact_id)


CREATED = Order("create_time", "timestamptz", descending=True)
ORDERS: dict[int, Order] = {
    rpc.CONTACT_ORDER_CREATED: CREATED,
    rpc.CONTACT_ORDER_NAME: Order("name_key", "text", descending=False),
    rpc.CONTACT_ORDER_UPDATED: Order("update_time", "timestamptz", descending=True),
}


@dataclass(frozen=True, slots=True)
class Query:
    """Which contacts, in which order, after which row, and how many. after: a token's values."""

    limit: int
    after: Sequence[Any] | None = None
    wanted: Wanted = field(default_factory=Wanted)
    order: Order = CREATED


@dataclass(frozen=True, slots=True)
class Page:
    """Rows of the list; edge: the last row that was looked at when there may be more behind it, else None."""

    rows: list[Any]
    edge: Any | None = None


def keyset(row: Any, order: Order = CREATED) -> list[Any]:
    """A row's place in an order, as JSON scalars for a page token."""
    value = row[order.column]
    return [value.isoformat() if isinstance(value, datetime) else value, str(row["id"])]


async def page(connection: Connection, scope: Scope, query: Query) -> Page:
    """Contacts the caller may see."""
    address = await _address(connection, query.wanted)
    query = replace(query, wanted=replace(query.wanted, address_prefix=address))
    found = await _few(connection, scope, query)
    return found if found is not None else await _walk(connection, scope, query)


async def _few(connection: Connection, scope: Scope, query: Query) -> Page | None:
    """The page out of the few contacts that an index finds; None when no index finds few."""
    wanted = Conditions(scope, query.wanted)
    statements = wanted.statements()
    if not statements or wanted.walks_well(query.order.column):
        return None
    share = min(SOUGHT, READ // (3 + wanted.probes)) * query.limit // len(statements)
    limit, most = wanted.value(share + 1, "bigint"), wanted.value(share, "bigint")
    few = chosen([statement(limit) for statement in statements], most)
    sql = (
        f"WITH {few} SELECT f.fits, l.* FROM fits f LEFT JOIN LATERAL ("
        f"SELECT {COLUMNS} FROM contacts ct WHERE ct.id = ANY(ARRAY(SELECT id FROM chosen)) AND {wanted.all}"
        f" AND {_after(wanted, query, 'ct', 'id')}"
        f" ORDER BY {query.order.by('ct', 'id')} LIMIT {wanted.value(query.limit, 'bigint')}) l ON TRUE"
    )
    records = await connection.fetch(sql, *wanted.values)
    if not records[0]["fits"]:
        return None
    return Page([record for record in records if record["id"]])


def _after(wanted: Conditions, query: Query, table: str, contact_id: str) -> str:
    if query.after is None:
        return "TRUE"
    value, last = query.order.read(query.after)
    places = f"{wanted.value(value, query.order.cast)}, {wanted.value(last, 'uuid')}"
    return f"({table}.{query.order.column}, {table}.{contact_id}) {'<' if query.order.descending else '>'} ({places})"


async def _walk(connection: Connection, scope: Scope, query: Query) -> Page:
    """The page out of the next rows of the order, or of those of one key in this order."""
    wanted, order = Conditions(scope, query.wanted), query.order
    # Keys are of contacts alone that are part of no other.
    table, contact_id = ("contact_keys", "contact_id") if wanted.keys else ("contacts", "id")
    walked = (READ - 2 * SOUGHT) // (2 + wanted.probes)
    most = wanted.value(max(1, walked) * query.limit, "bigint")
    inside = [_after(wanted, query, "w", contact_id), *(f"w.key = {key}" for key in wanted.keys[:1])]
    inside += [] if wanted.keys else ["w.merged_into_id IS NULL AND w.erase_time IS NULL"]
    inside += [wanted.ranges[order.column].format(t="w")] if order.column in wanted.ranges else []
    next_rows = (
        f"SELECT w.{contact_id} AS id, w.{order.column}, row_number() OVER (ORDER BY {order.by('w', contact_id)}) AS place"
        f" FROM {table} w WHERE {' AND '.join(inside)} ORDER BY {order.by('w', contact_id)} LIMIT {most}"
    )
    sql = (
        f"SELECT c.*, c.place = {most} AS is_edge FROM ("
        f"SELECT {COLUMNS}, w.place, coalesce({wanted.all}, FALSE) AS matched"
        f" FROM ({next_rows}) w JOIN contacts ct ON ct.id = w.id"
        f") c WHERE c.matched OR c.place = {most} ORDER BY {order.by('c', 'id')}"
        f" LIMIT {wanted.value(query.limit, 'bigint')}"
    )
    records = await connection.fetch(sql, *wanted.values)
    edge = records[-1] if records and records[-1]["is_edge"] else None
    return Page([record for record in records if record["matched"]], edge)


async def _address(connection: Connection, wanted: Wanted) -> str:
    """The beginning of an address as the provider writes it: of a number the digits, with the country's."""
    text = wanted.address_prefix.strip()
    if not re.fullmatch(r"\+?[\d\s()/.-]+", text, re.ASCII):
        return text
    digits = re.sub(r"\D", "", text)
    if text.startswith("+") or not digits.startswith("0"):
        return digits
    if digits.startswith("00"):
        return digits[2:]
    channel = wanted.channel_id and await connection.fetchrow(CHANNEL, wanted.channel_id)
    country = region(channel["display_phone_number"]) if channel else None
    code = phonenumbers.country_code_for_region(country) if country else 0
    return f"{code}{digits[1:]}" if code else digits
