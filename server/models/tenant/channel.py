"""Connected accounts of providers."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

from sqlalchemy import CheckConstraint, DateTime, Index, Interval, LargeBinary, text
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.orm import Mapped, mapped_column

from server.models.base import Id, TenantBase, Time, Word, words


class Channel(TenantBase):
    """A connected account. access_token is sealed with the tenant's key, bound to this row.

    account_id: what its provider has for it. details: what the contract shows of it, read by the provider alone.

    auto_resolve_after: without a change for so long, conversations are resolved; None: never.
    throughput_per_second: what the provider allows this account, None for what it allows everybody. sends_per_second: what
    the installation wants in its place, None for that. next_send_time: nothing is sent before. send_places: when each place that a
    send holds is free again; there are as many as may be sent in a second. templates_held_until: until
    then nothing but answers.
    health: fields of the contract's ChannelHealth by name, enums as words; health_times: the provider's time of each.
    check_due_time: when its provider is asked again, None for never; check_subscribes: and its webhooks are begun anew.
    templates_due_time: when the templates of its account are read again.
    """

    __tablename__ = "channels"
    __table_args__ = (
        CheckConstraint("provider ~ '^[a-z]{1,32}$'", name="provider"),
        words("state", ("active", "paused", "blocked", "disconnected")),
        CheckConstraint("auto_resolve_after > interval '0'", name="auto_resolve_after"),
        Index(
            "uq_channels_provider_account_id",
            "provider",
            "account_id",
            unique=True,
            postgresql_where=text("account_id IS NOT NULL"),
        ),
        Index(
            "ix_channels_templates_due_time",
            "templates_due_time",
            postgresql_where=text("templates_due_time IS NOT NULL"),
        ),
        Index("ix_channels_check_due_time", "check_due_time", postgresql_where=text("check_due_time IS NOT NULL")),
    )

    id: Mapped[Id]
    provider: Mapped[Word]
    name: Mapped[Word]
    state: Mapped[Word]
    state_reason: Mapped[Word | None]
    account_id: Mapped[Word | None]
    details: Mapped[Any] = mapped_column(JSONB, server_default=text("'{}'"))
    access_token: Mapped[bytes] = mapped_column(LargeBinary)
    reopen_window: Mapped[timedelta] = mapped_column(Interval, server_default=text("interval '72 hours'"))
    new_thread_each_time: Mapped[bool] = mapped_column(server_default=text("false"))
    sends_per_second: Mapped[int | None]
    throughput_per_second: Mapped[int | None]
    next_send_time: Mapped[Time] = mapped_column(server_default=text("now()"))
    send_places: Mapped[Any] = mapped_column(ARRAY(DateTime(timezone=True)), server_default=text("'{}'"))
    templates_held_until: Mapped[Time | None]
    create_time: Mapped[Time]
    auto_resolve_after: Mapped[timedelta | None] = mapped_column(Interval)
    health: Mapped[Any] = mapped_column(JSONB, server_default=text("'{}'"))
    health_times: Mapped[Any] = mapped_column(JSONB, server_default=text("'{}'"))

    check_due_time: Mapped[Time | None]
    check_subscribes: Mapped[bool] = mapped_column(server_default=text("false"))
    templates_due_time: Mapped[Time | None] = mapped_column(server_default=text("now()"))

    @property
    def account(self) -> dict[str, str]:
        """The details as an object: a row that was read has them as text, one that was just made as they were given."""
        return _object(self.details)

    @property
    def condition(self) -> dict[str, Any]:
        """The health as an object."""
        return _object(self.health)

    @property
    def told(self) -> dict[str, str]:
        """The times of the health as an object."""
        return _object(self.health_times)


def _object(column: Any) -> dict[str, Any]:
    found: dict[str, Any] = {} if column is None else json.loads(column) if isinstance(column, str) else column
    return found
