"""`switchboard serve`: one process, one loop, two gRPC servers. The composition root of the API."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import uuid
from collections.abc import AsyncIterator

import prometheus_client
import structlog
import uvloop
from grpc import aio
from grpc_channelz.v1 import channelz
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from switchboard.v1 import (
    agent_service_pb2,
    agent_service_pb2_grpc,
    assignment_policy_service_pb2,
    assignment_policy_service_pb2_grpc,
    assignment_service_pb2,
    assignment_service_pb2_grpc,
    attribute_definition_service_pb2,
    attribute_definition_service_pb2_grpc,
    audit_service_pb2,
    audit_service_pb2_grpc,
    auth_service_pb2,
    auth_service_pb2_grpc,
    availability_service_pb2,
    availability_service_pb2_grpc,
    channel_service_pb2,
    channel_service_pb2_grpc,
    contact_merge_service_pb2,
    contact_merge_service_pb2_grpc,
    contact_service_pb2,
    contact_service_pb2_grpc,
    conversation_service_pb2,
    conversation_service_pb2_grpc,
    delivery_service_pb2,
    delivery_service_pb2_grpc,
    erasure_service_pb2,
    erasure_service_pb2_grpc,
    inbox_service_pb2,
    inbox_service_pb2_grpc,
    intake_service_pb2,
    intake_service_pb2_grpc,
    invite_service_pb2,
    invite_service_pb2_grpc,
    media_service_pb2,
    media_service_pb2_grpc,
    message_service_pb2,
    message_service_pb2_grpc,
    settings_service_pb2,
    settings_service_pb2_grpc,
    statistics_service_pb2,
    statistics_service_pb2_grpc,
    tag_service_pb2,
    tag_service_pb2_grpc,
    template_service_pb2,
    template_service_pb2_grpc,
    tenant_service_pb2,
    tenant_service_pb2_grpc,
    webhook_service_pb2,
    webhook_service_pb2_grpc,
)

from server.assignments.availability_servicer import AvailabilityServicer
from server.assignments.policy_servicer import AssignmentPolicyServicer
from server.assignments.servicer import AssignmentServicer
from server.attributes.servicer import AttributeDefinitionServicer
from server.audit.servicer import AuditServicer
from server.audit.trail import Trail
from server.auth.servicer import AuthServicer
from server.auth.tokens import AgentTokens
from server.auth.verifier import CredentialVerifier
from server.channels.servicer import ChannelServicer
from server.composition import Commits, Parts, background, compose, shared_loops
from server.contacts.servicer import ContactServicer
from server.conversations.merge_servicer import ContactMergeServicer
from server.conversations.servicer import ConversationServicer
from server.conversations.statistics.servicer import StatisticsServicer
from server.conversations.tag_servicer import TagServicer
from server.erasures.servicer import ErasureServicer
from server.inbox.metrics import InboxMetrics
from server.inbox.servicer import InboxServicer
from server.inbox.stream import StreamLimits
from server.inbox.streams import Streams
from server.inbox.tails import Tails
from server.intake.received_servicer import IntakeServicer
from server.intake.servicer import WebhookServicer
from server.kit import collector, logging, tracing
from server.kit.db import Database
from server.kit.errors import DatabaseUnavailable
from server.log.cursor import Cursors
from server.media.servicer import MediaServicer
from server.media.serving import Serving, served
from server.messages.servicer import MessageServicer
from server.people.invite_servicer import InviteServicer
from server.people.servicer import AgentServicer
from server.redelivery.servicer import DeliveryServicer
from server.rpc.paging import PageTokens
from server.rpc.rates import RateLimits
from server.rpc.server import internal_server, public_server
from server.rpc.shared_rates import SharedRates
from server.settings import Settings
from server.templates.servicer import TemplateServicer
from server.tenancy.api_keys import ApiKeys
from server.tenancy.provisioning import Provisioning
from server.tenancy.seed import connect_first_tenant
from server.tenancy.servicer import TenantServicer
from server.tenant_settings.servicer import SettingsServicer

log = structlog.get_logger(__name__)
SERVING, NOT_SERVING = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING
HEALTH_SECONDS = 2.0
# In production the balancer's active checks must have seen NOT_SERVING twice before streams are sent away.
DRAIN_SECONDS = {"production": 5.0, "development": 0.0, "test": 0.0}
GRACE_SECONDS = 10.0
SERVICES = (
    agent_service_pb2,
    assignment_policy_service_pb2,
    assignment_service_pb2,
    audit_service_pb2,
    attribute_definition_service_pb2,
    auth_service_pb2,
    availability_service_pb2,
    channel_service_pb2,
    contact_merge_service_pb2,
    contact_service_pb2,
    conversation_service_pb2,
    delivery_service_pb2,
    erasure_service_pb2,
    inbox_service_pb2,
    intake_service_pb2,
    invite_service_pb2,
    media_service_pb2,
    message_service_pb2,
    settings_service_pb2,
    statistics_service_pb2,
    tag_service_pb2,
    template_service_pb2,
    tenant_service_pb2,
    webhook_service_pb2,
)


def run(settings: Settings, listen: str, internal_listen: str) -> None:
    """Serves until SIGTERM or SIGINT, then drains."""
    logging.configure()
    tracing.configure("serve")
    uvloop.run(serve(settings, listen=listen, internal_listen=internal_listen))


def stop_signal() -> asyncio.Event:
    """An event that SIGTERM and SIGINT set."""
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    return stopped


async def serve(settings: Settings, *, listen: str, internal_listen: str) -> None:
    """Runs both servers. Returns after a signal, or when a background loop died, which nothing here can mend."""
    stopped = stop_signal()
    async with compose(settings, follow_all=False) as (parts, commits):
        checks = health.aio.HealthServicer()
        serving = Serving(
            tenants=parts.tenants, store=parts.store, links=parts.links, most_bytes=settings.media_most_bytes
        )
        async with internal(settings, checks, internal_listen), served(serving, settings.media_listen):
            await connect_first_tenant(parts.control, parts.tenants, settings)
            limits = RateLimits()
            shared = SharedRates(limits, settings.valkey_url.get_secret_value())
            tails, streams, verifier, public = await assemble(settings, parts, commits, limits)
            public.add_insecure_port(listen)
            await public.start()
            collector.settle()
            log.info("serve.started", listen=listen, internal=internal_listen)
            loops = (verifier.run(), shared.run(), watch_health(checks, parts))
            async with background(*shared_loops(parts, settings), *loops) as died:
                await asyncio.wait(
                    [asyncio.create_task(stopped.wait()), asyncio.create_task(died.wait())],
                    return_when=asyncio.FIRST_COMPLETED,
                )
                await checks.enter_graceful_shutdown()
                await asyncio.sleep(DRAIN_SECONDS[settings.env])
                await streams.drain()
                await public.stop(GRACE_SECONDS)
                await tails.close()
    log.info("serve.stopped")
    if died.is_set():
        raise SystemExit(1)


def add_conversations(server: aio.Server, parts: Parts, tokens: PageTokens, cursors: Cursors) -> None:
    """Adds the services of conversations, of what is in them and of who has them."""
    conversation_service_pb2_grpc.add_ConversationServiceServicer_to_server(
        ConversationServicer(tokens=tokens, cursors=cursors, providers=parts.providers), server
    )
    tag_service_pb2_grpc.add_TagServiceServicer_to_server(TagServicer(tokens=tokens, cursors=cursors), server)
    message_service_pb2_grpc.add_MessageServiceServicer_to_server(
        MessageServicer(
            tokens=tokens, cursors=cursors, writers=parts.writers, providers=parts.providers, links=parts.links
        ),
        server,
    )
    media_service_pb2_grpc.add_MediaServiceServicer_to_server(
        MediaServicer(cursors=cursors, store=parts.store, links=parts.links, most_bytes=parts.media_most_bytes), server
    )
    delivery_service_pb2_grpc.add_DeliveryServiceServicer_to_server(
        DeliveryServicer(tokens=tokens, cursors=cursors), server
    )
    assignment_service_pb2_grpc.add_AssignmentServiceServicer_to_server(
        AssignmentServicer(tokens=tokens, cursors=cursors, presence=parts.presence), server
    )
    assignment_policy_service_pb2_grpc.add_AssignmentPolicyServiceServicer_to_server(
        AssignmentPolicyServicer(tokens=tokens, cursors=cursors), server
    )
    availability_service_pb2_grpc.add_AvailabilityServiceServicer_to_server(
        AvailabilityServicer(tokens=tokens, cursors=cursors, presence=parts.presence), server
    )


async def assemble(
    settings: Settings, parts: Parts, commits: Commits, limits: RateLimits
) -> tuple[Tails, Streams, CredentialVerifier, aio.Server]:
    """Makes the public server with every service."""
    tokens, cursors = PageTokens(parts.control.mac), Cursors(parts.control.mac)
    keys, agent_tokens = ApiKeys(parts.control.database), AgentTokens(parts.control)
    verifier = CredentialVerifier(keys=keys, tokens=agent_tokens, tenants=parts.tenants)
    metrics = InboxMetrics()
    streams = Streams(metrics)

    async def database_of(tenant_id: uuid.UUID) -> Database:
        return (await parts.tenants.get(tenant_id)).database

    tails = Tails(
        database_of=database_of,
        cursors=cursors,
        hints=parts.hints,
        rights=verifier,
        metrics=metrics,
        connections=min(settings.verify_connections, settings.max_connections // 2),
    )
    commits.local = tails.committed
    # A process without a stream of the tenant reads no log, and would go by what it remembers for half a minute.
    commits.rights = verifier.invalidate
    parts.hints.on_rights(verifier.invalidate)
    server = public_server(verifier, limits, Trail())
    add_conversations(server, parts, tokens, cursors)
    inbox_service_pb2_grpc.add_InboxServiceServicer_to_server(
        InboxServicer(tails, cursors, streams, limits=StreamLimits(retention=parts.retention)), server
    )
    audit_service_pb2_grpc.add_AuditServiceServicer_to_server(AuditServicer(tokens=tokens, cursors=cursors), server)
    statistics_service_pb2_grpc.add_StatisticsServiceServicer_to_server(StatisticsServicer(cursors=cursors), server)
    contact_service_pb2_grpc.add_ContactServiceServicer_to_server(
        ContactServicer(tokens=tokens, cursors=cursors, providers=parts.providers), server
    )
    erasure_service_pb2_grpc.add_ErasureServiceServicer_to_server(
        ErasureServicer(tokens=tokens, cursors=cursors), server
    )
    contact_merge_service_pb2_grpc.add_ContactMergeServiceServicer_to_server(ContactMergeServicer(), server)
    attribute_definition_service_pb2_grpc.add_AttributeDefinitionServiceServicer_to_server(
        AttributeDefinitionServicer(tokens=tokens, cursors=cursors), server
    )
    settings_service_pb2_grpc.add_SettingsServiceServicer_to_server(SettingsServicer(cursors=cursors), server)
    channel_service_pb2_grpc.add_ChannelServiceServicer_to_server(
        ChannelServicer(
            tokens=tokens,
            cursors=cursors,
            tenants=parts.tenants,
            routes=parts.routes,
            quarantine=parts.quarantine,
            meta_apps=parts.meta_apps,
            providers=parts.providers,
            graph_version=settings.meta_graph_version,
        ),
        server,
    )
    template_service_pb2_grpc.add_TemplateServiceServicer_to_server(
        TemplateServicer(
            tokens=tokens, cursors=cursors, tenants=parts.tenants, routes=parts.routes, providers=parts.providers
        ),
        server,
    )
    agent_service_pb2_grpc.add_AgentServiceServicer_to_server(AgentServicer(tokens=tokens, cursors=cursors), server)
    invite_service_pb2_grpc.add_InviteServiceServicer_to_server(
        InviteServicer(tokens=tokens, cursors=cursors, tenants=parts.tenants, agent_tokens=agent_tokens, limits=limits),
        server,
    )
    webhook_service_pb2_grpc.add_WebhookServiceServicer_to_server(
        WebhookServicer(intake=parts.intake, applier=parts.applier), server
    )
    intake_service_pb2_grpc.add_IntakeServiceServicer_to_server(
        IntakeServicer(providers=parts.providers, applier=parts.applier), server
    )
    auth_service_pb2_grpc.add_AuthServiceServicer_to_server(
        AuthServicer(keys=keys, tokens=agent_tokens, pages=tokens), server
    )
    tenant_service_pb2_grpc.add_TenantServiceServicer_to_server(
        TenantServicer(tenants=parts.tenants, provisioning=Provisioning(parts.control), keys=keys, pages=tokens), server
    )
    return tails, streams, verifier, server


@contextlib.asynccontextmanager
async def internal(settings: Settings, checks: health.aio.HealthServicer, listen: str) -> AsyncIterator[None]:
    """The internal server, on loopback: health, reflection, channelz; and the metrics page where one is asked for."""
    server = internal_server()
    health_pb2_grpc.add_HealthServicer_to_server(checks, server)
    channelz.add_channelz_servicer(server)
    names = [
        name
        for file in SERVICES
        for service in file.DESCRIPTOR.services_by_name.values()
        for name in [service.full_name]
    ]
    reflection.enable_server_reflection([*names, health.SERVICE_NAME, reflection.SERVICE_NAME], server)
    server.add_insecure_port(listen)
    await server.start()
    page = None
    if settings.metrics_listen:
        prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]
        host, _, port = settings.metrics_listen.rpartition(":")
        page, _ = prometheus_client.start_http_server(int(port), addr=host)
    try:
        yield
    finally:
        if page is not None:
            page.shutdown()
            page.server_close()
        await server.stop(1.0)


async def watch_health(checks: health.aio.HealthServicer, parts: Parts) -> None:
    """Keeps the health of each dependency. "" says whether calls are taken; Valkey never changes it."""
    while True:
        database = await control_answers(parts)
        await checks.set("", SERVING)
        await checks.set("control-database", SERVING if database else NOT_SERVING)
        await checks.set("valkey", SERVING if parts.hints.healthy else NOT_SERVING)
        await asyncio.sleep(HEALTH_SECONDS)


async def control_answers(parts: Parts) -> bool:
    """Whether the control database answers now."""
    try:
        async with parts.control.database.connection() as connection:
            await connection.fetchval("SELECT 1")
    except DatabaseUnavailable:
        return False
    return True
