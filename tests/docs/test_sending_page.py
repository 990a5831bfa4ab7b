"""The page about sending: each of its bodies is a good request, and what Meta gets of it is in order."""

import re
from pathlib import Path

import pytest
from google.protobuf import json_format
from switchboard.v1.message_service_pb2 import SendMessageRequest

from server.messages import content as contents
from server.messages.limits import fitted
from server.providers.whatsapp.contents import LIMITS, rendered
from server.providers.whatsapp.provider import WhatsApp
from server.rpc.validate import check as validate
from server.simulator.contents import problem

PAGE = (Path(__file__).parents[2] / "docs" / "sending.md").read_text()
BODIES = re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)


@pytest.mark.parametrize("body", BODIES)
def test_a_body_of_the_page_can_be_sent(body: str) -> None:
    request = json_format.Parse(body, SendMessageRequest(conversation_id="019ab000-0000-7000-8000-000000000000"))
    validate(request)
    asked = contents.asked(request)
    content = fitted(WhatsApp.capabilities, request.text.body if asked is None else contents.text_of(asked), asked)
    if content is not None:
        assert problem(rendered(content)) is None


def test_the_page_has_one_of_each_kind() -> None:
    kinds = {json_format.Parse(body, SendMessageRequest()).WhichOneof("content") for body in BODIES}
    # Templates have a page of their own.
    assert kinds == {"text", *LIMITS} - {"template"}
