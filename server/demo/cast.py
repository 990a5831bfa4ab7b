"""The customers: who writes what and when, whose phone is off, who reads and says nothing."""

import asyncio
import contextlib
import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from server.demo import phrases
from server.demo.phrases import Dialogue
from server.demo.world import Ledger
from server.simulator.wamid import new_wamid

HOURS_AGO = 5
PHONES_LOOK_EVERY = 0.2
NAG_AFTER = 20.0
GUESTS = 8
Span = tuple[float, float]


@dataclass(frozen=True)
class Persona:
    """How a customer is. Times are seconds at speed 1, each between two bounds.

    burst: how many lines are written at once. delivered, read: after what time the phone says so, None: never read.
    early: wrote hours ago and answers only now. returns: begins another dialogue when one is over.
    """

    name: str
    dialogues: tuple[Dialogue, ...]
    thinks: Span = (2.0, 6.0)
    burst: int = 1
    delivered: Span = (0.2, 0.8)
    read: Span | None = (0.8, 2.5)
    early: bool = False
    returns: bool = True


PERSONAS = (
    Persona("ordinary", phrases.ORDINARY),
    Persona("impatient", phrases.IMPATIENT, thinks=(0.5, 1.5), burst=3),
    Persona("answers hours later", phrases.MORNING, early=True),
    Persona("only reads", phrases.READER, returns=False),
    Persona("phone is off", phrases.ORDINARY, delivered=(8.0, 14.0), read=(1.0, 2.0)),
    Persona("many languages", phrases.POLYGLOT),
)


class Phones:
    """The control API of the simulator: what customers write goes in, what was sent to them comes out."""

    def __init__(self, session: aiohttp.ClientSession, url: str, phone_number_id: str, ledger: Ledger) -> None:
        self._session = session
        self._control = f"{url}/_control"
        self.number = phone_number_id
        self._ledger = ledger
        self._since = ""
        self._writing: set[asyncio.Task[Any]] = set()

    async def write(self, customer: "Customer", text: str) -> None:
        """One message, until the simulator has it; the same id makes a repeat harmless."""
        await self.send(customer, written=True, text=text)

    async def send(self, customer: "Customer", *, written: bool = False, **content: Any) -> str:
        """Anything a phone sends, as the control API takes it; its id. written: whether it is a message."""
        wamid = new_wamid(peer=customer.phone, direction="inbound")
        if written:
            self._ledger.written[wamid] = customer.phone
        body = {"phoneNumberId": self.number, "from": customer.phone, "name": customer.name, **content}
        # Who falls silent in the middle of a message has sent it all the same.
        writing = asyncio.create_task(self.call("POST", "inbound", {**body, "wamid": wamid}))
        self._writing.add(writing)
        writing.add_done_callback(self._writing.discard)
        await asyncio.shield(writing)
        return wamid

    async def finish(self) -> None:
        """Waits for the messages that are being written."""
        await asyncio.gather(*self._writing)

    async def receipt(self, wamid: str, status: str) -> None:
        """The phone says that a message came, or was read."""
        await self.call("POST", "statuses", {"phoneNumberId": self.number, "wamid": wamid, "status": status})

    async def accepted(self) -> list[Mapping[str, Any]]:
        """The messages the provider accepted since the last look, oldest first."""
        found = await self.call("GET", f"requests?since={self._since}" if self._since else "requests")
        requests: list[Mapping[str, Any]] = found["requests"]
        if requests:
            self._since = str(requests[-1]["time"])
        return [each for each in requests if each["wamid"] is not None]

    async def call(self, method: str, path: str, body: object = None) -> Any:
        """A control call, again and again while nobody answers."""
        while True:
            try:
                async with self._session.request(method, f"{self._control}/{path}", json=body) as answer:
                    answer.raise_for_status()
                    return await answer.json()
            except aiohttp.ClientConnectionError:
                await asyncio.sleep(0.2)


