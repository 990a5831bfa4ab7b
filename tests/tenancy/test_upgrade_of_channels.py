"""A database of the second revision, whose channels were WhatsApp's alone, keeps them."""

from __future__ import annotations

import uuid
from datetime import timedelta

from alembic import command
from sqlalchemy import Connection, text
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine

from server.channels import convert
from server.models import migration
from server.models.tenant import Channel

OLD = text("""
INSERT INTO channels (
    id, provider, name, state, phone_number_id, waba_id, display_phone_number, graph_version, access_token, reopen_window, create_time
)
VALUES (:id, 'whatsapp', 'Shop', 'active', :number, '1234567', :shown, 'v26.0', '\\x0102', interval '5 hours', now())
""")


def upgrade(connection: Connection, to: str) -> None:
    command.upgrade(migration.config("tenant", connection), to)


async def test_a_number_of_the_second_revision_is_the_same_number_in_the_newest(server_dsn: str) -> None:
    name = f"upgrade_{uuid.uuid4().hex[:8]}"
    address = server_dsn.replace("postgresql://", "postgresql+asyncpg://", 1)
    admin = create_async_engine(address, isolation_level="AUTOCOMMIT")
    async with admin.connect() as connection:
        await connection.exec_driver_sql(f"CREATE DATABASE {name}")
    await admin.dispose()
    engine = create_async_engine(address.rpartition("/")[0] + f"/{name}")
    shown, plain = uuid.uuid4(), uuid.uuid4()
    async with engine.begin() as connection:
        await connection.run_sync(upgrade, "0002")
        await connection.execute(OLD, {"id": shown, "number": "100000000000001", "shown": "15550783881"})
        await connection.execute(OLD, {"id": plain, "number": "100000000000002", "shown": None})
    async with engine.begin() as connection:
        await connection.run_sync(upgrade, "head")
    async with AsyncSession(engine) as session:
        first, second = [await session.get_one(Channel, channel_id) for channel_id in (shown, plain)]
        assert (first.account_id, second.account_id) == ("100000000000001", "100000000000002")
        assert (first.access_token, first.reopen_window) == (b"\x01\x02", timedelta(hours=5))
        told = convert.channel(first).whatsapp
        assert (told.phone_number_id, told.waba_id, told.graph_version) == ("100000000000001", "1234567", "v26.0")
        assert told.display_phone_number == "15550783881"
        assert not convert.channel(second).whatsapp.HasField("display_phone_number")
    await engine.dispose()
