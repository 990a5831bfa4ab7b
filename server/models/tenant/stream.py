"""The gapless log, and what follows it."""

from __future__ import annotations

import uuid

from sqlalchemy import BigInteger, CheckConstraint, LargeBinary, SmallInteger
from sqlalchemy.orm import Mapped, mapped_column

from server.models.base import TenantBase, Time, Word


class StreamHead(TenantBase):
    """The one row that numbers events. epoch changes by operator action only (clone, restore)."""

    __tablename__ = "stream_head"
    __table_args__ = (CheckConstraint("id = 1", name="one_row"), {"postgresql_with": {"fillfactor": 10}})

    id: Mapped[int] = mapped_column(SmallInteger, primary_key=True, autoincrement=False)
    epoch: Mapped[uuid.UUID]
    head: Mapped[int] = mapped_column(BigInteger)
    floor: Mapped[int] = mapped_column(BigInteger)
    head_event_id: Mapped[uuid.UUID | None]


class StreamEvent(TenantBase):
    """One event. payload: bytes of an InboxEvent with nothing but its body. tx_last: the last seq of the same transaction.

    Partitioned by seq. *_before and *_after say who could see the conversation before and after.
    """

    __tablename__ = "stream_event"
    __table_args__ = ({"postgresql_partition_by": "RANGE (seq)"},)

    seq: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    tx_last: Mapped[int] = mapped_column(BigInteger)
    event_id: Mapped[uuid.UUID]
    kind: Mapped[int] = mapped_column(SmallInteger)
    create_time: Mapped[Time]
    actor_kind: Mapped[int] = mapped_column(SmallInteger)
    actor_id: Mapped[uuid.UUID | None]
    cause_kind: Mapped[int] = mapped_column(SmallInteger)
    cause_id: Mapped[Word]
    conversation_id: Mapped[uuid.UUID | None]
    conversation_version: Mapped[int] = mapped_column(BigInteger)
    channel_id: Mapped[uuid.UUID | None]
    team_before: Mapped[uuid.UUID | None]
    team_after: Mapped[uuid.UUID | None]
    assignee_before: Mapped[uuid.UUID | None]
    assignee_after: Mapped[uuid.UUID | None]
    payload: Mapped[bytes] = mapped_column(LargeBinary)


class Consumer(TenantBase):
    """How far a follower of the log has come. Its effect and this row change in one transaction.

    broken_time: when it was given up, because it held old events for 30 days. An operator lets it go on.
    """

    __tablename__ = "consumers"

    name: Mapped[Word] = mapped_column(primary_key=True)
    seq: Mapped[int] = mapped_column(BigInteger)
    update_time: Mapped[Time]
    broken_time: Mapped[Time | None]
