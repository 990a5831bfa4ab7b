"""A world as a stream would have made it, without a stream."""

from datetime import UTC, datetime

from switchboard_client.switchboard.v1 import (
    Actor,
    ActorKind,
    Contact,
    Conversation,
    ConversationStatus,
    InboxEvent,
    Message,
    MessageCreated,
    MessageDirection,
    MessageReceived,
    MessageStatus,
    MessageStatusUpdated,
    MessageType,
    TextContent,
)
from switchboard_sdk import WatchState

from server.demo.world import World

AGENTS = {"agent-0": "Ana", "agent-1": "Ben"}


class Story:
    """Customers write and agents answer, an event each, and the ledger of those who did it."""

    def __init__(self) -> None:
        self.world = World(AGENTS)
        self.world.enter(WatchState.LIVE)
        self.messages: list[Message] = []
        self.log: list[tuple[int, str]] = []

    def writes(self, customer: str, text: str) -> Message:
        wamid = f"wamid.in.{len(self.messages)}"
        self.world.ledger.written[wamid] = customer
        message = self._message(customer, text, MessageDirection.INBOUND, external_id=wamid)
        conversation = self._conversation(customer, text, unread=1)
        self._happens(
            InboxEvent(message_received=MessageReceived(message=message, conversation=conversation)), customer, None
        )
        return message

    def answers(self, customer: str, text: str) -> Message:
        wamid = f"wamid.out.{len(self.messages)}"
        message = self._message(customer, text, MessageDirection.OUTBOUND, external_id=wamid)
        conversation = self._conversation(customer, text, unread=0)
        conversation.last_message_id = message.id
        ledger = self.world.ledger
        ledger.sent[message.id] = customer
        ledger.accepted[f"part of {message.id}"] = [wamid]
        ledger.order.setdefault(customer, []).append(wamid)
        created = MessageCreated(message=message, conversation=conversation)
        self._happens(InboxEvent(message_created=created), customer, "agent-0")
        update = MessageStatusUpdated(message_id=message.id, conversation_id=customer, status=MessageStatus.DELIVERED)
        self._happens(InboxEvent(message_status_updated=update), customer, None)
        return message

    def _message(self, customer: str, text: str, direction: MessageDirection, *, external_id: str) -> Message:
        number = len(self.messages)
        message = Message(
            id=f"message-{number}",
            conversation_id=customer,
            direction=direction,
            type=MessageType.TEXT,
            status=MessageStatus.SENT,
            arrival=number,
            text=TextContent(body=text),
            external_id=external_id,
        )
        self.messages.append(message)
        return message

    def _conversation(self, customer: str, preview: str, *, unread: int) -> Conversation:
        return Conversation(
            id=customer,
            contact=Contact(id=customer, name=customer),
            status=ConversationStatus.OPEN,
            assignee_id="agent-0",
            unread_count=unread,
            waiting_since=datetime.now(UTC) if unread else None,
            last_message_preview=preview,
        )

    def _happens(self, event: InboxEvent, customer: str, agent: str | None) -> None:
        event.seq = len(self.log) + 1
        event.id = f"event-{event.seq}"
        event.create_time = datetime.now(UTC)
        event.conversation_id = customer
        event.actor = Actor(kind=ActorKind.AGENT, id=agent) if agent else Actor(kind=ActorKind.SYSTEM)
        self.log.append((event.seq, event.id))
        self.world.take(event)
