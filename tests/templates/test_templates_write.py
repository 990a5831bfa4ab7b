"""Templates written from here: created, edited, unpaused, deleted at the provider, and what it answers kept."""

from __future__ import annotations

import base64
import uuid
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from server.embedded.stack import Stack
from server.kit.clock import utc_now
from server.providers.template import ListedTemplate, TemplateEdit
from server.templates.refusals import TemplateNotEditable
from server.templates.row import TemplateRow, new_row
from server.templates.writing import may_edit
from tests.known_number import know
from tests.templates.template_shop import Shop

BODY: dict[str, Any] = {"type": "BODY", "text": "Hello {{1}}, your order is ready.", "examples": ["Mia"]}


@pytest.fixture(scope="module")
def shop(stack: Stack) -> Shop:
    return Shop(stack, stack.dev())


def draft(name: str, *components: dict[str, Any], **more: Any) -> dict[str, Any]:
    fields = {"name": name, "language": "en_US", "category": "TEMPLATE_CATEGORY_UTILITY"}
    return fields | {"components": list(components or [BODY])} | more


def made(shop: Shop, name: str, *components: dict[str, Any], **more: Any) -> Any:
    """A template that was created and approved."""
    shop.ask(shop.path, draft(name, *components, **more))
    return shop.until(name, lambda each: each["status"] == "TEMPLATE_STATUS_APPROVED")


def test_a_created_template_is_known_at_once_and_approved_by_a_webhook(shop: Shop) -> None:
    wanted = draft("made", BODY, {"type": "FOOTER", "text": "Bye"}, requestId=uuid.uuid4().hex)
    template = shop.ask(shop.path, wanted)["template"]
    assert (template["status"], template["name"], template["category"]) == (
        "TEMPLATE_STATUS_PENDING",
        "made",
        "TEMPLATE_CATEGORY_UTILITY",
    )
    approved = shop.until("made", lambda each: each["status"] == "TEMPLATE_STATUS_APPROVED")
    assert approved["id"] == template["id"]
    assert [(part["type"], part["text"], part["examples"]) for part in approved["components"]] == [
        ("BODY", BODY["text"], ["Mia"]),
        ("FOOTER", "Bye", []),
    ]
    assert shop.ask(shop.path, wanted)["template"]["id"] == template["id"]
    found = shop.sync()
    assert (found["changedCount"], found["goneCount"]) == (0, 0), "what is stored is what the provider lists"
    assert shop.refused(shop.path, draft("made")) == ("TEMPLATE_EXISTS", {"template_id": template["id"]})


def test_a_template_that_is_refused_says_why(shop: Shop) -> None:
    shop.review(status="REJECTED", reason="INVALID_FORMAT")
    try:
        shop.ask(shop.path, draft("rejected"))
        rejected = shop.until("rejected", lambda each: each["status"] == "TEMPLATE_STATUS_REJECTED")
    finally:
        shop.review()
    assert rejected["reason"] == "INVALID_FORMAT"
    edited = shop.ask(f"{shop.path}/{rejected['id']}", {"components": [BODY | {"text": "Dear {{1}}, hello."}]}, "PATCH")
    assert edited["template"]["status"] == "TEMPLATE_STATUS_PENDING"
    shop.until("rejected", lambda each: each["status"] == "TEMPLATE_STATUS_APPROVED")


def test_an_approved_template_is_edited_once_a_day(shop: Shop) -> None:
    template = made(shop, "edited")
    path, new = f"{shop.path}/{template['id']}", {"components": [BODY | {"text": "Hi {{1}}, it is ready."}]}
    other = shop.refused(path, new | {"category": "TEMPLATE_CATEGORY_MARKETING"}, "PATCH")
    assert other == ("INVALID_FIELDS", {"category": "of an approved template stays"})
    # In another second than the first: Meta never says the same twice in one.
    shop.review(afterMs=1100)
    after = shop.ask(path, new, "PATCH")["template"]
    shop.review()
    assert (after["status"], after["components"][0]["text"]) == ("TEMPLATE_STATUS_PENDING", "Hi {{1}}, it is ready.")
    shop.until("edited", lambda each: each["status"] == "TEMPLATE_STATUS_APPROVED")
    reason, data = shop.refused(path, new, "PATCH")
    assert (reason, data["status"]) == ("TEMPLATE_NOT_EDITABLE", "APPROVED")
    assert "again_time" in data