@dataclass
class Customer:
    """A person at a phone."""

    name: str
    phone: str
    persona: Persona
    rng: random.Random
    speed: float
    heard: asyncio.Queue[str] = field(default_factory=asyncio.Queue)

    async def pause(self, span: Span) -> None:
        """Some time within the span."""
        await asyncio.sleep(self.rng.uniform(*span) / self.speed)

    async def live(self, phones: Phones) -> None:
        """Writes, waits for the answer, goes on, begins anew; until cancelled."""
        if not self.persona.early:
            await self.pause((0.0, 6.0))
        while True:
            await self._talk(phones, self.rng.choice(self.persona.dialogues))
            while not self.persona.returns:
                await self.heard.get()
            await self.pause((4.0, 12.0))

    async def _talk(self, phones: Phones, dialogue: Dialogue) -> None:
        lines = [line for line, _ in dialogue.turns]
        # An early one has written already, in the morning, and waits for the answer.
        at = 1 if self.persona.early else 0
        if self.persona.early:
            await self._wait(phones)
        while at < len(lines):
            for line in lines[at : at + self.persona.burst]:
                await phones.write(self, line)
                await self.pause((0.1, 0.4))
            at += self.persona.burst
            await self._wait(phones)
            await self.pause(self.persona.thinks)

    async def _wait(self, phones: Phones) -> None:
        """Until something comes; one who waits too long asks again, once."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(NAG_AFTER / self.speed):
                await self.heard.get()
                return
        await phones.write(self, phrases.NAG[0])
        await self.heard.get()

    async def receive(self, phones: Phones, wamid: str, text: str) -> None:
        """A message arrives at the phone, is shown, and is read, if this person reads."""
        await self.pause(self.persona.delivered)
        await phones.receipt(wamid, "delivered")
        if self.persona.read is not None:
            await self.pause(self.persona.read)
            await phones.receipt(wamid, "read")
        self.heard.put_nowait(text)


class Cast:
    """All customers and their phones."""

    def __init__(self, phones: Phones, ledger: Ledger, *, customers: int, seed: int, speed: float) -> None:
        self._phones = phones
        self._ledger = ledger
        self._speed = speed
        rng = random.Random(seed)
        # The numbers are those set aside for films and books.
        people = [
            Customer(
                phrases.name_of(number),
                f"1202555{100 + number:04}",
                PERSONAS[number % len(PERSONAS)],
                random.Random(rng.random()),
                speed,
            )
            for number in range(customers + GUESTS)
        ]
        # Guests live by nothing but the episode they are in.
        self.customers, self.guests = people[:customers], people[customers:]
        self._by_phone = {customer.phone: customer for customer in self.customers}

    async def write_early(self) -> None:
        """Those who wrote hours ago write then, by the simulator's clock, which is right again afterwards."""
        await self._phones.call("POST", "clock", {"offset": -HOURS_AGO * 3600})
        for customer in self.customers:
            if customer.persona.early:
                await self._phones.write(customer, customer.persona.dialogues[0].turns[0][0])
        await self._phones.call("POST", "clock", {"advance": HOURS_AGO * 3600})

    async def live(self) -> None:
        """Everybody writes and answers, until cancelled."""
        async with asyncio.TaskGroup() as people:
            for customer in self.customers:
                people.create_task(customer.live(self._phones))

    async def look_at_phones(self) -> None:
        """Everything that was sent arrives, until cancelled."""
        async with asyncio.TaskGroup() as arrivals:
            while True:
                for request in await self._phones.accepted():
                    self._note(request)
                    customer = self._by_phone.get(str(request["body"].get("to", "")).removeprefix("+"))
                    if customer is not None:
                        text = str(request["body"]["text"]["body"])
                        arrivals.create_task(customer.receive(self._phones, request["wamid"], text))
                await asyncio.sleep(PHONES_LOOK_EVERY)

    def _note(self, request: Mapping[str, Any]) -> None:
        body, wamid = request["body"], str(request["wamid"])
        self._ledger.accepted.setdefault(str(body.get("biz_opaque_callback_data")), []).append(wamid)
        self._ledger.order.setdefault(str(body.get("to") or body.get("recipient")), []).append(wamid)
