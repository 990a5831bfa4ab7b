"""AgentService."""

from __future__ import annotations

import uuid

from switchboard.v1 import agent_pb2
from switchboard.v1 import agent_service_pb2 as rpc
from switchboard.v1.agent_service_pb2_grpc import AgentServiceServicer

from server.agents import convert, service
from server.agents.roles import PERMISSIONS
from server.agents.service import Member
from server.kit.db import Write
from server.kit.ids import new_id
from server.log.append import append
from server.log.cursor import Cursors
from server.log.event import origin_of
from server.log.read import read_head
from server.models.tenant import Team
from server.requests import service as requests
from server.rpc.auth import check_held
from server.rpc.call import Call
from server.rpc.paging import PageTokens, cut, page_size


class AgentServicer(AgentServiceServicer):
    """Agents and teams."""

    def __init__(self, *, tokens: PageTokens, cursors: Cursors) -> None:
        self._tokens = tokens
        self._cursors = cursors

    async def CreateAgent(self, request: rpc.CreateAgentRequest, call: Call) -> rpc.CreateAgentResponse:
        """Creates an agent."""
        agent_id = new_id()
        role = convert.ROLE.word(request.role or agent_pb2.AGENT_ROLE_AGENT)
        check_held(PERMISSIONS[role], call.caller)

        async def unit(write: Write) -> Member:
            earlier = await requests.claim(write, call, request, resource_id=agent_id)
            if earlier is not None:
                return await service.get(write.session, earlier)
            return await service.create(
                write,
                agent_id=agent_id,
                name=request.name,
                email=request.email if request.HasField("email") else None,
                kind=convert.KIND.word(request.kind or agent_pb2.AGENT_KIND_HUMAN),
                role=role,
                team_ids=[uuid.UUID(item) for item in request.team_ids],
                channel_ids=[uuid.UUID(item) for item in request.channel_ids],
            )

        return rpc.CreateAgentResponse(agent=_shown(await call.database.write(unit)))

    async def GetAgent(self, request: rpc.GetAgentRequest, call: Call) -> rpc.GetAgentResponse:
        """An agent."""
        async with call.database.session_snapshot() as (session, connection):
            head = await read_head(connection)
            member = await service.get(session, uuid.UUID(request.agent_id))
        return rpc.GetAgentResponse(agent=_shown(member), as_of=self._cursors.at(call.tenant_id, head))

    async def ListAgents(self, request: rpc.ListAgentsRequest, call: Call) -> rpc.ListAgentsResponse:
        """A page of agents."""
        size, after = page_size(request.page_size), self._tokens.read(call, request)
        async with call.database.session_snapshot() as (session, connection):
            head = await read_head(connection)
            members = await service.page(session, after=after, limit=size + 1)
        items, last = cut(members, size, _shown)
        values = None if last is None else [last.agent.create_time.isoformat(), str(last.agent.id)]
        token = "" if values is None else self._tokens.write(call, request, values)
        as_of = self._cursors.at(call.tenant_id, head)
        return rpc.ListAgentsResponse(agents=items, next_page_token=token, as_of=as_of)

    async def SetAgentMemberships(
        self, request: rpc.SetAgentMembershipsRequest, call: Call
    ) -> rpc.SetAgentMembershipsResponse:
        """Sets all memberships of an agent."""

        agent_id = uuid.UUID(request.agent_id)

        async def unit(write: Write) -> Member:
            if await requests.claim(write, call, request, resource_id=agent_id) is not None:
                return await service.get(write.session, agent_id)
            member, events = await service.set_memberships(
                write,
                agent_id,
                origin=origin_of(call, request.request_id),
                team_ids=[uuid.UUID(item) for item in request.team_ids],
                channel_ids=[uuid.UUID(item) for item in request.channel_ids],
            )
            await append(write, events)
            return member

        return rpc.SetAgentMembershipsResponse(agent=_shown(await call.database.write(unit)))

    async def CreateTeam(self, request: rpc.CreateTeamRequest, call: Call) -> rpc.CreateTeamResponse:
        """Creates a team."""
        team_id = new_id()

        async def unit(write: Write) -> Team:
            earlier = await requests.claim(write, call, request, resource_id=team_id)
            if earlier is not None:
                return await service.get_team(write.session, earlier)
            return await service.create_team(write, team_id=team_id, name=request.name)

        return rpc.CreateTeamResponse(team=convert.team(await call.database.write(unit)))

    async def ListTeams(self, request: rpc.ListTeamsRequest, call: Call) -> rpc.ListTeamsResponse:
        """A page of teams."""
        size, after = page_size(request.page_size), self._tokens.read(call, request)
        async with call.database.session_snapshot() as (session, connection):
            head = await read_head(connection)
            rows = await service.page_of_teams(session, after=after, limit=size + 1)
        items, last = cut(rows, size, convert.team)
        token = "" if last is None else self._tokens.write(call, request, [last.create_time.isoformat(), str(last.id)])
        as_of = self._cursors.at(call.tenant_id, head)
        return rpc.ListTeamsResponse(teams=items, next_page_token=token, as_of=as_of)


def _shown(member: Member) -> agent_pb2.Agent:
    return convert.agent(member.agent, team_ids=member.team_ids, channel_ids=member.channel_ids)
