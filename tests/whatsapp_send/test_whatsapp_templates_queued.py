"""Templates that change at Meta, or customers who change their mind, after a message was queued: the rows, and what Meta was asked."""

from __future__ import annotations

import time
from typing import Any

import pytest

from server.contacts import consents
from server.contacts.consents import Stop
from server.kit.clock import utc_now
from server.kit.db import Write
from server.log.append import append
from server.providers.content import FilledTemplate
from server.providers.meta.envelope import Envelope, read_envelope
from server.providers.template import Filling, TemplateAccount, TemplateChange, TemplateUnpause, TemplateWritten
from server.simulator import payloads
from server.templates import service, sync
from tests.desk import Desk, nobody
from tests.installation import Installed
from tests.journal.journal_inlet import Inlet
from tests.whatsapp_send.sending import Line, line

STATUS, CATEGORY = "message_template_status_update", "template_category_update"
AWAITED = "SELECT awaited_template_id FROM deliveries WHERE channel_id = $1 AND awaited_template_id IS NOT NULL"

TRAIL = """
SELECT status, source, note, error_code FROM message_status_updates WHERE message_id = $1 ORDER BY create_time, id
"""


class Shelf:
    """The templates of a channel's account, at the simulator and here; webhooks come when a test says so."""

    def __init__(self, made: Line) -> None:
        self.made = made
        number = made.desk.numbers[made.channel.id]
        self.waba, self.token = number.waba_id, made.desk.account(made.channel.id)["access_token"]
        self.of = service.Owner(provider="whatsapp", business_account_id=self.waba)
        self.id = ""

    async def put(self, **more: str) -> FilledTemplate:
        """A template that both know, and a message of it."""
        template = {"name": "news", "language": "en_US", "components": [{"type": "BODY", "text": "Hello"}], **more}
        self.id = (await self.control("templates", {"wabaId": self.waba, "templates": [template]}))["ids"][0]
        await self.listed()
        row = await self.row()
        return FilledTemplate(
            body="Hello",
            template_id=str(row.id),
            name=row.name,
            language=row.language,
            category=row.category,
            filling=Filling(),
        )

    @property
    def account(self) -> TemplateAccount:
        return TemplateAccount(business_account_id=self.waba, token=self.token, settings={"graph_version": "v26.0"})

    async def listed(self) -> None:
        """The list is read."""
        found, _ = await sync.whole_list(self.made.providers["whatsapp"], self.account)

        async def unit(write: Write) -> None:
            await append(
                write, await service.store_listed(write, of=self.of, found=list(found), at=utc_now(), origin=nobody())
            )

        await self.made.desk.database.write(unit)

    async def control(self, path: str, body: object) -> Any:
        async with self.made.http.post(f"{self.made.url}/_control/{path}", json=body) as response:
            assert response.status in (200, 201), await response.text()
            return await response.json()

    async def told(self, field: str, **value: object) -> None:
        """Meta's webhook about it comes here."""
        names = {
            "message_template_id": int(self.id),
            "message_template_name": "news",
            "message_template_language": "en-US",
        }
        change = {"field": field, "value": names | value}
        entry = {"id": self.waba, "time": int(time.time()) + 5, "changes": [change]}
        body = payloads.encode({"object": "whatsapp_business_account", "entry": [entry]})
        provider = self.made.desk.providers["whatsapp"]
        envelope = read_envelope(body, objects=provider.webhook_objects)
        assert isinstance(envelope, Envelope)
        (item,) = provider.parse(envelope.changes[0])
        assert isinstance(item, TemplateChange)

        async def unit(write: Write) -> None:
            events = await service.apply(write, item, provider="whatsapp", received=utc_now(), origin=nobody())
            await append(write, events)

        await self.made.desk.database.write(unit)

    async def row(self) -> Any:
        async with self.made.desk.database.connection() as connection:
            return await service.named(connection, of=self.of, name="news", language="en_US")


