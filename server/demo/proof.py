"""The end of a demo: what was done is held against what the API, the stream and the provider say of it."""

import itertools
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from switchboard_client.switchboard.v1 import (
    InboxEvent,
    ListConversationsRequest,
    ListInboxEventsRequest,
    ListMessagesRequest,
    Message,
    MessageDirection,
    MessageStatus,
    WatchStart,
)
from switchboard_sdk import Client

from server.demo.world import World, first_disorder


@dataclass(frozen=True)
class Proof:
    """The totals. `lost`, `doubled` and `reordered` name what they count and are empty when all is well.

    received: messages of customers the API lists. streamed: those the stream showed. sent: replies the API acknowledged.
    accepted: of these, those that the provider accepted. failed: it refused them for good. unknown: the connection broke at
    the wrong moment, and nobody knows. waiting: still to be sent, which is no end. amiss: episodes that came out otherwise.
    """

    written: int
    received: int
    streamed: int
    sent: int
    accepted: int
    failed: int
    unknown: int
    waiting: int
    events: int
    lost: dict[str, int] = field(default_factory=dict)
    doubled: dict[str, int] = field(default_factory=dict)
    reordered: dict[str, int] = field(default_factory=dict)
    amiss: tuple[str, ...] = ()

    @property
    def holds(self) -> bool:
        """Whether nothing is lost, doubled, out of order or unfinished."""
        return not (self.lost or self.doubled or self.reordered or self.waiting or self.amiss)


async def prove(client: Client, world: World) -> Proof:
    """Reads all conversations, all messages and the whole log through the API, and compares."""
    messages = await _messages(client)
    log = await _log(client, through=world.events[-1][0] if world.events else 0)
    return compare(world, messages, [(event.seq, event.id) for event in log])


def compare(world: World, messages: Sequence[Message], log: Sequence[tuple[int, str]]) -> Proof:
    """What was done and seen, against all messages the API lists and the seq and id of every event of the log."""
    received = Counter(each.external_id or "" for each in messages if each.direction is MessageDirection.INBOUND)
    replies = {each.id: each for each in messages if each.direction is MessageDirection.OUTBOUND}
    accepted = {wamid: ours for ours, wamids in world.ledger.accepted.items() for wamid in wamids}
    outcome = _outcomes(world, replies, accepted)
    ledger = world.ledger
    lost = {
        "messages of customers": sum(1 for wamid in ledger.written if not received[wamid]),
        "messages in the stream": sum(1 for wamid in ledger.written if not world.streamed[wamid]),
        "replies": outcome["missing"],
        "events": len(set(log) - set(world.events)),
    }
    doubled = {
        "messages of customers": sum(count - 1 for count in received.values()),
        "messages in the stream": sum(count - 1 for count in world.streamed.values()),
        "replies at the provider": sum(len(wamids) - 1 for wamids in ledger.accepted.values()),
        "replies that nobody sent": sum(1 for message in replies if message not in ledger.sent),
        "events": len(world.events) - len(set(world.events)),
    }
    reordered = {
        "events": first_disorder(seq for seq, _ in world.events),
        "events in the log": first_disorder(seq for seq, _ in log),
        "replies": _overtaken(world, replies),
    }
    return Proof(
        written=len(ledger.written),
        received=sum(1 for wamid in ledger.written if received[wamid]),
        streamed=sum(1 for wamid in ledger.written if world.streamed[wamid]),
        sent=len(ledger.sent),
        accepted=outcome["accepted"],
        failed=outcome["failed"],
        unknown=outcome["unknown"],
        waiting=outcome["waiting"],
        events=len(world.events),
        lost=_only(lost),
        doubled=_only(doubled),
        reordered=_only(reordered),
        amiss=tuple(name for name, well in ledger.shown.items() if not well),
    )


def _outcomes(world: World, replies: dict[str, Message], accepted: dict[str, str]) -> Counter[str]:
    """What became of each reply the API acknowledged."""
    found: Counter[str] = Counter()
    for message_id in world.ledger.sent:
        reply = replies.get(message_id)
        if reply is None:
            found["missing"] += 1
        elif reply.external_id in accepted:
            found["accepted"] += 1
        elif reply.status is MessageStatus.FAILED:
            found["failed"] += 1
        elif reply.status is MessageStatus.UNKNOWN:
            found["unknown"] += 1
        elif reply.status is MessageStatus.PENDING:
            found["waiting"] += 1
        else:
            found["missing"] += 1
    return found


def _overtaken(world: World, replies: dict[str, Message]) -> int:
    """Replies that the provider accepted after a later one of the same conversation."""
    place = {reply.external_id: (reply.conversation_id, reply.arrival) for reply in replies.values()}
    behind = 0
    for wamids in world.ledger.order.values():
        arrivals = [place[wamid][1] for wamid in wamids if wamid in place]
        behind += sum(1 for before, after in itertools.pairwise(arrivals) if after < before)
    return behind


async def _log(client: Client, *, through: int) -> list[InboxEvent]:
    """The whole log up to a seq."""
    found: list[InboxEvent] = []
    request = ListInboxEventsRequest(start=WatchStart.EARLIEST, page_size=200)
    while not found or found[-1].seq < through:
        page = await client.call(request)
        if not page.events:
            break
        found += page.events
        request = ListInboxEventsRequest(cursor=page.next_cursor, page_size=200)
    return [event for event in found if event.seq <= through]


async def _messages(client: Client) -> list[Message]:
    found: list[Message] = []
    async for page in client.pages(ListConversationsRequest(page_size=200)):
        for conversation in page.conversations:
            async for inner in client.pages(ListMessagesRequest(conversation_id=conversation.id, page_size=200)):
                found += inner.messages
    return found


def _only(counts: dict[str, int]) -> dict[str, int]:
    return {what: count for what, count in counts.items() if count}
