"""What every provider of the registry must keep, whichever it is."""

import asyncio
from datetime import timedelta
from pathlib import Path

import pytest
from provider_bench import Connect, answer, error_body, items, names, outgoing_by, saying, wire

from server.providers.contract import Broken, Change, ErrorClass, Ignored, NotSent, Receipt, Refused
from server.providers.registry import FACTORIES, ProviderSettings, create_providers

NOWHERE = "http://127.0.0.1:1"

every_provider = pytest.mark.parametrize("name", sorted(FACTORIES))


@every_provider
async def test_it_has_the_name_it_is_registered_under(name: str, connect: Connect) -> None:
    provider = connect(NOWHERE, name=name)
    assert provider.name == name == name.lower()
    assert bool(provider.webhook_objects) != provider.takes_calls
    assert provider.parser_version >= 1


@every_provider
async def test_its_capabilities_make_sense(name: str, connect: Connect) -> None:
    can = connect(NOWHERE, name=name).capabilities
    assert can.text_characters > 0
    assert can.opaque_characters >= 36, "the id of a part must fit"
    assert timedelta(0) <= can.reply_window_margin < (can.reply_window or timedelta.max)
    assert all(each.characters.get("body", 0) <= can.text_characters for each in can.contents.values())
    assert can.address_kinds


@every_provider
@pytest.mark.parametrize("value", [None, 0, "", [], {}, {"messages": None}, {"messages": [{}]}, [[[]]]])
async def test_parsing_never_raises(name: str, value: object, connect: Connect) -> None:
    provider = connect(NOWHERE, name=name)
    for word in provider.webhook_objects:
        for field in ("messages", "", "something_new"):
            found = provider.parse(Change(word, 0, 0, "1", field, value, "1"))
            assert all(isinstance(item, (Ignored, Broken)) for item in found)


async def test_no_two_items_of_a_payload_share_a_key() -> None:
    for name in names():
        keys = [(item.kind, item.provider_id, item.discriminator, item.provider_time) for item in items(name)]
        assert len(set(keys)) == len(keys)


async def test_the_receipts_of_one_message_are_told_apart() -> None:
    receipts = [item for name in ("status_sent", "status_read", "status_failed") for item in items(name)]
    assert {item.provider_id for item in receipts} == {receipts[0].provider_id}
    assert len({item.discriminator for item in receipts if isinstance(item, Receipt)}) == 3


@every_provider
async def test_a_refused_connection_is_not_sent(name: str, connect: Connect) -> None:
    assert await connect(NOWHERE, name=name).send(outgoing_by(name, NOWHERE)) == NotSent("connect")


@every_provider
async def test_a_malformed_token_stops_the_channel_and_leaves_no_header_to_inject_into(
    name: str, connect: Connect
) -> None:
    provider = connect(NOWHERE, name=name)
    for token in ("", "two words", "line\r\nX-Other: header", "tökén"):
        refused = await provider.send(outgoing_by(name, NOWHERE, token=token))
        assert isinstance(refused, Refused)
        assert refused.error_class is ErrorClass.STOP_CHANNEL


@every_provider
async def test_a_malformed_account_or_version_never_becomes_a_path(name: str, connect: Connect) -> None:
    provider = connect(NOWHERE, name=name)
    malformed: dict[str, list[dict[str, object]]] = {
        "whatsapp": [{"account_id": "../me"}, {"account_id": ""}, {"settings": {"graph_version": "v26.0/x"}}],
        "api": [{"settings": {"callback_url": url}} for url in ("file:///etc/passwd", "http://", "http://a:b@c/")],
    }
    for fields in [*malformed[name], {"settings": {}}]:
        refused = await provider.send(outgoing_by(name, NOWHERE, **fields))
        assert isinstance(refused, Refused)
        assert refused.error_class is ErrorClass.BUG


@every_provider
async def test_nothing_said_about_an_outcome_holds_token_text_or_address(name: str, connect: Connect) -> None:
    async with wire(saying(answer(500, b"<html>"), answer(400, error_body(131026)))) as server:
        provider, message = connect(server.url, name=name), outgoing_by(name, server.url, text="a secret text")
        said = [repr(await provider.send(message)) for _ in range(2)] + [repr(message)]
    for word in (message.token, message.text, message.to.value):
        assert not [one for one in said if word in one]


@every_provider
async def test_it_can_be_closed_twice_and_used_again(name: str, connect: Connect) -> None:
    provider = connect(NOWHERE, name=name)
    await provider.close()
    assert isinstance(await provider.send(outgoing_by(name, NOWHERE)), NotSent), "asked, though nobody listens"
    await asyncio.gather(provider.close(), provider.close())


async def test_the_registry_makes_each_provider_once() -> None:
    providers = create_providers(ProviderSettings(meta_graph_url=NOWHERE))
    assert sorted(providers) == sorted(FACTORIES)
    for provider in providers.values():
        await provider.close()


def test_providers_import_nothing_above_them() -> None:
    """The rest of the server may know providers; they know the contract, Meta's shared part and each other's folder."""
    folder = Path(__file__).parents[2] / "server" / "providers"
    allowed = ("server.providers", "server.kit")
    for path in folder.rglob("*.py"):
        lines = [line for line in path.read_text().splitlines() if line.startswith(("from server", "import server"))]
        assert not [line for line in lines if not line.split()[1].startswith(allowed)], path
