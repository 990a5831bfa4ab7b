"""Everything that waits."""

from __future__ import annotations

import uuid
from typing import Any

from sqlalchemy import BigInteger, Index, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from server.models.base import TenantBase, Time, Word


class Timer(TenantBase):
    """Something due. One row per kind and key; it is deleted by what it fires, in the same transaction.

    generation: raised when it is set anew, so that an old firing does nothing. attempt counts the firings that failed, error
    names what the last one did, retry_time is when the next one is made; due_time stays what was intended. dead_time: nobody
    tries any more until an operator asks.
    """

    __tablename__ = "timers"
    __table_args__ = (
        Index(
            "ix_timers_due",
            text("coalesce(retry_time, due_time)"),
            "kind",
            "key",
            postgresql_where=text("dead_time IS NULL"),
        ),
        Index("ix_timers_failed", "kind", "key", postgresql_where=text("attempt > 0")),
    )

    kind: Mapped[Word] = mapped_column(primary_key=True)
    key: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    due_time: Mapped[Time]
    generation: Mapped[int] = mapped_column(BigInteger)
    payload: Mapped[dict[str, Any] | None] = mapped_column(JSONB)
    attempt: Mapped[int] = mapped_column(server_default=text("0"))
    retry_time: Mapped[Time | None]
    dead_time: Mapped[Time | None]
    error: Mapped[Word | None]
