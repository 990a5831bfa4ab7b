"""Calls the webhooks: signed, several at a time, again and again until the answer is 200."""

import asyncio
import time

import aiohttp
import structlog

from server.simulator.accounts import Account
from server.simulator.config import WebhookPlan
from server.simulator.errors import Json
from server.simulator.payloads import encode, sign, sign_legacy

log = structlog.get_logger("simulator.webhooks")


class WebhookSender:
    """Delivers bodies at least once, in no particular order, until the process ends or the plan's time is over."""

    def __init__(self, plan: WebhookPlan) -> None:
        self._plan = plan
        self._places = asyncio.Semaphore(plan.concurrency)
        self._session: aiohttp.ClientSession | None = None
        self._deliveries: set[asyncio.Task[None]] = set()

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

    def send(self, account: Account, body: Json) -> asyncio.Future[int | None]:
        """Starts a delivery. The future is the HTTP status of the first try, None when no answer came."""
        first: asyncio.Future[int | None] = asyncio.get_running_loop().create_future()
        if len(self._deliveries) >= self._plan.pending_most:
            log.warning("webhook_dropped", phone_number_id=account.config.phone_number_id)
            first.set_result(None)
            return first
        delivery = asyncio.create_task(self._deliver(account, encode(body), first))
        self._deliveries.add(delivery)
        delivery.add_done_callback(self._deliveries.discard)
        delivery.add_done_callback(lambda _: None if first.done() else first.set_result(None))
        return first

    async def _deliver(self, account: Account, raw: bytes, first: asyncio.Future[int | None]) -> None:
        started, tries = time.monotonic(), 0
        while True:
            status = await self._try(account, raw)
            if not first.done():
                first.set_result(status)
            if status == 200:
                return
            tries += 1
            pause = self._pause(tries)
            fields = {"phone_number_id": account.config.phone_number_id, "status": status, "tries": tries}
            if time.monotonic() - started + pause > self._plan.give_up_after_seconds:
                log.warning("webhook_given_up", **fields)
                return
            log.info("webhook_refused", **fields, next_try_seconds=pause)
            await asyncio.sleep(pause)

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
