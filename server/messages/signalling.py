"""What somebody of the tenant lets a customer see without writing: a reaction to a message, and that an answer is being written."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from datetime import datetime, timedelta

import emoji as emojis

from server.channels import service as channels
from server.conversations import repository as conversations
from server.conversations import rules
from server.conversations.row import ConversationRow
from server.deliveries import marks
from server.kit.clock import utc_now
from server.kit.db import Write
from server.kit.errors import FieldViolation, InvalidFields, Refusal
from server.log.append import append
from server.log.event import Origin
from server.messages import changes, repository
from server.messages.refusals import ChannelNotSending
from server.messages.row import MessageRow
from server.providers.contract import MarkKind, Provider
from server.rpc.call import Scope

# Shown for as long, unless the answer comes before (Meta: "Typing indicators").
TYPING = timedelta(seconds=25)
# An indicator that waited for longer says nothing; within it one is enough.
TYPING_WAITS = timedelta(seconds=10)
READ_RECEIPTS = "SELECT read_receipts FROM tenant_settings"
PROVIDER_ID = "SELECT provider_message_id FROM message_parts WHERE message_id = $1 AND position = 0"


class NotReactable(Refusal):
    """A message that takes no reaction."""

    status = "FAILED_PRECONDITION"
    reason = "MESSAGE_NOT_REACTABLE"

    def __init__(self, why: str, text: str) -> None:
        super().__init__(text, metadata={"why": why})


class TypingNotShown(Refusal):
    """A customer who cannot be shown that somebody writes."""

    status = "FAILED_PRECONDITION"
    reason = "TYPING_NOT_SHOWN"

    def __init__(self, why: str, text: str) -> None:
        super().__init__(text, metadata={"why": why})


async def react(
    write: Write, scope: Scope, message_id: uuid.UUID, emoji: str, *, origin: Origin, providers: Mapping[str, Provider]
) -> MessageRow:
    """Puts a reaction on a message, in the place of one of the tenant's that is there; "" takes it away.

    NotFound, InvalidFields, NotReactable, ReplyWindowClosed, ConversationArchived, ContactBlocked, ChannelNotSending.
    """
    if emoji and not emojis.is_emoji(emoji):
        raise InvalidFields(FieldViolation("emoji", "must be one emoji, or empty to take the reaction away"))
    message = await repository.get_visible(write.connection, scope, message_id)
    row = await conversations.lock_visible(write.connection, scope, message.conversation_id)
    await _check(write, row)
    able = providers[row.provider].capabilities
    if "reaction" not in able.marks:
        raise NotReactable("provider", f"channels of {row.provider} take no reactions")
    provider_id = await write.connection.fetchval(PROVIDER_ID, message.id)
    if provider_id is None:
        raise NotReactable("not_sent", "the provider does not have this message")
    if changes.is_deleted(message):
        raise NotReactable("deleted", "the customer took this message back")
    written = message.provider_time or message.create_time
    if able.reaction_age is not None and utc_now() - written > able.reaction_age:
        raise NotReactable("age", f"messages older than {able.reaction_age.days} days take no reactions")
    changed, events = await changes.set_reaction(write, row, message.id, emoji or None, origin=origin)
    if events:
        await _want(write, "reaction", message.id, row, provider_id, emoji=emoji or None)
        await append(write, events)
    return changed


async def typing(
    write: Write, scope: Scope, conversation_id: uuid.UUID, *, providers: Mapping[str, Provider]
) -> datetime | None:
    """Shows that an answer is being written, and with that that all was read. Until when it is shown; None when it was just asked for.

    NotFound, TypingNotShown, ReplyWindowClosed, ConversationArchived, ContactBlocked, ChannelNotSending.
    """
    row = await conversations.lock_visible(write.connection, scope, conversation_id)
    await _check(write, row)
    if "typing" not in providers[row.provider].capabilities.marks:
        raise TypingNotShown("provider", f"channels of {row.provider} show no typing")
    if row.last_inbound_provider_id is None:
        raise TypingNotShown("nothing_written", "the customer has written nothing here")
    if not await write.connection.fetchval(READ_RECEIPTS):
        raise TypingNotShown("read_receipts", "it would show that messages were read, which the tenant does not want")
    wanted = await _want(write, "typing", row.id, row, row.last_inbound_provider_id, lasts=TYPING_WAITS)
    return utc_now() + TYPING if wanted else None


async def _check(write: Write, row: ConversationRow) -> None:
    """As of an answer."""
    rules.check_writable(row)
    rules.check_not_blocked(row)
    idle = await channels.not_sending(write.connection)
    if row.channel_id in idle:
        raise ChannelNotSending(idle[row.channel_id])
    rules.check_window(row, now=utc_now())


async def _want(
    write: Write,
    kind: MarkKind,
    key: uuid.UUID,
    row: ConversationRow,
    provider_message_id: str,
    *,
    emoji: str | None = None,
    lasts: timedelta | None = None,
) -> bool:
    return await marks.want_mark(
        write.connection,
        kind,
        key,
        conversation_id=row.id,
        channel_id=row.channel_id,
        provider_message_id=provider_message_id,
        emoji=emoji,
        lasts=lasts,
    )
