"""How the whole tenant works, and what its attributes may hold."""

from __future__ import annotations

from datetime import timedelta

from sqlalchemy import ARRAY, CheckConstraint, Interval, SmallInteger, Text, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from server.models.base import Id, TenantBase, Time, Word, words


class TenantSetting(TenantBase):
    """One row. conversation_retention: how long a deleted conversation can be restored. read_receipts: whether providers are told.

    reply_window_closing_before: how long before a reply window closes that is told.
    """

    __tablename__ = "tenant_settings"
    __table_args__ = (
        CheckConstraint("id = 1", name="single"),
        CheckConstraint("conversation_retention >= interval '0'", name="conversation_retention"),
        CheckConstraint("reply_window_closing_before > interval '0'", name="reply_window_closing_before"),
        words("reply_fence_policy", ("accept", "warn", "refuse")),
    )

    id: Mapped[int] = mapped_column(SmallInteger, primary_key=True, autoincrement=False)
    conversation_retention: Mapped[timedelta] = mapped_column(Interval, server_default=text("interval '720 hours'"))
    reply_fence_policy: Mapped[Word] = mapped_column(server_default=text("'refuse'"))
    read_receipts: Mapped[bool] = mapped_column(server_default=text("true"))
    reply_window_closing_before: Mapped[timedelta] = mapped_column(Interval, server_default=text("interval '2 hours'"))


class AttributeDefinition(TenantBase):
    """What the values of an attribute must be; options are those of type option."""

    __tablename__ = "attribute_definitions"
    __table_args__ = (
        UniqueConstraint("target", "key"),
        words("target", ("conversation", "contact")),
        words("type", ("text", "number", "boolean", "date", "option")),
        CheckConstraint("(type = 'option') = (cardinality(options) > 0)", name="options"),
    )

    id: Mapped[Id]
    target: Mapped[Word]
    key: Mapped[Word]
    type: Mapped[Word]
    options: Mapped[list[str]] = mapped_column(ARRAY(Text), server_default=text("'{}'"))
    label: Mapped[Word]
    create_time: Mapped[Time]
    update_time: Mapped[Time]
