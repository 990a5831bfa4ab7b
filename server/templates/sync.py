"""Reads all templates of an account from its provider. No transaction is open while the provider is asked."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial

from server.channels.refusals import ProviderRefused, ProviderUnavailable
from server.kit.db import Database, Write
from server.log.append import append
from server.log.event import NewEvent, Origin
from server.providers.contract import Provider, Refused
from server.providers.template import ListedTemplate, TemplateAccount, TemplatePage
from server.templates import service
from server.templates.service import Owner

# Templates of one unit of work: it holds the head of the log, which every other write waits for.
CHUNK = 100
# An account may have 6,000 templates, and a page has a hundred: a list that does not end is none.
PAGES_MOST = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """How many templates were found, changed here, and gone."""

    found: int
    changed: int
    gone: int


async def synchronise(
    database: Database, provider: Provider, account: TemplateAccount, *, of: Owner, at: datetime, origin: Origin
) -> Done:
    """Reads the provider's list to its end, then takes it over in units of work of a hundred; what is gone comes with the last.

    at: now. ProviderRefused, ProviderUnavailable.
    """
    found, complete = await whole_list(provider, account)
    changed = gone = 0
    for start in range(0, len(found), CHUNK):
        part = found[start : start + CHUNK]
        changed += await _write(database, partial(service.store_listed, of=of, found=part, at=at, origin=origin))
    if complete:
        kept = [item.provider_id for item in found]
        gone = await _write(database, partial(service.mark_gone, of=of, kept=kept, at=at, origin=origin))
    return Done(found=len(found), changed=changed, gone=gone)


async def _write(database: Database, work: Callable[[Write], Awaitable[list[NewEvent]]]) -> int:
    """A unit of work; how many events it made."""

    async def unit(write: Write) -> int:
        events = await work(write)
        await append(write, events)
        return len(events)

    return await database.write(unit)


async def whole_list(
    provider: Provider, account: TemplateAccount, *, name: str | None = None
) -> tuple[Sequence[ListedTemplate], bool]:
    """All templates of an account, or at least those of a name, and whether that is all there are: an entry that cannot be read may be
    any of them.

    ProviderRefused, ProviderUnavailable: then nothing is known, since what was not reached may be there or not.
    """
    found: dict[str, ListedTemplate] = {}
    after: str | None = None
    complete = True
    for _ in range(PAGES_MOST):
        page = await provider.templates(account, after=after, name=name)
        if isinstance(page, Refused):
            raise ProviderRefused(page)
        if not isinstance(page, TemplatePage):
            raise ProviderUnavailable(page.reason)
        found |= {item.provider_id: item for item in page.templates}
        complete = complete and not page.unreadable
        if page.after is None:
            return list(found.values()), complete
        after = page.after
    raise ProviderUnavailable("its list does not end")
