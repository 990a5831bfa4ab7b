"""What every call passes: who changes something is recorded in the transaction of the change, who may not when it is refused.

A message sent is its own record: the follower takes it from the log, so that a send pays nothing here.
"""

from __future__ import annotations

import contextlib
import time
import uuid
from typing import Any

from google.protobuf import message_factory
from google.protobuf.message import DecodeError, Message

from server.audit import record
from server.audit.record import DONE, REFUSED, Record
from server.kit.db import Database, Write
from server.rpc.call import Call
from server.rpc.metrics import STREAMS
from server.rpc.rules import method_descriptor, reads
from server.rpc.validate import REQUEST_BYTES
from server.rpc.wrap import Behavior

SENDS = "/switchboard.v1.MessageService/SendMessage"
# It says that somebody is still there, twice a minute, and changes nothing that was decided.
HEARTBEATS = "/switchboard.v1.AvailabilityService/Heartbeat"
UNRECORDED = frozenset({SENDS, HEARTBEATS})
SETTINGS_SECONDS = 2.0
READS = "SELECT reads FROM audit_head WHERE id = 1"


class Trail:
    """Records the calls of all tenants of this process."""

    def __init__(self) -> None:
        self._reads: dict[uuid.UUID, tuple[float, bool]] = {}

    async def refused(self, call: Call, data: bytes) -> None:
        """The caller lacks the permission. Callers of no tenant have no trail."""
        if call.verified.database is not None:
            request = _parsed(call.method, data)
            # Not by call.database: there each unit of work begins with saying that it was done.
            await _pend(call.verified.database, record.record_of(call, request, outcome=REFUSED))

    async def through(self, call: Call, request: Any, inner: Behavior) -> Any:
        """Lets a call that is admitted do what it does."""
        database = call.verified.database
        if database is None or call.method in UNRECORDED:
            return await inner(request, call)
        if reads(call.method) or call.method in STREAMS:
            if await self._records_reads(call, database):
                await _pend(database, record.record_of(call, request, outcome=DONE))
            return await inner(request, call)
        return await _changing(call, request, inner, database)

    async def _records_reads(self, call: Call, database: Database) -> bool:
        known = self._reads.get(call.tenant_id)
        if known is None or known[0] < time.monotonic():
            async with database.connection() as connection:
                known = time.monotonic() + SETTINGS_SECONDS, bool(await connection.fetchval(READS))
            self._reads[call.tenant_id] = known
        return known[1]


def _parsed(method: str, data: bytes) -> Message:
    """The request, or an empty one where the bytes are none, or too many."""
    descriptor = method_descriptor(method)
    assert descriptor is not None
    request = message_factory.GetMessageClass(descriptor.input_type)()
    with contextlib.suppress(DecodeError):
        if len(data) <= REQUEST_BYTES:
            request.ParseFromString(data)
    return request


async def _changing(call: Call, request: Message, inner: Behavior, database: Database) -> Any:
    kept = record.record_of(call, request, outcome=DONE)
    written = False

    async def first(write: Write) -> None:
        nonlocal written
        await record.pend(write.connection, kept)
        written = True

    call.recorded = database.beginning_with(first)
    answer = await inner(request, call)
    if not written:
        # What it changed is not in the tenant's database, or was there already.
        await _pend(database, kept)
    return answer


async def _pend(database: Database, kept: Record) -> None:
    async def work(write: Write) -> None:
        await record.pend(write.connection, kept)

    # Announced as every write is, so that a worker looks at the tenant.
    await database.write(work)
