"""The installation itself."""

from __future__ import annotations

from sqlalchemy import CheckConstraint, LargeBinary, SmallInteger
from sqlalchemy.orm import Mapped, mapped_column

from server.models.base import ControlBase, Time


class Installation(ControlBase):
    """One row: the data key that seals the secrets of this database, wrapped by the master key.

    next and previous: keys that open beside it while it is being changed. root: what keys are derived from, sealed; null while
    that is the data key, which it is until the first change.
    """

    __tablename__ = "installation"
    __table_args__ = (CheckConstraint("id = 1", name="one_row"),)

    id: Mapped[int] = mapped_column(SmallInteger, primary_key=True, autoincrement=False)
    wrapped_key: Mapped[bytes] = mapped_column(LargeBinary)
    next_wrapped_key: Mapped[bytes | None] = mapped_column(LargeBinary)
    previous_wrapped_key: Mapped[bytes | None] = mapped_column(LargeBinary)
    root: Mapped[bytes | None] = mapped_column(LargeBinary)
    key_time: Mapped[Time | None]
    create_time: Mapped[Time]
