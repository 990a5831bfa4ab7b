"""Asks providers about accounts. No transaction is open meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import timedelta

import structlog

from server.channels.refusals import ChannelCheckFailed, ProviderUnavailable
from server.providers.checks import CheckedAccount, CheckName, CheckReport
from server.providers.contract import Accepted, Account, Ambiguous, Provider, Refused
from server.tenancy.meta_apps import MetaApps

log = structlog.get_logger(__name__)
# Some seven requests, one after the other; below what the edge waits for an answer.
ASK_SECONDS = 12.0


class Checker:
    """Knows whom to ask, and the secrets of the installation's apps."""

    def __init__(self, *, providers: Mapping[str, Provider], meta_apps: MetaApps) -> None:
        self._providers = providers
        self._meta_apps = meta_apps

    async def ask(self, provider: str, account: Account, *, subscribe: bool = False) -> CheckReport:
        """What the provider says of an account. ProviderUnavailable where it did not answer to the end."""
        try:
            async with asyncio.timeout(ASK_SECONDS):
                report = await self._providers[provider].check(self._asked(account, subscribe=subscribe))
        except TimeoutError:
            raise ProviderUnavailable("timeout") from None
        if isinstance(report, Refused):
            wait = report.retry_after or timedelta(seconds=1)
            raise ProviderUnavailable(f"{report.code}: {report.message}", retry_after=wait)
        if not isinstance(report, CheckReport):
            raise ProviderUnavailable(report.reason)
        return report

    async def leave(self, provider: str, account: Account) -> None:
        """Has the webhooks end of what the account shares. It need not work: the token may be the reason why it goes."""
        try:
            async with asyncio.timeout(ASK_SECONDS):
                outcome = await self._providers[provider].leave(self._asked(account))
        except TimeoutError:
            outcome = Ambiguous("timeout")
        if not isinstance(outcome, Accepted):
            told = outcome.code if isinstance(outcome, Refused) else outcome.reason
            log.warning("channel.still_subscribed", provider=provider, error=told)

    def _asked(self, account: Account, *, subscribe: bool = False) -> CheckedAccount:
        return CheckedAccount(
            account_id=account.account_id,
            token=account.token,
            settings=account.details,
            subscribe=subscribe,
            app_secret=self._app_secret,
        )

    async def _app_secret(self, app_id: str) -> str | None:
        secrets = await self._meta_apps.get(app_id)
        return None if secrets is None else secrets.app_secrets[0].decode()


def require(report: CheckReport, names: frozenset[CheckName]) -> None:
    """ChannelCheckFailed for the first of these that failed."""
    failed = report.failed(names)
    if failed is not None:
        raise ChannelCheckFailed(failed)
