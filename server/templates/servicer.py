"""TemplateService."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any

from switchboard.v1 import template_service_pb2 as rpc
from switchboard.v1.template_service_pb2_grpc import TemplateServiceServicer

from server.channels import service as channels
from server.channels.refusals import ChannelDisconnected
from server.kit.clock import utc_now
from server.kit.errors import NotFound
from server.log.cursor import Cursors
from server.log.event import origin_of
from server.log.read import read_head
from server.models.tenant import Channel
from server.providers.contract import Provider
from server.providers.template import TemplateAccount, TemplateEdit, TemplateSample
from server.rpc.call import Call
from server.rpc.paging import PageTokens, cut, page_size
from server.templates import convert, filling, service, sync
from server.templates.refusals import ChannelWithoutTemplates
from server.templates.row import TemplateRow
from server.templates.writing import Desk
from server.tenancy.routes import Routes
from server.tenancy.tenants import Tenant, Tenants


class TemplateServicer(TemplateServiceServicer):
    """Templates of the accounts that channels share."""

    def __init__(
        self,
        *,
        tokens: PageTokens,
        cursors: Cursors,
        tenants: Tenants,
        routes: Routes,
        providers: Mapping[str, Provider],
    ) -> None:
        self._tokens = tokens
        self._cursors = cursors
        self._tenants = tenants
        self._routes = routes
        self._providers = providers

    async def GetTemplate(self, request: rpc.GetTemplateRequest, call: Call) -> rpc.GetTemplateResponse:
        """A template."""
        row, as_of = await self._get(request, call)
        return rpc.GetTemplateResponse(template=convert.template(row), as_of=as_of)

    async def PreviewTemplate(self, request: rpc.PreviewTemplateRequest, call: Call) -> rpc.PreviewTemplateResponse:
        """A template with its places filled."""
        row, as_of = await self._get(request, call)
        made = filling.render(row, convert.filling(request.filling, path="filling"), path="filling")
        return convert.preview(made, as_of=as_of)

    async def _get(
        self, request: rpc.GetTemplateRequest | rpc.PreviewTemplateRequest, call: Call
    ) -> tuple[TemplateRow, str]:
        """A template that a visible channel may send, and the cursor of that moment. NotFound."""
        async with call.database.session_snapshot() as (session, connection):
            head = await read_head(connection)
            channel = await channels.show(session, call.scope, uuid.UUID(request.channel_id))
            account_id = self._account_id(channel)
            if account_id is None:
                raise NotFound("template")
            row = await service.get(
                connection,
                of=service.Owner(provider=channel.provider, business_account_id=account_id),
                template_id=uuid.UUID(request.template_id),
            )
        return row, self._cursors.at(call.tenant_id, head)

    async def ListTemplates(self, request: rpc.ListTemplatesRequest, call: Call) -> rpc.ListTemplatesResponse:
        """A page of templates."""
        size, after = page_size(request.page_size), self._tokens.read(call, request)
        async with call.database.session_snapshot() as (session, connection):
            head = await read_head(connection)
            channel = await channels.show(session, call.scope, uuid.UUID(request.channel_id))
            rows = await service.page(
                connection,
                of=service.Owner(provider=channel.provider, business_account_id=self._account_id(channel) or ""),
                sendable=request.sendable,
                after=after,
                limit=size + 1,
            )
        items, last = cut(rows, size, convert.template)
        token = "" if last is None else self._tokens.write(call, request, [last.name, last.language, str(last.id)])
        as_of = self._cursors.at(call.tenant_id, head)
        return rpc.ListTemplatesResponse(templates=items, next_page_token=token, as_of=as_of)

    async def SyncTemplates(self, request: rpc.SyncTemplatesRequest, call: Call) -> rpc.SyncTemplatesResponse:
        """Reads the provider's list to its end, then takes it over in units of work of a hundred; what is gone comes with the last."""
        async with call.database.session_snapshot() as (session, _):
            channel = await channels.show(session, call.scope, uuid.UUID(request.channel_id))
        account = await self._asked(await self._tenants.get(call.tenant_id), channel)
        at = utc_now()
        of = service.Owner(provider=channel.provider, business_account_id=account.business_account_id)
        provider, origin = self._providers[channel.provider], origin_of(call, "")
        done = await sync.synchronise(call.database, provider, account, of=of, at=at, origin=origin)
        return rpc.SyncTemplatesResponse(found_count=done.found, changed_count=done.changed, gone_count=done.gone)

    async def CreateTemplate(self, request: rpc.CreateTemplateRequest, call: Call) -> rpc.CreateTemplateResponse:
        """A new template."""
        desk = await self._desk(request, call)
        row = await desk.once(lambda: desk.create(convert.draft(request)))
        return rpc.CreateTemplateResponse(template=convert.template(row))

    async def UpdateTemplate(self, request: rpc.UpdateTemplateRequest, call: Call) -> rpc.UpdateTemplateResponse:
        """A template written anew."""
        before, desk = await self._known(request, call), await self._desk(request, call)
        edit = TemplateEdit(
            provider_id=before.provider_template_id,
            parameter_format=before.parameter_format,
            components=convert.components(request.components),
            category=convert.category_word(request.category) if request.HasField("category") else None,
        )
        row = await desk.once(lambda: desk.edit(before, edit))
        return rpc.UpdateTemplateResponse(template=convert.template(row))

    async def DeleteTemplate(self, request: rpc.DeleteTemplateRequest, call: Call) -> rpc.DeleteTemplateResponse:
        """A template that is gone, or all languages of it."""
        before, desk = await self._known(request, call), await self._desk(request, call)
        row = await desk.once(lambda: desk.delete(before, whole=request.all_languages))
        async with call.database.connection() as connection:
            rows = await service.gone_with(connection, row, of=desk.of)
        return rpc.DeleteTemplateResponse(templates=map(convert.template, rows))

    async def UnpauseTemplate(self, request: rpc.UnpauseTemplateRequest, call: Call) -> rpc.UnpauseTemplateResponse:
        """A template whose pause is to end."""
        before, desk = await self._known(request, call), await self._desk(request, call)
        row = await desk.once(lambda: desk.unpause(before))
        return rpc.UnpauseTemplateResponse(template=convert.template(row))

    async def UploadTemplateSample(
        self, request: rpc.UploadTemplateSampleRequest, call: Call
    ) -> rpc.UploadTemplateSampleResponse:
        """The handle of a sample."""
        sample = TemplateSample(content=request.content, mime_type=request.mime_type, file_name=request.file_name)
        return rpc.UploadTemplateSampleResponse(handle=await (await self._desk(request, call)).upload(sample))

    async def _desk(self, request: Any, call: Call) -> Desk:
        """Where templates of a channel's account are written."""
        async with call.database.session_snapshot() as (session, _):
            channel = await channels.show(session, call.scope, uuid.UUID(request.channel_id))
        account = await self._asked(await self._tenants.get(call.tenant_id), channel)
        of = service.Owner(provider=channel.provider, business_account_id=account.business_account_id)
        provider = self._providers[channel.provider]
        return Desk(call=call, request=request, of=of, account=account, provider=provider)

    async def _known(self, request: Any, call: Call) -> TemplateRow:
        row, _ = await self._get(request, call)
        return row

    async def _asked(self, tenant: Tenant, channel: Channel) -> TemplateAccount:
        """The account of a channel, whose webhooks are the tenant's from now on. ChannelWithoutTemplates, ChannelDisconnected."""
        account_id = self._account_id(channel)
        if channel.state == "disconnected":
            raise ChannelDisconnected()
        if account_id is None or channel.account_id is None:
            raise ChannelWithoutTemplates(channel.provider)
        await self._routes.claim(
            channel.provider, channel.account_id, tenant_id=tenant.id, channel_id=channel.id, shared_id=account_id
        )
        token = channels.token_of(tenant.secrets, channel.id, channel.access_token)
        return TemplateAccount(business_account_id=account_id, token=token, settings=channel.account)

    def _account_id(self, channel: Channel) -> str | None:
        """The account whose templates the channel may send; None where there are none."""
        return service.account_of(self._providers[channel.provider].capabilities, channel.account)
