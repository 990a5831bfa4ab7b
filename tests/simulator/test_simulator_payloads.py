"""The bodies tests elsewhere build: shape, bytes, signature, ids."""

import hashlib
import hmac
import json

import pytest

from server.simulator.payloads import InboundText, Number, Status, encode, inbound_body, merge, sign, statuses_body
from server.simulator.wamid import Wamid, new_wamid, read_wamid

NUMBER = Number("102290129340398", "106540352242922", "15550783881")


def test_an_inbound_body_has_metas_shape() -> None:
    message = InboundText(
        phone="16505551234", bsuid="US.1", name="Ann", text="hi", timestamp=1_700_000_000, wamid="wamid.A"
    )

    assert inbound_body(NUMBER, [message]) == {
        "object": "whatsapp_business_account",
        "entry": [
            {
                "id": "102290129340398",
                "changes": [
                    {
                        "field": "messages",
                        "value": {
                            "messaging_product": "whatsapp",
                            "metadata": {
                                "display_phone_number": "15550783881",
                                "phone_number_id": "106540352242922",
                            },
                            "contacts": [{"profile": {"name": "Ann"}, "wa_id": "16505551234", "user_id": "US.1"}],
                            "messages": [
                                {
                                    "from": "16505551234",
                                    "from_user_id": "US.1",
                                    "id": "wamid.A",
                                    "timestamp": "1700000000",
                                    "text": {"body": "hi"},
                                    "type": "text",
                                }
                            ],
                        },
                    }
                ],
            }
        ],
    }


def test_many_messages_of_many_customers_name_each_customer_once() -> None:
    messages = [
        InboundText(phone=phone, name=name, text=f"{turn}", timestamp=1)
        for turn in range(3)
        for phone, name in (("16505551234", "Ann"), ("16505551235", "Bob"))
    ]

    value = inbound_body(NUMBER, messages)["entry"][0]["changes"][0]["value"]

    assert [contact["profile"]["name"] for contact in value["contacts"]] == ["Ann", "Bob"]
    assert [message["text"]["body"] for message in value["messages"]] == ["0", "0", "1", "1", "2", "2"]
    assert len({message["id"] for message in value["messages"]}) == 6


def test_a_failed_status_comes_without_contacts_and_without_empty_members() -> None:
    body = statuses_body(NUMBER, [Status(wamid="wamid.A", status="failed", timestamp=2, phone="1650", errors=[])])

    value = body["entry"][0]["changes"][0]["value"]
    assert "contacts" not in value
    assert value["statuses"] == [
        {"id": "wamid.A", "status": "failed", "timestamp": "2", "recipient_id": "1650", "errors": []}
    ]


def test_two_businesses_share_one_post() -> None:
    other = Number("2", "3", "15550783882")
    status = Status(wamid="wamid.A", status="read", timestamp=2)

    body = merge(statuses_body(NUMBER, [status]), statuses_body(other, [status]))

    assert [entry["id"] for entry in body["entry"]] == ["102290129340398", "2"]


def test_bytes_are_escaped_as_meta_escapes_them() -> None:
    assert encode({"text": "Grüße / 😀"}) == rb'{"text":"Gr\u00fc\u00dfe \/ \ud83d\ude00"}'
    assert json.loads(encode({"text": "Grüße / 😀"})) == {"text": "Grüße / 😀"}


def test_the_signature_is_the_hmac_of_the_raw_body() -> None:
    expected = hmac.new(b"secret", b"{}", hashlib.sha256).hexdigest()

    assert sign(b"{}", "secret") == f"sha256={expected}"


@pytest.mark.parametrize(
    ("published", "parts"),
    [
        (
            "wamid.HBgNNTUxNjk5MjMxODIyMhUCABEYEjgxQkVFRDVBQTVDODFDOTg3MQA=",
            Wamid("5516992318222", "outbound", "81BEED5AA5C81C9871"),
        ),
        (
            "wamid.HBgLNjAxNzM1MjYyMzMVAgASGBQzQUI0NkE4NjM1QTU2NjVGOURGQgA=",
            Wamid("60173526233", "inbound", "3AB46A8635A5665F9DFB"),
        ),
    ],
)
def test_ids_are_built_like_published_ones(published: str, parts: Wamid) -> None:
    assert read_wamid(published) == parts
    assert str(parts) == published


def test_a_new_id_holds_the_peer_in_clear() -> None:
    outbound, inbound = (new_wamid(peer="16505551234", direction=way) for way in ("outbound", "inbound"))

    assert read_wamid(outbound).peer == read_wamid(inbound).peer == "16505551234"
    assert (len(read_wamid(outbound).token), len(read_wamid(inbound).token)) == (18, 20)


@pytest.mark.parametrize("foreign", ["", "wamid.", "wamid.!!", "wamid.HBg=", "wamid.AAAA", "ABGGFlA5Fpa"])
def test_other_ids_have_no_parts(foreign: str) -> None:
    assert read_wamid(foreign) is None


def test_a_message_of_nobody_cannot_be_built() -> None:
    with pytest.raises(ValueError, match="needs a phone number or a user id"):
        InboundText(text="hi", timestamp=1)
