"""Runs Alembic on a connection that somebody else opened; both env.py files are one call of this.

Alembic is imported by who migrates: a tenth of the time that a server takes to start would be its.
"""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import Connection, MetaData

if TYPE_CHECKING:
    from alembic.config import Config

HERE = Path(__file__).parent
# One migrator at a time per database: advisory locks are per database, and this one ends with the transaction.
LOCK = 0x53574244


def config(kind: str, connection: Connection | None = None) -> Config:
    """Alembic's configuration for kind "control" or "tenant"."""
    from alembic.config import Config

    made = Config(attributes={"connection": connection})
    made.set_main_option("script_location", str(HERE / kind / "migrations"))
    made.set_main_option("path_separator", "os")
    return made


@cache
def revisions(kind: str) -> tuple[str, ...]:
    """All revisions this release knows, oldest first. The history has one line, and its files begin with their revisions."""
    return tuple(sorted(path.stem.partition("_")[0] for path in _versions(kind).glob("*.py")))


def newest(kind: str) -> str:
    """The revision that this release brings a database to."""
    return revisions(kind)[-1]


@cache
def fingerprint(kind: str) -> str:
    """Changes with any revision file, also with one that is edited before its release."""
    files = sorted(path for path in _versions(kind).iterdir() if path.is_file())
    return hashlib.sha256(b"\0".join(path.read_bytes() for path in files)).hexdigest()[:8]


def is_older(kind: str, revision: str | None) -> bool:
    """Whether a database at this revision lacks something that this release needs. Unknown revisions are newer."""
    return revision is None or revision in revisions(kind)[:-1]


def upgrade(connection: Connection, kind: str) -> None:
    """Brings the database to the newest revision, inside the connection's transaction."""
    from alembic import command

    command.upgrade(config(kind, connection), "head")


def run_environment(metadata: MetaData) -> None:
    """What an env.py does: all outstanding revisions on the given connection, in its transaction, one migrator at a time."""
    from alembic import context

    connection: Connection = context.config.attributes["connection"]
    context.configure(connection=connection, target_metadata=metadata)
    with context.begin_transaction():
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({LOCK})")
        # Serving goes on beside us: rather fail and be run again than hold up everybody behind a lock we wait for.
        connection.exec_driver_sql("SET LOCAL lock_timeout = '5s'")
        context.run_migrations()


def run_file(connection: Connection, revision_file: str) -> None:
    """Runs the SQL file beside a revision, one statement at a time as asyncpg wants it; blank lines separate them."""
    for statement in Path(revision_file).with_suffix(".sql").read_text(encoding="utf-8").split("\n\n"):
        # exec_driver_sql leaves "%" and ":" alone.
        connection.exec_driver_sql(statement)


def _versions(kind: str) -> Path:
    return HERE / kind / "migrations" / "versions"
