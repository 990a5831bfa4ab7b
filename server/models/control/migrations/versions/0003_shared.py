"""Objects of providers that belong to an account which several channels share.

Revision ID: 0003
"""

from __future__ import annotations

from alembic import op

from server.models.migration import run_file

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Runs the statements of the file beside this one."""
    run_file(op.get_bind(), __file__)
