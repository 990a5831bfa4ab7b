"""A channel with members, policies and a queue: what the tests of assignment are set in."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field, replace
from typing import Any

from server.assignments import availability, policies, queue, service
from server.assignments.policies import Settings
from server.channels.service import ChannelRow
from server.conversations.service import Changed
from server.kit.db import Database, Write
from server.kit.ids import new_id
from server.log.append import append
from tests.desk import ALL, Desk, nobody, phone

PLAIN = Settings(
    strategy="round_robin",
    required_skills=(),
    fairness_most=None,
    fairness_window=None,
    sticky=False,
    reclaim_after=None,
    queue_order="longest_waiting",
    weight=None,
    waiting_weight=None,
)


@dataclass
class Office:
    """One channel of a desk; nothing is given out but by `drain`."""

    desk: Desk
    channel: ChannelRow
    names: dict[uuid.UUID, str] = field(default_factory=dict)

    async def new_agent(self, name: str = "", *, online: bool = True, capacity: int = 10, **more: Any) -> uuid.UUID:
        """A member of the channel. more: skills, member (False: of nothing)."""
        agent_id = await self.desk.new_agent("agent")
        self.names[agent_id] = name
        if more.get("member", True):
            await self.desk.execute("INSERT INTO channel_members VALUES ($1, $2)", self.channel.id, agent_id)
        await self.capacity(agent_id, capacity, skills=more.get("skills", ()))
        if online:
            await self.says(agent_id, "online")
        return agent_id

    async def new_team(self, *members: uuid.UUID) -> uuid.UUID:
        team_id = new_id()
        await self.desk.execute(
            "INSERT INTO teams (id, name, create_time) VALUES ($1, $2, now())", team_id, str(team_id)
        )
        for agent_id in members:
            await self.desk.execute("INSERT INTO team_members VALUES ($1, $2)", team_id, agent_id)
        return team_id

    async def _unit(self, work: Any, database: Database | None = None) -> Any:
        async def unit(write: Write) -> Any:
            record, events = await work(write)
            await append(write, events)
            return record

        return await (database or self.desk.database).write(unit)

    async def says(self, agent_id: uuid.UUID, to: str) -> None:
        await self._unit(lambda write: availability.set_availability(write, agent_id, origin=nobody(), to=to))

    async def capacity(self, agent_id: uuid.UUID, units: int, *, skills: Any = ()) -> None:
        await self._unit(
            lambda write: availability.set_capacity(
                write, agent_id, origin=nobody(), capacity=units, skills=list(skills)
            )
        )

    async def policy(self, *, team_id: uuid.UUID | None = None, **changes: Any) -> uuid.UUID:
        """The policy of the channel, or of a team: as PLAIN, with changes."""
        made = await self._unit(
            lambda write: policies.create(
                write,
                origin=nobody(),
                policy_id=new_id(),
                channel_id=None if team_id else self.channel.id,
                team_id=team_id,
                settings=replace(PLAIN, **changes),
            )
        )
        found: uuid.UUID = made["id"]
        return found

    async def change_policy(self, policy_id: uuid.UUID, **changes: Any) -> None:
        settings = replace(PLAIN, **changes)
        await self._unit(lambda write: policies.update(write, policy_id, origin=nobody(), settings=settings))

    async def waiting(self, count: int = 1) -> list[uuid.UUID]:
        """So many customers write, one after the other."""
        return [(await self.desk.started(self.channel, phone())).id for _ in range(count)]

    async def drain(self, present: frozenset[uuid.UUID] | None = None, *, database: Database | None = None) -> int:
        """What a worker does when it looks: nothing unless there is reason to."""
        used = database or self.desk.database
        async with used.connection() as connection:
            state = await queue.state(connection)
        return await queue.drain(used, state.head, present=present) if state.wanted else 0

    async def assign(self, some: uuid.UUID, who: uuid.UUID, *, database: Database | None = None) -> Changed:
        whole: dict[str, Any] = {"team_id": None, "reason": None, "expected_version": None}
        return await self.desk.do(
            lambda write: service.assign(write, ALL, some, origin=nobody(), agent_id=who, **whole), database=database
        )

    async def by_policy(self, some: uuid.UUID, *, database: Database | None = None, **more: Any) -> Changed:
        whole: dict[str, Any] = {"team_id": None, "reason": None, "expected_version": None, "present": None, **more}
        return await self.desk.do(
            lambda write: service.assign_by_policy(write, ALL, some, origin=nobody(), **whole), database=database
        )

    async def unassign(self, some: uuid.UUID) -> Changed:
        return await self.desk.do(
            lambda write: service.unassign(write, ALL, some, origin=nobody(), reason=None, expected_version=None)
        )

    async def holder(self, some: uuid.UUID) -> uuid.UUID | None:
        return (await self.desk.conversation(some)).assignee_id

    async def holders(self, some: list[uuid.UUID]) -> list[str | None]:
        """The names of who has these."""
        found = [await self.holder(each) for each in some]
        return [None if agent_id is None else self.names[agent_id] for agent_id in found]


async def open_office(desk: Desk) -> Office:
    return Office(desk, await desk.new_channel())
