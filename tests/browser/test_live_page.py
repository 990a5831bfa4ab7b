"""The main job in a real browser, over binary grpc-web through Envoy."""

import re
import time

import aiohttp
import pytest
from browser_customer import Customer
from browser_page import InboxPage, NewPage
from playwright.async_api import expect

from server.embedded.stack import Stack


async def chosen(new_page: NewPage, customer: Customer) -> InboxPage:
    """A page that shows the conversation of a customer who wrote "Hello"."""
    inbox = await new_page()
    await customer.writes("Hello")
    await inbox.choose(customer.name)
    return inbox


async def test_a_customers_message_appears_by_itself_and_counts_as_unread(
    new_page: NewPage, customer: Customer
) -> None:
    inbox = await new_page()
    await customer.writes("Is anybody there?")
    await expect(inbox.row(customer.name)).to_contain_text("Is anybody there?")
    await expect(inbox.row(customer.name).locator(".badge")).to_have_text("1 unread")
    await inbox.choose(customer.name)
    await expect(inbox.message("Is anybody there?")).to_have_count(1)
    await expect(inbox.row(customer.name).locator(".badge")).to_be_hidden()


async def test_a_picture_is_shown_with_its_size_and_leads_to_the_file(new_page: NewPage, customer: Customer) -> None:
    inbox = await chosen(new_page, customer)
    content = await customer.sends_picture("Like this one")
    message = inbox.message("Like this one")
    await expect(message.locator(".file-name")).to_have_text(f"image · {len(content)} B")
    picture = message.locator("img")
    await expect(picture).to_have_count(1)
    assert await picture.evaluate("each => each.decode().then(() => each.naturalWidth)") == 1
    link = await message.locator("a.file").get_attribute("href")
    assert link is not None
    async with customer.client.get(link) as answer:
        assert await answer.read() == content
    assert inbox.complaints == []


async def test_an_answer_goes_out_and_its_ticks_turn_to_read(new_page: NewPage, customer: Customer) -> None:
    inbox = await chosen(new_page, customer)
    await inbox.reply("Good morning")
    await expect(inbox.message("Good morning")).to_have_count(1)
    await expect(inbox.page.get_by_label("Reply", exact=True)).to_have_value("")
    await expect(inbox.tick("Good morning", "read")).to_be_visible()
    assert await customer.received() == ["Good morning"]


async def test_a_double_click_sends_one_message(new_page: NewPage, customer: Customer) -> None:
    inbox = await chosen(new_page, customer)
    await inbox.page.get_by_label("Reply", exact=True).fill("Only once")
    await inbox.page.get_by_role("button", name="Send").dblclick()
    await expect(inbox.tick("Only once", "read")).to_be_visible()
    await expect(inbox.message("Only once")).to_have_count(1)
    assert await customer.received() == ["Only once"]


async def test_shift_and_enter_start_a_new_line(new_page: NewPage, customer: Customer) -> None:
    inbox = await chosen(new_page, customer)
    box = inbox.page.get_by_label("Reply", exact=True)
    await box.press_sequentially("one")
    await box.press("Shift+Enter")
    await box.press_sequentially("two")
    assert await box.input_value() == "one\ntwo"
    assert await customer.received() == []


async def test_a_refused_answer_says_why_and_keeps_its_text(new_page: NewPage, customer: Customer) -> None:
    inbox = await chosen(new_page, customer)
    too_long = "x" * 4097
    await inbox.reply(too_long)
    problem = inbox.page.locator("#send-problem")
    await expect(problem).to_have_attribute("data-reason", "PROVIDER_LIMIT")
    await expect(problem).to_be_visible()
    await expect(inbox.page.get_by_label("Reply", exact=True)).to_have_value(too_long)
    assert await customer.received() == []


async def test_markup_of_a_customer_stays_text(new_page: NewPage, customer: Customer) -> None:
    inbox = await chosen(new_page, customer)
    markup = '<img src=x onerror="document.title=1"><b>bold</b>'
    await customer.writes(markup)
    await expect(inbox.message(markup)).to_have_count(1)
    assert await inbox.page.locator("#inbox img, #inbox b").count() == 0


async def test_the_token_stays_in_memory(new_page: NewPage) -> None:
    inbox = await new_page()
    assert inbox.page.url == f"{inbox.url}/live/"
    kept = "[localStorage.length, sessionStorage.length, document.cookie.length, location.hash.length]"
    assert await inbox.page.evaluate(kept) == [0, 0, 0, 0]
    await inbox.page.reload()
    await expect(inbox.page.get_by_label("Access token")).to_be_visible()


async def test_a_token_that_is_not_good_is_refused_in_words(new_page: NewPage) -> None:
    inbox = await new_page(signed_in=False)
    await inbox.page.get_by_label("Access token").fill("not.a.token")
    await inbox.page.get_by_role("button", name="Sign in").click()
    problem = inbox.page.locator("#sign-in-problem")
    await expect(problem).to_have_attribute("data-reason", re.compile("^CREDENTIAL_INVALID$"))
    await expect(problem).to_have_text("This token is not valid.")


@pytest.mark.faults
async def test_a_customers_message_is_visible_within_a_second(new_page: NewPage, customer: Customer) -> None:
    inbox = await chosen(new_page, customer)
    for number in range(10):
        before = time.monotonic()
        await customer.writes(f"Message {number}")
        await expect(inbox.message(f"Message {number}")).to_be_visible(timeout=1000)
        assert time.monotonic() - before < 1


async def test_what_came_while_the_serving_process_was_dead_is_there_once(
    new_page: NewPage, customer: Customer, client: aiohttp.ClientSession, stack: Stack
) -> None:
    inbox = await chosen(new_page, customer)
    name = await serving(client, stack)
    stack.kill(name)
    try:
        await customer.writes("Written meanwhile")
        await expect(inbox.message("Written meanwhile")).to_have_count(1)
        await inbox.says("live")
        await inbox.reply("Still here")
        await expect(inbox.tick("Still here", "read")).to_be_visible()
        await expect(inbox.message("Written meanwhile")).to_have_count(1)
    finally:
        stack.restart(name)


async def serving(client: aiohttp.ClientSession, stack: Stack) -> str:
    """The name of the serve process that holds the stream, asked of Envoy; with several streams, one that holds any."""
    async with client.get(f"{stack.dev()['envoy']['admin']}/clusters?format=json") as answer:
        clusters = (await answer.json(content_type=None))["cluster_statuses"]
    hosts = next(cluster["host_statuses"] for cluster in clusters if cluster["name"] == "streams")
    names = {stack.port(name): name for name in stack.names() if name.startswith("serve-")}
    for host in hosts:
        active = next(int(stat.get("value", 0)) for stat in host["stats"] if stat["name"] == "rq_active")
        if active > 0:
            return names[host["address"]["socket_address"]["port_value"]]
    raise AssertionError("no process holds a stream")
