"""Which contacts a page of the list is of: the conditions on a row, and what indexes know of them."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from server.contacts.service import VISIBLE, scope_values
from server.rpc.call import Scope

# Of so many letters of a name its key is made.
KEY_LENGTH = 40
# Statements that are asked at most; what has few results comes first, as it is in most address books.
MOST = 4
BLOCKED = "contact_word_key('blocked')"
ADDRESSED = """
EXISTS (SELECT FROM identities i JOIN identity_aliases a ON a.identity_id = i.id
    WHERE i.contact_id = ct.id AND starts_with(a.value, {address}))
"""
# What begins alike lies between the beginning itself and the same with the last of all characters.
BY_ADDRESS = """
SELECT i.contact_id AS id FROM (
    SELECT a.identity_id FROM identity_aliases a
    WHERE a.value ~>=~ {address} AND a.value ~<~ ({address} || chr(1114111)) ORDER BY a.value USING ~<~ LIMIT {limit}
) a JOIN identities i ON i.id = a.identity_id
"""
BY_NAME = """
SELECT ct.id FROM contacts ct
WHERE ct.merged_into_id IS NULL AND ct.erase_time IS NULL AND {condition} ORDER BY ct.name_key, ct.id LIMIT {limit}
"""
BY_CHANGE = """
SELECT ct.id FROM contacts ct
WHERE ct.merged_into_id IS NULL AND ct.erase_time IS NULL AND {condition} ORDER BY ct.update_time DESC, ct.id DESC LIMIT {limit}
"""
BY_KEY = """
SELECT k.contact_id AS id FROM contact_keys k WHERE k.key = {key} ORDER BY k.create_time DESC, k.contact_id DESC LIMIT {limit}
"""
# A contact is found twice where the caller sees it in two ways; that makes the page no longer, only sooner too long.
BY_RIGHTS = """
SELECT u.id FROM (
    (SELECT x.id FROM unnest($2::uuid[]) v CROSS JOIN LATERAL (
        SELECT k.contact_id AS id FROM contact_keys k WHERE k.key = v ORDER BY k.create_time DESC, k.contact_id DESC LIMIT {limit}
    ) x LIMIT {limit})
    UNION ALL (SELECT x.id FROM unnest($3::uuid[]) v CROSS JOIN LATERAL (
        SELECT c.contact_id AS id FROM conversations c WHERE c.team_id = v AND c.delete_time IS NULL
        ORDER BY c.last_message_time DESC, c.id DESC LIMIT {limit}
    ) x LIMIT {limit})
    UNION ALL (SELECT c.contact_id FROM conversations c WHERE c.assignee_id = $4 AND c.delete_time IS NULL
        ORDER BY c.last_message_time DESC, c.id DESC LIMIT {limit})
) u LIMIT {limit}
"""

Statement = Callable[[str], str]


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which contacts: what is empty or None asks for any. attributes: names with the text, number or truth they equal."""

    name_prefix: str = ""
    address_prefix: str = ""
    channel_id: uuid.UUID | None = None
    provider: str = ""
    blocked: bool | None = None
    attributes: Sequence[tuple[str, str | float | bool]] = ()
    update_from: datetime | None = None
    update_until: datetime | None = None


class Conditions:
    """What a row of the page must meet, with the parameters of one statement.

    keys: places of the keys that the row must have in contact_keys, the rarest first by guess; ranges: conditions on a column of the
    list's orders, by column, where {t} is the table. probes: rows that looking at one contact takes beside its own.
    """

    def __init__(self, scope: Scope, wanted: Wanted) -> None:
        self.values: list[Any] = [] if scope.all else scope_values(scope)
        self.keys: list[str] = [BLOCKED] if wanted.blocked else []
        self.ranges: dict[str, str] = {}
        self.probes = 0 if scope.all else 3
        self._scoped = not scope.all
        self._address = ""
        self._parts = [] if scope.all else [VISIBLE]
        if wanted.blocked is not None:
            self._parts.append(f"ct.block_time IS {'NOT ' if wanted.blocked else ''}NULL")
        for name, value in wanted.attributes:
            self._attribute(name, value)
        self._places(wanted)
        if wanted.name_prefix:
            self._name(wanted.name_prefix)
        if wanted.update_from or wanted.update_until:
            self._change(wanted.update_from, wanted.update_until)
        if wanted.address_prefix:
            self._address = self.value(wanted.address_prefix, "text")
            self._parts.append(ADDRESSED.format(address=self._address))
            self.probes += 2

    def value(self, value: Any, cast: str) -> str:
        """Adds a parameter and returns its place, cast."""
        self.values.append(value)
        return f"${len(self.values)}::{cast}"

    @property
    def all(self) -> str:
        """Everything that a contact ct must meet; what is part of another is in no list."""
        return " AND ".join(["ct.merged_into_id IS NULL AND ct.erase_time IS NULL", *self._parts])

    def statements(self) -> list[Statement]:
        """Finds all ids that meet one of the conditions, each up to a limit whose place it is given."""
        found: list[Statement] = []
        if self._address:
            found.append(lambda limit: BY_ADDRESS.format(address=self._address, limit=limit))
        for column, sql in (("name_key", BY_NAME), ("update_time", BY_CHANGE)):
            if column in self.ranges:
                found.append(_ranged(sql, self.ranges[column].format(t="ct")))
        found += [_keyed(key) for key in self.keys]
        if self._scoped:
            found.append(lambda limit: BY_RIGHTS.format(limit=limit))
        return found[:MOST]

    def walks_well(self, column: str) -> bool:
        """Whether nothing but one key's contacts, and a range of the order's own column, is asked for."""
        return len(self._parts) == min(len(self.keys), 1) + (column in self.ranges)

    def _attribute(self, name: str, value: str | float | bool) -> None:
        key, held = self.value(name, "text"), self.value(json.dumps(value), "jsonb")
        self.keys.append(f"attribute_key({key}, {held})")
        self._parts.append(f"ct.attributes -> {key} = {held}")

    def _places(self, wanted: Wanted) -> None:
        found = [] if wanted.channel_id is None else [self.value(wanted.channel_id, "uuid")]
        found += [f"contact_word_key({self.value(wanted.provider, 'text')})"] if wanted.provider else []
        for key in found:
            self._parts.append(f"EXISTS (SELECT FROM contact_keys k WHERE k.contact_id = ct.id AND k.key = {key})")
        self.keys += found
        self.probes += len(found)

    def _name(self, prefix: str) -> None:
        key = f"contact_name_key({self.value(prefix, 'text')})"
        self._parts.append(f"starts_with(contact_name_key(ct.name), {key})")
        short = f'"left"({key}, {KEY_LENGTH})'
        self.ranges["name_key"] = f"({{t}}.name_key >= {short} AND {{t}}.name_key < ({short} || chr(1114111)))"

    def _change(self, start: datetime | None, end: datetime | None) -> None:
        ends = [(">=", start), ("<", end)]
        parts = [f"{{t}}.update_time {sign} {self.value(time, 'timestamptz')}" for sign, time in ends if time]
        self.ranges["update_time"] = "(" + " AND ".join(parts) + ")"
        self._parts.append(self.ranges["update_time"].format(t="ct"))


def _ranged(sql: str, condition: str) -> Statement:
    return lambda limit: sql.format(condition=condition, limit=limit)


def _keyed(key: str) -> Statement:
    return lambda limit: BY_KEY.format(key=key, limit=limit)
