"""Python client of Switchboard.

    import switchboard_sdk

    async with switchboard_sdk.connect("http://localhost:8080", token="sb_...") as client:
        page = await client.conversations.list_conversations(page_size=10)
        async for event in client.watch():
            print(event.seq, event.id)

Messages are the betterproto2 dataclasses of `switchboard_client.switchboard.v1`; every RPC of the contract is there
without code of its own.
"""

from switchboard_sdk.client import Client, Service, connect
from switchboard_sdk.contract import Method
from switchboard_sdk.errors import (
    AbortedError,
    AlreadyExistsError,
    CursorDivergedError,
    CursorExpiredError,
    DeadlineExceededError,
    FailedPreconditionError,
    FieldViolation,
    InvalidArgumentError,
    NotFoundError,
    OutOfRangeError,
    PermissionDeniedError,
    ResourceExhaustedError,
    SwitchboardError,
    UnauthenticatedError,
    UnavailableError,
    UnimplementedError,
)
from switchboard_sdk.follower import WatchState
from switchboard_sdk.watch import Watch

__all__ = [
    "AbortedError",
    "AlreadyExistsError",
    "Client",
    "CursorDivergedError",
    "CursorExpiredError",
    "DeadlineExceededError",
    "FailedPreconditionError",
    "FieldViolation",
    "InvalidArgumentError",
    "Method",
    "NotFoundError",
    "OutOfRangeError",
    "PermissionDeniedError",
    "ResourceExhaustedError",
    "Service",
    "SwitchboardError",
    "UnauthenticatedError",
    "UnavailableError",
    "UnimplementedError",
    "Watch",
    "WatchState",
    "connect",
]
