"""What is sent beside plain text: the body as Meta wants it, and the limits as they are checked here and by Meta's other side."""

import dataclasses
import json
from collections.abc import Callable
from typing import Any

import pytest
from provider_bench import CUSTOMER, OPAQUE, Connect, Simulate, outgoing

from server.messages import content as contents
from server.messages.limits import LIST_LABEL, check, excesses, fitted
from server.messages.refusals import ProviderLimit
from server.providers.api.provider import Api
from server.providers.content import (
    Buttons,
    Card,
    CardName,
    CardOrganization,
    CardPhone,
    Catalog,
    ContactRequest,
    Contacts,
    Content,
    Flow,
    Form,
    Interactive,
    Link,
    List,
    ListRow,
    ListSection,
    Location,
    LocationRequest,
    Product,
    ProductList,
    ProductSection,
    QuickReplies,
    QuickReply,
)
from server.providers.contract import Accepted
from server.providers.whatsapp.contents import LIMITS, rendered
from server.providers.whatsapp.provider import WhatsApp
from server.providers.whatsapp.send import message_body
from server.simulator.contents import problem

YES, NO = QuickReply(id="y", title="Yes"), QuickReply(id="n", title="No")
EARLY = ListRow(id="e", title="Early", description="Eight to ten")
LATE = ListRow(id="l", title="Late")
BUTTONS = Buttons(body="Shall we come?", buttons=(YES, NO))
LIST = List(body="When?", label="Times", sections=(ListSection(rows=(EARLY, LATE)),))
LINK = Link(body="Where it is now", label="Follow", url="https://example.org/4711?at=now")
ASKED = LocationRequest(body="Where are you?")
PRODUCT = Product(catalog_id="1940", product_retailer_id="sku-1")
CATALOG = Catalog(body="Everything")
FLOW = Flow(body="When?", label="Choose", flow=Form(flow_id="77", token="t"))
NUMBER_ASKED = ContactRequest(body="Where can we call you?")
QUESTIONS: dict[str, tuple[Interactive, Any]] = {
    "buttons": (
        dataclasses.replace(BUTTONS, header="Your order", footer="Until six"),
        {
            "type": "button",
            "header": {"type": "text", "text": "Your order"},
            "body": {"text": "Shall we come?"},
            "footer": {"text": "Until six"},
            "action": {
                "buttons": [
                    {"type": "reply", "reply": {"id": "y", "title": "Yes"}},
                    {"type": "reply", "reply": {"id": "n", "title": "No"}},
                ]
            },
        },
    ),
    "buttons alone": (
        Buttons(body="Fine?", buttons=(YES,)),
        {
            "type": "button",
            "body": {"text": "Fine?"},
            "action": {"buttons": [{"type": "reply", "reply": {"id": "y", "title": "Yes"}}]},
        },
    ),
    "list": (
        List(
            body="When?",
            label="Times",
            sections=(ListSection(title="Today", rows=(EARLY,)), ListSection(title="Tomorrow", rows=(LATE,))),
            header="Delivery",
            footer="Or call",
        ),
        {
            "type": "list",
            "header": {"type": "text", "text": "Delivery"},
            "body": {"text": "When?"},
            "footer": {"text": "Or call"},
            "action": {
                "button": "Times",
                "sections": [
                    {"title": "Today", "rows": [{"id": "e", "title": "Early", "description": "Eight to ten"}]},
                    {"title": "Tomorrow", "rows": [{"id": "l", "title": "Late"}]},
                ],
            },
        },
    ),
    "list of one section": (
        LIST,
        {
            "type": "list",
            "body": {"text": "When?"},
            "action": {
                "button": "Times",
                "sections": [
                    {
                        "rows": [
                            {"id": "e", "title": "Early", "description": "Eight to ten"},
                            {"id": "l", "title": "Late"},
                        ]
                    }
                ],
            },
        },
    ),
    "cta_url": (
        LINK,
        {
            "type": "cta_url",
            "body": {"text": "Where it is now"},
            "action": {
                "name": "cta_url",
                "parameters": {"display_text": "Follow", "url": "https://example.org/4711?at=now"},
            },
        },
    ),
    "product": (
        dataclasses.replace(PRODUCT, body="This one?", footer="In stock"),
        {
            "type": "product",
            "body": {"text": "This one?"},
            "footer": {"text": "In stock"},
            "action": {"catalog_id": "1940", "product_retailer_id": "sku-1"},
        },
    ),
    "product alone": (
        PRODUCT,
        {"type": "product", "action": {"catalog_id": "1940", "product_retailer_id": "sku-1"}},
    ),
    "product list": (
        ProductList(
            body="Which?",
            header="New",
            footer="In stock",
            catalog_id="1940",
            product_sections=(
                ProductSection(title="Shoes", product_retailer_ids=("sku-1", "sku-2")),
                ProductSection(title="Hats", product_retailer_ids=("sku-1",)),
            ),
        ),
        {
            "type": "product_list",
            "header": {"type": "text", "text": "New"},
            "body": {"text": "Which?"},
            "footer": {"text": "In stock"},
            "action": {
                "catalog_id": "1940",
                "sections": [
                    {
                        "title": "Shoes",
                        "product_items": [{"product_retailer_id": "sku-1"}, {"product_retailer_id": "sku-2"}],
                    },
                    {"title": "Hats", "product_items": [{"product_retailer_id": "sku-1"}]},
                ],
            },
        },
    ),
    "catalog": (
        dataclasses.replace(CATALOG, footer="In stock", product_retailer_id="sku-1"),
        {
            "type": "catalog_message",
            "body": {"text": "Everything"},
            "footer": {"text": "In stock"},
            "action": {"name": "catalog_message", "parameters": {"thumbnail_product_retailer_id": "sku-1"}},
        },
    ),
    "catalog alone": (
        CATALOG,
        {
            "type": "catalog_message",
            "body": {"text": "Everything"},
            "action": {"name": "catalog_message", "parameters": {}},
        },
    ),
    "flow": (
        dataclasses.replace(
            FLOW, header="A table", footer="Free", flow=Form(flow_id="77", token="t", screen="DAY", data={"seats": 2})
        ),
        {
            "type": "flow",
            "header": {"type": "text", "text": "A table"},
            "body": {"text": "When?"},
            "footer": {"text": "Free"},
            "action": {
                "name": "flow",
                "parameters": {
                    "flow_message_version": "3",
                    "flow_cta": "Choose",
                    "flow_token": "t",
                    "flow_action": "navigate",
                    "flow_id": "77",
                    "flow_action_payload": {"screen": "DAY", "data": {"seats": 2}},
                },
            },
        },
    ),
    "draft of a flow with an endpoint": (
        dataclasses.replace(FLOW, flow=Form(flow_name="table", token="t", data_exchange=True, draft=True)),
        {
            "type": "flow",
            "body": {"text": "When?"},
            "action": {
                "name": "flow",
                "parameters": {
                    "flow_message_version": "3",
                    "flow_cta": "Choose",
                    "flow_token": "t",
                    "flow_action": "data_exchange",
                    "flow_name": "table",
                    "mode": "draft",
                },
            },
        },
    ),
    "contact request": (
        NUMBER_ASKED,
        {
            "type": "request_contact_info",
            "body": {"text": "Where can we call you?"},
            "action": {"name": "request_contact_info"},
        },
    ),
    "location request": (
        ASKED,
        {
            "type": "location_request_message",
            "body": {"text": "Where are you?"},
            "action": {"name": "send_location"},
        },
    ),
}

