"""Remembers calls that carried a request id, in the transaction of what they did."""

from __future__ import annotations

import hashlib
import uuid
from datetime import datetime, timedelta

from google.protobuf.message import Message

from server.kit.clock import utc_now
from server.kit.db import Connection, Write
from server.kit.errors import Refusal
from server.rpc.call import Call

KEEP = timedelta(days=7)
# The update changes nothing; it makes a repeat wait for the first call's transaction and see what it stored.
CLAIM = """
INSERT INTO idempotent_requests (principal_id, method, request_id, request_hash, resource_id, create_time)
VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT (principal_id, method, request_id) DO UPDATE SET request_id = excluded.request_id
RETURNING resource_id, request_hash, xmax = 0 AS inserted
"""
EARLIER = """
SELECT resource_id, request_hash FROM idempotent_requests WHERE principal_id = $1 AND method = $2 AND request_id = $3
"""


class RequestIdReused(Refusal):
    """The id was used with another body."""

    status = "ALREADY_EXISTS"
    reason = "REQUEST_ID_REUSED"

    def __init__(self) -> None:
        super().__init__("the request id was used with another request; choose a new one")


def digest(request: Message) -> bytes:
    """SHA-256 of a request, the same for the same content."""
    return hashlib.sha256(request.SerializeToString(deterministic=True)).digest()


async def claim(write: Write, call: Call, request: Message, *, resource_id: uuid.UUID) -> uuid.UUID | None:
    """Claims the request's id for a resource. Returns the first call's resource when this is a repeat, else None.

    A request without an id is never a repeat. RequestIdReused.
    """
    request_id: str = request.request_id  # type: ignore[attr-defined]
    if not request_id:
        return None
    hashed = digest(request)
    principal = call.caller.id
    row = await write.connection.fetchrow(CLAIM, principal, call.method, request_id, hashed, resource_id, utc_now())
    assert row is not None
    if row["inserted"]:
        return None
    if row["request_hash"] != hashed:
        raise RequestIdReused()
    found: uuid.UUID = row["resource_id"]
    return found


async def earlier(connection: Connection, call: Call, request: Message) -> uuid.UUID | None:
    """The resource of an earlier call, before anything is asked of others for this one; `claim` decides. RequestIdReused."""
    request_id: str = request.request_id  # type: ignore[attr-defined]
    if not request_id:
        return None
    row = await connection.fetchrow(EARLIER, call.caller.id, call.method, request_id)
    if row is not None and row["request_hash"] != digest(request):
        raise RequestIdReused()
    return None if row is None else row["resource_id"]


async def settle(write: Write, call: Call, request: Message, *, resource_id: uuid.UUID) -> None:
    """Says which resource the request ended with, when that was not known at its beginning."""
    await write.connection.execute(
        "UPDATE idempotent_requests SET resource_id = $4 WHERE principal_id = $1 AND method = $2 AND request_id = $3",
        call.caller.id,
        call.method,
        request.request_id,  # type: ignore[attr-defined]
        resource_id,
    )


async def claimed_time(connection: Connection, call: Call, request: Message) -> datetime | None:
    """When the request's id was claimed; None when it is free."""
    found: datetime | None = await connection.fetchval(
        "SELECT create_time FROM idempotent_requests WHERE principal_id = $1 AND method = $2 AND request_id = $3",
        call.caller.id,
        call.method,
        request.request_id,  # type: ignore[attr-defined]
    )
    return found


async def drop(write: Write, call: Call, request: Message, *, resource_id: uuid.UUID) -> None:
    """Frees the id of a request that came to nothing, if it is still claimed for this resource."""
    await write.connection.execute(
        "DELETE FROM idempotent_requests WHERE principal_id = $1 AND method = $2 AND request_id = $3 AND resource_id = $4",
        call.caller.id,
        call.method,
        request.request_id,  # type: ignore[attr-defined]
        resource_id,
    )


async def drop_old(connection: Connection) -> None:
    """Forgets requests of more than a week ago: their ids may be used again. Sends are remembered by their messages, for ever."""
    await connection.execute("DELETE FROM idempotent_requests WHERE create_time < $1", utc_now() - KEEP)
