"""Every id of every request, for every role: what belongs to another team or tenant is answered like what nobody has.

The requests and their fields come from the descriptors. A field whose kind contract_kinds does not know fails here, so that
whoever adds an RPC says whose its ids are.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from contract_agree import HTTP
from contract_edge import Rest
from contract_fields import Place, places, put
from contract_kinds import CALLERS, KINDS, NO_IDS, ONESELF, SEEING_ALL, TENANT_WIDE, Cast, Holdings, Side, foreign
from contract_outcome import Refused, methods, normal
from contract_requests import connect
from contract_table import CASES
from contract_transports import Grpc
from contract_world import World, nonce, unknown
from google.protobuf.descriptor_pb2 import FileDescriptorSet, MethodOptions
from google.protobuf.message import Message
from switchboard.v1 import options_pb2

from server.rpc.rules import rule_of

IDS = [place for place in places() if place.names_one]
# Where one's own id may be answered like one that nobody has, and why.
SAME_ANYWAY: Mapping[str, str] = {
    "ContactService.ListContacts:channel_id": "the newest contacts are walked, so a first page may hold none of the channel's",
    "ContactService.ListIdentityConflicts:contact_id": "a contact that nobody confuses with another has no conflicts",
    "InboxService.WatchInbox": "the first item says where the stream starts, whatever it will show",
    "InboxService.ListInboxEvents": "asks for one kind of events, which these conversations have none of",
    "ConversationService.GetConversationStatistics": "counted a little later: see test_contract_statistics",
    "StatisticsService.GetStatistics": "counted a little later: see test_contract_statistics",
    "AuditService.ListAuditEntries:actor_id": "an agent who has done nothing has no entries",
    "DeliveryService.ListDeliveries:channel_id": "the conversation that is asked for too is on another channel",
    "MessageService.SendMessage:last_seen_message_id": "only a hint of what the agent had seen",
}
# One's own is not there either.
ELSEWHERE: Mapping[str, str] = {
    "MessageService.SendMessage:template.template_id": "its conversation is on a channel of another account; tests/templates sends them",
}


def may(caller: str, place: Place) -> bool:
    """Whether the caller holds the permission of the method."""
    rule = rule_of(f"/switchboard.v1.{place.rpc.replace('.', '/')}")
    assert rule is not None
    return rule.kind == "permission" and rule.permission in CALLERS[caller]


def kind_of(place: Place) -> str:
    return KINDS[place.path[-1].removesuffix("[0]")]


def sees_theirs(caller: str, place: Place) -> bool | None:
    """Whether the caller may see what is another team's; None where there is no such thing."""
    if str(place) in ONESELF:
        return options_pb2.PERMISSION_ASSIGNMENT_MANAGE in CALLERS[caller]
    return None if kind_of(place) in TENANT_WIDE else caller in SEEING_ALL


PAIRS = [(place, caller) for place in IDS for caller in CALLERS]
HOLDING = [pair for pair in PAIRS if may(pair[1], pair[0])]
LACKING = [pair for pair in PAIRS if not may(pair[1], pair[0])]
# The narrowest of those who may, for the comparison of transports.
NARROWEST = {str(place): (place, caller) for place, caller in HOLDING if not methods()[place.rpc].server_streaming}


def named(pair: Any) -> str:
    return f"{pair[0]}-{pair[1]}"


@pytest.fixture(scope="module")
def cast(world: World) -> Cast:
    return Cast(world)


class Asking:
    """One field of one request, asked about by one caller."""

    def __init__(self, cast: Cast, world: World, place: Place, caller: str) -> None:
        self.cast, self.world, self.place, self.caller = cast, world, place, caller
        self.method = methods()[place.rpc]
        self.token = cast.tokens[caller]
        self.changes = self.method.GetOptions().idempotency_level != MethodOptions.NO_SIDE_EFFECTS

    def ids(self) -> dict[str, str]:
        """Ids that the caller must not be told apart: of nobody, of another tenant, and of another team if that is hidden."""
        kind = kind_of(self.place)
        found = {"random": unknown(), "tenant": foreign(self.world, kind)}
        if sees_theirs(self.caller, self.place) is False:
            found["team"] = self.cast.theirs.standing.of(kind)
        return found

    def about(self, value: str) -> Message:
        """The request about things of ours, with this id in the place."""
        return put(self.with_things_of(self.cast.ours.standing), self.place.path, value)

    def own(self) -> tuple[Message, str]:
        """The request about something that is the caller's own, and its id."""
        found = self._holdings(self.cast.ours)
        oneself = str(self.place) in ONESELF and self.caller in self.cast.agents
        value = self.cast.agents[self.caller] if oneself else found.of(kind_of(self.place))
        return put(self.with_things_of(found), self.place.path, value), value

    def theirs(self) -> tuple[Message, str]:
        """The request about something of the other team's, and its id."""
        found = self._holdings(self.cast.theirs)
        value = found.of(kind_of(self.place))
        return put(self.with_things_of(found), self.place.path, value), value

    def _holdings(self, side: Side) -> Holdings:
        found = side.fresh() if self.changes else side.standing
        if self.place.rpc == "ChannelService.DisconnectChannel":
            # One of its own: the side's is needed by what is asked afterwards.
            vars(found).update(_channel=self.world.call(connect(self.world)).channel.id)
        return found

    def with_things_of(self, holdings: Holdings) -> Message:
        """What the table asks for, about these things, and as if for the first time."""
        name = self.place.rpc
        if name not in self.cast.asked:
            self.cast.asked[name] = CASES[name].ask(self.world)
        request = type(self.cast.asked[name])()
        request.CopyFrom(self.cast.asked[name])
        for place in _of(name):
            if is_set(request, place.path):
                put(request, place.path, holdings.of(kind_of(place)))
        if self.place.path[0] == "filter":
            request.ClearField("filter")
        for field in {"request_id", "email", "name"} & set(request.DESCRIPTOR.fields_by_name):
            put(request, (field,), f"{nonce()}@example.com")
        return request


