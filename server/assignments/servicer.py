"""AssignmentService."""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable

from switchboard.v1 import assignment_service_pb2 as rpc
from switchboard.v1 import conversation_pb2
from switchboard.v1.assignment_service_pb2_grpc import AssignmentServiceServicer

from server.assignments import service
from server.conversations import convert, repository
from server.conversations.row import ConversationRow
from server.conversations.service import Changed
from server.kit.db import Write
from server.kit.ids import parse_id
from server.log.append import append
from server.log.event import Origin, origin_of
from server.requests import service as requests
from server.rpc.call import Call, CallerKind
from server.rpc.paging import PageTokens, cut, page_size

Request = rpc.AssignConversationRequest | rpc.UnassignConversationRequest


class AssignmentServicer(AssignmentServiceServicer):
    """Manual assignment, and the ledger."""

    def __init__(self, *, tokens: PageTokens) -> None:
        self._tokens = tokens

    async def AssignConversation(
        self, request: rpc.AssignConversationRequest, call: Call
    ) -> rpc.AssignConversationResponse:
        """Gives a conversation to an agent, a team, or both."""

        async def change(write: Write, conversation_id: uuid.UUID, origin: Origin) -> Changed:
            return await service.assign(
                write,
                call.scope,
                conversation_id,
                origin=origin,
                agent_id=parse_id(request.agent_id, field="agent_id") if request.HasField("agent_id") else None,
                team_id=parse_id(request.team_id, field="team_id") if request.HasField("team_id") else None,
                reason=request.reason if request.HasField("reason") else None,
                expected_version=request.expected_version if request.HasField("expected_version") else None,
            )

        return rpc.AssignConversationResponse(conversation=await _change(call, request, change))

    async def UnassignConversation(
        self, request: rpc.UnassignConversationRequest, call: Call
    ) -> rpc.UnassignConversationResponse:
        """Takes a conversation from everybody."""

        async def change(write: Write, conversation_id: uuid.UUID, origin: Origin) -> Changed:
            return await service.unassign(
                write,
                call.scope,
                conversation_id,
                origin=origin,
                reason=request.reason if request.HasField("reason") else None,
                expected_version=request.expected_version if request.HasField("expected_version") else None,
            )

        return rpc.UnassignConversationResponse(conversation=await _change(call, request, change))

    async def ListConversationAssignments(
        self, request: rpc.ListConversationAssignmentsRequest, call: Call
    ) -> rpc.ListConversationAssignmentsResponse:
        """A page of the ledger."""
        size, after = page_size(request.page_size), self._tokens.read(call, request)
        async with call.database.snapshot() as connection:
            row, _ = await repository.get_visible(connection, call.scope, uuid.UUID(request.conversation_id))
            records = await service.page(connection, row.id, after=after, limit=size + 1)
        items, last = cut(records, size, convert.assignment)
        token = "" if last is None else self._tokens.write(call, request, [str(last["id"])])
        return rpc.ListConversationAssignmentsResponse(assignments=items, next_page_token=token)


async def _change(
    call: Call, request: Request, change: Callable[[Write, uuid.UUID, Origin], Awaitable[Changed]]
) -> conversation_pb2.Conversation:
    """One unit of work; a repeat answers the conversation as it is now, though the caller may have given it away."""
    conversation_id, origin = uuid.UUID(request.conversation_id), origin_of(call, request.request_id)

    async def unit(write: Write) -> ConversationRow:
        if await requests.claim(write, call, request, resource_id=conversation_id):
            return (await repository.lock_many(write.connection, [conversation_id]))[conversation_id]
        changed = await change(write, conversation_id, origin)
        await append(write, changed.events)
        return changed.row

    return convert.conversation(await call.database.write(unit), mine=call.caller.kind is CallerKind.AGENT)
