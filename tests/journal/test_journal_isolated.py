"""An item that fails, wherever it does, is marked and shown to the operator; its neighbours in the payload are applied."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import Any

from journal_inlet import Inlet

from server.journal import browse
from server.kit.clock import utc_now
from server.providers.contract import Broken, Change, InboundMessage, Receipt
from server.providers.whatsapp import parse
from server.simulator import payloads

DAY = timedelta(days=1)
BAD, GOOD = "4915100000666", "4915100000001"
# The database refuses whatever has the word, or the number, in any row that an item writes.
PLANTED = """
CREATE FUNCTION refuse_planted() RETURNS trigger LANGUAGE plpgsql AS
'BEGIN IF to_jsonb(NEW)::text ~ ''poison|4915100000666'' THEN RAISE EXCEPTION ''planted''; END IF; RETURN NEW; END';
CREATE TRIGGER planted BEFORE INSERT OR UPDATE ON messages FOR EACH ROW EXECUTE FUNCTION refuse_planted();
CREATE TRIGGER planted BEFORE INSERT ON parked_receipts FOR EACH ROW EXECUTE FUNCTION refuse_planted();
CREATE TRIGGER planted BEFORE INSERT ON marketing_consents FOR EACH ROW EXECUTE FUNCTION refuse_planted();
CREATE TRIGGER planted BEFORE INSERT ON timers FOR EACH ROW EXECUTE FUNCTION refuse_planted();
CREATE TRIGGER planted BEFORE INSERT ON templates FOR EACH ROW EXECUTE FUNCTION refuse_planted();
"""
UNPLANTED = """
DROP TRIGGER planted ON messages; DROP TRIGGER planted ON parked_receipts; DROP TRIGGER planted ON marketing_consents;
DROP TRIGGER planted ON timers; DROP TRIGGER planted ON templates; DROP FUNCTION refuse_planted
"""


def at(seconds: int = 0) -> dict[str, str]:
    return {"timestamp": str(int(time.time()) - 100 + seconds)}


def template(name: str, number: int) -> dict[str, Any]:
    return {
        "event": "APPROVED",
        "message_template_id": number,
        "message_template_name": name,
        "message_template_language": "en_US",
    }


def both(inlet: Inlet) -> dict[str, Any]:
    """Of every kind one that is taken and one that is refused."""
    number = inlet.desk.numbers[inlet.channel.id]
    texts = [
        {"from": GOOD, "id": f"wamid.m{word}", **at(), "type": "text", "text": {"body": word}}
        for word in ("one", "poison", "two")
    ]
    reactions = [
        {
            "from": GOOD,
            "id": f"wamid.r{emoji}",
            **at(after),
            "type": "reaction",
            "reaction": {"message_id": "wamid.mone", "emoji": emoji},
        }
        for after, emoji in enumerate(("👍", "poison"))
    ]
    moves = [
        {"from": who, "id": f"wamid.s{who}", **at(), "type": "system"}
        | {"system": {"type": "user_changed_number", "wa_id": who[:-1] + "9"}}
        for who in (BAD, GOOD)
    ]
    statuses = [{"id": f"wamid.{word}", "status": "sent", **at()} for word in ("poison", "stranger")]
    echoes = [
        {"from": "1", "to": GOOD, "id": f"wamid.e{word}", **at(), "type": "text", "text": {"body": word}}
        for word in ("poison", "said on the phone")
    ]
    wishes = [{"wa_id": who, "category": "marketing_messages", "value": "stop", **at()} for who in (BAD, GOOD)]
    fields: list[tuple[str, Any]] = [
        ("messages", {"messages": [*texts, *reactions, *moves], "statuses": statuses}),
        ("smb_message_echoes", {"message_echoes": echoes}),
        ("user_preferences", {"user_preferences": wishes}),
        ("message_template_status_update", template("poison", 1)),
        ("message_template_status_update", template("order", 2)),
    ]
    changes = [{"field": name, "value": payloads.numbered(number) | value} for name, value in fields]
    return {"object": "whatsapp_business_account", "entry": [{"id": number.waba_id, "changes": changes}]}


async def test_of_every_kind_the_item_that_fails_fails_alone_and_is_seen(inlet: Inlet) -> None:
    await inlet.as_owner(PLANTED)
    try:
        payload = await inlet.taken(both(inlet))
    finally:
        await inlet.as_owner(UNPLANTED)
    kinds = ("consent", "identity_change", "message_change", "message_copy", "receipt", "template")
    wanted = [
        *((kind, "failed") for kind in kinds),
        ("message", "applied"),
        ("message", "applied"),
        ("message", "failed"),
    ]
    found = await inlet.items(payload.id)
    good = [item for item in found if item[1] != "failed" and item[0] != "message"]
    assert sorted(item for item in found if item not in good) == sorted(wanted)
    assert [kind for kind, _ in good] == list(kinds)
    assert (await inlet.payload(payload.id))["state"] == "applied"
    now = utc_now()
    async with inlet.desk.database.connection() as connection:
        (entry,) = await browse.entries(connection, since=now - DAY, until=now + DAY, state=None, failed=True, limit=10)
    assert entry.id == payload.id
    assert sorted(await inlet.said()) == ["one", "said on the phone", "two"]


async def test_what_failed_is_applied_by_a_replay_once_nothing_is_in_its_way(inlet: Inlet) -> None:
    await inlet.as_owner(PLANTED)
    try:
        payload = await inlet.taken(both(inlet))
    finally:
        await inlet.as_owner(UNPLANTED)
    await inlet.replayed(apply=True)
    assert [state for _, state in await inlet.items(payload.id) if state == "failed"] == []
    assert "poison" in await inlet.said()


class Bomb(dict[str, Any]):
    """An item at which the parser itself fails."""

    def get(self, name: str, default: Any = None) -> Any:
        if name == "type":
            raise ZeroDivisionError
        return super().get(name, default)


def test_a_fault_of_the_parser_in_one_item_leaves_the_others() -> None:
    texts = [{"from": GOOD, "id": f"wamid.{n}", **at(), "type": "text", "text": {"body": "hi"}} for n in range(3)]
    value = {
        "messages": [texts[0], Bomb(texts[1]), texts[2]],
        "statuses": [Bomb({"id": "wamid.s", "status": "sent", **at()}), {"id": "wamid.t", "status": "sent", **at()}],
    }
    change = Change("whatsapp_business_account", 0, 0, "1", "messages", value, "2")
    found = parse.parse(change)
    assert [type(item) for item in found] == [InboundMessage, InboundMessage, Broken, Receipt, Broken]
    assert [item.error for item in found if isinstance(item, Broken)] == [
        "messages: unexpected ZeroDivisionError",
        "statuses: unexpected ZeroDivisionError",
    ]
