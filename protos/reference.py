"""Writes docs/reference/ from the descriptors of the contract and the recorded examples. Run by `make reference`.

A page for each service, one for the types they share, and an index. Comments, limits, access rules, addresses and commands
are the contract's own; the examples are what `make examples` recorded from a running stack. With --check and the path of
a descriptor set nothing is written: it names the methods without an example, and the pages that are not what the contract gives.
"""

from __future__ import annotations

import json
import re
import shlex
import sys
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from google.api import annotations_pb2, http_pb2
from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor, MethodDescriptor, ServiceDescriptor
from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto, FileDescriptorSet
from google.protobuf.descriptor_pool import DescriptorPool
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from switchboard.v1 import options_pb2
from switchboard_cli.contract import comments_of, shipped

from protos.validation import limits_of_field, limits_of_message
from server.rpc.rules import stated

ROOT = Path(__file__).resolve().parent.parent
PAGES = ROOT / "docs/reference"
EXAMPLES = ROOT / "tests/contract/examples"
DESCRIPTORS = ROOT / "generated/descriptor.binpb"
PACKAGE = "switchboard.v1"
REASON = "ERROR_REASON_"
# Who calls in an example, as a variable of the shell; whoever is missing here sends no credential.
CREDENTIALS: Mapping[str, str] = {
    "key": "$SWITCHBOARD_TOKEN",
    "platform": "$PLATFORM_KEY",
    "owner": "$OWNER_TOKEN",
    "admin": "$ADMIN_TOKEN",
    "supervisor": "$SUPERVISOR_TOKEN",
    "agent": "$AGENT_TOKEN",
    "service": "$SERVICE_TOKEN",
    "read_only": "$READ_ONLY_TOKEN",
    "broken": "sb_broken",
}
VARIABLES: Mapping[str, str] = {
    "$SWITCHBOARD_URL": "Where Switchboard is; [the README](../../README.md#start) sets it, and the next one.",
    "$SWITCHBOARD_TOKEN": "The tenant's API key, which may do everything.",
    "$OWNER_TOKEN": "The token of an agent, as are those of the other roles: `switchboard token NAME --tenant TENANT` prints one.",
    "$PLATFORM_KEY": "The operator's key: `switchboard platform-key` prints it.",
    "$VERIFY_TOKEN": "What the Meta app was created with.",
}
# A field of a request by which a call may be refused in a way that is the same for all calls.
REASONS_OF_FIELDS: Mapping[str, str] = {
    "request_id": "REQUEST_ID_REUSED",
    "page_token": "PAGE_TOKEN_INVALID",
    "expected_version": "VERSION_MISMATCH",
}
# Of these every method would say the same.
REASONS_OF_ALL = (
    *(
        "INVALID_FIELDS",
        "MALFORMED_REQUEST",
        "REQUEST_TOO_LARGE",
        "PAYLOAD_TOO_LARGE",
        "METHOD_UNKNOWN",
        "ROUTE_NOT_FOUND",
    ),
    *("CREDENTIAL_MISSING", "CREDENTIAL_INVALID", "CREDENTIAL_EXPIRED", "CREDENTIAL_REVOKED"),
    *("PERMISSION_MISSING", "TENANT_DISABLED", "RATE_LIMITED"),
    *("DATABASE_UNAVAILABLE", "SCHEMA_OUTDATED", "SERVER_UNAVAILABLE", "DRAINING", "TIMEOUT", "INTERNAL"),
)
RAW_BODY = "google.api.HttpBody"
ADD = "has no example: give it a row in its family's tests/contract/contract_cases_*.py (ask and refuse), then run: make examples"
Example = Mapping[str, Any]


