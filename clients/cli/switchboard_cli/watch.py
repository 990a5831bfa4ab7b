"""`switchboard inbox watch`: the SDK's watch(), printed."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import betterproto2
import click
from google.protobuf.message import Message
from switchboard_client.switchboard.v1 import ActorKind, InboxEvent, WatchInboxRequest
from switchboard_sdk import SwitchboardError, WatchState

from switchboard_cli import refusal
from switchboard_cli.connection import Choice, resolve
from switchboard_cli.contract import Contract
from switchboard_cli.inert import inert, json_text
from switchboard_cli.json_form import to_json
from switchboard_cli.names import names_of

_INTERRUPTED = 130
# The longest kind of the everyday ones: conversation status changed. Longer ones move their line to the right.
_KIND = 27
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
        names = {} if as_json else await names_of(client, "agents", "teams")
        async with client.watch_request(wanted, on_state=states.enter) as watch, states:
            async for event in watch:
                # google.protobuf makes the JSON (call.to_json says why); fields this version does not know survive the way.
                line = json_text(to_json(kind.FromString(bytes(event))))
                click.echo(line if as_json else describe(event, names))
                count += 1
                if count == limit:
                    return


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


def describe(event: InboxEvent, names: Mapping[str, str]) -> str:
    """One line: time, what happened, in which conversation, who did it, and what it is about.

    names: of agents and teams, by id; whoever joins later is shown by id.
    """
    name, body = betterproto2.which_one_of(event, "body")
    time = f"{event.create_time.astimezone():%H:%M:%S}" if event.create_time else "--:--:--"
    kind = click.style(f"{name.replace('_', ' ') or 'unknown event':<{_KIND}}", fg="cyan")
    about = inert(f"{_who(event, body, names)}  {_preview(body, names)}")
    return f"{time}  {kind}  {event.conversation_id or '-':<36}  {about}".rstrip()


def _who(event: InboxEvent, body: Any, names: Mapping[str, str]) -> str:
    conversation = getattr(body, "conversation", None)
    actor = event.actor
    if actor is None:
        return "-"
    if actor.kind is ActorKind.CONTACT and conversation and conversation.contact:
        return str(conversation.contact.name)
    kind = (actor.kind.name or "somebody").lower().replace("_", " ")
    if not actor.id or actor.kind is not ActorKind.AGENT:
        return kind
    return names.get(actor.id, f"{kind} {actor.id}")


def _preview(body: Any, names: Mapping[str, str]) -> str:
    """What people want to know of an event, from whichever of the usual fields its body has."""
    told = (_said(body), _whom(body, names), _moved(body), _named(body))
    return "  ".join(part for part in told if part) or ", ".join(getattr(body, "changed_fields", []))


def _said(body: Any) -> str:
    message, note = getattr(body, "message", None), getattr(body, "note", None)
    if message is not None:
        return _one_line(message.text.body) if message.text else _word(message.type)
    return _one_line(note.text) if note is not None else ""


def _whom(body: Any, names: Mapping[str, str]) -> str:
    """The agent or team that it is about."""
    assignment, availability = getattr(body, "assignment", None), getattr(body, "availability", None)
    if assignment is not None:
        found = assignment.agent_id or assignment.team_id or ""
        return f"to {names.get(found, found)}"
    found = availability.agent_id if availability is not None else getattr(body, "agent_id", None)
    found = found or getattr(body, "previous_agent_id", None) or getattr(body, "previous_team_id", None) or ""
    return names.get(found, found)


def _moved(body: Any) -> str:
    """From what to what, or what it is now."""
    availability, status = getattr(body, "availability", None), getattr(body, "status", None)
    before, after = getattr(body, "from_", None), getattr(body, "to", None)
    if availability is not None:
        if before is None:
            return f"capacity {availability.capacity}"
        after = availability.availability
    if before is not None and after is not None:
        return f"{_word(before)} -> {_word(after)}"
    return _word(status) if isinstance(status, betterproto2.Enum) else ""


def _named(body: Any) -> str:
    for part in ("contact", "channel", "tag"):
        if (named := getattr(body, part, None)) is not None:
            return str(named.name)
    definition = getattr(body, "attribute_definition", None)
    return str(definition.key if definition is not None else getattr(body, "name", ""))


def _word(value: betterproto2.Enum) -> str:
    return (value.name or str(int(value))).lower().replace("_", " ")


def _one_line(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= 80 else f"{text[:79]}…"
