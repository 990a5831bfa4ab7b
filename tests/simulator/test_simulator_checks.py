"""Every row of the table refuses its example, over HTTP, with Meta's envelope; and every row has an example."""

from dataclasses import dataclass, field
from typing import Any

import pytest
from simulator_bench import CUSTOMER, PHONE_NUMBER_ID, TOKEN, Start, account, hours_ago, text

from server.simulator.checks import CHECKS

OTHER = "106540352242923"
READ = {"messaging_product": "whatsapp", "status": "read", "message_id": "wamid.X"}


def asking(**fields: object) -> dict[str, object]:
    """A question with a button; `fields` replace or add members of it, None removes one."""
    button = {"type": "reply", "reply": {"id": "y", "title": "Yes"}}
    whole = {"type": "button", "body": {"text": "Fine?"}, "action": {"buttons": [button]}, **fields}
    interactive = {name: value for name, value in whole.items() if value is not None}
    return text(type="interactive", text=None, interactive=interactive)


@dataclass(frozen=True)
class Example:
    """A request one row refuses: what is posted, and what went before."""

    body: object
    code: int
    says: str
    status: int = 400
    path: str = f"/v26.0/{PHONE_NUMBER_ID}/messages"
    token: str | None = TOKEN
    account: dict[str, object] = field(default_factory=dict)
    sent_before: int = 0
    templates: tuple[dict[str, object], ...] = ()
    media: tuple[str, ...] = ()


def template(name: str = "ready", *given: dict[str, object], language: str = "en") -> dict[str, object]:
    """A message from a template, whose body's places are filled so."""
    components = [{"type": "body", "parameters": list(given)}] if given else []
    sent = {"name": name, "language": {"code": language}, **({"components": components} if components else {})}
    return text(type="template", text=None, template=sent)


def said(value: str, **more: str) -> dict[str, object]:
    return {"type": "text", "text": value, **more}


def of(name: str = "ready", *parts: dict[str, object], status: str = "APPROVED") -> dict[str, object]:
    body = {"type": "BODY", "text": "Order {{1}} is ready."}
    return {"name": name, "language": "en", "status": status, "components": [body, *parts]}


