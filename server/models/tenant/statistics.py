"""Counts of what there is now, kept by a follower of the log."""

from __future__ import annotations

import uuid

from sqlalchemy import BigInteger, CheckConstraint
from sqlalchemy.orm import Mapped, mapped_column

from server.models.base import Id, TenantBase, Word


class ConversationCount(TenantBase):
    """How many conversations share these attributes. One row per combination, so its size does not grow with history."""

    __tablename__ = "conversation_counts"
    __table_args__ = (CheckConstraint("count >= 0", name="count"),)

    channel_id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    status: Mapped[Word] = mapped_column(primary_key=True)
    assigned: Mapped[bool] = mapped_column(primary_key=True)
    unread: Mapped[bool] = mapped_column(primary_key=True)
    provider: Mapped[Word]
    count: Mapped[int] = mapped_column(BigInteger)


class CountedConversation(TenantBase):
    """As what a conversation is counted; absent when it is not (deleted)."""

    __tablename__ = "counted_conversations"

    conversation_id: Mapped[Id]
    channel_id: Mapped[uuid.UUID]
    status: Mapped[Word]
    assigned: Mapped[bool]
    unread: Mapped[bool]
