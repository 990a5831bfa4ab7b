"""Asks Meta whether a number can be used with a token, and how it does.

Sources: Meta's pages "Debug token", "Phone numbers", "Messaging health status", "Subscribed apps" and "App subscriptions",
as of November 2026.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from server.providers.checks import Check, CheckedAccount, CheckName, CheckReport
from server.providers.contract import Accepted, Ambiguous, ErrorClass, Json, NotSent, Refused
from server.providers.meta.errors import number as integer
from server.providers.meta.graph import GraphClient
from server.providers.meta.remedies import remedy
from server.providers.meta.text import clean_text
from server.providers.whatsapp import send
from server.providers.whatsapp.account import UPGRADED_PER_SECOND

SCOPES = ("whatsapp_business_management", "whatsapp_business_messaging")
NUMBER_FIELDS = (
    "display_phone_number,verified_name,quality_rating,name_status,status,platform_type,throughput,health_status"
)
# Versions of the Graph API that do not know a field refuse the whole call: what a number always had, and a call for what is newer.
FIRST_FIELDS = "display_phone_number,verified_name,quality_rating"
LIMIT_FIELD, ON_PHONE_FIELD = "whatsapp_business_manager_messaging_limit", "is_on_biz_app"
# A number that is used in the WhatsApp Business app as well.
ON_PHONE_PER_SECOND = 20
PAGES_MOST = 50
# Without the first nothing comes; the others tell of what is otherwise learned from refusals.
FIELD_NEEDED = "messages"
FIELDS_WANTED = ("account_update", "message_template_status_update", "phone_number_quality_update")

# What of a number is not there, or is no Cloud API number any more.
_UNREGISTERED = frozenset({"PENDING", "UNVERIFIED", "DISCONNECTED", "DELETED", "MIGRATED"})
_PLATFORMS_ELSEWHERE = frozenset({"ON_PREMISE", "NOT_APPLICABLE"})
_QUALITIES = {"GREEN": "green", "YELLOW": "yellow", "RED": "red"}
_TEXT_MOST = 1024
_ORDER: tuple[CheckName, ...] = (
    "token", "permissions", "number", "account", "registration", "messaging", "subscription", "app",
)  # fmt: skip
_NOT_ASKED = "not asked, since another check failed"


class _Stop(Exception):
    """Nothing more can be asked: Meta does not answer, or asks to wait."""

    def __init__(self, outcome: NotSent | Ambiguous | Refused) -> None:
        super().__init__()
        self.outcome = outcome


async def check(graph: GraphClient, account: CheckedAccount) -> CheckReport | NotSent | Ambiguous | Refused:
    """Every check; what Meta answered if it could not be asked to the end, of which nothing is to be concluded."""
    checking = _Checking(graph, account)
    try:
        await checking.run()
    except _Stop as stop:
        return stop.outcome
    return checking.report()


async def leave(graph: GraphClient, account: CheckedAccount) -> Accepted | Refused | NotSent | Ambiguous:
    """The app is told nothing more of the account."""
    waba_id = str(account.settings.get("waba_id", ""))
    answer = await graph.delete(
        version=str(account.settings.get("graph_version", "")),
        object_id=waba_id,
        edge="subscribed_apps",
        token=account.token,
        query={},
    )
    told = send.read(answer, _object)
    return Accepted(provider_id=waba_id) if isinstance(told, Mapping) else told


class _Checking:
    """One run. A check that another one needs ends it."""

    def __init__(self, graph: GraphClient, account: CheckedAccount) -> None:
        self._graph = graph
        self._account = account
        self._waba_id = str(account.settings.get("waba_id", ""))
        self._found: dict[CheckName, Check] = {}
        self._values: dict[str, Any] = {}
        self._details: dict[str, str] = {}
        self._app_id = ""

    async def run(self) -> None:
        if await self._token() and await self._number():
            await self._limit()
            if await self._belongs():
                await self._subscription()
            await self._app()

    def report(self) -> CheckReport:
        skipped = {name: Check(name=name, result="skipped", message=_NOT_ASKED) for name in _ORDER}
        checks = tuple((skipped | self._found)[name] for name in _ORDER)
        return CheckReport(checks=checks, values=self._values, details=self._details, app_id=self._app_id or None)

    async def _token(self) -> bool:
        told = await self._get("debug_token", None, query={"input_token": self._account.token})
        if isinstance(told, Refused):
            if told.ends_token:
                return self._bad_token(told)
            # Some tokens may not look at themselves: what they may do, the number tells.
            self._passed("token", "Meta does not tell this token about itself")
            self._found["permissions"] = Check(name="permissions", result="skipped", message="Meta does not tell them")
            return True
        data = _mapping(told.get("data"))
        self._app_id = str(data.get("app_id") or "")[:64]
        if data.get("is_valid") is not True:
            error = _mapping(data.get("error"))
            said = _words(error.get("message")) or "the token is not valid"
            code = str(integer(error.get("code")) or 190)
            return self._failed("token", said, code=code, what_to_do=remedy("190"), token={"valid": False})
        return self._good_token(data)

    def _good_token(self, data: Mapping[str, Json]) -> bool:
        scopes = {scope for scope in _listed(data.get("scopes")) if isinstance(scope, str)}
        missing = [scope for scope in SCOPES if scope not in scopes]
        end = integer(data.get("expires_at")) or 0
        token: dict[str, Any] = {"valid": True, "missing_permissions": missing}
        if 0 < end < 4_102_444_800:
            token["expire_time"] = datetime.fromtimestamp(end, UTC).isoformat()
        self._values["token"] = token
        until = token.get("expire_time")
        self._passed("token", f"valid until {until}" if until else "valid, and does not expire")
        if missing:
            return self._failed("permissions", f"missing: {', '.join(missing)}", what_to_do=remedy("10"))
        self._passed("permissions", ", ".join(SCOPES))
        return True

    def _bad_token(self, refused: Refused) -> bool:
        self._refused("token", refused)
        self._values["token"] = {"valid": False}
        return False

    async def _number(self) -> bool:
        told = await self._get(self._account.account_id, None, query={"fields": NUMBER_FIELDS})
        if isinstance(told, Refused) and told.error_class is ErrorClass.BUG:
            told = await self._get(self._account.account_id, None, query={"fields": FIRST_FIELDS})
        if isinstance(told, Refused):
            return self._bad_token(told) if told.ends_token else self._refused("number", told)
        shown = _words(told.get("display_phone_number"))
        name = _words(told.get("verified_name"))
        self._passed("number", ", ".join(part for part in (shown, name) if part))
        if shown:
            self._details["display_phone_number"] = shown[:32]
        self._values |= _values(told)
        self._registration(told)
        self._messaging(_mapping(told.get("health_status")))
        return True

    def _registration(self, told: Mapping[str, Json]) -> None:
        status, platform = _word(told.get("status")), _word(told.get("platform_type"))
        if status in _UNREGISTERED or platform in _PLATFORMS_ELSEWHERE:
            found = f"the number is {status or 'UNKNOWN'}, of the platform {platform or 'UNKNOWN'}"
            self._failed("registration", found, code="133010", what_to_do=remedy("133010"))
        else:
            self._passed("registration", status or "not told")

    def _messaging(self, health: Mapping[str, Json]) -> None:
        overall = _word(health.get("can_send_message"))
        entities = [entity for entity in map(_mapping, _listed(health.get("entities"))) if entity]
        if overall != "BLOCKED":
            more = [_words(line) for entity in entities for line in _listed(entity.get("additional_info"))]
            self._passed("messaging", "; ".join([overall or "not told", *more])[:_TEXT_MOST])
            return
        problems = [_mapping(error) for entity in entities for error in _listed(entity.get("errors"))]
        said = "; ".join(filter(None, (_words(error.get("error_description")) for error in problems)))
        ways = "; ".join(filter(None, (_words(error.get("possible_solution")) for error in problems)))
        codes = [str(code) for error in problems if (code := integer(error.get("error_code"))) is not None]
        self._failed("messaging", said or "Meta lets it send nothing", code=codes[0] if codes else "", what_to_do=ways)

    async def _limit(self) -> None:
        query = {"fields": f"{LIMIT_FIELD},{ON_PHONE_FIELD}"}
        told = await self._get(self._account.account_id, None, query=query)
        if isinstance(told, Refused):
            return
        if limit := _word(told.get(LIMIT_FIELD)):
            self._values["messaging_limit"] = limit
        if told.get(ON_PHONE_FIELD) is True:
            self._values["throughput_per_second"] = ON_PHONE_PER_SECOND

    async def _belongs(self) -> bool:
        after: str | None = None
        for _ in range(PAGES_MOST):
            query = {"fields": "id", "limit": "100"} | ({} if after is None else {"after": after})
            told = await self._get(self._waba_id, "phone_numbers", query=query)
            if isinstance(told, Refused):
                return self._refused("account", told)
            if self._account.account_id in [_mapping(item).get("id") for item in _listed(told.get("data"))]:
                self._passed("account", "the number is one of the account's")
                return True
            paging = _mapping(told.get("paging"))
            given = _mapping(paging.get("cursors")).get("after")
            if "next" not in paging or not isinstance(given, str):
                break
            after = given
        what = "Take waba_id and phone_number_id from the same page: WhatsApp Manager > Phone numbers, or App dashboard > API setup."
        return self._failed("account", "the account has no such number", what_to_do=what)

    async def _subscription(self) -> None:
        if self._account.subscribe:
            version, token = self._version, self._account.token
            answer = await self._graph.post(
                version=version, object_id=self._waba_id, edge="subscribed_apps", token=token, body={}
            )
            told = self._told(send.read(answer, _object))
            if isinstance(told, Refused):
                self._refused("subscription", told)
                return
        told = await self._get(self._waba_id, "subscribed_apps", query={})
        if isinstance(told, Refused):
            self._refused("subscription", told)
            return
        rows = [_mapping(_mapping(item).get("whatsapp_business_api_data")) for item in _listed(told.get("data"))]
        if any(row.get("id") == self._app_id or not self._app_id for row in rows):
            self._passed("subscription", "the app is told of the account")
            return
        what = "switchboard channels check CHANNEL_ID --subscribe"
        self._failed("subscription", "the app is not subscribed to the account: nothing would come", what_to_do=what)

    async def _app(self) -> None:
        if not self._app_id:
            self._found["app"] = Check(name="app", result="skipped", message="Meta does not tell which app it is")
            return
        secret = await self._account.app_secret(self._app_id)
        if secret is None:
            what = "Add the app: switchboard channels create-meta-app, with its secret from App settings > Basic."
            found = f"the app {self._app_id} is none of this installation: its webhooks are refused"
            self._failed("app", found, what_to_do=what)
            return
        told = await self._get(self._app_id, "subscriptions", query={}, token=f"{self._app_id}|{secret}")
        if isinstance(told, Refused):
            self._refused("app", told, what_to_do="Bring the app's secret here up to date; Meta does not accept it.")
            return
        self._fields([_mapping(item) for item in _listed(told.get("data"))])

    def _fields(self, rows: Sequence[Mapping[str, Json]]) -> None:
        path = f"/v1/webhooks/meta/{self._app_id}"
        row = next((row for row in rows if row.get("object") == "whatsapp_business_account"), {})
        names = [_mapping(item).get("name") for item in _listed(row.get("fields"))]
        where = "App dashboard > WhatsApp > Configuration"
        if row.get("active") is not True or FIELD_NEEDED not in names:
            found = f"the app is not told of {FIELD_NEEDED}: no message would come"
            self._failed("app", found, what_to_do=f"Subscribe to it: {where} > Webhook fields.")
        elif not str(row.get("callback_url", "")).rstrip("/").endswith(path):
            self._failed("app", "the app's webhooks go elsewhere", what_to_do=f"Set the callback to …{path}: {where}.")
        elif unwanted := [name for name in FIELDS_WANTED if name not in names]:
            self._passed("app", f"not told of {', '.join(unwanted)}; subscribe to these as well: {where}")
        else:
            self._passed("app", "told of all that is needed")

    @property
    def _version(self) -> str:
        return str(self._account.settings.get("graph_version", ""))

    async def _get(
        self, object_id: str, edge: str | None, *, query: Mapping[str, str], token: str | None = None
    ) -> Mapping[str, Json] | Refused:
        answer = await self._graph.get(
            version=self._version, object_id=object_id, edge=edge, token=token or self._account.token, query=query
        )
        return self._told(send.read(answer, _object))

    @staticmethod
    def _told(told: Mapping[str, Json] | Refused | NotSent | Ambiguous) -> Mapping[str, Json] | Refused:
        """What was answered; of errors that pass nothing is concluded."""
        if isinstance(told, NotSent | Ambiguous):
            raise _Stop(told)
        if isinstance(told, Refused) and told.error_class in (ErrorClass.RETRY, ErrorClass.WAIT):
            raise _Stop(told)
        return told

    def _passed(self, name: CheckName, message: str) -> None:
        self._found[name] = Check(name=name, result="passed", message=message)

    def _refused(self, name: CheckName, refused: Refused, *, what_to_do: str = "") -> bool:
        self._found[name] = Check(
            name=name,
            result="failed",
            message=refused.message,
            remedy=what_to_do or remedy(refused.code),
            code=refused.code,
            trace_id=refused.trace_id or "",
        )
        return False

    def _failed(self, name: CheckName, message: str, *, what_to_do: str, code: str = "", **values: Any) -> bool:
        self._found[name] = Check(name=name, result="failed", message=message, remedy=what_to_do, code=code)
        self._values |= values
        return False


def _values(told: Mapping[str, Json]) -> dict[str, Any]:
    """Fields of the contract's ChannelHealth that a number tells, as webhooks tell them."""
    level = _word(_mapping(told.get("throughput")).get("level"))
    status = _word(told.get("status"))
    name_status = _word(told.get("name_status"))
    values: dict[str, Any] = {
        "quality": _QUALITIES.get(_word(told.get("quality_rating")), "unspecified"),
        "verified_name": _words(told.get("verified_name")),
        "stale": False,
    }
    if level:
        values["throughput_per_second"] = UPGRADED_PER_SECOND if level == "HIGH" else None
    if name_status:
        values["name_status"] = _NAME_STATUSES.get(name_status, "unknown")
    return values | ({"number_status": status} if status else {})


_NAME_STATUSES = {
    "APPROVED": "approved",
    "AVAILABLE_WITHOUT_REVIEW": "approved",
    "DECLINED": "declined",
    "EXPIRED": "expired",
    "PENDING_REVIEW": "pending",
    "NONE": "unknown",
}


def _object(body: Json) -> Mapping[str, Json] | None:
    return body if isinstance(body, dict) else None


def _mapping(value: Json) -> Mapping[str, Json]:
    return value if isinstance(value, dict) else {}


def _listed(value: Json) -> list[Json]:
    return value if isinstance(value, list) else []


def _words(value: Json) -> str:
    return clean_text(value)[:_TEXT_MOST] if isinstance(value, str) else ""


def _word(value: Json) -> str:
    return clean_text(value).upper()[:64] if isinstance(value, str) else ""