TRACK = {"type": "BUTTONS", "buttons": [{"type": "URL", "text": "Track", "url": "https://shop.example/{{1}}"}]}
EXAMPLES: dict[str, Example] = {
    "version": Example(text(), 2500, "Unknown path components", path=f"/v99.0/{PHONE_NUMBER_ID}/messages"),
    "token_given": Example(text(), 190, "access token is required", status=401, token=None),
    "token_known": Example(text(), 190, "Cannot parse access token", status=401, token="EAAJother"),
    "token_alive": Example(text(), 190, "Session has expired on", status=401, account={"token_until": hours_ago(1)}),
    "number_known": Example(text(), 100, "does not exist", path="/v26.0/999/messages"),
    "number_allowed": Example(text(), 100, f"Object with ID '{OTHER}'", path=f"/v26.0/{OTHER}/messages"),
    "token_may_send": Example(text(), 200, "necessary permissions", status=403, account={"scopes": ["public_profile"]}),
    "registered": Example(text(), 133010, "not registered", account={"status": "PENDING"}),
    "json_object": Example(["not", "an", "object"], 100, "messaging_product is required"),
    "product_given": Example(text(messaging_product=None), 100, "messaging_product is required"),
    "product": Example(text(messaging_product="messenger"), 100, 'one of {WHATSAPP} - got "messenger"'),
    "recipient_type": Example(text(recipient_type="everyone"), 100, "one of {INDIVIDUAL, GROUP}"),
    "to_string": Example(text(to=16505551234), 100, "Param to must be a string"),
    "recipient_string": Example(text(to=None, recipient=["US.1"]), 100, "Param recipient must be a string"),
    "recipient_given": Example(text(to=None), 100, "The parameter to is required"),
    "to_format": Example(text(to="+1 (650) 555-1234"), 131009, "malformed"),
    "recipient_format": Example(text(to=None, recipient="someone"), 131009, "business-scoped user ID"),
    "group_known": Example(text(to="Y2FwaV9ncm91cA", recipient_type="group"), 131009, "group does not exist"),
    "type": Example(text(type="telegram"), 100, 'got "telegram"'),
    "message_keys": Example(text(txt={"body": "x"}), 100, 'Unexpected key "txt" on param.'),
    "content_given": Example(text(text=None), 131008, "mandatory for type 'text'"),
    "content_missing": Example(asking(action=None), 131008, "missing: interactive.action"),
    "content_keys": Example(asking(buttons=[]), 100, 'Unexpected key "buttons" on param "interactive"'),
    "content_values": Example(asking(body={"text": "é" * 1025}), 131009, "interactive.body.text is not valid"),
    "text_object": Example(text(text="good morning"), 100, "Param text must be a JSON object"),
    "text_keys": Example(text(text={"body": "x", "bold": True}), 100, 'Unexpected key "bold" on param "text"'),
    "body_given": Example(text(text={"body": ""}), 100, "The parameter text.body is required"),
    "body_string": Example(text(text={"body": 7}), 100, "Param text.body must be a string"),
    "body_length": Example(text(text={"body": "é" * 4097}), 100, "text.body must be at most 4096 characters"),
    "preview_flag": Example(text(text={"body": "x", "preview_url": "true"}), 100, "must be a boolean"),
    "media_known": Example(
        text(type="image", text=None, image={"id": "1"}),
        100,
        "not a valid whatsapp business account media attachment ID",
    ),
    "media_fits": Example(
        text(type="audio", text=None, audio={"id": "77"}),
        131053,
        "Unsupported audio mime type image/jpeg",
        media=("77",),
    ),
    "reaction_message": Example(
        {**text(), "type": "reaction", "text": None, "reaction": {"message_id": "wamid.nobody's", "emoji": "👍"}},
        131009,
        "unknown, too old, or a reaction",
    ),
    "context_object": Example(text(context="wamid.X"), 100, "Param context must be a JSON object"),
    "context_keys": Example(text(context={"message_id": "wamid.X", "from": "1"}), 100, 'Unexpected key "from"'),
    "context_message": Example(text(context={}), 100, "context.message_id is required"),
    "opaque_string": Example(text(biz_opaque_callback_data=7), 100, "must be a string"),
    "opaque_length": Example(text(biz_opaque_callback_data="x" * 513), 100, "at most 512 characters"),
    "template_missing": Example(
        template("ready", said("17"), language="de"),
        132001,
        "(ready) does not exist in de",
        status=404,
        templates=(of(),),
    ),
    "template_paused": Example(template("ready", said("17")), 132015, "paused", templates=(of(status="PAUSED"),)),
    "template_disabled": Example(
        template("ready", said("17")), 132016, "permanently disabled", templates=(of(status="DISABLED"),)
    ),
    "template_recipient": Example(
        template("ready", said("17")) | {"to": None, "recipient": "US.13491208655302741918"},
        131062,
        "only be sent to phone numbers",
        templates=(of() | {"category": "AUTHENTICATION"},),
    ),
    "template_count": Example(
        template("ready", said("17"), said("18")), 132000, "localizable_params (2) does not match", templates=(of(),)
    ),
    "template_value": Example(
        template("ready", {"type": "currency", "currency": {"fallback_value": "17", "code": "Euro", "amount_1000": 1}}),
        132008,
        "Currency code",
        templates=(of(),),
    ),
    "template_format": Example(
        template("ready", said("17", parameter_name="order")), 132012, "Parameter name", templates=(of(),)
    ),
    "template_text": Example(template("ready", said("1\n7")), 132018, "new-line/tab", templates=(of(),)),
    "template_length": Example(template("ready", said("7" * 1020)), 132005, "too long", templates=(of(),)),
    "template_button": Example(
        template("ready", said("17")), 131008, "Button at index 0 of type Url requires", templates=(of("ready", TRACK),)
    ),
    "not_oneself": Example(text(to="+15550783881"), 131021, "Sender and recipient"),
    "throughput": Example(
        text(),
        130429,
        "throughput has been reached",
        account={"limits": {"throughput_per_second": 3, "pair_seconds": None}},
        sent_before=3,
    ),
    "pair_rate": Example(text(), 131056, "same phone number", account={"limits": {"pair_burst": 2}}, sent_before=2),
    "window": Example(text(), 131047, "more than 24 hours", account={"window": "sync"}),
    "read_status": Example(READ | {"status": "seen"}, 100, "one of {READ}"),
    "read_message_given": Example(READ | {"message_id": ""}, 100, "message_id is required"),
    "read_keys": Example(READ | {"to": CUSTOMER}, 100, 'Unexpected key "to"'),
    "typing_type": Example(READ | {"typing_indicator": {"type": "audio"}}, 100, "one of {TEXT}"),
    "read_message": Example(READ, 100, "does not belong"),
}


