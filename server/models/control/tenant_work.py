"""The directory of work: which tenants a worker must look at."""

from __future__ import annotations

import uuid

from sqlalchemy import ForeignKey, Index, text
from sqlalchemy.orm import Mapped, mapped_column

from server.models.base import ControlBase, Time, Word


class TenantWork(ControlBase):
    """A tenant with active_until ahead may commit work at any moment; after that its next work is due at next_due_time.

    lessee and lease_until say which worker looks after it. house_time: when it was last looked at whole, as is done each day.
    """

    __tablename__ = "tenant_work"
    __table_args__ = (
        Index(None, "active_until"),
        Index(None, "next_due_time"),
        Index(None, "house_time"),
        {"postgresql_with": {"fillfactor": 50}},
    )

    tenant_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("tenants.id", ondelete="CASCADE"), primary_key=True)
    active_until: Mapped[Time | None]
    next_due_time: Mapped[Time | None]
    lessee: Mapped[Word | None]
    lease_until: Mapped[Time | None]
    house_time: Mapped[Time] = mapped_column(server_default=text("now()"))


class RunningWorker(ControlBase):
    """A worker that runs, until it is not seen any more; each takes its share of the tenants."""

    __tablename__ = "workers"

    name: Mapped[Word] = mapped_column(primary_key=True)
    seen_until: Mapped[Time]
