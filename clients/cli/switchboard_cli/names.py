"""Names of agents, teams and channels, which people read where the contract has ids."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from google.protobuf.message import Message

if TYPE_CHECKING:
    from switchboard_sdk import Client

_WITHIN = timedelta(seconds=2)
# How a field that refers to one of them is called, without its _id or _ids.
_REFERENCES = {
    "agent": "agents",
    "author": "agents",
    "assignee": "agents",
    "assigned_by": "agents",
    "team": "teams",
    "channel": "channels",
}


async def names_for(client: Client, answer: Message) -> Mapping[str, str]:
    """Names by id of what an answer refers to, as far as the credential may know them."""
    return await names_of(client, *sorted(set(_kinds(answer))))


async def names_of(client: Client, *kinds: str) -> Mapping[str, str]:
    """Names by id. kinds: of "agents", "teams", "channels"; 200 of each at most, what cannot be listed is left out."""
    found = await asyncio.gather(*(_list(client, kind) for kind in kinds))
    return {each.id: each.name for rows in found for each in rows}


async def _list(client: Client, kind: str) -> list[Any]:
    from switchboard_client.switchboard.v1 import ListAgentsRequest, ListChannelsRequest, ListTeamsRequest
    from switchboard_sdk import SwitchboardError

    requests = {"agents": ListAgentsRequest, "teams": ListTeamsRequest, "channels": ListChannelsRequest}
    try:
        answer = await client.call(requests[kind](page_size=200), within=_WITHIN)
    except SwitchboardError:
        return []
    rows: list[Any] = getattr(answer, kind)
    return rows


def _kinds(message: Message) -> Iterator[str]:
    """What the fields that are set refer to."""
    for each, value in message.ListFields():
        if is_reference(each.name):
            stem = each.name.removesuffix("s").removesuffix("_id")
            yield from (kind for end, kind in _REFERENCES.items() if stem.endswith(end))
        elif each.name in ("actor", "author"):
            yield "agents"
        elif each.message_type is not None and not each.message_type.GetOptions().map_entry:
            for part in value if each.is_repeated else (value,):
                yield from _kinds(part)


def is_reference(name: str) -> bool:
    """Whether a field of this name holds ids of something else."""
    return name.endswith(("_id", "_ids"))
