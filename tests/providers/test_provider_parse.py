"""Meta's payloads as items. Each file under payloads/ is one webhook body in Meta's shape."""

import base64
from dataclasses import asdict, replace
from datetime import UTC, datetime

import pytest
from provider_bench import BSUID, CUSTOMER, OPAQUE, PHONE_NUMBER_ID, envelope, items, names, only, raw

from server.providers.contract import (
    Address,
    Broken,
    Change,
    ErrorClass,
    IdentityChange,
    Ignored,
    InboundMessage,
    MessageChange,
    MessageCopy,
    Receipt,
)
from server.providers.health import AccountChange
from server.providers.meta.envelope import Envelope, read_envelope
from server.providers.whatsapp.parse import parse
from server.providers.whatsapp.wamid import token
from server.simulator.payloads import InboundText, Number, Status, encode, inbound_body, merge, statuses_body

PHONE = Address("wa_id", CUSTOMER)
GROUP = Address("group", "Y2FwaV9ncm91cDoxOTUwNTU1MDA3OToxMjAzNjMzOTQzMjAdOTY0NDUZD")


def test_a_text_is_read_whole() -> None:
    message = only("text", InboundMessage)
    assert message.kind == "message"
    assert message.provider_id.startswith("wamid.")
    assert message.discriminator == ""
    assert message.provider_time == datetime(2025, 6, 8, 20, 59, 43, tzinfo=UTC)
    assert message.account_id == PHONE_NUMBER_ID
    assert message.addresses == (PHONE,)
    assert message.profile_name == "Sheena Nelson"
    assert (message.type, message.text) == ("text", "Does it come in another color?")
    assert (message.attachments, message.details, message.reply_to_id) == ((), {}, None)
    assert message.opens_reply_window


def test_characters_that_cannot_be_stored_are_replaced_and_all_others_kept() -> None:
    assert only("text_escaped", InboundMessage).text == "Grüße \U0001f600 <b>a/b</b> \ufffd \ufffd end"


def test_a_reply_names_the_message_it_quotes() -> None:
    message = only("text_reply", InboundMessage)
    assert message.reply_to_id is not None
    assert message.reply_to_id.startswith("wamid.")


def test_what_stands_beside_the_content_is_in_the_details() -> None:
    assert only("text_forwarded", InboundMessage).details == {"forwarding": "often"}
    referral = only("text_referral", InboundMessage).details["referral"]
    assert isinstance(referral, dict)
    assert referral["source_id"] == "120226305854810726"


def test_a_customer_without_a_number_has_the_user_id() -> None:
    message = only("text_user_id_only", InboundMessage)
    assert message.addresses == (Address("bsuid", BSUID),)
    assert message.profile_name == "Sheena Nelson"
    assert message.details == {"username": "realsheenanelson"}


def test_all_addresses_of_a_customer_come_the_number_first() -> None:
    assert only("text_both_ids", InboundMessage).addresses == (
        PHONE,
        Address("bsuid", BSUID),
        Address("parent_bsuid", "US.ENT.11815799212886844830"),
    )


def test_the_only_contact_is_the_sender_even_under_another_number() -> None:
    message = only("text_brazil", InboundMessage)
    assert message.addresses == (Address("wa_id", "5531989654321"), Address("wa_id", "553189654321"))
    assert message.profile_name == "Ana"


def test_a_group_is_a_thread_of_its_own() -> None:
    message = only("text_group", InboundMessage)
    assert message.addresses == (GROUP,)
    assert message.profile_name is None
    assert message.details["sender"] == {"from": CUSTOMER, "name": "Sheena Nelson"}


def test_files_are_described() -> None:
    image = only("image", InboundMessage)
    assert (image.type, image.text) == ("image", "Taj Mahal")
    assert [asdict(attachment) for attachment in image.attachments] == [
        {
            "kind": "image",
            "mime_type": "image/jpeg",
            "file_name": None,
            "size_bytes": None,
            "provider_media_id": "1003383421387256",
            "sha256": "SfInY0gGKTsJlUWbwxC1k+FAD0FZHvzwfpvO0zX0GUI=",
            "voice": False,
            "animated": False,
        }
    ]
    audio = only("audio", InboundMessage)
    assert (audio.text, audio.attachments[0].mime_type) == (None, "audio/ogg; codecs=opus")
    assert audio.attachments[0].voice
    assert audio.details == {}
    assert only("document", InboundMessage).attachments[0].file_name == "../Résumé 2025"
    assert only("sticker", InboundMessage).attachments[0].kind == "sticker"


def test_a_file_meta_could_not_fetch_is_a_message_all_the_same() -> None:
    video = only("video_unavailable", InboundMessage)
    assert (video.type, video.attachments[0].provider_media_id) == ("video", None)


@pytest.mark.parametrize(
    ("name", "type_", "text"),
    [
        ("location", "location", None),
        ("contacts", "contacts", None),
        ("button_reply", "interactive", "Cancel"),
        ("list_reply", "interactive", "Priority Mail Express"),
        ("flow_reply", "interactive", "Sent"),
        ("template_button", "interactive", "Unsubscribe"),
        ("order", "order", None),
        ("unsupported", "unsupported", None),
        ("type_of_tomorrow", "unsupported", None),
    ],
)
def test_other_types_show_what_there_is_to_show(name: str, type_: str, text: str | None) -> None:
    message = only(name, InboundMessage)
    assert (message.type, message.text) == (type_, text)
    assert message.addresses == (PHONE,)


