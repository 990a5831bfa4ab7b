"""A tenant's database on a Postgres of its own that flushes: what experiments on statements stand on."""

from __future__ import annotations

import contextlib
import dataclasses
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

from server.embedded import ports, postgres
from server.embedded.home import Home
from server.embedded.processes import Child
from tests.desk import Desk, close_desk, open_desk
from tests.installation import installed_on


@contextlib.asynccontextmanager
async def tenant_desk(*settings: str) -> AsyncIterator[tuple[Desk, str]]:
    """A fresh tenant, and the superuser's address of its database. fsync is on; settings: more "name=value" of Postgres."""
    with tempfile.TemporaryDirectory() as folder:
        home = Home(Path(folder) / "home")
        with home.owned():
            prefix = postgres.wrapper()
            password = home.load_secrets().postgres_password
            postgres.initialise(home, password=password, prefix=prefix)
            port = ports.choose(home.ports, ["postgres"], fixed={})["postgres"]
            program = postgres.program(home, port=port, prefix=prefix)
            command = (*program.command, *(f"--{setting}" for setting in settings))
            child = Child(dataclasses.replace(program, command=command), logs=home.logs)
            child.start()
            try:
                child.wait_ready(within=postgres.LEFTOVER_ENDS_WITHIN)
                async with installed_on(postgres.dsn(port, password), "control") as installed:
                    desk = await open_desk(installed)
                    yield desk, postgres.dsn(port, password, database=desk.dsn.rpartition("/")[2])
                    await close_desk(desk)
            finally:
                child.close()
