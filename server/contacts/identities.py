"""Addresses that agents give a contact or take from it, and the conflicts that were met on the way."""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from server.contacts.resolve import ADD_ALIASES, ADD_IDENTITIES, MEET, conflict_event, record_conflict
from server.contacts.service import CHANNEL, GET, check_kind, digits, get_standing, region, scope_values, updated
from server.kit.clock import utc_now
from server.kit.db import Connection, Raced
from server.kit.errors import FieldViolation, InvalidFields, NotFound, Refusal
from server.kit.ids import new_id
from server.log.event import NewEvent, Origin
from server.providers.contract import Provider
from server.rpc.call import Scope

USER_ID_CHARACTERS = 128
LOCK = "SELECT id FROM contacts WHERE id = $1 AND merged_into_id IS NULL AND erase_time IS NULL FOR NO KEY UPDATE"
# The same address on this channel, or on another one of the provider; of all who have it a stranger to the contact comes first.
HOLDERS = """
SELECT i.id AS identity_id, i.contact_id, a.channel_id FROM identity_aliases a
JOIN identities i ON i.id = a.identity_id JOIN channels ch ON ch.id = a.channel_id
WHERE a.kind = $1 AND a.value = $2 AND ch.provider = $3
ORDER BY i.contact_id = $4, a.channel_id <> $5, i.id LIMIT 1
"""
OWN = "SELECT id, channel_id FROM identities WHERE contact_id = $1 ORDER BY id FOR UPDATE"
HELD = """
SELECT i.id FROM identity_aliases a JOIN identities i ON i.id = a.identity_id WHERE a.channel_id = $1 AND a.kind = $2 AND a.value = $3
"""
IN_USE = "SELECT EXISTS (SELECT FROM conversations WHERE identity_id = $1)"
SEEN = "($1 OR x.channel_id = ANY($2::uuid[]))"
LIST = f"""
SELECT x.*, i.contact_id, o.contact_id AS other_contact_id FROM identity_conflicts x
JOIN identities i ON i.id = x.identity_id JOIN identities o ON o.id = x.other_identity_id
WHERE {SEEN} AND i.contact_id <> o.contact_id AND ($3::uuid IS NULL OR $3 IN (i.contact_id, o.contact_id))
    AND (x.create_time, x.id) < (coalesce($4, 'infinity'::timestamptz), coalesce($5, 'ffffffff-ffff-ffff-ffff-ffffffffffff'::uuid))
ORDER BY x.create_time DESC, x.id DESC LIMIT $6
"""


class IdentityTaken(Refusal):
    """The address is another contact's; the conflict is recorded. contact_id: whose, if the caller may know."""

    status = "ALREADY_EXISTS"
    reason = "IDENTITY_CONFLICT"

    def __init__(self, conflict_id: uuid.UUID, contact_id: uuid.UUID | None) -> None:
        metadata = {"conflict_id": str(conflict_id)}
        if contact_id is not None:
            metadata["contact_id"] = str(contact_id)
        super().__init__("the address belongs to another contact; merge them if they are one person", metadata=metadata)


class IdentityInUse(Refusal):
    """The identity has conversations, or is the contact's last. by: "conversations" or "contact"."""

    status = "FAILED_PRECONDITION"
    reason = "IDENTITY_IN_USE"

    def __init__(self, by: str) -> None:
        super().__init__("an identity with conversations, and the last of a contact, stay", metadata={"by": by})


@dataclass(frozen=True, slots=True)
class Given:
    """An address for a contact: of a kind, on a channel; identity_id: whose further address it is, None for a new identity."""

    contact_id: uuid.UUID
    channel_id: uuid.UUID
    kind: str
    value: str
    identity_id: uuid.UUID | None = None


@dataclass(frozen=True, slots=True)
class Met:
    """A conflict that is recorded: the events of that, none when it was known, and what to tell the caller."""

    events: Sequence[NewEvent]
    refusal: IdentityTaken


async def meet(
    connection: Connection, scope: Scope, given: Given, *, providers: Mapping[str, Provider], origin: Origin
) -> Met | None:
    """Records a conflict if the address is another contact's. None when it is free, and stays so until the end.

    NotFound for contact, channel and identity; InvalidFields for what is no address of its kind.
    """
    await get_standing(connection, scope, given.contact_id)
    channel, value = await _address(connection, scope, given)
    check_kind(providers[channel["provider"]], given.kind, field="kind")
    await connection.execute(MEET, [f"{channel['provider']}/{given.kind}/{value}"])
    if await connection.fetchval(LOCK, given.contact_id) is None:
        raise Raced
    own = {row["id"]: row["channel_id"] for row in await connection.fetch(OWN, given.contact_id)}
    if given.identity_id is not None:
        await _check_own(connection, scope, given.identity_id, own)
        if own[given.identity_id] != given.channel_id:
            raise InvalidFields(FieldViolation("identity_id", "is not on this channel"))
    held = await connection.fetchrow(
        HOLDERS, given.kind, value, channel["provider"], given.contact_id, given.channel_id
    )
    if held is None or held["contact_id"] == given.contact_id:
        return None
    key = (given.channel_id, given.kind, value)
    ids = given.identity_id or min(own), held["identity_id"]
    conflict_id, is_new = await record_conflict(connection, key, *ids, now=utc_now())
    events = [conflict_event(key, *ids, origin=origin)] if is_new else []
    told = await _seen(connection, scope, held["contact_id"])
    return Met(events, IdentityTaken(conflict_id, held["contact_id"] if told else None))


