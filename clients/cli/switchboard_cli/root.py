"""The root command: groups of the API from the contract, server commands by name, nothing imported before it is needed."""

from __future__ import annotations

from typing import Any

import click

from switchboard_cli import connection, server_commands
from switchboard_cli.connection import Choice


class Root(click.Group):
    """`switchboard`. Looks a command up when it is asked for: `up` reads no contract, `--help` imports no server."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        """Groups of the API, then server commands."""
        from switchboard_cli.contract import shipped

        return [*shipped().groups, *server_commands.COMMANDS]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """Loads what one command needs."""
        if cmd_name in server_commands.COMMANDS:
            return server_commands.load(cmd_name)
        from switchboard_cli import api
        from switchboard_cli.contract import shipped

        service = shipped().groups.get(cmd_name)
        return api.group(shipped(), service) if service else None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """Two lists, from names and comments alone."""
        from switchboard_cli.contract import shipped

        with formatter.section("The inbox"):
            formatter.write_dl([(group.name, group.help.split("\n")[0]) for group in shipped().groups.values()])
        with formatter.section("The server"):
            formatter.write_dl([(name, server_commands.short_help(name)) for name in server_commands.COMMANDS])


def _remember(**typed: Any) -> None:
    click.get_current_context().obj = Choice(**typed)


root = Root(
    "switchboard",
    params=connection.options(),
    callback=_remember,
    no_args_is_help=True,
    help="One inbox for every channel: conversations, messages and their live stream, from the command line.",
)
