"""Remarks of agents on conversations."""

from __future__ import annotations

import uuid

from sqlalchemy import ARRAY, ForeignKey, Index, Uuid, text
from sqlalchemy.orm import Mapped, mapped_column

from server.models.base import Id, TenantBase, Time, Word

NOBODY = text("'{}'")


class ConversationNote(TenantBase):
    """A remark. author_id is absent when a service wrote it."""

    __tablename__ = "conversation_notes"
    __table_args__ = (Index("ix_conversation_notes_order", "conversation_id", text("pinned DESC"), text("id DESC")),)

    id: Mapped[Id]
    conversation_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("conversations.id"))
    author_id: Mapped[uuid.UUID | None] = mapped_column(ForeignKey("agents.id"))
    text: Mapped[Word]
    pinned: Mapped[bool]
    create_time: Mapped[Time]
    update_time: Mapped[Time | None]
    mentioned_agent_ids: Mapped[list[uuid.UUID]] = mapped_column(ARRAY(Uuid), server_default=NOBODY)
    mentioned_team_ids: Mapped[list[uuid.UUID]] = mapped_column(ARRAY(Uuid), server_default=NOBODY)
    notified_agent_ids: Mapped[list[uuid.UUID]] = mapped_column(ARRAY(Uuid), server_default=NOBODY)
