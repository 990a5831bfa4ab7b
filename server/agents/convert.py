"""Agents and teams as the contract shows them."""

from __future__ import annotations

import uuid
from collections.abc import Iterable

from switchboard.v1 import agent_pb2, role_pb2

from server.agents import roles
from server.agents.roles import Role
from server.kit import pb
from server.models.tenant import Agent, Team

KIND = pb.Words(agent_pb2.AgentKind, "AGENT_KIND_")
STATE = pb.Words(agent_pb2.AgentState, "AGENT_STATE_")
ROLE = pb.Words(agent_pb2.AgentRole, "AGENT_ROLE_")


def agent(row: Agent, *, team_ids: Iterable[uuid.UUID], channel_ids: Iterable[uuid.UUID]) -> agent_pb2.Agent:
    """An agent with its memberships."""
    return agent_pb2.Agent(
        id=str(row.id),
        name=row.name,
        email=row.email,
        kind=KIND.number(row.kind),
        role=ROLE.number(row.role),
        team_ids=sorted(map(str, team_ids)),
        channel_ids=sorted(map(str, channel_ids)),
        create_time=pb.timestamp(row.create_time),
        state=STATE.number(row.state),
        role_id=str(roles.id_of(row.role, row.role_id)),
    )


def team(row: Team) -> agent_pb2.Team:
    """A team."""
    return agent_pb2.Team(id=str(row.id), name=row.name, create_time=pb.timestamp(row.create_time))


def role(row: Role) -> role_pb2.Role:
    """A role."""
    return role_pb2.Role(
        id=str(row.id),
        name=row.name,
        role=ROLE.number(row.word),
        permissions=sorted(row.permissions),  # type: ignore[arg-type]
        create_time=None if row.create_time is None else pb.timestamp(row.create_time),
    )
