"""Contacts that are erased for good, and what keeps them from coming back."""

from __future__ import annotations

import uuid
from typing import Any

from sqlalchemy import ARRAY, CheckConstraint, Index, SmallInteger, Text, Uuid, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from server.models.base import Id, TenantBase, Time, Word, words

STATES = ("pending", "running", "done", "failed")


class Erasure(TenantBase):
    """An erasure and how far it is.

    step and place: where it goes on. file_ids: attachments whose files have to leave the store. addresses: what is looked for, none when
    it is done. due_time: when a worker goes on.
    """

    __tablename__ = "erasures"
    __table_args__ = (
        words("state", STATES),
        CheckConstraint("(due_time IS NULL) = (state IN ('done', 'failed'))", name="due_time"),
        CheckConstraint("state <> 'done' OR (addresses = '{}' AND place IS NULL)", name="addresses"),
        Index("ix_erasures_due_time", "due_time", postgresql_where=text("due_time IS NOT NULL")),
    )

    id: Mapped[Id]
    contact_id: Mapped[uuid.UUID] = mapped_column(unique=True)
    reason: Mapped[Word | None]
    state: Mapped[Word]
    step: Mapped[int] = mapped_column(SmallInteger)
    place: Mapped[Word | None]
    counts: Mapped[dict[str, Any]] = mapped_column(JSONB)
    contact_ids: Mapped[list[uuid.UUID]] = mapped_column(ARRAY(Uuid))
    identity_ids: Mapped[list[uuid.UUID]] = mapped_column(ARRAY(Uuid))
    conversation_ids: Mapped[list[uuid.UUID]] = mapped_column(ARRAY(Uuid))
    file_ids: Mapped[list[uuid.UUID]] = mapped_column(ARRAY(Uuid), server_default=text("'{}'"))
    addresses: Mapped[list[str]] = mapped_column(ARRAY(Text))
    attempt: Mapped[int] = mapped_column(SmallInteger)
    error: Mapped[Word | None]
    due_time: Mapped[Time | None]
    create_time: Mapped[Time]
    start_time: Mapped[Time | None]
    update_time: Mapped[Time]
    end_time: Mapped[Time | None]


class ErasedKey(TenantBase):
    """The hash of a provider's id that was erased."""

    __tablename__ = "erased_keys"

    key: Mapped[Id]
    create_time: Mapped[Time] = mapped_column(index=True)
