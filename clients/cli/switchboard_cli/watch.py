"""`switchboard inbox watch`: the SDK's watch(), printed."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import betterproto2
import click
from google.protobuf.message import Message
from switchboard_client.switchboard.v1 import ActorKind, InboxEvent, ListAgentsRequest, WatchInboxRequest
from switchboard_sdk import Client, SwitchboardError, WatchState

from switchboard_cli import refusal
from switchboard_cli.connection import Choice, resolve
from switchboard_cli.contract import Contract
from switchboard_cli.json_form import to_json

_INTERRUPTED = 130
_NAMES_WITHIN = timedelta(seconds=2)
_REFUSED_WITHIN = 0.05
"""Seconds between a refusal and the end of the watch, generously."""


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
        count, states = 0, _States()
        agents = {} if as_json else await _agents(client)
        async with client.watch_request(wanted, on_state=states.enter) as watch, states:
            async for event in watch:
                # google.protobuf makes the JSON (call.to_json says why); fields this version does not know survive the way.
                line = json.dumps(to_json(kind.FromString(bytes(event))), ensure_ascii=False)
                click.echo(line if as_json else describe(event, agents))
                count += 1
                if count == limit:
                    return


async def _agents(client: Client) -> Mapping[str, str]:
    """Names of agents by id, as far as the credential may know them; whoever joins later is shown by id."""
    try:
        found = await client.call(ListAgentsRequest(page_size=200), within=_NAMES_WITHIN)
    except SwitchboardError:
        return {}
    return {agent.id: agent.name for agent in found.agents}


class _States:
    """States go to standard error: standard output carries events and nothing else.

    While the server is away every attempt fails alike, and one line is enough. A line that says why waits for the next state
    or a moment, because a refusal that ends the watch is told by whoever ends it.
    """

    def __init__(self) -> None:
        self._last: WatchState | None = None
        self._waiting: asyncio.TimerHandle | None = None
        self._held = ""

    async def __aenter__(self) -> None:
        pass

    async def __aexit__(self, *_error: object) -> None:
        if self._waiting is not None:
            self._waiting.cancel()

    def enter(self, state: WatchState, error: SwitchboardError | None) -> None:
        """Prints a state that is not the one printed last."""
        if state is self._last:
            return
        self._last = state
        self._release()
        self._held = f"-- {state.value}{f': {error}' if error else ''}"
        if error is None:
            self._release()
        else:
            self._waiting = asyncio.get_running_loop().call_later(_REFUSED_WITHIN, self._release)

    def _release(self) -> None:
        """Prints the line that waits."""
        if self._waiting is not None:
            self._waiting.cancel()
        if self._held:
            click.secho(self._held, dim=True, err=True)
            self._held = ""


def describe(event: InboxEvent, agents: Mapping[str, str]) -> str:
    """One line: time, what happened, in which conversation, who did it, and what it is about.

    agents: names by id.
    """
    name, body = betterproto2.which_one_of(event, "body")
    time = f"{event.create_time.astimezone():%H:%M:%S}" if event.create_time else "--:--:--"
    kind = click.style(f"{name.replace('_', ' ') or 'unknown event':<27}", fg="cyan")
    return f"{time}  {kind}  {event.conversation_id or '-':<36}  {_who(event, body, agents)}  {_preview(body, agents)}".rstrip()


def _who(event: InboxEvent, body: Any, agents: Mapping[str, str]) -> str:
    conversation = getattr(body, "conversation", None)
    actor = event.actor
    if actor is None:
        return "-"
    if actor.kind is ActorKind.CONTACT and conversation and conversation.contact:
        return str(conversation.contact.name)
    kind = (actor.kind.name or "somebody").lower().replace("_", " ")
    if not actor.id or actor.kind is not ActorKind.AGENT:
        return kind
    return agents.get(actor.id, f"{kind} {actor.id}")


def _preview(body: Any, agents: Mapping[str, str]) -> str:
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
        return f"to {agents.get(assignment.agent_id or '', assignment.agent_id or assignment.team_id)}"
    return str(named.name) if named else ", ".join(getattr(body, "changed_fields", []))


def _one_line(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= 80 else f"{text[:79]}…"
