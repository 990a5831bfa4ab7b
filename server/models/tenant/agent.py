"""Agents, teams, and who belongs to what."""

from __future__ import annotations

import uuid

from sqlalchemy import ARRAY, CheckConstraint, ForeignKey, Index, SmallInteger, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from server.models.base import Id, TenantBase, Time, Word, words

# The built-in ones.
ROLES = ("owner", "admin", "supervisor", "agent", "read_only", "service")


class Role(TenantBase):
    """A role of the tenant's own. permissions: numbers of the contract's Permission."""

    __tablename__ = "roles"
    __table_args__ = (Index("uq_roles_name", text("lower(name)"), unique=True),)

    id: Mapped[Id]
    name: Mapped[Word]
    permissions: Mapped[list[int]] = mapped_column(ARRAY(SmallInteger))
    create_time: Mapped[Time]


class Agent(TenantBase):
    """Somebody who answers customers."""

    __tablename__ = "agents"
    __table_args__ = (
        UniqueConstraint("email"),
        words("kind", ("human", "bot")),
        words("role", (*ROLES, "custom")),
        CheckConstraint("(role = 'custom') = (role_id IS NOT NULL)", name="role_id"),
        Index(None, "role_id"),
        words("state", ("active", "disabled")),
    )

    id: Mapped[Id]
    name: Mapped[Word]
    email: Mapped[Word | None]
    kind: Mapped[Word]
    role: Mapped[Word]
    role_id: Mapped[uuid.UUID | None] = mapped_column(ForeignKey("roles.id"))
    state: Mapped[Word]
    create_time: Mapped[Time]


class Team(TenantBase):
    """A group of agents. A deleted one stays in what was written of it."""

    __tablename__ = "teams"
    __table_args__ = (Index("uq_teams_name", "name", unique=True, postgresql_where=text("delete_time IS NULL")),)

    id: Mapped[Id]
    name: Mapped[Word]
    create_time: Mapped[Time]
    delete_time: Mapped[Time | None]


class TeamMember(TenantBase):
    """That an agent belongs to a team."""

    __tablename__ = "team_members"

    team_id: Mapped[Id] = mapped_column(ForeignKey("teams.id", ondelete="CASCADE"), primary_key=True)
    agent_id: Mapped[Id] = mapped_column(ForeignKey("agents.id", ondelete="CASCADE"), primary_key=True, index=True)


class ChannelMember(TenantBase):
    """That an agent sees every conversation of a channel."""

    __tablename__ = "channel_members"

    channel_id: Mapped[Id] = mapped_column(ForeignKey("channels.id", ondelete="CASCADE"), primary_key=True)
    agent_id: Mapped[Id] = mapped_column(ForeignKey("agents.id", ondelete="CASCADE"), primary_key=True, index=True)
