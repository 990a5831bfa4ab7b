"""Messages that providers approve beforehand."""

from __future__ import annotations

from typing import Any

from sqlalchemy import DateTime, Index
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.orm import Mapped, mapped_column

from server.models.base import Id, TenantBase, Time, Word, words


class Template(TenantBase):
    """A template in one language, as its provider has it; enums are the provider's words, whatever they are.

    business_account_id: the account that channels share. components: as the contract's TemplateComponent has them. stale: the
    provider told of a change and not of all of it. The four times say how new what is told of each aspect is; gone_time, when a
    complete pass did not find it, or it was deleted here. made_time, edit_times: when it was written here. name_free_time: until when
    its name is blocked.
    """

    __tablename__ = "templates"
    __table_args__ = (
        words("parameter_format", ("positional", "named")),
        Index(
            "uq_templates_provider_template_id",
            "provider",
            "business_account_id",
            "provider_template_id",
            unique=True,
        ),
        Index("ix_templates_name", "provider", "business_account_id", "name", "language", "id"),
    )

    id: Mapped[Id]
    provider: Mapped[Word]
    business_account_id: Mapped[Word]
    provider_template_id: Mapped[Word]
    name: Mapped[Word]
    language: Mapped[Word]
    status: Mapped[Word]
    category: Mapped[Word]
    quality: Mapped[Word]
    parameter_format: Mapped[Word]
    components: Mapped[Any] = mapped_column(JSONB)
    reason: Mapped[Word | None]
    upcoming_category: Mapped[Word | None]
    upcoming_category_time: Mapped[Time | None]
    stale: Mapped[bool]
    status_time: Mapped[Time]
    quality_time: Mapped[Time]
    category_time: Mapped[Time]
    components_time: Mapped[Time]
    gone_time: Mapped[Time | None]
    made_time: Mapped[Time | None]
    edit_times: Mapped[Any] = mapped_column(ARRAY(DateTime(timezone=True)))
    name_free_time: Mapped[Time | None]
    create_time: Mapped[Time]
    update_time: Mapped[Time]
