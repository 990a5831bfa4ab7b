"""Moved time: clock_now() of every database of a server goes by so much before its now(), and the processes follow.

They do within 0.1 s where SWITCHBOARD_ENV is "test" (`Options(environment={"SWITCHBOARD_ENV": "test"})`), and refuse to start where
it is not. What a process waits for by itself, such as a lease of the work directory, is not moved.
"""

from __future__ import annotations

import asyncio
from datetime import timedelta

import asyncpg

FOLLOWED_SECONDS = 0.3
MOVED = """
CREATE OR REPLACE FUNCTION clock_now() RETURNS timestamptz LANGUAGE sql STABLE PARALLEL SAFE
AS 'SELECT now() + interval ''{seconds} seconds'''
"""
BACK = "CREATE OR REPLACE FUNCTION clock_now() RETURNS timestamptz LANGUAGE sql STABLE PARALLEL SAFE AS 'SELECT now()'"


async def move_time(server_dsn: str, *, to: timedelta) -> None:
    """Sets every database's time so far before the real one; 0 sets it right. Returns when running processes have followed.

    server_dsn: the superuser's address of any database of the server. Tenants that are made later are moved too, once there
    is a template.
    """
    admin = await asyncpg.connect(server_dsn)
    try:
        rows = await admin.fetch("SELECT datname, datallowconn FROM pg_database WHERE datname NOT LIKE 'template_'")
        for row in rows:
            name = row["datname"]
            if not row["datallowconn"]:
                await admin.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS true')
            await move_database(f"{server_dsn.rpartition('/')[0]}/{name}", to=to)
            if not row["datallowconn"]:
                await admin.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false')
    finally:
        await admin.close()
    await asyncio.sleep(FOLLOWED_SECONDS)


async def move_database(owner_dsn: str, *, to: timedelta) -> None:
    """The same for one database, as its owner; does nothing where there is no clock_now()."""
    connection = await asyncpg.connect(owner_dsn)
    try:
        if await connection.fetchval("SELECT to_regproc('clock_now') IS NOT NULL"):
            await connection.execute(MOVED.format(seconds=to.total_seconds()) if to else BACK)
    finally:
        await connection.close()
