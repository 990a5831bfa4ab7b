"""Messages that are no plain text: shown as they were asked for, one message for one request, refused by the field that is too much."""

import pytest
from contract_agree import refused_alike
from contract_outcome import methods
from contract_transports import Transport
from contract_world import World, nonce
from google.protobuf import json_format
from switchboard.v1 import content_pb2, conversation_service_pb2, message_pb2, message_service_pb2

SEND = "MessageService.SendMessage"


def asking(conversation_id: str, **question: object) -> message_service_pb2.SendMessageRequest:
    request = {"conversationId": conversation_id, "requestId": nonce(), **question}
    return json_format.ParseDict(request, message_service_pb2.SendMessageRequest())


def buttons(*titles: str, body: str = "Shall we come?") -> dict[str, object]:
    return {"buttons": {"body": body, "buttons": [{"id": title.lower(), "title": title} for title in titles]}}


def test_a_question_is_shown_with_its_buttons_and_what_it_quotes(edges: list[Transport], world: World) -> None:
    conversation = world.conversation()
    quoted = conversation.last_message_id
    request = asking(conversation.id, **buttons("Yes", "No"), replyToMessageId=quoted)
    sent = world.call(request).message
    assert (sent.type, sent.text.body) == (message_pb2.MESSAGE_TYPE_INTERACTIVE, "Shall we come?")
    assert sent.interactive.kind == content_pb2.INTERACTIVE_KIND_BUTTONS
    assert [(each.id, each.title) for each in sent.interactive.buttons] == [("yes", "Yes"), ("no", "No")]
    assert sent.reply_to_message_id == quoted
    found = world.call(message_service_pb2.GetMessageRequest(message_id=sent.id)).message
    assert (found.interactive, found.reply_to_message_id) == (sent.interactive, quoted)
    assert world.call(request).message.id == sent.id
    request.buttons.buttons[1].title = "Never"
    refused = refused_alike(edges, methods()[SEND], request, world.key)
    assert (refused.code, refused.reason) == (6, "REQUEST_ID_REUSED")


def test_a_list_and_a_link_are_shown_whole(world: World) -> None:
    conversation = world.conversation()
    rows = [{"id": "e", "title": "Early", "description": "Eight to ten"}]
    shown = {"header": "Delivery", "footer": "Or call", "label": "Times"}
    times = {**shown, "sections": [{"title": "Today", "rows": rows}]}
    link = {**shown, "url": "https://example.org/4711"}
    for kind, fields in (("list", times), ("link", link)):
        sent = world.call(asking(conversation.id, **{kind: {"body": "When?", **fields}})).message
        found = json_format.MessageToDict(sent.interactive)
        assert found == {"kind": f"INTERACTIVE_KIND_{kind.upper()}", **fields}
    asked = world.call(asking(conversation.id, locationRequest={"body": "Where are you?"})).message
    assert json_format.MessageToDict(asked.interactive) == {"kind": "INTERACTIVE_KIND_LOCATION_REQUEST"}


def test_products_and_a_catalogue_are_shown_whole(world: World) -> None:
    conversation = world.conversation()
    one = {"catalogId": "1940", "productRetailerId": "sku-1"}
    sections = [{"title": "Shoes", "productRetailerIds": ["sku-1", "sku-2"]}]
    asked = {
        "product": {**one, "footer": "In stock"},
        "productList": {"catalogId": "1940", "header": "New", "productSections": sections},
        "catalog": {"productRetailerId": "sku-1", "footer": "All of it"},
        "contactRequest": {},
    }
    kinds = ("PRODUCT", "PRODUCT_LIST", "CATALOG", "CONTACT_REQUEST")
    for (name, fields), kind in zip(asked.items(), kinds, strict=True):
        sent = world.call(asking(conversation.id, **{name: {**fields, "body": "Have a look"}})).message
        assert json_format.MessageToDict(sent.interactive) == {"kind": f"INTERACTIVE_KIND_{kind}", **fields}
        assert (sent.type, sent.text.body) == (message_pb2.MESSAGE_TYPE_INTERACTIVE, "Have a look")
    bare = world.call(asking(conversation.id, product=one)).message
    assert not bare.HasField("text")
    found = world.call(conversation_service_pb2.GetConversationRequest(conversation_id=conversation.id)).conversation
    assert found.last_message_preview == "[interactive]"


