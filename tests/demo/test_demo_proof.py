"""The proof finds whatever is planted in it."""

from collections.abc import Callable
from copy import copy

import pytest
from demo_world import Story
from switchboard_client.switchboard.v1 import MessageStatus

from server.demo.proof import compare


@pytest.fixture
def story() -> Story:
    story = Story()
    for customer in ("Mia", "Tom"):
        story.writes(customer, "one")
        story.answers(customer, "two")
        story.writes(customer, "three")
        story.answers(customer, "four")
    return story


def test_a_story_without_faults_holds(story: Story) -> None:
    proof = compare(story.world, story.messages, story.log)

    assert proof.holds
    assert (proof.written, proof.received, proof.streamed) == (4, 4, 4)
    assert (proof.sent, proof.accepted, proof.failed, proof.unknown) == (4, 4, 0, 0)


def api_loses_a_message(story: Story) -> None:
    story.messages.pop(0)


def api_doubles_a_message(story: Story) -> None:
    story.messages.append(copy(story.messages[0]))


def api_loses_a_reply(story: Story) -> None:
    story.messages.pop(1)


def stream_loses_a_message(story: Story) -> None:
    del story.world.streamed["wamid.in.0"]


def stream_doubles_an_event(story: Story) -> None:
    story.world.events.append(story.world.events[0])


def stream_leaves_out_an_event(story: Story) -> None:
    story.world.events.pop(2)


def stream_swaps_two_events(story: Story) -> None:
    events = story.world.events
    events[2], events[3] = events[3], events[2]


def log_has_a_hole(story: Story) -> None:
    story.log.pop(4)


def provider_accepts_twice(story: Story) -> None:
    next(iter(story.world.ledger.accepted.values())).append("wamid.again")


def provider_never_saw_a_reply_that_was_read(story: Story) -> None:
    story.world.ledger.accepted.popitem()


def provider_gets_replies_in_another_order(story: Story) -> None:
    story.world.ledger.order["Mia"].reverse()


def a_reply_appears_that_nobody_sent(story: Story) -> None:
    story.world.ledger.sent.popitem()


def a_reply_is_never_sent(story: Story) -> None:
    reply = story.messages[-1]
    del story.world.ledger.accepted[f"part of {reply.id}"]
    reply.status, reply.external_id = MessageStatus.PENDING, None


PLANTED = (
    api_loses_a_message, api_doubles_a_message, api_loses_a_reply, stream_loses_a_message, stream_doubles_an_event,
    stream_leaves_out_an_event, stream_swaps_two_events, log_has_a_hole, provider_accepts_twice,
    a_reply_is_never_sent, provider_never_saw_a_reply_that_was_read, provider_gets_replies_in_another_order,
    a_reply_appears_that_nobody_sent,
)  # fmt: skip


@pytest.mark.parametrize("plant", PLANTED, ids=lambda plant: plant.__name__)
def test_what_is_planted_is_found(plant: Callable[[Story], None], story: Story) -> None:
    plant(story)

    assert not compare(story.world, story.messages, story.log).holds


@pytest.mark.parametrize("status", [MessageStatus.FAILED, MessageStatus.UNKNOWN])
def test_a_reply_the_provider_refused_or_nobody_knows_of_is_no_loss_and_is_counted(
    status: MessageStatus, story: Story
) -> None:
    reply = story.messages[-1]
    del story.world.ledger.accepted[f"part of {reply.id}"]
    story.world.ledger.order["Tom"].pop()
    reply.status, reply.external_id = status, None

    proof = compare(story.world, story.messages, story.log)

    assert proof.holds
    assert (proof.accepted, proof.failed + proof.unknown) == (3, 1)