MIA = Card(
    name=CardName(formatted_name="Dr. Mia Roth", first_name="Mia", prefix="Dr."),
    phones=(CardPhone(phone="+49 30 901820", type="WORK"),),
    organization=CardOrganization(company="Roth KG"),
    birthday="1990-02-28",
)
BODIES: dict[str, tuple[Content, str, Any]] = {
    **{name: (content, "interactive", body) for name, (content, body) in QUESTIONS.items()},
    "location": (
        Location(latitude=0.0, longitude=-0.1276, name="The shop", address="1 High Street"),
        "location",
        {"latitude": 0.0, "longitude": -0.1276, "name": "The shop", "address": "1 High Street"},
    ),
    "place without a name": (Location(latitude=51.5, longitude=7), "location", {"latitude": 51.5, "longitude": 7}),
    "contacts": (
        Contacts(contacts=(MIA,)),
        "contacts",
        [
            {
                "name": {"formatted_name": "Dr. Mia Roth", "first_name": "Mia", "prefix": "Dr."},
                "phones": [{"phone": "+49 30 901820", "type": "WORK"}],
                "org": {"company": "Roth KG"},
                "birthday": "1990-02-28",
            }
        ],
    ),
}


@pytest.mark.parametrize("name", BODIES)
def test_the_body_is_what_meta_asks_for(name: str) -> None:
    content, word, body = BODIES[name]
    assert message_body(outgoing(text=contents.text_of(content) or "", content=content, reply_to_id="wamid.x")) == {
        "messaging_product": "whatsapp",
        "recipient_type": "individual",
        "to": f"+{CUSTOMER}",
        "type": word,
        word: body,
        "biz_opaque_callback_data": OPAQUE,
        "context": {"message_id": "wamid.x"},
    }


