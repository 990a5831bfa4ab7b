"""The list of contacts: what a page of it reads is bounded, whatever is looked for and however many contacts there are.

Where an index finds few contacts by the beginning of an address or a name, these are read, filtered and sorted. Else the newest
contacts behind the last page are walked, a bounded number of them; the page may then be short, and the next one goes on behind the
last row that was looked at.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import phonenumbers

from server.contacts import resolve
from server.contacts.service import CHANNEL, VISIBLE, region, scope_values
from server.kit.db import Connection
from server.rpc.call import Scope

# Rows that are looked for in an index, and walked, for each row that a page may hold.
SOUGHT, WALKED = 6, 9
COLUMNS = ", ".join(f"ct.{name}" for name in resolve.COLUMNS)
MATCHED = f"""
{VISIBLE} AND starts_with(lower(ct.name), lower($5::text))
AND ($6::text = '' OR EXISTS (SELECT FROM identities i JOIN identity_aliases a ON a.identity_id = i.id
    WHERE i.contact_id = ct.id AND starts_with(a.value, $6)))
AND ($7::uuid IS NULL OR EXISTS (SELECT FROM identities i WHERE i.contact_id = ct.id AND i.channel_id = $7))
"""
# One comparison, with or without a row to go on behind, so that no plan has to filter what the index can skip.
BEHIND = """
(ct.create_time, ct.id) < (coalesce($8, 'infinity'::timestamptz), coalesce($9, 'ffffffff-ffff-ffff-ffff-ffffffffffff'::uuid))
"""
# What begins alike lies between the beginning itself and the same with the last of all characters.
BY_ADDRESS = """
SELECT i.contact_id AS id FROM identity_aliases a JOIN identities i ON i.id = a.identity_id
WHERE a.value ~>=~ $6 AND a.value ~<~ ($6 || chr(1114111))
"""
BY_NAME = "SELECT id FROM contacts WHERE lower(name) ~>=~ lower($5) AND lower(name) ~<~ (lower($5) || chr(1114111))"
FEW = f"""
WITH sought AS MATERIALIZED ({{found}} LIMIT $11::bigint + 1)
SELECT f.fits, l.* FROM (SELECT count(*) <= $11 AS fits FROM sought) f LEFT JOIN LATERAL (
    SELECT {COLUMNS} FROM contacts ct WHERE f.fits AND ct.id = ANY(ARRAY(SELECT id FROM sought)) AND {MATCHED} AND {BEHIND}
    ORDER BY ct.create_time DESC, ct.id DESC LIMIT $10
) l ON TRUE
"""
WALK = f"""
SELECT {COLUMNS}, ct.matched, ct.place = $11 AS is_edge FROM (
    SELECT ct.*, {MATCHED} AS matched FROM (
        SELECT ct.*, row_number() OVER (ORDER BY ct.create_time DESC, ct.id DESC) AS place FROM (
            SELECT * FROM contacts ct WHERE {BEHIND} ORDER BY ct.create_time DESC, ct.id DESC LIMIT $11::bigint
        ) ct
    ) ct
) ct WHERE ct.matched OR ct.place = $11 ORDER BY ct.create_time DESC, ct.id DESC LIMIT $10
"""


@dataclass(frozen=True, slots=True)
class Query:
    """Which contacts, after which row, and how many. Empty beginnings and no channel ask for all; after: a token's values."""

    limit: int
    after: Sequence[Any] | None = None
    name_prefix: str = ""
    address_prefix: str = ""
    channel_id: uuid.UUID | None = None


@dataclass(frozen=True, slots=True)
class Page:
    """Rows of the list; edge: the last row that was looked at when there may be more behind it, else None."""

    rows: list[Any]
    edge: Any | None = None


def keyset(row: Any) -> list[Any]:
    """A row's place, as JSON scalars for a page token."""
    return [row["create_time"].isoformat(), str(row["id"])]


async def page(connection: Connection, scope: Scope, query: Query) -> Page:
    """Contacts the caller may see, newest first."""
    time, contact_id = (
        (datetime.fromisoformat(query.after[0]), uuid.UUID(query.after[1])) if query.after else (None, None)
    )
    address = await _address(connection, query)
    values = [*scope_values(scope), query.name_prefix, address, query.channel_id, time, contact_id, query.limit]
    if address or query.name_prefix:
        found = BY_ADDRESS if address else BY_NAME
        records = await connection.fetch(FEW.format(found=found), *values, query.limit * SOUGHT)
        if records[0]["fits"]:
            return Page([record for record in records if record["id"]])
    records = await connection.fetch(WALK, *values, query.limit * WALKED)
    edge = records[-1] if records and records[-1]["is_edge"] else None
    return Page([record for record in records if record["matched"]], edge)


async def _address(connection: Connection, query: Query) -> str:
    """The beginning of an address as the provider writes it: of a number the digits, with the country's."""
    text = query.address_prefix.strip()
    if not re.fullmatch(r"\+?[\d\s()/.-]+", text, re.ASCII):
        return text
    digits = re.sub(r"\D", "", text)
    if text.startswith("+") or not digits.startswith("0"):
        return digits
    if digits.startswith("00"):
        return digits[2:]
    channel = query.channel_id and await connection.fetchrow(CHANNEL, query.channel_id)
    country = region(channel["display_phone_number"]) if channel else None
    code = phonenumbers.country_code_for_region(country) if country else 0
    return f"{code}{digits[1:]}" if code else digits
