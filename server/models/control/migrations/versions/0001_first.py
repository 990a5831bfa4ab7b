"""The control database's schema.

Revision ID: 0001
"""

from __future__ import annotations

from alembic import op

from server.models.migration import run_file

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Runs the statements of the file beside this one."""
    run_file(op.get_bind(), __file__)
