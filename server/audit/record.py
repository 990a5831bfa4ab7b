"""What is kept of a call: ids and names of fields, never what the fields say."""

from __future__ import annotations

import uuid
from dataclasses import astuple, dataclass, fields
from datetime import datetime
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from switchboard.v1 import audit_pb2

from server.kit.clock import utc_now
from server.kit.db import Connection
from server.kit.ids import new_id
from server.log.event import origin_of
from server.rpc.call import Call

DONE, REFUSED = audit_pb2.AUDIT_OUTCOME_DONE, audit_pb2.AUDIT_OUTCOME_REFUSED
ID_CHARACTERS, IDS = 128, 20


@dataclass(frozen=True, slots=True)
class Record:
    """A call. resource_fields and resource_ids go in pairs. cause_id: the request id, or the call's own."""

    id: uuid.UUID
    create_time: datetime
    actor_kind: int
    actor_id: uuid.UUID
    method: str
    outcome: int
    resource_fields: list[str]
    resource_ids: list[str]
    fields: list[str]
    cause_id: str
    client_address: str | None = None
    user_agent: str | None = None


COLUMNS = tuple(field.name for field in fields(Record))
_VALUES = ", ".join(f"${n}" for n in range(1, len(COLUMNS) + 1))
# A call that writes twice is one call.
PEND = f"INSERT INTO audit_pending ({', '.join(COLUMNS)}) VALUES ({_VALUES}) ON CONFLICT DO NOTHING"


def record_of(call: Call, request: Message, *, outcome: int) -> Record:
    """What is kept of a call of an agent or an API key."""
    origin = origin_of(call, getattr(request, "request_id", ""))
    assert origin.actor.id is not None
    pairs = _resources(request)
    return Record(
        id=new_id(),
        create_time=utc_now(),
        actor_kind=origin.actor.kind,
        actor_id=origin.actor.id,
        method=call.method.lstrip("/").replace("/", "."),
        outcome=outcome,
        resource_fields=[name for name, _ in pairs],
        resource_ids=[value for _, value in pairs],
        fields=[field.name for field, _ in request.ListFields() if field.name != "request_id"],
        cause_id=_text(origin.cause.id),
        client_address=call.client_address,
        user_agent=call.user_agent,
    )


async def pend(connection: Connection, record: Record) -> None:
    """Keeps a call until it has its place in the trail."""
    await connection.execute(PEND, *astuple(record))


def _resources(request: Message) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    for field, value in request.ListFields():
        if field.type == FieldDescriptor.TYPE_STRING and field.name.endswith(("_id", "_ids")):
            found += [(field.name, item) for item in _each(value) if field.name != "request_id"]
    return [(name, _text(value)) for name, value in found[:IDS]]


def _text(value: str) -> str:
    """What is refused has not been validated: it may be long, and hold what Postgres has no place for."""
    return value[:ID_CHARACTERS].replace("\0", "\ufffd")


def _each(value: Any) -> list[str]:
    return [value] if isinstance(value, str) else list(value)
