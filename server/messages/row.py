"""A message as statements write and read it."""

from __future__ import annotations

import dataclasses
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any


@dataclass(slots=True)
class AttachmentRow:
    """A file of a message."""

    id: uuid.UUID
    position: int
    kind: str
    mime_type: str
    file_name: str | None
    size_bytes: int | None
    state: str = "linked"
    provider_media_id: str | None = None
    sha256: str | None = None
    voice: bool = False
    animated: bool = False
    stored_type: str | None = None
    stored_sha256: str | None = None
    sha256_differs: bool = False
    error: str | None = None
    media_id: uuid.UUID | None = None
    caption: str | None = None


@dataclass(slots=True)
class MessageRow:
    """The columns of a message, with its first part's id at the provider and error, and its attachments."""

    id: uuid.UUID
    conversation_id: uuid.UUID
    channel_id: uuid.UUID
    direction: str
    type: str
    status: str
    sequence: int
    arrival: int
    text: str | None
    details: str | None
    author_kind: int
    author_id: uuid.UUID | None
    request_id: str | None
    request_hash: bytes | None
    create_time: datetime
    provider_time: datetime | None
    provider_message_id: str | None = None
    error_code: str | None = None
    error_message: str | None = None
    attachments: Sequence[AttachmentRow] = ()


STORED = tuple(field.name for field in dataclasses.fields(MessageRow))[:16]
SELECTED = ", ".join(f"m.{name}" for name in STORED) + ", p.provider_message_id, p.error_code, p.error_message"
FIRST_PART = "JOIN message_parts p ON p.message_id = m.id AND p.position = 0"


def from_record(record: Any, attachments: Sequence[AttachmentRow] = ()) -> MessageRow:
    """Reads what SELECTED selects."""
    names = (*STORED, "provider_message_id", "error_code", "error_message")
    return MessageRow(**{name: record[name] for name in names}, attachments=attachments)
