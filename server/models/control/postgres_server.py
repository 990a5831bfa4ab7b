"""Where tenants may be placed."""

from __future__ import annotations

from sqlalchemy import Integer, LargeBinary, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from server.models.base import ControlBase, Id, Time, Word


class PostgresServer(ControlBase):
    """A Postgres server that holds tenant databases. admin_* makes databases and roles and owns their tables; it is sealed."""

    __tablename__ = "postgres_servers"
    __table_args__ = (UniqueConstraint("name"),)

    id: Mapped[Id]
    name: Mapped[Word]
    host: Mapped[Word]
    port: Mapped[int] = mapped_column(Integer)
    admin_user: Mapped[Word]
    admin_password: Mapped[bytes] = mapped_column(LargeBinary)
    create_time: Mapped[Time]
