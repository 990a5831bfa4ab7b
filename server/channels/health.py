"""How channels do: what webhooks of their account tell. Works inside the caller's unit of work."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import func, select

from server.channels import told
from server.channels.service import health_changed
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
    if shared is None:
        return []
    query = (
        select(Channel)
        .where(
            Channel.provider == provider,
            func.jsonb_extract_path_text(Channel.details, shared) == change.business_account_id,
            Channel.state != "disconnected",
        )
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
    told.take(row, {**change.values, **({"stale": True} if change.stale else {})}, at=at)
    times = dict(row.told)
    if (change.blocks or change.lifts) and told.newest(times, "state", at=at):
        _move(row, change)
        row.health_times = times
    return before != told.shown(row)


def _move(row: Channel, change: AccountChange) -> None:
    """What the account may not do its numbers may not. The queue of a channel that is free again goes on."""
    if change.blocks:
        row.state, row.state_reason = "blocked", change.blocks
    elif row.state == "blocked":
        row.state, row.state_reason = "active", None
