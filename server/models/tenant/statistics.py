"""Counts of what there is now and of what happened, kept by a follower of the log."""

from __future__ import annotations

import uuid
from decimal import Decimal

from sqlalchemy import BigInteger, CheckConstraint, Numeric, SmallInteger, Text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Mapped, mapped_column

from server.models.base import Id, TenantBase, Time, Word, words

DIMENSIONS = ("channel", "team", "agent", "tag", "priority")


class ConversationCount(TenantBase):
    """How many conversations of a channel have a value of a dimension and a status. Its size does not grow with history."""

    __tablename__ = "conversation_counts"
    __table_args__ = (
        CheckConstraint("least(count, unassigned, unread, unattended) >= 0", name="not_negative"),
        CheckConstraint("greatest(unassigned, unread, unattended) <= count", name="parts"),
        words("dimension", DIMENSIONS),
    )

    channel_id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    dimension: Mapped[Word] = mapped_column(primary_key=True)
    value: Mapped[Word] = mapped_column(primary_key=True)
    status: Mapped[Word] = mapped_column(primary_key=True)
    provider: Mapped[Word]
    count: Mapped[int] = mapped_column(BigInteger)
    unassigned: Mapped[int] = mapped_column(BigInteger)
    unread: Mapped[int] = mapped_column(BigInteger)
    unattended: Mapped[int] = mapped_column(BigInteger)


class CountedConversation(TenantBase):
    """As what a conversation is counted, and what measuring its next answer needs."""

    __tablename__ = "counted_conversations"

    conversation_id: Mapped[Id]
    channel_id: Mapped[uuid.UUID]
    provider: Mapped[Word]
    status: Mapped[Word]
    team_id: Mapped[uuid.UUID | None]
    assignee_id: Mapped[uuid.UUID | None]
    tags: Mapped[list[str]] = mapped_column(ARRAY(Text))
    priority: Mapped[int] = mapped_column(SmallInteger)
    unread: Mapped[bool]
    hidden: Mapped[bool]
    answered: Mapped[bool]
    waiting_since: Mapped[Time | None]
    open_since: Mapped[Time | None]
    assigned_agent_id: Mapped[uuid.UUID | None]
    assigned_since: Mapped[Time | None]


class StatisticsBucket(TenantBase):
    """How often something happened in a quarter of an hour; of durations, those in one bin of a sketch and their sum, in microseconds."""

    __tablename__ = "statistics_buckets"
    __table_args__ = (words("dimension", DIMENSIONS),)

    dimension: Mapped[Word] = mapped_column(primary_key=True)
    bucket_time: Mapped[Time] = mapped_column(primary_key=True)
    channel_id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    value: Mapped[Word] = mapped_column(primary_key=True)
    measure: Mapped[Word] = mapped_column(primary_key=True)
    bin: Mapped[int] = mapped_column(SmallInteger, primary_key=True)
    count: Mapped[int] = mapped_column(BigInteger)
    total: Mapped[Decimal] = mapped_column(Numeric)


class StatisticsStart(TenantBase):
    """Since when everything is counted, where the log did not reach back to the tenant's beginning. At most one row."""

    __tablename__ = "statistics_starts"
    __table_args__ = (CheckConstraint("id = 1", name="one_row"),)

    id: Mapped[int] = mapped_column(SmallInteger, primary_key=True, autoincrement=False)
    since: Mapped[Time]
