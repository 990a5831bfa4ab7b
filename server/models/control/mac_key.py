"""Keys that authenticate cursors and page tokens."""

from __future__ import annotations

from sqlalchemy import LargeBinary, SmallInteger
from sqlalchemy.orm import Mapped, mapped_column

from server.models.base import ControlBase, Time


class MacKey(ControlBase):
    """A sealed secret; id is the key's byte in what it authenticates, the highest one signs."""

    __tablename__ = "mac_keys"

    id: Mapped[int] = mapped_column(SmallInteger, primary_key=True, autoincrement=False)
    secret: Mapped[bytes] = mapped_column(LargeBinary)
    create_time: Mapped[Time]
