"""Processes that migrate tenant databases: Alembic keeps its state in modules, so two migrations at once need two processes.

Run as `python -m server.tenancy.migrator`: one JSON object per line in, {"dsn", "role_name"}; one out, {"error"}, empty when it
went well. It ends when its input ends, so also when its parent is killed, after the migration it is at.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from types import TracebackType

import asyncpg
import sqlalchemy.exc
from alembic.util import CommandError

from server.kit.errors import Refusal
from server.tenancy.provisioning import migrate_tenant


class Migrators:
    """Up to `limit` such processes, started when there is something to do."""

    def __init__(self, limit: int) -> None:
        self._idle: list[asyncio.subprocess.Process] = []
        self._slots = asyncio.Semaphore(limit)

    async def __aenter__(self) -> Migrators:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in self._idle:
            if process.stdin is not None:
                process.stdin.close()
            await process.wait()

    async def migrate(self, *, dsn: str, role_name: str) -> str:
        """Migrates one database; its error, empty when it went well."""
        async with self._slots:
            process = self._idle.pop() if self._idle else await _start()
            if process.stdin is None or process.stdout is None:
                raise LookupError("a migrator without pipes")
            process.stdin.write(json.dumps({"dsn": dsn, "role_name": role_name}).encode() + b"\n")
            await process.stdin.drain()
            line = await process.stdout.readline()
            if not line:
                return f"the migrating process ended with exit code {await process.wait()}"
            self._idle.append(process)
            error: str = json.loads(line)["error"]
            return error


async def _start() -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "server.tenancy.migrator",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        # It imports what this process imports, and ends by its input, not by a Ctrl-C meant for us.
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
        start_new_session=True,
    )


def _migrate(*, dsn: str, role_name: str) -> str:
    try:
        asyncio.run(migrate_tenant(dsn, role_name=role_name))
    except sqlalchemy.exc.SQLAlchemyError as error:
        # The driver's own sentence: SQLAlchemy's has the statement and its values in it.
        return _said(getattr(error, "orig", None) or error)
    except (asyncpg.PostgresError, CommandError, Refusal, OSError) as error:
        return _said(error)
    return ""


def _said(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0][:500] or type(error).__name__


if __name__ == "__main__":
    for line in sys.stdin:
        answer = {"error": _migrate(**json.loads(line))}
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()