def test_a_form_is_shown_whole_and_its_answer_names_the_message_where_nobody_says_otherwise(world: World) -> None:
    conversation = world.conversation()
    form = {"flowId": "77", "screen": "DAY", "data": {"seats": 2.0, "days": [1.0, 2.5], "who": "\u00e4"}}
    request = asking(conversation.id, flow={"body": "When?", "label": "Choose", "flow": form})
    sent = world.call(request).message
    wanted = {"kind": "INTERACTIVE_KIND_FLOW", "label": "Choose", "flow": {**form, "token": sent.id}}
    assert json_format.MessageToDict(sent.interactive) == wanted
    assert world.call(request).message == sent
    named = {"flowName": "table", "token": "t-1", "dataExchange": True, "draft": True}
    sent = world.call(asking(conversation.id, flow={"body": "When?", "label": "Choose", "flow": named})).message
    assert json_format.MessageToDict(sent.interactive)["flow"] == named


FORMS: dict[str, tuple[dict[str, object], str]] = {
    "no form": ({}, "flow.flow.flow"),
    "an empty object": ({"flowId": "77", "screen": "DAY", "data": {}}, "flow.flow.data"),
    "a long object": ({"flowId": "77", "screen": "DAY", "data": {"a": "x" * 16_400}}, "flow.flow.data"),
    "a NUL": ({"flowId": "77", "screen": "DAY", "data": {"a": "x\x00"}}, "flow.flow.data"),
    "data without a screen": ({"flowId": "77", "data": {"a": 1}}, "flow.flow"),
    "a screen of the endpoint's": ({"flowId": "77", "screen": "DAY", "dataExchange": True}, "flow.flow"),
}


@pytest.mark.parametrize("name", FORMS)
def test_a_form_that_cannot_be_is_refused_by_its_field(edges: list[Transport], world: World, name: str) -> None:
    form, path = FORMS[name]
    request = asking(world.sample.id, flow={"body": "When?", "label": "Choose", "flow": form})
    refused = refused_alike(edges, methods()[SEND], request, world.key)
    assert (refused.code, refused.reason, refused.fields) == (3, "INVALID_FIELDS", [path])


def test_a_place_and_cards_are_shown_and_have_no_text(world: World) -> None:
    conversation = world.conversation()
    place = {"latitude": 0.0, "longitude": -0.1276, "name": "The shop"}
    sent = world.call(asking(conversation.id, location=place)).message
    assert (sent.type, sent.HasField("text")) == (message_pb2.MESSAGE_TYPE_LOCATION, False)
    assert json_format.MessageToDict(sent.location, always_print_fields_with_no_presence=True) == place
    cards = [{"name": {"formattedName": "Mia Roth", "firstName": "Mia"}, "phones": [{"phone": "+4930901820"}]}]
    sent = world.call(asking(conversation.id, contacts={"contacts": cards})).message
    assert sent.type == message_pb2.MESSAGE_TYPE_CONTACTS
    assert json_format.MessageToDict(sent.contacts)["contacts"] == cards
    found = world.call(conversation_service_pb2.GetConversationRequest(conversation_id=conversation.id)).conversation
    assert found.last_message_preview == "[contacts]"


def test_what_the_provider_does_not_take_is_named_field_by_field(edges: list[Transport], world: World) -> None:
    request = asking(world.sample.id, **buttons("Yes", "No", "Perhaps", "Some other day, please", body="x" * 1025))
    refused = refused_alike(edges, methods()[SEND], request, world.key)
    assert (refused.code, refused.reason, refused.info.metadata["limit"]) == (3, "PROVIDER_LIMIT", "1024")
    assert refused.fields == ["buttons.body", "buttons.buttons", "buttons.buttons[3].title"]
