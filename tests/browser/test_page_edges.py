"""Who may call from a browser, and who can use the page."""

from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from axe_playwright_python.async_playwright import Axe
from browser_customer import Customer
from browser_page import InboxPage, NewPage
from playwright.async_api import Browser, expect

from server.embedded.stack import Stack

CALL = """async ([url, token]) => {
  const headers = {"content-type": "application/grpc-web+proto", "x-grpc-web": "1", authorization: `Bearer ${token}`};
  const body = new Uint8Array(5);
  try { return (await fetch(url, {method: "POST", headers, body})).status; } catch (error) { return error.name; }
}"""

LOOKS: dict[str, dict[str, object]] = {
    "light": {"color_scheme": "light"},
    "dark": {"color_scheme": "dark"},
    "narrow": {"viewport": {"width": 360, "height": 740}},
}


@pytest.fixture
async def other_origin() -> AsyncIterator[str]:
    """Another site on this machine: another port is another origin."""

    async def page(_request: web.Request) -> web.Response:
        return web.Response(text="<!doctype html><title>Elsewhere</title>", content_type="text/html")

    application = web.Application()
    application.router.add_get("/", page)
    runner = web.AppRunner(application)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}/"
    await runner.cleanup()


async def upstream_calls(client: aiohttp.ClientSession, stack: Stack) -> int:
    """How many requests Envoy has passed on to the serve processes, streams included."""
    query = "/stats?format=json&filter=cluster.(calls|streams).upstream_rq_total"
    async with client.get(stack.dev()["envoy"]["admin"] + query) as answer:
        return sum(stat["value"] for stat in (await answer.json(content_type=None))["stats"])


async def test_a_page_of_another_origin_is_refused_without_an_upstream_call(
    chromium: Browser, client: aiohttp.ClientSession, stack: Stack, other_origin: str
) -> None:
    page = await chromium.new_page()
    await page.goto(other_origin)
    token = stack.dev()["agents"][0]["token"]
    before = await upstream_calls(client, stack)
    for method in ("ConversationService/ListConversations", "InboxService/WatchInbox"):
        assert await page.evaluate(CALL, [f"{stack.url}/switchboard.v1.{method}", token]) == "TypeError"
    assert await upstream_calls(client, stack) == before
    # The same call from the page's own origin is passed on: it was the origin that was refused.
    await page.goto(f"{stack.url}/live/")
    url = f"{stack.url}/switchboard.v1.ConversationService/ListConversations"
    assert await page.evaluate(CALL, [url, token]) == 200
    assert await upstream_calls(client, stack) == before + 1
    await page.close()


async def test_the_page_is_served_with_a_strict_policy(client: aiohttp.ClientSession, stack: Stack) -> None:
    async with client.get(f"{stack.url}/live/") as answer:
        policy = answer.headers["content-security-policy"]
        assert answer.headers["x-content-type-options"] == "nosniff"
    assert {"default-src 'none'", "script-src 'self'", "frame-ancestors 'none'"} <= set(policy.split("; "))
    assert "unsafe" not in policy


@pytest.mark.parametrize("look", LOOKS)
async def test_everybody_can_use_the_page(new_page: NewPage, customer: Customer, tmp_path: Path, look: str) -> None:
    signed_out = await new_page(signed_in=False, **LOOKS[look])
    await usable(signed_out, tmp_path / f"{look}-sign-in.png")
    inbox = await new_page(**LOOKS[look])
    await customer.writes("Hello, I need help with an order")
    await expect(inbox.row(customer.name)).to_be_visible()
    await usable(inbox, tmp_path / f"{look}-list.png")
    await inbox.choose(customer.name)
    await inbox.reply("What is its number?")
    await expect(inbox.tick("What is its number?", "read")).to_be_visible()
    await inbox.reply("x" * 4097)
    await expect(inbox.page.locator("#send-problem")).to_be_visible()
    await usable(inbox, tmp_path / f"{look}-thread.png")


async def test_the_page_is_used_with_the_keyboard_alone(new_page: NewPage, customer: Customer) -> None:
    inbox = await new_page(viewport={"width": 360, "height": 740})
    await customer.writes("Hello")
    await inbox.row(customer.name).focus()
    await inbox.page.keyboard.press("Enter")
    back = inbox.page.get_by_role("button", name="Back to the list")
    await expect(back).to_be_focused()
    await inbox.page.keyboard.press("Enter")
    await expect(inbox.row(customer.name)).to_be_focused()


async def usable(inbox: InboxPage, picture: Path) -> None:
    """Axe finds nothing, nothing stands out at the side; a picture is left for looking."""
    await inbox.page.screenshot(path=picture)
    found = (await Axe().run(inbox.page)).response["violations"]
    assert [(each["id"], [node["html"] for node in each["nodes"]]) for each in found] == []
    assert await inbox.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
