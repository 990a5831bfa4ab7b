"""The command tree comes from the contract alone: ours has every RPC, and a contract nobody has seen works at once."""

import asyncio
import importlib.resources
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import click
import click.testing
import grpc
import pytest
from cli_server import Result
from google.api import annotations_pb2
from switchboard.v1 import conversation_service_pb2, webhook_service_pb2
from switchboard_cli import api, contract
from switchboard_cli.contract import Contract, command_names, shipped

OURS = [
    rpc
    for group in (
        "agents",
        "assignments",
        "assignment-policies",
        "attributes",
        "availability",
        "auth",
        "channels",
        "contacts",
        "contact-merges",
        "conversations",
        "deliveries",
        "erasures",
        "inbox",
        "intake",
        "invites",
        "media",
        "messages",
        "settings",
        "tags",
        "templates",
        "tenants",
    )
    for rpc in shipped().groups[group].rpcs.values()
]


def test_every_rpc_is_a_command_or_excluded_by_name():
    commands = {rpc.method.full_name for rpc in OURS}
    assert commands >= {
        method.full_name
        for method in conversation_service_pb2.DESCRIPTOR.services_by_name["ConversationService"].methods
    }
    webhooks = webhook_service_pb2.DESCRIPTOR.services_by_name["WebhookService"].methods
    assert set(contract.EXCLUDED) == {method.full_name for method in webhooks}
    assert len(shipped().groups) == 23


@pytest.mark.parametrize(
    ("group", "names"),
    [
        (
            "conversations",
            "add-note add-participant add-tags count create delete delete-note get get-participants get-statistics get-thread "
            "list list-notes mark-read remove-participant remove-tags restore update update-note update-status",
        ),
        ("tags", "create delete list update"),
        ("messages", "get list list-status-updates react-to-message retry-attachment send send-typing-indicator"),
        ("deliveries", "get give-up-delivery list retry"),
        ("assignments", "assign-conversation list-conversation-assignments preview unassign-conversation"),
        ("assignment-policies", "create delete get list update"),
        ("availability", "get-agent-availability heartbeat list-agent-availabilities set set-agent-capacity"),
        ("inbox", "list-events watch"),
        ("auth", "create-agent-token create-api-key get-caller list-api-keys revoke-api-key"),
        (
            "channels",
            "check connect connect-whatsapp-channel create-meta-app delete-meta-app disconnect get get-meta-app list list-meta-apps"
            " reauthorize resume rotate-secret update update-meta-app",
        ),
        ("attributes", "create delete list update"),
        ("settings", "get-tenant-settings update-tenant-settings"),
        (
            "agents",
            "add-team-member create create-role create-team delete-role delete-team disable enable get get-role get-team list list-roles "
            "list-teams remove-team-member set-memberships update update-role update-team",
        ),
        ("contacts", "add-identity block create get list list-identity-conflicts remove-identity unblock update"),
        ("contact-merges", "merge-contacts unmerge-contact"),
        ("intake", "receive-items"),
        ("invites", "accept create list resend revoke"),
        ("templates", "create delete get list preview sync unpause update upload-sample"),
        ("erasures", "erase-contact get list"),
        ("tenants", "create disable enable get list"),
        ("statistics", "get"),
        ("audit", "get-settings list-entries update-settings"),
    ],
)
def test_names_are_what_people_would_guess(group, names):
    assert sorted(shipped().groups[group].rpcs) == names.split()


def test_two_rpcs_of_one_short_name_keep_their_long_ones():
    names = command_names("ParcelService", ["WeighParcel", "WeighParcels", "SendParcel", "ListHTTPParcels"])
    assert list(names.values()) == ["weigh-parcel", "weigh-parcels", "send", "list-http-parcels"]


@pytest.mark.parametrize("rpc", OURS, ids=lambda rpc: rpc.path)
def test_every_command_and_every_option_is_explained(rpc):
    command = api.command(shipped(), rpc)
    assert rpc.help
    assert command.get_short_help_str()
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            assert parameter.help, parameter.name
    with click.Context(command, info_name=rpc.name) as context:
        assert rpc.help.split()[0] in command.get_help(context)


@pytest.fixture(scope="session")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Contract:
    """A contract compiled a moment ago."""
    here = Path(__file__).parent
    out = tmp_path_factory.mktemp("fresh") / "descriptor.binpb"
    google = Path(str(annotations_pb2.__file__)).parent.parent.parent
    includes = [here, here.parent.parent / "protos", google, importlib.resources.files("grpc_tools") / "_proto"]
    flags = ["--include_imports", "--include_source_info", f"--descriptor_set_out={out}"]
    protoc = [sys.executable, "-m", "grpc_tools.protoc", *(f"-I{each}" for each in includes), *flags, "fresh.proto"]
    subprocess.run(protoc, check=True)
    return Contract(out.read_bytes())


