"""Templates that a business writes, edits and deletes, over HTTP: what Meta takes, and the code and subcode of what it does not."""

from __future__ import annotations

import json
from typing import Any

import pytest
from simulator_bench import TOKEN, Meta

WABA = "102290129340398"
BODY = {"type": "BODY", "text": "Your order is ready."}
OTHER = {"components": [{"type": "BODY", "text": "It is ready."}]}
DAY = 86_400


async def ask(meta: Meta, method: str, path: str, body: Any = None, **query: str) -> tuple[int, Any]:
    url, headers = f"{meta.url}/v26.0/{path}", {"Authorization": f"Bearer {TOKEN}"}
    async with meta.session.request(method, url, json=body, params=query, headers=headers) as response:
        return response.status, await response.json()


async def write(meta: Meta, name: str, **more: Any) -> tuple[int, Any]:
    body = {"name": name, "language": "en_US", "category": "utility", "components": [BODY], **more}
    return await ask(meta, "POST", f"{WABA}/message_templates", body)


async def known(meta: Meta, *templates: tuple[str, str], **more: Any) -> list[str]:
    """Templates that Meta has, by name and language; their ids."""
    given = [{"name": name, "language": language, "components": [BODY], **more} for name, language in templates]
    ids: list[str] = (await meta.control("POST", "templates", {"templates": given}))[1]["ids"]
    return ids


async def names(meta: Meta) -> list[tuple[str, str]]:
    _, page = await ask(meta, "GET", f"{WABA}/message_templates", limit="100")
    return [(each["name"], each["language"]) for each in page["data"]]


async def delete(meta: Meta, **query: str) -> tuple[int, Any]:
    return await ask(meta, "DELETE", f"{WABA}/message_templates", **query)


async def later(meta: Meta, seconds: float) -> None:
    assert (await meta.control("POST", "clock", {"advance": seconds}))[0] == 200


def code(answer: tuple[int, Any]) -> tuple[int, int | None]:
    """The code and the subcode of a refusal."""
    assert answer[0] >= 400, answer
    error = answer[1]["error"]
    return error["code"], error.get("error_subcode")


@pytest.fixture
async def unseen(meta: Meta) -> Meta:
    """A simulator at which nobody looks at what is written."""
    assert (await meta.control("POST", "reviews", {"status": None}))[0] == 200
    return meta


async def test_the_usual_fields_lack_quality_and_reason(meta: Meta) -> None:
    await known(meta, ("order", "en"))
    _, page = await ask(meta, "GET", f"{WABA}/message_templates")
    assert page["data"][0].keys() == {"id", "name", "language", "status", "category", "components", "parameter_format"}
    _, page = await ask(meta, "GET", f"{WABA}/message_templates", fields="name,quality_score,rejected_reason")
    assert page["data"][0].keys() == {"id", "name", "quality_score", "rejected_reason"}
    assert code(await ask(meta, "GET", f"{WABA}/message_templates", fields="name,colour")) == (100, None)


@pytest.mark.parametrize(
    ("query", "wanted"),
    [
        ({"status": "paused"}, ["bill"]),
        ({"name": "ord"}, ["order", "order"]),
        ({"language": "de"}, ["order"]),
        ({"category": "MARKETING"}, ["offer"]),
        ({"name": "ord", "language": "en"}, ["order"]),
    ],
)
async def test_a_list_is_of_what_was_asked_for(meta: Meta, query: dict[str, str], wanted: list[str]) -> None:
    await known(meta, ("order", "en"), ("order", "de"))
    await known(meta, ("bill", "en"), status="PAUSED")
    await known(meta, ("offer", "en"), category="MARKETING")
    _, page = await ask(meta, "GET", f"{WABA}/message_templates", **query)
    assert [each["name"] for each in page["data"]] == wanted


async def test_a_new_one_is_pending_and_has_an_id(unseen: Meta) -> None:
    status, answer = await write(unseen, "order")
    assert status == 200
    assert answer == {"id": answer["id"], "status": "PENDING", "category": "UTILITY"}
    assert isinstance(answer["id"], str)


@pytest.mark.parametrize(
    ("name", "fits"),
    [("a" * 512, True), ("a" * 513, False), ("order_17", True), ("Order", False), ("or-der", False), ("", False)],
)
async def test_a_name_has_small_letters_digits_and_underscores_and_512_of_them(
    unseen: Meta, name: str, fits: bool
) -> None:
    answer = await write(unseen, name)
    assert answer[0] == 200 if fits else code(answer) == (100, None)


async def test_a_name_is_there_once_in_each_language(unseen: Meta) -> None:
    assert (await write(unseen, "order"))[0] == 200
    assert (await write(unseen, "order", language="de"))[0] == 200
    assert code(await write(unseen, "order")) == (100, 2388024)


async def test_a_hundred_are_written_in_an_hour_and_not_one_more(unseen: Meta) -> None:
    for number in range(100):
        assert (await write(unseen, f"order_{number}"))[0] == 200
    assert code(await write(unseen, "order_100")) == (80007, None)
    await later(unseen, 3601)
    assert (await write(unseen, "order_100"))[0] == 200


