"""Conversations, denormalised so that a list reads one row each."""

from __future__ import annotations

import uuid
from typing import Any

from sqlalchemy import ARRAY, BigInteger, CheckConstraint, ForeignKey, Index, SmallInteger, Text, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from server.models.base import Id, TenantBase, Time, Word, words

STATUSES = ("new", "open", "pending", "snoozed", "resolved", "archived")
LIVE = "status IN ('new', 'open', 'pending', 'snoozed') AND delete_time IS NULL"
LISTED = text("delete_time IS NULL")


class Conversation(TenantBase):
    """One thread. At most one per channel and identity is live: a partial unique index, not a check.

    unread = inbound_count - team_read_count. message_count is the arrival number of the newest message; the last_* columns
    follow the message with the highest sequence, last_*_arrival the newest arrival of each direction. weight, waiting_weight: what
    it weighs for its agent, in percent of a unit, as it is and while it waits for the customer.
    """

    __tablename__ = "conversations"
    __table_args__ = (
        words("status", STATUSES),
        CheckConstraint("priority BETWEEN 1 AND 5", name="priority"),
        CheckConstraint("team_read_count BETWEEN 0 AND inbound_count", name="team_read_count"),
        CheckConstraint("(status = 'snoozed') OR (snooze_until IS NULL)", name="snooze_until"),
        CheckConstraint(
            "inbound_count BETWEEN 0 AND message_count AND last_inbound_arrival BETWEEN 0 AND message_count"
            " AND last_outbound_arrival BETWEEN 0 AND message_count",
            name="counts",
        ),
        CheckConstraint("waiting_since IS NULL OR status NOT IN ('resolved', 'archived')", name="waiting_since"),
        CheckConstraint("resolve_time IS NOT NULL OR status NOT IN ('resolved', 'archived')", name="resolve_time"),
        CheckConstraint("weight >= 0 AND waiting_weight >= 0", name="weight"),
        Index("uq_conversations_live", "channel_id", "identity_id", unique=True, postgresql_where=text(LIVE)),
        Index("ix_conversations_by_message", text("last_message_time DESC"), text("id DESC"), postgresql_where=LISTED),
        Index("ix_conversations_by_creation", text("create_time DESC"), text("id DESC"), postgresql_where=LISTED),
        Index(
            "ix_conversations_by_priority",
            *(text("priority DESC"), text("last_message_time DESC"), text("id DESC")),
            postgresql_where=LISTED,
        ),
        Index(
            "ix_conversations_by_waiting",
            *(text("coalesce(waiting_since, 'infinity'::timestamptz)"), "id"),
            postgresql_where=LISTED,
        ),
        Index(
            "ix_conversations_by_window",
            *(text("coalesce(reply_window_expire_time, 'infinity'::timestamptz)"), "id"),
            postgresql_where=LISTED,
        ),
        Index(
            "ix_conversations_assignee",
            "assignee_id",
            text("last_message_time DESC"),
            text("id DESC"),
            postgresql_where=LISTED,
        ),
        Index(
            "ix_conversations_team", "team_id", text("last_message_time DESC"), text("id DESC"), postgresql_where=LISTED
        ),
        Index(
            "ix_conversations_channel",
            "channel_id",
            text("last_message_time DESC"),
            text("id DESC"),
            postgresql_where=LISTED,
        ),
        Index(
            "ix_conversations_status",
            "status",
            text("last_message_time DESC"),
            text("id DESC"),
            postgresql_where=LISTED,
        ),
        Index(
            "ix_conversations_queue",
            *(text("coalesce(waiting_since, create_time)"), "id"),
            postgresql_where=text("assignee_id IS NULL AND status IN ('new', 'open') AND delete_time IS NULL"),
        ),
        Index("ix_conversations_contact", "contact_id"),
        Index(
            "ix_conversations_previous",
            "previous_conversation_id",
            postgresql_where=text("previous_conversation_id IS NOT NULL"),
        ),
        Index("ix_conversations_identity", "identity_id"),
        Index("ix_conversations_live_assignee", "assignee_id", "channel_id", postgresql_where=text(LIVE)),
        Index("ix_conversations_live_team", "team_id", "assignee_id", postgresql_where=text(LIVE)),
        Index(
            "ix_conversations_deleted",
            *(text("last_message_time DESC"), text("id DESC")),
            postgresql_where=text("delete_time IS NOT NULL"),
        ),
        Index(
            "ix_conversations_unread",
            *(text("last_message_time DESC"), text("id DESC")),
            postgresql_where=text("delete_time IS NULL AND inbound_count > team_read_count"),
        ),
    )

    id: Mapped[Id]
    channel_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("channels.id"))
    provider: Mapped[Word]
    contact_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("contacts.id"))
    contact_name: Mapped[Word]
    identity_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("identities.id"))
    status: Mapped[Word]
    assignee_id: Mapped[uuid.UUID | None] = mapped_column(ForeignKey("agents.id"))
    team_id: Mapped[uuid.UUID | None] = mapped_column(ForeignKey("teams.id"))
    tags: Mapped[list[str]] = mapped_column(ARRAY(Text), server_default=text("'{}'"))
    priority: Mapped[int] = mapped_column(SmallInteger, server_default=text("1"))
    subject: Mapped[Word | None]
    attributes: Mapped[dict[str, Any] | None] = mapped_column(JSONB)
    message_count: Mapped[int] = mapped_column(server_default=text("0"))
    inbound_count: Mapped[int] = mapped_column(server_default=text("0"))
    team_read_count: Mapped[int] = mapped_column(server_default=text("0"))
    last_inbound_arrival: Mapped[int] = mapped_column(server_default=text("0"))
    last_outbound_arrival: Mapped[int] = mapped_column(server_default=text("0"))
    last_outbound_author_id: Mapped[uuid.UUID | None]
    last_inbound_provider_id: Mapped[Word | None]
    last_inbound_sequence: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    last_sequence: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    last_message_id: Mapped[uuid.UUID | None]
    last_message_preview: Mapped[Word] = mapped_column(server_default=text("''"))
    last_message_time: Mapped[Time]
    waiting_since: Mapped[Time | None]
    snooze_until: Mapped[Time | None]
    snooze_generation: Mapped[int] = mapped_column(server_default=text("0"))
    reply_window_expire_time: Mapped[Time | None]
    # When an advertisement led the customer here, until that is answered; and until when messages are free after it was.
    referral_time: Mapped[Time | None]
    free_entry_expire_time: Mapped[Time | None]
    previous_conversation_id: Mapped[uuid.UUID | None]
    version: Mapped[int] = mapped_column(BigInteger, server_default=text("1"))
    create_time: Mapped[Time]
    update_time: Mapped[Time]
    resolve_time: Mapped[Time | None]
    delete_time: Mapped[Time | None]
    weight: Mapped[int] = mapped_column(server_default=text("100"))
    waiting_weight: Mapped[int] = mapped_column(server_default=text("50"))
    contact_blocked: Mapped[bool] = mapped_column(server_default=text("false"))


