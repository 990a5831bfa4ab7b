"""WhatsApp as a provider: its capabilities, its parser, its way of sending."""

from __future__ import annotations

import base64
import re
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial

from server.providers.checks import CheckedAccount, CheckReport
from server.providers.contract import (
    Accepted,
    Account,
    Ambiguous,
    Capabilities,
    Change,
    Erased,
    FreeEntry,
    Item,
    Json,
    Mark,
    NotSent,
    Outcome,
    Outgoing,
    Pace,
    Refused,
    SettingInvalid,
)
from server.providers.media import MediaBrought, MediaFailed, MediaFetched, MediaSink, MediaToBring, WantedMedia
from server.providers.meta import erasing
from server.providers.meta.envelope import Envelope, read_envelope
from server.providers.meta.graph import GraphAnswer, GraphClient
from server.providers.meta.media import MediaClient
from server.providers.template import TemplateAccount, TemplatePage, TemplateSample, TemplateWrite, TemplateWritten
from server.providers.whatsapp import checking, contents, drafts, files, parse, send, templates

SETTINGS = {
    "phone_number_id": r"[0-9]{5,30}",
    "waba_id": r"[0-9]{5,30}",
    "access_token": r"[!-~]{1,1024}",
    "graph_version": r"v[0-9]{1,3}\.[0-9]{1,2}",
}


