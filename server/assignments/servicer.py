"""AssignmentService."""

from __future__ import annotations

import uuid
from typing import Any

from switchboard.v1 import assignment_service_pb2 as rpc
from switchboard.v1.assignment_service_pb2_grpc import AssignmentServiceServicer

from server.agents.presence import Presence
from server.assignments import convert as convert_assignments
from server.assignments import ledger, service
from server.conversations import repository
from server.conversations.change import change
from server.conversations.service import Changed
from server.kit.db import Write
from server.kit.ids import parse_id
from server.log.cursor import Cursors
from server.log.event import Origin
from server.rpc.call import Call
from server.rpc.paging import PageTokens, cut, page_size


class AssignmentServicer(AssignmentServiceServicer):
    """Assignment as somebody asks for it, the ledger, and who would get what."""

    def __init__(self, *, tokens: PageTokens, cursors: Cursors, presence: Presence) -> None:
        self._tokens = tokens
        self._cursors = cursors
        self._presence = presence

    async def AssignConversation(
        self, request: rpc.AssignConversationRequest, call: Call
    ) -> rpc.AssignConversationResponse:
        """Gives a conversation to an agent, a team, or both, or has its policy choose."""
        team_id = parse_id(request.team_id, field="team_id") if request.HasField("team_id") else None
        agent_id = parse_id(request.agent_id, field="agent_id") if request.HasField("agent_id") else None
        present = await self._presence.present(call.tenant_id) if request.by_policy else None

        async def work(write: Write, conversation_id: uuid.UUID, origin: Origin) -> Changed:
            asked: Any = {
                "origin": origin,
                "team_id": team_id,
                "reason": request.reason if request.HasField("reason") else None,
                "expected_version": request.expected_version if request.HasField("expected_version") else None,
            }
            if request.by_policy:
                return await service.assign_by_policy(write, call.scope, conversation_id, present=present, **asked)
            return await service.assign(write, call.scope, conversation_id, agent_id=agent_id, **asked)

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
            records = await ledger.page(connection, row.id, after=after, limit=size + 1)
        items, last = cut(records, size, convert_assignments.ledger)
        token = "" if last is None else self._tokens.write(call, request, [str(last["id"])])
        as_of = self._cursors.at(call.tenant_id, head)
        return rpc.ListConversationAssignmentsResponse(assignments=items, next_page_token=token, as_of=as_of)

    async def PreviewAssignment(
        self, request: rpc.PreviewAssignmentRequest, call: Call
    ) -> rpc.PreviewAssignmentResponse:
        """Who would get a conversation now, and why."""
        present = await self._presence.present(call.tenant_id)
        async with call.database.snapshot() as connection:
            conversation_id = uuid.UUID(request.conversation_id)
            decision, head = await service.preview(connection, call.scope, conversation_id, present=present)
        return rpc.PreviewAssignmentResponse(
            decision=convert_assignments.decision(decision.record()), as_of=self._cursors.at(call.tenant_id, head)
        )
