"""What a slice hands to the log: the event, who and what is behind it, and whom it concerns."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from datetime import datetime

from switchboard.v1 import actor_pb2, event_pb2

from server.kit.clock import utc_now
from server.kit.ids import new_id
from server.rpc.call import Call, CallerKind

ActorKind = actor_pb2.ActorKind
CauseKind = actor_pb2.CauseKind


@dataclass(frozen=True, slots=True)
class Actor:
    """Who acted: a number of the contract's ActorKind, and an id, absent for the system."""

    kind: int
    id: uuid.UUID | None = None


SYSTEM = Actor(kind=actor_pb2.ACTOR_KIND_SYSTEM)


@dataclass(frozen=True, slots=True)
class Cause:
    """What made it act: a number of the contract's CauseKind, and its id."""

    kind: int
    id: str


@dataclass(frozen=True, slots=True)
class Routing:
    """Who can see the conversation: its channel, team and assignee."""

    channel_id: uuid.UUID | None = None
    team_id: uuid.UUID | None = None
    assignee_id: uuid.UUID | None = None


_NUMBERS = {name: found.number for name, found in event_pb2.InboxEvent.DESCRIPTOR.fields_by_name.items()}


@dataclass(frozen=True, slots=True)
class NewEvent:
    """One event to append. body: an InboxEvent with nothing but its body set.

    kind: the number of the body's field, which is also its EventType. payload: its bytes, made here and nowhere else; they are what is
    stored and what every stream shows. before and after: routing of the conversation around the event, so that streams can tell who
    gains and who loses sight.
    """

    body: event_pb2.InboxEvent
    actor: Actor
    cause: Cause
    conversation_id: uuid.UUID | None = None
    conversation_version: int = 0
    before: Routing = Routing()
    after: Routing = Routing()
    id: uuid.UUID = field(default_factory=new_id)
    create_time: datetime = field(default_factory=utc_now)
    kind: int = field(init=False)
    payload: bytes = field(init=False)

    def __post_init__(self) -> None:
        name = self.body.WhichOneof("body")
        if name is None:
            raise ValueError("an event needs a body")
        object.__setattr__(self, "kind", _NUMBERS[name])
        object.__setattr__(self, "payload", self.body.SerializeToString())

    @property
    def channel_id(self) -> uuid.UUID | None:
        """The channel, which a conversation never changes."""
        return self.after.channel_id or self.before.channel_id


@dataclass(frozen=True, slots=True)
class Origin:
    """Who acts and why: what every event of one action shares."""

    actor: Actor
    cause: Cause


_ACTORS = {
    CallerKind.AGENT: actor_pb2.ACTOR_KIND_AGENT,
    CallerKind.API_KEY: actor_pb2.ACTOR_KIND_API_KEY,
}


def origin_of(call: Call, request_id: str = "") -> Origin:
    """The origin of what a call does: its principal, and its request id or the call's own id."""
    actor = Actor(kind=_ACTORS[call.caller.kind], id=call.caller.id)
    return Origin(actor=actor, cause=Cause(kind=actor_pb2.CAUSE_KIND_REQUEST, id=request_id or call.id))
