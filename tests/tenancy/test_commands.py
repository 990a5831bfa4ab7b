"""The commands as an operator types them."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Mapping
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


def opened_key_file(folder: Path) -> Path:
    file = folder / "open.key"
    file.write_text(new_master_key())
    file.chmod(0o644)
    return file


async def started(command: str, environment: Mapping[str, str]) -> tuple[int | None, str]:
    """A process that should not start: its exit code, and what it says."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("SWITCHBOARD_")}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "server", command),
        env={**kept, **environment},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    out, _ = await asyncio.wait_for(process.communicate(), 60)
    return process.returncode, out.decode()


async def test_no_process_starts_without_the_right_master_key(installed: Installed, tmp_path: Path) -> None:
    dsn = {"SWITCHBOARD_CONTROL_DSN": installed.settings.needed_control_dsn()}
    needed = installed.control.provider.key_id
    cases = {
        "SWITCHBOARD_MASTER_KEY is not set: give 32 random bytes in base64": {},
        f"but the secrets of this installation need {needed}: give that one": {
            "SWITCHBOARD_MASTER_KEY": new_master_key()
        },
        "SWITCHBOARD_MASTER_KEY is wrong: must be 32 bytes in base64, not 5": {"SWITCHBOARD_MASTER_KEY": "c2hvcnQ="},
        "is open to others; chmod 600 it": {"SWITCHBOARD_MASTER_KEY_FILE": str(opened_key_file(tmp_path))},
    }
    ended = await asyncio.gather(*(started("work" if not key else "serve", {**dsn, **key}) for key in cases.values()))
    for (code, said), why in zip(ended, cases, strict=True):
        assert (code, why in said) == (1, True), said
        assert len(said.splitlines()) == 1, "one sentence"
