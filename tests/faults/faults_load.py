"""Customers who write and agents who answer, without giving up: what they were told is remembered, to be checked afterwards."""

from __future__ import annotations

import asyncio
import random
import time
import uuid
from collections import Counter
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import aiohttp
from switchboard_client.switchboard.v1 import SendText
from switchboard_sdk import DeadlineExceededError, SwitchboardError, UnavailableError, connect

from server.simulator.payloads import InboundText, Number, encode, inbound_body, sign

# What a caller has to expect while things die. An answer that is none of these is a finding.
EXPECTED_STATUSES = {429, 502, 503, 504}
CALL = aiohttp.ClientTimeout(total=10)
WRITE_EVERY, SEND_EVERY, NOTE_EVERY = 1 / 22, 1 / 6, 1 / 2


@dataclass
class Load:
    """The callers of one run."""

    dev: dict[str, Any]
    rng: random.Random
    people: list[str]
    conversations: list[str] = field(default_factory=list)
    written: set[str] = field(default_factory=set)
    """wamids of messages that were answered 200."""
    sent: dict[str, set[str]] = field(default_factory=dict)
    """Message ids by request id."""
    noted: dict[str, set[str]] = field(default_factory=dict)
    """Note ids by request id."""
    retries: Counter[str] = field(default_factory=Counter)
    unexpected: Counter[str] = field(default_factory=Counter)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    async def first(self) -> None:
        """Everybody writes once."""
        async with aiohttp.ClientSession(timeout=CALL) as session:
            await asyncio.gather(*(self._write(session, person) for person in self.people))

    async def run(self, *, seconds: float) -> None:
        """Writes, sends and notes for so long, and returns when everything was acknowledged."""
        dev, until = self.dev, time.monotonic() + seconds
        async with (
            aiohttp.ClientSession(timeout=CALL) as session,
            connect(dev["url"], token=dev["tenant_key"], timeout=timedelta(seconds=10)) as client,
        ):
            await asyncio.gather(
                self._each(WRITE_EVERY, until, lambda: self._write(session, self.rng.choice(self.people))),
                self._each(SEND_EVERY, until, lambda: self._send(session, client)),
                self._each(NOTE_EVERY, until, lambda: self._note(session)),
            )
            if self._tasks:
                await asyncio.wait(self._tasks, timeout=60)
            for task in [task for task in self._tasks if not task.done()]:
                self.unexpected["never acknowledged"] += 1
                task.cancel()

    async def _each(self, every: float, until: float, make: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Starts calls at a steady pace, whatever becomes of those before."""
        due = time.monotonic()
        while due < until:
            task = asyncio.create_task(make())
            self._tasks.add(task)
            task.add_done_callback(self._ended)
            due += every
            await asyncio.sleep(max(0.0, due - time.monotonic()))

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.unexpected[f"{type(error).__name__}: {error}"[:200]] += 1

    async def _write(self, session: aiohttp.ClientSession, person: str) -> None:
        """One webhook, as Meta sends it: again until it is answered 200, and now and then once more."""
        now = int(time.time())
        count = self.rng.choice((1, 1, 1, 2))
        messages = [InboundText(text=f"hello {uuid.uuid4().hex}", timestamp=now, phone=person) for _ in range(count)]
        channel, app = self.dev["channels"][0], self.dev["meta_app"]
        raw = encode(inbound_body(Number(channel["waba_id"], channel["phone_number_id"], "15550001111"), messages))
        headers = {"X-Hub-Signature-256": sign(raw, app["app_secret"]), "Content-Type": "application/json"}
        path = app["webhook_path"]
        twice = self.rng.random() < 0.05
        await self._insist(session, "webhook", path, headers, data=raw)
        self.written |= {message.wamid for message in messages}
        if twice:
            await self._insist(session, "webhook", path, headers, data=raw)

    async def _send(self, session: aiohttp.ClientSession, client: Any) -> None:
        conversation_id, request_id = self.rng.choice(self.conversations), uuid.uuid4().hex
        found = self.sent[request_id] = set()
        if self.rng.random() < 0.5:
            path = f"/v1/conversations/{conversation_id}/messages"
            answer = await self._post(session, "send", path, {"text": {"body": request_id}, "requestId": request_id})
            found.add(answer["message"]["id"])
            return
        while True:
            try:
                sent = await client.messages.send_message(
                    conversation_id=conversation_id, text=SendText(body=request_id), request_id=request_id
                )
            except (UnavailableError, DeadlineExceededError) as error:
                self.retries[f"grpc {error.code.name}"] += 1
            except SwitchboardError as error:
                self.unexpected[f"grpc {error}"[:200]] += 1
            else:
                found.add(sent.message.id)
                return
            await asyncio.sleep(0.3)

    async def _note(self, session: aiohttp.ClientSession) -> None:
        conversation_id, request_id = self.rng.choice(self.conversations), uuid.uuid4().hex
        found = self.noted[request_id] = set()
        path = f"/v1/conversations/{conversation_id}/notes"
        answer = await self._post(session, "note", path, {"text": request_id, "requestId": request_id})
        found.add(answer["note"]["id"])

    async def _post(self, session: aiohttp.ClientSession, name: str, path: str, body: dict[str, Any]) -> dict[str, Any]:
        headers = {"Authorization": f"Bearer {self.dev['tenant_key']}"}
        return await self._insist(session, name, path, headers, json=body)

    async def _insist(
        self, session: aiohttp.ClientSession, name: str, path: str, headers: dict[str, str], **body: Any
    ) -> dict[str, Any]:
        """Repeats one request until it is answered 200."""
        while True:
            try:
                async with session.post(self.dev["url"] + path, headers=headers, **body) as answer:
                    if answer.status == 200:
                        raw = await answer.read()
                        return await answer.json() if raw.startswith(b"{") else {}
                    if answer.status in EXPECTED_STATUSES:
                        self.retries[f"{name} {answer.status}"] += 1
                    else:
                        self.unexpected[f"{name} {answer.status}: {(await answer.text())[:160]}"] += 1
            except (aiohttp.ClientError, TimeoutError) as error:
                self.retries[f"{name} {type(error).__name__}"] += 1
            await asyncio.sleep(self.rng.uniform(0.2, 0.6))
