"""The outside of a webhook."""

import json

import pytest
from provider_bench import OBJECTS, PHONE_NUMBER_ID, envelope, names, raw

from server.providers.contract import Json
from server.providers.meta.envelope import Envelope, Unreadable, read_envelope


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", Unreadable.NOT_JSON),
        (b"hello", Unreadable.NOT_JSON),
        (b"\xff\xfe\xfa", Unreadable.NOT_JSON),
        (b'{"object":NaN}', Unreadable.NOT_JSON),
        (b'{"object":' + b"9" * 5000 + b"}", Unreadable.NOT_JSON),
        (b"[]", Unreadable.NOT_AN_OBJECT),
        (b"null", Unreadable.NOT_AN_OBJECT),
        (b"{}", Unreadable.UNKNOWN_OBJECT),
        (b'{"object":"page","entry":[{"id":"1","messaging":[]}]}', Unreadable.UNKNOWN_OBJECT),
        (b'{"object":["whatsapp_business_account"]}', Unreadable.UNKNOWN_OBJECT),
        (b'{"object":"whatsapp_business_account"}', Unreadable.EMPTY_ENTRY),
        (b'{"object":"whatsapp_business_account","entry":[]}', Unreadable.EMPTY_ENTRY),
        (b'{"object":"whatsapp_business_account","entry":{"id":"1"}}', Unreadable.EMPTY_ENTRY),
        (b'{"object":"whatsapp_business_account","entry":[{"id":"1"}]}', Unreadable.NO_CHANGES),
        (b'{"object":"whatsapp_business_account","entry":[{"id":"1","changes":[]}]}', Unreadable.NO_CHANGES),
        (b"[" * 65 + b"]" * 65, Unreadable.TOO_DEEP),
        (b"[" * 100_000 + b"]" * 100_000, Unreadable.TOO_DEEP),
        (b'{"a":' * 100_000, Unreadable.TOO_DEEP),
    ],
)
def test_a_body_with_nothing_to_apply_says_why(body: bytes, reason: Unreadable) -> None:
    assert read_envelope(body, objects=OBJECTS) is reason


def test_changes_are_routed_by_phone_number_id_alone() -> None:
    changes = envelope("two_businesses").changes
    assert [change.account_id for change in changes] == [PHONE_NUMBER_ID, "7794189252778687", PHONE_NUMBER_ID]
    assert [change.entry_id for change in changes] == ["102290129340398", "215589313241560", "215589313241560"]
    assert [(change.entry_index, change.change_index) for change in changes] == [(0, 0), (1, 0), (1, 1)]


def test_a_management_field_has_the_business_but_no_number() -> None:
    (change,) = envelope("account_update").changes
    assert (change.field, change.entry_id, change.account_id) == ("account_update", "102290129340398", None)


@pytest.mark.parametrize("given", [None, "", "12a", "1\x00", "1" * 33, True, -1, 1.5, ["1"], "\u0661"])
def test_an_id_that_could_not_be_one_is_none(given: Json) -> None:
    assert _read(metadata=given).changes[0].account_id is None


def test_an_id_written_as_a_number_is_an_id() -> None:
    assert _read(metadata=106540352242922).changes[0].account_id == PHONE_NUMBER_ID


def test_pieces_that_do_not_fit_are_kept_beside_those_that_do() -> None:
    good = {"field": "messages", "value": {"metadata": {"phone_number_id": PHONE_NUMBER_ID}}}
    body = {
        "object": "whatsapp_business_account",
        "entry": [7, {"id": "1", "changes": "none"}, {"id": "2", "changes": ["x", good, {"field": 5}]}],
    }
    found = read_envelope(json.dumps(body).encode(), objects=OBJECTS)
    assert isinstance(found, Envelope)
    assert [change.account_id for change in found.changes] == [None, None, None, PHONE_NUMBER_ID, None]
    assert [change.field for change in found.changes] == ["", "", "", "messages", ""]
    assert json.loads(found.subset(found.changes)) == body
    rest = json.loads(found.subset(change for change in found.changes if change.account_id is None))
    assert rest["entry"] == [7, {"id": "1", "changes": "none"}, {"id": "2", "changes": ["x", {"field": 5}]}]


@pytest.mark.parametrize("name", names())
def test_all_changes_of_a_body_make_the_same_body(name: str) -> None:
    whole = envelope(name)
    assert json.loads(whole.subset(whole.changes)) == json.loads(raw(name))


def test_the_part_of_one_business_holds_nothing_of_the_other() -> None:
    whole = envelope("two_businesses")
    part = whole.subset(change for change in whole.changes if change.account_id == PHONE_NUMBER_ID)
    found = read_envelope(part, objects=OBJECTS)
    assert isinstance(found, Envelope)
    assert [change.account_id for change in found.changes] == [PHONE_NUMBER_ID, PHONE_NUMBER_ID]
    assert [change.value for change in found.changes] == [whole.changes[0].value, whole.changes[2].value]
    assert b"globex" not in part


def test_a_part_is_ascii_and_keeps_what_postgres_could_not_store() -> None:
    whole = envelope("text_escaped")
    part = whole.subset(whole.changes)
    assert part.isascii()
    assert b"\\u0000" in part
    assert b"\\ud83d end" in part


def _read(*, metadata: Json) -> Envelope:
    value = {"metadata": {"phone_number_id": metadata}}
    body = {"object": "whatsapp_business_account", "entry": [{"changes": [{"field": "messages", "value": value}]}]}
    found = read_envelope(json.dumps(body).encode(), objects=OBJECTS)
    assert isinstance(found, Envelope)
    return found
