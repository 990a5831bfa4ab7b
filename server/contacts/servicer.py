"""ContactService."""

from __future__ import annotations

import uuid

from switchboard.v1 import contact_service_pb2 as rpc
from switchboard.v1.contact_service_pb2_grpc import ContactServiceServicer

from server.contacts import convert, service
from server.log.cursor import Cursors
from server.log.read import read_head
from server.rpc.call import Call
from server.rpc.paging import PageTokens, cut, page_size


class ContactServicer(ContactServiceServicer):
    """People who write to the tenant."""

    def __init__(self, *, tokens: PageTokens, cursors: Cursors) -> None:
        self._tokens = tokens
        self._cursors = cursors

    async def GetContact(self, request: rpc.GetContactRequest, call: Call) -> rpc.GetContactResponse:
        """A contact with its identities."""
        async with call.database.snapshot() as connection:
            head = await read_head(connection)
            record, identities = await service.get_visible(connection, call.scope, uuid.UUID(request.contact_id))
        shown = convert.contact(record, identities)
        return rpc.GetContactResponse(contact=shown, as_of=self._cursors.at(call.tenant_id, head))

    async def ListContacts(self, request: rpc.ListContactsRequest, call: Call) -> rpc.ListContactsResponse:
        """A page of contacts."""
        size, after = page_size(request.page_size), self._tokens.read(call, request)
        async with call.database.snapshot() as connection:
            head = await read_head(connection)
            records = await service.page(connection, call.scope, after=after, limit=size + 1)
        items, last = cut(records, size, convert.contact)
        token = (
            ""
            if last is None
            else self._tokens.write(call, request, [last["create_time"].isoformat(), str(last["id"])])
        )
        as_of = self._cursors.at(call.tenant_id, head)
        return rpc.ListContactsResponse(contacts=items, next_page_token=token, as_of=as_of)
