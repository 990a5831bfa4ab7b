"""Which channel of which tenant a provider's object belongs to."""

from __future__ import annotations

import uuid

from sqlalchemy import ForeignKey, Index, text
from sqlalchemy.orm import Mapped, mapped_column

from server.models.base import ControlBase, Time, Word


class Route(ControlBase):
    """A provider's object, such as a WhatsApp phone number id, belongs to one channel of the whole installation.

    shared_id: the account that it and others belong to, perhaps those of other tenants (WhatsApp: the business account); None where
    there is none. release_time: since when it is nobody's any more; None while it is somebody's.
    app_id: the app that its webhooks come by; None where nobody told.
    """

    __tablename__ = "routes"
    __table_args__ = (
        Index("ix_routes_shared_id", "provider", "shared_id", postgresql_where=text("shared_id IS NOT NULL")),
        Index("ix_routes_app_id", "app_id", postgresql_where=text("app_id IS NOT NULL")),
    )

    provider: Mapped[Word] = mapped_column(primary_key=True)
    external_id: Mapped[Word] = mapped_column(primary_key=True)
    tenant_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("tenants.id", ondelete="CASCADE"), index=True)
    channel_id: Mapped[uuid.UUID]
    create_time: Mapped[Time]
    shared_id: Mapped[Word | None]
    release_time: Mapped[Time | None]
    app_id: Mapped[Word | None]