async def add(connection: Connection, scope: Scope, given: Given, *, origin: Origin) -> Sequence[NewEvent]:
    """Gives a contact an address that `meet` found free; no event when it has it already. Raced."""
    _, value = await _address(connection, scope, given)
    now, identity_id = utc_now(), given.identity_id or new_id()
    held = await connection.fetchval(HELD, given.channel_id, given.kind, value)
    if held is not None:
        if given.identity_id not in (None, held):
            raise InvalidFields(FieldViolation("identity_id", "another identity of the contact has the address"))
        return []
    if given.identity_id is None:
        await connection.execute(
            ADD_IDENTITIES, [identity_id], [given.contact_id], [given.channel_id], [None], [now], [None], [None]
        )
    columns = [new_id(), given.channel_id, given.kind, value, identity_id, now]
    (added,) = await connection.fetch(ADD_ALIASES, *([column] for column in columns))
    if added["identity_id"] != identity_id:
        raise Raced
    return await _changed(connection, given.contact_id, origin=origin)


async def remove(
    connection: Connection, scope: Scope, contact_id: uuid.UUID, identity_id: uuid.UUID, *, origin: Origin
) -> Sequence[NewEvent]:
    """Takes an identity with its addresses from a contact. NotFound; IdentityInUse. Conflicts about it are forgotten."""
    await get_standing(connection, scope, contact_id)
    if await connection.fetchval(LOCK, contact_id) is None:
        raise Raced
    own = {row["id"]: row["channel_id"] for row in await connection.fetch(OWN, contact_id)}
    await _check_own(connection, scope, identity_id, own)
    if await connection.fetchval(IN_USE, identity_id):
        raise IdentityInUse("conversations")
    if len(own) == 1:
        raise IdentityInUse("contact")
    await connection.execute("DELETE FROM identity_conflicts WHERE $1 IN (identity_id, other_identity_id)", identity_id)
    await connection.execute("DELETE FROM identity_aliases WHERE identity_id = $1", identity_id)
    await connection.execute("DELETE FROM identities WHERE id = $1", identity_id)
    return await _changed(connection, contact_id, own[identity_id], origin=origin)


async def conflicts(
    connection: Connection, scope: Scope, *, contact_id: uuid.UUID | None, after: Sequence[Any] | None, limit: int
) -> list[Any]:
    """Conflicts on channels of the caller, newest first."""
    time, conflict_id = (datetime.fromisoformat(after[0]), uuid.UUID(after[1])) if after else (None, None)
    values = [*scope_values(scope)[:2], contact_id, time, conflict_id, limit]
    found: list[Any] = await connection.fetch(LIST, *values)
    return found


async def _check_own(
    connection: Connection, scope: Scope, identity_id: uuid.UUID, own: Mapping[uuid.UUID, uuid.UUID]
) -> None:
    """Lets the contact's own pass. NotFound for one on no channel of the caller, InvalidFields for somebody else's."""
    if identity_id in own:
        return
    channel_id = await connection.fetchval("SELECT channel_id FROM identities WHERE id = $1", identity_id)
    if channel_id is None or not scope.sees(channel_id=channel_id, team_id=None, assignee_id=None):
        raise NotFound("identity")
    raise InvalidFields(FieldViolation("identity_id", "is another contact's"))


async def _changed(connection: Connection, contact_id: uuid.UUID, *also: uuid.UUID, origin: Origin) -> list[NewEvent]:
    await connection.execute("UPDATE contacts SET update_time = $2 WHERE id = $1", contact_id, utc_now())
    return await updated(connection, contact_id, *also, origin=origin)


async def _seen(connection: Connection, scope: Scope, contact_id: uuid.UUID) -> bool:
    return await connection.fetchrow(GET, *scope_values(scope), contact_id) is not None


async def _address(connection: Connection, scope: Scope, given: Given) -> tuple[Any, str]:
    """The channel, and the address as its provider writes it. NotFound; InvalidFields."""
    channel = await connection.fetchrow(CHANNEL, given.channel_id)
    if channel is None or not scope.sees(channel_id=given.channel_id, team_id=None, assignee_id=None):
        raise NotFound("channel")
    if given.kind == "wa_id":
        return channel, digits(given.value, region=region(channel["display_phone_number"]), field="value")
    value = given.value.strip()
    if not re.fullmatch(rf"[A-Za-z0-9._:-]{{1,{USER_ID_CHARACTERS}}}", value):
        raise InvalidFields(FieldViolation("value", "is not a user id"))
    return channel, value
