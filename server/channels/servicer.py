"""ChannelService."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Mapping
from datetime import timedelta

from google.protobuf.message import Message
from sqlalchemy.exc import DBAPIError
from switchboard.v1 import channel_pb2
from switchboard.v1 import channel_service_pb2 as rpc
from switchboard.v1.channel_service_pb2_grpc import ChannelServiceServicer

from server.channels import convert, service
from server.channels.capabilities import capabilities
from server.channels.checking import Checker, require
from server.channels.refusals import ChannelDisconnected, ProviderUnavailable
from server.kit import pb
from server.kit.clock import utc_now
from server.kit.db import Write
from server.kit.errors import AlreadyExists, DatabaseUnavailable
from server.kit.ids import new_id
from server.log.append import append
from server.log.cursor import Cursors
from server.log.event import origin_of
from server.log.read import read_head
from server.models.tenant import Channel
from server.providers.checks import FOR_CONNECTING, FOR_SENDING
from server.providers.contract import Account, Provider
from server.requests import service as requests
from server.rpc.call import Call
from server.rpc.paging import PageTokens, cut, page_size
from server.tenancy.meta_apps import MetaApp, MetaApps
from server.tenancy.quarantine import Quarantine
from server.tenancy.routes import Routes
from server.tenancy.tenants import Tenants

# For how long a secret that was replaced signs too, unless the call says otherwise.
OVERLAP = timedelta(hours=24)


class ChannelServicer(ChannelServiceServicer):
    """Channels of a tenant, and the apps at Meta of the installation."""

    def __init__(
        self,
        *,
        tokens: PageTokens,
        cursors: Cursors,
        tenants: Tenants,
        routes: Routes,
        quarantine: Quarantine,
        meta_apps: MetaApps,
        providers: Mapping[str, Provider],
        graph_version: str,
    ) -> None:
        self._tokens = tokens
        self._cursors = cursors
        self._tenants = tenants
        self._routes = routes
        self._quarantine = quarantine
        self._meta_apps = meta_apps
        self._providers = providers
        self._graph_version = graph_version
        self._checker = Checker(providers=providers, meta_apps=meta_apps)

    async def ConnectWhatsappChannel(
        self, request: rpc.ConnectWhatsappChannelRequest, call: Call
    ) -> rpc.ConnectWhatsappChannelResponse:
        """Connects a WhatsApp number."""
        settings = {"graph_version": request.graph_version or self._graph_version}
        settings |= {name: getattr(request, name) for name in ("phone_number_id", "waba_id", "access_token")}
        if request.HasField("display_phone_number"):
            settings["display_phone_number"] = request.display_phone_number
        row = await self._connect(request, call, self._providers["whatsapp"], settings)
        return rpc.ConnectWhatsappChannelResponse(channel=convert.channel(row))

    async def ConnectChannel(self, request: rpc.ConnectChannelRequest, call: Call) -> rpc.ConnectChannelResponse:
        """Connects an account of any provider. A repeat opens its secret again: the first answer may have been lost."""
        settings = service.settings_of((item.name, item.value) for item in request.settings)
        provider = self._providers[convert.PROVIDER.word(request.provider)]
        row = await self._connect(request, call, provider, settings, field="settings")
        secret = service.secret_of(await self._keeping(call), row)
        return rpc.ConnectChannelResponse(channel=convert.channel(row), secret=secret)

    async def _keeping(self, call: Call) -> service.Keeping:
        tenant = await self._tenants.get(call.tenant_id)
        return service.Keeping(tenant.secrets, self._providers)

    async def _connect(
        self,
        request: rpc.ConnectWhatsappChannelRequest | rpc.ConnectChannelRequest,
        call: Call,
        provider: Provider,
        settings: Mapping[str, str],
        *,
        field: str | None = None,
    ) -> Channel:
        """Claims the account for the tenant first, so that no webhook finds a channel that another tenant also has."""
        tenant, channel_id = await self._tenants.get(call.tenant_id), new_id()
        account = service.account_of(provider, settings, channel_id, field=field)
        if (earlier := await self._earlier(request, call)) is not None:
            return earlier
        at = utc_now()
        # Before the account is claimed: whose it is already, only somebody who may use it is told.
        report = await self._checker.ask(provider.name, account, subscribe=True)
        require(report, FOR_CONNECTING)
        async with call.database.connection() as connection:
            # An account that comes back has its channel again, with all that was said there.
            channel_id = await service.disconnected(connection, account, provider=provider.name) or channel_id
        answered = service.Answered(report, at)
        wanted = service.Connect(
            id=channel_id, provider=provider.name, name=request.name, account=account, answered=answered
        )

        async def unit(write: Write) -> Channel:
            earlier = await requests.claim(write, call, request, resource_id=wanted.id)
            if earlier is not None:
                return await service.show(write.session, call.scope, earlier)
            shared_id = _shared_id(provider, account)
            await self._claim_account(write, call.tenant_id, wanted, shared_id=shared_id, app_id=report.app_id)
            origin = origin_of(call, request.request_id)
            row, events = await service.connect(write, tenant.secrets, wanted, origin=origin)
            await append(write, events)
            return row

        try:
            row = await call.database.write(unit)
        except DBAPIError:
            # Refused by the tenant's database, so nothing is stored; after a lost commit the claim must stay.
            await self._routes.release(wanted.provider, wanted.account.account_id, channel_id=wanted.id)
            raise
        # What arrived for the account before it was connected is applied now.
        await self._quarantine.wake(wanted.provider, wanted.account.account_id)
        return row

    async def _claim_account(
        self,
        write: Write,
        tenant_id: uuid.UUID,
        wanted: service.Connect,
        *,
        shared_id: str | None,
        app_id: str | None,
    ) -> None:
        """Routes the account to the channel. ALREADY_EXISTS; UNAVAILABLE while another call may be connecting it."""
        name, account_id = wanted.provider, wanted.account.account_id
        owner = {"tenant_id": tenant_id, "channel_id": wanted.id}
        try:
            await self._routes.claim(name, account_id, **owner, shared_id=shared_id, app_id=app_id)
        except AlreadyExists:
            left = await self._routes.owned(name, account_id, tenant_id=tenant_id)
            if left is None or await service.by_ids(write.connection, [left.channel_id]):
                raise
            # Of a call whose process died, or whose commit was lost, before the channel was stored.
            if not await self._routes.take_over(name, account_id, left=left, channel_id=wanted.id):
                raise DatabaseUnavailable("the account is being connected just now; repeat") from None

    async def GetChannel(self, request: rpc.GetChannelRequest, call: Call) -> rpc.GetChannelResponse:
        """A channel."""
        async with call.database.session_snapshot() as (session, connection):
            head = await read_head(connection)
            row = await service.show(session, call.scope, uuid.UUID(request.channel_id))
        found, can = convert.channel(row), self._providers[row.provider].capabilities
        found.capabilities.CopyFrom(capabilities(can, per_second=row.sends_per_second or row.throughput_per_second))
        return rpc.GetChannelResponse(channel=found, as_of=self._cursors.at(call.tenant_id, head))

    async def ListChannels(self, request: rpc.ListChannelsRequest, call: Call) -> rpc.ListChannelsResponse:
        """A page of channels."""
        size, after = page_size(request.page_size), self._tokens.read(call, request)
        async with call.database.session_snapshot() as (session, connection):
            head = await read_head(connection)
            rows = await service.page(session, call.scope, after=after, limit=size + 1)
        items, last = cut(rows, size, convert.channel)
        token = "" if last is None else self._tokens.write(call, request, [last.create_time.isoformat(), str(last.id)])
        as_of = self._cursors.at(call.tenant_id, head)
        return rpc.ListChannelsResponse(channels=items, next_page_token=token, as_of=as_of)

    async def UpdateChannel(self, request: rpc.UpdateChannelRequest, call: Call) -> rpc.UpdateChannelResponse:
        """Changes a channel's name, how its conversations end and begin, and where it calls back."""
        channel_id, changes = uuid.UUID(request.channel_id), _changes(request)

        async def unit(write: Write) -> Channel:
            if await requests.claim(write, call, request, resource_id=channel_id) is not None:
                return await service.show(write.session, call.scope, channel_id)
            origin = origin_of(call, request.request_id)
            row, events = await service.update(
                write, call.scope, channel_id, origin=origin, changes=changes, providers=self._providers
            )
            await append(write, events)
            return row

        return rpc.UpdateChannelResponse(channel=convert.channel(await call.database.write(unit)))

    async def CheckChannel(self, request: rpc.CheckChannelRequest, call: Call) -> rpc.CheckChannelResponse:
        """Asks the provider how a channel does."""
        keeping, channel_id = await self._keeping(call), uuid.UUID(request.channel_id)
        answered = await self._ask(call, keeping, channel_id, subscribe=request.subscribe)

        async def unit(write: Write) -> Channel:
            row, events = await service.checked(
                write, call.scope, keeping, channel_id, origin=origin_of(call, ""), answered=answered
            )
            await append(write, events)
            return row

        checks = [convert.check(check) for check in answered.report.checks]
        return rpc.CheckChannelResponse(channel=convert.channel(await call.database.write(unit)), checks=checks)

    async def ReauthorizeChannel(
        self, request: rpc.ReauthorizeChannelRequest, call: Call
    ) -> rpc.ReauthorizeChannelResponse:
        """Gives a channel a new token that its provider has accepted."""
        keeping, channel_id = await self._keeping(call), uuid.UUID(request.channel_id)
        if (earlier := await self._earlier(request, call)) is not None:
            return rpc.ReauthorizeChannelResponse(channel=convert.channel(earlier))
        answered = await self._ask(call, keeping, channel_id, access_token=request.access_token, subscribe=True)
        require(answered.report, FOR_CONNECTING)

        async def unit(write: Write) -> Channel:
            if await requests.claim(write, call, request, resource_id=channel_id) is not None:
                return await service.show(write.session, call.scope, channel_id)
            origin = origin_of(call, request.request_id)
            row, events = await service.reauthorize(
                write, call.scope, keeping, channel_id, origin=origin, answered=answered
            )
            await append(write, events)
            return row

        return rpc.ReauthorizeChannelResponse(channel=convert.channel(await call.database.write(unit)))

    async def ResumeChannel(self, request: rpc.ResumeChannelRequest, call: Call) -> rpc.ResumeChannelResponse:
        """Sends again on a channel; the provider is asked first where it was it who said no, or the token is new."""
        keeping, channel_id = await self._keeping(call), uuid.UUID(request.channel_id)
        if (earlier := await self._earlier(request, call)) is not None:
            return rpc.ResumeChannelResponse(channel=convert.channel(earlier))
        access_token = request.access_token if request.HasField("access_token") else None
        async with call.database.session_snapshot() as (session, _):
            row = await service.show(session, call.scope, channel_id)
        answered = None
        if row.state == "blocked" or access_token is not None:
            answered = await self._ask(call, keeping, channel_id, access_token=access_token)
            require(answered.report, FOR_SENDING)

        async def unit(write: Write) -> Channel:
            if await requests.claim(write, call, request, resource_id=channel_id) is not None:
                return await service.show(write.session, call.scope, channel_id)
            origin = origin_of(call, request.request_id)
            row, events = await service.resume(write, call.scope, keeping, channel_id, origin=origin, answered=answered)
            await append(write, events)
            return row

        return rpc.ResumeChannelResponse(channel=convert.channel(await call.database.write(unit)))

    async def _ask(
        self,
        call: Call,
        keeping: service.Keeping,
        channel_id: uuid.UUID,
        *,
        access_token: str | None = None,
        subscribe: bool = False,
    ) -> service.Answered:
        """What a channel's provider says of it now, with this token or the one that is stored."""
        async with call.database.session_snapshot() as (session, _):
            row, account = await service.account(session, call.scope, keeping, channel_id, access_token=access_token)
        at = utc_now()
        report = await self._checker.ask(row.provider, account, subscribe=subscribe)
        if report.app_id is not None and report.failed(FOR_CONNECTING) is None:
            await self._routes.note_app(row.provider, account.account_id, channel_id=row.id, app_id=report.app_id)
        return service.Answered(report, at, access_token)

    async def _earlier(self, request: Message, call: Call) -> Channel | None:
        """The channel that an earlier call with this request's id ended with: a repeat asks nobody."""
        async with call.database.session_snapshot() as (session, connection):
            found = await requests.earlier(connection, call, request)
            return None if found is None else await service.show(session, call.scope, found)

    async def DisconnectChannel(
        self, request: rpc.DisconnectChannelRequest, call: Call
    ) -> rpc.DisconnectChannelResponse:
        """Ends a channel; then its account is nobody's, and what comes for it waits for who connects it."""
        tenant, channel_id = await self._tenants.get(call.tenant_id), uuid.UUID(request.channel_id)

        async def unit(write: Write) -> Channel:
            if await requests.claim(write, call, request, resource_id=channel_id) is not None:
                return await service.show(write.session, call.scope, channel_id)
            origin = origin_of(call, request.request_id)
            row, events = await service.disconnect(write, call.scope, tenant.secrets, channel_id, origin=origin)
            await append(write, events)
            return row

        account = await self._account(call, channel_id)
        row = await call.database.write(unit)
        if row.state == "disconnected" and row.account_id is not None:
            # A repeat does it again: the process may have died in between.
            await self._routes.leave(row.provider, row.account_id, channel_id=row.id)
        if account is not None:
            await self._unsubscribe(row.provider, account)
        return rpc.DisconnectChannelResponse(channel=convert.channel(row))

    async def _account(self, call: Call, channel_id: uuid.UUID) -> Account | None:
        """A channel's account while its token is there; None where there is none any more."""
        keeping = await self._keeping(call)
        with contextlib.suppress(ChannelDisconnected):
            async with call.database.session_snapshot() as (session, _):
                return (await service.account(session, call.scope, keeping, channel_id, access_token=None))[1]
        return None

    async def _unsubscribe(self, provider: str, account: Account) -> None:
        """Ends the webhooks of what the account shared, where nobody has another number of it."""
        shared_id = _shared_id(self._providers[provider], account)
        if shared_id is None or await self._routes.shared(provider, shared_id):
            return
        await self._checker.leave(provider, account)
        if await self._routes.shared(provider, shared_id):
            # Somebody connected one meanwhile, and may have been before us.
            with contextlib.suppress(ProviderUnavailable):
                await self._checker.ask(provider, account, subscribe=True)

    async def RotateChannelSecret(
        self, request: rpc.RotateChannelSecretRequest, call: Call
    ) -> rpc.RotateChannelSecretResponse:
        """Makes a new secret for a channel. A repeat tells it again, as long as no other took its place."""
        keeping, channel_id = await self._keeping(call), uuid.UUID(request.channel_id)
        overlap = request.overlap.ToTimedelta() if request.HasField("overlap") else OVERLAP
        rotation = service.Rotation(new_id(), overlap)

        async def unit(write: Write) -> tuple[Channel, uuid.UUID]:
            earlier = await requests.claim(write, call, request, resource_id=rotation.id)
            if earlier is not None:
                return await service.show(write.session, call.scope, channel_id), earlier
            origin = origin_of(call, request.request_id)
            row, events = await service.rotate(write, call.scope, keeping, channel_id, origin=origin, rotation=rotation)
            await append(write, events)
            return row, rotation.id

        row, rotation_id = await call.database.write(unit)
        secret = service.secret_of(keeping, row, rotation_id)
        return rpc.RotateChannelSecretResponse(channel=convert.channel(row), secret=secret)

    async def CreateMetaApp(self, request: rpc.CreateMetaAppRequest, call: Call) -> rpc.CreateMetaAppResponse:  # noqa: ARG002
        """Adds an app at Meta."""
        app = await self._meta_apps.create(
            app_id=request.id, name=request.name, app_secret=request.app_secret, verify_token=request.verify_token
        )
        return rpc.CreateMetaAppResponse(meta_app=_meta_app(app))

    async def GetMetaApp(self, request: rpc.GetMetaAppRequest, call: Call) -> rpc.GetMetaAppResponse:  # noqa: ARG002
        """An app at Meta."""
        return rpc.GetMetaAppResponse(meta_app=_meta_app(await self._meta_apps.app(request.meta_app_id)))

    async def UpdateMetaApp(self, request: rpc.UpdateMetaAppRequest, call: Call) -> rpc.UpdateMetaAppResponse:  # noqa: ARG002
        """Changes an app at Meta."""
        app = await self._meta_apps.update(
            request.meta_app_id,
            name=request.name if request.HasField("name") else None,
            app_secret=request.app_secret if request.HasField("app_secret") else None,
            verify_token=request.verify_token if request.HasField("verify_token") else None,
            overlap=request.secret_overlap.ToTimedelta() if request.HasField("secret_overlap") else OVERLAP,
        )
        return rpc.UpdateMetaAppResponse(meta_app=_meta_app(app))

    async def DeleteMetaApp(self, request: rpc.DeleteMetaAppRequest, call: Call) -> rpc.DeleteMetaAppResponse:  # noqa: ARG002
        """Takes an app at Meta away."""
        await self._meta_apps.delete(request.meta_app_id)
        return rpc.DeleteMetaAppResponse()

    async def ListMetaApps(self, request: rpc.ListMetaAppsRequest, call: Call) -> rpc.ListMetaAppsResponse:
        """A page of apps."""
        size, after = page_size(request.page_size), self._tokens.read(call, request)
        rows = await self._meta_apps.page(after=after[0] if after else None, size=size + 1)
        items, last = cut(rows, size, _meta_app)
        token = "" if last is None else self._tokens.write(call, request, [last.id])
        return rpc.ListMetaAppsResponse(meta_apps=items, next_page_token=token)


def _shared_id(provider: Provider, account: Account) -> str | None:
    shared = provider.capabilities.shared_account
    return None if shared is None else account.details.get(shared)


def _changes(request: rpc.UpdateChannelRequest) -> service.Changes:
    return service.Changes(
        name=request.name if request.HasField("name") else None,
        reopen_window=request.reopen_window.ToTimedelta() if request.HasField("reopen_window") else None,
        new_thread_each_time=request.new_thread_each_time if request.HasField("new_thread_each_time") else None,
        auto_resolve_after=request.auto_resolve_after.ToTimedelta() if request.HasField("auto_resolve_after") else None,
        callback_url=request.callback_url if request.HasField("callback_url") else None,
    )


def _meta_app(app: MetaApp) -> channel_pb2.MetaApp:
    return channel_pb2.MetaApp(
        id=app.id,
        name=app.name,
        webhook_path=app.webhook_path,
        create_time=pb.timestamp(app.create_time),
        secret_rotate_time=pb.timestamp(app.rotate_time),
        previous_secret_expire_time=pb.timestamp(app.previous_expire_time),
    )
