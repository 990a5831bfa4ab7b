"""Servicers over a connection whose statements are counted, in a tenant that has one of everything, and much of everything."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import sqlalchemy
from google.protobuf import message_factory
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import Message
from switchboard.v1 import options_pb2, statistics_service_pb2

from server.agents.presence import Presence
from server.assignments import service as assignments
from server.assignments.availability_servicer import AvailabilityServicer
from server.assignments.policy_servicer import AssignmentPolicyServicer
from server.assignments.servicer import AssignmentServicer
from server.attributes.servicer import AttributeDefinitionServicer
from server.audit import follow
from server.audit.servicer import AuditServicer
from server.channels.service import ChannelRow
from server.channels.servicer import ChannelServicer
from server.contacts.servicer import ContactServicer
from server.conversations import notes, tags
from server.conversations.merge_servicer import ContactMergeServicer
from server.conversations.row import ConversationRow
from server.conversations.servicer import ConversationServicer
from server.conversations.statistics.servicer import StatisticsServicer
from server.conversations.tag_servicer import TagServicer
from server.erasures import service as erasures
from server.erasures.servicer import ErasureServicer
from server.kit.clock import utc_now
from server.kit.db import Database, Write
from server.kit.ids import new_id
from server.log.append import append
from server.log.cursor import Cursors
from server.media import brought
from server.media.links import Links
from server.media.servicer import MediaServicer
from server.messages.items import Stored
from server.messages.servicer import MessageServicer
from server.people.invite_servicer import InviteServicer
from server.people.servicer import AgentServicer
from server.providers.template import ListedTemplate
from server.redelivery.servicer import DeliveryServicer
from server.rpc.call import Call, Caller, CallerKind, Verified
from server.rpc.paging import PageTokens
from server.templates import service as templates
from server.templates.servicer import TemplateServicer
from server.tenant_settings.servicer import SettingsServicer
from tests.desk import ALL, Desk, nobody, phone
from tests.installation import Installed

MANY = 12


@dataclass
class Office:
    """Servicers over a connection whose statements are counted, and what has little and what has much."""

    servicers: dict[str, Any]
    database: Database
    tenant_id: uuid.UUID
    little: dict[str, str] = field(default_factory=dict)
    much: dict[str, str] = field(default_factory=dict)
    statements: list[str] = field(default_factory=list)

    async def ask(self, method: MethodDescriptor, ids: dict[str, str], *, size: int) -> tuple[Message, list[str]]:
        """The answer, and the statements that it took."""
        request = message_factory.GetMessageClass(method.input_type)()
        for name in method.input_type.fields_by_name:
            if name == "page_size":
                setattr(request, name, size)
            elif name.endswith("_id") and name in ids:
                setattr(request, name, ids[name])
        if isinstance(request, statistics_service_pb2.GetStatisticsRequest):
            day = datetime(2026, 11, 1, tzinfo=UTC)
            request.start_time.FromDatetime(day)
            request.end_time.FromDatetime(day + timedelta(days=size))
        return await self.call(method, request)

    async def call(self, method: MethodDescriptor, request: Message) -> tuple[Message, list[str]]:
        """The answer to a request, and the statements that it took."""
        caller = Caller(CallerKind.API_KEY, new_id(), frozenset(options_pb2.Permission.values()))
        verified = Verified(caller, ALL, self.tenant_id, self.database)
        servicer = self.servicers[method.containing_service.name]
        call = Call(verified, cast(Any, None), f"/{method.full_name}", "test")
        self.statements.clear()
        answer: Message = await getattr(servicer, method.name)(request, call)
        # The driver tells of a statement in the loop's next turn.
        await asyncio.sleep(0)
        return answer, list(self.statements)


@asynccontextmanager
async def opened(desk: Desk, desks: Installed) -> AsyncIterator[Office]:
    """The servicers of a tenant's things."""
    tokens, cursors = PageTokens(desks.control.mac), Cursors(desks.control.mac)
    both: dict[str, Any] = {"tokens": tokens, "cursors": cursors}
    unused: Any = None
    presence = Presence(None)
    database = Database(desk.dsn, pool_size=1)
    servicers = {
        "AgentService": AgentServicer(**both),
        "AssignmentPolicyService": AssignmentPolicyServicer(**both),
        "AssignmentService": AssignmentServicer(**both, presence=presence),
        "AttributeDefinitionService": AttributeDefinitionServicer(**both),
        "AuditService": AuditServicer(**both),
        "SettingsService": SettingsServicer(cursors=cursors),
        "StatisticsService": StatisticsServicer(cursors=cursors),
        "AvailabilityService": AvailabilityServicer(**both, presence=presence),
        "ChannelService": ChannelServicer(
            **both,
            **dict.fromkeys(("tenants", "routes", "quarantine", "meta_apps"), unused),
            providers=desk.providers,
            graph_version="v26.0",
        ),
        "ContactMergeService": ContactMergeServicer(),
        "ErasureService": ErasureServicer(**both),
        "ContactService": ContactServicer(**both, providers=desk.providers),
        "ConversationService": ConversationServicer(**both, providers=desk.providers),
        "DeliveryService": DeliveryServicer(**both),
        "InviteService": InviteServicer(**both, **dict.fromkeys(("tenants", "agent_tokens", "limits"), unused)),
        "MediaService": MediaServicer(
            cursors=cursors, store=unused, links=Links([bytes(32)], base_url=""), most_bytes=0
        ),
        "MessageService": MessageServicer(
            **both, writers=unused, providers=desk.providers, links=Links([bytes(32)], base_url="")
        ),
        "TagService": TagServicer(**both),
        "TemplateService": TemplateServicer(
            **both, **dict.fromkeys(("tenants", "routes"), unused), providers=desk.providers
        ),
    }
    made = Office(servicers, database, desk.tenant.id)

    mapped: set[str] = set()

    def executed(_connection: Any, _cursor: Any, statement: str, *_more: Any) -> None:
        mapped.add(statement)
        made.statements.append(statement)

    def told(query: str) -> None:
        if query not in mapped:
            made.statements.append(query)

    def connected(adapted: Any, _record: Any) -> None:
        adapted.driver_connection.add_query_logger(lambda record: told(record.query))

    # The driver tells of what is asked of it by hand, not of what SQLAlchemy prepares; of many rows of an INSERT it tells too.
    sqlalchemy.event.listen(database._engine.sync_engine, "before_cursor_execute", executed)
    sqlalchemy.event.listen(database._engine.sync_engine, "connect", connected)
    yield made
    await database.close()


