"""Everything that waits."""

from __future__ import annotations

import uuid
from typing import Any

from sqlalchemy import BigInteger, Index
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from server.models.base import TenantBase, Time, Word


class Timer(TenantBase):
    """Something due. One row per kind and key; it is deleted by what it fires, in the same transaction.

    generation: raised when it is set anew, so that an old firing does nothing.
    """

    __tablename__ = "timers"
    __table_args__ = (Index(None, "due_time"),)

    kind: Mapped[Word] = mapped_column(primary_key=True)
    key: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    due_time: Mapped[Time]
    generation: Mapped[int] = mapped_column(BigInteger)
    payload: Mapped[dict[str, Any] | None] = mapped_column(JSONB)