class Contract:
    """The descriptors of the contract, with the comments of their files."""

    def __init__(self, data: bytes) -> None:
        self._pool = DescriptorPool()
        self.comments: dict[str, str] = {}
        self._own: list[FileDescriptorProto] = []
        for file in FileDescriptorSet.FromString(data).file:
            self._pool.Add(file)
            if file.package == PACKAGE:
                self.comments.update(comments_of(file))
                self._own.append(file)

    def services(self) -> list[ServiceDescriptor]:
        """Every service, by name."""
        names = sorted(f"{PACKAGE}.{service.name}" for file in self._own for service in file.service)
        return [self._pool.FindServiceByName(name) for name in names]

    def messages(self) -> list[Descriptor]:
        """Every message that is not the request or the answer of a method, by name."""
        names = [f"{PACKAGE}.{message.name}" for file in self._own for message in file.message_type]
        ends = {
            end.full_name
            for service in self.services()
            for method in service.methods
            for end in (method.input_type, method.output_type)
        }
        return [self._pool.FindMessageTypeByName(name) for name in sorted(set(names) - ends)]

    def enums(self) -> list[EnumDescriptor]:
        """Every enum, by name."""
        names = sorted(f"{PACKAGE}.{enum.name}" for file in self._own for enum in file.enum_type)
        return [self._pool.FindEnumTypeByName(name) for name in names]

    def comment(self, name: str) -> str:
        """The comment of an element by its full name, on one line."""
        return " ".join(self.comments.get(name, "").split())


def short(name: str) -> str:
    """A full name without our package."""
    return name.removeprefix(f"{PACKAGE}.")


