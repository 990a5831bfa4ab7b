"""A system of the user's own as a provider: its capabilities, its account, its way of sending."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime, timedelta

from server.kit.clock import utc_now
from server.providers.api import keyring, parse, signature
from server.providers.api.callback import Callbacks, address_of
from server.providers.checks import CheckedAccount, CheckReport
from server.providers.contract import (
    Account,
    Ambiguous,
    Capabilities,
    Change,
    Erased,
    ErrorClass,
    Item,
    Mark,
    NotSent,
    Outcome,
    Outgoing,
    Pace,
    Refused,
    Rotated,
    SettingInvalid,
)
from server.providers.media import MediaFailed, MediaSink, MediaToBring, WantedMedia
from server.providers.template import TemplateAccount, TemplatePage, TemplateSample, TemplateWrite, TemplateWritten

CALLBACK_URL = "callback_url"
NO_TEMPLATES = Refused(
    error_class=ErrorClass.BUG, code="no_templates", message="Channels of one's own have no templates."
)


class Api:
    """Items by calls, messages by signed callbacks. Implements `server.providers.contract.Provider`."""

    name = "api"
    webhook_objects: frozenset[str] = frozenset()
    takes_calls = True
    makes_secrets = True
    parser_version = parse.VERSION
    capabilities = Capabilities(
        text_characters=65_536,
        opaque_characters=64,
        reply_window=None,
        reply_window_margin=timedelta(0),
        sends_per_second=100,
        recipient_pace=Pace(every=timedelta(milliseconds=100), ahead=timedelta(seconds=2)),
        address_kinds=frozenset({"user_ref"}),
    )

    def __init__(self, callbacks: Callbacks) -> None:
        self._callbacks = callbacks

    def account(self, settings: Mapping[str, str], *, channel_id: str) -> Account:
        """As of Provider. Settings: callback_url, an http or https address. The channel's id is the account's."""
        details = self.moved(settings.get(CALLBACK_URL, ""))
        if unknown := sorted(settings.keys() - {CALLBACK_URL}):
            raise SettingInvalid(unknown[0], "is no setting of a channel of one's own")
        return Account(account_id=channel_id, token=signature.new_secret(), details=details)

    def moved(self, callback_url: str) -> dict[str, str]:
        """As of Provider. Which addresses may be called, each callback looks at for itself."""
        if address_of(callback_url) is None:
            raise SettingInvalid(CALLBACK_URL, "is no http or https address without user, password and fragment")
        return {CALLBACK_URL: callback_url}

    def rotated(self, token: str, *, made_by: str, now: datetime, overlap: timedelta) -> Rotated:
        """As of Provider. At most two replaced secrets still sign: a third rotation within the overlap ends the oldest."""
        until = int((now + overlap).timestamp())
        new = keyring.rotated(token, made_by=made_by, seconds=int(now.timestamp()), until=until)
        return Rotated(token=new, details={"secret_rotate_time": now.astimezone(UTC).isoformat()})

    def secret(self, token: str, *, made_by: str) -> str | None:
        """As of Provider."""
        return keyring.made_by(token, made_by)

    def changes(self, raw: bytes) -> Sequence[Change]:
        """As of Provider."""
        return parse.changes(raw)

    def parse(self, change: Change) -> Sequence[Item]:
        """As of Provider."""
        return parse.parse(change)

    def without(self, raw: bytes, erased: Erased) -> bytes | None:
        """As of Provider."""
        return parse.without(raw, erased)

    def telling(self, addresses: Collection[str]) -> Sequence[str]:  # noqa: ARG002
        """As of Provider: the ids are the system's own, and ours."""
        return ()

    async def send(self, outgoing: Outgoing) -> Outcome:
        """As of Provider. The body is the same in every attempt; `opaque` is the id by which the receiver drops repeats."""
        keys = keyring.keys(outgoing.token, seconds=int(utc_now().timestamp()))
        if not keys:
            return _refused(ErrorClass.STOP_CHANNEL, "malformed_token", "The secret is no Standard Webhooks secret.")
        url = address_of(str(outgoing.settings.get(CALLBACK_URL, "")))
        if url is None:
            return _refused(ErrorClass.BUG, "malformed_address", "The channel has no callback address.")
        return await self._callbacks.post(
            url, body_of(outgoing), message_id=outgoing.opaque, keys=keys, attempt=outgoing.attempt
        )

    async def mark(self, mark: Mark) -> Outcome:  # noqa: ARG002
        """As of Provider: its capabilities say that nobody asks."""
        return _refused(ErrorClass.BUG, "no_marks", "Channels of one's own are told of no reading.")

    async def templates(
        self,
        account: TemplateAccount,  # noqa: ARG002
        *,
        after: str | None,  # noqa: ARG002
        name: str | None = None,  # noqa: ARG002
    ) -> TemplatePage | Refused | NotSent | Ambiguous:
        """As of Provider: its capabilities say that nobody asks."""
        return NO_TEMPLATES

    async def write_template(
        self,
        account: TemplateAccount,  # noqa: ARG002
        write: TemplateWrite,  # noqa: ARG002
    ) -> TemplateWritten | Refused | NotSent | Ambiguous:
        """As of Provider: its capabilities say that nobody asks."""
        return NO_TEMPLATES

    async def upload_sample(
        self,
        account: TemplateAccount,  # noqa: ARG002
        sample: TemplateSample,  # noqa: ARG002
    ) -> str | Refused | NotSent | Ambiguous:
        """As of Provider: its capabilities say that nobody asks."""
        return NO_TEMPLATES

    async def check(self, account: CheckedAccount) -> CheckReport:  # noqa: ARG002
        """As of Provider: each callback tells for itself."""
        return CheckReport()

    async def leave(self, account: CheckedAccount) -> Refused:  # noqa: ARG002
        """As of Provider: its capabilities say that nobody asks."""
        return _refused(ErrorClass.BUG, "no_webhooks", "Channels of one's own share nothing.")

    async def fetch_media(self, wanted: WantedMedia, sink: MediaSink) -> MediaFailed:  # noqa: ARG002
        """As of Provider: files come by links of the user's own, so that nobody asks."""
        return MediaFailed("refused", "no_media")

    async def bring_media(self, media: MediaToBring) -> Refused:  # noqa: ARG002
        """As of Provider: it takes no files, so that nobody asks."""
        return Refused(error_class=ErrorClass.BUG, code="no_media", message="A channel of one's own takes no files.")

    async def close(self) -> None:
        """As of Provider: no connection outlives its callback."""


def body_of(outgoing: Outgoing) -> bytes:
    """The body of a callback."""
    data = {
        "id": outgoing.opaque,
        "channel_id": outgoing.account_id,
        "user_ref": outgoing.to.value,
        "text": outgoing.text,
    }
    if outgoing.reply_to_id is not None:
        data["reply_to_id"] = outgoing.reply_to_id.removeprefix(parse.SENT)
    return json.dumps({"type": "message", "data": data}, separators=(",", ":"), ensure_ascii=False).encode()


def _refused(error_class: ErrorClass, code: str, message: str) -> Refused:
    return Refused(error_class=error_class, code=code, message=message)
