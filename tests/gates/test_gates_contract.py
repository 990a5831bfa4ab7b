from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from google.protobuf.descriptor_pb2 import DescriptorProto, FileDescriptorSet

Break = Callable[[FileDescriptorSet], None]


def breaking(checkout: Path, descriptors: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [
            str(Path(sys.executable).parent / "buf"),
            "breaking",
            str(descriptors),
            "--against",
            "protos/baseline.binpb",
            "--config",
            "buf.yaml",
        ],
        cwd=checkout,
        capture_output=True,
        text=True,
        check=False,
    )


def message(found: FileDescriptorSet, file: str, name: str) -> DescriptorProto:
    (proto,) = [item for item in found.file if item.name == f"switchboard/v1/{file}.proto"]
    return next(item for item in proto.message_type if item.name == name)


def renumber(found: FileDescriptorSet) -> None:
    message(found, "message", "Message").field[0].number = 99


def rename(found: FileDescriptorSet) -> None:
    message(found, "conversation", "Conversation").field[1].name = "chan_id"


def drop(found: FileDescriptorSet) -> None:
    del message(found, "note", "Note").field[4]


def retype(found: FileDescriptorSet) -> None:
    field = message(found, "message", "Message").field[6]
    field.type = field.TYPE_INT64


def remove_rpc(found: FileDescriptorSet) -> None:
    (proto,) = [item for item in found.file if item.name == "switchboard/v1/message_service.proto"]
    del proto.service[0].method[0]


def test_the_contract_is_that_of_the_baseline_or_compatible_with_it(checkout: Path) -> None:
    assert breaking(checkout, checkout / "generated/descriptor.binpb").returncode == 0


@pytest.mark.parametrize("change", [renumber, rename, drop, retype, remove_rpc])
def test_a_breaking_change_is_red(checkout: Path, tmp_path: Path, change: Break) -> None:
    found = FileDescriptorSet.FromString((checkout / "generated/descriptor.binpb").read_bytes())
    change(found)
    target = tmp_path / "changed.binpb"
    target.write_bytes(found.SerializeToString())
    result = breaking(checkout, target)
    assert result.returncode == 100, result.stderr
    assert "switchboard/v1/" in result.stdout


def test_a_commit_that_moves_the_baseline_says_why(checkout: Path) -> None:
    log = subprocess.run(
        ["git", "log", "--format=%H", "--", "protos/baseline.binpb"],
        cwd=checkout,
        capture_output=True,
        text=True,
        check=True,
    )
    *moved, _first = log.stdout.split()
    for commit in moved:
        text = subprocess.run(
            ["git", "show", "-s", "--format=%B", commit], cwd=checkout, capture_output=True, text=True, check=True
        )
        assert "Contract: breaking, because " in text.stdout, f"{commit} moves the baseline and does not say why"


def test_what_is_generated_says_nothing_of_the_machine_it_was_made_on(checkout: Path) -> None:
    places = (str(checkout).encode(), b"/root/", b"/home/")
    for path in (checkout / "generated").rglob("*"):
        if path.is_file() and "__pycache__" not in path.parts:
            content = path.read_bytes()
            assert not any(place in content for place in places), path
