"""Invites as the contract shows them."""

from __future__ import annotations

from switchboard.v1 import actor_pb2, invite_pb2

from server.agents import roles
from server.agents.convert import ROLE
from server.kit import pb
from server.people.invite_row import Invite

STATE = pb.Words(invite_pb2.InviteState, "INVITE_STATE_")


def invite(row: Invite) -> invite_pb2.Invite:
    """An invite."""
    return invite_pb2.Invite(
        id=str(row.id),
        email=row.email,
        name=row.name,
        role=ROLE.number(row.role),
        role_id=str(roles.id_of(row.role, row.role_id)),
        team_ids=sorted(map(str, row.team_ids)),
        channel_ids=sorted(map(str, row.channel_ids)),
        state=STATE.number(row.state),
        inviter=actor_pb2.Actor(
            kind=row.inviter_kind,  # type: ignore[arg-type]
            id=str(row.inviter_id) if row.inviter_id else None,
        ),
        create_time=pb.timestamp(row.create_time),
        expire_time=pb.timestamp(row.expire_time),
        agent_id=str(row.agent_id) if row.agent_id else None,
    )
