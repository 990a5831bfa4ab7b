"""Raw payloads of providers, and the items they carried."""

from __future__ import annotations

import uuid

from sqlalchemy import Index, LargeBinary, SmallInteger, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from server.models.base import Id, TenantBase, Time, Word, words


class Journal(TenantBase):
    """One payload, or the tenant's part of one. Partitioned by day of receive_time, kept 30 days.

    split: body holds only this tenant's changes; sha256 is then still the hash of the whole. secret_index: which of the app's
    secrets signed it, 0 the newest. attempts: how often somebody began to apply it; due_time: when somebody else may, while it
    is received; error: the kind of what went wrong last.
    """

    __tablename__ = "journal"
    __table_args__ = (
        words("state", ("received", "applied", "failed")),
        Index("ix_journal_due", "due_time", postgresql_where=text("state = 'received'")),
        Index("ix_journal_failed", "receive_time", postgresql_where=text("state = 'failed'")),
        {"postgresql_partition_by": "RANGE (receive_time)"},
    )

    id: Mapped[Id]
    receive_time: Mapped[Time] = mapped_column(primary_key=True)
    provider: Mapped[Word]
    meta_app_id: Mapped[Word]
    body: Mapped[bytes] = mapped_column(LargeBinary)
    sha256: Mapped[bytes] = mapped_column(LargeBinary)
    split: Mapped[bool]
    secret_index: Mapped[int] = mapped_column(SmallInteger)
    state: Mapped[Word]
    parser_version: Mapped[int | None]
    apply_time: Mapped[Time | None]
    attempts: Mapped[int] = mapped_column(SmallInteger, server_default=text("1"))
    due_time: Mapped[Time | None]
    error: Mapped[Word | None]


class JournalItem(TenantBase):
    """One item of a payload: the same item is recorded once, however often it is sent.

    superseded: a later parser reads something else where this one was found, and that is recorded beside it.
    """

    __tablename__ = "journal_items"
    __table_args__ = (
        words("state", ("applied", "duplicate", "ignored", "parked", "failed", "superseded")),
        UniqueConstraint(
            *("channel_id", "kind", "provider_id", "discriminator", "provider_time"), postgresql_nulls_not_distinct=True
        ),
        Index("ix_journal_items_failed", "create_time", postgresql_where=text("state = 'failed'")),
        Index("ix_journal_items_journal", "journal_id"),
    )

    id: Mapped[Id]
    journal_id: Mapped[uuid.UUID]
    channel_id: Mapped[uuid.UUID | None]
    kind: Mapped[Word]
    provider_id: Mapped[Word]
    discriminator: Mapped[Word]
    provider_time: Mapped[Time | None]
    state: Mapped[Word]
    parser_version: Mapped[int]
    result: Mapped[Word | None]
    create_time: Mapped[Time]