def test_a_deleted_template_is_gone_and_its_name_blocked(shop: Shop) -> None:
    template = made(shop, "deleted")
    made_de = shop.ask(shop.path, draft("deleted", language="de"))["template"]
    gone = shop.ask(f"{shop.path}/{template['id']}", None, "DELETE")["templates"]
    assert [(each["id"], "goneTime" in each) for each in gone] == [(template["id"], True)]
    reason, data = shop.refused(shop.path, draft("deleted"))
    assert (reason, list(data)) == ("TEMPLATE_EXISTS", ["free_time"])
    (left,) = [each for each in shop.templates() if each["name"] == "deleted" and "goneTime" not in each]
    assert left["id"] == made_de["id"]
    assert shop.ask(f"{shop.path}/{template['id']}", None, "DELETE")["templates"][0]["id"] == template["id"]
    assert shop.sync()["goneCount"] == 0


def test_all_languages_of_a_name_are_deleted_together(shop: Shop) -> None:
    first = shop.ask(shop.path, draft("many"))["template"]
    shop.ask(shop.path, draft("many", language="de"))
    gone = shop.ask(f"{shop.path}/{first['id']}?allLanguages=true", None, "DELETE")["templates"]
    assert [each["language"] for each in gone] == ["de", "en_US"]


def test_a_paced_template_is_unpaused(shop: Shop) -> None:
    template = made(shop, "paced")
    path = f"{shop.path}/{template['id']}:unpause"
    assert shop.refused(path, {}) == ("TEMPLATE_NOT_EDITABLE", {"status": "APPROVED"})
    shop.control(f"templates/{template['externalId']}", {"status": "PAUSED"})
    shop.until("paced", lambda each: each["status"] == "TEMPLATE_STATUS_PAUSED")
    shop.ask(path, {})
    told = shop.until("paced", lambda each: each["status"] == "TEMPLATE_STATUS_APPROVED")
    assert told["reason"] == "UNPAUSE: Resumed."


def test_a_header_of_a_file_has_a_sample(shop: Shop) -> None:
    content = base64.b64encode(b"\xff\xd8\xff\xe0picture").decode()
    sample = {"content": content, "mimeType": "image/jpeg", "fileName": "a.jpg"}
    handle = shop.ask(f"{shop.path}:uploadSample", sample)["handle"]
    header = {"type": "HEADER", "format": "IMAGE", "sample": handle}
    template = shop.ask(shop.path, draft("pictured", header, BODY))["template"]
    assert [(part["type"], part["format"], part["sample"]) for part in template["components"]] == [
        ("HEADER", "IMAGE", ""),
        ("BODY", "", ""),
    ]
    reason, data = shop.refused(shop.path, draft("unpictured", header | {"sample": "4::none"}, BODY))
    assert (reason, data) == ("TEMPLATE_REFUSED", {"code": "100", "subcode": "2388047", "problem": "HEADER_FORMAT"})


@pytest.mark.parametrize("status", [504, 200])
def test_a_lost_answer_makes_no_second_template(shop: Shop, status: int) -> None:
    path = f"*/{shop.waba}/message_templates"
    fault = {"kind": "error", "accepts": True, "body": "empty", "status": status, "count": 1, "filter": {"path": path}}
    shop.control("faults", fault)
    name = f"lost_{status}"
    template = shop.ask(shop.path, draft(name))["template"]
    assert template["name"] == name
    shop.sync()
    assert [each["id"] for each in shop.templates() if each["name"] == name] == [template["id"]]


def test_too_many_calls_are_a_refusal_that_says_when(shop: Shop) -> None:
    path = f"*/{shop.waba}/message_templates"
    shop.control("faults", {"kind": "error", "code": 80007, "count": 1, "filter": {"path": path}})
    assert shop.refused(shop.path, draft("limited"))[0] == "TEMPLATE_RATE_LIMITED"


