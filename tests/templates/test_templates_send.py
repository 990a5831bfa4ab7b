"""Templates on their way to the customer: of every kind of component, outside the reply window too, and what is refused before."""

from __future__ import annotations

import base64
import json
import time
import urllib.error
import uuid
from pathlib import Path
from typing import Any

import pytest
from sent_templates import BODY, FILES, PLAIN, SENT
from test_templates_stack import Shop

from server.embedded.stack import Stack
from tests.golden import golden, normal

HOURS = 3600
GOLDEN = Path(__file__).parent / "golden"


class Sender(Shop):
    """A shop with a customer who wrote so many hours ago. phone: of the last one."""

    phone = ""

    def customer(self, *, hours: float) -> str:
        """The id of the conversation."""
        before = set(self.mine())
        phone = self.phone = f"49{uuid.uuid4().int % 10**10:010}"
        said = {"from": phone, "text": "hello", "timestamp": int(time.time() - hours * HOURS)}
        assert self.control("inbound", said | {"phoneNumberId": self.number})["webhookStatus"] == 200
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            if came := set(self.mine()) - before:
                return came.pop()
            time.sleep(0.05)
        raise AssertionError("the customer did not come")

    def mine(self) -> list[str]:
        """The ids of the shop's conversations."""
        channel_id = self.path.split("/")[1]
        rows = self.ask("conversations?pageSize=200")["conversations"]
        return [row["id"] for row in rows if row["channelId"] == channel_id]

    def send(self, conversation_id: str, content: dict[str, Any], request_id: str = "") -> Any:
        body = {**content, "requestId": request_id or uuid.uuid4().hex}
        return self.ask(f"conversations/{conversation_id}/messages", body)["message"]

    def template(self, conversation_id: str, name: str, filling: Any, **more: str) -> Any:
        key = {"name": name, "language": "en_US"}
        return self.send(conversation_id, {"template": {"key": key, "filling": filling}}, **more)

    def refused(self, conversation_id: str, content: dict[str, Any]) -> Any:
        """The first detail of the refusal, and the fields that it names."""
        with pytest.raises(urllib.error.HTTPError) as refusal:
            self.send(conversation_id, content)
        details = json.load(refusal.value)["details"]
        fields = [each["field"] for detail in details for each in detail.get("fieldViolations", ())]
        return details[0], fields

    def got(self) -> list[Any]:
        """The templates that Meta got, oldest first, with the answers' states."""
        return [
            (each["status"], each["body"]["template"])
            for each in self.control("requests", None, "GET")["requests"]
            if each["phoneNumberId"] == self.number and each["body"].get("type") == "template"
        ]

    def settled(self, message_id: str) -> Any:
        deadline = time.monotonic() + 30
        while True:
            found = self.ask(f"messages/{message_id}")["message"]
            if found["status"] not in ("MESSAGE_STATUS_PENDING", "MESSAGE_STATUS_SENT"):
                return found
            assert time.monotonic() < deadline, found
            time.sleep(0.05)


def replaced(filling: Any, ids: dict[str, str]) -> Any:
    """A filling with our ids of its files."""
    text = json.dumps(filling)
    for kind, media_id in ids.items():
        text = text.replace(f"<{kind}>", media_id)
    return json.loads(text)


def named(body: Any, back: dict[str, str]) -> Any:
    """What Meta got, with the marks of the files in the place of its ids."""
    text = json.dumps(body)
    for media_id, mark in back.items():
        text = text.replace(media_id, mark)
    return json.loads(text)


@pytest.fixture(scope="module")
def sender(stack: Stack) -> Sender:
    made = Sender(stack, stack.dev())
    templates = [
        {
            "name": f"kind_{name}",
            "language": "en_US",
            "category": each.category,
            "parameterFormat": "NAMED" if each.named else "POSITIONAL",
            "components": list(each.components),
        }
        for name, each in SENT.items()
    ]
    states = [
        {"name": f"is_{status.lower()}", "language": "en_US", "status": status, "components": [PLAIN]}
        for status in ("PAUSED", "REJECTED")
    ]
    made.control("templates", {"wabaId": made.waba, "templates": [*templates, *states]})
    made.sync()
    return made


@pytest.fixture(scope="module")
def closed(sender: Sender) -> str:
    """A conversation whose reply window is closed."""
    return sender.customer(hours=25)


