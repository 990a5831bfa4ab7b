"""Keys of services and of the platform's operator."""

from __future__ import annotations

import uuid

from sqlalchemy import ForeignKey, Index, LargeBinary, SmallInteger, UniqueConstraint
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Mapped, mapped_column

from server.models.base import ControlBase, Id, Time, Word


class ApiKey(ControlBase):
    """A key, of which only the hash is kept. tenant_id is null for keys of the platform's operator.

    key_id: the part by which it is found. permissions: numbers of the contract's Permission.
    """

    __tablename__ = "api_keys"
    __table_args__ = (UniqueConstraint("key_id"), Index(None, "tenant_id", "create_time", "id"))

    id: Mapped[Id]
    tenant_id: Mapped[uuid.UUID | None] = mapped_column(ForeignKey("tenants.id", ondelete="CASCADE"))
    key_id: Mapped[Word]
    name: Mapped[Word]
    secret_hash: Mapped[bytes] = mapped_column(LargeBinary)
    permissions: Mapped[list[int]] = mapped_column(ARRAY(SmallInteger))
    create_time: Mapped[Time]
    expire_time: Mapped[Time | None]
    revoke_time: Mapped[Time | None]
    last_use_time: Mapped[Time | None]
