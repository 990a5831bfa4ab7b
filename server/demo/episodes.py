"""What a day at WhatsApp brings besides texts, one customer each: it happens beside everything else, and is looked up afterwards."""

import asyncio
import time
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

from switchboard_client.switchboard.v1 import (
    AttachmentKind,
    ChannelState,
    ListRow,
    ListSection,
    Message,
    MessageStatus,
    SendList,
    SendTemplate,
    SendText,
    TemplateFilling,
    TemplateKey,
    TemplateParameter,
)
from switchboard_sdk import Client, SwitchboardError

from server.demo.cast import Customer, Phones
from server.demo.world import World

APART = 2.0
"""Seconds between two of them at speed 1."""
WITHIN = 15.0
LOOK_EVERY = 0.1
LONG_AGO = timedelta(hours=30)
FINE = (MessageStatus.SENT, MessageStatus.DELIVERED, MessageStatus.READ)
TEMPLATE = "table_is_ready"
BODY = "Hello {{1}}, your table is ready."
COUNTER, WINDOW = ListRow(id="counter", title="At the counter"), ListRow(id="window", title="By the window")


class Episodes:
    """All of them, one after the other. guests: a customer for each; one more is needed for none."""

    def __init__(self, client: Client, phones: Phones, world: World, guests: list[Customer], *, speed: float) -> None:
        self._client = client
        self._phones = phones
        self._world = world
        self._guests = iter(guests)
        self._speed = speed
        self._over = asyncio.Event()

    async def play(self) -> None:
        """Until all were played, or `end` is called; the one that is going on is played to its end."""
        parts: dict[str, Callable[[Customer], Awaitable[bool]]] = {
            "an image": self._image,
            "a voice note": self._voice,
            "a list reply": self._list,
            "a reaction": self._reaction,
            "a template outside the window": self._template,
            "a number change": self._number,
            "a revoked and restored token": self._token,
        }
        for name, part in parts.items():
            if self._over.is_set():
                return
            try:
                async with asyncio.timeout(WITHIN):
                    self._world.ledger.shown[name] = await part(next(self._guests))
            except (TimeoutError, SwitchboardError):
                self._world.ledger.shown[name] = False
            await asyncio.sleep(APART / self._speed)

    def end(self) -> None:
        """No further one begins."""
        self._over.set()

    async def _image(self, guest: Customer) -> bool:
        message = await self._arrives(
            guest, type="image", content={**_file("image/jpeg"), "caption": "It looks like this"}
        )
        (found,) = message.attachments
        return found.kind is AttachmentKind.IMAGE and message.text is not None

    async def _voice(self, guest: Customer) -> bool:
        message = await self._arrives(guest, type="audio", content={**_file("audio/ogg; codecs=opus"), "voice": True})
        (found,) = message.attachments
        return found.kind is AttachmentKind.AUDIO and found.voice

    async def _list(self, guest: Customer) -> bool:
        asked, wamid = await self._asks(guest)
        chosen = {"type": "list_reply", "list_reply": {"id": WINDOW.id, "title": WINDOW.title}}
        answer = await self._arrives(guest, type="interactive", content=chosen, replyTo=wamid)
        said = answer.interactive.reply_id if answer.interactive else None
        return said == WINDOW.id and answer.reply_to_message_id == asked

    async def _reaction(self, guest: Customer) -> bool:
        asked, wamid = await self._asks(guest)
        await self._phones.send(guest, type="reaction", content={"message_id": wamid, "emoji": "👍"})
        await self._until(lambda: bool(self._world.messages[asked].reactions))
        return [each.emoji for each in self._world.messages[asked].reactions] == ["👍"]

    async def _template(self, guest: Customer) -> bool:
        """Free text is refused a day later, a template is not."""
        await self._phones.call(
            "POST",
            "templates",
            {"templates": [{"name": TEMPLATE, "language": "en", "components": [{"type": "BODY", "text": BODY}]}]},
        )
        channel = await self._channel()
        await self._client.templates.sync_templates(channel_id=channel.id)
        before = int(time.time() - LONG_AGO.total_seconds())
        wrote = await self._arrives(guest, text="Tell me when a table is free", timestamp=before)
        try:
            await self._sends(wrote.conversation_id, text=SendText(body="Now!"))
        except SwitchboardError as refusal:
            if refusal.reason != "REPLY_WINDOW_CLOSED":
                raise
        else:
            return False
        filling = TemplateFilling(body=[TemplateParameter(text=guest.name.partition(" ")[0])])
        template = SendTemplate(key=TemplateKey(name=TEMPLATE, language="en"), filling=filling)
        sent = await self._sends(wrote.conversation_id, template=template)
        return await self._ends_well(sent)

    async def _number(self, guest: Customer) -> bool:
        """Who has another phone number goes on in the same conversation."""
        wrote = await self._arrives(guest, text="This is my old phone")
        moved = replace(guest, phone=f"1202556{guest.phone[-4:]}")
        where = {"phoneNumberId": self._phones.number, "phone": moved.phone}
        await self._phones.call("POST", f"customers/{guest.phone}", where)
        await asyncio.sleep(APART / self._speed)
        said = await self._arrives(moved, text="And this is my new one")
        return said.conversation_id == wrote.conversation_id

    async def _token(self, guest: Customer) -> bool:
        """The channel stops at the first refusal, keeps what is to be sent, and sends it once the token is good again."""
        wrote = await self._arrives(guest, text="Are you there?")
        await self._phones.call("POST", "faults", {"kind": "error", "code": 190, "filter": {"recipient": guest.phone}})
        fault = (await self._phones.call("GET", "faults"))["faults"][-1]["id"]
        sent = await self._sends(wrote.conversation_id, text=SendText(body="We are."))
        channel = await self._channel(ChannelState.PAUSED)
        await self._phones.call("DELETE", f"faults/{fault}")
        await self._client.channels.resume_channel(channel_id=channel.id)
        return await self._ends_well(sent)

    async def _asks(self, guest: Customer) -> tuple[str, str]:
        """A list is sent to a customer who wrote; our id of it and the provider's."""
        wrote = await self._arrives(guest, text="A table for two?")
        choices = SendList(body="Gladly. Where?", label="Choose", sections=[ListSection(rows=[COUNTER, WINDOW])])
        sent = await self._sends(wrote.conversation_id, list=choices)
        await self._ends_well(sent)
        return sent, (await self._message(sent)).external_id or ""

    async def _sends(self, conversation: str, **content: Any) -> str:
        """Sends; the message's id."""
        sent = await self._client.messages.send_message(
            conversation_id=conversation, request_id=str(uuid.uuid4()), **content
        )
        self._world.ledger.sent[sent.message.id] = conversation
        return str(sent.message.id)

    async def _ends_well(self, message_id: str) -> bool:
        await self._until(lambda: self._world.statuses.get(message_id) in FINE)
        return True

    async def _message(self, message_id: str) -> Message:
        message: Message = (await self._client.messages.get_message(message_id=message_id)).message
        return message

    async def _arrives(self, guest: Customer, **content: Any) -> Message:
        """Something a customer wrote, as the stream shows it."""
        wamid = await self._phones.send(guest, written=True, **content)
        await self._until(lambda: wamid in self._world.received)
        return self._world.received[wamid]

    async def _channel(self, state: ChannelState | None = None) -> Any:
        """The number, once it is in this state."""
        while True:
            channels = (await self._client.channels.list_channels()).channels
            number = self._phones.number
            found = next(each for each in channels if each.whatsapp and each.whatsapp.phone_number_id == number)
            if state in (None, found.state):
                return found
            await asyncio.sleep(LOOK_EVERY)

    async def _until(self, holds: Callable[[], bool]) -> None:
        for _ in iter(holds, True):
            await asyncio.sleep(LOOK_EVERY)


def _file(mime_type: str) -> dict[str, object]:
    return {"id": str(uuid.uuid4().int % 10**15), "mime_type": mime_type, "sha256": "AAAA"}
