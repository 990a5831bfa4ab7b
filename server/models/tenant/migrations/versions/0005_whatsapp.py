"""What WhatsApp needs beside plain text.

Revision ID: 0005
"""

from __future__ import annotations

from alembic import op

from server.models.migration import run_file

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Runs the statements of the file beside this one."""
    run_file(op.get_bind(), __file__)
