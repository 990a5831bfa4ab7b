"""A webhook without somebody: what is about him is taken out, and nothing of anybody else."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from server.providers.contract import Erased, Provider
from server.providers.registry import ProviderSettings, create_providers
from server.simulator.payloads import (
    Inbound,
    Number,
    Status,
    encode,
    field_body,
    inbound_body,
    merge,
    statuses_body,
    webhook_body,
)
from server.simulator.wamid import new_wamid
from tests.erasures.erasures_desk import traces

HIS, OTHER = "4915112345678", "4915112345679"
USER = "DE.1234567890"
NUMBER = Number("102290129340398", "106540352242922", "15550783881")


@pytest.fixture(scope="module")
def providers() -> dict[str, Provider]:
    return create_providers(ProviderSettings(meta_graph_url="http://127.0.0.1:9"))


def says(phone: str | None, text: str, **more: Any) -> Inbound:
    return Inbound(type="text", content={"body": text}, timestamp=int(time.time()), phone=phone, **more)


def left(provider: Provider, body: Any, **erased: Any) -> Any:
    raw = provider.without(encode(body), Erased(**erased))
    return None if raw is None else json.loads(raw)


def test_what_he_wrote_goes_and_what_others_wrote_stays(providers: dict[str, Provider]) -> None:
    whole = inbound_body(NUMBER, [says(HIS, "his", name="Hi"), says(OTHER, "theirs", name="Other")])
    theirs = inbound_body(NUMBER, [says(OTHER, "theirs", name="Other")])
    value = left(providers["whatsapp"], whole, addresses={HIS})["entry"][0]["changes"][0]["value"]
    expected = theirs["entry"][0]["changes"][0]["value"]  # type: ignore[index]
    assert value["contacts"] == expected["contacts"]
    assert [message["text"]["body"] for message in value["messages"]] == ["theirs"]
    assert left(providers["whatsapp"], theirs, addresses={HIS}) is None


@pytest.mark.parametrize("address", [HIS, USER])
def test_he_is_known_by_each_of_his_addresses(providers: dict[str, Provider], address: str) -> None:
    receipt = Status(wamid=new_wamid(peer=HIS, direction="outbound"), status="read", timestamp=1, phone=HIS, bsuid=USER)
    names = ("user_preferences", "user_id_update", "message_echoes")
    fields = [
        {"wa_id": HIS, "user_id": USER},
        {"wa_id": HIS, "user_id": {"previous": USER, "current": "DE.2"}},
        {"to": HIS, "to_user_id": USER},
    ]
    bodies = [
        inbound_body(NUMBER, [says(HIS, "his", bsuid=USER)]),
        statuses_body(NUMBER, [receipt]),
        webhook_body(
            NUMBER, messages=[{"type": "system", "from": "1", "system": {"wa_id": HIS, "user_id": USER, "body": "x"}}]
        ),
        *(field_body(NUMBER, name, {name: [item]}, time=1) for name, item in zip(names, fields, strict=True)),
    ]
    for body in bodies:
        remaining = left(providers["whatsapp"], body, addresses={address})
        assert remaining is not None, body
        assert traces(json.dumps(remaining).encode(), [HIS, USER]) == []


def test_his_thread_of_a_history_goes_and_those_of_others_stay(providers: dict[str, Provider]) -> None:
    talks = [
        {"id": phone, "messages": [{"id": f"wamid.{phone}", "from": phone, "timestamp": "1", "type": "text"}]}
        for phone in (HIS, OTHER)
    ]
    whole = field_body(NUMBER, "history", {"history": [{"metadata": {"phase": 0}, "threads": talks}]}, time=1)
    value = left(providers["whatsapp"], whole, addresses={HIS})["entry"][0]["changes"][0]["value"]
    assert value["history"] == [{"metadata": {"phase": 0}, "threads": talks[1:]}]


def test_a_number_that_differs_in_its_last_digit_is_another(providers: dict[str, Provider]) -> None:
    whatsapp = providers["whatsapp"]
    for direction in ("inbound", "outbound"):
        (prefix,) = whatsapp.telling({HIS})
        assert new_wamid(peer=HIS, direction=direction).startswith(prefix)  # type: ignore[arg-type]
        assert not new_wamid(peer=OTHER, direction=direction).startswith(prefix)  # type: ignore[arg-type]
        assert not new_wamid(peer=HIS + "0", direction=direction).startswith(prefix)  # type: ignore[arg-type]


def test_what_others_say_of_him_stays(providers: dict[str, Provider]) -> None:
    card = [{"name": {"formatted_name": "He"}, "phones": [{"phone": f"+{HIS}", "wa_id": HIS}]}]
    words = [says(OTHER, HIS), Inbound(type="contacts", content=card, timestamp=1, phone=OTHER)]
    assert left(providers["whatsapp"], inbound_body(NUMBER, words), addresses={HIS}) is None


def test_what_came_for_a_new_contact_with_his_address_stays(providers: dict[str, Provider]) -> None:
    old, new = says(HIS, "old", name="Hi"), says(HIS, "new", name="Hi")
    remaining = left(
        providers["whatsapp"], inbound_body(NUMBER, [old, new]), addresses={HIS}, ids={old.wamid}, kept={new.wamid}
    )
    value = remaining["entry"][0]["changes"][0]["value"]
    assert [message["id"] for message in value["messages"]] == [new.wamid]
    assert [contact["wa_id"] for contact in value["contacts"]] == [HIS]


def test_a_change_that_is_about_nobody_else_goes_as_a_whole(providers: dict[str, Provider]) -> None:
    body = merge(inbound_body(NUMBER, [says(OTHER, "theirs")]), field_body(NUMBER, "calls", {"his": "words"}, time=1))
    remaining = left(providers["whatsapp"], body, changes={(1, 0)})
    assert remaining["entry"][0] == body["entry"][0]  # type: ignore[index]
    assert remaining["entry"][1]["changes"] == []


@pytest.mark.parametrize(
    "raw", [b"", b"{", b"[]", b"null", b'{"entry": 1}', b'{"entry": [1, {"changes": 2}]}', b"[" * 100_000]
)
def test_what_is_no_webhook_has_nothing(providers: dict[str, Provider], raw: bytes) -> None:
    for provider in providers.values():
        assert provider.without(raw, Erased(addresses={HIS})) is None


def test_items_of_a_system_of_ones_own(providers: dict[str, Provider]) -> None:
    items = [{"id": "1", "user_ref": HIS, "text": "his"}, {"id": "2", "user_ref": OTHER, "text": "theirs"}]
    body = {"account_id": "a", "messages": items, "receipts": [{"id": "ours"}, {"id": "others"}]}
    remaining = left(providers["api"], body, addresses={HIS}, ids={"sent ours"})
    assert remaining == {"account_id": "a", "messages": items[1:], "receipts": [{"id": "others"}]}
