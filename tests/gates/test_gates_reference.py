"""`make check` is red when a method of the contract has no example, or a page of docs/reference/ is old."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from buf.validate import validate_pb2
from google.protobuf.descriptor_pb2 import FileDescriptorSet, ServiceDescriptorProto
from switchboard.v1 import tag_service_pb2

from protos.validation import limits_of_field


def gate(checkout: Path, descriptors: Path) -> subprocess.CompletedProcess[str]:
    """The very command of `make check`, on another descriptor set."""
    command = [sys.executable, "-m", "protos.reference", "--check", str(descriptors)]
    return subprocess.run(command, cwd=checkout, capture_output=True, text=True, check=False)


@pytest.fixture
def descriptors(checkout: Path) -> FileDescriptorSet:
    return FileDescriptorSet.FromString((checkout / "generated/descriptor.binpb").read_bytes())


def tag_service(descriptors: FileDescriptorSet) -> ServiceDescriptorProto:
    (file,) = [each for each in descriptors.file if each.name == "switchboard/v1/tag_service.proto"]
    return file.service[0]


def test_every_method_has_its_examples_and_every_page_is_new(checkout: Path) -> None:
    found = gate(checkout, checkout / "generated/descriptor.binpb")
    assert (found.returncode, found.stdout, found.stderr) == (0, "", "")


def test_a_method_without_an_example_is_red_and_says_what_to_do(
    checkout: Path, tmp_path: Path, descriptors: FileDescriptorSet
) -> None:
    planted = tag_service(descriptors).method.add()
    planted.CopyFrom(tag_service(descriptors).method[0])
    planted.name = "GuessTag"
    (tmp_path / "planted.binpb").write_bytes(descriptors.SerializeToString())
    found = gate(checkout, tmp_path / "planted.binpb")
    assert found.returncode == 1, found.stderr
    first, *pages = found.stdout.splitlines()
    assert first.startswith(
        "TagService.GuessTag has no example: give it a row in its family's tests/contract/contract_cases_*.py"
    )
    assert [line.split()[0] for line in pages] == ["docs/reference/README.md", "docs/reference/tag-service.md"]


def test_a_limit_that_changes_makes_its_page_old(
    checkout: Path, tmp_path: Path, descriptors: FileDescriptorSet
) -> None:
    (file,) = [each for each in descriptors.file if each.name == "switchboard/v1/tag_service.proto"]
    (request,) = [each for each in file.message_type if each.name == "CreateTagRequest"]
    request.field[0].options.Extensions[validate_pb2.field].string.max_len = 49
    (tmp_path / "planted.binpb").write_bytes(descriptors.SerializeToString())
    found = gate(checkout, tmp_path / "planted.binpb")
    assert (found.returncode, found.stdout) == (
        1,
        "docs/reference/tag-service.md is not what the contract gives: run make generate\n",
    )


def test_a_reason_that_no_method_tells_is_named(checkout: Path, tmp_path: Path, descriptors: FileDescriptorSet) -> None:
    (file,) = [each for each in descriptors.file if each.name == "switchboard/v1/error_reason.proto"]
    file.enum_type[0].value.add(name="ERROR_REASON_BAD_MOOD", number=9999)
    (tmp_path / "planted.binpb").write_bytes(descriptors.SerializeToString())
    found = gate(checkout, tmp_path / "planted.binpb")
    assert found.returncode == 1, found.stderr
    assert found.stdout.splitlines()[0].startswith("BAD_MOOD is told by no method: name it in the comment")


def test_limits_are_told_in_words() -> None:
    fields = tag_service_pb2.CreateTagRequest.DESCRIPTOR.fields_by_name
    assert limits_of_field(fields["name"]) == ["1 to 50 characters", "no NUL"]
    assert limits_of_field(fields["request_id"]) == ["at most 128 characters", "no NUL"]


def test_make_check_asks_it(checkout: Path) -> None:
    recipe = (checkout / "Makefile").read_text().partition("\ncheck:")[2].partition("\n\n")[0]
    assert "@$(BIN)/python -m protos.reference --check generated/descriptor.binpb" in recipe
