"""Every kind of message that goes out, once: golden JSON of what is stored of it, and of what Meta was asked.

`GOLDEN=write pytest tests/whatsapp_send` writes the files anew; they are read by eye before they are committed.
Source: Meta's Cloud API documentation, "Sending messages" and the page of each type. Templates: tests/templates/test_templates_send.py.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from server.deliveries import marks
from server.kit.db import Write
from server.messages import signalling
from server.messages.attached import Asked
from server.messages.items import Stored
from server.messages.marking import Marker
from server.providers.content import (
    Buttons,
    Card,
    CardAddress,
    CardEmail,
    CardName,
    CardOrganization,
    CardPhone,
    CardUrl,
    Catalog,
    ContactRequest,
    Contacts,
    Content,
    Flow,
    Form,
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
from tests.desk import ALL, Desk, nobody
from tests.golden import golden, normal
from tests.whatsapp_send.sending import Line, line
from tests.whatsapp_send.sending_files import JPEG, MOVING, MP4, OGG, PDF, WEBP, Files, files

GOLDEN = Path(__file__).parent / "golden"
STORED = """
SELECT m.direction, m.type, m.text, m.details, m.status, p.status AS part, p.position, d.state AS delivery, d.lane,
    d.attempt - d.uncounted AS tries, a.kind, a.mime_type, a.file_name, a.caption, a.voice, a.animated, a.size_bytes, a.state AS file
