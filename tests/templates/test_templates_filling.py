"""Fillings that fit and that do not, and the texts they make."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from typing import Any

import pytest

from server.kit.errors import InvalidFields
from server.providers.template import ButtonParameter, Filling, ListedTemplate, Parameter
from server.templates import row as rows
from server.templates.filling import Rendered, render
from server.templates.row import TemplateRow

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
HEADER = {"type": "HEADER", "format": "TEXT", "text": "Order {{1}}"}
BODY = {"type": "BODY", "text": "Hello {{1}}, {{2}} is due; {{1}}!"}
FOOTER = {"type": "FOOTER", "text": "Bye"}
URL = {"type": "URL", "text": "See", "url": "https://shop.example/{{1}}"}
WHOLE_URL = {"type": "URL", "text": "Shop", "url": "https://shop.example/"}
REPLY, CODE = {"type": "QUICK_REPLY", "text": "Yes"}, {"type": "COPY_CODE", "text": "Copy"}
CALL = {"type": "PHONE_NUMBER", "text": "Call", "phone_number": "+4930123456"}


def template(*components: dict[str, Any], **more: Any) -> TemplateRow:
    found = ListedTemplate(
        provider_id="7", name="order", language="en", status="APPROVED", components=components, **more
    )
    made = rows.new_row(uuid.UUID(int=1), provider="whatsapp", business_account_id="1", of=found, now=NOON)
    return rows.listed(made, found, at=NOON)


def buttons(*given: dict[str, Any]) -> dict[str, Any]:
    return {"type": "BUTTONS", "buttons": list(given)}


def texts(*given: str) -> tuple[Parameter, ...]:
    return tuple(Parameter(kind="text", value=text) for text in given)


def named(**given: str) -> tuple[Parameter, ...]:
    return tuple(Parameter(kind="text", value=text, name=name) for name, text in given.items())


def file(kind: str = "image") -> Parameter:
    return Parameter(kind=kind, value={"media_id": "1"})


def press(index: int, **given: str) -> ButtonParameter:
    ((kind, value),) = given.items()
    return ButtonParameter(index=index, kind=kind, value=value)


def wrong(row: TemplateRow, **filling: Any) -> list[str]:
    """The fields that a filling is refused for; none where it is taken."""
    try:
        render(row, Filling(**filling), path="filling")
    except InvalidFields as refused:
        return [violation.field for violation in refused.violations]
    return []


def test_all_of_it_is_shown_with_its_places_filled() -> None:
    row = template(HEADER, BODY, FOOTER, buttons(REPLY, URL, CALL))
    filling = Filling(header=texts("17"), body=texts("Mia", "it"), buttons=(press(1, url_suffix="a%20b"),))
    assert render(row, filling, path="filling") == Rendered(
        header="Order 17",
        body="Hello Mia, it is due; Mia!",
        footer="Bye",
        buttons=(REPLY, {**URL, "url": "https://shop.example/a%20b"}, CALL),
    )


def test_what_a_customer_wrote_is_no_place() -> None:
    row = template(BODY)
    assert render(row, Filling(body=texts("{{2}}", r"\g<0>")), path="").body == r"Hello {{2}}, \g<0> is due; {{2}}!"


def test_numbers_count_wherever_they_stand() -> None:
    row = template({"type": "BODY", "text": "{{2}} then {{10}} then {{1}}."})
    assert render(row, Filling(body=texts("a", "b", "c")), path="").body == "b then c then a."


def test_names_come_in_any_order() -> None:
    row = template({"type": "BODY", "text": "{{who}}: {{what}}"}, parameter_format="named")
    assert render(row, Filling(body=named(what="it", who="Mia")), path="").body == "Mia: it"


def test_money_and_times_are_shown_as_they_are_said() -> None:
    money = Parameter(kind="currency", value={"fallback": "17 €", "code": "EUR", "amount_1000": "17000"})
    time = Parameter(kind="date_time", value={"fallback": "Monday"})
    assert render(template(BODY), Filling(body=(money, time)), path="").body == "Hello 17 €, Monday is due; 17 €!"


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        (texts("Mia"), ["filling.body"]),
        (texts("Mia", "it", "more"), ["filling.body"]),
        ((), ["filling.body"]),
        (texts("Mia\n", "it"), ["filling.body[0].text"]),
        (texts("a\tb", "c     d"), ["filling.body[0].text", "filling.body[1].text"]),
        (named(a="Mia", b="it"), ["filling.body[0].name", "filling.body[1].name"]),
        ((*texts("Mia"), file()), ["filling.body[1].image"]),
        (texts("x" * 600, "y"), ["filling.body"]),
    ],
)
def test_a_body_is_filled_by_number(body: tuple[Parameter, ...], fields: list[str]) -> None:
    assert wrong(template(BODY), body=body) == fields


def test_four_spaces_are_no_five() -> None:
    assert render(template(BODY), Filling(body=texts("a    b", "c")), path="").body.startswith("Hello a    b")


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        (texts("Mia"), ["filling.body[0].name", "filling.body"]),
        (named(whom="Mia"), ["filling.body[0].name", "filling.body"]),
        ((*named(who="Mia"), *named(who="Ana")), ["filling.body[1].name"]),
    ],
)
def test_a_body_is_filled_by_name(body: tuple[Parameter, ...], fields: list[str]) -> None:
    row = template({"type": "BODY", "text": "Hello {{who}}"}, parameter_format="named")
    assert wrong(row, body=body) == fields


@pytest.mark.parametrize(
    ("word", "kind"), [("IMAGE", "image"), ("VIDEO", "video"), ("DOCUMENT", "document"), ("LOCATION", "location")]
)
def test_a_header_takes_one_file_of_its_kind(word: str, kind: str) -> None:
    row = template({"type": "HEADER", "format": word})
    assert render(row, Filling(header=(file(kind),)), path="").header == ""
    assert wrong(row, header=()) == ["filling.header"]
    assert wrong(row, header=(file(kind), file(kind))) == ["filling.header"]
    assert wrong(row, header=texts("Hi")) == ["filling.header"]


def test_what_the_template_has_not_cannot_be_filled() -> None:
    assert wrong(template(), header=texts("17"), body=texts("Mia"), buttons=(press(0, payload="x"),)) == [
        "filling.header",
        "filling.body",
        "filling.buttons[0].index",
    ]


@pytest.mark.parametrize(
    ("given", "fields"),
    [
        ((), ["filling.buttons", "filling.buttons"]),
        ((press(0, payload="p"), press(1, url_suffix="u"), press(3, coupon_code="c")), []),
        ((press(1, url_suffix="u"), press(1, url_suffix="u"), press(3, coupon_code="c")), ["filling.buttons[1].index"]),
        ((press(1, payload="u"), press(3, coupon_code="c")), ["filling.buttons[0].payload"]),
        (
            (press(1, url_suffix="u"), press(3, coupon_code="c"), press(2, url_suffix="u")),
            ["filling.buttons[2].url_suffix"],
        ),
        ((press(1, url_suffix="u"), press(3, coupon_code="c"), press(9, payload="p")), ["filling.buttons[2].index"]),
    ],
)
def test_buttons_take_what_their_type_asks(given: tuple[ButtonParameter, ...], fields: list[str]) -> None:
    row = template(BODY, buttons(REPLY, URL, WHOLE_URL, CODE))
    assert wrong(row, body=texts("Mia", "it"), buttons=given) == fields


def sections(*counts: int, title: str | None = "Shoes") -> dict[str, Any]:
    """Sections of so many products each."""
    titled = {} if title is None else {"title": title}
    made = [{**titled, "product_retailer_ids": [f"p{index}" for index in range(count)]} for count in counts]
    return {"product_retailer_id": "p0", "product_sections": made}


@pytest.mark.parametrize(
    ("given", "fields"),
    [
        (sections(30), []),
        (sections(3, *[3] * 9), []),
        (sections(1, title=None), []),
        (sections(1, title="t" * 24), []),
        (sections(31), [""]),
        (sections(15, 16), [""]),
        (sections(*[1] * 11), [""]),
        (sections(1, 1, title=None), ["[0].title", "[1].title"]),
        (sections(1, title="t" * 25), ["[0].title"]),
    ],
)
def test_products_to_choose_from_are_thirty_in_ten_sections(given: dict[str, Any], fields: list[str]) -> None:
    row = template(buttons({"type": "MPM", "text": "See"}))
    found = wrong(row, buttons=(ButtonParameter(index=0, kind="products", value=given),))
    assert found == [f"filling.buttons[0].products.product_sections{field}" for field in fields]


def test_products_are_needed_where_a_template_lists_them() -> None:
    assert wrong(template(buttons({"type": "MPM", "text": "See"}))) == ["filling.buttons"]
    assert wrong(template(buttons({"type": "CATALOG", "text": "See"}, {"type": "FLOW", "text": "Go"}))) == []