class WhatsApp:
    """The Cloud API of WhatsApp Business. Implements `server.providers.contract.Provider`."""

    name = "whatsapp"
    webhook_objects = frozenset({"whatsapp_business_account"})
    takes_calls = False
    makes_secrets = False
    parser_version = parse.VERSION
    capabilities = Capabilities(
        text_characters=4096,
        opaque_characters=512,
        reply_window=timedelta(hours=24),
        reply_window_margin=timedelta(seconds=60),
        free_entry=FreeEntry(answer_within=timedelta(hours=24), lasts=timedelta(hours=72)),
        sends_per_second=80,
        # One in 6 s to each user, and up to 45 at once, borrowed from the time after.
        recipient_pace=Pace(every=timedelta(seconds=6), ahead=44 * timedelta(seconds=6)),
        address_kinds=frozenset({"wa_id", "bsuid", "parent_bsuid", "group"}),
        marks=frozenset({"read", "typing", "reaction"}),
        reaction_age=timedelta(days=30),
        contents=contents.LIMITS,
        files=files.LIMITS,
        shared_account="waba_id",
        templates=True,
    )

    def __init__(self, graph: GraphClient, media: MediaClient) -> None:
        self._graph = graph
        self._media = media

    def account(self, settings: Mapping[str, str], *, channel_id: str) -> Account:  # noqa: ARG002
        """As of Provider. Settings: phone_number_id, waba_id, access_token, graph_version and perhaps display_phone_number."""
        for name, pattern in SETTINGS.items():
            if not re.fullmatch(pattern, settings.get(name, ""), re.ASCII):
                raise SettingInvalid(name, "is missing or malformed")
        if unknown := sorted(settings.keys() - SETTINGS.keys() - {"display_phone_number"}):
            raise SettingInvalid(unknown[0], "is no setting of a WhatsApp number")
        details = {name: value for name, value in settings.items() if name != "access_token"}
        return Account(account_id=settings["phone_number_id"], token=settings["access_token"], details=details)

    def moved(self, callback_url: str) -> Mapping[str, str]:  # noqa: ARG002
        """As of Provider: Meta is not called back."""
        raise SettingInvalid("callback_url", "is no setting of a WhatsApp number")

    def rotated(self, token: str, *, made_by: str, now: datetime, overlap: timedelta) -> None:
        """As of Provider: Meta makes the tokens."""

    def secret(self, token: str, *, made_by: str) -> None:
        """As of Provider: Meta has shown it."""

    def changes(self, raw: bytes) -> Sequence[Change]:
        """As of Provider."""
        envelope = read_envelope(raw, objects=self.webhook_objects)
        return envelope.changes if isinstance(envelope, Envelope) else ()

    def parse(self, change: Change) -> Sequence[Item]:
        """As of Provider."""
        return parse.parse(change)

    def without(self, raw: bytes, erased: Erased) -> bytes | None:
        """As of Provider."""
        return erasing.without(raw, erased, prefixes=self.telling(erased.addresses))

    def telling(self, addresses: Collection[str]) -> Sequence[str]:
        """As of Provider: a wamid is base64 of the other side's address, behind three bytes the last of which is its length."""
        return [_wamid_prefix(address) for address in sorted(addresses) if 6 <= len(address) < 128]

    async def send(self, outgoing: Outgoing) -> Outcome:
        """As of Provider."""
        answer = await self._post(outgoing, send.message_body(outgoing))
        return files.judged(outgoing.content, send.outcome(answer, send.accepted, attempt=outgoing.attempt))

    async def mark(self, mark: Mark) -> Outcome:
        """As of Provider."""
        answer = await self._post(mark, send.mark_body(mark))
        accept = send.accepted if mark.kind == "reaction" else partial(send.marked, mark)
        return send.outcome(answer, accept, attempt=mark.attempt)

    async def templates(
        self, account: TemplateAccount, *, after: str | None, name: str | None = None
    ) -> TemplatePage | Refused | NotSent | Ambiguous:
        """As of Provider."""
        query = {"fields": templates.FIELDS, "limit": str(templates.PAGE)}
        query |= {key: value for key, value in (("after", after), ("name", name)) if value is not None}
        answer = await self._graph.get(
            version=str(account.settings.get("graph_version", "")),
            object_id=account.business_account_id,
            edge="message_templates",
            token=account.token,
            query=query,
        )
        return send.read(answer, templates.read_page)

    async def write_template(
        self, account: TemplateAccount, write: TemplateWrite
    ) -> TemplateWritten | Refused | NotSent | Ambiguous:
        """As of Provider."""
        return await drafts.write(self._graph, account, write)

    async def upload_sample(
        self, account: TemplateAccount, sample: TemplateSample
    ) -> str | Refused | NotSent | Ambiguous:
        """As of Provider."""
        return await drafts.upload(self._graph, account, sample)

    async def check(self, account: CheckedAccount) -> CheckReport | Refused | NotSent | Ambiguous:
        """As of Provider."""
        return await checking.check(self._graph, account)

    async def leave(self, account: CheckedAccount) -> Accepted | Refused | NotSent | Ambiguous:
        """As of Provider."""
        return await checking.leave(self._graph, account)

    async def fetch_media(self, wanted: WantedMedia, sink: MediaSink) -> MediaFetched | MediaFailed:
        """As of Provider."""
        return await self._media.fetch(wanted, sink)

    async def bring_media(self, media: MediaToBring) -> MediaBrought | Refused | NotSent | Ambiguous:
        """As of Provider."""
        answer = await self._graph.upload(
            version=str(media.settings.get("graph_version", "")),
            object_id=media.account_id,
            token=media.token,
            mime_type=media.mime_type,
            size=media.size,
            chunks=media.chunks(),
        )
        return send.read(answer, files.brought)

    async def _post(self, of: Outgoing | Mark, body: Json) -> GraphAnswer | NotSent | Ambiguous:
        return await self._graph.post(
            version=str(of.settings.get("graph_version", "")),
            object_id=of.account_id,
            edge="messages",
            token=of.token,
            body=body,
        )

    async def close(self) -> None:
        """As of Provider."""
        await self._graph.close()


def _wamid_prefix(address: str) -> str:
    """What all ids of messages with an address begin with, and no others: behind the address stands the same in all of them."""
    packed = b"\x1c\x18" + bytes([len(address.encode())]) + address.encode() + b"\x15\x02"
    return "wamid." + base64.b64encode(packed[: len(packed) // 3 * 3]).decode()