def page_of(service: ServiceDescriptor) -> str:
    """The file of a service's page: TagService is tag-service.md."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "-", service.name).lower() + ".md"


def access(method: MethodDescriptor) -> str:
    """Who may call a method, in words."""
    rule = stated(method.GetOptions())
    if rule is None:
        return "nobody"
    if rule.kind == "permission":
        name = options_pb2.Permission.Name(rule.permission)  # type: ignore[arg-type]
        return f"[`{name.removeprefix('PERMISSION_')}`](types.md#permission)"
    return {"public": "anybody", "platform": "the platform's keys", "tenant": "any caller of a tenant"}[rule.kind]


def addresses(method: MethodDescriptor) -> list[str]:
    """Verb and path of every HTTP binding, the main one first."""
    rule: http_pb2.HttpRule = method.GetOptions().Extensions[annotations_pb2.http]
    found = []
    for each in (rule, *rule.additional_bindings):
        verb = each.WhichOneof("pattern")
        if verb is not None:
            found.append(f"{verb.upper()} {getattr(each, verb)}")
    return found


@cache
def commands() -> Mapping[str, str]:
    """What is typed for a method, by its full name; those that only a provider calls have no command."""
    return {
        rpc.method.full_name: " ".join(["switchboard", group.name, rpc.name, *map(str.upper, rpc.arguments)])
        for group in shipped().groups.values()
        for rpc in group.rpcs.values()
    }


def type_of(field: FieldDescriptor) -> str:
    """The type of a field, linked to where it is described."""
    entry = field.message_type
    if entry is not None and entry.GetOptions().map_entry:
        key, value = entry.fields_by_name["key"], entry.fields_by_name["value"]
        return f"map of {type_of(key)} to {type_of(value)}"
    return f"list of {_single(field)}" if field.is_repeated else _single(field)


def _single(field: FieldDescriptor) -> str:
    named = field.message_type or field.enum_type
    if named is None:
        return FieldDescriptorProto.Type.Name(field.type).removeprefix("TYPE_").lower()  # type: ignore[arg-type]
    name = short(named.full_name)
    return name if name.startswith("google.") else f"[{name}](types.md#{name.lower().replace('.', '')})"


def presence(field: FieldDescriptor) -> list[str]:
    """Whether a field may be absent, and what it excludes."""
    oneof = field.containing_oneof
    if oneof is None:
        return []
    # A field that is only optional has a oneof of its own, which the compiler made up.
    if oneof.name == f"_{field.name}":
        return ["optional"]
    return [f"one of `{oneof.name}`"] if len(oneof.fields) > 1 else []


def cell(text: str) -> str:
    """Text within a row of a table."""
    return text.replace("|", "\\|")


class Pages:
    """What is written, from one contract and its examples."""

    def __init__(self, contract: Contract, examples: Mapping[str, Example]) -> None:
        self._contract = contract
        self._examples = examples
        self._reasons = {
            value.name.removeprefix(REASON): contract.comment(f"{PACKAGE}.{value.name}")
            for enum in contract.enums()
            if enum.name == "ErrorReason"
            for value in enum.values
        }
        loader = FileSystemLoader(ROOT / "protos/templates")
        # What is made is Markdown, so that there is no HTML to escape.
        self._templates = Environment(  # noqa: S701
            loader=loader, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
        )

    def all(self) -> dict[str, str]:
        """Every page by the name of its file."""
        services = [self._service(service) for service in self._contract.services()]
        types = {
            "messages": [self._message(message) for message in self._contract.messages()],
            "enums": [self._enum(enum) for enum in self._contract.enums()],
        }
        pages = {service["page"]: self._render("service", service=service) for service in services}
        return pages | {
            "README.md": self._render(
                "index", services=services, callers=VARIABLES, reasons=self._told(REASONS_OF_ALL)
            ),
            "types.md": self._render("types", **types),
        }

    def _render(self, template: str, **values: Any) -> str:
        return self._templates.get_template(f"{template}.md.jinja").render(**values)

    def _service(self, service: ServiceDescriptor) -> dict[str, Any]:
        return {
            "name": service.name,
            "page": page_of(service),
            "comment": self._contract.comment(service.full_name),
            "methods": [self._method(method) for method in service.methods],
        }

    def _method(self, method: MethodDescriptor) -> dict[str, Any]:
        name = f"{method.containing_service.name}.{method.name}"
        example = self._examples.get(name, {})
        return {
            "name": method.name,
            "comment": self._contract.comment(method.full_name),
            "access": access(method),
            "addresses": addresses(method),
            "grpc": f"{method.containing_service.full_name}/{method.name}",
            "command": commands().get(method.full_name),
            "streams": method.server_streaming,
            "request": self._message(method.input_type),
            "answer": self._message(method.output_type),
            "reasons": self._reasons_of(method, reason_of(example)),
            "reason": reason_of(example),
            "raw": method.output_type.full_name == RAW_BODY,
            "use": shown(example["use"]) if "use" in example else None,
            "refusal": shown(example["refusal"]) if "refusal" in example else None,
        }

    def _message(self, message: Descriptor) -> dict[str, Any]:
        return {
            "name": short(message.full_name),
            "comment": self._contract.comment(message.full_name),
            "limits": limits_of_message(message),
            "fields": [self._field(field) for field in message.fields],
        }

    def _field(self, field: FieldDescriptor) -> dict[str, str]:
        return {
            "name": field.name,
            "type": type_of(field),
            "limits": cell(", ".join([*presence(field), *limits_of_field(field)])),
            "comment": cell(self._contract.comment(field.full_name)),
        }

    def _enum(self, enum: EnumDescriptor) -> dict[str, Any]:
        values = [
            {"name": value.name, "comment": cell(self._contract.comment(f"{PACKAGE}.{value.name}"))}
            for value in enum.values
        ]
        return {"name": enum.name, "comment": self._contract.comment(enum.full_name), "values": values}

    def _reasons_of(self, method: MethodDescriptor, refused: str) -> list[dict[str, str]]:
        """The reasons that a method's and its request's comments speak of, that its fields bring along, and that was recorded."""
        fields = method.input_type.fields_by_name
        told = re.findall(r"\b[A-Z][A-Z_]+\b", " ".join(self._comments_of(method)))
        brought = [reason for name, reason in REASONS_OF_FIELDS.items() if name in fields]
        found = ["RESOURCE_NOT_FOUND"] if any(f"{{{name}}}" in addresses(method)[0] for name in fields) else []
        named = dict.fromkeys(word for word in [*told, *found, refused, *brought] if word in self._reasons)
        return self._told(word for word in named if word not in REASONS_OF_ALL)

    def untold(self) -> list[str]:
        """The reasons that are neither of all methods nor of any, apart from the one that is never sent."""
        methods = [method for service in self._contract.services() for method in service.methods]
        told = {each["name"] for method in methods for each in self._method(method)["reasons"]}
        return [reason for reason in self._reasons if reason not in {*told, *REASONS_OF_ALL, "UNSPECIFIED"}]

    def _told(self, reasons: Iterable[str]) -> list[dict[str, str]]:
        return [{"name": reason, "comment": cell(self._reasons[reason])} for reason in reasons]

    def _comments_of(self, method: MethodDescriptor) -> Iterator[str]:
        request = method.input_type
        for name in (method.full_name, request.full_name, *(field.full_name for field in request.fields)):
            yield self._contract.comment(name)


def reason_of(example: Example) -> str:
    """The reason that the recorded refusal has; "" without one."""
    details = example.get("refusal", {}).get("answer", {}).get("details", [])
    return next((str(detail["reason"]) for detail in details if detail.get("domain") == "switchboard"), "")


def shown(exchange: Example) -> dict[str, Any]:
    """A recorded call as a page shows it."""
    answer = exchange["answer"]
    lines = answer if exchange["streams"] and isinstance(answer, list) else [answer]
    indent = None if exchange["streams"] else 2
    texts = [each if isinstance(each, str) else json.dumps(each, ensure_ascii=False, indent=indent) for each in lines]
    return {"curl": curl(exchange), "status": exchange["status"], "answer": "\n".join(texts)}


def curl(exchange: Example) -> str:
    """The call as it is typed into a shell; credentials come from its variables."""
    flags = "-sN" if exchange["streams"] else "-s"
    verb = "" if exchange["verb"] == ("GET" if exchange["body"] is None else "POST") else f"-X {exchange['verb']} "
    parts = [f'curl {flags} {verb}"$SWITCHBOARD_URL{exchange["path"]}"']
    if exchange["caller"] in CREDENTIALS:
        parts.append(f'-H "authorization: Bearer {CREDENTIALS[exchange["caller"]]}"')
    parts += [f"-H {shlex.quote(f'{name}: {value}')}" for name, value in exchange["headers"].items()]
    if exchange["body"] is not None:
        body = exchange["body"]
        text = body if isinstance(body, str) else json.dumps(body, ensure_ascii=False)
        parts.append(f"-d {shlex.quote(text)}")
    return " \\\n  ".join(parts)


def recorded() -> dict[str, Example]:
    """The examples of every RPC that has some, as "TagService.ListTags"."""
    return {
        f"{path.stem}.{name}": example
        for path in sorted(EXAMPLES.glob("*.json"))
        for name, example in json.loads(path.read_text()).items()
    }


def pages(descriptors: Path = DESCRIPTORS) -> dict[str, str]:
    """What docs/reference/ should hold, by the name of the file."""
    return Pages(Contract(descriptors.read_bytes()), recorded()).all()


def without_example(descriptors: Path = DESCRIPTORS) -> list[str]:
    """The methods of the contract that lack an example of use or one of refusal."""
    examples = recorded()
    contract = Contract(descriptors.read_bytes())
    names = [f"{service.name}.{method.name}" for service in contract.services() for method in service.methods]
    return [name for name in names if set(examples.get(name, {})) != {"use", "refusal"}]


def untold(descriptors: Path = DESCRIPTORS) -> list[str]:
    """The reasons that no method refuses for, as far as the pages tell."""
    return Pages(Contract(descriptors.read_bytes()), recorded()).untold()


def differing(descriptors: Path = DESCRIPTORS) -> list[str]:
    """The files of docs/reference/ that are not what the contract gives."""
    there = {path.name: path.read_text() for path in PAGES.glob("*.md")}
    made = pages(descriptors)
    return sorted(name for name in {*there, *made} if there.get(name) != made.get(name))


def check(descriptors: Path) -> None:
    """Exit code 1 where an example is missing or a page is not what the contract gives."""
    found = [f"{name} {ADD}" for name in without_example(descriptors)]
    found += [
        f"{reason} is told by no method: name it in the comment of each that refuses for it"
        for reason in untold(descriptors)
    ]
    told = "is not what the contract gives: run make generate"
    found += [f"docs/reference/{name} {told}" for name in differing(descriptors)]
    for line in found:
        print(line)
    sys.exit(1 if found else 0)


def write() -> None:
    """Writes every page, and deletes those of services that are gone."""
    PAGES.mkdir(exist_ok=True)
    made = pages()
    for name, text in made.items():
        (PAGES / name).write_text(text)
    for path in PAGES.glob("*.md"):
        if path.name not in made:
            path.unlink()


if __name__ == "__main__":
    check(Path(sys.argv[2])) if sys.argv[1:2] == ["--check"] else write()
