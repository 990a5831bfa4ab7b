"""Watch: the inbox's events for ever, over as many streams as it takes."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Self

from switchboard_client.switchboard.v1 import InboxEvent, WatchInboxRequest

from switchboard_sdk.follower import Follower, OnScopeChanged, OnState, OpenInbox, WatchState


class Watch:
    """Async iterator over `InboxEvent`s: in order of `seq`, each once, none left out, for ever.

    A stream that breaks, falls silent or is ended by the server is opened anew from `cursor`, with backoff; the
    iterator just waits. It raises when going on would be wrong: CursorExpiredError and CursorDivergedError (list
    anew), or the server's refusal of the credential, the filter or the cursor. `cursor` is the position to store and
    to pass to `watch()` in the next life: it is that of the event handed out last, or of a bookmark after it. `async
    with`, `aclose()` and closing the client end it.
    """

    def __init__(
        self,
        open_inbox: OpenInbox,
        request: WatchInboxRequest,
        *,
        renews_token: bool = False,
        on_state: OnState | None = None,
        on_scope_changed: OnScopeChanged | None = None,
    ) -> None:
        self._follower = Follower(
            open_inbox, request, renews_token=renews_token, on_state=on_state, on_scope_changed=on_scope_changed
        )
        self._events = self._follower.run()
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def cursor(self) -> str:
        """Where to resume: nothing that matches and lies before it is missing."""
        return self._follower.cursor

    @property
    def state(self) -> WatchState:
        """Whether events come as they happen."""
        return self._follower.state

    @property
    def head(self) -> int:
        """The newest seq of the log that the server told of."""
        return self._follower.head

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> InboxEvent:
        self._idle.clear()
        try:
            return await anext(self._events)
        finally:
            self._idle.set()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Ends the watch and cancels its stream; whoever waits for the next event sees the end of the iteration."""
        self._follower.stop()
        # A generator that somebody waits for cannot be closed from outside; stopped, it ends by itself.
        while not self._idle.is_set():
            await self._idle.wait()
        await self._events.aclose()
