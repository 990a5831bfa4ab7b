"""The API's part of the command tree."""

from __future__ import annotations

from typing import Any

import click

from switchboard_cli import connection
from switchboard_cli.connection import Choice
from switchboard_cli.contract import Contract, Group, Rpc
from switchboard_cli.fields import BODY, build_request, parameters
from switchboard_cli.values import JsonType

# Flags of ours; a field of that name would be --field-NAME.
_RESERVED = frozenset({"url", "token", "as", "ca-file", "output", "json", "all", "limit", "help"})
_WATCH = "/switchboard.v1.InboxService/WatchInbox"


def group(contract: Contract, service: Group) -> click.Group:
    """The commands of one service."""
    found = click.Group(service.name, help=service.help, no_args_is_help=True)
    for rpc in service.rpcs.values():
        found.add_command(command(contract, rpc))
    return found


def command(contract: Contract, rpc: Rpc) -> click.Command:
    """One RPC: its fields, then how to print, then whom to call."""
    params = parameters(contract, rpc, reserved=_RESERVED)
    params.append(click.Option(["--json", BODY], type=JsonType(), help="The request as JSON, @FILE, or - for stdin."))
    if rpc.is_paged:
        params.append(click.Option(["--all", "all_pages"], is_flag=True, help="Follow the pages to the end."))
    if rpc.method.server_streaming:
        params.append(click.Option(["--limit"], type=click.IntRange(min=1), help="Stop after so many items."))

    def callback(**typed: Any) -> None:
        _run(contract, rpc, typed)

    return click.Command(
        rpc.name,
        params=[*params, *connection.options()],
        callback=callback,
        help=rpc.help.replace("\n", "\n\n"),
        short_help=rpc.help.split(". ")[0].split("\n")[0].rstrip("."),
    )


def _run(contract: Contract, rpc: Rpc, typed: dict[str, Any]) -> None:
    choice = _choice(typed).over(click.get_current_context().find_root().obj or Choice())
    request = build_request(contract, rpc, typed)
    if rpc.path == _WATCH:
        from switchboard_cli import watch

        watch.run(contract, request, choice, limit=typed["limit"])
    elif rpc.method.server_streaming:
        from switchboard_cli import call

        call.run_stream(contract, rpc, request, choice, limit=typed["limit"])
    else:
        from switchboard_cli import call

        call.run(contract, rpc, request, choice, all_pages=bool(typed.get("all_pages")))


def _choice(typed: dict[str, Any]) -> Choice:
    return Choice(**{name: typed.get(name) for name in vars(Choice())})
