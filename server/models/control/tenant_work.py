"""The directory of work: which tenants a worker must look at."""

from __future__ import annotations

import uuid

from sqlalchemy import ForeignKey, Index
from sqlalchemy.orm import Mapped, mapped_column

from server.models.base import ControlBase, Time, Word


class TenantWork(ControlBase):
    """A tenant with active_until ahead may commit work at any moment; after that its next work is due at next_due_time.

    lessee and lease_until say which worker looks after it.
    """

    __tablename__ = "tenant_work"
    __table_args__ = (
        Index(None, "active_until"),
        Index(None, "next_due_time"),
        {"postgresql_with": {"fillfactor": 50}},
    )

    tenant_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("tenants.id", ondelete="CASCADE"), primary_key=True)
    active_until: Mapped[Time | None]
    next_due_time: Mapped[Time | None]
    lessee: Mapped[Word | None]
    lease_until: Mapped[Time | None]
