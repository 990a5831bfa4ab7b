"""Definitions of attributes as the contract shows them."""

from __future__ import annotations

from typing import Any

from switchboard.v1 import attribute_definition_pb2

from server.kit import pb

TYPE = pb.Words(attribute_definition_pb2.AttributeType, "ATTRIBUTE_TYPE_")
TARGET = pb.Words(attribute_definition_pb2.AttributeTarget, "ATTRIBUTE_TARGET_")


def definition(record: Any) -> attribute_definition_pb2.AttributeDefinition:
    """A definition."""
    return attribute_definition_pb2.AttributeDefinition(
        id=str(record["id"]),
        target=TARGET.number(record["target"]),
        key=record["key"],
        type=TYPE.number(record["type"]),
        options=record["options"],
        label=record["label"],
        create_time=pb.timestamp(record["create_time"]),
        update_time=pb.timestamp(record["update_time"]),
    )