@pytest.fixture(scope="module")
def sent(sender: Sender, closed: str) -> dict[str, Any]:
    """Every kind sent once, outside the reply window, and delivered: the message, and what Meta got."""
    ours, hashes = {}, {}
    for kind, content in FILES.items():
        media = sender.ask("media", {"content": base64.b64encode(content).decode(), "mimeType": "video/mp4"})["media"]
        ours[kind], hashes[media["sha256"]] = media["id"], kind
    made = {name: sender.template(closed, f"kind_{name}", replaced(each.filling, ours)) for name, each in SENT.items()}
    shown = {name: sender.settled(message["id"]) for name, message in made.items()}
    at_meta = sender.control("media", None, "GET")["media"]
    back = {each["id"]: f"<{hashes[each['sha256']]}>" for each in at_meta if each["sha256"] in hashes}
    got = {body["name"].removeprefix("kind_"): (status, named(body, back)) for status, body in sender.got()}
    return {name: (shown[name], *got[name]) for name in SENT}


@pytest.mark.parametrize("name", SENT)
def test_meta_gets_a_template_as_it_wants_it_and_the_customer_reads_its_text(sent: dict[str, Any], name: str) -> None:
    message, status, body = sent[name]
    wanted = SENT[name]
    assert status == 200
    language = {"code": "en_US", "policy": "deterministic"}
    components = {} if wanted.wanted is None else {"components": wanted.wanted}
    assert body == {"name": f"kind_{name}", "language": language, **components}
    assert (message["type"], message["text"]["body"]) == ("MESSAGE_TYPE_TEMPLATE", wanted.body)
    assert message["status"] in ("MESSAGE_STATUS_DELIVERED", "MESSAGE_STATUS_READ")
    shown = message["template"]
    assert (shown["name"], shown["language"], shown["category"]) == (f"kind_{name}", "en_US", wanted.category)
    kept = {key: message[key] for key in ("type", "text", "template", "direction", "attachments") if key in message}
    links = [each.pop("downloadUrl", None) for each in kept.get("attachments", ())]
    assert len(links) == len(message.get("attachments", ()))
    seen = normal({"message": kept, "asked": body})
    assert seen == golden(GOLDEN / f"sent_{name}.json", seen)


def test_text_outside_the_window_is_refused_with_what_may_be_sent_instead(sender: Sender, closed: str) -> None:
    detail, _ = sender.refused(closed, {"text": {"body": "hello"}})
    assert detail["reason"] == "REPLY_WINDOW_CLOSED"
    named = detail["metadata"]["templates"].split(", ")
    assert len(named) == 10
    assert set(named) < {f"kind_{name}/en_US" for name in SENT}


def test_every_place_that_is_wrong_is_named_and_nothing_is_stored(sender: Sender, closed: str) -> None:
    key = {"name": "kind_positional", "language": "en_US"}
    filling = {"body": [{"text": "a\nb"}], "buttons": [{"index": 3, "payload": "x"}]}
    detail, fields = sender.refused(closed, {"template": {"key": key, "filling": filling}})
    assert detail["reason"] == "INVALID_FIELDS"
    assert fields == ["template.filling.body", "template.filling.body[0].text", "template.filling.buttons[0].index"]


@pytest.mark.parametrize(("name", "status"), [("is_paused", "PAUSED"), ("is_rejected", "REJECTED")])
def test_what_the_provider_would_refuse_is_not_sent(sender: Sender, closed: str, name: str, status: str) -> None:
    detail, _ = sender.refused(closed, {"template": {"key": {"name": name, "language": "en_US"}}})
    assert (detail["reason"], detail["metadata"]["status"]) == ("TEMPLATE_NOT_SENDABLE", status)


def test_a_template_of_another_account_or_language_is_not_there(sender: Sender, closed: str) -> None:
    for key in ({"name": "kind_plain", "language": "de"}, {"name": "nowhere", "language": "en_US"}):
        detail, _ = sender.refused(closed, {"template": {"key": key}})
        assert (detail["reason"], detail["metadata"]["resource"]) == ("RESOURCE_NOT_FOUND", "template")
    detail, _ = sender.refused(closed, {"template": {"templateId": str(uuid.uuid4())}})
    assert detail["reason"] == "RESOURCE_NOT_FOUND"


