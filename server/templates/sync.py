"""Reads all templates of an account from its provider. No transaction is open while the provider is asked."""

from __future__ import annotations

from collections.abc import Sequence

from server.channels.refusals import ProviderRefused, ProviderUnavailable
from server.providers.contract import Provider, Refused
from server.providers.template import ListedTemplate, TemplateAccount, TemplatePage

# An account may have 6,000 templates, and a page has a hundred: a list that does not end is none.
PAGES_MOST = 200


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