async def fill(desk: Desk, office: Office) -> None:
    """One thing of each kind at a bare conversation, and MANY at a full one."""
    channel, writer = await desk.new_channel(), desk.writer()
    for _ in range(3):
        await desk.new_channel()
    bare, full = await desk.started(channel), await desk.started(channel, busy := phone())
    for _ in range(MANY):
        await desk.started(channel)
        await writer.submit(desk.receive(channel, busy))
    stored = [await writer.submit(desk.send(row.id, "hello")) for row in (bare, *[full] * MANY)]
    messages = [item.message.id for item in stored if isinstance(item, Stored)]
    agents, teams = await _people(desk, channel)
    await _work(desk, full, agents)
    await _administration(desk, channel, teams)
    await _from_outside(desk, bare, full, messages[1])
    role_id = await desk.value("INSERT INTO roles VALUES ($1, 'Role', '{1}', now()) RETURNING id", new_id())
    policy_id = await desk.value("SELECT id FROM assignment_policies LIMIT 1")
    template_id = await _templates(desk, channel)
    erasure_id, media_id = await _erasures(desk, channel), new_id()
    async with desk.database.connection() as connection:
        await brought.expect(connection, media_id, file_name="a.pdf")
    for ids, row, message_id, agent_id in (
        (office.little, bare, messages[0], agents[1]),
        (office.much, full, messages[1], agents[0]),
    ):
        delivery = "SELECT d.id FROM deliveries d JOIN message_parts p ON p.id = d.part_id WHERE p.message_id = $1"
        ids |= {
            "conversation_id": str(row.id),
            "contact_id": str(row.contact_id),
            "channel_id": str(channel.id),
            "message_id": str(message_id),
            "delivery_id": str(await desk.value(delivery, message_id)),
            "agent_id": str(agent_id),
            "team_id": str(teams[0]),
            "role_id": str(role_id),
            "policy_id": str(policy_id),
            "template_id": str(template_id),
            "erasure_id": str(erasure_id),
            "media_id": str(media_id),
        }


async def _templates(desk: Desk, channel: ChannelRow) -> uuid.UUID:
    """Templates of the channel's account; one of their ids."""
    of = templates.Owner(provider="whatsapp", business_account_id=desk.numbers[channel.id].waba_id)
    found = [
        ListedTemplate(provider_id=str(number), name=f"template_{number}", language="en", status="APPROVED")
        for number in range(MANY)
    ]

    async def store(write: Write) -> None:
        await append(write, await templates.store_listed(write, of=of, found=found, at=utc_now(), origin=nobody()))

    await desk.database.write(store)
    return uuid.UUID(str(await desk.value("SELECT id FROM templates LIMIT 1")))


