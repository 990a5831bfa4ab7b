"""One callback: where it may go, how it is sent, and what its answer means.

Its id lets the receiver drop what it has already, so what may have arrived is sent again: no outcome is left unknown.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

import aiohttp
from yarl import URL

from server.kit.egress import Egress, Forbidden, NameUnknown
from server.providers.api import signature
from server.providers.api.parse import SENT
from server.providers.contract import Accepted, ErrorClass, NotSent, Outcome, Refused

WHOLE_SECONDS, CONNECT_SECONDS = 20.0, 5.0
# Standard Webhooks' own example of a schedule; after the last one the message has failed.
DELAYS = [timedelta(seconds=each) for each in (5, 300, 1800, 7200, 18_000, 36_000, 50_400, 72_000, 86_400)]
LONGEST_WAIT = timedelta(days=1)
RETRIED = frozenset({408, 425, 429})


def address_of(text: str) -> URL | None:
    """A callback's address: http or https, with a host, without a password. None for what is none."""
    try:
        url = URL(text)
        usable = url.scheme in ("http", "https") and url.host and url.port
    except ValueError:
        return None
    return None if not usable or url.user or url.password or url.fragment else url


class Callbacks:
    """Sends callbacks, each on a connection of its own to an address that was looked at."""

    def __init__(self, egress: Egress) -> None:
        self._egress = egress

    async def post(self, url: URL, body: bytes, *, message_id: str, keys: Sequence[bytes], attempt: int) -> Outcome:
        """POSTs once. Never raises but for cancellation. What it says names neither address nor text."""
        try:
            async with asyncio.timeout(WHOLE_SECONDS):
                return await self._exchange(url, body, message_id=message_id, keys=keys, attempt=attempt)
        except Forbidden as error:
            return Refused(error_class=ErrorClass.PERMANENT, code=error.word, message="The callback may not go there.")
        except NameUnknown:
            return NotSent("name_unknown")
        except aiohttp.ClientSSLError:
            return NotSent("tls")
        except aiohttp.ClientConnectorError:
            return NotSent("connect")
        except TimeoutError:
            return _again("timeout", attempt)
        except (aiohttp.ClientError, OSError):
            return _again("connection_lost", attempt)

    async def _exchange(
        self, url: URL, body: bytes, *, message_id: str, keys: Sequence[bytes], attempt: int
    ) -> Outcome:
        pinned = await self._egress.pin(url.scheme, url.raw_host or "", url.port or 0)
        signed = signature.headers(keys, message_id=message_id, seconds=int(time.time()), body=body)
        timeout = aiohttp.ClientTimeout(total=WHOLE_SECONDS, sock_connect=CONNECT_SECONDS)
        async with aiohttp.ClientSession(
            connector=pinned.connector(), timeout=timeout, cookie_jar=aiohttp.DummyCookieJar(), trust_env=False
        ) as session:
            headers = {**signed, "Content-Type": "application/json", "User-Agent": "Switchboard"}
            async with session.post(url, data=body, headers=headers, allow_redirects=False) as response:
                return outcome(response.status, response.headers.get("Retry-After"), message_id, attempt=attempt)


def outcome(status: int, retry_after: str | None, message_id: str, *, attempt: int) -> Outcome:
    """What an answer means. Its body says nothing to us, and is not read."""
    if 200 <= status < 300:
        return Accepted(provider_id=SENT + message_id)
    if status in RETRIED or status >= 500:
        return _again(f"http_{status}", attempt, asked=_wait(retry_after, now=datetime.now(UTC)))
    return Refused(
        error_class=ErrorClass.PERMANENT, code=f"http_{status}", message=f"The callback was answered with {status}."
    )


def _again(code: str, attempt: int, *, asked: timedelta | None = None) -> Refused:
    if attempt > len(DELAYS):
        return Refused(error_class=ErrorClass.PERMANENT, code=code, message="The callback failed to the last attempt.")
    delay = max(DELAYS[attempt - 1], asked or timedelta(0))
    return Refused(error_class=ErrorClass.RETRY, code=code, message="The callback failed.", retry_after=delay)


def _wait(header: str | None, *, now: datetime) -> timedelta | None:
    """What Retry-After asks for, seconds or a date (RFC 9110, 10.2.3); at most a day, None for what is neither."""
    if header is None:
        return None
    if header.isascii() and header.isdigit():
        return min(timedelta(seconds=int(header[:9])), LONGEST_WAIT)
    try:
        date = parsedate_to_datetime(header)
    except ValueError:
        return None
    date = date if date.tzinfo else date.replace(tzinfo=UTC)
    return min(max(date - now, timedelta(0)), LONGEST_WAIT)
