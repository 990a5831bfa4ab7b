"""AvailabilityService."""

from __future__ import annotations

import uuid
from typing import Any

from switchboard.v1 import availability_service_pb2 as rpc
from switchboard.v1 import options_pb2
from switchboard.v1.availability_service_pb2_grpc import AvailabilityServiceServicer

from server.agents.presence import Presence
from server.assignments import availability, convert
from server.kit import pb
from server.kit.db import Write
from server.kit.errors import NotFound
from server.log.append import append
from server.log.cursor import Cursors
from server.log.event import origin_of
from server.log.read import read_head
from server.requests import service as requests
from server.rpc.call import Call, CallerKind
from server.rpc.paging import PageTokens, cut, page_size


class AvailabilityServicer(AvailabilityServiceServicer):
    """Who is at work, and how much each takes."""

    def __init__(self, *, tokens: PageTokens, cursors: Cursors, presence: Presence) -> None:
        self._tokens = tokens
        self._cursors = cursors
        self._presence = presence

    async def GetAgentAvailability(
        self, request: rpc.GetAgentAvailabilityRequest, call: Call
    ) -> rpc.GetAgentAvailabilityResponse:
        """The availability of an agent."""
        async with call.database.snapshot() as connection:
            head = await read_head(connection)
            record = await availability.get(connection, uuid.UUID(request.agent_id))
        as_of = self._cursors.at(call.tenant_id, head)
        return rpc.GetAgentAvailabilityResponse(availability=convert.availability(record), as_of=as_of)

    async def ListAgentAvailabilities(
        self, request: rpc.ListAgentAvailabilitiesRequest, call: Call
    ) -> rpc.ListAgentAvailabilitiesResponse:
        """A page of availabilities."""
        size, after = page_size(request.page_size), self._tokens.read(call, request)
        async with call.database.snapshot() as connection:
            head = await read_head(connection)
            records = await availability.page(connection, after=after, limit=size + 1)
        items, last = cut(records, size, convert.availability)
        token = "" if last is None else self._tokens.write(call, request, [str(last["agent_id"])])
        as_of = self._cursors.at(call.tenant_id, head)
        return rpc.ListAgentAvailabilitiesResponse(availabilities=items, next_page_token=token, as_of=as_of)

    async def SetAvailability(self, request: rpc.SetAvailabilityRequest, call: Call) -> rpc.SetAvailabilityResponse:
        """Says whether an agent takes conversations."""
        agent_id, to = _own(call, request.agent_id), convert.AVAILABILITY.word(request.availability)

        async def unit(write: Write) -> Any:
            if await requests.claim(write, call, request, resource_id=agent_id) is not None:
                return await availability.get(write.connection, agent_id)
            origin = origin_of(call, request.request_id)
            record, events = await availability.set_availability(write, agent_id, origin=origin, to=to)
            await append(write, events)
            return record

        # Before the event, or who follows it would still miss the agent's heartbeat.
        if to == "offline":
            await self._presence.leave(call.tenant_id, agent_id)
        else:
            await self._presence.beat(call.tenant_id, agent_id)
        record = await call.database.write(unit)
        return rpc.SetAvailabilityResponse(availability=convert.availability(record))

    async def Heartbeat(self, request: rpc.HeartbeatRequest, call: Call) -> rpc.HeartbeatResponse:
        """Says that an agent is still there."""
        agent_id = _own(call, request.agent_id)
        await self._presence.beat(call.tenant_id, agent_id)
        record = await availability.heartbeat(call.database, agent_id, origin=origin_of(call))
        return rpc.HeartbeatResponse(
            availability=convert.AVAILABILITY.number(convert.counts_as(record)),
            next_within=pb.duration(availability.HEARTBEAT_EVERY),
        )

    async def SetAgentCapacity(self, request: rpc.SetAgentCapacityRequest, call: Call) -> rpc.SetAgentCapacityResponse:
        """Sets how much an agent takes, and what it can do."""
        agent_id = uuid.UUID(request.agent_id)

        async def unit(write: Write) -> Any:
            if await requests.claim(write, call, request, resource_id=agent_id) is not None:
                return await availability.get(write.connection, agent_id)
            record, events = await availability.set_capacity(
                write,
                agent_id,
                origin=origin_of(call, request.request_id),
                capacity=request.capacity,
                skills=list(request.skills),
            )
            await append(write, events)
            return record

        return rpc.SetAgentCapacityResponse(availability=convert.availability(await call.database.write(unit)))


def _own(call: Call, agent_id: str) -> uuid.UUID:
    """The agent that a caller may speak for: itself, or anybody for who manages assignment. NotFound."""
    found, caller = uuid.UUID(agent_id), call.caller
    manages = options_pb2.PERMISSION_ASSIGNMENT_MANAGE in caller.permissions
    if not manages and not (caller.kind is CallerKind.AGENT and caller.id == found):
        raise NotFound("agent")
    return found
