"""AssignmentService."""

from __future__ import annotations

import uuid

from switchboard.v1 import assignment_service_pb2 as rpc
from switchboard.v1.assignment_service_pb2_grpc import AssignmentServiceServicer

from server.assignments import service
from server.conversations import convert, repository
from server.conversations.change import change
from server.conversations.service import Changed
from server.kit.db import Write
from server.kit.ids import parse_id
from server.log.cursor import Cursors
from server.log.event import Origin
from server.rpc.call import Call
from server.rpc.paging import PageTokens, cut, page_size


class AssignmentServicer(AssignmentServiceServicer):
    """Manual assignment, and the ledger."""

    def __init__(self, *, tokens: PageTokens, cursors: Cursors) -> None:
        self._tokens = tokens
        self._cursors = cursors

    async def AssignConversation(
        self, request: rpc.AssignConversationRequest, call: Call
    ) -> rpc.AssignConversationResponse:
        """Gives a conversation to an agent, a team, or both."""

        async def work(write: Write, conversation_id: uuid.UUID, origin: Origin) -> Changed:
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

        return rpc.AssignConversationResponse(conversation=await change(call, request, work))

    async def UnassignConversation(
        self, request: rpc.UnassignConversationRequest, call: Call
    ) -> rpc.UnassignConversationResponse:
        """Takes a conversation from everybody."""

        async def work(write: Write, conversation_id: uuid.UUID, origin: Origin) -> Changed:
            return await service.unassign(
                write,
                call.scope,
                conversation_id,
                origin=origin,
                reason=request.reason if request.HasField("reason") else None,
                expected_version=request.expected_version if request.HasField("expected_version") else None,
            )

        return rpc.UnassignConversationResponse(conversation=await change(call, request, work))

    async def ListConversationAssignments(
        self, request: rpc.ListConversationAssignmentsRequest, call: Call
    ) -> rpc.ListConversationAssignmentsResponse:
        """A page of the ledger."""
        size, after = page_size(request.page_size), self._tokens.read(call, request)
        async with call.database.snapshot() as connection:
            row, head = await repository.get_visible(connection, call.scope, uuid.UUID(request.conversation_id))
            records = await service.page(connection, row.id, after=after, limit=size + 1)
        items, last = cut(records, size, convert.assignment)
        token = "" if last is None else self._tokens.write(call, request, [str(last["id"])])
        as_of = self._cursors.at(call.tenant_id, head)
        return rpc.ListConversationAssignmentsResponse(assignments=items, next_page_token=token, as_of=as_of)
