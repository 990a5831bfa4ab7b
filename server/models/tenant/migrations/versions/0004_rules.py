"""Contacts, invites and channels of one's own, by the rules.

Revision ID: 0004
"""

from __future__ import annotations

from alembic import op

from server.models.migration import run_file

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Runs the statements of the file beside this one."""
    run_file(op.get_bind(), __file__)