async def _erasures(desk: Desk, channel: ChannelRow) -> uuid.UUID:
    """Contacts that are being erased; the last of these erasures."""
    for _ in range(MANY):
        row, erasure_id = await desk.started(channel), new_id()

        async def begin(write: Write, row: ConversationRow = row, erasure_id: uuid.UUID = erasure_id) -> None:
            _, events = await erasures.begin(
                write, ALL, row.contact_id, erasure_id=erasure_id, reason=None, origin=nobody()
            )
            await append(write, events)

        await desk.database.write(begin)
    return erasure_id


async def _people(desk: Desk, channel: ChannelRow) -> tuple[list[uuid.UUID], list[uuid.UUID]]:
    """Agents, all of the channel, and teams, the first agent in each."""
    agents = [await desk.new_agent() for _ in range(MANY)]
    teams = [new_id() for _ in range(MANY)]
    for number, (agent_id, team_id) in enumerate(zip(agents, teams, strict=True)):
        await desk.execute(
            "INSERT INTO teams (id, name, create_time) VALUES ($1, $2, now())", team_id, f"Team {number}"
        )
        await desk.execute("INSERT INTO agent_loads (agent_id) VALUES ($1) ON CONFLICT DO NOTHING", agent_id)
        await desk.execute("INSERT INTO team_members (team_id, agent_id) VALUES ($1, $2)", team_id, agents[0])
        await desk.execute("INSERT INTO channel_members (channel_id, agent_id) VALUES ($1, $2)", channel.id, agent_id)
    return agents, teams


async def _work(desk: Desk, conversation: ConversationRow, agents: list[uuid.UUID]) -> None:
    """Assignments, notes and tags of one conversation."""
    for number, agent_id in enumerate(agents):
        await desk.do(
            lambda write, agent_id=agent_id: assignments.assign(
                write,
                ALL,
                conversation.id,
                origin=nobody(),
                agent_id=agent_id,
                team_id=None,
                reason=None,
                expected_version=None,
            )
        )
        text = f"Note {number}"
        await desk.do(
            lambda write, text=text: notes.add(
                write, ALL, conversation.id, origin=nobody(), note_id=new_id(), text=text, pinned=False
            )
        )
    names = [f"tag {number}" for number in range(MANY)]
    await desk.do(lambda write: tags.add(write, ALL, conversation.id, origin=nobody(), names=names))


async def _administration(desk: Desk, channel: ChannelRow, teams: list[uuid.UUID]) -> None:
    """Attribute definitions, invites, policies, and the audit of all that was done so far."""
    for number, team_id in enumerate(teams):
        await desk.execute(
            "INSERT INTO attribute_definitions (id, target, key, type, label, create_time, update_time)"
            " VALUES ($1, 'contact', $2, 'text', $2, now(), now())",
            *(new_id(), f"key_{number}"),
        )
        await desk.execute(
            "INSERT INTO invites (id, email, name, role, team_ids, channel_ids, secret_hash, inviter_kind, lifetime, create_time,"
            " expire_time) VALUES ($1, $2, 'Invited', 'agent', '{}', '{}', '', 6, '1 day', now(), now())",
            *(new_id(), f"{number}@example.org"),
        )
        await desk.execute(
            "INSERT INTO assignment_policies (id, team_id, strategy, create_time, update_time) VALUES ($1, $2, 'manual', now(), now())",
            *(new_id(), team_id),
        )
    await desk.execute(
        "INSERT INTO assignment_policies (id, channel_id, strategy, weight, waiting_weight, create_time, update_time)"
        " VALUES ($1, $2, 'round_robin', 100, 50, now(), now())",
        *(new_id(), channel.id),
    )
    while await desk.database.write(follow.follow):
        pass


async def _from_outside(desk: Desk, bare: ConversationRow, full: ConversationRow, message_id: uuid.UUID) -> None:
    """Receipts of one message, and addresses that were said to be of two people."""
    await desk.value("SELECT ensure_receipt_month(now()::date)")
    await desk.execute(
        "INSERT INTO message_status_updates (id, create_time, message_id, part_id, position, status, source, applied)"
        " SELECT gen_random_uuid(), now(), message_id, id, 0, 'read', 'receipt', false FROM message_parts, generate_series(1, $2)"
        " WHERE message_id = $1",
        *(message_id, MANY),
    )
    await desk.execute(
        "INSERT INTO identity_conflicts (id, channel_id, identity_id, other_identity_id, kind, value_hash, create_time)"
        " SELECT gen_random_uuid(), i.channel_id, i.id, o.id, 'wa_id', sha256(n::text::bytea), now()"
        " FROM identities i, identities o, generate_series(1, $3) n WHERE i.contact_id = $1 AND o.contact_id = $2",
        *(full.contact_id, bare.contact_id, MANY),
    )