def test_the_content_of_other_types_is_in_the_details() -> None:
    place = only("location", InboundMessage).details["location"]
    assert isinstance(place, dict)
    assert place["latitude"] == 40.782910059774
    assert only("template_button", InboundMessage).details == {
        "interactive": {"kind": "template_reply", "reply_id": "Unsubscribe"}
    }
    (told,) = only("type_of_tomorrow", InboundMessage).details.values()
    assert isinstance(told, dict)
    assert told["type"] == "hologram"


def test_a_placeholder_of_an_edit_opens_no_window() -> None:
    assert only("unsupported", InboundMessage).opens_reply_window
    assert not only("unsupported_edit", InboundMessage).opens_reply_window


def test_an_answer_without_its_object_is_a_message_and_the_error_beside_it_is_not() -> None:
    message, error = items("interactive_without_body")
    assert isinstance(message, InboundMessage)
    assert (message.type, message.text) == ("unsupported", None)
    assert isinstance(error, AccountChange)
    assert error.values["last_error"] == {"code": "131000", "message": "Something went wrong"}


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("request_welcome", "request_welcome"),
        ("status_payment", "payment"),
        ("status_of_tomorrow", "status"),
        ("field_of_tomorrow", "field:telepathy_update"),
    ],
)
def test_what_is_not_a_message_is_recorded_and_not_applied(name: str, kind: str) -> None:
    assert only(name, Ignored).kind == kind


def test_a_field_that_is_not_applied_is_another_item_at_another_time_and_of_another_account() -> None:
    told = Change(
        "whatsapp_business_account", 0, 0, "1", "telepathy_update", {"a": 1}, None, datetime(2026, 11, 1, tzinfo=UTC)
    )
    others = [replace(told, time=datetime(2026, 11, 2, tzinfo=UTC)), replace(told, entry_id="2")]
    keys = {
        (item.kind, item.provider_id, item.discriminator, item.provider_time)
        for change in (told, told, *others)
        for item in parse(change)
    }
    assert len(keys) == 3


def test_an_echo_is_a_copy_of_what_the_business_wrote() -> None:
    copy = only("echoes", MessageCopy)
    assert (copy.origin, copy.direction, copy.text) == ("phone_app", "outbound", "from the phone")
    assert copy.addresses == (Address("wa_id", "16505551234"),)


def test_an_error_of_the_number_is_told_of_the_number_and_without_its_details() -> None:
    change = only("errors_only", AccountChange)
    assert (change.account_id, change.blocks, change.stale) == ("106540352242922", None, False)
    assert change.values == {"last_error": {"code": "130429", "message": "Rate limit hit"}}


def test_a_restriction_of_who_may_be_written_to_first_is_told_and_blocks_nothing() -> None:
    change = only("account_update", AccountChange)
    assert (change.business_account_id, change.number, change.blocks) == ("102290129340398", None, None)
    restriction = change.values["restrictions"][0]
    assert (restriction["type"], restriction["forbids_sending"]) == ("RESTRICTED_BIZ_INITIATED_MESSAGING", False)


@pytest.mark.parametrize(
    ("name", "change", "emoji", "text"),
    [
        ("reaction", "reaction", "\U0001f44d", None),
        ("reaction_removed", "reaction", None, None),
        ("edit", "edit", None, "corrected"),
        ("revoke", "revoke", None, None),
    ],
)
def test_what_is_done_to_a_message_is_no_message(name: str, change: str, emoji: str | None, text: str | None) -> None:
    found = only(name, MessageChange)
    assert (found.kind, found.discriminator, found.member) == ("message_change", change, None)
    assert (found.emoji, found.text) == (emoji, text)
    assert found.addresses == (PHONE,)
    assert found.target_id.startswith("wamid.")


def test_two_ids_of_one_message_have_the_token_in_common() -> None:
    phone, user = "wamid.HBgLMTY1MDU1NTEyMzQVAgASGBQzQTRBNjU5OUFFRTAzODEwMTQ0RgA=", "16505551234"
    decoded = base64.b64decode(phone.removeprefix("wamid."))
    other = "wamid." + base64.b64encode(decoded.replace(user.encode(), b"US.13491208655302741918")).decode()
    assert token(phone) == token(other) == "3A4A6599AEE03810144F"
    for wrong in ("", "wamid.", "wamid.***", "mid.abc", "wamid." + "A" * 4000, "wamid.aGVsbG8="):
        assert token(wrong) is None


def test_a_customer_who_moved_is_known_by_the_old_address_and_gets_the_new_one() -> None:
    moved = only("system_number_changed", IdentityChange)
    assert (moved.previous, moved.current) == ((PHONE,), (Address("wa_id", "12195555358"),))
    made = only("user_id_update", IdentityChange)
    assert made.previous == (Address("bsuid", BSUID),)
    assert made.current == (PHONE, Address("bsuid", "US.99999999999999999999"))
    assert made.provider_id.startswith("sha256:")


