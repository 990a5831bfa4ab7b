"""Writes templates at their provider, and keeps what that answered. No transaction is open while the provider is asked."""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

from google.protobuf.message import Message

from server.channels.refusals import ProviderRefused, ProviderUnavailable
from server.kit.clock import utc_now
from server.kit.db import Write
from server.kit.errors import FieldViolation, InvalidFields
from server.log.append import append
from server.log.event import NewEvent, Origin, origin_of
from server.providers.contract import ErrorClass, Provider, Refused
from server.providers.template import (
    ListedTemplate,
    TemplateAccount,
    TemplateDeletion,
    TemplateDraft,
    TemplateEdit,
    TemplateSample,
    TemplateUnpause,
    TemplateWrite,
    TemplateWritten,
)
from server.requests import service as requests
from server.rpc.call import Call
from server.templates import drafting, service, sync
from server.templates.once import once
from server.templates.refusals import TemplateExists, TemplateNotEditable, TemplateRateLimited, TemplateRefused
from server.templates.row import SENDABLE, TemplateRow, listed
from server.templates.service import Owner

# Meta's limits: of an account in an hour, of an approved template in a day and in 30; and for how long a name is blocked.
MADE_MOST, MADE_WITHIN = 100, timedelta(hours=1)
EDITS: Sequence[tuple[int, timedelta]] = ((1, timedelta(days=1)), (10, timedelta(days=30)))
NAME_BLOCKED = timedelta(days=30)
EDITABLE = frozenset({"APPROVED", "REJECTED", "PAUSED"})
# What is only written, and never read again.
UNREAD = ("sample",)

