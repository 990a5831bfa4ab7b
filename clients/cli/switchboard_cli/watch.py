"""`switchboard inbox watch`: the SDK's watch(), printed."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import betterproto2
import click
from google.protobuf.message import Message
from switchboard_client.switchboard.v1 import ActorKind, InboxEvent, WatchInboxRequest
from switchboard_sdk import SwitchboardError, WatchState

from switchboard_cli import refusal
from switchboard_cli.connection import Choice, resolve
from switchboard_cli.contract import Contract
from switchboard_cli.json_form import to_json

_INTERRUPTED = 130


def run(contract: Contract, request: Message, choice: Choice, *, limit: int | None) -> None:
    """Prints events until interrupted, refused, or `limit` of them were printed."""
    output = choice.output or "table"
    try:
        asyncio.run(_print_events(contract, request, choice, limit=limit))
    except SwitchboardError as error:
        refusal.exit_with(error, output=output)
    except KeyboardInterrupt:
        raise click.exceptions.Exit(_INTERRUPTED) from None


async def _print_events(contract: Contract, request: Message, choice: Choice, *, limit: int | None) -> None:
    as_json = choice.output == "json"
    wanted = WatchInboxRequest.parse(request.SerializeToString())
    kind = contract.find_message_class("switchboard.v1.InboxEvent")
    async with resolve(choice).connect() as client:
        count = 0
        async with client.watch_request(wanted, on_state=_print_state) as watch:
            async for event in watch:
                # google.protobuf makes the JSON (call.to_json says why); fields this version does not know survive the way.
                line = json.dumps(to_json(kind.FromString(bytes(event))), ensure_ascii=False)
                click.echo(line if as_json else describe(event))
                count += 1
                if count == limit:
                    return


def _print_state(state: WatchState, error: SwitchboardError | None) -> None:
    """States go to standard error: standard output carries events and nothing else."""
    click.secho(f"-- {state.value}{f': {error}' if error else ''}", dim=True, err=True)


def describe(event: InboxEvent) -> str:
    """One line: time, what happened, in which conversation, who did it, and what it is about."""
    name, body = betterproto2.which_one_of(event, "body")
    time = f"{event.create_time.astimezone():%H:%M:%S}" if event.create_time else "--:--:--"
    kind = click.style(f"{name.replace('_', ' ') or 'unknown event':<27}", fg="cyan")
    return f"{time}  {kind}  {event.conversation_id or '-':<36}  {_who(event, body)}  {_preview(body)}".rstrip()


def _who(event: InboxEvent, body: Any) -> str:
    conversation = getattr(body, "conversation", None)
    actor = event.actor
    if actor is None:
        return "-"
    if actor.kind is ActorKind.CONTACT and conversation and conversation.contact:
        return str(conversation.contact.name)
    kind = (actor.kind.name or "somebody").lower().replace("_", " ")
    return f"{kind} {actor.id}" if actor.id and actor.kind is ActorKind.AGENT else kind


def _preview(body: Any) -> str:
    """What people want to know of an event, from whichever of the usual fields its body has."""
    message, note = getattr(body, "message", None), getattr(body, "note", None)
    if message is not None:
        return _one_line(message.text.body) if message.text else message.type.name.lower()
    if note is not None:
        return _one_line(note.text)
    if isinstance(getattr(body, "from_", None), betterproto2.Enum):
        return f"{body.from_.name.lower()} -> {body.to.name.lower()}"
    if isinstance(getattr(body, "status", None), betterproto2.Enum):
        return str(body.status.name.lower())
    assignment, named = (
        getattr(body, "assignment", None),
        getattr(body, "contact", None) or getattr(body, "channel", None),
    )
    if assignment is not None:
        return f"to {assignment.agent_id or assignment.team_id}"
    return str(named.name) if named else ", ".join(getattr(body, "changed_fields", []))


def _one_line(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= 80 else f"{text[:79]}…"