FROM messages m JOIN message_parts p ON p.message_id = m.id JOIN deliveries d ON d.part_id = p.id
LEFT JOIN message_attachments a ON a.message_id = m.id AND a.position = p.position
WHERE m.conversation_id = $1 AND m.direction = 'outbound' ORDER BY m.sequence, p.position
"""
YES, NO = QuickReply(id="y", title="Yes"), QuickReply(id="n", title="No")
ROW = ListRow(id="e", title="Early", description="Eight to ten")
MIA = Card(
    name=CardName(formatted_name="Dr. Mia Roth", first_name="Mia", prefix="Dr."),
    phones=(CardPhone(phone="+49 30 901820", type="WORK", wa_id="4930901820"),),
    emails=(CardEmail(email="mia@example.org", type="WORK"),),
    addresses=(CardAddress(street="1 High Street", city="London", country="United Kingdom", type="HOME"),),
    urls=(CardUrl(url="https://example.org", type="WORK"),),
    organization=CardOrganization(company="Roth KG", department="Sales", title="Head"),
    birthday="1990-02-28",
)
CONTENTS: dict[str, Content | QuickReplies] = {
    "buttons": Buttons(body="Shall we come?", buttons=(YES, NO), header="Your order", footer="Until six"),
    "quick_replies": QuickReplies(body="Shall we come?", quick_replies=(YES, NO)),
    "list": List(body="When?", label="Times", sections=(ListSection(title="Today", rows=(ROW,)),), header="Delivery"),
    "cta_url": Link(body="On its way", label="Follow", url="https://example.org/4711", header="Order", footer="Thanks"),
    "location_request": LocationRequest(body="Where are you?"),
    "request_contact_info": ContactRequest(body="Where can we call you?"),
    "product": Product(catalog_id="1940", product_retailer_id="sku-1", body="This one?"),
    "product_list": ProductList(
        body="Which?",
        header="New",
        catalog_id="1940",
        product_sections=(ProductSection(title="Shoes", product_retailer_ids=("sku-1", "sku-2")),),
    ),
    "catalog_message": Catalog(body="Everything", product_retailer_id="sku-1"),
    "flow": Flow(body="When?", label="Choose", flow=Form(flow_id="77", screen="DAY", data={"seats": 2})),
    "location": Location(latitude=51.5072, longitude=-0.1276, name="The shop", address="1 High Street"),
    "contacts": Contacts(contacts=(MIA,)),
}
FILES: dict[str, tuple[bytes, dict[str, Any]]] = {
    "image": (JPEG, {"caption": "This is the one"}),
    "video": (MP4, {"caption": "Have a look"}),
    "audio": (OGG, {"kind": "audio"}),
    "voice_note": (OGG, {"kind": "audio", "voice": True}),
    "document": (PDF, {"file_name": "bill.pdf", "caption": "Your bill"}),
    "sticker": (WEBP, {"kind": "sticker"}),
    "animated_sticker": (MOVING, {"kind": "sticker"}),
}


async def found(made: Line) -> Any:
    """What is stored of what was sent, and what Meta was asked; ids of a run have names."""
    rows = []
    for row in await made.desk.rows(STORED, made.conversation_id):
        held = dict(row) | {"details": json.loads(row["details"] or "null")}
        rows.append({name: value for name, value in held.items() if value not in (None, False)})
    asked = [request["body"] for request in await made.requests()]
    text = json.dumps(normal({"stored": rows, "asked": asked}))
    # Files are brought side by side: they are numbered as they were sent.
    brought = sorted((each["id"] for each in await at_meta(made)), key=text.index)
    for number, media_id in enumerate(brought):
        text = text.replace(media_id, f"<media {number}>")
    return json.loads(text.replace(made.recipient, "<customer>"))


async def at_meta(made: Line) -> list[Any]:
    async with made.http.get(f"{made.url}/_control/media") as response:
        return list((await response.json())["media"])


def agrees(name: str, seen: Any) -> None:
    assert seen == golden(GOLDEN / f"{name}.json", seen)


async def test_text(desk: Desk) -> None:
    async with line(desk) as made:
        await made.settled("See https://example.org \U0001f600\nä")
        agrees("text", await found(made))


async def test_text_that_quotes(desk: Desk) -> None:
    async with line(desk) as made:
        quoted = await desk.value("SELECT last_message_id FROM conversations WHERE id = $1", made.conversation_id)
        await made.settled("That one", reply_to_message_id=quoted)
        agrees("text_that_quotes", await found(made))


@pytest.mark.parametrize("name", CONTENTS)
async def test_a_kind_beside_text(desk: Desk, name: str) -> None:
    content = CONTENTS[name]
    async with line(desk) as made:
        await made.settled(getattr(content, "body", None), content=content)
        agrees(name, await found(made))


@pytest.mark.parametrize("name", FILES)
async def test_a_file(desk: Desk, tmp_path: Path, name: str) -> None:
    content, more = FILES[name]
    async with line(desk) as made:
        side: Files = files(made, tmp_path)
        media = await side.bring(content)
        await side.sent(Asked(path="media.items[0]", media_id=str(media["id"]), **more))
        agrees(name, await found(made))


async def test_several_files_are_parts_of_one_message(desk: Desk, tmp_path: Path) -> None:
    async with line(desk) as made:
        side: Files = files(made, tmp_path)
        media = [await side.bring(content) for content in (JPEG, PDF)]
        asked = [Asked(path=f"media.items[{place}]", media_id=str(each["id"])) for place, each in enumerate(media)]
        await side.sent(*asked)
        agrees("several_files", await found(made))


async def heard(made: Line) -> Any:
    """The id of a message that the customer wrote at the simulator as well."""
    number = made.desk.numbers[made.channel.id].phone_number_id
    body = {"from": made.recipient, "phoneNumberId": number, "text": "hello"}
    async with made.http.post(f"{made.url}/_control/inbound", json=body) as response:
        (wamid,) = (await response.json())["wamids"]
    stored = await made.desk.writer().submit(made.desk.receive(made.channel, made.recipient, wamid=wamid))
    assert isinstance(stored, Stored)
    return stored.message.id


async def test_a_reaction_and_its_removal(desk: Desk) -> None:
    async with line(desk) as made:
        message_id = await heard(made)
        for emoji in ("\U0001f44d", ""):
            await desk.do(
                lambda write, emoji=emoji: signalling.react(
                    write, ALL, message_id, emoji, origin=nobody(), providers=made.providers
                )
            )
            await told(made)
        agrees("reaction", await found(made))


async def test_that_somebody_writes(desk: Desk) -> None:
    async with line(desk) as made:
        await heard(made)

        async def unit(write: Write) -> None:
            await signalling.typing(write, ALL, made.conversation_id, providers=made.providers)

        await desk.database.write(unit)
        await told(made)
        agrees("typing", await found(made))


async def test_that_it_was_read(desk: Desk) -> None:
    async with line(desk) as made:
        await heard(made)
        await made.settled("Read and answered")
        await told(made)
        agrees("mark_read", await found(made))


async def told(made: Line) -> None:
    """Tells the provider what waits to be told."""
    async with made.desk.database.connection() as connection:
        taken = await marks.claim(connection, limit=8)
    for mark in taken:
        await Marker(made.desk.database, made.desk.tenant.secrets, made.providers).tell(mark)


def test_every_file_is_of_a_row() -> None:
    more = {"text", "text_that_quotes", "several_files", "reaction", "typing", "mark_read"}
    assert {file.stem for file in GOLDEN.glob("*.json")} == {*CONTENTS, *FILES, *more}