def test_every_row_has_a_name_of_its_own_and_an_example() -> None:
    names = [row.name for row in CHECKS]

    assert sorted(names) == sorted(set(names))
    assert set(names) == set(EXAMPLES)


@pytest.mark.parametrize("name", [row.name for row in CHECKS])
async def test_a_row_refuses_its_example(name: str, start: Start) -> None:
    example = EXAMPLES[name]
    row = next(row for row in CHECKS if row.name == name)
    other = account(phone_number_id=OTHER, access_token="EAAJsecond")
    meta = await start(account_fields=example.account)
    await meta.control("POST", "accounts", other)
    if example.templates:
        await meta.control("POST", "templates", {"templates": list(example.templates)})
    for _ in range(example.sent_before):
        assert (await meta.post(text()))[0] == 200
    for media_id in example.media:
        await meta.control("PUT", f"media/{media_id}", {"phoneNumberId": PHONE_NUMBER_ID, "mimeType": "image/jpeg"})

    status, answer = await meta.post(example.body, path=example.path, token=example.token)

    assert status == example.status == row.error.status
    assert_envelope(answer, code=example.code, says=example.says)
    assert answer["error"]["code"] == row.error.code
    assert answer["error"].get("error_subcode") == row.error.subcode
    assert answer["error"]["type"] == row.error.type


def assert_envelope(answer: Any, *, code: int, says: str) -> None:
    """Meta's shape: nothing beside `error`; details exactly where the message is only a title."""
    assert set(answer) == {"error"}
    error = answer["error"]
    assert error["code"] == code
    assert error["fbtrace_id"].startswith("A")
    assert set(error) <= {"message", "type", "code", "error_data", "error_subcode", "fbtrace_id"}
    if "error_data" in error:
        assert error["message"].startswith(f"(#{code}) ")
        assert error["error_data"]["messaging_product"] == "whatsapp"
        assert says in error["error_data"]["details"]
    else:
        assert says in error["message"]


@pytest.mark.parametrize(
    "body",
    [
        text(),
        text(recipient_type=None),
        text(type=None),
        text(to=CUSTOMER),
        text(to=None, recipient="US.13491208655302741918"),
        text(recipient="US.ENT.11815799212886844830"),
        text(text={"body": "é" * 4096}),
        text(text={"body": "https://example.org", "preview_url": True}),
        text(context={"message_id": "wamid.nobodyknowsthisone"}),
        text(biz_opaque_callback_data="x" * 512),
        asking(),
        asking(header=None, footer={"text": "é" * 60}),
    ],
)
async def test_a_message_at_the_edge_of_the_rules_is_accepted(body: object, start: Start) -> None:
    meta = await start(account_fields={"window": "off"})

    status, answer = await meta.post(body)

    assert status == 200, answer
    assert answer["messages"][0]["id"].startswith("wamid.")


async def test_a_window_open_for_a_customer_admits_free_text(start: Start) -> None:
    meta = await start(account_fields={"window": "sync"})

    await meta.inbound(timestamp=hours_ago(25))
    assert (await meta.post(text()))[0] == 400
    await meta.inbound(timestamp=hours_ago(23.9))
    assert (await meta.post(text()))[0] == 200


@pytest.mark.parametrize(
    ("raw", "content_type"),
    [
        (b"{", "application/json"),
        (b"\xff\xfe", "application/json"),
        (b"[" * 50_000, "application/json"),
        (b'{"messaging_product":"whatsapp"}', "text/plain"),
    ],
)
async def test_a_body_that_is_not_json_misses_its_first_parameter(raw: bytes, content_type: str, start: Start) -> None:
    meta = await start()
    headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": content_type}

    url = f"{meta.url}/v26.0/{PHONE_NUMBER_ID}/messages"
    async with meta.session.post(url, data=raw, headers=headers) as response:
        answer = await response.json()

    assert response.status == 400
    assert_envelope(answer, code=100, says="messaging_product is required")


@pytest.mark.parametrize(
    ("method", "path"), [("GET", f"/v26.0/{PHONE_NUMBER_ID}/messages"), ("POST", "/v26.0/1/flows"), ("GET", "/")]
)
async def test_what_is_not_simulated_is_an_unknown_path(method: str, path: str, start: Start) -> None:
    meta = await start()

    async with meta.session.request(method, meta.url + path) as response:
        assert response.status == 400
        assert_envelope(await response.json(), code=2500, says="Unknown path components")
