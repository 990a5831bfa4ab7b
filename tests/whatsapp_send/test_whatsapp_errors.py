"""Meta's error codes, one test for each: the simulator answers the code, and the rows that are left are the golden ones.

`GOLDEN=write pytest tests/whatsapp_send/test_whatsapp_errors.py` writes them anew; they are read by eye before they are committed.
"""

import json
import os
import uuid
from pathlib import Path
from typing import Any

import pytest

from server.kit.clock import utc_now
from server.kit.db import Write
from server.log.append import append
from server.providers.content import FilledTemplate
from server.providers.template import Filling, ListedTemplate
from server.templates import service
from server.templates.service import Owner
from tests.desk import Desk, nobody
from tests.whatsapp_send.sending import USUAL_SECONDS, line, nominal

# The class of each code: R is tried again, L late, P fails the message, C stops the channel, B fails it as a bug of ours.
CLASSES = {
    **dict.fromkeys(
        (1, 2, 4, 80007, 130429, 131000, 131016, 131056, 131057, 132069, 133000, 133004, 133015, 134101), "R"
    ),
    **dict.fromkeys((131048, 131049, 131064, 132015, 133016), "L"),
    **dict.fromkeys((0, 3, 10, 33, 190, 200, 250, 299, 368, 2500), "C"),
    **dict.fromkeys((131005, 131031, 131037, 131042, 131045, 133005, 133006, 133008, 133009, 133010), "C"),
    **dict.fromkeys((100, 131008, 131009, 131055, 135000), "B"),
    **dict.fromkeys((130403, 130472, 130497, 131021, 131026, 131030, 131044, 131047, 131050, 131051, 131052), "P"),
    **dict.fromkeys((131053, 131060, 131062, 131063, 132000, 132001, 132005, 132007, 132008, 132012, 132016), "P"),
    **dict.fromkeys((132018, 132068, 134011, 134100, 134102, 137000), "P"),
    # Of templates being written, and of histories: no message gets one.
    2593109: "P",
    **dict.fromkeys((2388019, 2388024, 2388039, 2388040, 2388047, 2388072, 2388073, 2388293, 2388299), "P"),
    # Of calls, blocking and names, and one that nobody knows: a few times again, then failed.
    **dict.fromkeys((138000, 139000, 147001, 999999), "R"),
}
FILE = Path(__file__).parent / "errors.json"
WRITES = os.environ.get("GOLDEN") == "write"
GOLDEN: dict[str, Any] = json.loads(FILE.read_text()) if FILE.exists() else {}
# The waits there are, without their jitter.
SECONDS = (1, 5, 60, 300, 360, 600, 3600, 10_800, 86_400, 259_200)


def test_each_code_has_its_golden_rows_and_no_other() -> None:
    assert GOLDEN.keys() == {str(code) for code in CLASSES}


def the_class(rows: dict[str, Any]) -> str:
    """What the rows say was done."""
    if rows["channel"] == "paused":
        return "C"
    if rows["delivery"] == "failed":
        return "B" if "(incident " in rows["error_message"] else "P"
    return "L" if rows["waits"] >= 3600 else "R"


@pytest.mark.parametrize("code", CLASSES)
async def test_what_a_code_leaves_behind(desk: Desk, code: int) -> None:
    async with line(desk) as made:
        await made.arm(kind="error", code=code)
        _, found = await made.settled()
        assert len(await made.requests()) == 1
    assert the_class(found) == CLASSES[code]
    found["error_message"] = found["error_message"].partition(" (incident ")[0]
    if WRITES:
        write(code, found)
    assert nominal(found, GOLDEN[str(code)]) == GOLDEN[str(code)]


async def test_what_nobody_knows_fails_the_message_after_three_attempts(desk: Desk) -> None:
    async with line(desk) as made:
        await made.arm(kind="error", code=999999)
        message_id, found = await made.settled()
        for _ in range(2):
            assert found["delivery"] == "queued"
            await desk.execute("UPDATE deliveries SET due_time = now() WHERE channel_id = $1", made.channel.id)
            await made.deliver()
            found = await made.rows(message_id, since=await desk.value("SELECT clock_now()"))
        assert (found["delivery"], found["message"], found["attempt"]) == ("failed", "failed", 3)
        assert len(await made.requests()) == 3


# What a code leaves of the template that the message was made from, and of what is to be read: it is another one than is known here.
STALE = {132000, 132001, 132015, 132016}
TEMPLATE_CODES = sorted(STALE | {131048, 131049, 131064, 132005, 132007, 132008, 132012, 132018})


@pytest.mark.parametrize("code", TEMPLATE_CODES)
async def test_what_a_code_leaves_of_a_template(desk: Desk, code: int) -> None:
    async with line(desk) as made:
        content, of = await template(desk)
        await desk.execute(READ, made.channel.id, of.business_account_id)
        await made.arm(kind="error", code=code)
        _, found = await made.settled("Hello", content=content)
        assert the_class(found) == CLASSES[code]
        row = await desk.rows(TEMPLATE, uuid.UUID(content.template_id))
        assert dict(row[0]) == {"status": "APPROVED", "stale": code in STALE}
        assert bool(await desk.value(READ_SOON, made.channel.id)) == (code in STALE)
        waits = await desk.value("SELECT awaited_template_id FROM deliveries WHERE channel_id = $1", made.channel.id)
        assert waits == (uuid.UUID(content.template_id) if code == 132015 else None)


TEMPLATE = "SELECT status, stale FROM templates WHERE id = $1"
# The account's templates were read, and nobody asks for them again.
READ = "UPDATE channels SET templates_due_time = NULL, details = details || jsonb_build_object('waba_id', $2::text) WHERE id = $1"
READ_SOON = "SELECT templates_due_time < clock_now() + interval '1 minute' FROM channels WHERE id = $1"


async def template(desk: Desk) -> tuple[FilledTemplate, Owner]:
    """A message of a template of its own, which may be sent, and whose it is."""
    of = Owner(provider="whatsapp", business_account_id=uuid.uuid4().hex)
    listed = ListedTemplate(
        provider_id="7",
        name="hello",
        language="en",
        status="APPROVED",
        category="UTILITY",
        components=({"type": "BODY", "text": "Hello"},),
    )

    async def store(write: Write) -> None:
        await append(write, await service.store_listed(write, of=of, found=[listed], at=utc_now(), origin=nobody()))

    await desk.database.write(store)
    async with desk.database.connection() as connection:
        row = await service.named(connection, of=of, name="hello", language="en")
    fields = {"name": row.name, "language": row.language, "category": row.category}
    return FilledTemplate(body="Hello", template_id=str(row.id), filling=Filling(), **fields), of


def write(code: int, found: dict[str, Any]) -> None:
    """These rows are the golden ones from now on."""
    for name in USUAL_SECONDS & found.keys():
        found[name] = max(seconds for seconds in SECONDS if seconds <= found[name])
    GOLDEN[str(code)] = found
    whole = {str(each): GOLDEN[str(each)] for each in CLASSES if str(each) in GOLDEN}
    FILE.write_text(json.dumps(whole, indent=1, ensure_ascii=False) + "\n")
