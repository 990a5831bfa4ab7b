"""The commands that run a server. They live in `server.__main__`; here are their names, so that help needs no import."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Mapping

import click

from switchboard_cli.connection import SetupError

COMMANDS: Mapping[str, str] = {
    "up": "Start everything on this machine: databases, edge, servers, worker, simulator.",
    "serve": "Run one server process.",
    "work": "Run one worker process.",
    "migrate": "Bring the control database and every tenant's to the present schema.",
    "tenant": "Create tenants.",
    "platform-key": "Print the operator's key, which tenants and Meta apps are managed with.",
    "token": "Issue a token for an agent.",
    "doctor": "Look at everything an installation stands on; say what is wrong and what to do.",
    "secrets": "Look at the keys of what is sealed in the databases, and change them.",
    "journal": "Look at received payloads, and read them anew.",
    "timers": "See what waits for its time, and have what failed tried again.",
    "simulator": "Run the stand-in for Meta's Graph API.",
    "demo": "Play: simulated customers and agents on a stack of its own, live in this terminal.",
}
_NEEDS_EXTRA = "needs the [server] extra"


def short_help(name: str) -> str:
    """One line for the list; says so when the server's packages are not installed."""
    # asyncpg stands for all of them: only the extra brings it.
    installed = importlib.util.find_spec("server") and importlib.util.find_spec("asyncpg")
    return COMMANDS[name] if installed else f"{COMMANDS[name]} ({_NEEDS_EXTRA})"


def load(name: str) -> click.Command:
    """The command itself. Raises SetupError when this installation has no server."""
    try:
        commands = importlib.import_module("server.__main__").commands()
    except ModuleNotFoundError as problem:
        if problem.name and problem.name.startswith("server.") and problem.name != "server.__main__":
            raise
        raise SetupError(f"`switchboard {name}` {_NEEDS_EXTRA}: pip install 'switchboard[server]'") from problem
    for command in commands:
        if command.name == name:
            found: click.Command = command
            return found
    raise SetupError(f"this version's server has no command {name!r}")
