"""What both schemas share: names of constraints, column types, and words of enums."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from datetime import datetime
from typing import Annotated

from sqlalchemy import CheckConstraint, DateTime, MetaData, Text, Uuid
from sqlalchemy.orm import DeclarativeBase, mapped_column

NAMES = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s",
    "pk": "pk_%(table_name)s",
}

Id = Annotated[uuid.UUID, mapped_column(Uuid, primary_key=True)]
Time = Annotated[datetime, mapped_column(DateTime(timezone=True))]
Word = Annotated[str, mapped_column(Text)]


class ControlBase(DeclarativeBase):
    """Tables of the control database."""

    metadata = MetaData(naming_convention=NAMES)


class TenantBase(DeclarativeBase):
    """Tables of a tenant's database."""

    metadata = MetaData(naming_convention=NAMES)


def words(column: str, allowed: Iterable[str]) -> CheckConstraint:
    """A text-backed enum: the column holds one of these words."""
    listed = ", ".join(f"'{word}'" for word in allowed)
    return CheckConstraint(f"{column} IN ({listed})", name=column)
