"""Trace contexts."""

from __future__ import annotations

from sqlalchemy import Index
from sqlalchemy.orm import Mapped

from server.models.base import Id, TenantBase, Time, Word


class Trace(TenantBase):
    """The W3C traceparent of a payload, a customer's message, or a part that is sent; only where traces are on."""

    __tablename__ = "traces"
    __table_args__ = (Index(None, "create_time"),)

    id: Mapped[Id]
    traceparent: Mapped[Word]
    create_time: Mapped[Time]
