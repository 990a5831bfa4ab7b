"""ContactMergeService."""

from __future__ import annotations

import uuid

from switchboard.v1 import contact_merge_service_pb2 as rpc
from switchboard.v1 import contact_pb2
from switchboard.v1.contact_merge_service_pb2_grpc import ContactMergeServiceServicer

from server.contacts import service as contacts
from server.conversations import merging
from server.kit.db import Write
from server.log.append import append
from server.log.event import origin_of
from server.requests import service as requests
from server.rpc.call import Call


class ContactMergeServicer(ContactMergeServiceServicer):
    """Contacts that are one person."""

    async def MergeContacts(self, request: rpc.MergeContactsRequest, call: Call) -> rpc.MergeContactsResponse:
        """Makes a contact part of another."""
        origin, contact_id = origin_of(call, request.request_id), uuid.UUID(request.contact_id)

        async def unit(write: Write) -> contact_pb2.Contact:
            if await requests.claim(write, call, request, resource_id=contact_id) is None:
                events = await merging.merge(
                    write.connection,
                    call.scope,
                    contact_id,
                    uuid.UUID(request.merged_contact_id),
                    reason=request.reason or None,
                    origin=origin,
                )
                await append(write, events)
            return await contacts.shown(write.connection, contact_id)

        return rpc.MergeContactsResponse(contact=await call.database.write(unit))

    async def UnmergeContact(self, request: rpc.UnmergeContactRequest, call: Call) -> rpc.UnmergeContactResponse:
        """Makes a merged contact its own again."""
        origin, contact_id = origin_of(call, request.request_id), uuid.UUID(request.contact_id)

        async def unit(write: Write) -> contact_pb2.Contact:
            if await requests.claim(write, call, request, resource_id=contact_id) is None:
                events = await merging.unmerge(write.connection, call.scope, contact_id, origin=origin)
                await append(write, events)
            return await contacts.shown(write.connection, contact_id)

        return rpc.UnmergeContactResponse(contact=await call.database.write(unit))
