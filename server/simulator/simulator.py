"""The state all handlers share, and the side of the customers: what they write, and the receipts of what they get."""

import asyncio
from collections import deque
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from server.simulator import errors
from server.simulator.accounts import Account, AccountBook, Person, SentMessage
from server.simulator.clock import Clock
from server.simulator.config import SimulatorConfig
from server.simulator.errors import Json
from server.simulator.faults import FaultBook
from server.simulator.media import MediaBook
from server.simulator.memory import Memory
from server.simulator.payloads import SERVICE_PRICING, Inbound, Status, inbound_body, statuses_body
from server.simulator.samples import SILENT
from server.simulator.templates import TemplateBook
from server.simulator.webhooks import WebhookSender

# Meta tells of a closed window about as fast as of a message that was sent.
FAILURE_AFTER_MS = 20
# A response does not wait for ever for the receipts that are to overtake it.
RECEIPTS_FIRST_WITHIN = 5.0


@dataclass(frozen=True, slots=True)
class RequestRecord:
    """One call of the messages endpoint, refused or not, with the ids of the faults that hit it.

    `status` is that of the answer, None where none was sent; `wamid` is there when a message was accepted.
    """

    time: datetime
    phone_number_id: str
    body: object
    status: int | None
    wamid: str | None
    faults: tuple[str, ...]


class Simulator:
    """Accounts, the clock, the faults, the receipt plan, the calls seen so far, the webhook sender."""

    def __init__(self, config: SimulatorConfig) -> None:
        self.versions = config.versions
        self.accounts = AccountBook(config.accounts)
        self.receipts = config.receipts
        self.templates = TemplateBook()
        self.media = MediaBook()
        self.clock = Clock()
        self.faults = FaultBook()
        self.webhooks = WebhookSender(config.webhooks, self.clock, self.faults)
        self.stopping = asyncio.Event()
        self._memory = Memory(config.state_path)
        self.requests: deque[RequestRecord] = deque(maxlen=config.requests_kept)

    async def open(self) -> None:
        """Makes ready to send, and remembers what an earlier process noted."""
        await self.webhooks.open()
        self._memory.open(self.accounts)

    async def close(self) -> None:
        """Drops what is planned and under way."""
        self.clock.close()
        await self.webhooks.close()
        self._memory.close()

    def record(
        self,
        *,
        phone_number_id: str,
        body: object,
        status: int | None = None,
        wamid: str | None = None,
        faults: Sequence[str] = (),
    ) -> None:
        """Keeps a call for those who ask the control API; the oldest make room. Its time is the machine's."""
        self.requests.append(RequestRecord(datetime.now(UTC), phone_number_id, body, status, wamid, tuple(faults)))

    def receive(self, account: Account, messages: Sequence[Inbound]) -> asyncio.Future[int | None]:
        """Customers write: their windows open, the throughput counts them, and one webhook carries all."""
        now = self.clock.steady()
        self.media.receive(account.config.phone_number_id, messages, self.clock.wall())
        for message in messages:
            if message.type in SILENT:
                continue
            person = account.person(phone=message.phone, bsuid=message.bsuid)
            person.name = message.name or person.name
            account.wrote(person, wamid=message.wamid, timestamp=message.timestamp)
            self._memory.note(account, person, message.wamid)
            account.throughput.spend(now)
        return self.webhooks.send(account, inbound_body(account.number, messages))

    async def send_receipts_now(self, account: Account, sent: SentMessage, statuses: Sequence[str]) -> None:
        """Sends receipts one after the other, each when the one before was answered."""
        for status in statuses:
            answered = self.webhooks.send(account, statuses_body(account.number, [self.receipt(sent, status)]))
            await asyncio.wait([answered], timeout=RECEIPTS_FIRST_WITHIN)

    def send_receipts(self, account: Account, sent: SentMessage, *, without: Collection[str] = ()) -> None:
        """Plans the receipts of an accepted message as the plan now stands."""
        plan = self.receipts
        if plan is None:
            return
        for status, milliseconds in (("sent", plan.sent_ms), ("delivered", plan.delivered_ms), ("read", plan.read_ms)):
            if milliseconds is not None and status not in without:
                self._later(milliseconds, account, sent, status)

    def send_failure(self, account: Account, sent: SentMessage, error: Json | None = None) -> None:
        """Only a `failed` status tells what came of an accepted message; without `error`, that its window was closed."""
        self._later(FAILURE_AFTER_MS, account, sent, "failed", error)

    def receipt(self, sent: SentMessage, status: str, error: Json | None = None) -> Status:
        """The receipt of a message, now; `failed` is what a closed window gives, unless `error` is another one."""
        person: Person = sent.person
        closed = errors.status_error(errors.REENGAGEMENT, errors.WINDOW_CLOSED)
        return Status(
            wamid=sent.wamid,
            status=status,
            timestamp=int(self.clock.wall()),
            phone=person.phone,
            bsuid=person.bsuid,
            name=person.name,
            opaque=sent.opaque,
            # With `sent` and with one of `delivered` and `read`: we take `delivered`, which is never left out here.
            pricing=SERVICE_PRICING if status in ("sent", "delivered") else None,
            errors=[error or closed] if status == "failed" else None,
        )

    def _later(
        self, milliseconds: int, account: Account, sent: SentMessage, status: str, error: Json | None = None
    ) -> None:
        def fire() -> None:
            self.webhooks.send(account, statuses_body(account.number, [self.receipt(sent, status, error)]))

        self.clock.call_later(milliseconds / 1000, fire)