@pytest.mark.parametrize(
    ("subcode", "problem"),
    [
        (2388019, "LIMIT_REACHED"),
        (2388023, "NAME_BLOCKED"),
        (2388039, "NOT_EDITABLE"),
        (2388040, "TOO_LONG"),
        (2388047, "HEADER_FORMAT"),
        (2388072, "BODY_FORMAT"),
        (2388073, "FOOTER_FORMAT"),
        (2388293, "TOO_MANY_PLACES"),
        (2388299, "PLACE_AT_EDGE"),
    ],
)
def test_what_the_provider_does_not_like_is_said_in_a_word(shop: Shop, subcode: int, problem: str) -> None:
    path = f"*/{shop.waba}/message_templates"
    fault = {"kind": "error", "code": 100, "subcode": subcode, "count": 1, "filter": {"path": path}}
    shop.control("faults", fault)
    reason, data = shop.refused(shop.path, draft("disliked"))
    assert (reason, data) == ("TEMPLATE_REFUSED", {"code": "100", "subcode": str(subcode), "problem": problem})


def test_an_account_is_read_when_its_channel_is_connected(stack: Stack) -> None:
    number, waba, token = f"3{uuid.uuid4().int % 10**14:014}", f"{uuid.uuid4().int % 10**15:015}", uuid.uuid4().hex
    shop = Shop(stack, stack.dev())
    know(shop.dev, number, waba, token)
    body = {"type": "BODY", "text": "Thank you."}
    shop.control("templates", {"wabaId": waba, "templates": [{"name": "there", "components": [body]}]})
    channel = {"name": "Read", "phoneNumberId": number, "wabaId": waba, "accessToken": token}
    connected = shop.ask("channels:connectWhatsapp", channel)
    shop.path = f"channels/{connected['channel']['id']}/templates"
    assert shop.until("there", lambda each: not each["stale"])["status"] == "TEMPLATE_STATUS_APPROVED"


def test_what_a_webhook_leaves_open_is_read_soon(shop: Shop) -> None:
    template = made(shop, "open")
    shop.control(f"templates/{template['externalId']}", {"status": "REINSTATED"})
    shop.control("templates", {"wabaId": shop.waba, "templates": [{"name": "open", "language": "en_US"}]})
    assert shop.until("open", lambda each: not each["stale"] and not each["components"])["id"] == template["id"]


EDIT = TemplateEdit(provider_id="7", parameter_format="positional", components=())


def edited(*days: float, status: str = "APPROVED") -> TemplateRow:
    """A template that was edited so many days ago."""
    found = ListedTemplate(provider_id="7", name="order", language="en", status=status, category="UTILITY")
    row = new_row(uuid.UUID(int=1), provider="whatsapp", business_account_id="1", of=found, now=utc_now())
    return replace(row, status=status, edit_times=tuple(utc_now() - timedelta(days=each) for each in days))


TENTH = tuple(1.5 + 2 * number for number in range(10))


@pytest.mark.parametrize(
    ("days", "status", "again_days"),
    [
        ((), "APPROVED", None),
        ((0.9,), "APPROVED", 0.1),
        ((1.1,), "APPROVED", None),
        (TENTH, "APPROVED", 30 - TENTH[-1]),
        (TENTH[:9], "APPROVED", None),
        ((*TENTH[:9], 30.1), "APPROVED", None),
        # What is not approved can be edited as often as one likes.
        ((0.1,), "REJECTED", None),
        ((0.1,), "PAUSED", None),
    ],
)
def test_an_approved_template_is_edited_once_a_day_and_ten_times_in_thirty(
    days: tuple[float, ...], status: str, again_days: float | None
) -> None:
    row = edited(*days, status=status)
    if again_days is None:
        may_edit(row, EDIT)
        return
    with pytest.raises(TemplateNotEditable) as refused:
        may_edit(row, EDIT)
    again = datetime.fromisoformat((refused.value.metadata or {})["again_time"]) - utc_now()
    assert abs(again - timedelta(days=again_days)) < timedelta(minutes=1)


@pytest.mark.parametrize(
    "status",
    ["PENDING", "DISABLED", "IN_APPEAL", "PENDING_DELETION", "DELETED", "LIMIT_EXCEEDED", "ARCHIVED", "NEWEST"],
)
def test_what_is_neither_approved_nor_rejected_nor_paused_is_not_edited(status: str) -> None:
    with pytest.raises(TemplateNotEditable) as refused:
        may_edit(edited(status=status), EDIT)
    assert refused.value.metadata == {"status": status}
