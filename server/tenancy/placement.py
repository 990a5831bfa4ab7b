"""The Postgres servers that hold tenant databases."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote, urlsplit

from server.kit.clock import utc_now
from server.kit.errors import Refusal
from server.kit.ids import new_id
from server.tenancy.control import Control, address


class NoServer(Refusal):
    """No Postgres server is known."""

    status = "FAILED_PRECONDITION"
    reason = "RESOURCE_NOT_FOUND"

    def __init__(self) -> None:
        super().__init__("no Postgres server is known for tenants", metadata={"resource": "postgres_server"})


@dataclass(frozen=True, slots=True)
class PostgresServer:
    """A server, and who makes databases there."""

    id: uuid.UUID
    name: str
    host: str
    port: int
    admin_user: str
    admin_password: str

    def admin_dsn(self, database: str = "postgres") -> str:
        """The address of a database there, as its owner."""
        return address(
            host=self.host, port=self.port, user=self.admin_user, password=self.admin_password, database=database
        )


class Placement:
    """Knows the servers and chooses one for a new tenant."""

    def __init__(self, control: Control) -> None:
        self._control = control

    async def ensure(self, name: str, dsn: str) -> PostgresServer:
        """Adds a server by the address of a user who may make databases and roles, or brings its address up to date."""
        parts = urlsplit(dsn)
        password = unquote(parts.password or "").encode()
        sealed = self._control.box.seal(password, table="postgres_servers", column="admin_password", row=name)
        async with self._control.database.connection() as connection:
            row = await connection.fetchrow(
                "INSERT INTO postgres_servers (id, name, host, port, admin_user, admin_password, create_time)"
                " VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (name) DO UPDATE SET host = excluded.host,"
                " port = excluded.port, admin_user = excluded.admin_user, admin_password = excluded.admin_password"
                " RETURNING id, name, host, port, admin_user, admin_password",
                new_id(),
                name,
                parts.hostname or "127.0.0.1",
                parts.port or 5432,
                unquote(parts.username or "postgres"),
                sealed,
                utc_now(),
            )
        return self._server(row)

    async def choose(self) -> PostgresServer:
        """The server with the fewest tenants; NoServer when there is none."""
        async with self._control.database.connection() as connection:
            row = await connection.fetchrow(
                "SELECT id, name, host, port, admin_user, admin_password FROM postgres_servers ORDER BY"
                " (SELECT count(*) FROM tenants WHERE tenants.server_id = postgres_servers.id), name LIMIT 1"
            )
        if row is None:
            raise NoServer()
        return self._server(row)

    async def all(self) -> dict[uuid.UUID, PostgresServer]:
        """Every server by id."""
        async with self._control.database.connection() as connection:
            rows = await connection.fetch(
                "SELECT id, name, host, port, admin_user, admin_password FROM postgres_servers"
            )
        return {row["id"]: self._server(row) for row in rows}

    def _server(self, row: Any) -> PostgresServer:
        values = dict(row)
        password = self._control.box.open(
            values["admin_password"], table="postgres_servers", column="admin_password", row=values["name"]
        )
        return PostgresServer(**{**values, "admin_password": password.decode()})
