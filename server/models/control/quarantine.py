"""Signed payloads that no tenant owns, or whose tenant's database does not answer."""

from __future__ import annotations

import uuid

from sqlalchemy import Index, LargeBinary
from sqlalchemy.orm import Mapped, mapped_column

from server.models.base import ControlBase, Id, Time, Word


class QuarantinedPart(ControlBase):
    """A part of a webhook, kept seven days and offered again each minute once it can be delivered.

    tenant_id is set when the tenant is known and its database did not answer. split: body holds a part of what was received;
    content_hash is the SHA-256 of the whole. secret_index says which of the app's secrets matched the signature.
    """

    __tablename__ = "quarantine"
    __table_args__ = (Index(None, "next_time"), Index(None, "provider", "external_id"), Index(None, "expire_time"))

    id: Mapped[Id]
    provider: Mapped[Word]
    app_id: Mapped[Word]
    external_id: Mapped[Word | None]
    tenant_id: Mapped[uuid.UUID | None]
    reason: Mapped[Word]
    body: Mapped[bytes] = mapped_column(LargeBinary)
    split: Mapped[bool]
    content_hash: Mapped[bytes] = mapped_column(LargeBinary)
    secret_index: Mapped[int]
    receive_time: Mapped[Time]
    next_time: Mapped[Time]
    expire_time: Mapped[Time]