async def opted_out(made: Line) -> None:
    identity_id = await made.desk.value("SELECT identity_id FROM conversations WHERE id = $1", made.conversation_id)

    async def unit(write: Write) -> None:
        stop = Stop(identity_id=identity_id, time=utc_now(), origin=nobody())
        await append(write, await consents.stop(write.connection, [stop]))

    await made.desk.database.write(unit)


async def kinds(made: Line) -> list[str]:
    return [request["body"]["type"] for request in await made.requests()]


async def test_o9_what_meta_had_paused_goes_when_its_webhook_ends_the_pause(desk: Desk) -> None:
    async with line(desk) as made:
        shelf = Shelf(made)
        message = await shelf.put()
        await shelf.control(f"templates/{shelf.id}", {"status": "PAUSED"})
        now = await desk.value("SELECT clock_now()")
        queued = await made.queue("Hello", content=message)
        await made.deliver()
        rows = await made.rows(queued, since=now)
        assert (rows["delivery"], rows["attempt"], rows["error_code"], rows["message"]) == (
            "queued",
            1,
            "132015",
            "pending",
        )
        assert rows["waits"] > 3600
        row = await shelf.row()
        assert row.stale, "it is read again"
        assert await desk.value(AWAITED, made.channel.id) == row.id
        await made.queue("an answer")
        await made.deliver()
        await shelf.told(STATUS, event="PAUSED", other_info={"title": "FIRST_PAUSE", "description": "3 hours"})
        await shelf.control(f"templates/{shelf.id}", {"status": "APPROVED"})
        assert await made.sent() == 0
        await shelf.told(STATUS, event="APPROVED", other_info={"title": "UNPAUSE", "description": "over"})
        await desk.execute("UPDATE templates SET stale = false WHERE id = $1", row.id)
        await desk.execute("UPDATE deliveries SET due_time = clock_now() WHERE channel_id = $1", made.channel.id)
        await made.deliver()
        rows = await made.rows(queued, since=now)
        assert (rows["delivery"], rows["attempt"], rows["message"]) == ("accepted", 2, "sent")
        assert await kinds(made) == ["template", "text", "template"]


async def test_what_is_known_to_be_paused_is_not_tried_and_goes_when_that_ends(desk: Desk) -> None:
    async with line(desk) as made:
        shelf = Shelf(made)
        message = await shelf.put()
        queued = await made.queue("Hello", content=message)
        now = await desk.value("SELECT clock_now()")
        await shelf.told(STATUS, event="PAUSED", other_info={"title": "FIRST_PAUSE", "description": "3 hours"})
        await made.deliver()
        rows = await made.rows(queued, since=now)
        assert (rows["delivery"], rows["attempt"], rows["uncounted"]) == ("queued", 1, 1)
        assert (rows["error_code"], rows["message"]) == ("template_held", "pending")
        await made.queue("an answer")
        await made.deliver()
        assert await kinds(made) == ["text"]
        await shelf.told(STATUS, event="APPROVED", other_info={"title": "UNPAUSE", "description": "over"})
        await made.deliver()
        assert await kinds(made) == ["text", "template"]
        assert (await made.rows(queued, since=now))["delivery"] == "accepted"


async def test_what_is_paused_goes_when_somebody_ends_the_pause_and_the_list_says_so(desk: Desk) -> None:
    async with line(desk) as made:
        shelf = Shelf(made)
        message = await shelf.put()
        await shelf.control(f"templates/{shelf.id}", {"status": "PAUSED"})
        queued = await made.queue("Hello", content=message)
        await made.deliver()
        await shelf.listed()
        assert (await shelf.row()).status == "PAUSED"
        assert await made.sent() == 0
        unpaused = await made.providers["whatsapp"].write_template(shelf.account, TemplateUnpause(provider_id=shelf.id))
        assert isinstance(unpaused, TemplateWritten)
        await shelf.listed()
        now = await desk.value("SELECT clock_now()")
        await made.deliver()
        rows = await made.rows(queued, since=now)
        assert (rows["delivery"], rows["attempt"], rows["message"]) == ("accepted", 2, "sent")