Stored = tuple[list[TemplateRow], list[NewEvent]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Desk:
    """Whose templates are written, for which call."""

    call: Call
    request: Message
    of: Owner
    account: TemplateAccount
    provider: Provider

    async def once(self, work: Callable[[], Awaitable[TemplateRow]]) -> TemplateRow:
        """What this call writes, or an earlier one with its request id has written."""

        async def known(template_id: uuid.UUID) -> TemplateRow | None:
            async with self.call.database.connection() as connection:
                return await service.find(connection, of=self.of, template_id=template_id)

        return await once(self.call, self.request, known=known, work=work)

    async def create(self, draft: TemplateDraft) -> TemplateRow:
        """A new template. Where the answer is lost, the provider's list says whether it has it; so a repeat makes no second one."""
        drafting.check(
            draft.components, category=draft.category, parameter_format=draft.parameter_format, name=draft.name
        )
        await self._may_create(draft)
        at = utc_now()
        answer = await self.provider.write_template(self.account, draft)
        if isinstance(answer, TemplateWritten):
            made = ListedTemplate(
                provider_id=answer.provider_id,
                name=draft.name,
                language=draft.language,
                status=answer.status or "PENDING",
                category=answer.category or draft.category,
                parameter_format=draft.parameter_format,
                components=tuple(map(_stored, draft.components)),
            )
        else:
            made = await self._found(draft, answer)

        async def store(write: Write) -> Stored:
            origin = self._origin()
            told = await service.store_listed(write, of=self.of, found=[made], at=at, origin=origin)
            rows, more = await service.alter(
                write,
                of=self.of,
                provider_ids=[made.provider_id],
                change=lambda row: replace(row, made_time=row.made_time or at),
                origin=origin,
            )
            return rows, told + more

        return (await self._write(store))[0]

    async def edit(self, row: TemplateRow, edit: TemplateEdit) -> TemplateRow:
        """A template written anew."""
        drafting.check(edit.components, category=edit.category or row.category, parameter_format=edit.parameter_format)
        may_edit(row, edit)
        at = utc_now()
        answer = await self.provider.write_template(self.account, edit)
        status = "PENDING"
        if not isinstance(answer, TemplateWritten):
            found = await self._looked_up(row, answer)
            if found is None or _texts(found.components) != _texts(edit.components):
                raise _refusal(answer)
            status = found.status

        def change(before: TemplateRow) -> TemplateRow:
            now = ListedTemplate(
                provider_id=before.provider_template_id,
                name=before.name,
                language=before.language,
                status=status,
                category=edit.category or before.category,
                quality=before.quality,
                parameter_format=edit.parameter_format,
                components=tuple(map(_stored, edit.components)),
            )
            kept = [time for time in before.edit_times if time > at - EDITS[-1][1]]
            counts = [at] if row.status == SENDABLE else []
            return replace(listed(before, now, at=at), edit_times=[*kept, *counts])

        return (await self._write(self._altering([row], change)))[0]

    async def delete(self, row: TemplateRow, *, whole: bool) -> TemplateRow:
        """A template that is gone. whole: with all languages of its name, also those that are not known here."""
        if row.gone_time is not None:
            return row
        rows = [row]
        if whole:
            async with self.call.database.connection() as connection:
                rows = await service.languages(connection, of=self.of, name=row.name)
        provider_id = None if whole else row.provider_template_id
        wanted = TemplateDeletion(name=row.name, provider_id=provider_id)
        answer = await self.provider.write_template(self.account, wanted)
        if not isinstance(answer, TemplateWritten):
            left = await self._listed(row.name, answer)
            ids = {row.provider_template_id for row in rows}
            if any(each.provider_id in ids for each in left if each.status not in ("DELETED", "PENDING_DELETION")):
                raise _refusal(answer)
        at = utc_now()

        def change(before: TemplateRow) -> TemplateRow:
            blocked = at + NAME_BLOCKED if before.status == SENDABLE else before.name_free_time
            return replace(before, status="DELETED", status_time=at, gone_time=at, name_free_time=blocked)

        gone = await self._write(self._altering(rows, change), of=row.id)
        return next(each for each in gone if each.id == row.id)

    async def unpause(self, row: TemplateRow) -> TemplateRow:
        """A template whose pacing ends: the webhook tells of it, or the next list."""
        if row.status != "PAUSED":
            raise TemplateNotEditable(row.status)
        await self._answered(TemplateUnpause(provider_id=row.provider_template_id))
        return (await self._write(self._altering([row], lambda before: replace(before, stale=True))))[0]

    async def upload(self, sample: TemplateSample) -> str:
        """The handle of a sample."""
        answer = await self.provider.upload_sample(self.account, sample)
        if isinstance(answer, str):
            return answer
        raise _refusal(answer)

    async def _may_create(self, draft: TemplateDraft) -> None:
        async with self.call.database.connection() as connection:
            free = await service.name_free_time(connection, of=self.of, name=draft.name, language=draft.language)
            known = await service.languages(connection, of=self.of, name=draft.name)
            now = utc_now()
            made, first = await service.made_since(connection, of=self.of, since=now - MADE_WITHIN)
        if held := next((row for row in known if row.language == draft.language), None):
            raise TemplateExists(template_id=held.id)
        if free is not None:
            raise TemplateExists(free_time=free)
        if made >= MADE_MOST and first is not None:
            raise TemplateRateLimited(first + MADE_WITHIN - now)

    async def _found(self, draft: TemplateDraft, answer: Any) -> ListedTemplate:
        """What the provider has of a draft whose answer was lost, now or in an earlier call; else why there is none."""
        taken = isinstance(answer, Refused) and answer.problem == "NAME_EXISTS"
        if isinstance(answer, Refused) and not taken:
            raise _refusal(answer)
        found = await self._named(draft.name, draft.language, answer)
        if found is None or _texts(found.components) != _texts(draft.components):
            raise TemplateExists() if taken else _refusal(answer)
        return found

    async def _looked_up(self, row: TemplateRow, answer: Any) -> ListedTemplate | None:
        if isinstance(answer, Refused):
            raise _refusal(answer)
        return await self._named(row.name, row.language, answer)

    async def _named(self, name: str, language: str, answer: Any) -> ListedTemplate | None:
        return next((each for each in await self._listed(name, answer) if each.language == language), None)

    async def _listed(self, name: str, answer: Any) -> Sequence[ListedTemplate]:
        """The provider's list of a name. Where it does not tell either, the first answer says why."""
        if isinstance(answer, Refused) and answer.error_class is ErrorClass.RETRY:
            raise _refusal(answer)
        try:
            found, _ = await sync.whole_list(self.provider, self.account, name=name)
        except (ProviderRefused, ProviderUnavailable):
            raise _refusal(answer) from None
        return [each for each in found if each.name == name]

    async def _answered(self, wanted: TemplateWrite) -> TemplateWritten:
        answer = await self.provider.write_template(self.account, wanted)
        if not isinstance(answer, TemplateWritten):
            raise _refusal(answer)
        return answer

    def _origin(self) -> Origin:
        return origin_of(self.call, self.request.request_id)  # type: ignore[attr-defined]

    def _altering(
        self, rows: Sequence[TemplateRow], change: Callable[[TemplateRow], TemplateRow]
    ) -> Callable[[Write], Awaitable[Stored]]:
        ids = [row.provider_template_id for row in rows]

        async def store(write: Write) -> Stored:
            origin = self._origin()
            return await service.alter(write, of=self.of, provider_ids=ids, change=change, origin=origin)

        return store

    async def _write(
        self, store: Callable[[Write], Awaitable[Stored]], *, of: uuid.UUID | None = None
    ) -> list[TemplateRow]:
        """One unit of work: what was answered, and that this call asked for it. of: what a repeat is answered with, if not the first."""

        async def unit(write: Write) -> list[TemplateRow]:
            rows, events = await store(write)
            await requests.settle(write, self.call, self.request, resource_id=of or rows[0].id)
            await append(write, events)
            return rows

        return await self.call.database.write(unit)


def may_edit(row: TemplateRow, edit: TemplateEdit) -> None:
    """TemplateNotEditable, InvalidFields."""
    if row.status not in EDITABLE or row.gone_time is not None:
        raise TemplateNotEditable(row.status)
    if row.status != SENDABLE:
        return
    if edit.category is not None and edit.category != row.category:
        raise InvalidFields(FieldViolation("category", "of an approved template stays"))
    for most, within in EDITS:
        lately = sorted(time for time in row.edit_times if time > utc_now() - within)
        if len(lately) >= most:
            raise TemplateNotEditable(row.status, again_time=lately[-most] + within)


def _refusal(answer: Any) -> Exception:
    """Why a template was not written."""
    if not isinstance(answer, Refused):
        return ProviderUnavailable(answer.reason)
    if answer.error_class is ErrorClass.RETRY:
        return TemplateRateLimited(answer.retry_after or timedelta(minutes=1))
    if answer.error_class is ErrorClass.STOP_CHANNEL:
        return ProviderRefused(answer)
    return TemplateRefused(answer)


def _stored(part: Any) -> Any:
    """A component as it is read later."""
    made = {name: value for name, value in part.items() if name not in UNREAD}
    found = list(dict.fromkeys(place.strip() for place in drafting.PLACE.findall(part.get("text", ""))))
    made |= {"places": found} if found else {}
    if "cards" in part:
        made["cards"] = [{"components": list(map(_stored, card.get("components", ())))} for card in part["cards"]]
    return made


def _texts(components: Any) -> list[Any]:
    """What of components tells whether they are the same: the provider may add to the rest."""
    return [(part.get("type"), part.get("format", ""), part.get("text", "")) for part in components]
