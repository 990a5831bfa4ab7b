"""The page as a person uses it, and what it must never do meanwhile."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from playwright.async_api import ConsoleMessage, Locator, Page, expect

GENEROUS = 15_000
"""Milliseconds. Times are asserted by the tests marked `faults`; the others only wait."""


@dataclass
class InboxPage:
    """`complaints`: broken policies and uncaught errors that the browser reported."""

    page: Page
    url: str
    complaints: list[str] = field(default_factory=list)

    def listen(self) -> None:
        self.page.set_default_timeout(GENEROUS)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("console", self._note)

    async def open(self) -> None:
        await self.page.goto(f"{self.url}/live/")

    async def sign_in(self, token: str) -> None:
        """By the address, as `switchboard up` prints it."""
        await self.page.goto(f"{self.url}/live/#token={token}")
        await self.says("live")

    async def says(self, state: str) -> None:
        await expect(self.page.get_by_role("status")).to_have_text(state, timeout=2 * GENEROUS)

    def row(self, name: str) -> Locator:
        return self.page.get_by_role("listitem").get_by_role("button", name=name)

    async def choose(self, name: str) -> None:
        await self.row(name).click()
        await expect(self.page.locator("#thread-title")).to_have_text(name)

    def message(self, text: str) -> Locator:
        return self.page.locator("#messages > li").filter(has=self.page.get_by_text(text, exact=True))

    def tick(self, text: str, status: str) -> Locator:
        return self.message(text).locator(f'[data-status="{status}"]')

    async def reply(self, text: str) -> None:
        box = self.page.get_by_label("Reply", exact=True)
        await box.fill(text)
        await box.press("Enter")

    def _note(self, message: ConsoleMessage) -> None:
        if "Content Security Policy" in message.text or "Content-Security-Policy" in message.text:
            self.complaints.append(message.text)


NewPage = Callable[..., Awaitable[InboxPage]]
"""Opens a page: `signed_in`, as the first agent, unless told otherwise; further options go to the browser's profile."""
