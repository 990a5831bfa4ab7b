"""Calls the webhooks: signed, several at a time, again and again until the answer is 200; worse when faults say so."""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import structlog

from server.simulator.accounts import Account
from server.simulator.clock import Clock
from server.simulator.config import WebhookPlan
from server.simulator.errors import Json
from server.simulator.faults import DropReceipts, Duplicate, FaultBook, Garbage, Hit, LateRetry, Reorder, Target
from server.simulator.litter import littered
from server.simulator.payloads import encode, sign, sign_legacy

log = structlog.get_logger("simulator.webhooks")

Answered = asyncio.Future[int | None]


class WebhookSender:
    """Delivers bodies at least once, in no particular order, until the process ends or the plan's time is over."""

    def __init__(self, plan: WebhookPlan, clock: Clock, faults: FaultBook) -> None:
        self._plan = plan
        self._clock = clock
        self._faults = faults
        self._places = asyncio.Semaphore(plan.concurrency)
        self._session: aiohttp.ClientSession | None = None
        self._deliveries: set[asyncio.Task[None]] = set()
        self._shuffled: dict[str, list[Callable[[], None]]] = {}

    async def open(self) -> None:
        """Must run in the loop that will send."""
        self._session = aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=self._plan.timeout_ms / 1000),
            headers={"User-Agent": "facebookexternalua", "Accept": "*/*"},
            connector=aiohttp.TCPConnector(limit=self._plan.concurrency),
        )

    async def close(self) -> None:
        """Gives up what is under way; Meta's own retries would outlive us, ours do not."""
        for delivery in self._deliveries:
            delivery.cancel()
        await asyncio.gather(*self._deliveries, return_exceptions=True)
        if self._session is not None:
            await self._session.close()

    def send(self, account: Account, body: Json) -> Answered:
        """Starts a delivery. The future is the HTTP status of the first try, None when no answer came, or none was asked."""
        first: Answered = asyncio.get_running_loop().create_future()
        if not account.subscribed:
            first.set_result(None)
            return first
        if not len(self._faults):
            self._start(account, encode(body), first)
            return first
        target = _target(account, body)
        if self._faults.all(DropReceipts, target):
            first.set_result(None)
            return first
        for garbage in self._faults.all(Garbage, target):
            body = littered(body, garbage.random)
        raw = encode(body)
        for duplicate in self._faults.all(Duplicate, target):
            self._repeat(account, raw, duplicate)
        for late in self._faults.all(LateRetry, target):
            self._clock.call_later(late.fault.after_seconds, lambda: self._start(account, raw))
        shuffle = self._faults.all(Reorder, target)
        if shuffle:
            self._hold(shuffle[0], lambda: self._start(account, raw, first))
        else:
            self._start(account, raw, first)
        return first

    def send_raw(self, account: Account, raw: bytes) -> Answered:
        """Starts a delivery of bytes that may be no webhook at all; faults do not touch it."""
        first: Answered = asyncio.get_running_loop().create_future()
        self._start(account, raw, first)
        return first

    def _repeat(self, account: Account, raw: bytes, duplicate: Hit[Duplicate]) -> None:
        for _ in range(duplicate.fault.times):
            wait = duplicate.random.uniform(0, duplicate.fault.within_ms) / 1000
            self._clock.call_later(wait, lambda: self._start(account, raw))

    def _hold(self, hit: Hit[Reorder], start: Callable[[], None]) -> None:
        """The first that is held opens the window; at its end all start, shuffled."""
        held = self._shuffled.setdefault(hit.id, [])
        held.append(start)
        if len(held) > 1:
            return

        def release() -> None:
            waiting = self._shuffled.pop(hit.id)
            hit.random.shuffle(waiting)
            for each in waiting:
                each()

        self._clock.call_later(hit.fault.window_ms / 1000, release)

    def _start(self, account: Account, raw: bytes, first: Answered | None = None) -> None:
        if first is None:
            first = asyncio.get_running_loop().create_future()
        answered = first
        if len(self._deliveries) >= self._plan.pending_most:
            log.warning("webhook_dropped", phone_number_id=account.config.phone_number_id)
            answered.set_result(None)
            return
        delivery = asyncio.create_task(self._deliver(account, raw, answered))
        self._deliveries.add(delivery)
        delivery.add_done_callback(self._deliveries.discard)
        delivery.add_done_callback(lambda _: None if answered.done() else answered.set_result(None))

    async def _deliver(self, account: Account, raw: bytes, first: Answered) -> None:
        started, tries = self._clock.steady(), 0
        while True:
            status = await self._try(account, raw)
            if not first.done():
                first.set_result(status)
            if status == 200:
                return
            tries += 1
            pause = self._pause(tries)
            fields = {"phone_number_id": account.config.phone_number_id, "status": status, "tries": tries}
            if self._clock.steady() - started + pause > self._plan.give_up_after_seconds:
                log.warning("webhook_given_up", **fields)
                return
            log.info("webhook_refused", **fields, next_try_seconds=pause)
            await self._clock.sleep(pause)

    def _pause(self, tries: int) -> float:
        """Seconds before the next try: none before the second one, then doubling up to the longest."""
        if tries == 1:
            return 0.0
        doubled = self._plan.retry_first_ms << min(tries - 2, 30)
        return min(doubled, self._plan.retry_longest_ms) / 1000

    async def _try(self, account: Account, raw: bytes) -> int | None:
        """One POST with the account's present address and secret. Redirects are answers, and not 200."""
        if self._session is None:
            raise RuntimeError("the webhook sender is not open")
        secret = account.config.app_secret.get_secret_value()
        headers = {
            "Content-Type": "application/json",
            "X-Hub-Signature": sign_legacy(raw, secret),
            "X-Hub-Signature-256": sign(raw, secret),
        }
        try:
            async with (
                self._places,
                self._session.post(
                    account.config.webhook_url, data=raw, headers=headers, allow_redirects=False
                ) as response,
            ):
                await response.content.read(65_536)
                return response.status
        except (aiohttp.ClientError, TimeoutError):
            return None


def _target(account: Account, body: Json) -> Target:
    """What faults ask of a webhook: its number, the addresses in it, its receipts, the path it is sent to."""
    messages, statuses = _items(body, "messages"), _items(body, "statuses")
    fields = [(message.get("from"), message.get("from_user_id")) for message in messages]
    fields += [(status.get("recipient_id"), status.get("recipient_user_id")) for status in statuses]
    return Target(
        phone_number_id=account.config.phone_number_id,
        path=urlsplit(account.config.webhook_url).path,
        recipients=frozenset(address for pair in fields for address in pair if isinstance(address, str)),
        statuses=frozenset(str(status.get("status")) for status in statuses) if statuses else None,
    )


def _items(body: Json, name: str) -> list[Mapping[str, Any]]:
    """The items of an array of the webhook; a value that a test made up may have anything in their place."""
    entries: Iterable[Any] = body["entry"]  # type: ignore[assignment]
    values = [change["value"] for entry in entries for change in entry["changes"]]
    arrays = [value.get(name) for value in values if isinstance(value, dict)]
    return [item for array in arrays if isinstance(array, list) for item in array if isinstance(item, dict)]
