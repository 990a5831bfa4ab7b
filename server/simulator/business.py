"""The business side of the Graph API: what a token may do, how a number does, and who is told of an account.

Sources: Meta's pages "Debug token", "Phone numbers", "Messaging health status", "Subscribed apps", "Registration" and
"App subscriptions".
"""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress

from aiohttp import web

from server.simulator import errors, spoiled
from server.simulator.accounts import Account
from server.simulator.errors import ErrorKind, Json
from server.simulator.faults import Failure, Fault, Target
from server.simulator.graph import refused, unknown_path
from server.simulator.simulator import Simulator

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

MANAGES, MESSAGES = "whatsapp_business_management", "whatsapp_business_messaging"
REGISTERED = "CONNECTED"
PIN = re.compile(r"[0-9]{6}", re.ASCII)
ENTITIES = ("PHONE_NUMBER", "WABA", "BUSINESS", "APP")


class Refusal(Exception):
    """An error to answer."""

    def __init__(self, kind: ErrorKind, detail: str) -> None:
        super().__init__(detail)
        self.kind, self.detail = kind, detail


class BusinessApi:
    """The handlers. other: answers for objects that are no numbers."""

    def __init__(self, simulator: Simulator, *, other: Handler) -> None:
        self._simulator = simulator
        self._other = other

    def routes(self) -> list[web.RouteDef]:
        """To be added before those of the Graph API's other side, which take every path."""
        return [
            web.get("/{version}/debug_token", self._answering(self.debug_token)),
            web.get("/{version}/{waba_id:[0-9]+}/phone_numbers", self._answering(self.phone_numbers)),
            web.get("/{version}/{waba_id:[0-9]+}/subscribed_apps", self._answering(self.subscribed_apps)),
            web.post("/{version}/{waba_id:[0-9]+}/subscribed_apps", self._answering(self.subscribe)),
            web.delete("/{version}/{waba_id:[0-9]+}/subscribed_apps", self._answering(self.unsubscribe)),
            web.post("/{version}/{number_id:[0-9]+}/register", self._answering(self.register)),
            web.post("/{version}/{number_id:[0-9]+}/deregister", self._answering(self.deregister)),
            web.get("/{version}/{app_id}/subscriptions", self._answering(self.subscriptions)),
            web.get("/{version}/{media_id:[0-9]+}", self.node),
        ]

    def _answering(self, ask: Callable[[web.Request], Awaitable[Json]]) -> Handler:
        """Faults hit these calls only where their path is named: those of sends would be used up by what runs beside them."""

        async def handler(request: web.Request) -> web.StreamResponse:
            version = request.match_info["version"]
            if version not in self._simulator.versions:
                return await unknown_path(request)
            hit = self._simulator.faults.first(Target(None, request.path), _of_a_path)
            if hit is not None and isinstance(hit.fault, Failure):
                return await spoiled.failure(request, hit.fault, version=version, waba_id=None, answer=None)
            try:
                return web.json_response(await ask(request), headers={"facebook-api-version": version})
            except Refusal as refusal:
                return refused(refusal.kind, refusal.detail, version=version)

        return handler

    async def node(self, request: web.Request) -> web.StreamResponse:
        """A number, with the fields that are asked for; else what others have under that id."""
        if self._simulator.accounts.get(request.match_info["media_id"]) is None:
            return await self._other(request)
        return await self._answering(self.number)(request)

    async def number(self, request: web.Request) -> Json:
        """A number's fields."""
        account = self._number(request, request.match_info["media_id"])
        known = self._fields(account)
        asked = [name for name in request.query.get("fields", "display_phone_number,verified_name").split(",") if name]
        if unknown := next((name for name in asked if name not in known), None):
            raise Refusal(errors.PARAMETER, f"Tried accessing nonexisting field ({unknown})")
        return {name: known[name] for name in asked} | {"id": account.config.phone_number_id}

    async def debug_token(self, request: web.Request) -> Json:
        """What a token may do, asked with itself or with another that is good."""
        self._alive(_bearer(request))
        wanted = request.query.get("input_token", "")
        owner, end = self._owner(wanted), self._simulator.accounts.tokens().get(wanted)
        if owner is None or end is None:
            problem = {"code": 190, "message": "Invalid OAuth access token - Cannot parse access token"}
            return {"data": {"is_valid": False, "error": problem, "scopes": []}}
        config, valid = owner.config, end > self._simulator.clock.wall()
        scopes = list(config.scopes)
        return {
            "data": {
                "app_id": config.app,
                "type": "SYSTEM_USER",
                "application": "Simulator",
                "expires_at": int(config.token_until or 0),
                "data_access_expires_at": 0,
                "is_valid": valid,
                "scopes": scopes,
                "granular_scopes": [{"scope": scope, "target_ids": [config.waba_id]} for scope in scopes],
                "user_id": "100000000000001",
            }
        }

    async def phone_numbers(self, request: web.Request) -> Json:
        """The numbers of an account; a page has them all."""
        owners = self._account(request)
        shown = [
            {name: self._fields(each)[name] for name in ("display_phone_number", "verified_name")} for each in owners
        ]
        listed = [fields | {"id": each.config.phone_number_id} for fields, each in zip(shown, owners, strict=True)]
        return {"data": listed, "paging": {"cursors": {"before": "QVFI", "after": "QVFI"}}}

    async def subscribed_apps(self, request: web.Request) -> Json:
        """The apps that are told of an account: there is one for each account."""
        self._account(request)
        owner = self._owner(_bearer(request))
        if owner is None or not self._simulator.accounts.subscribed(request.match_info["waba_id"]):
            return {"data": []}
        app = {"id": owner.config.app, "name": "Simulator", "link": "https://www.facebook.com/games/?app_id=0"}
        return {"data": [{"whatsapp_business_api_data": app}]}

    async def subscribe(self, request: web.Request) -> Json:
        """From now on the account's webhooks are sent."""
        self._account(request)
        self._simulator.accounts.subscribe(request.match_info["waba_id"], on=True)
        return {"success": True}

    async def unsubscribe(self, request: web.Request) -> Json:
        """From now on they are not."""
        self._account(request)
        self._simulator.accounts.subscribe(request.match_info["waba_id"], on=False)
        return {"success": True}

    async def register(self, request: web.Request) -> Json:
        """A number begins to send and to receive; its PIN is the one it was given first."""
        account = self._number(request, request.match_info["number_id"])
        body = await _body(request)
        pin = body.get("pin")
        if body.get("messaging_product") != "whatsapp":
            raise Refusal(errors.PARAMETER, "The parameter messaging_product is required.")
        if not isinstance(pin, str) or not PIN.fullmatch(pin):
            raise Refusal(errors.PARAMETER, "Param pin must be a string of 6 digits.")
        if not account.may_register(self._simulator.clock.wall()):
            raise Refusal(errors.REGISTERED_TOO_OFTEN, "Registration is possible 10 times in 72 hours.")
        if account.config.pin is not None and pin != account.config.pin:
            raise Refusal(errors.PIN_MISMATCH, "Please check your PIN and try again.")
        account.change(status=REGISTERED, pin=pin)
        return {"success": True}

    async def deregister(self, request: web.Request) -> Json:
        """A number ends to send and to receive; its PIN stays."""
        account = self._number(request, request.match_info["number_id"])
        if account.config.status != REGISTERED:
            raise Refusal(errors.NOT_REGISTERED, "The phone number is not registered.")
        account.change(status="DISCONNECTED")
        return {"success": True}

    async def subscriptions(self, request: web.Request) -> Json:
        """What an app is told of, for the token that is made of its id and its secret."""
        app_id = request.match_info["app_id"]
        given = _bearer(request)
        # An app is what the newest of its numbers says of it.
        numbers = [each for each in self._simulator.accounts if each.config.app == app_id]
        account = numbers[-1] if numbers else None
        if account is None or given != f"{app_id}|{account.config.app_secret.get_secret_value()}":
            raise Refusal(errors.BAD_TOKEN, "Invalid OAuth access token signature.")
        named = account.config.fields
        told = {
            "object": "whatsapp_business_account",
            "callback_url": account.config.webhook_url,
            "active": True,
            "fields": [{"name": name, "version": "v26.0"} for name in named],
        }
        return {"data": [told] if named else []}

    def _number(self, request: web.Request, phone_number_id: str) -> Account:
        account = self._simulator.accounts.get(phone_number_id)
        self._allowed(request, MANAGES, MESSAGES)
        if account is None or not self._owns(_bearer(request), account.config.waba_id):
            raise Refusal(errors.NO_SUCH_OBJECT, _missing(phone_number_id))
        return account

    def _account(self, request: web.Request) -> list[Account]:
        """The numbers of an account whose owner asks."""
        waba_id = request.match_info["waba_id"]
        self._allowed(request, MANAGES)
        if not self._owns(_bearer(request), waba_id):
            raise Refusal(errors.NO_SUCH_OBJECT, _missing(waba_id))
        return [each for each in self._simulator.accounts if each.config.waba_id == waba_id]

    def _allowed(self, request: web.Request, *scopes: str) -> None:
        """Whether the token is good, and may do one of these."""
        token = _bearer(request)
        self._alive(token)
        owner = self._owner(token)
        if owner is not None and not set(scopes) & set(owner.config.scopes):
            raise Refusal(errors.NO_PERMISSION, f"Requires {scopes[0]} permission to manage the object")

    def _alive(self, token: str) -> None:
        end = self._simulator.accounts.tokens().get(token)
        if end is None:
            raise Refusal(errors.BAD_TOKEN, "Invalid OAuth access token - Cannot parse access token")
        if end <= self._simulator.clock.wall():
            raise Refusal(errors.TOKEN_EXPIRED, "Error validating access token: Session has expired.")

    def _owner(self, token: str) -> Account | None:
        """The last number that this token was given for."""
        owners = [each for each in self._simulator.accounts if each.config.access_token.get_secret_value() == token]
        return owners[-1] if owners else None

    def _owns(self, token: str, waba_id: str) -> bool:
        accounts = self._simulator.accounts
        return any(
            each.config.waba_id == waba_id and each.config.access_token.get_secret_value() == token for each in accounts
        )

    def _fields(self, account: Account) -> Mapping[str, object]:
        config = account.config
        fast = (config.limits.throughput_per_second or 1000) >= 1000
        registered = config.status == REGISTERED
        return {
            "display_phone_number": f"+{config.display_phone_number}",
            "verified_name": config.verified_name,
            "quality_rating": config.quality,
            "name_status": config.name_status,
            "status": config.status,
            "code_verification_status": "VERIFIED",
            "platform_type": "CLOUD_API" if registered else "NOT_APPLICABLE",
            "throughput": {"level": "HIGH" if fast else "STANDARD"},
            "whatsapp_business_manager_messaging_limit": config.messaging_limit,
            "is_on_biz_app": config.on_phone,
            "health_status": _health(account),
        }


