"""The tenant's vocabulary of tags."""

from __future__ import annotations

import uuid

from sqlalchemy import CheckConstraint, ForeignKey, Index, text
from sqlalchemy.orm import Mapped, mapped_column

from server.models.base import Id, TenantBase, Time, Word


class Tag(TenantBase):
    """A word of the vocabulary. Deleted ones stay until no conversation has them; swept_to: how far a change of it has come."""

    __tablename__ = "tags"
    __table_args__ = (
        Index("uq_tags_name", text("lower(name)"), unique=True, postgresql_where=text("delete_time IS NULL")),
        CheckConstraint("color ~ '^#[0-9a-f]{6}$'", name="color"),
        CheckConstraint("length(name) BETWEEN 1 AND 50", name="name"),
    )

    id: Mapped[Id]
    name: Mapped[Word]
    color: Mapped[Word | None]
    description: Mapped[Word | None]
    create_time: Mapped[Time]
    update_time: Mapped[Time | None]
    delete_time: Mapped[Time | None]
    swept_to: Mapped[uuid.UUID | None]


class ConversationTag(TenantBase):
    """That a conversation has a tag; conversations.tags repeats the names for lists."""

    __tablename__ = "conversation_tags"
    __table_args__ = (Index("ix_conversation_tags_tag", "tag_id", "conversation_id"),)

    conversation_id: Mapped[Id] = mapped_column(ForeignKey("conversations.id", ondelete="CASCADE"), primary_key=True)
    tag_id: Mapped[Id] = mapped_column(ForeignKey("tags.id"), primary_key=True)
    create_time: Mapped[Time]