def _of(rpc: str) -> list[Place]:
    return [place for place in IDS if place.rpc == rpc]


def is_set(request: Message, path: tuple[str, ...]) -> bool:
    inner: Any = request
    for name in path[:-1]:
        if name.endswith("[0]") or not inner.HasField(name):
            return False
        inner = getattr(inner, name)
    return bool(getattr(inner, path[-1]))


def outcome(transport: Grpc | Rest, asking: Asking, request: Message) -> Message | Refused:
    """The answer, the first item of a stream, or the refusal."""
    try:
        if asking.method.server_streaming:
            return next(transport.items(asking.method, request, token=asking.token))
        return transport.call(asking.method, request, token=asking.token)
    except Refused as refused:
        return refused


def told(found: Message | Refused, value: str) -> Any:
    """Everything that a caller is told, with the id it asked about replaced: code, message, each detail; or the answer."""
    if isinstance(found, Refused):
        return found.code, found.status.SerializeToString().replace(value.encode(), b"<asked>")
    return 0, str(normal(found)).replace(value, "<asked>")


def test_the_suite_knows_every_method_of_the_descriptors(checkout: Any) -> None:
    found = FileDescriptorSet.FromString((checkout / "generated/descriptor.binpb").read_bytes())
    services = [service for file in found.file for service in file.service]
    assert {f"{service.name}.{method.name}" for service in services for method in service.method} == set(methods())


def test_every_id_of_the_contract_is_of_a_known_kind() -> None:
    strange = [str(place) for place in IDS if place.path[-1] not in KINDS]
    assert strange == [], "say in contract_kinds what these are ids of"


def test_every_string_that_is_called_an_id_is_one_or_is_said_to_be_none() -> None:
    called = [place for place in places() if place.path[-1] == "id" or place.path[-1].endswith(("_id", "_ids"))]
    strange = [str(place) for place in called if not place.names_one and place.path[-1] not in NO_IDS]
    assert strange == [], "bind these to string.uuid, or say in contract_kinds why they are no ids"


def test_what_is_declared_of_ids_is_of_ids_that_exist() -> None:
    assert {place.path[-1] for place in IDS} == set(KINDS)
    assert set(TENANT_WIDE) <= set(KINDS.values())
    known = {str(place) for place in IDS}
    assert known >= ONESELF
    assert known | {place.rpc for place in IDS} >= set(SAME_ANYWAY) | set(ELSEWHERE)


@pytest.mark.parametrize("pair", LACKING, ids=named)
def test_who_may_not_call_is_told_so_whatever_the_id(
    direct: Grpc, world: World, cast: Cast, pair: tuple[Place, str]
) -> None:
    asking = Asking(cast, world, *pair)
    kind = kind_of(asking.place)
    ids = [cast.ours.standing.of(kind), cast.theirs.standing.of(kind), foreign(world, kind), unknown()]
    answers = [outcome(direct, asking, asking.about(value)) for value in ids]
    for found in answers:
        assert isinstance(found, Refused)
        assert (found.code, found.reason) == (7, "PERMISSION_MISSING")
        assert told(found, "-") == told(answers[0], "-")


@pytest.mark.parametrize("pair", HOLDING, ids=named)
def test_an_id_of_others_is_answered_like_one_that_nobody_has(
    direct: Grpc, world: World, cast: Cast, pair: tuple[Place, str]
) -> None:
    asking = Asking(cast, world, *pair)
    answers = {
        whose: told(outcome(direct, asking, asking.about(value)), value) for whose, value in asking.ids().items()
    }
    for whose, answer in answers.items():
        assert answer == answers["random"], whose
    for seen in visible(asking) if str(asking.place) not in ELSEWHERE else ():
        found = outcome(direct, asking, seen[0])
        assert not isinstance(found, Refused) or found.reason != "RESOURCE_NOT_FOUND"
        if str(asking.place) not in SAME_ANYWAY and asking.place.rpc not in SAME_ANYWAY:
            assert told(found, seen[1]) != answers["random"]


def visible(asking: Asking) -> Iterator[tuple[Message, str]]:
    """Requests about what the caller may see: its own, and for who sees all, where nothing is changed, the other team's."""
    sees_all = sees_theirs(asking.caller, asking.place)
    if sees_all or str(asking.place) not in ONESELF or asking.caller in asking.cast.agents:
        yield asking.own()
    if sees_all and not asking.changes:
        yield asking.theirs()


@pytest.mark.parametrize("name", NARROWEST)
def test_over_rest_too(direct: Grpc, rest: Rest, world: World, cast: Cast, name: str) -> None:
    asking = Asking(cast, world, *NARROWEST[name])
    answers = []
    for value in asking.ids().values():
        request = asking.about(value)
        by_rest = outcome(rest, asking, request)
        assert plain(by_rest, value) == plain(outcome(direct, asking, request), value)
        assert not isinstance(by_rest, Refused) or by_rest.http_status == HTTP[by_rest.code]
        answers.append(plain(by_rest, value))
    assert all(answer == answers[0] for answer in answers)


def plain(found: Message | Refused, value: str) -> str:
    return str(normal(found.status if isinstance(found, Refused) else found)).replace(value, "<asked>")
