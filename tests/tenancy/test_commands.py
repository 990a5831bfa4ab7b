"""The commands as an operator types them."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from server.kit.secrets import new_master_key
from tests.installation import Installed


def switchboard(*arguments: str, environment: Mapping[str, str], home: Path) -> tuple[int, str, str]:
    done = subprocess.run(
        [sys.executable, "-m", "server", *arguments],
        capture_output=True,
        text=True,
        check=False,
        env={
            "PATH": os.environ["PATH"],
            "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
            "SWITCHBOARD_HOME": str(home),
            **environment,
        },
    )
    return done.returncode, done.stdout, done.stderr


def environment_of(installed: Installed) -> dict[str, str]:
    assert installed.settings.master_key is not None
    return {
        "SWITCHBOARD_CONTROL_DSN": installed.settings.needed_control_dsn(),
        "SWITCHBOARD_MASTER_KEY": installed.settings.master_key.get_secret_value(),
    }


async def test_a_tenant_is_created_listed_and_its_agent_gets_a_token(installed: Installed, tmp_path: Path) -> None:
    environment = environment_of(installed)
    code, out, _ = switchboard("tenant", "create", "typed", environment=environment, home=tmp_path)
    assert code == 0
    assert "API key, shown this once: sb_" in out
    row = await installed.tenants.by_name("typed")
    assert row is not None
    tenant = await installed.tenants.get(row.id)
    async with tenant.database.connection() as connection:
        await connection.execute(
            "INSERT INTO agents VALUES (gen_random_uuid(), 'Ana', 'ana@typed.example', 'human', 'agent', 'active', now())"
        )
    code, out, _ = switchboard("tenant", "list", environment=environment, home=tmp_path)
    assert f"{row.id}  typed  active  {row.schema_revision}" in out.splitlines()
    code, out, _ = switchboard("token", "ana", "--tenant", "typed", environment=environment, home=tmp_path)
    assert (code, out.count(".")) == (0, 2)
    code, _, error = switchboard("token", "zoe", "--tenant", "typed", environment=environment, home=tmp_path)
    assert (code, error) == (1, "Error: no such agent\n")
    code, _, error = switchboard("tenant", "create", "typed", environment=environment, home=tmp_path)
    assert (code, error) == (1, "Error: there is already a tenant typed\n")


@pytest.mark.parametrize("command", [["serve"], ["work"], ["tenant", "list"], ["migrate"]])
def test_what_is_missing_is_said_in_one_sentence(command: list[str], tmp_path: Path) -> None:
    key = {"SWITCHBOARD_MASTER_KEY": new_master_key()}
    code, out, error = switchboard(*command, environment=key, home=tmp_path)
    assert (code, out) == (1, "")
    assert error.startswith("Error: SWITCHBOARD_CONTROL_DSN is not set")
    assert len(error.splitlines()) == 1
    nowhere = {**key, "SWITCHBOARD_CONTROL_DSN": "postgresql://nobody:hunter2@127.0.0.1:1/none"}
    code, _, error = switchboard(*command, environment=nowhere, home=tmp_path)
    assert code == 1
    assert "SWITCHBOARD_CONTROL_DSN" in error
    assert "hunter2" not in error
    assert "Traceback" not in error


async def test_a_database_without_tables_asks_for_the_migration(installed: Installed, tmp_path: Path) -> None:
    environment = environment_of(installed)
    environment["SWITCHBOARD_CONTROL_DSN"] = installed.server_dsn
    code, _, error = switchboard("tenant", "list", environment=environment, home=tmp_path)
    assert (code, error) == (1, "Error: the control database is not set up; run: switchboard migrate\n")


async def test_another_master_key_is_refused(installed: Installed, tmp_path: Path) -> None:
    environment = {**environment_of(installed), "SWITCHBOARD_MASTER_KEY": new_master_key()}
    code, _, error = switchboard("tenant", "list", environment=environment, home=tmp_path)
    assert code == 1
    assert "cannot be opened with this master key" in error
