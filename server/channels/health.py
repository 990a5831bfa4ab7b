"""How channels do: what webhooks of their account tell. Works inside the caller's unit of work."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import func, select

from server.channels import told
from server.channels.pace import Heard
from server.channels.service import health_changed
from server.kit.clock import utc_now
from server.kit.db import Write
from server.log.event import NewEvent, Origin
from server.models.tenant import Channel
from server.providers.health import AccountChange


async def apply(
    write: Write, change: AccountChange, *, provider: str, shared: str | None, at: datetime, origin: Origin
) -> list[NewEvent]:
    """Takes over what a webhook told at a time; an event for each channel that the contract shows differently.

    shared: the detail of a channel that names the account.
    """
    if change.account_id is None and shared is None:
        return []
    named = (
        func.jsonb_extract_path_text(Channel.details, shared) == change.business_account_id
        if change.account_id is None
        else Channel.account_id == change.account_id
    )
    query = (
        select(Channel)
        .where(Channel.provider == provider, named, Channel.state != "disconnected")
        .order_by(Channel.id)
        .with_for_update(key_share=True)
    )
    rows = (await write.session.scalars(query)).all()
    meant = about(rows, change.number)
    if change.number is not None and len(meant) != 1:
        # Nobody can say which: what is true of each is read again.
        change = AccountChange(**_identity(change), stale=True)
        meant = rows
    changed = [row for row in meant if _tell(row, change, at=at)]
    await write.session.flush()
    return [health_changed(origin, row) for row in changed]


def about(rows: Sequence[Channel], number: str | None) -> Sequence[Channel]:
    """The channels of an account that a number as its provider shows it means; all of them for None."""
    return rows if number is None else [row for row in rows if _digits(row) == number]


def _digits(row: Channel) -> str:
    shown = str(row.account.get("display_phone_number", ""))
    return "".join(character for character in shown if character.isascii() and character.isdigit())


def _identity(change: AccountChange) -> dict[str, Any]:
    names = ("business_account_id", "number", "provider_id", "discriminator", "provider_time")
    return {name: getattr(change, name) for name in names}


def _tell(row: Channel, change: AccountChange, *, at: datetime) -> bool:
    """Changes the row; whether anything is different now. Webhooks overtake each other."""
    before = told.shown(row)
    told.take(row, change.values, at=at)
    if change.stale:
        # Its own clock may go before ours: what is read now must count as newer.
        told.take(row, {"stale": True}, at=min(at, utc_now()))
    times = dict(row.told)
    if (change.blocks or change.lifts) and told.newest(times, "state", at=at):
        _move(row, change)
        row.health_times = times
    if change.stale or "restrictions" in change.values:
        row.check_subscribes = row.check_subscribes or change.lifts
        told.plan(row, now=utc_now())
    return before != told.shown(row)


def _move(row: Channel, change: AccountChange) -> None:
    """What the account may not do its numbers may not. The queue of a channel that is free again goes on."""
    if change.blocks:
        row.state, row.state_reason = "blocked", change.blocks
    elif row.state == "blocked":
        row.state, row.state_reason = "active", None


async def heard(write: Write, channel_id: uuid.UUID, found: Heard, *, origin: Origin) -> list[NewEvent]:
    """Stores when a message last came, and how long it was under way; an event when the pace is another."""
    row = await write.session.get(Channel, channel_id, with_for_update={"key_share": True})
    if row is None or row.state == "disconnected":
        return []
    before = told.shown(row)
    values = {"last_inbound_time": found.time.isoformat(), "webhook_lag": f"{found.lag.total_seconds():.3f}s"}
    told.take(row, values | ({} if found.pace is None else {"webhook_pace": found.pace}), at=found.time)
    await write.session.flush()
    return [health_changed(origin, row)] if told.shown(row) != before else []
