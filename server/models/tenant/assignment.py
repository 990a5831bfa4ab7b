"""The ledger of assignments."""

from __future__ import annotations

import uuid

from sqlalchemy import CheckConstraint, ForeignKey, Index, SmallInteger, text
from sqlalchemy.orm import Mapped, mapped_column

from server.models.base import Id, TenantBase, Time, Word, words

TYPES = ("manual", "round_robin", "load_based", "availability")


class ConversationAssignment(TenantBase):
    """That an agent, a team, or both had a conversation from start_time to end_time. One row of a conversation is open."""

    __tablename__ = "conversation_assignments"
    __table_args__ = (
        words("type", TYPES),
        CheckConstraint("agent_id IS NOT NULL OR team_id IS NOT NULL", name="target"),
        CheckConstraint("end_time >= start_time", name="end_time"),
        Index(
            "uq_conversation_assignments_open",
            "conversation_id",
            unique=True,
            postgresql_where=text("end_time IS NULL"),
        ),
        Index("ix_conversation_assignments_conversation", "conversation_id", text("id DESC")),
    )

    id: Mapped[Id]
    conversation_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("conversations.id"))
    agent_id: Mapped[uuid.UUID | None] = mapped_column(ForeignKey("agents.id"))
    team_id: Mapped[uuid.UUID | None] = mapped_column(ForeignKey("teams.id"))
    type: Mapped[Word]
    reason: Mapped[Word | None]
    assigned_by_kind: Mapped[int] = mapped_column(SmallInteger)
    assigned_by_id: Mapped[uuid.UUID | None]
    start_time: Mapped[Time]
    end_time: Mapped[Time | None]
