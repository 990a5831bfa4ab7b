"""The state all handlers share, and the side of the customers: what they write, and the receipts of what they get."""

import asyncio
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from server.simulator import errors
from server.simulator.accounts import Account, AccountBook, Person, SentMessage
from server.simulator.config import SimulatorConfig
from server.simulator.memory import restore, save
from server.simulator.payloads import SERVICE_PRICING, InboundText, Status, inbound_body, statuses_body
from server.simulator.webhooks import WebhookSender

# Meta tells of a closed window about as fast as of a message that was sent.
FAILURE_AFTER_MS = 20


@dataclass(frozen=True, slots=True)
class RequestRecord:
    """One call of the messages endpoint, refused or not; `wamid` of an accepted message."""

    time: datetime
    phone_number_id: str
    body: object
    status: int
    wamid: str | None


class Simulator:
    """Accounts, the receipt plan, the calls seen so far, the webhook sender."""

    def __init__(self, config: SimulatorConfig) -> None:
        self.versions = config.versions
        self.accounts = AccountBook(config.accounts)
        self.receipts = config.receipts
        self.webhooks = WebhookSender(config.webhooks)
        self._state_path = config.state_path
        self.requests: deque[RequestRecord] = deque(maxlen=config.requests_kept)
        self._timers: set[asyncio.TimerHandle] = set()

    async def open(self) -> None:
        """Makes ready to send, and remembers what an earlier process saved."""
        await self.webhooks.open()
        if self._state_path is not None:
            restore(self.accounts, self._state_path)

    async def close(self) -> None:
        """Drops what is planned and under way, and saves what customers wrote."""
        for timer in self._timers:
            timer.cancel()
        await self.webhooks.close()
        if self._state_path is not None:
            save(self.accounts, self._state_path)

    def record(self, *, phone_number_id: str, body: object, status: int, wamid: str | None) -> None:
        """Keeps a call for those who ask the control API; the oldest make room."""
        self.requests.append(RequestRecord(datetime.now(UTC), phone_number_id, body, status, wamid))

    def receive(self, account: Account, messages: Sequence[InboundText]) -> asyncio.Future[int | None]:
        """Customers write: their windows open, the throughput counts them, and one webhook carries all."""
        now = time.monotonic()
        for message in messages:
            person = account.person(phone=message.phone, bsuid=message.bsuid)
            person.name = message.name or person.name
            account.wrote(person, wamid=message.wamid, timestamp=message.timestamp)
            account.throughput.spend(now)
        return self.webhooks.send(account, inbound_body(account.number, messages))

    def send_receipts(self, account: Account, sent: SentMessage) -> None:
        """Plans the receipts of an accepted message as the plan now stands."""
        plan = self.receipts
        if plan is None:
            return
        self._later(plan.sent_ms, account, sent, "sent")
        self._later(plan.delivered_ms, account, sent, "delivered")
        self._later(plan.read_ms, account, sent, "read")

    def send_failure(self, account: Account, sent: SentMessage) -> None:
        """The message was accepted outside the 24-hour window: only a `failed` status tells."""
        self._later(FAILURE_AFTER_MS, account, sent, "failed")

    def _later(self, milliseconds: int | None, account: Account, sent: SentMessage, status: str) -> None:
        if milliseconds is None:
            return

        def fire() -> None:
            self._timers.discard(timer)
            self.webhooks.send(account, statuses_body(account.number, [receipt(sent, status)]))

        timer = asyncio.get_running_loop().call_later(milliseconds / 1000, fire)
        self._timers.add(timer)


def receipt(sent: SentMessage, status: str) -> Status:
    """The receipt of a message, now; `failed` is what a closed window gives."""
    person: Person = sent.person
    failed = status == "failed"
    return Status(
        wamid=sent.wamid,
        status=status,
        timestamp=int(time.time()),
        phone=person.phone,
        bsuid=person.bsuid,
        name=person.name,
        opaque=sent.opaque,
        # With `sent` and with one of `delivered` and `read`: we take `delivered`, which is never left out here.
        pricing=SERVICE_PRICING if status in ("sent", "delivered") else None,
        errors=[errors.status_error(errors.REENGAGEMENT, errors.WINDOW_CLOSED)] if failed else None,
    )
