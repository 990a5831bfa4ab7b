"""Runs one command of the API: request, call, answer."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import click
from google.protobuf.message import Message

from switchboard_cli import refusal
from switchboard_cli.connection import Choice, resolve
from switchboard_cli.contract import Contract, Rpc
from switchboard_cli.inert import json_text
from switchboard_cli.json_form import to_json
from switchboard_cli.names import names_for


def run(contract: Contract, rpc: Rpc, request: Message, choice: Choice, *, all_pages: bool) -> None:
    """Makes the call and prints the answer; exits with 1 when refused, 3 when nobody answers."""
    from switchboard_sdk import SwitchboardError

    output = choice.output or "table"
    try:
        answer, names = asyncio.run(
            _answer(contract, rpc, request, choice, all_pages=all_pages, with_names=output == "table")
        )
    except SwitchboardError as error:
        refusal.exit_with(error, output=output)
    if output == "json":
        click.echo(json_text(to_json(answer), indent=2))
    else:
        from switchboard_cli.tables import print_answer

        print_answer(answer, names)


async def _answer(
    contract: Contract, rpc: Rpc, request: Message, choice: Choice, *, all_pages: bool, with_names: bool
) -> tuple[Message, Mapping[str, str]]:
    """The answer, and names of what it refers to."""
    repeatable = not rpc.has_side_effects or "request_id" in rpc.method.input_type.fields_by_name
    answer = contract.message_class(rpc.method.output_type)()
    async with resolve(choice, is_platform=rpc.is_platform).connect() as client:
        # Merging is what makes one list of the pages: repeated fields are joined. An empty token is not on the wire, so
        # that of the page before must go first.
        answer.MergeFromString(await client.invoke(rpc.path, request.SerializeToString(), repeatable=repeatable))
        while all_pages and (token := answer.next_page_token):  # type: ignore[attr-defined]
            request.page_token = token  # type: ignore[attr-defined]
            answer.ClearField("next_page_token")
            answer.MergeFromString(await client.invoke(rpc.path, request.SerializeToString(), repeatable=repeatable))
        names = await names_for(client, answer) if with_names and not rpc.is_platform else {}
    return answer, names


def run_stream(contract: Contract, rpc: Rpc, request: Message, choice: Choice, *, limit: int | None) -> None:
    """Prints the items of a server stream as JSON, one a line, until it ends or `limit` is reached. It is not resumed."""
    from switchboard_sdk import SwitchboardError

    try:
        asyncio.run(_print_items(contract, rpc, request, choice, limit=limit))
    except SwitchboardError as error:
        refusal.exit_with(error, output=choice.output or "table")


async def _print_items(contract: Contract, rpc: Rpc, request: Message, choice: Choice, *, limit: int | None) -> None:
    kind = contract.message_class(rpc.method.output_type)
    async with resolve(choice, is_platform=rpc.is_platform).connect() as client:
        items = client.stream(rpc.path, request.SerializeToString())
        count = 0
        async for item in items:
            click.echo(json_text(to_json(kind.FromString(item))))
            count += 1
            if count == limit:
                break
        await items.aclose()
