"""Who may call what: every method for every role, key and stranger (OWASP API5:2023), as the contract's options say."""

import pytest
from contract_outcome import Refused, methods, request_class
from contract_transports import Grpc
from contract_world import World
from google.protobuf.message import Message
from switchboard.v1 import options_pb2

from server.agents.roles import PERMISSIONS
from server.rpc.rules import Rule, rule_of

RULES = {name: rule_of(f"/switchboard.v1.{name.replace('.', '/')}") for name in methods()}
CALLABLE = [name for name, method in methods().items() if not method.server_streaming]
ROLES = ("owner", "admin", "supervisor", "agent", "service", "read_only")
# Asked for with a role that has it: by whoever gives the role, changes its agents or signs them in.
WITH_A_ROLE = {options_pb2.PERMISSION_OWNERS_MANAGE, options_pb2.PERMISSION_CONVERSATIONS_SEE_ALL}
PERMITTED = [number for number in options_pb2.Permission.values() if number]


def test_every_method_has_an_access_rule() -> None:
    assert [name for name, rule in RULES.items() if rule is None] == []


def test_only_webhooks_and_who_accepts_an_invite_are_public_and_only_the_installation_is_the_platforms() -> None:
    kinds = {
        kind: {name for name, rule in RULES.items() if rule and rule.kind == kind} for kind in ("public", "platform")
    }
    assert kinds["public"] == {
        "WebhookService.VerifyMetaWebhook",
        "WebhookService.ReceiveMetaWebhook",
        "InviteService.AcceptInvite",
    }
    assert kinds["platform"] == {
        *(name for name in RULES if name.startswith("TenantService.")),
        *(f"ChannelService.{verb}MetaApp" for verb in ("Create", "Get", "Update", "Delete")),
        "ChannelService.ListMetaApps",
    }
    assert [name for name, rule in RULES.items() if rule and rule.kind == "tenant"] == ["AuthService.GetCaller"]


def test_every_permission_of_the_contract_is_needed_somewhere() -> None:
    assert {rule.permission for rule in RULES.values() if rule and rule.permission} == set(PERMITTED) - WITH_A_ROLE


def wanted(rule: Rule) -> str:
    """What a refusal says is missing."""
    return options_pb2.Permission.Name(rule.permission) if rule.kind == "permission" else rule.kind  # type: ignore[arg-type]


def refusal(direct: Grpc, name: str, credential: str) -> Refused | None:
    """What becomes of an empty request: access is decided before anything else is looked at, and no empty one changes a thing."""
    method = methods()[name]
    try:
        direct.call(method, request_class(method)(), token=credential)
    except Refused as refused:
        return refused
    return None


def assert_admitted(found: Refused | None) -> None:
    assert found is None or found.reason in {"INVALID_FIELDS", "SIGNATURE_INVALID"}


def assert_refused(found: Refused | None, rule: Rule) -> None:
    assert found is not None
    assert (found.reason, dict(found.info.metadata)) == ("PERMISSION_MISSING", {"permission": wanted(rule)})


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("name", CALLABLE)
def test_a_role_may_call_what_its_permissions_cover(direct: Grpc, world: World, name: str, role: str) -> None:
    rule = RULES[name]
    assert rule is not None
    admitted = rule.kind in ("public", "tenant") or rule.permission in PERMISSIONS[role]
    found = refusal(direct, name, world.tokens[role])
    assert_admitted(found) if admitted else assert_refused(found, rule)


@pytest.mark.parametrize("name", CALLABLE)
def test_a_platform_key_may_call_the_platforms_methods_and_a_tenants_key_all_others(
    direct: Grpc, world: World, name: str
) -> None:
    rule = RULES[name]
    assert rule is not None
    by_platform, by_tenant = refusal(direct, name, world.platform_key), refusal(direct, name, world.key)
    assert_admitted(by_platform) if rule.kind in ("platform", "public") else assert_refused(by_platform, rule)
    assert_admitted(by_tenant) if rule.kind != "platform" else assert_refused(by_tenant, rule)


