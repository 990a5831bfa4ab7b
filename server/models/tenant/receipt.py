"""The audit trail of receipts, and receipts that came before what they are about."""

from __future__ import annotations

import uuid

from sqlalchemy import Index, SmallInteger, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from server.models.base import Id, TenantBase, Time, Word, words


class MessageStatusUpdate(TenantBase):
    """One step of a part; kept even when it did not move it. Partitioned by month of create_time."""

    __tablename__ = "message_status_updates"
    __table_args__ = (
        words("status", ("pending", "unknown", "sent", "delivered", "read", "failed", "played")),
        words("source", ("response", "receipt", "system")),
        Index(None, "message_id", "create_time", "id"),
        {"postgresql_partition_by": "RANGE (create_time)"},
    )

    id: Mapped[Id]
    create_time: Mapped[Time] = mapped_column(primary_key=True)
    message_id: Mapped[uuid.UUID]
    part_id: Mapped[uuid.UUID]
    position: Mapped[int] = mapped_column(SmallInteger)
    status: Mapped[Word]
    source: Mapped[Word]
    applied: Mapped[bool]
    error_code: Mapped[Word | None]
    error_message: Mapped[Word | None]
    provider_time: Mapped[Time | None]
    note: Mapped[Word | None]
    member: Mapped[Word | None]


class ParkedReceipt(TenantBase):
    """A receipt for a provider message id that no part has yet. Applied when a part gets it, dropped after a week."""

    __tablename__ = "parked_receipts"
    __table_args__ = (
        UniqueConstraint("channel_id", "provider_message_id", "status", "member"),
        Index(None, "create_time"),
    )

    id: Mapped[Id]
    channel_id: Mapped[uuid.UUID]
    provider_message_id: Mapped[Word]
    status: Mapped[Word]
    error_code: Mapped[Word | None]
    error_message: Mapped[Word | None]
    closes_reply_window: Mapped[bool] = mapped_column(server_default=text("false"))
    stops_marketing: Mapped[bool] = mapped_column(server_default=text("false"))
    member: Mapped[Word] = mapped_column(server_default=text("''"))
    provider_time: Mapped[Time]
    create_time: Mapped[Time]