@pytest.mark.parametrize("event", ["REJECTED", "DISABLED", "DELETED", "PENDING_DELETION", "ARCHIVED"])
async def test_what_can_never_be_sent_fails_unsent(desk: Desk, event: str) -> None:
    async with line(desk) as made:
        shelf = Shelf(made)
        message = await shelf.put()
        queued = await made.queue("Hello", content=message)
        now = await desk.value("SELECT clock_now()")
        await shelf.told(STATUS, event=event, reason="NONE")
        await made.deliver()
        rows = await made.rows(queued, since=now)
        assert (rows["delivery"], rows["message"]) == ("failed", "failed")
        assert (rows["error_code"], rows["part_error"]) == ("template_not_sendable", "template_not_sendable")
        assert event in rows["error_message"] or "GONE" in rows["error_message"]
        assert await kinds(made) == []


async def test_a4_what_became_marketing_is_not_sent_to_who_wants_none(desk: Desk) -> None:
    async with line(desk) as made:
        shelf = Shelf(made)
        message = await shelf.put(category="UTILITY")
        await opted_out(made)
        await made.settled("Hello", content=message)
        queued = await made.queue("Hello", content=message)
        now = await desk.value("SELECT clock_now()")
        await shelf.told(CATEGORY, previous_category="UTILITY", new_category="MARKETING")
        await made.deliver()
        rows = await made.rows(queued, since=now)
        assert (rows["delivery"], rows["error_code"], rows["message"]) == ("failed", "marketing_opted_out", "failed")
        assert await kinds(made) == ["template"], "the first one was no marketing yet"


async def test_who_opts_out_after_it_was_queued_gets_none(desk: Desk) -> None:
    async with line(desk) as made:
        shelf = Shelf(made)
        message = await shelf.put(category="MARKETING")
        queued = await made.queue("Hello", content=message)
        now = await desk.value("SELECT clock_now()")
        await opted_out(made)
        await made.deliver()
        rows = await made.rows(queued, since=now)
        assert (rows["delivery"], rows["error_code"], rows["message"]) == ("failed", "marketing_opted_out", "failed")
        assert await kinds(made) == []


@pytest.mark.parametrize("word", ["held_for_quality_assessment", "paused"])
@pytest.mark.parametrize("end", ["released", "dropped"])
async def test_what_meta_took_and_holds_back_is_sent_until_it_says_what_became_of_it(
    desks: Installed, desk: Desk, word: str, end: str
) -> None:
    async with line(desk) as made:
        shelf = Shelf(made)
        message = await shelf.put()
        await shelf.control(f"templates/{shelf.id}", {"pacing": word})
        now = await desk.value("SELECT clock_now()")
        queued, rows = await made.settled("Hello", content=message)
        assert (rows["delivery"], rows["message"]) == ("accepted", "sent")
        assert await trail(made, queued) == [("sent", "response", word, None)]
        inlet = Inlet(desks, desk, made.channel, Inlet.applier_of(desks, desk.providers))
        wamid = await desk.value("SELECT provider_message_id FROM message_parts WHERE message_id = $1", queued)
        if end == "released":
            await inlet.taken(inlet.receipts((wamid, "sent"), (wamid, "delivered")))
            later = [("sent", "receipt", None, None), ("delivered", "receipt", None, None)]
        else:
            error = {"code": 132015, "title": "Template is paused"}
            await inlet.taken(inlet.receipts((wamid, "failed"), errors=[error]))
            later = [("failed", "receipt", None, "132015")]
        assert await trail(made, queued) == [("sent", "response", word, None), *later]
        rows = await made.rows(queued, since=now)
        assert (rows["message"], rows["attempt"]) == ("delivered" if end == "released" else "failed", 1)
        await desk.execute("UPDATE deliveries SET due_time = clock_now() WHERE channel_id = $1", made.channel.id)
        assert await made.sent() == 0, "nothing is sent again by itself"


async def trail(made: Line, message_id: Any) -> list[tuple[Any, ...]]:
    return [tuple(row) for row in await made.desk.rows(TRAIL, message_id)]