@pytest.mark.parametrize("name", CALLABLE)
def test_without_a_credential_only_public_methods_answer(direct: Grpc, name: str) -> None:
    found, rule = refusal(direct, name, ""), RULES[name]
    assert rule is not None
    if rule.kind == "public":
        assert_admitted(found)
    else:
        assert found is not None
        assert found.reason == "CREDENTIAL_MISSING"


@pytest.fixture(scope="module")
def narrow_keys(world: World) -> dict[int, tuple[str, str]]:
    """For each permission a key that has it alone, and one that has all others."""
    return {one: (world.key_with(one), world.key_with(*(set(PERMITTED) - {one}))) for one in PERMITTED}


@pytest.mark.parametrize("name", [name for name in CALLABLE if RULES[name].permission])  # type: ignore[union-attr]
def test_a_key_needs_the_methods_permission_and_no_other(
    direct: Grpc, narrow_keys: dict[int, tuple[str, str]], name: str
) -> None:
    rule = RULES[name]
    assert rule is not None
    alone, others = narrow_keys[rule.permission]
    assert_admitted(refusal(direct, name, alone))
    assert_refused(refusal(direct, name, others), rule)


@pytest.mark.parametrize("role", ROLES)
def test_a_role_may_watch_when_it_may_read_events(direct: Grpc, world: World, role: str) -> None:
    """The one method that streams: its refusal comes before the first item."""
    method, rule = methods()["InboxService.WatchInbox"], RULES["InboxService.WatchInbox"]
    assert rule is not None
    assert rule.permission in PERMISSIONS[role]
    first: Message = next(direct.items(method, request_class(method)(), token=world.tokens[role]))
    assert first.HasField("hello")  # type: ignore[attr-defined]
    assert_refused(_watch_refusal(direct, world.platform_key), rule)


def _watch_refusal(direct: Grpc, credential: str) -> Refused:
    method = methods()["InboxService.WatchInbox"]
    with pytest.raises(Refused) as raised:
        next(direct.items(method, request_class(method)(), token=credential))
    return raised.value


def test_no_key_can_make_a_key_that_may_more_than_itself(direct: Grpc, world: World) -> None:
    from switchboard.v1.auth_service_pb2 import CreateApiKeyRequest

    narrow = world.key_with(options_pb2.PERMISSION_API_KEYS_MANAGE)
    request = CreateApiKeyRequest(name="more", permissions=[options_pb2.PERMISSION_MESSAGES_SEND])
    with pytest.raises(Refused) as raised:
        direct.call(methods()["AuthService.CreateApiKey"], request, token=narrow)
    assert (raised.value.reason, raised.value.info.metadata["permission"]) == (
        "PERMISSION_MISSING",
        "PERMISSION_MESSAGES_SEND",
    )


def test_nobody_can_make_an_agent_that_may_more_than_himself(direct: Grpc, world: World) -> None:
    from switchboard.v1.agent_pb2 import AgentRole
    from switchboard.v1.agent_service_pb2 import CreateAgentRequest

    narrow = world.key_with(options_pb2.PERMISSION_AGENTS_MANAGE, *PERMISSIONS["read_only"])
    made = world.call(CreateAgentRequest(name="As much", role=AgentRole.AGENT_ROLE_READ_ONLY), token=narrow)
    assert made.agent.role == AgentRole.AGENT_ROLE_READ_ONLY
    for role in ("owner", "admin", "supervisor", "agent", "unspecified"):
        request = CreateAgentRequest(name="More", role=AgentRole.Value(f"AGENT_ROLE_{role.upper()}"))
        with pytest.raises(Refused) as raised:
            direct.call(methods()["AgentService.CreateAgent"], request, token=narrow)
        assert (raised.value.reason, raised.value.info.metadata["permission"]) == (
            "PERMISSION_MISSING",
            "PERMISSION_CONVERSATIONS_WRITE",
        )
