"""The tenant's schema.

Revision ID: 0001
"""

from __future__ import annotations

from pathlib import Path

from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Runs the statements of the file beside this one, one by one: asyncpg takes one statement at a time."""
    for statement in Path(__file__).with_suffix(".sql").read_text(encoding="utf-8").split("\n\n"):
        # exec_driver_sql leaves "%" and ":" alone.
        op.get_bind().exec_driver_sql(statement)
