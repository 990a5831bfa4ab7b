"""An installation on a Postgres of its own: what the control plane's tests stand on."""

from __future__ import annotations

import contextlib
import dataclasses
import signal
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import asyncpg

from server.embedded import ports, postgres
from server.embedded.home import Home
from server.embedded.processes import Child
from server.kit.ids import new_id
from server.kit.secrets import new_master_key
from server.settings import Settings, load
from server.tenancy.control import Control
from server.tenancy.installation import set_up_on
from server.tenancy.provisioning import Provisioning
from server.tenancy.tenants import Tenants
from server.tenancy.work import WorkDirectory


@contextlib.contextmanager
def running_postgres(folder: Path) -> Iterator[str]:
    """The superuser's address of an empty server."""
    home = Home(folder / "home")
    with home.owned():
        prefix = postgres.wrapper()
        password = home.load_secrets().postgres_password
        postgres.initialise(home, password=password, prefix=prefix)
        port = ports.choose(home.ports, ["postgres"], fixed={})["postgres"]
        program = postgres.program(home, port=port, prefix=prefix)
        # What is tested here is not durability, and hundreds of databases are made: neither flush them nor write them out at the end.
        quick = dataclasses.replace(program, command=(*program.command, "--fsync=off"), stop_signal=signal.SIGQUIT)
        child = Child(quick, logs=home.logs)
        child.start()
        try:
            child.wait_ready(within=postgres.LEFTOVER_ENDS_WITHIN)
            yield postgres.dsn(port, password)
        finally:
            child.close()


@dataclass(frozen=True)
class Installed:
    """A control database with a registry and a directory on it."""

    settings: Settings
    server_dsn: str
    control: Control
    directory: WorkDirectory
    tenants: Tenants

    async def new_tenant(self, name: str = "") -> str:
        """Makes a tenant; its name."""
        name = name or f"t-{new_id().hex[-12:]}"
        await Provisioning(self.control).create(name)
        return name

    def owned(self, dsn: str) -> str:
        """The same database, as the role that owns it: the guards of its tables hold for its tenant's role alone."""
        return f"{self.server_dsn.rpartition('/')[0]}/{dsn.rpartition('/')[2]}"

    async def execute(self, statement: str, *values: object) -> None:
        """Runs a statement in the control database."""
        async with self.control.database.connection() as connection:
            await connection.execute(statement, *values)


@contextlib.asynccontextmanager
async def installed_on(server_dsn: str, name: str) -> AsyncIterator[Installed]:
    """An installation whose control database has this name; it leaves its databases to the server's end."""
    control_dsn = server_dsn.rpartition("/")[0] + f"/{name}"
    settings = load({"control_dsn": control_dsn, "master_key": new_master_key()})
    control = await set_up_on(settings, server_dsn=server_dsn)
    directory = WorkDirectory(control.database)
    tenants = Tenants(control, directory, pool_size=4)
    try:
        yield Installed(settings, server_dsn, control, directory, tenants)
    finally:
        await tenants.close()
        await control.close()


@contextlib.asynccontextmanager
async def connection_to(dsn: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(dsn)
    try:
        yield connection
    finally:
        await connection.close()
