"""The page about sending: each of its bodies is a good request, and what Meta gets of it is in order."""

import re
from pathlib import Path
from typing import Any, cast

import pytest
from google.protobuf import json_format
from switchboard.v1.message_service_pb2 import SendMessageRequest

from server.kit.ids import new_id
from server.messages import attached, files
from server.messages import content as contents
from server.messages.limits import check, fitted
from server.messages.row import AttachmentRow
from server.providers.content import Content, File
from server.providers.whatsapp.contents import LIMITS, rendered
from server.providers.whatsapp.provider import WhatsApp
from server.rpc.validate import check as validate
from server.simulator.contents import problem
from tests.docs import sending_page

PAGE = (Path(__file__).parents[2] / "docs" / "sending.md").read_text()
BODIES = re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)


def row(position: int, asked: attached.Asked) -> AttachmentRow:
    """A picture, unless the body says otherwise."""
    about = (asked.kind or "image", "image/png", asked.file_name, 1)
    return AttachmentRow(new_id(), position, *about, caption=asked.caption, media_id=new_id())


def parts(request: SendMessageRequest) -> list[Content]:
    """What the provider is handed, one for each part; nothing of plain text."""
    rows = [row(position, asked) for position, asked in enumerate(attached.of_request(request))]
    named = [File(media_id="1", type=cast(Any, each.kind), caption=each.caption, provider_id="2") for each in rows]
    if request.WhichOneof("content") == "media":
        check(WhatsApp.capabilities, None, attached.media_of(rows))
        return [cast(Content, files.carried(None, each)) for each in named]
    asked = contents.asked(request)
    content = fitted(WhatsApp.capabilities, request.text.body if asked is None else contents.text_of(asked), asked)
    made = files.carried(content, named[0]) if named else content
    return [] if made is None else [made]


@pytest.mark.parametrize("body", BODIES)
def test_a_body_of_the_page_can_be_sent(body: str) -> None:
    request = json_format.Parse(body, SendMessageRequest(conversation_id="019ab000-0000-7000-8000-000000000000"))
    validate(request)
    assert [problem(rendered(part)) for part in parts(request)] in ([], [None], [None, None])


def test_the_page_has_one_of_each_kind() -> None:
    kinds = {json_format.Parse(body, SendMessageRequest()).WhichOneof("content") for body in BODIES}
    # Templates have a page of their own.
    assert kinds == {"text", *LIMITS} - {"template"}


def test_the_tables_are_what_the_api_tells() -> None:
    assert sending_page.written(PAGE) == PAGE, "python -m tests.docs.sending_page writes them"


def test_the_page_has_the_pace_that_the_api_tells() -> None:
    can = sending_page.WHATSAPP
    assert (can.messages_per_second, can.recipient_interval.seconds, can.recipient_burst) == (80, 6, 45)
    assert "sends 80 messages a second" in PAGE
    assert "one in six seconds, after a burst of up to 45" in PAGE
