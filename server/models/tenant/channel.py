"""Connected accounts of providers."""

from __future__ import annotations

from datetime import timedelta

from sqlalchemy import CheckConstraint, Index, Interval, LargeBinary, text
from sqlalchemy.orm import Mapped, mapped_column

from server.models.base import Id, TenantBase, Time, Word, words


class Channel(TenantBase):
    """A connected account. access_token is sealed with the tenant's key, bound to this row.

    auto_resolve_after: without a change for so long, conversations are resolved; None: never.
    sends_per_second: None for what the provider allows everybody. next_send_time: when the next send may be taken.
    """

    __tablename__ = "channels"
    __table_args__ = (
        words("provider", ("whatsapp",)),
        words("state", ("active", "paused")),
        CheckConstraint("auto_resolve_after > interval '0'", name="auto_resolve_after"),
        Index(
            "uq_channels_phone_number_id",
            "phone_number_id",
            unique=True,
            postgresql_where=text("phone_number_id IS NOT NULL"),
        ),
    )

    id: Mapped[Id]
    provider: Mapped[Word]
    name: Mapped[Word]
    state: Mapped[Word]
    state_reason: Mapped[Word | None]
    phone_number_id: Mapped[Word | None]
    waba_id: Mapped[Word | None]
    display_phone_number: Mapped[Word | None]
    graph_version: Mapped[Word]
    access_token: Mapped[bytes] = mapped_column(LargeBinary)
    reopen_window: Mapped[timedelta] = mapped_column(Interval, server_default=text("interval '72 hours'"))
    new_thread_each_time: Mapped[bool] = mapped_column(server_default=text("false"))
    sends_per_second: Mapped[int | None]
    next_send_time: Mapped[Time] = mapped_column(server_default=text("now()"))
    create_time: Mapped[Time]
    auto_resolve_after: Mapped[timedelta | None] = mapped_column(Interval)