def test_a_change_with_nothing_in_it_has_no_items() -> None:
    assert items("nearly_empty") == []


@pytest.mark.parametrize("word", ["sent", "delivered", "read", "played", "failed"])
def test_a_status_is_a_receipt(word: str) -> None:
    receipt = only(f"status_{word}", Receipt)
    assert (receipt.kind, receipt.status, receipt.discriminator) == ("receipt", word, word)
    assert receipt.account_id == PHONE_NUMBER_ID
    assert receipt.addresses[0] == PHONE
    assert receipt.participant is None


def test_a_receipt_returns_what_we_gave_with_the_message() -> None:
    assert only("status_sent", Receipt).opaque == OPAQUE
    assert only("status_played", Receipt).opaque is None
    assert only("status_delivered", Receipt).addresses == (PHONE, Address("bsuid", BSUID))


def test_a_failure_says_why_and_that_the_window_is_closed() -> None:
    (error,) = only("status_failed", Receipt).errors
    assert (error.code, error.error_class, error.closes_reply_window) == ("131047", ErrorClass.PERMANENT, True)
    assert error.message.startswith("Re-engagement message: Message failed to send")
    assert only("status_failed_without_errors", Receipt).errors == ()


def test_each_member_of_a_group_has_a_receipt_of_its_own() -> None:
    receipts = items("status_group")
    assert [item.discriminator for item in receipts] == [f"read/{CUSTOMER}", "read/12195555358"]
    assert all(isinstance(item, Receipt) and item.addresses == (GROUP,) for item in receipts)
    assert [item.participant for item in receipts if isinstance(item, Receipt)] == [
        PHONE,
        Address("wa_id", "12195555358"),
    ]


def test_a_broken_item_breaks_nothing_else() -> None:
    found = items("broken_siblings")
    assert [item.text for item in found if isinstance(item, InboundMessage)] == ["first", "last"]
    assert [item.status for item in found if isinstance(item, Receipt)] == ["read"]
    assert [item.error for item in found if isinstance(item, Broken)] == [
        "id is missing",
        "timestamp is not a time in Unix seconds",
        "text is not an object",
        "from is not a string",
        "messages is not an object",
        "messages is not an object",
        "messages is not an object",
        "status is missing",
        "errors is not an array",
    ]


def test_broken_items_are_told_apart_and_the_same_one_is_the_same() -> None:
    keys = [_key(item) for item in items("broken_siblings")]
    assert len(set(keys)) == len(keys)
    assert keys == [_key(item) for item in items("broken_siblings")]


@pytest.mark.parametrize("name", names())
def test_the_same_body_gives_the_same_items(name: str) -> None:
    again = read_envelope(raw(name), objects={"whatsapp_business_account"})
    assert isinstance(again, Envelope)
    assert [item for change in again.changes for item in parse(change)] == items(name)


@pytest.mark.parametrize("timestamp", [None, "", "-1", "0", "1e9", "99999999999999", 1.5, True, "\u0661749416383"])
def test_a_message_with_an_impossible_time_is_broken(timestamp: object) -> None:
    (change,) = envelope("text").changes
    assert isinstance(change.value, dict)
    (message,) = change.value["messages"]
    message["timestamp"] = timestamp
    (item,) = parse(change)
    assert isinstance(item, Broken)
    assert item.error.startswith("timestamp ")


def test_a_change_without_an_account_is_broken_and_not_read() -> None:
    (item,) = parse(Change("whatsapp_business_account", 0, 0, None, "messages", {"messages": []}, None))
    assert isinstance(item, Broken)
    assert item.error == "metadata.phone_number_id is missing"


def test_what_the_simulator_sends_is_read() -> None:
    number = Number("102290129340398", PHONE_NUMBER_ID, "15550783881")
    texts = [
        InboundText(text="hi", timestamp=1749416383, phone=CUSTOMER, bsuid=BSUID, name="Sheena"),
        InboundText(text="ho", timestamp=1749416384, bsuid="US.7", name="Li"),
    ]
    receipt = Status(wamid="wamid.x", status="read", timestamp=1749416385, phone=CUSTOMER, opaque=OPAQUE)
    found = read_envelope(
        encode(merge(inbound_body(number, texts), statuses_body(number, [receipt]))),
        objects={"whatsapp_business_account"},
    )
    assert isinstance(found, Envelope)
    first, second, third = [item for change in found.changes for item in parse(change)]
    assert isinstance(first, InboundMessage)
    assert (first.addresses, first.profile_name) == ((PHONE, Address("bsuid", BSUID)), "Sheena")
    assert isinstance(second, InboundMessage)
    assert (second.addresses, second.profile_name) == ((Address("bsuid", "US.7"),), "Li")
    assert isinstance(third, Receipt)
    assert (third.provider_id, third.opaque) == ("wamid.x", OPAQUE)


def _key(item: object) -> tuple[object, ...]:
    return tuple(getattr(item, name) for name in ("kind", "provider_id", "discriminator", "provider_time"))