def _health(account: Account) -> Json:
    config = account.config
    ids = (config.phone_number_id, config.waba_id, "100000000000002", config.app)
    entities: list[Json] = [
        {"entity_type": kind, "id": of, "can_send_message": "AVAILABLE"} for kind, of in zip(ENTITIES, ids, strict=True)
    ]
    entities[1] |= {"can_send_message": config.can_send}
    if config.can_send == "BLOCKED":
        solution = "Add a payment method to the WhatsApp Business Account."
        told = {"error_code": 141006, "error_description": "There is an error with your payment method."}
        entities[1] |= {"errors": [told | {"possible_solution": solution}]}
    if config.can_send == "LIMITED":
        entities[1] |= {"additional_info": ["Your business is not verified."]}
    return {"can_send_message": config.can_send, "entities": entities}


def _of_a_path(fault: Fault) -> bool:
    return isinstance(fault, Failure) and not fault.accepts and fault.via == "answer" and fault.filter.path is not None


def _bearer(request: web.Request) -> str:
    return request.headers.get("Authorization", "").partition(" ")[2].strip()


async def _body(request: web.Request) -> Mapping[str, object]:
    with suppress(ValueError, RecursionError):
        body: object = json.loads(await request.read())
        if isinstance(body, dict):
            return body
    return {}


def _missing(object_id: str) -> str:
    return (
        f"Unsupported get request. Object with ID '{object_id}' does not exist, cannot be loaded due to missing "
        "permissions, or does not support this operation."
    )
