"""What the kernel needed once it was put to the test.

Revision ID: 0002
"""

from __future__ import annotations

from alembic import op

from server.models.migration import run_file

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Runs the statements of the file beside this one."""
    run_file(op.get_bind(), __file__)