class ConversationAttributeKey(TenantBase):
    """That a conversation has an attribute of some value: attribute_key(name, value). A trigger keeps it."""

    __tablename__ = "conversation_attribute_keys"

    key: Mapped[Id] = mapped_column(primary_key=True)
    conversation_id: Mapped[Id] = mapped_column(
        ForeignKey("conversations.id", ondelete="CASCADE"), primary_key=True, index=True
    )


class ConversationParticipant(TenantBase):
    """That an agent was added to a conversation (joined), or removed from it; what it does there later makes it take part again."""

    __tablename__ = "conversation_participants"

    conversation_id: Mapped[Id] = mapped_column(ForeignKey("conversations.id", ondelete="CASCADE"), primary_key=True)
    agent_id: Mapped[Id] = mapped_column(ForeignKey("agents.id"), primary_key=True)
    joined: Mapped[bool]
    update_time: Mapped[Time]


class ReadPosition(TenantBase):
    """How far an agent has read a conversation: arrival number, and the inbound messages up to it.

    behind: whether there are more inbound messages, of a conversation that is not deleted; triggers keep it.
    """

    __tablename__ = "read_positions"
    __table_args__ = (
        CheckConstraint("arrival >= 0 AND inbound_count >= 0", name="arrival"),
        Index("ix_read_positions_behind", "agent_id", "conversation_id", postgresql_where=text("behind")),
    )

    conversation_id: Mapped[Id] = mapped_column(ForeignKey("conversations.id", ondelete="CASCADE"), primary_key=True)
    agent_id: Mapped[Id] = mapped_column(ForeignKey("agents.id", ondelete="CASCADE"), primary_key=True)
    arrival: Mapped[int]
    inbound_count: Mapped[int]
    update_time: Mapped[Time]
    behind: Mapped[bool] = mapped_column(server_default=text("false"))
