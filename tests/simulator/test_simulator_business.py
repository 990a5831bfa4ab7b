"""The business side: tokens, numbers, subscriptions and PINs, as whoever connects a number meets them."""

from __future__ import annotations

from typing import Any

import pytest
from simulator_bench import CUSTOMER, PHONE_NUMBER_ID, TOKEN, Meta, Start, account, text

WABA = "102290129340398"
NUMBER = f"{PHONE_NUMBER_ID}"


async def ask(
    meta: Meta, path: str, *, token: str = TOKEN, method: str = "GET", body: object = None
) -> tuple[int, Any]:
    headers = {"Authorization": f"Bearer {token}"}
    async with meta.session.request(method, f"{meta.url}/v26.0/{path}", json=body, headers=headers) as answer:
        return answer.status, await answer.json()


async def put(meta: Meta, **settings: object) -> None:
    assert (await meta.control("POST", "accounts", account(meta.receiver.url, waba_id=WABA) | settings))[0] == 200


def code(answer: tuple[int, Any]) -> int:
    return int(answer[1]["error"]["code"])


async def test_a_token_tells_what_it_may_do_and_until_when(meta: Meta) -> None:
    await put(meta, scopes=["whatsapp_business_messaging"], token_until=4_000_000_000)
    data = (await ask(meta, f"debug_token?input_token={TOKEN}"))[1]["data"]
    assert (data["is_valid"], data["scopes"], data["expires_at"]) == (
        True,
        ["whatsapp_business_messaging"],
        4_000_000_000,
    )
    assert not (await ask(meta, "debug_token?input_token=EAAJother"))[1]["data"]["is_valid"]
    assert code(await ask(meta, f"debug_token?input_token={TOKEN}", token="EAAJother")) == 190


async def test_a_number_has_the_fields_that_are_asked_for_and_no_others(meta: Meta) -> None:
    await put(meta, quality="YELLOW", can_send="LIMITED", status="FLAGGED")
    fields = "quality_rating,status,throughput,health_status"
    found = (await ask(meta, f"{NUMBER}?fields={fields}"))[1]
    assert {*fields.split(","), "id"} == found.keys()
    assert (found["quality_rating"], found["status"], found["throughput"]) == (
        "YELLOW",
        "FLAGGED",
        {"level": "STANDARD"},
    )
    entities = {each["entity_type"]: each["can_send_message"] for each in found["health_status"]["entities"]}
    assert entities == {"PHONE_NUMBER": "AVAILABLE", "WABA": "LIMITED", "BUSINESS": "AVAILABLE", "APP": "AVAILABLE"}
    assert code(await ask(meta, f"{NUMBER}?fields=colour")) == 100
    assert code(await ask(meta, "999?fields=status")) == 100


async def test_an_account_lists_its_numbers_for_whoever_may_manage_it(meta: Meta) -> None:
    await put(meta)
    listed = (await ask(meta, f"{WABA}/phone_numbers"))[1]["data"]
    assert [each["id"] for each in listed] == [NUMBER]
    await put(meta, scopes=["whatsapp_business_messaging"])
    assert code(await ask(meta, f"{WABA}/phone_numbers")) == 200
    assert code(await ask(meta, "4711/subscribed_apps", method="POST")) == 200


async def test_webhooks_of_an_account_come_while_somebody_is_subscribed_to_it(meta: Meta) -> None:
    await put(meta)
    assert (await ask(meta, f"{WABA}/subscribed_apps", method="DELETE"))[1] == {"success": True}
    assert (await ask(meta, f"{WABA}/subscribed_apps"))[1] == {"data": []}
    assert (await meta.inbound())["webhookStatus"] is None
    assert meta.receiver.seen == []
    await ask(meta, f"{WABA}/subscribed_apps", method="POST")
    assert len((await ask(meta, f"{WABA}/subscribed_apps"))[1]["data"]) == 1
    assert (await meta.inbound())["webhookStatus"] == 200


async def test_a_number_sends_once_it_is_registered_with_its_pin(meta: Meta) -> None:
    await put(meta, status="PENDING", pin="123456")
    await meta.inbound()
    body = {"messaging_product": "whatsapp"}

    async def register(**more: str) -> tuple[int, Any]:
        return await ask(meta, f"{NUMBER}/register", method="POST", body=body | more)

    assert (await meta.post(text(to=f"+{CUSTOMER}")))[1]["error"]["code"] == 133010
    assert (code(await register()), code(await register(pin="12345")), code(await register(pin="654321"))) == (
        100,
        100,
        133005,
    )
    assert (await register(pin="123456"))[1] == {"success": True}
    assert (await meta.post(text(to=f"+{CUSTOMER}")))[0] == 200
    assert (await ask(meta, f"{NUMBER}/deregister", method="POST", body=body))[1] == {"success": True}
    assert code(await ask(meta, f"{NUMBER}/deregister", method="POST", body=body)) == 133010


async def test_a_number_is_registered_ten_times_in_three_days_and_not_once_more(meta: Meta) -> None:
    await put(meta, pin="123456")
    body = {"messaging_product": "whatsapp", "pin": "123456"}
    answers = [await ask(meta, f"{NUMBER}/register", method="POST", body=body) for _ in range(11)]
    assert [answer[0] for answer in answers[:10]] == [200] * 10
    assert code(answers[10]) == 133016
    await meta.control("POST", "clock", {"advance": 73 * 3600})
    assert (await ask(meta, f"{NUMBER}/register", method="POST", body=body))[0] == 200


async def test_an_app_tells_what_it_is_told_of_to_who_has_its_secret(meta: Meta) -> None:
    await put(meta, app_id="4711", fields=["messages"])
    (row,) = (await ask(meta, "4711/subscriptions", token="4711|app-secret"))[1]["data"]
    assert (row["object"], row["active"], [each["name"] for each in row["fields"]]) == (
        "whatsapp_business_account",
        True,
        ["messages"],
    )
    assert code(await ask(meta, "4711/subscriptions", token="4711|other")) == 190


@pytest.mark.parametrize("path", ["debug_token", f"{NUMBER}?fields=status", f"{WABA}/phone_numbers"])
async def test_a_fault_hits_these_calls_where_it_names_their_path_and_not_else(meta: Meta, path: str) -> None:
    await put(meta)
    await meta.fault("error", code=1)
    assert (await ask(meta, path))[0] == 200
    await meta.fault("error", code=2, filter={"path": "/v26.0/*"})
    assert code(await ask(meta, path)) == 2


async def test_an_unknown_version_has_none_of_it(start: Start) -> None:
    meta = await start()
    async with meta.session.get(f"{meta.url}/v99.0/debug_token") as answer:
        assert (await answer.json())["error"]["code"] == 2500