@pytest.mark.parametrize("name", BODIES)
def test_what_is_stored_is_read_as_what_was_asked_for(name: str) -> None:
    content, _, _ = BODIES[name]
    details, text = contents.stored(content, None), contents.text_of(content)
    assert details is not None
    assert text is None or text not in details
    assert contents.loaded(text, json.loads(details)) == content


def _buttons(count: int) -> Content:
    return Buttons(body="?", buttons=tuple(QuickReply(id=str(index), title=f"T{index}") for index in range(count)))


def _rows(count: int, *, sections: int = 1) -> Content:
    """So many rows, spread over the sections."""
    rows = [ListRow(id=str(index), title="Row") for index in range(count)]
    made = tuple(ListSection(title=f"S{first}", rows=tuple(rows[first::sections])) for first in range(sections))
    return List(body="?", label="Open", sections=made)


def _products(count: int, *, sections: int = 1, title: str = "S") -> Content:
    """So many products, spread over the sections."""
    ids = tuple(f"sku-{index}" for index in range(count))
    made = tuple(
        ProductSection(title=f"{title}{first}" if sections > 1 else title, product_retailer_ids=ids[first::sections])
        for first in range(sections)
    )
    return ProductList(body="?", header="H", catalog_id="1940", product_sections=made)


def _reply(**fields: str) -> Content:
    return Buttons(body="?", buttons=(YES, dataclasses.replace(NO, **fields)))


def _row(**fields: str) -> Content:
    return List(body="?", label="Open", sections=(ListSection(rows=(EARLY, dataclasses.replace(LATE, **fields))),))


def _of(content: Content, name: str) -> Callable[[int], Content]:
    return lambda n: dataclasses.replace(content, **{name: "ä" * n})  # type: ignore[arg-type]


