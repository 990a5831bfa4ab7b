"""What goes on beneath a watch: streams are opened, understood, given up and opened anew."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import enum
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from datetime import timedelta

from switchboard_client.switchboard.v1 import (
    End,
    EndReason,
    InboxEvent,
    ScopeChanged,
    WatchInboxRequest,
    WatchInboxResponse,
)

from switchboard_sdk.connection import pause_before
from switchboard_sdk.errors import (
    FailedPreconditionError,
    InvalidArgumentError,
    NotFoundError,
    OutOfRangeError,
    PermissionDeniedError,
    SwitchboardError,
    UnauthenticatedError,
    UnimplementedError,
    error_from_end,
    unavailable,
)


class WatchState(enum.Enum):
    """What a line in a user interface would say."""

    OFFLINE = "offline"
    CATCHING_UP = "catching up"
    LIVE = "live"


# Called with each new state; with OFFLINE comes why.
OnState = Callable[[WatchState, SwitchboardError | None], None]
OnScopeChanged = Callable[[ScopeChanged], None]
OpenInbox = Callable[[WatchInboxRequest], AsyncGenerator[WatchInboxResponse, None]]

_REFUSALS = (
    InvalidArgumentError,
    UnauthenticatedError,
    PermissionDeniedError,
    NotFoundError,
    FailedPreconditionError,
    OutOfRangeError,
    UnimplementedError,
)
# Silence of this many announced bookmark intervals means a dead stream, whatever the transport believes.
_PATIENCE = 2.5
_DEFAULT_INTERVAL = timedelta(seconds=10)
# A renewed token that is refused as expired this often in a row is not renewed at all.
_EXPIRIES_TOLERATED = 2


class _InterruptedError(Exception):
    """This stream is over, the watch is not. `pause` is what the server asked for; a planned end needs no backoff."""

    def __init__(self, error: SwitchboardError, *, pause: timedelta | None = None, planned: bool = False) -> None:
        super().__init__(error)
        self.error = error
        self.pause = pause or timedelta()
        self.planned = planned


class _StoppedError(Exception):
    """`stop()` was called while somebody waited for the next event."""


class Follower:
    """Follows the log: where it stands, and how it goes on from there. `Watch` is its public face.

    The two are apart so that nothing here refers to the watch: a watch that nobody holds any more ends its stream.
    """

    def __init__(
        self,
        open_inbox: OpenInbox,
        request: WatchInboxRequest,
        *,
        renews_token: bool,
        on_state: OnState | None,
        on_scope_changed: OnScopeChanged | None,
    ) -> None:
        self.cursor = request.cursor
        self.state = WatchState.OFFLINE
        self.head = 0
        self._open_inbox = open_inbox
        self._request = request
        self._renews_token = renews_token
        self._on_state = on_state
        self._on_scope_changed = on_scope_changed
        self._last_seq = 0
        self._attempt = 0
        self._expiries = 0
        self._silence = _PATIENCE * (request.bookmark_interval or _DEFAULT_INTERVAL)
        self._stopped = asyncio.Event()
        self._timer: asyncio.Timeout | None = None

    def stop(self) -> None:
        """Cuts the present wait short, whatever it waits for; `run` ends by itself."""
        self._stopped.set()
        if self._timer is not None:
            self._timer.reschedule(asyncio.get_running_loop().time())

    async def run(self) -> AsyncGenerator[InboxEvent, None]:
        """New events, until stopped or refused."""
        while not self._stopped.is_set():
            try:
                async with aclosing(self._stream()) as events:
                    async for event in events:
                        yield event
            except _InterruptedError as interruption:
                self._enter(WatchState.OFFLINE, interruption.error)
                await self._wait(interruption)
            except _StoppedError:
                return

    async def _stream(self) -> AsyncGenerator[InboxEvent, None]:
        """The new events of one stream. Never ends by itself: raises _InterruptedError, or the refusal."""
        request = copy.copy(self._request)
        request.cursor = self.cursor
        async with aclosing(self._open_inbox(request)) as items:
            while True:
                item = await self._next(items)
                for event in item.events:
                    if self._advance(event):
                        yield event
                self._obey(item)

    async def _next(self, items: AsyncGenerator[WatchInboxResponse, None]) -> WatchInboxResponse:
        if self._stopped.is_set():
            raise _StoppedError
        try:
            async with asyncio.timeout(self._silence.total_seconds()) as self._timer:
                return await anext(items)
        except TimeoutError:
            if self._stopped.is_set():
                raise _StoppedError from None
            message = f"no sign of life for {self._silence.total_seconds():g} s"
            raise _InterruptedError(unavailable(message)) from None
        except StopAsyncIteration:
            raise _InterruptedError(unavailable("the stream ended without saying why")) from None
        except SwitchboardError as error:
            self._raise_if_refused(error)
            raise _InterruptedError(error, pause=error.retry_after) from error
        finally:
            self._timer = None

    def _advance(self, event: InboxEvent) -> bool:
        """Moves to an event; False for one that was handed out before, which a resumed stream may repeat."""
        self._settle()
        if event.seq <= self._last_seq:
            return False
        self._last_seq = event.seq
        self.cursor = event.cursor or self.cursor
        self.head = max(self.head, event.seq)
        return True

    def _settle(self) -> None:
        """The stream works: the next failure starts the backoff anew."""
        self._attempt = 0
        self._expiries = 0

    def _obey(self, item: WatchInboxResponse) -> None:
        """Acts on the control of an item. A control this version does not know has no effect, as the contract asks."""
        if item.hello is not None:
            if item.hello.bookmark_interval:
                self._silence = _PATIENCE * item.hello.bookmark_interval
            self._move(item.hello.cursor, head=item.hello.head)
            self._enter(WatchState.CATCHING_UP)
        elif item.bookmark is not None:
            self._settle()
            self._move(item.bookmark.cursor, head=item.bookmark.head)
        elif item.caught_up is not None:
            self._move(item.caught_up.cursor, head=item.caught_up.head)
            self._enter(WatchState.LIVE)
        elif item.scope_changed is not None:
            self._move(item.scope_changed.cursor)
            if self._on_scope_changed:
                self._on_scope_changed(item.scope_changed)
        else:
            self._obey_last_words(item)

    def _obey_last_words(self, item: WatchInboxResponse) -> None:
        """Leaves the stream when the server ends it, or is about to."""
        if item.end is not None:
            self._move(item.end.cursor)
            self._leave(item.end)
        elif item.goodbye is not None:
            self._move(item.goodbye.cursor)
            error = error_from_end(End(reason=item.goodbye.reason))
            raise _InterruptedError(error, pause=item.goodbye.reconnect_after, planned=True)
        elif item.reauth_required is not None:
            self._move(item.reauth_required.cursor)
            if self._renews_token:
                error = error_from_end(End(reason=EndReason.CREDENTIAL_EXPIRED))
                raise _InterruptedError(error, planned=True)

    def _leave(self, end: End) -> None:
        error = error_from_end(end)
        self._raise_if_refused(error)
        if not end.cursor and not self.cursor:
            raise error
        planned = end.reason in (EndReason.DRAIN, EndReason.LIFETIME)
        raise _InterruptedError(error, pause=end.retry_after, planned=planned)

    def _raise_if_refused(self, error: SwitchboardError) -> None:
        if self._renews_token and error.reason == "CREDENTIAL_EXPIRED" and self._expiries < _EXPIRIES_TOLERATED:
            self._expiries += 1
        elif isinstance(error, _REFUSALS):
            self._enter(WatchState.OFFLINE, error)
            raise error

    def _move(self, cursor: str, *, head: int = 0) -> None:
        self.cursor = cursor or self.cursor
        self.head = max(self.head, head)

    def _enter(self, state: WatchState, error: SwitchboardError | None = None) -> None:
        if state is not self.state or error is not None:
            self.state = state
            if self._on_state:
                self._on_state(state, error)

    async def _wait(self, interruption: _InterruptedError) -> None:
        """What the server asked for and at least our own backoff; none after a planned end of a stream that worked."""
        own = timedelta() if interruption.planned and self._attempt == 0 else pause_before(self._attempt)
        self._attempt += 1
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(max(own, interruption.pause).total_seconds()):
                await self._stopped.wait()
