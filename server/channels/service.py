"""Channels: reading, connecting, pausing."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import select, tuple_
from sqlalchemy.ext.asyncio import AsyncSession
from switchboard.v1 import event_pb2

from server.channels import convert, told
from server.channels.refusals import ChannelDisconnected, ChannelMakesNoSecrets
from server.deliveries import service as deliveries
from server.kit.clock import utc_now
from server.kit.db import Connection, Write
from server.kit.errors import AlreadyExists, DatabaseUnavailable, FieldViolation, InvalidFields, NotFound
from server.kit.secrets import SecretBox
from server.log.event import NewEvent, Origin, Routing
from server.models.tenant import Channel
from server.providers.checks import FOR_SENDING, CheckReport
from server.providers.contract import Account, Provider, Refused, SettingInvalid
from server.rpc.call import Scope

ALL = Scope(all=True)
TABLE, TOKEN = "channels", "access_token"
GET = "SELECT id, provider, state, reopen_window, new_thread_each_time FROM channels WHERE id = ANY($1::uuid[])"
# The timer that resolves a conversation without activity; its key is the conversation.
AUTO_RESOLVE = "auto_resolve"
# What is active already gets its timer now, or an earlier one; a later one sees for itself that it came too early.
FOLLOW = """
INSERT INTO timers (kind, key, due_time, generation)
SELECT $3, id, update_time + $2, 0 FROM conversations
WHERE channel_id = $1 AND status IN ('new', 'open', 'pending') AND delete_time IS NULL ORDER BY id
ON CONFLICT (kind, key) DO UPDATE SET due_time = least(timers.due_time, excluded.due_time)
"""


@dataclass(frozen=True, slots=True)
class ChannelRow:
    """What the hot paths need of a channel."""

    id: uuid.UUID
    provider: str
    state: str
    reopen_window: timedelta
    new_thread_each_time: bool


async def by_ids(connection: Connection, ids: Sequence[uuid.UUID]) -> dict[uuid.UUID, ChannelRow]:
    """Channels by id; unknown ones are missing."""
    return {record["id"]: ChannelRow(**record) for record in await connection.fetch(GET, list(ids))}


async def not_sending(connection: Connection) -> dict[uuid.UUID, str]:
    """The states of the channels that do not send now."""
    records = await connection.fetch("SELECT id, state FROM channels WHERE state <> 'active'")
    return {record["id"]: record["state"] for record in records}


async def check_connected(connection: Connection, channel_id: uuid.UUID) -> None:
    """ChannelDisconnected. It stays connected until the caller's transaction ends."""
    state = await connection.fetchval("SELECT state FROM channels WHERE id = $1 FOR SHARE", channel_id)
    if state == "disconnected":
        raise ChannelDisconnected()


async def get_visible(connection: Connection, scope: Scope, channel_id: uuid.UUID) -> ChannelRow:
    """A channel the caller may see. NotFound."""
    row = (await by_ids(connection, [channel_id])).get(channel_id)
    if row is None or not scope.sees(channel_id=channel_id, team_id=None, assignee_id=None):
        raise NotFound("channel")
    return row


async def show(session: AsyncSession, scope: Scope, channel_id: uuid.UUID) -> Channel:
    """A channel with everything but its token in the clear. NotFound."""
    row = await session.get(Channel, channel_id)
    if row is None or not scope.sees(channel_id=channel_id, team_id=None, assignee_id=None):
        raise NotFound("channel")
    return row


async def page(session: AsyncSession, scope: Scope, *, after: Sequence[Any] | None, limit: int) -> Sequence[Channel]:
    """Channels the caller may see, in the order they were connected."""
    query = select(Channel).order_by(Channel.create_time, Channel.id).limit(limit)
    if not scope.all:
        query = query.where(Channel.id.in_(scope.channel_ids))
    if after is not None:
        last = (datetime.fromisoformat(after[0]), uuid.UUID(after[1]))
        query = query.where(tuple_(Channel.create_time, Channel.id) > last)
    return (await session.scalars(query)).all()


@dataclass(frozen=True, slots=True)
class Answered:
    """What a provider said of a channel's account at a time. access_token: the new one it was asked with, None for the stored one."""

    report: CheckReport
    at: datetime
    access_token: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Connect:
    """An account to connect. answered: what its provider said of it."""

    id: uuid.UUID
    provider: str
    name: str
    account: Account
    answered: Answered | None = None


