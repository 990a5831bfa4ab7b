"""Invites: people who are asked to become agents."""

from __future__ import annotations

import uuid
from datetime import timedelta

from sqlalchemy import ARRAY, CheckConstraint, ForeignKey, Index, Interval, LargeBinary, SmallInteger, Uuid, text
from sqlalchemy.orm import Mapped, mapped_column

from server.models.base import Id, TenantBase, Time, Word, words
from server.models.tenant.agent import ROLES


class Invite(TenantBase):
    """One invite. secret_hash: SHA-256 of the newest token's secret. inviter_kind: a number of the contract's ActorKind."""

    __tablename__ = "invites"
    __table_args__ = (
        words("role", (*ROLES, "custom")),
        CheckConstraint("(role = 'custom') = (role_id IS NOT NULL)", name="role_id"),
        CheckConstraint("(accept_time IS NULL) = (agent_id IS NULL)", name="agent_id"),
        CheckConstraint("accept_time IS NULL OR revoke_time IS NULL", name="closed_once"),
        Index(
            "uq_invites_email",
            text("lower(email)"),
            unique=True,
            postgresql_where=text("accept_time IS NULL AND revoke_time IS NULL"),
        ),
        Index(None, "role_id"),
    )

    id: Mapped[Id]
    email: Mapped[Word]
    name: Mapped[Word]
    role: Mapped[Word]
    role_id: Mapped[uuid.UUID | None] = mapped_column(ForeignKey("roles.id", ondelete="CASCADE"))
    team_ids: Mapped[list[uuid.UUID]] = mapped_column(ARRAY(Uuid))
    channel_ids: Mapped[list[uuid.UUID]] = mapped_column(ARRAY(Uuid))
    secret_hash: Mapped[bytes] = mapped_column(LargeBinary)
    inviter_kind: Mapped[int] = mapped_column(SmallInteger)
    inviter_id: Mapped[uuid.UUID | None]
    lifetime: Mapped[timedelta] = mapped_column(Interval)
    create_time: Mapped[Time]
    expire_time: Mapped[Time]
    revoke_time: Mapped[Time | None]
    accept_time: Mapped[Time | None]
    agent_id: Mapped[uuid.UUID | None] = mapped_column(ForeignKey("agents.id"), unique=True)