def test_a_new_service_is_a_new_group(fresh: Contract):
    assert list(fresh.groups) == ["parcels"]
    parcels = fresh.groups["parcels"]
    assert parcels.help == "Parcels, and where they are.\nThey are slow."
    assert list(parcels.rpcs) == ["send", "track", "weigh-parcel", "weigh-parcels"]
    assert parcels.rpcs["send"].is_platform
    assert parcels.rpcs["send"].arguments == ("depot_id", "slot")
    assert not parcels.rpcs["track"].has_side_effects


def test_its_fields_are_options_with_its_comments(fresh: Contract):
    runner = click.testing.CliRunner(env={"COLUMNS": "120"})
    shown = runner.invoke(api.group(fresh, fresh.groups["parcels"]), ["send", "--help"], terminal_width=120).output
    assert "DEPOT_ID SLOT" in shown
    for line in (
        "Sends a parcel from a depot. It cannot be called back.",
        "--speed [by-bicycle] How fast it travels, if it travels.",
        "--weight FLOAT What it weighs.",
        "--ring / --no-ring Whether to ring.",
        "--extra JSON Anything else.",
        "--patience DURATION How long it may take.",
        "--departures TIME When to leave.",
        "--box-width INTEGER How wide.",
        "--box-inner JSON A box within.",
        "--box-lid-colour TEXT Its colour.",
        "--box-lid-hinge JSON What it hangs on.",
        "--field-url TEXT A field called like an option of the command line.",
    ):
        assert line in " ".join(shown.split())


class Parcels(grpc.GenericRpcHandler):
    """Serves the fresh contract, knowing it from its descriptors only, like the command line."""

    def __init__(self, fresh: Contract) -> None:
        self.send_request = fresh.find_message_class("fresh.v1.SendParcelRequest")
        self.send_response = fresh.find_message_class("fresh.v1.SendParcelResponse")
        self.track_response = fresh.find_message_class("fresh.v1.TrackParcelResponse")

    def service(self, handler_call_details):
        if handler_call_details.method == "/fresh.v1.ParcelService/SendParcel":
            return grpc.unary_unary_rpc_method_handler(self.send)
        return grpc.unary_stream_rpc_method_handler(self.track)

    async def send(self, request, context):
        return self.send_response(sent=self.send_request.FromString(request)).SerializeToString()

    async def track(self, request, context):
        for step in range(1, 4):
            await context.write(self.track_response(place=f"place {step}", step=step).SerializeToString())


@pytest.fixture
async def parcels(fresh: Contract) -> AsyncIterator[object]:
    """`await parcels("send", ...)` against a server of the fresh contract."""
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((Parcels(fresh),))
    url = f"http://127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    await server.start()
    group = api.group(fresh, fresh.groups["parcels"])

    async def call(*words: str) -> Result:
        environment = {"SWITCHBOARD_URL": url, "SWITCHBOARD_TOKEN": "t"}
        done = await asyncio.to_thread(click.testing.CliRunner(env=environment).invoke, group, words)
        if done.exception and not isinstance(done.exception, SystemExit):
            raise done.exception
        return Result(done.exit_code, done.stdout, done.stderr)

    yield call
    await server.stop(grace=None)


async def test_its_commands_call_it(parcels):
    words = ["d1", "77", "--speed", "by-bicycle", "--weight", "1.5", "--content", "aGk=", "--no-ring"]
    words += ["--labels", '{"a": "b"}', "--patience", "90s", "--departures", "2030-01-01T00:00:00Z", "--box-width", "3"]
    words += ["--box-lid-colour", "red", "--box-lid-hinge", '{"turns": 9}', "--field-url", "u", "--request-body", "r"]
    done = await parcels("send", *words, "-o", "json")
    assert done.code == 0, done.err
    table = (await parcels("send", *words)).out
    for line in ("labels a=b", "box, lid, colour red", "slot 77", "ring no", "patience 1m30s"):
        assert line in [" ".join(each.split()) for each in table.splitlines()]
    assert done.json == {
        "sent": {
            "depotId": "d1",
            "slot": "77",
            "speed": "PARCEL_SPEED_BY_BICYCLE",
            "weight": 1.5,
            "content": "aGk=",
            "ring": False,
            "labels": {"a": "b"},
            "patience": "90s",
            "departures": ["2030-01-01T00:00:00Z"],
            "box": {"width": 3, "lid": {"colour": "red", "hinge": {"turns": "9"}}},
            "url": "u",
            "requestBody": "r",
        }
    }


async def test_its_streams_are_one_json_object_per_line(parcels):
    done = await parcels("track", "--parcel-id", "p1", "--limit", "2")
    assert done.out.splitlines() == ['{"place": "place 1", "step": "1"}', '{"place": "place 2", "step": "2"}']
    assert len((await parcels("track")).out.splitlines()) == 3
