"""What a number is asked, against the simulator, and against answers that nobody expects."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from provider_bench import PHONE_NUMBER_ID, TOKEN, Connect, Simulate

from server.providers.checks import CheckedAccount, CheckReport
from server.providers.contract import Accepted, Ambiguous, NotSent, Refused

WABA = "102290129340398"
KINDS = ["token", "permissions", "number", "account", "registration", "messaging", "subscription", "app"]
APP = "4711"
# What Meta answers when all is well, by the end of the path.
WELL: dict[str, Any] = {
    "debug_token": {
        "data": {"is_valid": True, "app_id": APP, "expires_at": 0}
        | {"scopes": ["whatsapp_business_management", "whatsapp_business_messaging"]}
    },
    PHONE_NUMBER_ID: {
        "display_phone_number": "+1 555-078-3881",
        "quality_rating": "GREEN",
        "status": "CONNECTED",
        "throughput": {"level": "STANDARD"},
        "health_status": {"can_send_message": "AVAILABLE", "entities": [{"entity_type": "WABA"}]},
    },
    "phone_numbers": {"data": [{"id": PHONE_NUMBER_ID}]},
    "subscribed_apps": {"data": [{"whatsapp_business_api_data": {"id": APP}}]},
    "subscriptions": {
        "data": [{"object": "whatsapp_business_account", "active": True, "fields": [{"name": "messages"}]}]
    },
}
GARBAGE: list[Any] = [
    None,
    0,
    "",
    [],
    {},
    [[]],
    {"data": None},
    {"data": {}},
    {"data": [None, 5, {"id": {}}]},
    {"data": [[]]},
]


async def secret_of(app_id: str) -> str | None:
    return "app-secret" if app_id == APP else None


def asked(**more: Any) -> CheckedAccount:
    settings = {"waba_id": WABA, "graph_version": "v26.0"}
    return CheckedAccount(
        **{"account_id": PHONE_NUMBER_ID, "token": TOKEN, "settings": settings, "app_secret": secret_of, **more}
    )


def results(report: object) -> dict[str, str]:
    assert isinstance(report, CheckReport), report
    return {check.name: check.result for check in report.checks}


@pytest.fixture
async def answering() -> AsyncIterator[Callable[..., Any]]:
    """`await answering({...})`: a Graph API that answers so, by the end of the path; its address."""
    servers: list[TestServer] = []

    async def start(answers: dict[str, Any]) -> str:
        async def handle(request: web.Request) -> web.Response:
            given = answers.get(request.path.rpartition("/")[2])
            given = given(request) if callable(given) else given
            status, body = given if isinstance(given, tuple) else (200, given)
            return web.json_response(body, status=status)

        application = web.Application()
        application.router.add_route("*", "/{tail:.*}", handle)
        server = TestServer(application)
        await server.start_server()
        servers.append(server)
        return str(server.make_url("")).rstrip("/")

    yield start
    for server in servers:
        await server.close()


async def test_a_number_that_is_well_passes_every_check(connect: Connect, simulate: Simulate) -> None:
    simulated = await simulate(app_id=APP, webhook_url=f"http://127.0.0.1:9/v1/webhooks/meta/{APP}")
    report = await connect(simulated.url).check(asked())
    assert results(report) == dict.fromkeys(KINDS, "passed")
    assert isinstance(report, CheckReport)
    assert report.details == {"display_phone_number": "+15550783881"}
    assert report.values["token"] == {"valid": True, "missing_permissions": []}


async def test_a_check_that_fails_early_leaves_the_others_unasked(connect: Connect, simulate: Simulate) -> None:
    report = await connect((await simulate()).url).check(asked(token="EAAJother"))
    assert results(report) == {"token": "failed"} | dict.fromkeys(KINDS[1:], "skipped")
    assert isinstance(report, CheckReport)
    assert (report.checks[0].code, bool(report.checks[0].trace_id)) == ("190", True)


async def test_leaving_an_account_twice_ends_its_webhooks_once(connect: Connect, simulate: Simulate) -> None:
    provider = connect((await simulate()).url)
    assert [await provider.leave(asked()) for _ in range(2)] == [Accepted(provider_id=WABA)] * 2
    assert results(await provider.check(asked()))["subscription"] == "failed"
    assert results(await provider.check(asked(subscribe=True)))["subscription"] == "passed"


async def test_of_a_provider_that_does_not_answer_nothing_is_concluded(connect: Connect) -> None:
    provider = connect("http://127.0.0.1:1")
    assert isinstance(await provider.check(asked()), NotSent | Ambiguous)
    assert isinstance(await provider.leave(asked()), NotSent | Ambiguous)


async def test_a_token_that_may_not_look_at_itself_is_told_by_what_it_can_do(
    connect: Connect, answering: Callable[..., Any]
) -> None:
    refusal = (400, {"error": {"code": 100, "message": "(#100) You must provide an app access token"}})
    found = results(await connect(await answering(WELL | {"debug_token": refusal})).check(asked()))
    assert (found["token"], found["permissions"], found["number"]) == ("passed", "skipped", "passed")
    assert (found["subscription"], found["app"]) == ("passed", "skipped"), "nobody told which app it is"


async def test_a_number_is_found_on_a_later_page_of_its_account(
    connect: Connect, answering: Callable[..., Any]
) -> None:
    def page(request: web.Request) -> Any:
        if request.query.get("after") == "second":
            return {"data": [{"id": PHONE_NUMBER_ID}], "paging": {"cursors": {"after": "third"}}}
        return {"data": [{"id": "1"}], "paging": {"cursors": {"after": "second"}, "next": "https://graph.example/"}}

    found = results(await connect(await answering(WELL | {"phone_numbers": page})).check(asked()))
    assert found["account"] == "passed"


async def test_an_account_whose_list_does_not_end_has_no_such_number(
    connect: Connect, answering: Callable[..., Any]
) -> None:
    endless = {"data": [], "paging": {"cursors": {"after": "more"}, "next": "https://graph.example/"}}
    found = results(await connect(await answering(WELL | {"phone_numbers": endless})).check(asked()))
    assert found["account"] == "failed"


@pytest.mark.parametrize("name", sorted(WELL))
async def test_whatever_is_answered_is_no_crash_and_passes_nothing_it_should_not(
    connect: Connect, answering: Callable[..., Any], name: str
) -> None:
    for garbage in GARBAGE:
        found = await connect(await answering(WELL | {name: garbage})).check(asked())
        if isinstance(found, CheckReport):
            assert results(found).keys() == set(KINDS)
            assert name == PHONE_NUMBER_ID or "failed" in results(found).values(), garbage
        else:
            assert isinstance(found, Refused | NotSent | Ambiguous)


async def test_words_of_the_answers_are_fit_to_be_stored(connect: Connect, answering: Callable[..., Any]) -> None:
    error = {"error_description": "\x00" + "x" * 5000, "possible_solution": "\ud800", "error_code": "7"}
    blocked = {"can_send_message": "BLOCKED", "entities": [{"errors": [error, None]}, None]}
    number = {**WELL[PHONE_NUMBER_ID], "verified_name": "\x00" * 3, "health_status": blocked}
    report = await connect(await answering(WELL | {PHONE_NUMBER_ID: number})).check(asked())
    assert isinstance(report, CheckReport)
    check = next(each for each in report.checks if each.name == "messaging")
    assert (check.result, check.code, len(check.message)) == ("failed", "7", 1024)
    assert "\x00" not in f"{report}"
    assert report.values["verified_name"] == "\ufffd" * 3
