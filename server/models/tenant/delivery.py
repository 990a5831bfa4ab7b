"""What is to be handed to a provider."""

from __future__ import annotations

import uuid

from sqlalchemy import BigInteger, ForeignKey, Index, SmallInteger, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from server.models.base import Id, TenantBase, Time, Word, words

STATES = ("waiting", "queued", "in_flight", "accepted", "failed", "unknown")


class Delivery(TenantBase):
    """One request to a provider. in_flight is committed before the first byte is written.

    position orders the conversation's deliveries: the message's sequence. Of each conversation one, its head, is queued or in
    flight, and the others are waiting. lane: 0 before 1 before 2 where a channel has more to send than it may.
    aside: until it is due, what comes after it in its conversation goes before it.
    hold_until: until when an unknown send keeps the conversation's next one back.
    attempt: of the claims, never lowered, it guards the end of each; uncounted: those that cost no attempt.
    awaited_template_id: the template it waits for, since the provider paused it.
    """

    __tablename__ = "deliveries"
    __table_args__ = (
        words("kind", ("send",)),
        words("state", STATES),
        Index("ix_deliveries_due", "channel_id", "lane", "due_time", "id", postgresql_where=text("state = 'queued'")),
        Index("ix_deliveries_lease", "lease_until", postgresql_where=text("state = 'in_flight'")),
        Index(
            "uq_deliveries_head",
            "conversation_id",
            unique=True,
            postgresql_where=text("state IN ('queued', 'in_flight')"),
        ),
        Index(
            "ix_deliveries_waiting",
            *("conversation_id", "position", "id"),
            postgresql_where=text("state = 'waiting'"),
        ),
        Index("ix_deliveries_unknown", "conversation_id", postgresql_where=text("state = 'unknown'")),
        Index("ix_deliveries_ended", "state", "id", postgresql_where=text("state IN ('failed', 'unknown')")),
        Index("ix_deliveries_part", "part_id"),
        Index(
            "ix_deliveries_awaited_template",
            "awaited_template_id",
            postgresql_where=text("awaited_template_id IS NOT NULL AND state IN ('queued', 'waiting')"),
        ),
    )

    id: Mapped[Id]
    kind: Mapped[Word]
    part_id: Mapped[uuid.UUID]
    conversation_id: Mapped[uuid.UUID]
    channel_id: Mapped[uuid.UUID]
    position: Mapped[int] = mapped_column(BigInteger)
    state: Mapped[Word]
    due_time: Mapped[Time]
    lane: Mapped[int] = mapped_column(SmallInteger, server_default=text("0"))
    aside: Mapped[bool] = mapped_column(server_default=text("false"))
    attempt: Mapped[int] = mapped_column(SmallInteger, server_default=text("0"))
    uncounted: Mapped[int] = mapped_column(SmallInteger, server_default=text("0"))
    worker: Mapped[Word | None]
    lease_until: Mapped[Time | None]
    hold_until: Mapped[Time | None]
    error_code: Mapped[Word | None]
    error_message: Mapped[Word | None]
    awaited_template_id: Mapped[uuid.UUID | None]
    create_time: Mapped[Time]


class Mark(TenantBase):
    """What the provider is to be told of one of its messages, and may be told again; the row is there until it was told.

    key: of which there is one at most: the conversation, of a reaction the message. due_time: when the next attempt may be made; an
    attempt moves it on, for as long as it may take. attempt: of this message. expire_time: when it is of no use any more.
    """

    __tablename__ = "marks"
    __table_args__ = (
        words("kind", ("read", "typing", "reaction")),
        Index("ix_marks_due", "channel_id", "due_time", "key"),
    )

    kind: Mapped[Word] = mapped_column(primary_key=True, server_default=text("'read'"))
    key: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    conversation_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("conversations.id", ondelete="CASCADE"), index=True)
    channel_id: Mapped[uuid.UUID]
    provider_message_id: Mapped[Word]
    emoji: Mapped[Word | None]
    due_time: Mapped[Time]
    expire_time: Mapped[Time | None]
    attempt: Mapped[int] = mapped_column(SmallInteger, server_default=text("0"))


class SentReaction(TenantBase):
    """The last reaction to a message that the provider took, by its id there: it may tell later that it failed. Kept for a week."""

    __tablename__ = "sent_reactions"
    __table_args__ = (UniqueConstraint("channel_id", "provider_message_id"), Index(None, "create_time"))

    message_id: Mapped[Id]
    conversation_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("conversations.id", ondelete="CASCADE"), index=True)
    channel_id: Mapped[uuid.UUID]
    provider_message_id: Mapped[Word]
    emoji: Mapped[Word | None]
    create_time: Mapped[Time]


class RecipientBucket(TenantBase):
    """When the next send to somebody may be taken; until span_until more may, if the provider allows bursts.

    A row may be missing, and is forgotten some time after.
    """

    __tablename__ = "recipient_buckets"
    __table_args__ = (Index(None, "next_send_time"),)

    identity_id: Mapped[Id]
    next_send_time: Mapped[Time]
    span_until: Mapped[Time]
