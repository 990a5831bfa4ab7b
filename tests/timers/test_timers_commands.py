"""`switchboard timers` as an operator types it."""

from datetime import timedelta
from pathlib import Path

from server.kit.clock import utc_now
from server.kit.db import Write
from server.kit.ids import new_id
from server.timers import service as timers
from tests.desk import Desk
from tests.installation import Installed
from tests.typed import environment_of, switchboard


async def test_what_failed_is_listed_and_tried_again(desks: Installed, own_desk: Desk, tmp_path: Path) -> None:
    keys = [new_id() for _ in range(3)]

    async def set_all(write: Write) -> None:
        for key in keys:
            await timers.set_timer(write.connection, kind="snooze", key=key, due_time=utc_now() - timedelta(hours=1))

    async def typed(*arguments: str) -> str:
        tenant = ("--tenant", own_desk.tenant.name)
        code, out, error = await switchboard(
            "timers", *arguments, *tenant, environment=environment_of(desks), home=tmp_path
        )
        assert (code, error) == (0, "")
        return out

    await own_desk.database.write(set_all)
    await own_desk.execute(
        "UPDATE timers SET attempt = 10, error = 'KeyError', dead_time = now() WHERE key = $1", keys[0]
    )
    await own_desk.execute(
        "UPDATE timers SET attempt = 1, error = 'KeyError', retry_time = now() + interval '8 s' WHERE key = $1", keys[1]
    )
    assert len((await typed("list")).splitlines()) == 3
    dead, again = (await typed("list", "--failed")).splitlines()
    assert str(keys[0]) in dead
    assert dead.endswith("failed 10 times  KeyError  dead")
    assert "failed 1 times  KeyError  again" in again
    assert await typed("retry", "--key", str(keys[0])) == "1 timers are tried again\n"
    assert len((await typed("list", "--failed")).splitlines()) == 1
    assert await typed("retry", "--kind", "snooze") == "1 timers are tried again\n"
    async with desks.control.database.connection() as control:
        announced = await control.fetchval(
            "SELECT active_until > now() FROM tenant_work WHERE tenant_id = $1", own_desk.tenant.id
        )
    assert announced, "a worker looks at once"
