"""The commands as an operator types them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from server.kit.secrets import new_master_key
from tests.installation import Installed
from tests.typed import environment_of, switchboard

NOWHERE = {"SWITCHBOARD_CONTROL_DSN": "postgresql://nobody:hunter2@127.0.0.1:1/none"}


async def test_a_tenant_is_created_listed_and_its_agent_gets_a_token(installed: Installed, tmp_path: Path) -> None:
    environment = environment_of(installed)
    code, out, _ = await switchboard("tenant", "create", "typed", environment=environment, home=tmp_path)
    assert code == 0
    assert "API key, shown this once: sb_" in out
    row = await installed.tenants.by_name("typed")
    assert row is not None
    tenant = await installed.tenants.get(row.id)
    async with tenant.database.connection() as connection:
        await connection.execute(
            "INSERT INTO agents VALUES (gen_random_uuid(), 'Ana', 'ana@typed.example', 'human', 'agent', 'active', now())"
        )
    code, out, _ = await switchboard("tenant", "list", environment=environment, home=tmp_path)
    header, *listed = [line.split() for line in out.splitlines()]
    assert header == ["id", "name", "state", "schema", "migration", "error"]
    assert [str(row.id), "typed", "active", str(row.schema_revision)] in listed
    code, out, _ = await switchboard("token", "ana", "--tenant", "typed", environment=environment, home=tmp_path)
    assert (code, out.count(".")) == (0, 2)
    code, _, error = await switchboard("token", "zoe", "--tenant", "typed", environment=environment, home=tmp_path)
    assert (code, error) == (1, "Error: no such agent\n")
    code, _, error = await switchboard("tenant", "create", "typed", environment=environment, home=tmp_path)
    assert (code, error) == (1, "Error: there is already a tenant typed\n")


@pytest.mark.parametrize("command", [["tenant", "list"], ["migrate"], ["token", "ana"]])
async def test_what_is_missing_is_said_in_one_sentence(command: list[str], tmp_path: Path) -> None:
    key = {"SWITCHBOARD_MASTER_KEY": new_master_key()}
    code, out, error = await switchboard(*command, environment=key, home=tmp_path)
    assert (code, out) == (1, "")
    assert error.startswith("Error: SWITCHBOARD_CONTROL_DSN is not set")
    assert len(error.splitlines()) == 1
    code, _, error = await switchboard(*command, environment={**key, **NOWHERE}, home=tmp_path)
    assert code == 1
    assert "SWITCHBOARD_CONTROL_DSN" in error
    assert "hunter2" not in error


@pytest.mark.parametrize("command", ["serve", "work"])
def test_a_process_without_its_control_database_says_so_and_ends(command: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "server", command],
        capture_output=True,
        text=True,
        check=False,
        env={
            "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
            "SWITCHBOARD_HOME": str(tmp_path),
            "SWITCHBOARD_MASTER_KEY": new_master_key(),
            **NOWHERE,
        },
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "Error: the control database does not answer at SWITCHBOARD_CONTROL_DSN\n"


async def test_a_database_without_tables_asks_for_the_migration(installed: Installed, tmp_path: Path) -> None:
    environment = environment_of(installed)
    environment["SWITCHBOARD_CONTROL_DSN"] = installed.server_dsn
    code, _, error = await switchboard("tenant", "list", environment=environment, home=tmp_path)
    assert (code, error) == (1, "Error: the control database is not set up; run: switchboard migrate\n")


async def test_another_master_key_is_refused(installed: Installed, tmp_path: Path) -> None:
    environment = {**environment_of(installed), "SWITCHBOARD_MASTER_KEY": new_master_key()}
    code, _, error = await switchboard("tenant", "list", environment=environment, home=tmp_path)
    assert code == 1
    assert error.startswith("Error: SWITCHBOARD_MASTER_KEY is key ")
    assert "give that one" in error
    assert len(error.splitlines()) == 1
