"""What goes to one kind of address and not to another: it is refused before it is stored, by what is known of the customer."""

from __future__ import annotations

from typing import Any

import pytest

from server.kit.ids import new_id
from server.messages.items import Stored
from server.messages.refusals import ProviderLimit
from server.providers.content import Buttons, ContactRequest, FilledTemplate, QuickReplies, QuickReply
from server.providers.template import Filling
from tests.desk import Desk, phone

YES = QuickReply(id="y", title="Yes")
GROUP, USER_ID = "Y2FwaV9ncm91cDoxMjAzNjM", "DE.1234567890123456789"
ADDRESSES = "SELECT identity_id FROM conversations WHERE id = $1"
SET = "UPDATE identity_aliases SET kind = $2, value = $3 WHERE identity_id = $1"


def template(category: str) -> FilledTemplate:
    return FilledTemplate(
        body="1 is your code",
        template_id=str(new_id()),
        name="code",
        language="en",
        category=category,
        filling=Filling(),
    )


CONTENTS: dict[str, Any] = {
    "text": None,
    "buttons": Buttons(body="Fine?", buttons=(YES,)),
    "quick replies": QuickReplies(body="Fine?", quick_replies=(YES,)),
    "question": ContactRequest(body="Which number?"),
    "utility": template("UTILITY"),
    "code": template("AUTHENTICATION"),
}
REFUSED = {
    ("group", "buttons"): ("buttons", "bsuid, parent_bsuid, wa_id alone, what is known here is group"),
    ("group", "quick replies"): (
        "text.quick_replies",
        "bsuid, parent_bsuid, wa_id alone, what is known here is group",
    ),
    ("group", "question"): ("contact_request", "bsuid, parent_bsuid, wa_id alone, what is known here is group"),
    ("group", "code"): ("template", "wa_id alone, what is known here is group"),
    ("bsuid", "code"): ("template", "wa_id alone, what is known here is bsuid; contact_request asks for it"),
}


async def conversation(desk: Desk, kind: str) -> Any:
    """With a customer of whom an address of this kind is known and no other."""
    row = await desk.started(await desk.new_channel(), phone())
    if kind != "wa_id":
        identity_id = await desk.value(ADDRESSES, row.id)
        # An address is one customer's alone, on each channel.
        await desk.execute(SET, identity_id, kind, GROUP if kind == "group" else USER_ID)
    return row.id


@pytest.mark.parametrize("content", CONTENTS)
@pytest.mark.parametrize("kind", ["wa_id", "bsuid", "group"])
async def test_what_cannot_go_to_an_address_is_refused_and_all_else_goes(desk: Desk, kind: str, content: str) -> None:
    conversation_id = await conversation(desk, kind)
    found = CONTENTS[content]
    item = desk.send(conversation_id, "Hello" if found is None else found.body, content=found)
    if (kind, content) not in REFUSED:
        assert isinstance(await desk.writer().submit(item), Stored)
        return
    with pytest.raises(ProviderLimit) as refused:
        await desk.writer().submit(item)
    ((field, description),) = [(each.field, each.description) for each in refused.value.violations]
    assert (field, description.removeprefix("the channel sends this to ")) == REFUSED[kind, content]


async def test_a_number_that_is_known_beside_the_user_id_is_where_a_code_goes(desk: Desk) -> None:
    channel, sender = await desk.new_channel(), phone()
    row = await desk.started(channel, sender)
    await desk.writer().submit(desk.receive(channel, sender, bsuid=USER_ID))
    stored = await desk.writer().submit(desk.send(row.id, "1 is your code", content=CONTENTS["code"]))
    assert isinstance(stored, Stored)
