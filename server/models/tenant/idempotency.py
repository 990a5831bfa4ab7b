"""Results of calls that carried a request id."""

from __future__ import annotations

import uuid

from sqlalchemy import Index, LargeBinary
from sqlalchemy.orm import Mapped, mapped_column

from server.models.base import TenantBase, Time, Word


class IdempotentRequest(TenantBase):
    """That a principal made a call with a request id: a hash of the request, and the resource it made. Kept 7 days."""

    __tablename__ = "idempotent_requests"
    __table_args__ = (Index(None, "create_time"),)

    principal_id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    method: Mapped[Word] = mapped_column(primary_key=True)
    request_id: Mapped[Word] = mapped_column(primary_key=True)
    request_hash: Mapped[bytes] = mapped_column(LargeBinary)
    resource_id: Mapped[uuid.UUID]
    create_time: Mapped[Time]