async def test_an_account_has_as_many_as_it_may_have(unseen: Meta) -> None:
    assert (await unseen.control("POST", "reviews", {"status": None, "most": 2}))[0] == 200
    assert [(await write(unseen, name))[0] for name in ("a", "b")] == [200, 200]
    assert code(await write(unseen, "c")) == (100, 2388019)


@pytest.mark.parametrize(
    ("status", "editable"),
    [
        *((word, True) for word in ("APPROVED", "REJECTED", "PAUSED")),
        *((word, False) for word in ("PENDING", "DISABLED", "IN_APPEAL", "PENDING_DELETION", "ARCHIVED")),
    ],
)
async def test_what_is_approved_rejected_or_paused_is_edited(unseen: Meta, status: str, editable: bool) -> None:
    (template_id,) = await known(unseen, ("order", "en"), status=status)
    answer = await ask(unseen, "POST", template_id, OTHER)
    assert answer[0] == 200 if editable else code(answer) == (100, 2388039)


async def test_an_approved_one_is_edited_once_a_day_and_ten_times_in_thirty_days(meta: Meta) -> None:
    (template_id,) = await known(meta, ("order", "en"))

    async def edit() -> tuple[int, Any]:
        answer = await ask(meta, "POST", template_id, OTHER)
        # It is looked at, and approved again.
        await meta.control("POST", f"templates/{template_id}", {"status": "APPROVED"})
        return answer

    assert (await edit())[0] == 200
    await later(meta, DAY - 60)
    assert code(await edit()) == (100, 2388039), "not yet a day"
    for _ in range(9):
        await later(meta, DAY)
        assert (await edit())[0] == 200
    await later(meta, DAY + 60)
    assert code(await edit()) == (100, 2388039), "the eleventh in thirty days"
    await later(meta, 21 * DAY)
    assert (await edit())[0] == 200


async def test_name_language_and_the_category_of_an_approved_one_stay(unseen: Meta) -> None:
    (template_id,) = await known(unseen, ("order", "en"))
    assert code(await ask(unseen, "POST", template_id, OTHER | {"category": "MARKETING"})) == (100, 2388039)
    more = {"name": "bill", "language": "de", "category": "UTILITY"}
    assert (await ask(unseen, "POST", template_id, OTHER | more))[0] == 200
    assert await names(unseen) == [("order", "en")]
    (template_id,) = await known(unseen, ("offer", "en"), status="REJECTED")
    assert (await ask(unseen, "POST", template_id, OTHER | {"category": "MARKETING"}))[1]["category"] == "MARKETING"


async def test_only_a_paused_one_is_unpaused(meta: Meta) -> None:
    (template_id,) = await known(meta, ("order", "en"))
    assert code(await ask(meta, "POST", f"{template_id}/unpause")) == (100, None)
    await known(meta, ("order", "en"), status="PAUSED")
    assert (await ask(meta, "POST", f"{template_id}/unpause"))[1] == {"success": True}
    (told,) = await meta.receiver.wait(1)
    assert (told.value["event"], told.value["other_info"]["title"]) == ("APPROVED", "UNPAUSE")


async def test_a_name_is_deleted_in_every_language(meta: Meta) -> None:
    await known(meta, ("order", "en"), ("order", "de"), ("bill", "en"))
    assert await delete(meta, name="order") == (200, {"success": True})
    assert await names(meta) == [("bill", "en")]
    assert code(await delete(meta, name="order")) == (100, None)


async def test_an_id_deletes_one_language_and_must_be_of_its_name(meta: Meta) -> None:
    english, _ = await known(meta, ("order", "en"), ("order", "de"))
    assert code(await delete(meta, hsm_id=english, name="bill")) == (100, None)
    assert (await delete(meta, hsm_id=english, name="order"))[0] == 200
    assert await names(meta) == [("order", "de")]


async def test_many_ids_are_deleted_all_or_none_and_a_hundred_at_most(meta: Meta) -> None:
    ids = await known(meta, *((f"order_{number}", "en") for number in range(101)))
    assert code(await delete(meta, hsm_ids=json.dumps([ids[0], "1"]))) == (100, None)
    assert code(await delete(meta, hsm_ids=json.dumps(ids))) == (100, None)
    _, page = await ask(meta, "GET", f"{WABA}/message_templates", limit="100")
    assert (len(page["data"]), "next" in page["paging"]) == (100, True)
    assert (await delete(meta, hsm_ids=json.dumps(ids[:100])))[0] == 200
    assert await names(meta) == [("order_100", "en")]


async def test_the_name_of_an_approved_one_is_blocked_for_thirty_days(unseen: Meta) -> None:
    await known(unseen, ("order", "en_US"))
    await known(unseen, ("refused", "en_US"), status="REJECTED")
    for name in ("order", "refused"):
        assert (await delete(unseen, name=name))[0] == 200
    assert (await write(unseen, "refused"))[0] == 200
    await later(unseen, 30 * DAY - 60)
    assert code(await write(unseen, "order")) == (100, 2388023)
    await later(unseen, 120)
    assert (await write(unseen, "order"))[0] == 200
