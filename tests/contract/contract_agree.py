"""A refusal that must be the same wherever it is heard."""

from collections.abc import Sequence

from contract_outcome import Refused, normal
from contract_transports import Transport
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import Message

# google.rpc.Code to HTTP, as googleapis' google/rpc/code.proto maps them.
HTTP = {3: 400, 5: 404, 6: 409, 7: 403, 8: 429, 9: 400, 10: 409, 11: 400, 12: 501, 13: 500, 14: 503, 16: 401}


def refused_alike(transports: Sequence[Transport], method: MethodDescriptor, request: Message, token: str) -> Refused:
    """The refusal, after every transport said the same: code, message, reason, metadata, fields; over REST the HTTP status too."""
    found = [refusal(each, method, request, token) for each in transports]
    for each in found:
        assert normal(each.status) == normal(found[0].status)
        assert each.info.domain == "switchboard"
        if each.http_status:
            assert each.http_status == HTTP[each.code]
    return found[0]


def refusal(transport: Transport, method: MethodDescriptor, request: Message, token: str) -> Refused:
    """What a call is refused with."""
    try:
        answer = transport.call(method, request, token=token)
    except Refused as refused:
        return refused
    raise AssertionError(f"{transport.name} answered {answer}")
