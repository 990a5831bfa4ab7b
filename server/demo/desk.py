"""The agents: each a program that uses the public API through the Python client, as any bot would."""

import asyncio
import random
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from switchboard_client.switchboard.v1 import ConversationStatus, EventType, InboxEvent, SendText, WatchStart
from switchboard_sdk import Client, ResourceExhaustedError, SwitchboardError, UnavailableError, connect
from switchboard_sdk.errors import DeadlineExceededError

from server.demo import phrases
from server.demo.cast import Span
from server.demo.stage import Agent, Stage
from server.demo.world import Ledger

PATIENCE = timedelta(seconds=5)
"""Of one call; after that it is made again, with the same request id."""
WORTH_REPEATING = (UnavailableError, ResourceExhaustedError, DeadlineExceededError)


@dataclass(frozen=True)
class Manner:
    """How an agent works: how long she thinks, and what she adds to what she says."""

    thinks: Span
    greeting: str = ""
    tag: str = ""


MANNERS = (
    Manner(thinks=(0.6, 1.6)),
    Manner(thinks=(1.5, 3.5), greeting="😊 ", tag="friendly"),
    Manner(thinks=(2.5, 5.0), tag="thorough"),
)


async def agree_on_tags(client: Client) -> None:
    """Creates the tags that the agents use, which may not add to the vocabulary themselves. Doing it again changes nothing."""
    for manner in MANNERS:
        if manner.tag:
            await client.tags.create_tag(name=manner.tag, request_id=f"demo {manner.tag}")


class Desk:
    """One agent at work. The first one sees everything, and hands out conversations by their ids."""

    def __init__(self, stage: Stage, place: int, ledger: Ledger, *, seed: int, speed: float) -> None:
        self._agents = stage.agents()
        self._hands_out = place == 0
        self._agent: Agent = self._agents[place]
        self._manner = MANNERS[place % len(MANNERS)]
        self._ledger = ledger
        self._rng = random.Random(f"{seed}/{self._agent.name}")
        self._speed = speed
        self._client: Client = connect(stage.url, token=lambda: stage.token(self._agent), timeout=PATIENCE)
        self._waiting: dict[str, list[str]] = {}
        self._assigned: set[str] = set()

    @property
    def busy(self) -> bool:
        """Whether somebody waits for an answer."""
        return any(self._waiting.values())

    async def work(self) -> None:
        """Answers whoever writes, until cancelled."""
        types = [EventType.MESSAGE_RECEIVED, EventType.CONVERSATION_ASSIGNED]
        async with self._client, asyncio.TaskGroup() as tasks:
            async for event in self._client.watch(event_types=types, start=WatchStart.EARLIEST):
                self._see(event, tasks)

    def _see(self, event: InboxEvent, tasks: asyncio.TaskGroup) -> None:
        received, assigned = event.message_received, event.conversation_assigned
        body = received or assigned
        conversation = body.conversation if body is not None else None
        if conversation is None:
            return
        if self._hands_out and not conversation.assignee_id and conversation.id not in self._assigned:
            self._assigned.add(conversation.id)
            tasks.create_task(self._hand_out(conversation.id))
        if conversation.assignee_id != self._agent.id:
            return
        # What was written before a conversation became hers, she knows by its last line.
        message = received.message if received is not None else None
        text = message.text.body if message is not None and message.text else conversation.last_message_preview
        waiting = self._waiting.setdefault(conversation.id, [])
        waiting.append(text)
        if len(waiting) == 1:
            tasks.create_task(self._attend(conversation.id, first=assigned is not None))

    async def _hand_out(self, conversation: str) -> None:
        agent = self._agents[uuid.UUID(conversation).int % len(self._agents)]
        await self._insist(
            lambda request: self._client.assignments.assign_conversation(
                conversation_id=conversation, agent_id=agent.id, request_id=request
            )
        )

    async def _attend(self, conversation: str, *, first: bool) -> None:
        """Reads all that was written, answers the last line, and looks again whether more came meanwhile."""
        waiting = self._waiting[conversation]
        if first and self._manner.tag:
            await self._insist(
                lambda request: self._client.conversations.add_conversation_tags(
                    conversation_id=conversation, tags=[self._manner.tag], request_id=request
                )
            )
        while waiting:
            await asyncio.sleep(self._rng.uniform(*self._manner.thinks) / self._speed)
            await self._insist(
                lambda request: self._client.conversations.mark_conversation_read(
                    conversation_id=conversation, request_id=request
                )
            )
            text, seen = waiting[-1], len(waiting)
            await self._reply(conversation, text)
            if phrases.is_farewell(text) and len(waiting) == seen:
                await self._resolve(conversation)
            del waiting[:seen]

    async def _reply(self, conversation: str, text: str) -> None:
        body = SendText(body=self._manner.greeting + phrases.answer_to(text))
        answer = await self._insist(
            lambda request: self._client.messages.send_message(
                conversation_id=conversation, text=body, request_id=request
            )
        )
        if answer is not None:
            self._ledger.sent[answer.message.id] = conversation

    async def _resolve(self, conversation: str) -> None:
        await self._insist(
            lambda request: self._client.conversations.update_conversation_status(
                conversation_id=conversation, status=ConversationStatus.RESOLVED, request_id=request
            )
        )

    async def _insist(self, call: Callable[[str], Awaitable[Any]]) -> Any:
        """Calls, with one request id, until there is an answer; None when the API refuses."""
        request = str(uuid.uuid4())
        while True:
            try:
                return await call(request)
            except WORTH_REPEATING as error:
                self._ledger.repeated += 1
                await asyncio.sleep((error.retry_after or timedelta(seconds=0.3)).total_seconds())
            except SwitchboardError as error:
                self._ledger.refused[error.reason] += 1
                return None
