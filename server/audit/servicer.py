"""AuditService: pages of the trail, and its settings."""

from __future__ import annotations

import uuid
from typing import Any

from switchboard.v1 import actor_pb2, audit_pb2
from switchboard.v1 import audit_service_pb2 as rpc
from switchboard.v1.audit_service_pb2_grpc import AuditServiceServicer

from server.audit import repository
from server.audit.repository import Wanted
from server.kit import pb
from server.kit.db import Write
from server.log.cursor import Cursors
from server.log.read import read_head
from server.rpc.call import Call
from server.rpc.paging import PageTokens, cut, page_size


class AuditServicer(AuditServiceServicer):
    """Who changed what."""

    def __init__(self, *, tokens: PageTokens, cursors: Cursors) -> None:
        self._tokens = tokens
        self._cursors = cursors

    async def ListAuditEntries(self, request: rpc.ListAuditEntriesRequest, call: Call) -> rpc.ListAuditEntriesResponse:
        """A page of the trail."""
        size, after = page_size(request.page_size), self._tokens.read(call, request)
        async with call.database.snapshot() as connection:
            before = int(after[0]) if after else None
            records = await repository.page(connection, _wanted(request), before=before, limit=size + 1)
            head = await read_head(connection)
        items, last = cut(records, size, _entry)
        return rpc.ListAuditEntriesResponse(
            entries=items,
            next_page_token="" if last is None else self._tokens.write(call, request, [str(last["number"])]),
            as_of=self._cursors.at(call.tenant_id, head),
        )

    async def GetAuditSettings(
        self,
        request: rpc.GetAuditSettingsRequest,  # noqa: ARG002
        call: Call,
    ) -> rpc.GetAuditSettingsResponse:
        """What is recorded beside changes."""
        async with call.database.snapshot() as connection:
            reads, head = await repository.reads(connection), await read_head(connection)
        settings = audit_pb2.AuditSettings(reads=reads)
        return rpc.GetAuditSettingsResponse(settings=settings, as_of=self._cursors.at(call.tenant_id, head))

    async def UpdateAuditSettings(
        self, request: rpc.UpdateAuditSettingsRequest, call: Call
    ) -> rpc.UpdateAuditSettingsResponse:
        """Sets what is recorded beside changes; what is absent stays."""

        async def unit(write: Write) -> bool:
            if request.HasField("reads"):
                await repository.set_reads(write.connection, request.reads)
            return await repository.reads(write.connection)

        reads = await call.database.write(unit)
        return rpc.UpdateAuditSettingsResponse(settings=audit_pb2.AuditSettings(reads=reads))


def _wanted(request: rpc.ListAuditEntriesRequest) -> Wanted:
    return Wanted(
        actor_id=uuid.UUID(request.actor_id) if request.HasField("actor_id") else None,
        method=request.method if request.HasField("method") else None,
        resource_id=request.resource_id if request.HasField("resource_id") else None,
        start=pb.utc(request.start_time, field="start_time") if request.HasField("start_time") else None,
        end=pb.utc(request.end_time, field="end_time") if request.HasField("end_time") else None,
    )


def _entry(record: Any) -> audit_pb2.AuditEntry:
    pairs = zip(record["resource_fields"], record["resource_ids"], strict=True)
    return audit_pb2.AuditEntry(
        id=str(record["id"]),
        number=record["number"],
        create_time=pb.timestamp(record["create_time"]),
        actor=actor_pb2.Actor(kind=record["actor_kind"], id=str(record["actor_id"])),
        method=record["method"],
        outcome=record["outcome"],
        resources=[audit_pb2.AuditResource(field=field, resource_id=resource_id) for field, resource_id in pairs],
        fields=record["fields"],
        cause_id=record["cause_id"],
        client_address=record["client_address"],
        user_agent=record["user_agent"],
        hash=record["hash"].hex(),
    )
