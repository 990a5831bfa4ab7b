"""Credentials and permissions: every call is verified here, and a method without a rule is refused to everybody."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Protocol

from switchboard.v1 import options_pb2

from server.kit.errors import Refusal
from server.rpc.call import Call, Caller, CallerKind, Trail, Verified
from server.rpc.metrics import STREAMS
from server.rpc.rates import RateLimits
from server.rpc.request_id import CURRENT
from server.rpc.rules import Rule, rule_of
from server.rpc.wrap import Behavior, Handler, WrappingInterceptor, metadata_of, wrap

ANONYMOUS = Verified(caller=Caller(kind=CallerKind.ANONYMOUS))


class CredentialMissing(Refusal):
    """No authorization header."""

    status = "UNAUTHENTICATED"
    reason = "CREDENTIAL_MISSING"


class CredentialInvalid(Refusal):
    """Malformed, unknown, or not signed by us: one answer for all of them."""

    status = "UNAUTHENTICATED"
    reason = "CREDENTIAL_INVALID"

    def __init__(self) -> None:
        super().__init__("the credential is not valid")


class CredentialExpired(Refusal):
    """It was good once."""

    status = "UNAUTHENTICATED"
    reason = "CREDENTIAL_EXPIRED"

    def __init__(self) -> None:
        super().__init__("the credential has expired; get a new one")


class CredentialRevoked(Refusal):
    """The key was revoked, or the agent disabled."""

    status = "UNAUTHENTICATED"
    reason = "CREDENTIAL_REVOKED"

    def __init__(self) -> None:
        super().__init__("the credential was revoked")


class PermissionMissing(Refusal):
    """The caller is known and may not."""

    status = "PERMISSION_DENIED"
    reason = "PERMISSION_MISSING"


class Verifier(Protocol):
    """Turns a bearer credential into a caller. Raises the refusals above, TENANT_DISABLED or DATABASE_UNAVAILABLE."""

    async def verify(self, credential: str) -> Verified:
        """Verifies what stands after "Bearer "."""


def bearer(metadata: Mapping[str, str]) -> str:
    """Takes the credential out of the authorization header."""
    header = metadata.get("authorization", "")
    if not header:
        raise CredentialMissing('no credential; send "authorization: Bearer <API key or token>"')
    scheme, _, credential = header.partition(" ")
    if scheme.lower() != "bearer" or not credential.strip():
        raise CredentialInvalid()
    return credential.strip()


def check(rule: Rule | None, caller: Caller) -> None:
    """Refuses a caller that the rule does not admit."""
    if rule is None:
        raise PermissionMissing("the method has no access rule")
    if rule.kind == "platform":
        admitted, wanted = caller.kind is CallerKind.PLATFORM, "platform"
    elif rule.kind == "tenant":
        admitted, wanted = caller.kind in (CallerKind.AGENT, CallerKind.API_KEY), "tenant"
    else:
        tenant = caller.kind in (CallerKind.AGENT, CallerKind.API_KEY)
        admitted = tenant and rule.permission in caller.permissions
        wanted = "" if admitted else options_pb2.Permission.Name(rule.permission)  # type: ignore[arg-type]
    if not admitted:
        raise PermissionMissing(f"the caller lacks {wanted}", metadata={"permission": wanted})


def require(caller: Caller, permission: int) -> None:
    """Refuses a caller that lacks a permission which only some requests of a method need. PermissionMissing."""
    if permission not in caller.permissions:
        wanted = options_pb2.Permission.Name(permission)  # type: ignore[arg-type]
        raise PermissionMissing(f"the caller lacks {wanted}", metadata={"permission": wanted})


def check_held(granted: Iterable[int], caller: Caller) -> None:
    """Refuses a caller that would give away a permission which it does not hold itself."""
    for number in sorted(frozenset(granted) - caller.permissions):
        lacking = options_pb2.Permission.Name(number)  # type: ignore[arg-type]
        raise PermissionMissing(f"the caller lacks {lacking}", metadata={"permission": lacking})


class AuthInterceptor(WrappingInterceptor):
    """Puts a verified Call in the place of grpc's context."""

    def __init__(self, verifier: Verifier, limits: RateLimits, trail: Trail) -> None:
        super().__init__()
        self._verifier = verifier
        self._limits = limits
        self._trail = trail

    def wrapped(self, method: str, handler: Handler) -> Handler:
        """Verifies the credential, counts the call and checks the method's rule before it goes on."""
        counted = method not in STREAMS
        rule = rule_of(method)

        def around(inner: Behavior) -> Behavior:
            async def verify(request: Any, context: Any) -> Any:
                metadata = metadata_of(context)
                verified = await self._verified(rule, metadata)
                if counted and verified.rates and verified.tenant_id and verified.caller.id:
                    self._limits.take(verified.tenant_id, verified.caller.id, verified.rates)
                call = Call(verified=verified, context=context, method=method, id=CURRENT.get(), metadata=metadata)
                try:
                    if verified is not ANONYMOUS:
                        check(rule, verified.caller)
                    return await inner(request, call)
                except PermissionMissing:
                    await self._trail.refused(call, request)
                    raise

            return verify

        return wrap(handler, around)

    async def _verified(self, rule: Rule | None, metadata: Mapping[str, str]) -> Verified:
        if rule is not None and rule.kind == "public":
            return ANONYMOUS
        return await self._verifier.verify(bearer(metadata))
