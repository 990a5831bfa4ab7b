"""Tenants."""

from __future__ import annotations

import uuid

from sqlalchemy import ForeignKey, LargeBinary, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from server.models.base import ControlBase, Id, Time, Word, words


class Tenant(ControlBase):
    """A customer of the installation, and where its database is.

    wrapped_key: the data key of the tenant's own secrets; next and previous: those that open beside it while it is being changed;
    key_time: when it was, null if never. schema_revision: null until its database is made. migration_error: of the last
    migration, null when that went well. calls_per_second, calls_per_second_of_caller: null for those of the settings.
    """

    __tablename__ = "tenants"
    __table_args__ = (
        UniqueConstraint("name"),
        UniqueConstraint("server_id", "database_name"),
        words("state", ("provisioning", "active", "disabled")),
    )

    id: Mapped[Id]
    name: Mapped[Word]
    state: Mapped[Word]
    server_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("postgres_servers.id"))
    database_name: Mapped[Word]
    role_name: Mapped[Word]
    role_password: Mapped[bytes] = mapped_column(LargeBinary)
    wrapped_key: Mapped[bytes] = mapped_column(LargeBinary)
    next_wrapped_key: Mapped[bytes | None] = mapped_column(LargeBinary)
    previous_wrapped_key: Mapped[bytes | None] = mapped_column(LargeBinary)
    key_time: Mapped[Time | None]
    schema_revision: Mapped[Word | None]
    migration_error: Mapped[Word | None]
    create_time: Mapped[Time]
    calls_per_second: Mapped[int | None]
    calls_per_second_of_caller: Mapped[int | None]
