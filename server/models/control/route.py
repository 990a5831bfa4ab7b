"""Which channel of which tenant a provider's object belongs to."""

from __future__ import annotations

import uuid

from sqlalchemy import ForeignKey
from sqlalchemy.orm import Mapped, mapped_column

from server.models.base import ControlBase, Time, Word


class Route(ControlBase):
    """A provider's object, such as a WhatsApp phone number id, belongs to one channel of the whole installation."""

    __tablename__ = "routes"

    provider: Mapped[Word] = mapped_column(primary_key=True)
    external_id: Mapped[Word] = mapped_column(primary_key=True)
    tenant_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("tenants.id", ondelete="CASCADE"), index=True)
    channel_id: Mapped[uuid.UUID]
    create_time: Mapped[Time]
