"""`make check` is red when a method of the contract says nothing about who may call it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorSet, MethodDescriptorProto
from switchboard.v1 import options_pb2

Plant = Callable[[MethodDescriptorProto], None]


def gate(checkout: Path, descriptors: Path) -> subprocess.CompletedProcess[str]:
    """The very command of `make check`, on another descriptor set."""
    command = [sys.executable, "protos/access.py", str(descriptors)]
    return subprocess.run(command, cwd=checkout, capture_output=True, text=True, check=False)


def absent(method: MethodDescriptorProto) -> None:
    method.options.ClearExtension(options_pb2.access)


def empty(method: MethodDescriptorProto) -> None:
    method.options.Extensions[options_pb2.access].Clear()


def unspecified(method: MethodDescriptorProto) -> None:
    method.options.Extensions[options_pb2.access].permission = options_pb2.PERMISSION_UNSPECIFIED


def false(method: MethodDescriptorProto) -> None:
    method.options.Extensions[options_pb2.access].public = False


def test_every_method_of_the_contract_has_an_access_rule(checkout: Path) -> None:
    found = gate(checkout, checkout / "generated/descriptor.binpb")
    assert (found.returncode, found.stdout, found.stderr) == (0, "", "")


@pytest.mark.parametrize("plant", [absent, empty, unspecified, false])
def test_a_method_without_an_access_rule_is_red_and_named(checkout: Path, tmp_path: Path, plant: Plant) -> None:
    descriptors = FileDescriptorSet.FromString((checkout / "generated/descriptor.binpb").read_bytes())
    (file,) = [each for each in descriptors.file if each.name == "switchboard/v1/message_service.proto"]
    planted = file.service[0].method.add()
    planted.CopyFrom(file.service[0].method[0])
    planted.name = "ReadMinds"
    plant(planted)
    target = tmp_path / "planted.binpb"
    target.write_bytes(descriptors.SerializeToString())
    found = gate(checkout, target)
    assert found.returncode == 1, found.stderr
    (line,) = found.stdout.splitlines()
    assert line.startswith(
        "switchboard.v1.MessageService/ReadMinds has no access rule: add `option (switchboard.v1.access)"
    )


def test_make_check_runs_the_gate(checkout: Path) -> None:
    recipe = (checkout / "Makefile").read_text().partition("\ncheck:")[2].partition("\n\n")[0]
    assert "@$(BIN)/python protos/access.py generated/descriptor.binpb" in recipe
