"""The tenant's vocabulary of tags."""

from __future__ import annotations

from sqlalchemy import ForeignKey, Index, text
from sqlalchemy.orm import Mapped, mapped_column

from server.models.base import Id, TenantBase, Time, Word


class Tag(TenantBase):
    """A word of the vocabulary."""

    __tablename__ = "tags"
    __table_args__ = (Index("uq_tags_name", text("lower(name)"), unique=True),)

    id: Mapped[Id]
    name: Mapped[Word]
    create_time: Mapped[Time]


class ConversationTag(TenantBase):
    """That a conversation has a tag; conversations.tags repeats the names for lists."""

    __tablename__ = "conversation_tags"
    __table_args__ = (Index("ix_conversation_tags_tag", "tag_id", "conversation_id"),)

    conversation_id: Mapped[Id] = mapped_column(ForeignKey("conversations.id", ondelete="CASCADE"), primary_key=True)
    tag_id: Mapped[Id] = mapped_column(ForeignKey("tags.id"), primary_key=True)
    create_time: Mapped[Time]
