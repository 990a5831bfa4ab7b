"""What the present parser reads in journaled payloads, beside what the journal and the tables hold. Changes nothing."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from server.channels.service import ChannelRow
from server.intake.apply import channels_of, read_items
from server.journal import items as journal_items
from server.journal.items import ItemRow
from server.journal.service import Payload
from server.kit.db import Connection
from server.messages import inbound
from server.messages.row import MessageRow
from server.providers.contract import Broken, Ignored, InboundMessage, Item, Provider, Receipt
from server.providers.health import AccountChange
from server.providers.template import TemplateChange

# What a finding comes to, and what applying does about it.
SAME, MISSED, FAILED, CHANGED, NOTED = "same", "missed", "failed", "changed", "noted"
SUPERSEDED, GONE = "superseded", "gone"
MEANING: Mapping[str, str] = {
    MISSED: "not seen before: applied",
    FAILED: "failed before: tried again",
    CHANGED: "reads differently now: the message is updated",
    NOTED: "not seen before, nothing to apply: recorded",
    SUPERSEDED: "read as something else now: marked so",
    GONE: "not read any more: kept as it is",
}


@dataclass(frozen=True, slots=True)
class Finding:
    """One item, as it is read now or as it was read before.

    item: None when it is read no more. row: what the journal holds of it, None when that is nothing. message: the stored message
    that reads differently, else None.
    """

    verdict: str
    payload: Payload
    kind: str
    item: Item | None = None
    row: ItemRow | None = None
    message: MessageRow | None = None


@dataclass(frozen=True, slots=True)
class Known:
    """What a tenant holds about some payloads. owners: channels by account id."""

    owners: Mapping[str, ChannelRow]
    rows: Mapping[tuple[str, ...], ItemRow]
    messages: Mapping[tuple[uuid.UUID, str], MessageRow]


@dataclass(frozen=True, slots=True)
class Shadow:
    """Payloads as they are read now."""

    findings: Sequence[Finding]
    owners: Mapping[str, ChannelRow]


async def look(connection: Connection, provider: Provider, payloads: Sequence[Payload]) -> Shadow:
    """Compares payloads of one provider with what is held. connection: a snapshot, so that all of it is of one moment."""
    read = {payload.id: read_items(provider, payload) for payload in payloads}
    items = [item for found in read.values() for item in found]
    owners = await channels_of(connection, provider.name, items)
    keys = {(channel_of(item, owners), item.kind, item.provider_id) for item in items}
    rows = await journal_items.held(connection, journal_ids=list(read), keys=sorted(keys, key=str))
    wanted = [
        (owners[item.account_id].id, item.provider_id)
        for item in items
        if isinstance(item, InboundMessage) and item.account_id in owners
    ]
    known = Known(owners, {row.key: row for row in rows}, await inbound.stored(connection, sorted(set(wanted))))
    findings = [
        finding
        for payload in payloads
        for finding in _findings(payload, read[payload.id], known, parser_version=provider.parser_version)
    ]
    return Shadow(findings, owners)


def channel_of(item: Item, owners: Mapping[str, ChannelRow]) -> uuid.UUID | None:
    """The channel that an item is about; None when it names no account, or one that is not ours."""
    owner = owners.get(item.account_id or "")
    return None if owner is None else owner.id


def key_of(item: Item, owners: Mapping[str, ChannelRow]) -> tuple[str, ...]:
    """What tells items apart, as ItemRow.key."""
    place = (str(channel_of(item, owners)), item.kind, item.provider_id, item.discriminator)
    return (*place, str(item.provider_time))


def _findings(payload: Payload, items: Sequence[Item], known: Known, *, parser_version: int) -> list[Finding]:
    found = {key_of(item, known.owners): item for item in items}
    findings = [_of_item(payload, item, known.rows.get(key), known, parser_version) for key, item in found.items()]
    for key, row in known.rows.items():
        if row.journal_id == payload.id and key not in found and row.state != "superseded":
            verdict = SUPERSEDED if row.state in ("failed", "ignored") else GONE
            findings.append(Finding(verdict, payload, row.kind, row=row))
    return findings


def _of_item(payload: Payload, item: Item, row: ItemRow | None, known: Known, parser_version: int) -> Finding:
    channel_id = channel_of(item, known.owners)
    # Templates belong to an account that channels share.
    applicable = (channel_id is not None or isinstance(item, TemplateChange | AccountChange)) and _applied(item)
    message = None if channel_id is None else known.messages.get((channel_id, item.provider_id))
    if isinstance(item, InboundMessage) and applicable and message is not None and row is not None:
        # What the same parser read cannot differ, and an older one has nothing to say about what a newer one read.
        if row.parser_version < parser_version and inbound.changed_fields(message, item):
            return Finding(CHANGED, payload, item.kind, item, row, message)
        return Finding(SAME, payload, item.kind, item, row)
    if row is None:
        stored = isinstance(item, InboundMessage) and message is not None
        return Finding(MISSED if applicable and not stored else NOTED, payload, item.kind, item)
    return Finding(FAILED if row.state == "failed" and applicable else SAME, payload, item.kind, item, row)


def _applied(item: Item) -> bool:
    """Whether items of this kind do anything but being recorded."""
    if isinstance(item, Ignored | Broken):
        return False
    return not (isinstance(item, Receipt) and item.participant is not None)
