"""Real PostgreSQL and Valkey: started as whoever runs the tests, killed, started again, broken."""

import os
import shutil
import signal
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import asyncpg
import pytest
import redis.asyncio as redis

from server.embedded import binaries, ports, postgres, valkey
from server.embedded.errors import StartError
from server.embedded.home import Home
from server.embedded.processes import Child, state
from server.embedded.stack import Options, Stack

SOON = timedelta(seconds=20)


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    home = Home(tmp_path / "home")
    with home.owned():
        yield home


def start_postgres(home: Home, *, prefix: tuple[str, ...] | None = None) -> tuple[Child, str]:
    prefix = postgres.wrapper() if prefix is None else prefix
    password = home.load_secrets().postgres_password
    postgres.initialise(home, password=password, prefix=prefix)
    port = ports.choose(home.ports, ["postgres"], fixed={})["postgres"]
    child = Child(postgres.program(home, port=port, prefix=prefix), logs=home.logs)
    child.start()
    try:
        child.wait_ready(within=SOON)
    except StartError:
        child.close()
        raise
    return child, postgres.dsn(port, password)


async def ask(dsn: str, statement: str) -> object:
    connection = await asyncpg.connect(dsn)
    try:
        return await connection.fetchval(statement)
    finally:
        await connection.close()


async def test_postgres_is_durable_and_asks_for_the_password(home: Home) -> None:
    child, dsn = start_postgres(home)
    assert await ask(dsn, "SHOW fsync") == "on"
    assert await ask(dsn, "SHOW synchronous_commit") == "on"
    assert await ask(dsn, "SHOW max_connections") == "300"
    assert await ask(dsn, "SHOW server_encoding") == "UTF8"
    with pytest.raises(asyncpg.InvalidPasswordError):
        await ask(dsn.replace(home.load_secrets().postgres_password, "guess"), "SELECT 1")
    child.close()


async def test_postgres_finds_its_data_again_after_a_stop_and_after_a_kill(home: Home) -> None:
    child, dsn = start_postgres(home)
    await ask(dsn, "CREATE TABLE kept AS SELECT 42 AS answer")
    child.close()
    child, dsn = start_postgres(home)
    child.kill()
    # A pid file of a killed server may name a process that is somebody else's by now.
    pid_file = home.postgres / "postmaster.pid"
    pid_file.write_text(pid_file.read_text().replace(str(child.pid), "1", 1))
    child.start()
    child.wait_ready(within=SOON)
    assert await ask(dsn, "SELECT answer FROM kept") == 42
    child.close()


async def test_postgres_waits_for_the_processes_of_a_killed_server(home: Home) -> None:
    """Two servers at once would spoil the data, and a stopped process does not notice that its server is gone."""
    child, dsn = start_postgres(home)
    connection = await asyncpg.connect(dsn)
    backend = await connection.fetchval("SELECT pg_backend_pid()")
    os.kill(backend, signal.SIGSTOP)
    child.kill()
    try:
        child.start()
        assert not Path(f"/proc/{backend}").exists() or state(backend) == "Z"
        child.wait_ready(within=SOON)
        assert await ask(dsn, "SELECT 1") == 1
    finally:
        connection.terminate()
        child.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root needs this")
async def test_postgres_runs_as_nobody_where_there_are_no_user_namespaces(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres, "_works", lambda prefix: "--user" not in prefix)
    prefix = postgres.wrapper()
    child, dsn = start_postgres(home, prefix=prefix)
    assert await ask(dsn, "SELECT 1") == 1
    assert (home.postgres / "PG_VERSION").owner() == "nobody"
    child.close()


def test_an_initialisation_that_was_cut_short_is_made_anew(home: Home) -> None:
    (home.path / "postgres.new").mkdir()
    (home.path / "postgres.new" / "base").mkdir()
    child, _ = start_postgres(home)
    child.close()
    assert not (home.path / "postgres.new").exists()


@pytest.mark.parametrize("program", ["initdb", "postgres"])
def test_postgres_replaced_by_false_is_refused(home: Home, monkeypatch: pytest.MonkeyPatch, program: str) -> None:
    false = Path(shutil.which("false") or "/bin/false")
    real = binaries.postgres
    monkeypatch.setattr(binaries, "postgres", lambda name: false if name == program else real(name))
    with pytest.raises(StartError, match=f"{program}.* exit code 1"):
        start_postgres(home)


async def test_valkey_asks_for_the_password_and_writes_nothing_to_disk(home: Home) -> None:
    port = ports.choose(home.ports, ["valkey"], fixed={})["valkey"]
    password = home.load_secrets().valkey_password
    child = Child(valkey.program(home, port=port, password=password), logs=home.logs)
    child.start()
    child.wait_ready(within=SOON)
    async with redis.from_url(valkey.url(port, password)) as client:
        assert await client.set("key", "value")
        assert await client.config_get("save") == {"save": ""}
    async with redis.from_url(valkey.url(port, "guess")) as client:
        with pytest.raises(redis.AuthenticationError):
            await client.ping()
    child.close()
    assert [path.name for path in home.valkey.iterdir()] == ["valkey.conf"]


async def test_the_databases_can_be_had_alone(tmp_path: Path) -> None:
    stack = Stack(Options(home=tmp_path / "home"))
    stack.start_databases()
    try:
        assert stack.names() == ["postgres", "valkey"]
        assert await ask(stack.server_dsn(), "SELECT 1") == 1
        stack.kill("postgres")
        stack.restart("postgres")
        assert await ask(stack.server_dsn(), "SELECT 2") == 2
    finally:
        stack.stop()
