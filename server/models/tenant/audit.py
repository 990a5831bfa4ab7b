"""Who did what: calls that wait for their place, and the trail that is never changed."""

from __future__ import annotations

import uuid

from sqlalchemy import BigInteger, CheckConstraint, Index, SmallInteger, Text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Mapped, mapped_column

from server.models.base import Id, TenantBase, Time, Word


class _Told:
    """What is kept of a call."""

    create_time: Mapped[Time]
    actor_kind: Mapped[int] = mapped_column(SmallInteger)
    actor_id: Mapped[uuid.UUID]
    method: Mapped[Word]
    outcome: Mapped[int] = mapped_column(SmallInteger)
    resource_fields: Mapped[list[str]] = mapped_column(ARRAY(Text))
    resource_ids: Mapped[list[str]] = mapped_column(ARRAY(Text))
    fields: Mapped[list[str]] = mapped_column(ARRAY(Text))
    cause_id: Mapped[Word]
    client_address: Mapped[Word | None]
    user_agent: Mapped[Word | None]


class AuditPending(_Told, TenantBase):
    """A call, written in the transaction of what it did."""

    __tablename__ = "audit_pending"

    id: Mapped[Id]


class AuditEntry(_Told, TenantBase):
    """An entry of the trail. Its hash is of itself and of the hash before it; UPDATE, DELETE and TRUNCATE are refused."""

    __tablename__ = "audit_entries"
    __table_args__ = (
        CheckConstraint("number > 0", name="number"),
        Index("ix_audit_entries_actor", "actor_id", "number"),
        Index("ix_audit_entries_method", "method", "number"),
        Index("ix_audit_entries_create_time", "create_time"),
        Index("ix_audit_entries_resources", "resource_ids", postgresql_using="gin"),
    )

    number: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    id: Mapped[uuid.UUID] = mapped_column(unique=True)
    hash: Mapped[bytes]


class AuditHead(TenantBase):
    """The end of the trail, and what is recorded beside changes. One row."""

    __tablename__ = "audit_head"
    __table_args__ = (CheckConstraint("id = 1", name="one_row"),)

    id: Mapped[int] = mapped_column(SmallInteger, primary_key=True, autoincrement=False)
    number: Mapped[int] = mapped_column(BigInteger)
    hash: Mapped[bytes]
    reads: Mapped[bool]
