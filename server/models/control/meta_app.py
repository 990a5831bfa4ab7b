"""Apps at Meta, whose secrets sign webhooks."""

from __future__ import annotations

from sqlalchemy import LargeBinary
from sqlalchemy.orm import Mapped, mapped_column

from server.models.base import ControlBase, Time, Word


class MetaApp(ControlBase):
    """An app. Its secrets are sealed.

    The previous one is accepted beside the present one until previous_expire_time, None for ever.
    """

    __tablename__ = "meta_apps"

    id: Mapped[Word] = mapped_column(primary_key=True)
    name: Mapped[Word]
    app_secret: Mapped[bytes] = mapped_column(LargeBinary)
    previous_app_secret: Mapped[bytes | None] = mapped_column(LargeBinary)
    verify_token: Mapped[bytes] = mapped_column(LargeBinary)
    create_time: Mapped[Time]
    rotate_time: Mapped[Time | None]
    previous_expire_time: Mapped[Time | None]