# The content with n of something, the most that Meta takes, and the path of the field with one more.
EDGES: dict[str, tuple[Callable[[int], Content], int, str]] = {
    "buttons body": (_of(BUTTONS, "body"), 1024, "buttons.body"),
    "buttons header": (_of(BUTTONS, "header"), 60, "buttons.header"),
    "buttons footer": (_of(BUTTONS, "footer"), 60, "buttons.footer"),
    "buttons": (_buttons, 3, "buttons.buttons"),
    "button id": (lambda n: _reply(id="i" * n), 256, "buttons.buttons[1].id"),
    "button title": (lambda n: _reply(title="\U0001f600" * n), 20, "buttons.buttons[1].title"),
    "list body": (_of(LIST, "body"), 4096, "list.body"),
    "list header": (_of(LIST, "header"), 60, "list.header"),
    "list footer": (_of(LIST, "footer"), 60, "list.footer"),
    "list label": (_of(LIST, "label"), 20, "list.label"),
    "sections": (lambda n: _rows(n, sections=n), 10, "list.sections"),
    "rows of a section": (_rows, 10, "list.sections[0].rows"),
    "rows in all": (lambda n: _rows(n, sections=3), 10, "list.sections[2].rows"),
    "section title": (
        lambda n: List(body="?", label="Open", sections=(ListSection(title="s" * n, rows=(LATE,)),)),
        24,
        "list.sections[0].title",
    ),
    "row id": (lambda n: _row(id="i" * n), 200, "list.sections[0].rows[1].id"),
    "row title": (lambda n: _row(title="t" * n), 24, "list.sections[0].rows[1].title"),
    "row description": (lambda n: _row(description="d" * n), 72, "list.sections[0].rows[1].description"),
    "link body": (_of(LINK, "body"), 1024, "link.body"),
    "link header": (_of(LINK, "header"), 60, "link.header"),
    "link footer": (_of(LINK, "footer"), 60, "link.footer"),
    "link label": (_of(LINK, "label"), 20, "link.label"),
    "location request body": (_of(ASKED, "body"), 1024, "location_request.body"),
    "contact request body": (_of(NUMBER_ASKED, "body"), 1024, "contact_request.body"),
    "product body": (_of(PRODUCT, "body"), 1024, "product.body"),
    "product footer": (_of(PRODUCT, "footer"), 60, "product.footer"),
    "product list body": (_of(_products(1), "body"), 1024, "product_list.body"),
    "product list header": (_of(_products(1), "header"), 60, "product_list.header"),
    "product list footer": (_of(_products(1), "footer"), 60, "product_list.footer"),
    "products of a section": (_products, 30, "product_list.product_sections[0].product_retailer_ids"),
    "products in all": (
        lambda n: _products(n, sections=4),
        30,
        "product_list.product_sections[3].product_retailer_ids",
    ),
    "product sections": (lambda n: _products(n, sections=n), 10, "product_list.product_sections"),
    "product section title": (lambda n: _products(1, title="s" * n), 24, "product_list.product_sections[0].title"),
    "catalog body": (_of(CATALOG, "body"), 1024, "catalog.body"),
    "catalog footer": (_of(CATALOG, "footer"), 60, "catalog.footer"),
    "flow body": (_of(FLOW, "body"), 1024, "flow.body"),
    "flow header": (_of(FLOW, "header"), 60, "flow.header"),
    "flow footer": (_of(FLOW, "footer"), 60, "flow.footer"),
    "flow label": (_of(FLOW, "label"), 30, "flow.label"),
    "contacts": (lambda n: Contacts(contacts=(MIA,) * n), 257, "contacts.contacts"),
}


@pytest.mark.parametrize("name", EDGES)
def test_at_the_limit_it_is_taken_here_and_there(name: str) -> None:
    make, most, _ = EDGES[name]
    content = make(most)
    assert [*excesses(LIMITS[content.kind], content)] == []
    assert problem(rendered(content)) is None


@pytest.mark.parametrize("name", EDGES)
def test_one_above_it_is_refused_here_by_its_path_and_there_by_131009(name: str) -> None:
    make, most, path = EDGES[name]
    content = make(most + 1)
    with pytest.raises(ProviderLimit) as refused:
        check(WhatsApp.capabilities, contents.text_of(content), content)
    assert path in [violation.field for violation in refused.value.violations]
    assert refused.value.metadata == {"limit": str(most)}
    found = problem(rendered(content))
    assert found is not None
    assert found.error.code == 131009


@pytest.mark.parametrize(
    ("content", "path"),
    [
        (_reply(id="y"), "buttons.buttons[1].id"),
        (_reply(title="Yes"), "buttons.buttons[1].title"),
        (_row(id="e"), "list.sections[0].rows[1].id"),
        (
            dataclasses.replace(LIST, sections=(ListSection(title="A", rows=(EARLY,)), ListSection(rows=(LATE,)))),
            "list.sections[1].title",
        ),
        (
            ProductList(
                body="?",
                header="H",
                catalog_id="1940",
                product_sections=(
                    ProductSection(title="A", product_retailer_ids=("sku-1",)),
                    ProductSection(product_retailer_ids=("sku-2",)),
                ),
            ),
            "product_list.product_sections[1].title",
        ),
        (dataclasses.replace(FLOW, label="Choose \U0001f600"), "flow.label"),
        (Location(latitude=1, longitude=2, address="1 High Street"), "location.name"),
        (Contacts(contacts=(MIA, Card(name=CardName(formatted_name="Mia")))), "contacts.contacts[1].name"),
    ],
)
def test_what_is_there_twice_or_lacks_what_it_needs_is_refused_here_and_there(content: Content, path: str) -> None:
    with pytest.raises(ProviderLimit) as refused:
        check(WhatsApp.capabilities, contents.text_of(content), content)
    assert [violation.field for violation in refused.value.violations] == [path]
    assert refused.value.metadata == {}
    found = problem(rendered(content))
    assert found is not None
    assert found.error.code == 131009