def test_a_repeated_call_is_the_same_message_though_the_template_was_paused_meanwhile(sender: Sender) -> None:
    conversation = sender.customer(hours=1)
    (template_id,) = sender.put("short_lived")
    sender.sync()
    filling = {"body": [{"text": "Mia"}, {"text": "17"}]}
    request_id = uuid.uuid4().hex
    first = sender.template(conversation, "short_lived", filling, request_id=request_id)
    sender.control(f"templates/{template_id}", {"status": "PAUSED"})
    sender.until("short_lived", lambda each: each["status"].endswith("PAUSED"))
    assert sender.template(conversation, "short_lived", filling, request_id=request_id)["id"] == first["id"]
    detail, _ = sender.refused(
        conversation, {"template": {"key": {"name": "short_lived", "language": "en_US"}, "filling": filling}}
    )
    assert detail["reason"] == "TEMPLATE_NOT_SENDABLE"
    assert BODY["text"].startswith("Hello")


def test_what_waits_for_a_paused_template_goes_when_the_pause_ends(sender: Sender) -> None:
    """O9: the list said APPROVED, and the provider had paused it a moment before."""
    (template_id,) = sender.put("paused_meanwhile")
    sender.sync()
    conversation_id = sender.customer(hours=1)
    told = {"kind": "error", "code": 132015, "count": 1, "filter": {"phoneNumberId": sender.number}}
    sender.control("faults", told)
    filling = {"body": [{"text": "Mia"}, {"text": "17"}]}
    message = sender.template(conversation_id, "paused_meanwhile", filling)
    sender.until("paused_meanwhile", lambda each: each["status"].endswith("APPROVED"))
    path = f"conversations/{conversation_id}/messages"
    deadline = time.monotonic() + 30
    while True:
        (found,) = [each for each in sender.ask(path)["messages"] if each["id"] == message["id"]]
        if found["status"] != "MESSAGE_STATUS_PENDING":
            break
        assert time.monotonic() < deadline, "it waits for three hours"
        time.sleep(0.05)
    assert template_id


def test_marketing_is_not_sent_to_who_wants_none(sender: Sender) -> None:
    """Also where the template became marketing after it was approved for something else (A4)."""
    made = [
        {"name": name, "language": "en_US", "category": "UTILITY", "components": [PLAIN]} for name in ("offer", "bill")
    ]
    offer, _ = sender.control("templates", {"wabaId": sender.waba, "templates": made})["ids"]
    sender.sync()
    sender.control(f"templates/{offer}", {"category": "MARKETING"})
    sender.until("offer", lambda each: each["category"] == "TEMPLATE_CATEGORY_MARKETING")
    conversation_id = sender.customer(hours=1)
    sender.template(conversation_id, "offer", {})
    word = {"wa_id": sender.phone, "detail": "stop", "category": "marketing_messages", "value": "stop"}
    value = {"user_preferences": [word | {"timestamp": int(time.time())}]}
    told = {"field": "user_preferences", "phoneNumberId": sender.number, "value": value}
    assert sender.control("fields", told)["webhookStatus"] == 200
    deadline = time.monotonic() + 30
    while True:
        try:
            sender.template(conversation_id, "offer", {})
        except urllib.error.HTTPError as error:
            detail = json.load(error)["details"][0]
            break
        assert time.monotonic() < deadline, "it is sent still"
        time.sleep(0.2)
    assert (detail["reason"], detail["metadata"]["category"]) == ("MARKETING_OPTED_OUT", "MARKETING")
    sender.template(conversation_id, "bill", {})


def test_what_is_held_back_is_said_so(sender: Sender) -> None:
    (template_id,) = sender.put("paced")
    sender.sync()
    sender.control(f"templates/{template_id}", {"pacing": "held_for_quality_assessment"})
    conversation_id = sender.customer(hours=1)
    message = sender.template(conversation_id, "paced", {"body": [{"text": "Mia"}, {"text": "17"}]})
    path, deadline = f"messages/{message['id']}/status-updates", time.monotonic() + 30
    while not (told := [each for each in sender.ask(path)["statusUpdates"] if each["source"].endswith("RESPONSE")]):
        assert time.monotonic() < deadline, "it is not sent"
        time.sleep(0.05)
    assert told[0]["note"] == "held_for_quality_assessment"
