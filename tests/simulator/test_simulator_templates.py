"""The simulator's templates: Meta's list of them, and the webhooks about them."""

from typing import Any

import pytest
from simulator_bench import TOKEN, Meta

WABA = "102290129340398"


async def put(meta: Meta, *names: str, **more: object) -> list[str]:
    status, answer = await meta.control("POST", "templates", {"templates": [{"name": name, **more} for name in names]})
    assert status == 200, answer
    return list(answer["ids"])


async def listed(meta: Meta, query: str = "", *, token: str = TOKEN, waba: str = WABA) -> tuple[int, Any]:
    url = f"{meta.url}/v26.0/{waba}/message_templates{query}"
    async with meta.session.get(url, headers={"Authorization": f"Bearer {token}"}) as response:
        return response.status, await response.json()


async def test_pages_have_cursors_and_the_last_one_has_no_next(meta: Meta) -> None:
    ids = await put(meta, "a", "b", "c")
    status, first = await listed(meta, "?limit=2")
    assert (status, [each["id"] for each in first["data"]]) == (200, ids[:2])
    assert "next" in first["paging"]
    _, last = await listed(meta, f"?limit=2&after={first['paging']['cursors']['after']}")
    assert [each["id"] for each in last["data"]] == ids[2:]
    assert "next" not in last["paging"]
    assert "after" in last["paging"]["cursors"]


@pytest.mark.parametrize(
    ("query", "more", "code"),
    [("", {"token": "EAAother"}, 190), ("", {"waba": "1"}, 100), ("?limit=0", {}, 100), ("?limit=many", {}, 100)],
)
async def test_what_meta_refuses_is_refused(meta: Meta, query: str, more: dict[str, str], code: int) -> None:
    status, answer = await listed(meta, query, **more)
    assert status >= 400
    assert answer["error"]["code"] == code


async def test_the_same_name_and_language_is_the_same_template(meta: Meta) -> None:
    first = await put(meta, "a")
    assert await put(meta, "a", status="PAUSED") == first
    assert await put(meta, "a", language="de") != first


async def test_a_change_is_told_by_a_webhook_each_as_meta_writes_it(meta: Meta) -> None:
    (template_id,) = await put(meta, "a", language="en_US")
    change = {"status": "PAUSED", "quality": "RED", "category": "MARKETING"}
    change |= {"components": [{"type": "BODY", "text": "Hi"}]}  # type: ignore[dict-item]
    assert await meta.control("POST", f"templates/{template_id}", change) == (200, {"webhookStatuses": [200] * 4})
    named = {
        "message_template_id": int(template_id),
        "message_template_name": "a",
        "message_template_language": "en-US",
    }
    told = [webhook.value for webhook in meta.receiver.seen]
    assert told == [
        {"event": "PAUSED", "reason": None, **named},
        {"previous_quality_score": "UNKNOWN", "new_quality_score": "RED", **named},
        {"previous_category": "UTILITY", "new_category": "MARKETING", **named},
        {"message_template_element": "Hi", **named},
    ]
    _, page = await listed(meta)
    assert (page["data"][0]["status"], page["data"][0]["category"]) == ("PAUSED", "MARKETING")


async def test_one_that_is_removed_is_listed_no_more_and_nobody_is_told(meta: Meta) -> None:
    (template_id,) = await put(meta, "a")
    assert await meta.control("DELETE", f"templates/{template_id}") == (200, {})
    assert await listed(meta) == (200, {"data": []})
    assert (await meta.control("DELETE", f"templates/{template_id}"))[0] == 404
    assert meta.receiver.seen == []
