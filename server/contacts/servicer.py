"""ContactService."""

from __future__ import annotations

import uuid
from collections.abc import Mapping

from switchboard.v1 import contact_pb2
from switchboard.v1 import contact_service_pb2 as rpc
from switchboard.v1.contact_service_pb2_grpc import ContactServiceServicer

from server.contacts import blocking, convert, identities, listing, service
from server.contacts.filter import Wanted
from server.kit import pb
from server.kit.db import Write
from server.kit.ids import new_id
from server.log.append import append
from server.log.cursor import Cursors
from server.log.event import origin_of
from server.log.read import read_head
from server.providers.contract import Provider
from server.requests import service as requests
from server.rpc.call import Call
from server.rpc.paging import PageTokens, cut, page_size


class ContactServicer(ContactServiceServicer):
    """People who write to the tenant."""

    def __init__(self, *, tokens: PageTokens, cursors: Cursors, providers: Mapping[str, Provider]) -> None:
        self._tokens = tokens
        self._cursors = cursors
        self._providers = providers

    async def CreateContact(self, request: rpc.CreateContactRequest, call: Call) -> rpc.CreateContactResponse:
        """Creates a contact."""
        origin, claimed = origin_of(call, request.request_id), new_id()

        async def unit(write: Write) -> contact_pb2.Contact:
            earlier = await requests.claim(write, call, request, resource_id=claimed)
            if earlier is not None:
                return convert.contact(*await service.get_visible(write.connection, call.scope, earlier))
            contact_id, events = await service.create(
                write.connection,
                call.scope,
                uuid.UUID(request.channel_id),
                name=request.name,
                phone_number=request.phone_number,
                providers=self._providers,
                origin=origin,
                attributes=pb.json_object(request.attributes, field="attributes"),
            )
            await requests.settle(write, call, request, resource_id=contact_id)
            await append(write, events)
            return await service.shown(write.connection, contact_id)

        return rpc.CreateContactResponse(contact=await call.database.write(unit))

    async def UpdateContact(self, request: rpc.UpdateContactRequest, call: Call) -> rpc.UpdateContactResponse:
        """Changes name or attributes of a contact."""
        origin, contact_id = origin_of(call, request.request_id), uuid.UUID(request.contact_id)

        async def unit(write: Write) -> contact_pb2.Contact:
            earlier = await requests.claim(write, call, request, resource_id=contact_id)
            if earlier is None:
                events = await service.update(
                    write.connection,
                    call.scope,
                    contact_id,
                    origin=origin,
                    name=request.name if request.HasField("name") else None,
                    attributes=pb.json_object(request.attributes, field="attributes")
                    if request.HasField("attributes")
                    else None,
                )
                await append(write, events)
            return convert.contact(*await service.get_visible(write.connection, call.scope, contact_id))

        return rpc.UpdateContactResponse(contact=await call.database.write(unit))

    async def BlockContact(self, request: rpc.BlockContactRequest, call: Call) -> rpc.BlockContactResponse:
        """Blocks a contact."""
        contact = await self._set_blocked(request, call, blocked=True, reason=request.reason or None)
        return rpc.BlockContactResponse(contact=contact)

    async def UnblockContact(self, request: rpc.UnblockContactRequest, call: Call) -> rpc.UnblockContactResponse:
        """Unblocks a contact."""
        return rpc.UnblockContactResponse(contact=await self._set_blocked(request, call, blocked=False, reason=None))

    async def _set_blocked(
        self,
        request: rpc.BlockContactRequest | rpc.UnblockContactRequest,
        call: Call,
        *,
        blocked: bool,
        reason: str | None,
    ) -> contact_pb2.Contact:
        origin, contact_id = origin_of(call, request.request_id), uuid.UUID(request.contact_id)

        async def unit(write: Write) -> contact_pb2.Contact:
            if await requests.claim(write, call, request, resource_id=contact_id) is None:
                events = await blocking.set_blocked(
                    write.connection, call.scope, contact_id, blocked=blocked, reason=reason, origin=origin
                )
                await append(write, events)
            return convert.contact(*await service.get_visible(write.connection, call.scope, contact_id))

        return await call.database.write(unit)

    async def AddContactIdentity(
        self, request: rpc.AddContactIdentityRequest, call: Call
    ) -> rpc.AddContactIdentityResponse:
        """Gives a contact an address. A conflict is recorded in a transaction that is not taken back by the refusal."""
        origin, contact_id = origin_of(call, request.request_id), uuid.UUID(request.contact_id)
        given = identities.Given(
            contact_id=contact_id,
            channel_id=uuid.UUID(request.channel_id),
            kind=convert.ALIAS_KIND.word(request.kind),
            value=request.value,
            identity_id=uuid.UUID(request.identity_id) if request.HasField("identity_id") else None,
        )

        async def unit(write: Write) -> contact_pb2.Contact | identities.IdentityTaken:
            met = await identities.meet(write.connection, call.scope, given, providers=self._providers, origin=origin)
            if met is not None:
                await append(write, met.events)
                return met.refusal
            if await requests.claim(write, call, request, resource_id=contact_id) is None:
                await append(write, await identities.add(write.connection, call.scope, given, origin=origin))
            return convert.contact(*await service.get_visible(write.connection, call.scope, contact_id))

        result = await call.database.write(unit)
        if isinstance(result, identities.IdentityTaken):
            raise result
        return rpc.AddContactIdentityResponse(contact=result)

    async def RemoveContactIdentity(
        self, request: rpc.RemoveContactIdentityRequest, call: Call
    ) -> rpc.RemoveContactIdentityResponse:
        """Takes an identity from a contact."""
        origin, contact_id = origin_of(call, request.request_id), uuid.UUID(request.contact_id)

        async def unit(write: Write) -> contact_pb2.Contact:
            if await requests.claim(write, call, request, resource_id=contact_id) is None:
                events = await identities.remove(
                    write.connection, call.scope, contact_id, uuid.UUID(request.identity_id), origin=origin
                )
                await append(write, events)
            return await service.shown(write.connection, contact_id)

        return rpc.RemoveContactIdentityResponse(contact=await call.database.write(unit))

    async def ListIdentityConflicts(
        self, request: rpc.ListIdentityConflictsRequest, call: Call
    ) -> rpc.ListIdentityConflictsResponse:
        """A page of conflicts."""
        limit = page_size(request.page_size)
        async with call.database.snapshot() as connection:
            head = await read_head(connection)
            rows = await identities.conflicts(
                connection,
                call.scope,
                contact_id=uuid.UUID(request.contact_id) if request.HasField("contact_id") else None,
                after=self._tokens.read(call, request),
                limit=limit + 1,
            )
        items, last = cut(rows, limit, convert.conflict)
        token = "" if last is None else self._tokens.write(call, request, listing.keyset(last))
        as_of = self._cursors.at(call.tenant_id, head)
        return rpc.ListIdentityConflictsResponse(conflicts=items, next_page_token=token, as_of=as_of)

    async def GetContact(self, request: rpc.GetContactRequest, call: Call) -> rpc.GetContactResponse:
        """A contact with its identities."""
        async with call.database.snapshot() as connection:
            head = await read_head(connection)
            record, identities = await service.get_visible(connection, call.scope, uuid.UUID(request.contact_id))
        shown = convert.contact(record, identities)
        return rpc.GetContactResponse(contact=shown, as_of=self._cursors.at(call.tenant_id, head))

    async def ListContacts(self, request: rpc.ListContactsRequest, call: Call) -> rpc.ListContactsResponse:
        """A page of contacts."""
        query = listing.Query(
            limit=page_size(request.page_size) + 1,
            after=self._tokens.read(call, request),
            wanted=_wanted(request),
            order=listing.ORDERS[request.order or rpc.CONTACT_ORDER_CREATED],
        )
        async with call.database.snapshot() as connection:
            head = await read_head(connection)
            page = await listing.page(connection, call.scope, query)
        items, last = cut(page.rows, query.limit - 1, convert.contact)
        last = last or page.edge
        token = "" if last is None else self._tokens.write(call, request, listing.keyset(last, query.order))
        as_of = self._cursors.at(call.tenant_id, head)
        return rpc.ListContactsResponse(contacts=items, next_page_token=token, as_of=as_of)


def _wanted(request: rpc.ListContactsRequest) -> Wanted:
    """The filter of a request. INVALID_FIELDS for times out of range."""
    start, end = (
        pb.utc(getattr(request.update_time, name), field=f"update_time.{name}")
        if request.update_time.HasField(name)
        else None
        for name in ("start_time", "end_time")
    )
    return Wanted(
        name_prefix=request.name_prefix,
        address_prefix=request.address_prefix,
        channel_id=uuid.UUID(request.channel_id) if request.HasField("channel_id") else None,
        provider=convert.PROVIDER.word(request.provider) if request.provider else "",
        blocked=request.blocked if request.HasField("blocked") else None,
        attributes=[(item.name, getattr(item, item.WhichOneof("value") or "")) for item in request.attributes],
        update_from=start,
        update_until=end,
    )
