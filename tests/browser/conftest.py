import shutil
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import aiohttp
import pytest
from browser_customer import Customer
from browser_page import InboxPage, NewPage
from playwright.async_api import Browser, async_playwright

from server.embedded.stack import PAGE, Stack

ARGUMENTS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            # A page that starts on a busy machine takes its time.
            item.add_marker(pytest.mark.timeout(180))


@pytest.fixture(scope="session")
async def chromium() -> AsyncIterator[Browser]:
    executable = shutil.which("chromium")
    if executable is None:
        pytest.fail("Chromium is not installed: apt-get install chromium")
    if not (PAGE / "index.html").exists():
        pytest.fail("The page is not built: make page")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=executable, args=ARGUMENTS)
        yield browser
        await browser.close()


@pytest.fixture
async def new_page(chromium: Browser, stack: Stack) -> AsyncIterator[NewPage]:
    """Opens pages, each in a profile of its own; afterwards none may have broken a policy or thrown an error."""
    opened: list[InboxPage] = []
    async with AsyncExitStack() as contexts:

        async def open_page(*, signed_in: bool = True, **options: object) -> InboxPage:
            context = await chromium.new_context(**options)
            contexts.push_async_callback(context.close)
            inbox = InboxPage(await context.new_page(), stack.url)
            inbox.listen()
            opened.append(inbox)
            await (inbox.sign_in(stack.dev()["agents"][0]["token"]) if signed_in else inbox.open())
            return inbox

        yield open_page
    assert [complaint for inbox in opened for complaint in inbox.complaints] == []


@pytest.fixture
async def client() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


@pytest.fixture
def customer(client: aiohttp.ClientSession, stack: Stack) -> Customer:
    return Customer.of(client, stack.dev())
