"""Finds the methods of the contract that say nothing about who may call them. Run by `make check`.

At run time such a method is refused to everybody, which whoever added it would learn from its first caller.
"""

from __future__ import annotations

import sys
from pathlib import Path

from google.protobuf.descriptor_pb2 import FileDescriptorSet

from server.rpc.rules import stated

ADD = "add `option (switchboard.v1.access) = {permission: PERMISSION_…};` or another rule of protos/switchboard/v1/options.proto"


def without_rule(descriptors: FileDescriptorSet) -> list[str]:
    """The methods without an access rule, as "switchboard.v1.MessageService/SendMessage"."""
    return [
        f"{file.package}.{service.name}/{method.name}"
        for file in descriptors.file
        for service in file.service
        for method in service.method
        if stated(method.options) is None
    ]


def main() -> None:
    """Reads the descriptor set at the path it is given; exit code 1 where a method lacks a rule."""
    found = without_rule(FileDescriptorSet.FromString(Path(sys.argv[1]).read_bytes()))
    for name in found:
        print(f"{name} has no access rule: {ADD}")
    sys.exit(1 if found else 0)


if __name__ == "__main__":
    main()
