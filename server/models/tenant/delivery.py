"""What is to be handed to a provider."""

from __future__ import annotations

import uuid

from sqlalchemy import BigInteger, Index, SmallInteger, text
from sqlalchemy.orm import Mapped, mapped_column

from server.models.base import Id, TenantBase, Time, Word, words

STATES = ("queued", "in_flight", "accepted", "failed", "unknown")


class Delivery(TenantBase):
    """One request to a provider. in_flight is committed before the first byte is written.

    position orders the conversation's deliveries: the message's sequence. hold_until: until when an unknown send keeps the
    conversation's next one waiting.
    """

    __tablename__ = "deliveries"
    __table_args__ = (
        words("kind", ("send",)),
        words("state", STATES),
        Index("ix_deliveries_due", "due_time", postgresql_where=text("state = 'queued'")),
        Index("ix_deliveries_lease", "lease_until", postgresql_where=text("state = 'in_flight'")),
        Index("uq_deliveries_in_flight", "conversation_id", unique=True, postgresql_where=text("state = 'in_flight'")),
        Index(
            "ix_deliveries_conversation",
            *("conversation_id", "position"),
            postgresql_where=text("state IN ('queued', 'in_flight', 'unknown')"),
        ),
        Index("ix_deliveries_part", "part_id"),
    )

    id: Mapped[Id]
    kind: Mapped[Word]
    part_id: Mapped[uuid.UUID]
    conversation_id: Mapped[uuid.UUID]
    channel_id: Mapped[uuid.UUID]
    position: Mapped[int] = mapped_column(BigInteger)
    state: Mapped[Word]
    due_time: Mapped[Time]
    attempt: Mapped[int] = mapped_column(SmallInteger, server_default=text("0"))
    worker: Mapped[Word | None]
    lease_until: Mapped[Time | None]
    hold_until: Mapped[Time | None]
    error_code: Mapped[Word | None]
    error_message: Mapped[Word | None]
    create_time: Mapped[Time]
