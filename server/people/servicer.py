"""AgentService."""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable, Sequence

from google.protobuf.message import Message
from switchboard.v1 import agent_pb2
from switchboard.v1 import agent_service_pb2 as rpc

from server.agents import convert, own_roles, service, teams
from server.agents.service import Member
from server.kit.db import Write
from server.kit.ids import new_id
from server.log.append import append
from server.log.cursor import Cursors
from server.log.event import NewEvent, Origin, origin_of
from server.log.read import read_head
from server.models.tenant import Team
from server.people import lifecycle
from server.people.role_choice import chosen_role, named_role
from server.people.role_servicer import RoleServicer
from server.requests import service as requests
from server.rpc.call import Call
from server.rpc.paging import PageTokens, cut, page_size

# An agent after a change, and the events to append.
Result = tuple[Member, Sequence[NewEvent]]


class AgentServicer(RoleServicer):
    """Agents, teams and roles."""

    def __init__(self, *, tokens: PageTokens, cursors: Cursors) -> None:
        self._tokens = tokens
        self._cursors = cursors

    async def CreateAgent(self, request: rpc.CreateAgentRequest, call: Call) -> rpc.CreateAgentResponse:
        """Creates an agent."""
        agent_id = new_id()
        role_id = chosen_role(request)

        async def work(write: Write, origin: Origin) -> Result:
            return await service.create(
                write,
                agent_id=agent_id,
                name=request.name,
                email=request.email if request.HasField("email") else None,
                kind=convert.KIND.word(request.kind or agent_pb2.AGENT_KIND_HUMAN),
                role=await own_roles.given(write.connection, role_id, call.caller),
                team_ids=[uuid.UUID(item) for item in request.team_ids],
                channel_ids=[uuid.UUID(item) for item in request.channel_ids],
                origin=origin,
            )

        return rpc.CreateAgentResponse(agent=await _change(call, request, agent_id, work))

    async def GetAgent(self, request: rpc.GetAgentRequest, call: Call) -> rpc.GetAgentResponse:
        """An agent."""
        async with call.database.session_snapshot() as (session, connection):
            head = await read_head(connection)
            member = await service.get(session, uuid.UUID(request.agent_id))
        return rpc.GetAgentResponse(agent=member.shown(), as_of=self._cursors.at(call.tenant_id, head))

    async def ListAgents(self, request: rpc.ListAgentsRequest, call: Call) -> rpc.ListAgentsResponse:
        """A page of agents."""
        size, after = page_size(request.page_size), self._tokens.read(call, request)
        async with call.database.session_snapshot() as (session, connection):
            head = await read_head(connection)
            members = await service.page(session, after=after, limit=size + 1)
        items, last = cut(members, size, Member.shown)
        values = None if last is None else [last.agent.create_time.isoformat(), str(last.agent.id)]
        token = "" if values is None else self._tokens.write(call, request, values)
        as_of = self._cursors.at(call.tenant_id, head)
        return rpc.ListAgentsResponse(agents=items, next_page_token=token, as_of=as_of)

    async def UpdateAgent(self, request: rpc.UpdateAgentRequest, call: Call) -> rpc.UpdateAgentResponse:
        """Changes an agent."""
        agent_id, role_id = uuid.UUID(request.agent_id), named_role(request)

        async def work(write: Write, origin: Origin) -> Result:
            changed = await lifecycle.update(
                write,
                agent_id,
                caller=call.caller,
                origin=origin,
                name=request.name if request.HasField("name") else None,
                email=request.email if request.HasField("email") else None,
                role_id=role_id,
            )
            return changed.member, changed.events

        return rpc.UpdateAgentResponse(agent=await _change(call, request, agent_id, work))

    async def DisableAgent(self, request: rpc.DisableAgentRequest, call: Call) -> rpc.DisableAgentResponse:
        """Disables an agent."""
        agent_id = uuid.UUID(request.agent_id)

        async def work(write: Write, origin: Origin) -> Result:
            changed = await lifecycle.disable(write, agent_id, caller=call.caller, origin=origin)
            return changed.member, changed.events

        return rpc.DisableAgentResponse(agent=await _change(call, request, agent_id, work))

    async def EnableAgent(self, request: rpc.EnableAgentRequest, call: Call) -> rpc.EnableAgentResponse:
        """Enables an agent."""
        agent_id = uuid.UUID(request.agent_id)

        async def work(write: Write, origin: Origin) -> Result:
            changed = await lifecycle.enable(write, agent_id, caller=call.caller, origin=origin)
            return changed.member, changed.events

        return rpc.EnableAgentResponse(agent=await _change(call, request, agent_id, work))

    async def SetAgentMemberships(
        self, request: rpc.SetAgentMembershipsRequest, call: Call
    ) -> rpc.SetAgentMembershipsResponse:
        """Sets all memberships of an agent."""
        agent_id = uuid.UUID(request.agent_id)

        async def work(write: Write, origin: Origin) -> Result:
            return await service.set_memberships(
                write,
                agent_id,
                caller=call.caller,
                origin=origin,
                team_ids=[uuid.UUID(item) for item in request.team_ids],
                channel_ids=[uuid.UUID(item) for item in request.channel_ids],
            )

        return rpc.SetAgentMembershipsResponse(agent=await _change(call, request, agent_id, work))

    async def AddTeamMember(self, request: rpc.AddTeamMemberRequest, call: Call) -> rpc.AddTeamMemberResponse:
        """Adds an agent to a team."""
        return rpc.AddTeamMemberResponse(agent=await _set_member(call, request, belongs=True))

    async def RemoveTeamMember(self, request: rpc.RemoveTeamMemberRequest, call: Call) -> rpc.RemoveTeamMemberResponse:
        """Takes an agent out of a team."""
        return rpc.RemoveTeamMemberResponse(agent=await _set_member(call, request, belongs=False))

    async def CreateTeam(self, request: rpc.CreateTeamRequest, call: Call) -> rpc.CreateTeamResponse:
        """Creates a team."""
        team_id, origin = new_id(), origin_of(call, request.request_id)

        async def unit(write: Write) -> Team:
            earlier = await requests.claim(write, call, request, resource_id=team_id)
            if earlier is not None:
                return await teams.get(write.session, earlier)
            row, found = await teams.create(write, team_id=team_id, name=request.name, origin=origin)
            await append(write, found)
            return row

        return rpc.CreateTeamResponse(team=convert.team(await call.database.write(unit)))

    async def UpdateTeam(self, request: rpc.UpdateTeamRequest, call: Call) -> rpc.UpdateTeamResponse:
        """Renames a team."""
        team_id, origin = uuid.UUID(request.team_id), origin_of(call, request.request_id)

        async def unit(write: Write) -> Team:
            if await requests.claim(write, call, request, resource_id=team_id) is not None:
                return await teams.get(write.session, team_id)
            row, found = await teams.rename(write, team_id, name=request.name, origin=origin)
            await append(write, found)
            return row

        return rpc.UpdateTeamResponse(team=convert.team(await call.database.write(unit)))

    async def DeleteTeam(self, request: rpc.DeleteTeamRequest, call: Call) -> rpc.DeleteTeamResponse:
        """Deletes a team."""
        team_id, origin = uuid.UUID(request.team_id), origin_of(call, request.request_id)

        async def unit(write: Write) -> None:
            if await requests.claim(write, call, request, resource_id=team_id) is None:
                await append(write, await teams.remove(write, team_id, origin=origin))

        await call.database.write(unit)
        return rpc.DeleteTeamResponse()

    async def GetTeam(self, request: rpc.GetTeamRequest, call: Call) -> rpc.GetTeamResponse:
        """A team."""
        async with call.database.session_snapshot() as (session, connection):
            head = await read_head(connection)
            row = await teams.get(session, uuid.UUID(request.team_id))
        return rpc.GetTeamResponse(team=convert.team(row), as_of=self._cursors.at(call.tenant_id, head))

    async def ListTeams(self, request: rpc.ListTeamsRequest, call: Call) -> rpc.ListTeamsResponse:
        """A page of teams."""
        size, after = page_size(request.page_size), self._tokens.read(call, request)
        async with call.database.session_snapshot() as (session, connection):
            head = await read_head(connection)
            rows = await teams.page(session, after=after, limit=size + 1)
        items, last = cut(rows, size, convert.team)
        token = "" if last is None else self._tokens.write(call, request, [last.create_time.isoformat(), str(last.id)])
        as_of = self._cursors.at(call.tenant_id, head)
        return rpc.ListTeamsResponse(teams=items, next_page_token=token, as_of=as_of)


async def _set_member(
    call: Call, request: rpc.AddTeamMemberRequest | rpc.RemoveTeamMemberRequest, *, belongs: bool
) -> agent_pb2.Agent:
    team_id, agent_id = uuid.UUID(request.team_id), uuid.UUID(request.agent_id)

    async def work(write: Write, origin: Origin) -> Result:
        return await teams.set_member(write, team_id, agent_id, belongs=belongs, caller=call.caller, origin=origin)

    return await _change(call, request, agent_id, work)


async def _change(
    call: Call, request: Message, agent_id: uuid.UUID, work: Callable[[Write, Origin], Awaitable[Result]]
) -> agent_pb2.Agent:
    """Runs work and appends its events; a repeat answers the agent as it is now."""
    origin = origin_of(call, request.request_id)  # type: ignore[attr-defined]

    async def unit(write: Write) -> Member:
        earlier = await requests.claim(write, call, request, resource_id=agent_id)
        if earlier is not None:
            return await service.get(write.session, earlier)
        member, found = await work(write, origin)
        await append(write, found)
        return member

    return (await call.database.write(unit)).shown()
