"""Customers who write and agents who answer, without giving up: each operation is repeated until it is acknowledged or refused.

What was asked and what was answered goes to one file, a line for each operation: what, when (t0, t1), result ok, failed (refused)
or unknown (nobody answered in the end), and how often it was tried.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
import uuid
from collections import Counter, deque
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import aiohttp
import grpc
from faults_recorder import Recorder
from switchboard.v1 import message_service_pb2 as messages
from switchboard.v1.message_service_pb2_grpc import MessageServiceStub

from server.simulator.payloads import InboundText, Number, encode, inbound_body, sign

# What a caller has to expect while things die. An answer that is none of these, and not a refusal asked for, is a finding.
EXPECTED_STATUSES = {429, 502, 503, 504}
EXPECTED_CODES = {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.RESOURCE_EXHAUSTED}
CALL_SECONDS = 10.0
ENDS_WITHIN = 90.0
# So many operations wait for their answers at most; while everything stands still, no more are begun.
WAITING_MOST = 1000
RATES: Mapping[str, float] = {
    "webhook": 11.0,
    "send": 6.0,
    "note": 8.0,
    "subject": 8.0,
    "read": 6.0,
    "tag": 2.0,
    "assign": 2.0,
    "status": 2.0,
    "snooze": 1.5,
    "outdated": 0.5,
    "look": 1.0,
}
"""Operations begun each second, by kind. A webhook has one to twelve messages, each of them an operation; a look is none."""
Json = dict[str, Any]


@dataclass(frozen=True)
class Refused(Exception):
    """An answer that repeating does not change."""

    status: int
    reason: str


@dataclass
class Load:
    """The callers of one run. people: phone numbers of those who write; sleepers: of those who wrote once."""

    dev: Json
    rng: random.Random
    people: list[str]
    sleepers: list[str]
    out: Recorder
    conversations: dict[str, str] = field(default_factory=dict)
    """Ids by phone number."""
    acknowledged: Counter[str] = field(default_factory=Counter)
    retries: Counter[str] = field(default_factory=Counter)
    unexpected: Counter[str] = field(default_factory=Counter)
    skipped: int = 0
    _first: dict[str, str] = field(default_factory=dict)
    _newest: deque[tuple[str, str]] = field(default_factory=lambda: deque(maxlen=50))
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)
    _session: Any = None
    _messages: Any = None

    async def __aenter__(self) -> Load:
        self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=CALL_SECONDS))
        self._channel = grpc.aio.insecure_channel(self.dev["url"].removeprefix("http://"))
        self._messages = MessageServiceStub(self._channel)
        return self

    async def __aexit__(self, *_error: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._channel.close()
        await self._session.close()

    async def first(self) -> None:
        """Everybody writes once."""
        await asyncio.gather(*(self._webhook([person]) for person in (*self.people, *self.sleepers)))

    async def run(self, *, seconds: float, rates: Mapping[str, float] = RATES) -> None:
        """Begins operations for so long, and returns when each was acknowledged or refused."""
        until = time.monotonic() + seconds
        await asyncio.gather(*(self._each(kind, rate, until) for kind, rate in rates.items()))
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=ENDS_WITHIN)
        for task in [task for task in self._tasks if not task.done()]:
            self.unexpected["never answered"] += 1
            task.cancel()

    async def _each(self, kind: str, rate: float, until: float) -> None:
        """Begins operations of a kind at a steady pace, whatever becomes of those before."""
        begin: Callable[[], Coroutine[Any, Any, None]] = getattr(self, f"_{kind}")
        due = time.monotonic()
        while due < until:
            if len(self._tasks) < WAITING_MOST:
                task = asyncio.create_task(begin())
                self._tasks.add(task)
                task.add_done_callback(self._ended)
            else:
                self.skipped += 1
            due += 1 / rate
            await asyncio.sleep(max(0.0, due - time.monotonic()))

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.unexpected[f"{type(error).__name__}: {error}"[:200]] += 1

    async def _webhook(self, people: list[str] | None = None) -> None:
        """One webhook, as Meta sends it: again until it is answered 200, and now and then once more."""
        people = people or [self.rng.choice(self.people) for _ in range(self.rng.randint(1, 12))]
        raw, wamids = written(self.dev["channels"][0], people)
        await self.operation("webhook", uuid.uuid4().hex, lambda: self.post_webhook(raw), many=wamids)
        if self.rng.random() < 0.05:
            await self.insist("webhook", lambda: self.post_webhook(raw), Counter())

    async def post_webhook(self, raw: bytes) -> Json:
        """Posts a signed payload."""
        app = self.dev["meta_app"]
        headers = {"X-Hub-Signature-256": sign(raw, app["app_secret"]), "Content-Type": "application/json"}
        return await self._call("POST", app["webhook_path"], headers=headers, data=raw)

    async def _send(self) -> None:
        conversation, request_id = self._somebody(), uuid.uuid4().hex
        by = self._send_rest if self.rng.random() < 0.5 else self._send_grpc
        answer = await self.operation("send", request_id, lambda: by(conversation, request_id), v=conversation)
        if answer:
            self._first.setdefault(conversation, answer["id"])
            self._newest.append((conversation, answer["id"]))

    async def _send_rest(self, conversation: str, request_id: str) -> Json:
        body = {"text": {"body": request_id}, "requestId": request_id}
        return (await self.change("POST", conversation, "messages", body))["message"]

    async def _send_grpc(self, conversation: str, request_id: str) -> Json:
        request = messages.SendMessageRequest(conversation_id=conversation, request_id=request_id)
        request.text.body = request_id
        metadata = (("authorization", f"Bearer {self.dev['tenant_key']}"),)
        answer = await self._messages.SendMessage(request, metadata=metadata, timeout=CALL_SECONDS)
        return {"id": answer.message.id}

    async def _outdated(self) -> None:
        """A reply to what is no longer the newest message: refused, and nothing of it may be stored."""
        if self._first:
            conversation = self.rng.choice(list(self._first))
            request_id = uuid.uuid4().hex
            body = {"text": {"body": "late"}, "requestId": request_id, "lastSeenMessageId": self._first[conversation]}
            await self.operation(
                "outdated", request_id, lambda: self.change("POST", conversation, "messages", body), v=conversation
            )

    async def _note(self) -> None:
        await self._changes("note", "POST", "notes", {"text": uuid.uuid4().hex})

    async def _subject(self) -> None:
        await self._changes("subject", "PATCH", "", {"subject": uuid.uuid4().hex})

    async def _read(self) -> None:
        await self._changes("read", "POST", "mark-read", {})

    async def _tag(self) -> None:
        await self._changes("tag", "POST", "tags", {"tags": [f"tag {self.rng.randrange(50)}"]})

    async def _assign(self) -> None:
        await self._changes("assign", "POST", "assign", {"agentId": self.rng.choice(self.dev["agents"])["id"]})

    async def _status(self) -> None:
        word = self.rng.choice(("OPEN", "PENDING"))
        await self._changes("status", "PATCH", "status", {"status": f"CONVERSATION_STATUS_{word}"})

    async def _snooze(self) -> None:
        """Somebody who does not write, so that it is the timer that wakes the conversation."""
        until = datetime.now(UTC) + timedelta(seconds=self.rng.uniform(2, 6))
        body = {"status": "CONVERSATION_STATUS_SNOOZED", "snoozeUntilTime": until.isoformat()}
        await self._changes("snooze", "PATCH", "status", body, of=self.sleepers)

    async def _look(self) -> None:
        """Whether a send that was acknowledged can be read, through any process."""
        if self._newest:
            conversation, message_id = self._newest[-1]
            t0 = time.monotonic()
            path = f"/v1/conversations/{conversation}/messages?pageSize=100"
            answer = await self.insist("look", lambda: self._call("GET", path, headers=self._key), Counter())
            found = any(message["id"] == message_id for message in answer["messages"])
            self.out.write(k="look", id=message_id, t0=t0, found=found)

    async def _changes(self, kind: str, method: str, edge: str, body: Json, *, of: list[str] | None = None) -> None:
        conversation, request_id = self._somebody(of), uuid.uuid4().hex
        body = {**body, "requestId": request_id}
        await self.operation(kind, request_id, lambda: self.change(method, conversation, edge, body), v=conversation)

    def _somebody(self, of: list[str] | None = None) -> str:
        return self.conversations[self.rng.choice(of or self.people)]

    @property
    def _key(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.dev['tenant_key']}"}

    async def change(self, method: str, conversation: str, edge: str, body: Json) -> Json:
        """Changes a conversation by REST. edge: the path below the conversation's."""
        path = f"/v1/conversations/{conversation}" + (f"/{edge}" if edge else "")
        return await self._call(method, path, headers=self._key, json=body)

    async def operation(
        self, kind: str, op: str, call: Callable[[], Coroutine[Any, Any, Json]], **more: Any
    ) -> Json | None:
        """Repeats a call until its outcome is known, and writes it down; None when it was refused."""
        t0, tries, result = time.monotonic(), Counter[str](), "unknown"
        answer = None
        try:
            answer = await self.insist(kind, call, tries)
            result = "ok"
        except Refused as refused:
            result = "failed"
            more["reason"] = refused.reason
            if (kind, refused.reason) not in REFUSALS:
                self.unexpected[f"{kind} {refused.status} {refused.reason}"] += 1
        finally:
            self.acknowledged[kind] += (result == "ok") * len(more.get("many", "1"))
            if answer and "id" in answer:
                more["id"] = answer["id"]
            times = {"t0": round(t0, 4), "t1": round(time.monotonic(), 4)}
            self.out.write(k=kind, op=op, r=result, n=1 + tries.total(), **times, **more)
        return answer

    async def insist(self, kind: str, call: Callable[[], Coroutine[Any, Any, Json]], tries: Counter[str]) -> Json:
        """Repeats a call until it is answered. Refused."""
        while True:
            try:
                return await call()
            except (aiohttp.ClientError, TimeoutError) as error:
                tries[f"{kind} {type(error).__name__}"] += 1
            except grpc.aio.AioRpcError as error:
                if error.code() not in EXPECTED_CODES:
                    raise
                tries[f"{kind} {error.code().name}"] += 1
            except Unavailable as error:
                tries[f"{kind} {error}"] += 1
            self.retries[kind] += 1
            await asyncio.sleep(self.rng.uniform(0.2, 0.6))

    async def _call(self, method: str, path: str, **more: Any) -> Json:
        async with self._session.request(method, self.dev["url"] + path, **more) as answer:
            raw = await answer.read()
            if answer.status == 200:
                return json.loads(raw) if raw.startswith(b"{") else {}
            if answer.status in EXPECTED_STATUSES:
                raise Unavailable(answer.status)
            raise Refused(answer.status, _reason(raw))


# The refusals that the load asks for: a late reply, a snooze whose time passed while nobody answered.
REFUSALS = {("outdated", "REPLY_OUTDATED"), ("snooze", "INVALID_FIELDS")}


class Unavailable(Exception):
    """Not now."""


def _reason(raw: bytes) -> str:
    try:
        found = json.loads(raw)
        return str(found["details"][0].get("reason", found["message"]))
    except (ValueError, LookupError):
        return raw[:160].decode(errors="replace")


def written(channel: Json, people: list[str]) -> tuple[bytes, list[str]]:
    """A webhook's body in which each of these people writes once, and the wamids."""
    now = int(time.time())
    texts = [InboundText(text=f"hello {uuid.uuid4().hex}", timestamp=now, phone=person) for person in people]
    number = Number(channel["waba_id"], channel["phone_number_id"], "15550001111")
    return encode(inbound_body(number, texts)), [text.wamid for text in texts]