def test_everything_that_is_too_much_is_named_at_once() -> None:
    content = Buttons(body="ä" * 1025, header="h" * 61, buttons=(YES, YES))
    with pytest.raises(ProviderLimit) as refused:
        check(WhatsApp.capabilities, contents.text_of(content), content)
    paths = [violation.field for violation in refused.value.violations]
    assert paths == ["buttons.body", "buttons.buttons[1].id", "buttons.buttons[1].title", "buttons.header"]
    assert refused.value.metadata == {"limit": "1024"}


@pytest.mark.parametrize(
    "content",
    [
        BUTTONS,
        LIST,
        LINK,
        ASKED,
        PRODUCT,
        _products(1),
        CATALOG,
        FLOW,
        NUMBER_ASKED,
        BODIES["location"][0],
        BODIES["contacts"][0],
    ],
    ids=lambda content: content.kind,
)
def test_a_channel_of_ones_own_takes_text_alone(content: Content) -> None:
    with pytest.raises(ProviderLimit) as refused:
        check(Api.capabilities, contents.text_of(content), content)
    assert [violation.field for violation in refused.value.violations] == [content.kind]
    check(Api.capabilities, "ä" * 65_536, None)


async def test_meta_takes_each_of_them(connect: Connect, simulate: Simulate) -> None:
    meta = await simulate(limits={"pair_seconds": None})
    provider = connect(meta.url)
    for content, _, _ in BODIES.values():
        assert isinstance(await provider.send(outgoing(content=content)), Accepted)
    assert [body[body["type"]] for body in await meta.bodies()] == [wanted for _, _, wanted in BODIES.values()]


def _quick(count: int, title: str = "T", body: str = "?") -> QuickReplies:
    replies = tuple(QuickReply(id=str(index), title=f"{index}{title}") for index in range(count))
    return QuickReplies(body=body, quick_replies=replies)


@pytest.mark.parametrize(
    ("asked", "kind"),
    [
        (_quick(1), "buttons"),
        (_quick(3, "t" * 19), "buttons"),
        (_quick(4), "list"),
        (_quick(3, "t" * 20), "list"),
        (_quick(3, body="ä" * 1025), "list"),
        (_quick(10, "t" * 23), "list"),
    ],
)
def test_quick_replies_are_buttons_where_they_fit_and_else_a_list(asked: QuickReplies, kind: str) -> None:
    form = fitted(WhatsApp.capabilities, asked.body, asked)
    assert form is not None
    assert form.kind == kind
    assert problem(rendered(form)) is None
    if isinstance(form, List):
        assert form.label == LIST_LABEL
        assert [(row.id, row.title) for row in form.sections[0].rows] == [(r.id, r.title) for r in asked.quick_replies]
    else:
        assert form == Buttons(body=asked.body, buttons=asked.quick_replies)


@pytest.mark.parametrize(
    ("asked", "path", "limit"),
    [
        (_quick(11), "text.quick_replies", "10"),
        (_quick(2, "t" * 24), "text.quick_replies[0].title", "24"),
        (_quick(2, body="ä" * 4097), "text.body", "4096"),
    ],
)
def test_quick_replies_that_fit_nowhere_are_refused_by_the_path_of_what_is_too_much(
    asked: QuickReplies, path: str, limit: str
) -> None:
    with pytest.raises(ProviderLimit) as refused:
        fitted(WhatsApp.capabilities, asked.body, asked)
    assert (refused.value.violations[0].field, refused.value.metadata) == (path, {"limit": limit})


def test_a_channel_without_questions_refuses_quick_replies_by_their_path() -> None:
    with pytest.raises(ProviderLimit) as refused:
        fitted(Api.capabilities, "?", _quick(2))
    assert [violation.field for violation in refused.value.violations] == ["text.quick_replies"]
