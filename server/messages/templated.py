"""A template as the content of a message: which one, whether it may go, and what the customer reads."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from switchboard.v1 import message_service_pb2

from server.contacts import consents
from server.conversations import repository as conversations
from server.deliveries import service as deliveries
from server.deliveries.claiming import Claimed
from server.kit.db import Connection
from server.kit.errors import NotFound, Refusal
from server.providers.content import FilledButton, FilledTemplate
from server.providers.contract import Capabilities, ErrorClass, Refused
from server.rpc.call import Scope
from server.templates import convert, filling, service
from server.templates.refusals import ChannelWithoutTemplates
from server.templates.row import TemplateRow
from server.templates.service import Owner

PATH = "template.filling"
NAMED_MOST = 10
MARKETING = "MARKETING"
# States that a template comes out of.
PASSING = frozenset({"PAUSED", "PENDING", "IN_APPEAL"})
# When a template that waits is looked at again, should nobody tell that it may be sent.
AGAIN = timedelta(hours=3)
# The account that the channel of a conversation belongs to, and its templates.
CHANNEL = "SELECT provider, details FROM channels WHERE id = $1"


class TemplateNotSendable(Refusal):
    """The provider would refuse it now."""

    status = "FAILED_PRECONDITION"
    reason = "TEMPLATE_NOT_SENDABLE"

    def __init__(self, row: TemplateRow) -> None:
        state = "GONE" if row.gone_time is not None else row.status
        text = f"the template is {state} at the provider; only APPROVED ones can be sent"
        super().__init__(text, metadata={"template_id": str(row.id), "status": state})


class MarketingOptedOut(Refusal):
    """The customer does not want it."""

    status = "FAILED_PRECONDITION"
    reason = "MARKETING_OPTED_OUT"

    def __init__(self, row: TemplateRow) -> None:
        text = "the customer wants no marketing messages"
        super().__init__(text, metadata={"template_id": str(row.id), "category": row.category})


async def filled(
    connection: Connection,
    scope: Scope,
    conversation_id: uuid.UUID,
    asked: message_service_pb2.SendTemplate,
    capabilities: Any,
) -> FilledTemplate:
    """What to send. capabilities: by provider. NotFound, ChannelWithoutTemplates, TemplateNotSendable, MarketingOptedOut,
    InvalidFields."""
    of, identity_id = await _owner(connection, scope, conversation_id, capabilities)
    if asked.WhichOneof("template") == "template_id":
        row = await service.get(connection, of=of, template_id=uuid.UUID(asked.template_id))
    else:
        row = await service.named(connection, of=of, name=asked.key.name, language=asked.key.language)
    if not row.sendable:
        raise TemplateNotSendable(row)
    # By what it is now: the provider may have moved it there since.
    if row.category == MARKETING and await consents.stopped(connection, [identity_id]):
        raise MarketingOptedOut(row)
    given = convert.filling(asked.filling, path=PATH)
    made = filling.render(row, given, path=PATH)
    return FilledTemplate(
        body=made.body,
        template_id=str(row.id),
        name=row.name,
        language=row.language,
        category=row.category,
        filling=given,
        header=made.header or None,
        footer=made.footer or None,
        buttons=tuple(
            FilledButton(**{name: each.get(name, "") for name in FilledButton.__slots__}) for each in made.buttons
        ),
    )


@dataclass(frozen=True, slots=True)
class Held:
    """The provider would refuse a template now, and may take it later; nothing was sent."""

    template_id: uuid.UUID
    status: str


async def held_or_refused(
    connection: Connection, template_id: uuid.UUID, identity_id: uuid.UUID
) -> Held | Refused | None:
    """What keeps a queued template from being sent by now: what became of it, or of the customer's consent, since it was queued."""
    row = await service.present(connection, template_id)
    status = "GONE" if row is None or row.gone_time is not None else row.status
    if status in PASSING:
        return Held(template_id, status)
    if row is None or not row.sendable:
        text = f"the template is {status} at the provider"
        return Refused(error_class=ErrorClass.PERMANENT, code="template_not_sendable", message=text)
    if row.category == MARKETING and await consents.stopped(connection, [identity_id]):
        text = "the customer wants no marketing messages"
        return Refused(error_class=ErrorClass.PERMANENT, code="marketing_opted_out", message=text)
    return None


async def hold(connection: Connection, claimed: Claimed, held: Held) -> None:
    """Has a delivery, whose conversation is locked, wait until its template may be sent, at most for AGAIN; no attempt is spent."""
    await deliveries.again(
        connection,
        claimed,
        after=AGAIN,
        code="template_held",
        message=f"the template is {held.status} at the provider",
        counts=False,
        awaited_template_id=held.template_id,
        aside=True,
    )


async def usable(
    connection: Connection, scope: Scope, conversation_id: uuid.UUID, capabilities: Any
) -> list[TemplateRow]:
    """Some templates that may be sent into a conversation now, by name; none where its channel has none."""
    try:
        of, identity_id = await _owner(connection, scope, conversation_id, capabilities)
    except ChannelWithoutTemplates:
        return []
    rows = await service.page(connection, of=of, sendable=True, after=None, limit=NAMED_MOST)
    opted_out = bool(await consents.stopped(connection, [identity_id]))
    return [row for row in rows if not (opted_out and row.category == MARKETING)]


async def _owner(
    connection: Connection, scope: Scope, conversation_id: uuid.UUID, capabilities: Any
) -> tuple[Owner, uuid.UUID]:
    row, _ = await conversations.get_visible(connection, scope, conversation_id)
    channel = await connection.fetchrow(CHANNEL, row.channel_id)
    if channel is None:
        raise NotFound("conversation")
    can: Capabilities = capabilities(channel["provider"])
    account_id = service.account_of(can, channel["details"])
    if account_id is None:
        raise ChannelWithoutTemplates(channel["provider"])
    return Owner(provider=channel["provider"], business_account_id=account_id), row.identity_id
