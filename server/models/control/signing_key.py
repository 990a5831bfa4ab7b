"""Keys that sign the tokens of agents."""

from __future__ import annotations

from sqlalchemy import LargeBinary
from sqlalchemy.orm import Mapped, mapped_column

from server.models.base import ControlBase, Time, Word


class SigningKey(ControlBase):
    """An Ed25519 key, raw; the private half is sealed. id is the kid of tokens. A retired key verifies nothing."""

    __tablename__ = "signing_keys"

    id: Mapped[Word] = mapped_column(primary_key=True)
    public_key: Mapped[bytes] = mapped_column(LargeBinary)
    private_key: Mapped[bytes] = mapped_column(LargeBinary)
    create_time: Mapped[Time]
    retire_time: Mapped[Time | None]
