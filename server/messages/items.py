"""What the batch writer takes: sends of agents and services, and messages of customers."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from dataclasses import dataclass, field

from switchboard.v1 import actor_pb2, message_pb2

from server.channels.service import ChannelRow
from server.contacts.resolve import Person
from server.deliveries.claiming import Lane
from server.kit import tracing
from server.kit.ids import new_id
from server.log.event import Origin
from server.messages import content as contents
from server.messages.row import AttachmentRow, MessageRow
from server.providers.content import Content, Media, QuickReplies
from server.providers.contract import InboundMessage
from server.rpc.call import Scope


@dataclass(frozen=True, slots=True, kw_only=True)
class Send:
    """An answer to send. The ids are made beforehand, so that a run repeated after a lost connection writes nothing twice.

    text: what it says; of a content, its body, None where that has none. content: None for plain text; quick replies
    become what the channel can show. files: rows of the files that the content names, with ids made beforehand.
    more_parts: of the parts beyond the first, their ids and those of their deliveries.
    """

    scope: Scope
    origin: Origin
    conversation_id: uuid.UUID
    text: str | None
    request_id: str | None
    request_hash: bytes
    last_seen_message_id: uuid.UUID | None
    content: Content | QuickReplies | None = None
    reply_to_message_id: uuid.UUID | None = None
    files: tuple[AttachmentRow, ...] = ()
    client_address: str | None = None
    user_agent: str | None = None
    message_id: uuid.UUID = field(default_factory=new_id)
    part_id: uuid.UUID = field(default_factory=new_id)
    delivery_id: uuid.UUID = field(default_factory=new_id)
    traceparent: str | None = field(default_factory=tracing.current)
    more_parts: tuple[tuple[uuid.UUID, uuid.UUID], ...] = field(init=False, default=())

    def __post_init__(self) -> None:
        # After the first part's: what waits goes in the order of the ids.
        more = len(self.content.items) - 1 if isinstance(self.content, Media) else 0
        object.__setattr__(self, "more_parts", tuple((new_id(), new_id()) for _ in range(more)))

    @property
    def is_reply(self) -> bool:
        """Whether somebody answers; messages of campaigns and automation answer nobody."""
        return self.origin.actor.kind in (actor_pb2.ACTOR_KIND_AGENT, actor_pb2.ACTOR_KIND_API_KEY)

    @property
    def lane(self) -> Lane:
        """Where it stands when its channel has more to send than it may. A template of a program is one of many."""
        if self.type != "template":
            return Lane.PERSON
        return Lane.TEMPLATE if self.origin.actor.kind == actor_pb2.ACTOR_KIND_AGENT else Lane.BULK

    @property
    def type(self) -> str:
        """The word of the message's type."""
        return contents.kind_of(self.content)


@dataclass(frozen=True, slots=True, kw_only=True)
class Receive:
    """A message of a customer, from an item of the journal."""

    channel: ChannelRow
    inbound: InboundMessage
    origin: Origin
    journal_id: uuid.UUID
    journal_item_id: uuid.UUID
    parser_version: int
    message_id: uuid.UUID = field(default_factory=new_id)
    part_id: uuid.UUID = field(default_factory=new_id)
    traceparent: str | None = field(default_factory=tracing.current)

    @property
    def person(self) -> Person:
        """Who wrote."""
        return Person(
            channel_id=self.channel.id,
            provider=self.channel.provider,
            addresses=self.inbound.addresses,
            profile_name=self.inbound.profile_name,
            told_time=self.inbound.provider_time,
            username=username if isinstance(username := self.inbound.details.get("username"), str) else None,
        )

    @property
    def provider_key(self) -> tuple[uuid.UUID, str]:
        """What makes it unique."""
        return self.channel.id, self.inbound.provider_id


Item = Send | Receive


def quoted(sends: Iterable[Send]) -> list[uuid.UUID]:
    """The messages that answers quote."""
    return [send.reply_to_message_id for send in sends if send.reply_to_message_id is not None]


@dataclass(frozen=True, slots=True)
class Stored:
    """The message, durable; duplicate when it was there before. shown: as the contract shows it, where the run made that.

    unseen_message_id: what arrived last before an answer whose author had not seen it, where the tenant wants that told.
    """

    message: MessageRow
    duplicate: bool = False
    shown: message_pb2.Message | None = None
    unseen_message_id: uuid.UUID | None = None


@dataclass(frozen=True, slots=True)
class Duplicate:
    """A message of a customer that was there before; nothing changed."""


@dataclass(frozen=True, slots=True)
class Withheld:
    """A message of a blocked contact: the journal keeps it, and nothing else changed."""
