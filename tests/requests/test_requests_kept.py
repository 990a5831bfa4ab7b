"""How long a request id is remembered."""

from datetime import timedelta

from server.kit.clock import utc_now
from server.kit.ids import new_id
from server.requests import service
from tests.desk import Desk


async def test_request_ids_are_forgotten_after_a_week_and_not_before(desk: Desk) -> None:
    for name, age in (("young", timedelta(days=6, hours=23)), ("old", timedelta(days=7, minutes=1))):
        await desk.execute(
            "INSERT INTO idempotent_requests (principal_id, method, request_id, request_hash, resource_id, create_time)"
            " VALUES ($1, 'Method', $2, '', $1, $3)",
            new_id(),
            name,
            utc_now() - age,
        )
    async with desk.database.connection() as connection:
        await service.drop_old(connection)
    assert [row["request_id"] for row in await desk.rows("SELECT request_id FROM idempotent_requests")] == ["young"]
