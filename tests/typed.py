"""Commands of the server as an operator types them."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path

from click.testing import CliRunner

from server.__main__ import main
from tests.installation import Installed


async def switchboard(*arguments: str, environment: Mapping[str, str], home: Path) -> tuple[int, str, str]:
    """Runs a command in a thread; its exit code, its output, its errors."""
    given = {"SWITCHBOARD_HOME": str(home), **environment}
    done = await asyncio.to_thread(CliRunner().invoke, main, arguments, env=given)
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.exit_code, done.stdout, done.stderr


def environment_of(installed: Installed) -> dict[str, str]:
    assert installed.settings.master_key is not None
    return {
        "SWITCHBOARD_CONTROL_DSN": installed.settings.needed_control_dsn(),
        "SWITCHBOARD_MASTER_KEY": installed.settings.master_key.get_secret_value(),
    }
