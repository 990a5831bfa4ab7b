"""Messages and their parts; every part is one message at the provider."""

from __future__ import annotations

import uuid
from typing import Any

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Index, LargeBinary, SmallInteger, UniqueConstraint, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from server.models.base import Id, TenantBase, Time, Word, words

DIRECTIONS = ("inbound", "outbound")
STATUSES = ("pending", "unknown", "sent", "delivered", "read", "failed")
TYPES = (
    *("text", "image", "video", "audio", "document", "sticker", "location", "contacts", "interactive"),
    *("template", "reaction", "order", "system", "unsupported"),
)


class Message(TenantBase):
    """What somebody wrote. sequence orders the conversation, arrival counts it; both are fixed at insert."""

    __tablename__ = "messages"
    __table_args__ = (
        words("direction", DIRECTIONS),
        words("type", TYPES),
        words("status", STATUSES),
        CheckConstraint("arrival > 0 AND sequence >= 0", name="arrival"),
        UniqueConstraint("conversation_id", "sequence"),
        UniqueConstraint("conversation_id", "arrival"),
        Index(
            "uq_messages_request",
            *("author_id", "request_id"),
            unique=True,
            postgresql_where=text("request_id IS NOT NULL"),
        ),
    )

    id: Mapped[Id]
    conversation_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("conversations.id"))
    # The conversation's; its row is locked when this one is written, so it is not looked up once more for each message.
    channel_id: Mapped[uuid.UUID]
    direction: Mapped[Word]
    type: Mapped[Word]
    status: Mapped[Word]
    sequence: Mapped[int] = mapped_column(BigInteger)
    arrival: Mapped[int]
    text: Mapped[Word | None]
    details: Mapped[dict[str, Any] | None] = mapped_column(JSONB)
    author_kind: Mapped[int] = mapped_column(SmallInteger)
    author_id: Mapped[uuid.UUID | None]
    request_id: Mapped[Word | None]
    request_hash: Mapped[bytes | None] = mapped_column(LargeBinary)
    create_time: Mapped[Time]
    provider_time: Mapped[Time | None]
    # From where it was sent, for the audit trail: a send is its own record. They are of the author, not of the customer.
    client_address: Mapped[Word | None]
    user_agent: Mapped[Word | None]


class MessagePart(TenantBase):
    """One message at the provider. provider_message_id is personal data."""

    __tablename__ = "message_parts"
    __table_args__ = (
        words("status", STATUSES),
        UniqueConstraint("message_id", "position"),
        UniqueConstraint("channel_id", "provider_message_id"),
    )

    id: Mapped[Id]
    message_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("messages.id"))
    # Both are the message's.
    conversation_id: Mapped[uuid.UUID]
    channel_id: Mapped[uuid.UUID]
    position: Mapped[int] = mapped_column(SmallInteger)
    provider_message_id: Mapped[Word | None]
    status: Mapped[Word]
    error_code: Mapped[Word | None]
    error_message: Mapped[Word | None]


class MessageAttachment(TenantBase):
    """A file of a message: as the provider told of it, and as it is stored (`stored_…`)."""

    __tablename__ = "message_attachments"
    __table_args__ = (
        UniqueConstraint("message_id", "position"),
        words("kind", ("image", "video", "audio", "document", "sticker")),
        words("state", ("linked", "fetching", "stored", "failed", "expired")),
        CheckConstraint(
            "state <> 'stored' OR (stored_type IS NOT NULL AND stored_sha256 IS NOT NULL AND size_bytes IS NOT NULL)",
            name="stored",
        ),
        Index("ix_message_attachments_media_id", "media_id", postgresql_where=text("media_id IS NOT NULL")),
    )

    id: Mapped[Id]
    message_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("messages.id"))
    position: Mapped[int] = mapped_column(SmallInteger)
    kind: Mapped[Word]
    mime_type: Mapped[Word]
    file_name: Mapped[Word | None]
    size_bytes: Mapped[int | None] = mapped_column(BigInteger)
    state: Mapped[Word]
    provider_media_id: Mapped[Word | None]
    sha256: Mapped[Word | None]
    # Spoken into the phone; of stickers, whether they move.
    voice: Mapped[bool] = mapped_column(server_default=text("false"))
    animated: Mapped[bool] = mapped_column(server_default=text("false"))
    stored_type: Mapped[Word | None]
    stored_sha256: Mapped[Word | None]
    sha256_differs: Mapped[bool] = mapped_column(server_default=text("false"))
    # A fixed word of ours or the provider's code.
    error: Mapped[Word | None]
    # Of a file that we send: what its content is, and what stands below it.
    media_id: Mapped[uuid.UUID | None] = mapped_column(ForeignKey("media.id"))
    caption: Mapped[Word | None]


class MediaFetch(TenantBase):
    """A file to fetch. due_time: when, or when the worker that has it is thought dead."""

    __tablename__ = "media_fetches"

    attachment_id: Mapped[uuid.UUID] = mapped_column(
        ForeignKey("message_attachments.id", ondelete="CASCADE"), primary_key=True
    )
    due_time: Mapped[Time] = mapped_column(index=True)
    attempt: Mapped[int] = mapped_column(SmallInteger)


class MediaLeaving(TenantBase):
    """A file whose row is gone, to be deleted from the store."""

    __tablename__ = "media_leavings"

    attachment_id: Mapped[Id]
    due_time: Mapped[Time] = mapped_column(index=True)


class Media(TenantBase):
    """A file that a caller brought. due_time: when it is deleted; none while a message has it."""

    __tablename__ = "media"
    __table_args__ = (
        words("state", ("expected", "linked", "stored", "failed")),
        CheckConstraint(
            "state <> 'stored' OR (mime_type IS NOT NULL AND sha256 IS NOT NULL AND size_bytes IS NOT NULL)",
            name="stored",
        ),
    )

    id: Mapped[Id]
    state: Mapped[Word]
    link: Mapped[Word | None]
    file_name: Mapped[Word | None]
    mime_type: Mapped[Word | None]
    size_bytes: Mapped[int | None] = mapped_column(BigInteger)
    sha256: Mapped[Word | None]
    animated: Mapped[bool] = mapped_column(server_default=text("false"))
    error: Mapped[Word | None]
    create_time: Mapped[Time]
    due_time: Mapped[Time | None] = mapped_column(index=True)


class ProviderMedia(TenantBase):
    """What a file is called at the provider of a channel, or why it could not be brought there."""

    __tablename__ = "provider_media"
    __table_args__ = (CheckConstraint("(provider_media_id IS NULL) = (expire_time IS NULL)", name="expire_time"),)

    media_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("media.id", ondelete="CASCADE"), primary_key=True)
    channel_id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    provider_media_id: Mapped[Word | None]
    expire_time: Mapped[Time | None]
    error_class: Mapped[Word | None]
    error_code: Mapped[Word | None]
    error_message: Mapped[Word | None]
    due_time: Mapped[Time | None] = mapped_column(index=True)
    attempt: Mapped[int] = mapped_column(SmallInteger)
