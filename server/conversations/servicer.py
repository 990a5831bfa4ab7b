"""ConversationService: each method reads a request, calls a function of the slice, and builds the answer."""

from __future__ import annotations

import uuid
from collections.abc import Mapping

from switchboard.v1 import conversation_service_pb2 as rpc
from switchboard.v1 import note_pb2, options_pb2
from switchboard.v1.conversation_service_pb2_grpc import ConversationServiceServicer

from server.channels import service as channels
from server.channels.service import ChannelRow
from server.contacts import blocking
from server.contacts import service as contacts
from server.conversations import convert, counts, listing, notes, participants, reads, repository, service, tags
from server.conversations.change import change, shown
from server.conversations.row import ConversationRow
from server.conversations.service import Changed
from server.conversations.statistics import present
from server.conversations.statistics import servicer as statistics
from server.kit import pb
from server.kit.db import Write
from server.kit.ids import new_id, parse_id
from server.log.append import append
from server.log.cursor import Cursors, HeadRow
from server.log.event import Origin, origin_of
from server.providers.contract import Provider
from server.requests import service as requests
from server.rpc.auth import require
from server.rpc.call import Call
from server.rpc.paging import PageTokens, cut, page_size


class ConversationServicer(ConversationServiceServicer):
    """Conversations, their notes, tags, read positions and statistics."""

    def __init__(self, *, tokens: PageTokens, cursors: Cursors, providers: Mapping[str, Provider]) -> None:
        self._tokens = tokens
        self._cursors = cursors
        self._providers = providers

    async def ListConversations(
        self, request: rpc.ListConversationsRequest, call: Call
    ) -> rpc.ListConversationsResponse:
        """A page of the list, and the cursor it stands at."""
        if request.deleted:
            require(call.caller, options_pb2.PERMISSION_CONVERSATIONS_DELETE)
        query = listing.Query(
            wanted=request.filter,
            order=listing.ORDERS[request.order or rpc.CONVERSATION_ORDER_LAST_MESSAGE],
            after=self._tokens.read(call, request),
            limit=page_size(request.page_size) + 1,
            deleted=request.deleted,
        )
        async with call.database.snapshot() if request.with_counts else call.database.connection() as connection:
            page = await listing.page(connection, call.scope, query)
            live = await counts.live(connection, call.scope) if request.with_counts else None
        items, last = cut(page.rows, query.limit - 1, lambda row: shown(row, call))
        last = last or page.edge
        return rpc.ListConversationsResponse(
            conversations=items,
            next_page_token=""
            if last is None
            else self._tokens.write(call, request, listing.keyset(last, query.order)),
            as_of=self._as_of(call, page.head),
            counts=None if live is None else _counts(live),
        )

    async def CountConversations(
        self, request: rpc.CountConversationsRequest, call: Call
    ) -> rpc.CountConversationsResponse:
        """How many, exact to 1,000."""
        async with call.database.connection() as connection:
            found, head = await counts.count(connection, call.scope, request.filter)
        return rpc.CountConversationsResponse(count=found.count, more=found.more, as_of=self._as_of(call, head))

    async def GetConversation(self, request: rpc.GetConversationRequest, call: Call) -> rpc.GetConversationResponse:
        """One conversation with notes, assignment and identities, all of one moment."""
        async with call.database.snapshot() as connection:
            row, head = await repository.get_visible(connection, call.scope, uuid.UUID(request.conversation_id))
            detail = shown(row, call)
            detail.contact.CopyFrom(await contacts.shown(connection, row.contact_id))
            records = await notes.page(connection, row.id, after=None, limit=notes.DETAIL_LIMIT)
            detail.notes.extend(convert.note(record) for record in records)
            assignment = await repository.open_assignment(connection, row.id)
            if assignment is not None:
                detail.assignment.CopyFrom(convert.assignment(assignment))
        return rpc.GetConversationResponse(conversation=detail, as_of=self._as_of(call, head))

    async def CreateConversation(
        self, request: rpc.CreateConversationRequest, call: Call
    ) -> rpc.CreateConversationResponse:
        """Starts a conversation, or answers the live one that there is."""
        origin, claimed = origin_of(call, request.request_id), new_id()

        async def unit(write: Write) -> tuple[ConversationRow, bool]:
            earlier = await requests.claim(write, call, request, resource_id=claimed)
            if earlier is not None:
                row, _ = await repository.get_visible(write.connection, call.scope, earlier, deleted=True)
                return row, False
            channel = await channels.get_visible(write.connection, call.scope, uuid.UUID(request.channel_id))
            found = await _recipient(write, request, channel, provider=self._providers[channel.provider], origin=origin)
            await blocking.check_not_blocked(write.connection, found.identity_id, found.contact_id)
            changed, created = await service.start(
                write,
                origin=origin,
                channel_id=channel.id,
                provider=channel.provider,
                identity_id=found.identity_id,
                contact_id=found.contact_id,
                contact_name=found.name,
                subject=request.subject if request.HasField("subject") else None,
                windowed=self._providers[channel.provider].capabilities.reply_window is not None,
            )
            await requests.settle(write, call, request, resource_id=changed.row.id)
            await append(write, [*found.events, *changed.events])
            return changed.row, created

        row, created = await call.database.write(unit)
        return rpc.CreateConversationResponse(conversation=shown(row, call), created=created)

    async def UpdateConversation(
        self, request: rpc.UpdateConversationRequest, call: Call
    ) -> rpc.UpdateConversationResponse:
        """Changes priority, subject or attributes."""

        async def work(write: Write, conversation_id: uuid.UUID, origin: Origin) -> Changed:
            return await service.update(
                write,
                call.scope,
                conversation_id,
                origin=origin,
                priority=request.priority if request.HasField("priority") else None,
                subject=request.subject if request.HasField("subject") else None,
                attributes=pb.json_object(request.attributes, field="attributes")
                if request.HasField("attributes")
                else None,
                expected_version=request.expected_version if request.HasField("expected_version") else None,
            )

        return rpc.UpdateConversationResponse(conversation=await change(call, request, work))

    async def DeleteConversation(
        self, request: rpc.DeleteConversationRequest, call: Call
    ) -> rpc.DeleteConversationResponse:
        """Hides a conversation."""

        async def work(write: Write, conversation_id: uuid.UUID, origin: Origin) -> Changed:
            return await service.delete(write, call.scope, conversation_id, origin=origin)

        return rpc.DeleteConversationResponse(conversation=await change(call, request, work))

    async def RestoreConversation(
        self, request: rpc.RestoreConversationRequest, call: Call
    ) -> rpc.RestoreConversationResponse:
        """Brings a conversation back."""

        async def work(write: Write, conversation_id: uuid.UUID, origin: Origin) -> Changed:
            return await service.restore(write, call.scope, conversation_id, origin=origin)

        return rpc.RestoreConversationResponse(conversation=await change(call, request, work))

    async def UpdateConversationStatus(
        self, request: rpc.UpdateConversationStatusRequest, call: Call
    ) -> rpc.UpdateConversationStatusResponse:
        """Moves a conversation to another status."""

        async def work(write: Write, conversation_id: uuid.UUID, origin: Origin) -> Changed:
            return await service.update_status(
                write,
                call.scope,
                conversation_id,
                origin=origin,
                to=convert.STATUS.word(request.status),
                snooze_until=pb.utc(request.snooze_until_time, field="snooze_until_time")
                if request.HasField("snooze_until_time")
                else None,
                reason=request.reason if request.HasField("reason") else None,
                expected_version=request.expected_version if request.HasField("expected_version") else None,
            )

        return rpc.UpdateConversationStatusResponse(conversation=await change(call, request, work))

    async def MarkConversationRead(
        self, request: rpc.MarkConversationReadRequest, call: Call
    ) -> rpc.MarkConversationReadResponse:
        """Moves read positions."""
        message_id = parse_id(request.message_id, field="message_id") if request.HasField("message_id") else None

        async def work(write: Write, conversation_id: uuid.UUID, origin: Origin) -> Changed:
            return await reads.mark_read(
                write,
                call.scope,
                conversation_id,
                origin=origin,
                message_id=message_id,
                providers=self._providers,
            )

        return rpc.MarkConversationReadResponse(conversation=await change(call, request, work))

    async def AddConversationTags(
        self, request: rpc.AddConversationTagsRequest, call: Call
    ) -> rpc.AddConversationTagsResponse:
        """Adds tags."""

        async def work(write: Write, conversation_id: uuid.UUID, origin: Origin) -> Changed:
            def create() -> None:
                require(call.caller, options_pb2.PERMISSION_TAGS_MANAGE)

            return await tags.add(write, call.scope, conversation_id, origin=origin, names=request.tags, create=create)

        return rpc.AddConversationTagsResponse(conversation=await change(call, request, work))

    async def RemoveConversationTags(
        self, request: rpc.RemoveConversationTagsRequest, call: Call
    ) -> rpc.RemoveConversationTagsResponse:
        """Removes tags."""

        async def work(write: Write, conversation_id: uuid.UUID, origin: Origin) -> Changed:
            return await tags.remove(write, call.scope, conversation_id, origin=origin, names=request.tags)

        return rpc.RemoveConversationTagsResponse(conversation=await change(call, request, work))

    async def AddConversationNote(
        self, request: rpc.AddConversationNoteRequest, call: Call
    ) -> rpc.AddConversationNoteResponse:
        """Adds a note."""
        origin, note_id = origin_of(call, request.request_id), new_id()

        async def unit(write: Write) -> notes.Noted:
            earlier = await requests.claim(write, call, request, resource_id=note_id)
            if earlier is not None:
                return notes.Noted(await notes.get(write.connection, earlier))
            noted = await notes.add(
                write,
                call.scope,
                uuid.UUID(request.conversation_id),
                origin=origin,
                note_id=note_id,
                text=request.text,
                pinned=request.pinned,
                mentions=_mentions(request.mentions),
            )
            await append(write, noted.events)
            return noted

        noted = await call.database.write(unit)
        return rpc.AddConversationNoteResponse(note=convert.note(noted.note))

    async def ListConversationNotes(
        self, request: rpc.ListConversationNotesRequest, call: Call
    ) -> rpc.ListConversationNotesResponse:
        """A page of notes."""
        size, after = page_size(request.page_size), self._tokens.read(call, request)
        async with call.database.snapshot() as connection:
            row, head = await repository.get_visible(connection, call.scope, uuid.UUID(request.conversation_id))
            records = await notes.page(connection, row.id, after=after, limit=size + 1)
        items, last = cut(records, size, convert.note)
        token = "" if last is None else self._tokens.write(call, request, [last["pinned"], str(last["id"])])
        as_of = self._as_of(call, head)
        return rpc.ListConversationNotesResponse(notes=items, next_page_token=token, as_of=as_of)

    async def UpdateConversationNote(
        self, request: rpc.UpdateConversationNoteRequest, call: Call
    ) -> rpc.UpdateConversationNoteResponse:
        """Changes a note."""
        note_id, origin = uuid.UUID(request.note_id), origin_of(call, request.request_id)

        async def unit(write: Write) -> notes.Noted:
            if await requests.claim(write, call, request, resource_id=note_id):
                return notes.Noted(await notes.get(write.connection, note_id))
            noted = await notes.update(
                write,
                call.scope,
                uuid.UUID(request.conversation_id),
                note_id,
                origin=origin,
                text=request.text if request.HasField("text") else None,
                pinned=request.pinned if request.HasField("pinned") else None,
                mentions=_mentions(request.mentions) if request.HasField("mentions") else None,
            )
            await append(write, noted.events)
            return noted

        noted = await call.database.write(unit)
        return rpc.UpdateConversationNoteResponse(note=convert.note(noted.note))

    async def DeleteConversationNote(
        self, request: rpc.DeleteConversationNoteRequest, call: Call
    ) -> rpc.DeleteConversationNoteResponse:
        """Deletes a note."""
        note_id, origin = uuid.UUID(request.note_id), origin_of(call, request.request_id)

        async def unit(write: Write) -> None:
            if await requests.claim(write, call, request, resource_id=note_id):
                return
            conversation_id = uuid.UUID(request.conversation_id)
            noted = await notes.delete(write, call.scope, conversation_id, note_id, origin=origin)
            await append(write, noted.events)

        await call.database.write(unit)
        return rpc.DeleteConversationNoteResponse()

    async def GetConversationParticipants(
        self, request: rpc.GetConversationParticipantsRequest, call: Call
    ) -> rpc.GetConversationParticipantsResponse:
        """Who takes part."""
        async with call.database.snapshot() as connection:
            row, head = await repository.get_visible(connection, call.scope, uuid.UUID(request.conversation_id))
            found = await participants.of(connection, row.id)
        return rpc.GetConversationParticipantsResponse(participants=found, as_of=self._as_of(call, head))

    async def AddConversationParticipant(
        self, request: rpc.AddConversationParticipantRequest, call: Call
    ) -> rpc.AddConversationParticipantResponse:
        """Adds an agent."""

        async def work(write: Write, conversation_id: uuid.UUID, origin: Origin) -> Changed:
            agent_id = uuid.UUID(request.agent_id)
            return await participants.add(write, call.scope, conversation_id, origin=origin, agent_id=agent_id)

        return rpc.AddConversationParticipantResponse(conversation=await change(call, request, work))

    async def RemoveConversationParticipant(
        self, request: rpc.RemoveConversationParticipantRequest, call: Call
    ) -> rpc.RemoveConversationParticipantResponse:
        """Removes an agent."""

        async def work(write: Write, conversation_id: uuid.UUID, origin: Origin) -> Changed:
            agent_id = uuid.UUID(request.agent_id)
            return await participants.remove(write, call.scope, conversation_id, origin=origin, agent_id=agent_id)

        return rpc.RemoveConversationParticipantResponse(conversation=await change(call, request, work))

    async def GetConversationThread(
        self, request: rpc.GetConversationThreadRequest, call: Call
    ) -> rpc.GetConversationThreadResponse:
        """What the conversation continues, and what continues it."""
        async with call.database.snapshot() as connection:
            rows, head = await repository.thread(connection, call.scope, uuid.UUID(request.conversation_id))
        items = [shown(row, call) for row in rows]
        return rpc.GetConversationThreadResponse(conversations=items, as_of=self._as_of(call, head))

    async def GetConversationStatistics(
        self, request: rpc.GetConversationStatisticsRequest, call: Call
    ) -> rpc.GetConversationStatisticsResponse:
        """Counts of now."""
        async with call.database.snapshot() as connection:
            counts = await present.now(connection, call.scope, request.filter)
            head = await present.stands(connection)
        return statistics.now(counts, as_of=self._as_of(call, head))

    def _as_of(self, call: Call, head: HeadRow) -> str:
        return self._cursors.at(call.tenant_id, head)


def _mentions(asked: note_pb2.Mentions) -> notes.Mentions:
    return notes.Mentions([uuid.UUID(item) for item in asked.agent_ids], [uuid.UUID(item) for item in asked.team_ids])


def _counts(live: counts.Live) -> rpc.ConversationCounts:
    return rpc.ConversationCounts(
        mine=_limited(live.mine), unassigned=_limited(live.unassigned), all=_limited(live.all)
    )


def _limited(found: counts.Limited) -> rpc.LimitedCount:
    return rpc.LimitedCount(count=found.count, more=found.more)


async def _recipient(
    write: Write, request: rpc.CreateConversationRequest, channel: ChannelRow, *, provider: Provider, origin: Origin
) -> contacts.Recipient:
    if request.HasField("identity_id"):
        return await contacts.by_identity(write.connection, channel.id, uuid.UUID(request.identity_id))
    return await contacts.by_phone_number(write.connection, channel.id, provider, request.phone_number, origin=origin)