def settings_of(given: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Settings by name. INVALID_FIELDS for a name that stands there twice."""
    settings: dict[str, str] = {}
    for name, value in given:
        if name in settings:
            raise InvalidFields(FieldViolation("settings", f"{name} is there twice"))
        settings[name] = value
    return settings


def account_of(
    provider: Provider, settings: Mapping[str, str], channel_id: uuid.UUID, *, field: str | None = None
) -> Account:
    """What to store of an account. INVALID_FIELDS names the setting's own field, or the field that holds them all."""
    try:
        return provider.account(settings, channel_id=str(channel_id))
    except SettingInvalid as error:
        violation = FieldViolation(error.name, error.problem) if field is None else FieldViolation(field, str(error))
        raise InvalidFields(violation) from None


async def disconnected(connection: Connection, account: Account, *, provider: str) -> uuid.UUID | None:
    """The channel that an account had before it was disconnected."""
    found: uuid.UUID | None = await connection.fetchval(
        "SELECT id FROM channels WHERE provider = $1 AND account_id = $2 AND state = 'disconnected'",
        provider,
        account.account_id,
    )
    return found


async def connect(
    write: Write, secrets: SecretBox, wanted: Connect, *, origin: Origin
) -> tuple[Channel, list[NewEvent]]:
    """Stores a channel, or brings back one that was disconnected; its secret is sealed and opens in this row only. AlreadyExists;
    UNAVAILABLE until what it had to send when it was disconnected has failed.
    """
    row = await write.session.get(Channel, wanted.id, with_for_update={"key_share": True})
    if row is None:
        row = Channel(
            id=wanted.id, provider=wanted.provider, account_id=wanted.account.account_id, create_time=utc_now()
        )
        write.session.add(row)
    elif row.state != "disconnected":
        raise AlreadyExists("channel", "this account is already connected to a channel of this installation")
    elif await deliveries.left(write.connection, row.id):
        raise DatabaseUnavailable("what the channel had to send before is being ended just now; repeat")
    row.name, row.state, row.details = wanted.name, "active", dict(wanted.account.details)
    row.access_token = secrets.seal(wanted.account.token.encode(), table=TABLE, column=TOKEN, row=wanted.id)
    # What was told before it was disconnected may be otherwise by now.
    row.health, row.health_times, row.throughput_per_second = {}, {}, None
    if wanted.answered is not None and wanted.answered.report.checks:
        told.take_report(row, wanted.answered.report, at=wanted.answered.at)
        told.plan(row, now=utc_now())
    await write.session.flush()
    body = event_pb2.InboxEvent(channel_connected=event_pb2.ChannelConnected(channel=convert.channel(row)))
    return row, [_event(origin, body, row.id)]


async def pause(write: Write, channel_id: uuid.UUID, *, origin: Origin, refused: Refused) -> list[NewEvent]:
    """Stops sending on a channel and keeps its queue; no event when it was paused before."""
    # Not the strongest lock: the batch writer's foreign keys share the key while it holds the head.
    row = await write.session.get(Channel, channel_id, with_for_update={"key_share": True})
    if row is None or row.state != "active":
        return []
    row.state, row.state_reason = "paused", f"{refused.code}: {refused.message}"
    _refused(row, refused, at=utc_now())
    await write.session.flush()
    return [health_changed(origin, row)]


async def note_refusal(write: Write, channel_id: uuid.UUID, *, origin: Origin, refused: Refused) -> list[NewEvent]:
    """Tells what the provider has against an account that goes on sending; an event when that is another than before."""
    row = await write.session.get(Channel, channel_id, with_for_update={"key_share": True})
    if row is None:
        return []
    changed = _refused(row, refused, at=utc_now())
    await write.session.flush()
    return [health_changed(origin, row)] if changed else []


def _refused(row: Channel, refused: Refused, *, at: datetime) -> bool:
    values: dict[str, Any] = {"last_error": {"code": refused.code, "message": refused.message}}
    return told.take(row, values | ({"token": {"valid": False}} if refused.ends_token else {}), at=at)


async def _locked(write: Write, scope: Scope, channel_id: uuid.UUID) -> Channel:
    """A channel to change. NotFound."""
    row = await write.session.get(Channel, channel_id, with_for_update={"key_share": True})
    if row is None or not scope.sees(channel_id=channel_id, team_id=None, assignee_id=None):
        raise NotFound("channel")
    return row


@dataclass(frozen=True, slots=True)
class Keeping:
    """How the secrets of accounts are made and kept."""

    secrets: SecretBox
    providers: Mapping[str, Provider]


async def account(
    session: AsyncSession, scope: Scope, keeping: Keeping, channel_id: uuid.UUID, *, access_token: str | None
) -> tuple[Channel, Account]:
    """A channel and its account, to ask its provider about; with another token where one is given.

    NotFound; ChannelDisconnected; INVALID_FIELDS for the token of a channel whose secrets are made here.
    """
    row = await show(session, scope, channel_id)
    if row.state == "disconnected":
        raise ChannelDisconnected()
    if access_token is not None and keeping.providers[row.provider].makes_secrets:
        raise InvalidFields(FieldViolation(TOKEN, "is made here for this channel: rotate its secret instead"))
    token = token_of(keeping.secrets, row.id, row.access_token) if access_token is None else access_token
    return row, Account(account_id=row.account_id or "", token=token, details=row.account)


async def resume(
    write: Write, scope: Scope, keeping: Keeping, channel_id: uuid.UUID, *, origin: Origin, answered: Answered | None
) -> tuple[Channel, list[NewEvent]]:
    """Sends again, with the new token if there is one; no event when nothing is different. NotFound; ChannelDisconnected."""
    row = await _locked(write, scope, channel_id)
    if row.state == "disconnected":
        raise ChannelDisconnected()
    changed = row.state != "active"
    row.state, row.state_reason = "active", None
    if answered is not None:
        changed = _answered(keeping, row, answered) or changed
    await write.session.flush()
    return row, [health_changed(origin, row)] if changed else []


async def reauthorize(
    write: Write, scope: Scope, keeping: Keeping, channel_id: uuid.UUID, *, origin: Origin, answered: Answered
) -> tuple[Channel, list[NewEvent]]:
    """Takes the new token. One that was paused sends again; one that is blocked stays so, since that is not about its token. NotFound;
    ChannelDisconnected.
    """
    row = await _locked(write, scope, channel_id)
    if row.state == "disconnected":
        raise ChannelDisconnected()
    if row.state == "paused":
        row.state, row.state_reason = "active", None
    _answered(keeping, row, answered)
    await write.session.flush()
    # Whoever changes a token is in the audit trail, even if nothing else is different now.
    return row, [health_changed(origin, row)]


async def checked(
    write: Write, scope: Scope, keeping: Keeping, channel_id: uuid.UUID, *, origin: Origin, answered: Answered
) -> tuple[Channel, list[NewEvent]]:
    """Stores what a provider said; no event when it said that before. NotFound."""
    row = await _locked(write, scope, channel_id)
    changed = row.state != "disconnected" and _answered(keeping, row, answered)
    await write.session.flush()
    return row, [health_changed(origin, row)] if changed else []


async def watched(
    write: Write, channel_id: uuid.UUID, *, origin: Origin, answered: Answered
) -> tuple[Channel, list[NewEvent]]:
    """Stores what a provider said when nobody asked for it: a token that is refused pauses the channel before a send meets it, and a block
    ends with the restrictions behind it, once the provider says so too.
    """
    row = await _locked(write, ALL, channel_id)
    if row.state == "disconnected":
        return row, []
    before, now, report = told.shown(row), utc_now(), answered.report
    told.take_report(row, report, at=answered.at)
    told.expire(row, now=now)
    token = report.failed(frozenset({"token"}))
    if token is not None and row.state == "active":
        row.state, row.state_reason = "paused", f"{token.code}: {token.message}"
    ended = row.state == "blocked" and row.state_reason == told.RESTRICTED and not told.restricted(row)
    if ended and report.failed(FOR_SENDING) is None:
        row.state, row.state_reason = "active", None
    row.check_subscribes = False
    told.plan(row, now=now)
    await write.session.flush()
    return row, [health_changed(origin, row)] if told.shown(row) != before else []


def _answered(keeping: Keeping, row: Channel, answered: Answered) -> bool:
    if answered.access_token is not None:
        row.access_token = keeping.secrets.seal(answered.access_token.encode(), table=TABLE, column=TOKEN, row=row.id)
    changed = told.take_report(row, answered.report, at=answered.at)
    if answered.report.checks:
        told.plan(row, now=utc_now())
    return changed


async def disconnect(
    write: Write, scope: Scope, secrets: SecretBox, channel_id: uuid.UUID, *, origin: Origin
) -> tuple[Channel, list[NewEvent]]:
    """Ends a channel and destroys its token; what it had stays. No event when it was disconnected before. NotFound."""
    row = await _locked(write, scope, channel_id)
    if row.state == "disconnected":
        return row, []
    row.state, row.state_reason, row.check_due_time = "disconnected", None, None
    row.access_token = secrets.seal(b"", table=TABLE, column=TOKEN, row=row.id)
    await write.session.flush()
    body = event_pb2.InboxEvent(channel_disconnected=event_pb2.ChannelDisconnected(channel=convert.channel(row)))
    return row, [_event(origin, body, row.id)]


@dataclass(frozen=True, slots=True)
class Rotation:
    """A new secret to make. id: of the call, by which its repeat is told the same. overlap: the one before serves so much longer."""

    id: uuid.UUID
    overlap: timedelta


async def rotate(
    write: Write, scope: Scope, keeping: Keeping, channel_id: uuid.UUID, *, origin: Origin, rotation: Rotation
) -> tuple[Channel, list[NewEvent]]:
    """Makes a new secret for a channel, and seals it. NotFound; ChannelMakesNoSecrets."""
    row = await _locked(write, scope, channel_id)
    before, provider = token_of(keeping.secrets, row.id, row.access_token), keeping.providers[row.provider]
    made = provider.rotated(before, made_by=rotation.id.hex, now=utc_now(), overlap=rotation.overlap)
    if made is None:
        raise ChannelMakesNoSecrets(row.provider)
    row.access_token = keeping.secrets.seal(made.token.encode(), table=TABLE, column=TOKEN, row=row.id)
    row.details = {**row.account, **made.details}
    await write.session.flush()
    return row, [_updated(origin, row)]


def secret_of(keeping: Keeping, row: Channel, rotation_id: uuid.UUID | None = None) -> str | None:
    """The secret that a rotation made, or connecting; None once another was made, and where the provider makes them."""
    provider, token = keeping.providers[row.provider], token_of(keeping.secrets, row.id, row.access_token)
    return provider.secret(token, made_by=rotation_id.hex if rotation_id else "")


@dataclass(frozen=True, slots=True)
class Changes:
    """What to change of a channel; None leaves alone, a zero auto_resolve_after ends it."""

    name: str | None = None
    reopen_window: timedelta | None = None
    new_thread_each_time: bool | None = None
    auto_resolve_after: timedelta | None = None
    callback_url: str | None = None

    def apply(self, row: Channel, provider: Provider) -> bool:
        """Changes the row; whether anything is different now. INVALID_FIELDS for an address that cannot be called back."""
        before = _changeable(row)
        if self.callback_url is not None:
            row.details = {**row.account, **_moved(provider, self.callback_url)}
        row.name = row.name if self.name is None else self.name
        row.reopen_window = row.reopen_window if self.reopen_window is None else self.reopen_window
        if self.new_thread_each_time is not None:
            row.new_thread_each_time = self.new_thread_each_time
        if self.auto_resolve_after is not None:
            row.auto_resolve_after = self.auto_resolve_after or None
        return _changeable(row) != before


def _changeable(row: Channel) -> tuple[Any, ...]:
    return row.name, row.reopen_window, row.new_thread_each_time, row.auto_resolve_after, row.account


def _moved(provider: Provider, callback_url: str) -> Mapping[str, str]:
    try:
        return provider.moved(callback_url)
    except SettingInvalid as error:
        raise InvalidFields(FieldViolation(error.name, error.problem)) from None


async def update(
    write: Write,
    scope: Scope,
    channel_id: uuid.UUID,
    *,
    origin: Origin,
    changes: Changes,
    providers: Mapping[str, Provider],
) -> tuple[Channel, list[NewEvent]]:
    """Changes a channel; no event when nothing changes. NotFound; INVALID_FIELDS."""
    row = await _locked(write, scope, channel_id)
    if not changes.apply(row, providers[row.provider]):
        return row, []
    await write.session.flush()
    if changes.auto_resolve_after:
        await write.connection.execute(FOLLOW, row.id, row.auto_resolve_after, AUTO_RESOLVE)
    return row, [_updated(origin, row)]


async def auto_resolve_after(connection: Connection, ids: Sequence[uuid.UUID]) -> dict[uuid.UUID, timedelta]:
    """After how long without a change conversations are resolved, for the channels that do so."""
    records = await connection.fetch(
        "SELECT id, auto_resolve_after FROM channels WHERE id = ANY($1::uuid[]) AND auto_resolve_after IS NOT NULL",
        list(ids),
    )
    return {record["id"]: record["auto_resolve_after"] for record in records}


def token_of(secrets: SecretBox, channel_id: uuid.UUID, sealed: bytes) -> str:
    """Opens a channel's token; only the worker that sends needs it."""
    return secrets.open(sealed, table=TABLE, column=TOKEN, row=channel_id).decode()


def health_changed(origin: Origin, row: Channel) -> NewEvent:
    """That a channel does otherwise than before."""
    body = event_pb2.InboxEvent(channel_health_changed=event_pb2.ChannelHealthChanged(channel=convert.channel(row)))
    return _event(origin, body, row.id)


def _updated(origin: Origin, row: Channel) -> NewEvent:
    body = event_pb2.InboxEvent(channel_updated=event_pb2.ChannelUpdated(channel=convert.channel(row)))
    return _event(origin, body, row.id)


def _event(origin: Origin, body: event_pb2.InboxEvent, channel_id: uuid.UUID) -> NewEvent:
    routing = Routing(channel_id=channel_id)
    return NewEvent(body=body, actor=origin.actor, cause=origin.cause, before=routing, after=routing)
