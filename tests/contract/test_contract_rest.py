"""What REST callers were promised: the fixed paths of the core, and the names in its JSON."""

import json
from typing import Any

import pytest
from contract_edge import Rest, bindings
from contract_outcome import methods
from contract_world import World, eventually, nonce

FIXED = """
GET /v1/conversations
GET /v1/conversations/{conversation_id}
GET /v1/conversations/{conversation_id}/messages
POST /v1/conversations/{conversation_id}/messages
POST /v1/conversations/{conversation_id}/assign
POST /v1/conversations/{conversation_id}/unassign
PATCH /v1/conversations/{conversation_id}/status
POST /v1/conversations/{conversation_id}/mark-read
POST /v1/conversations/{conversation_id}/notes
GET /v1/conversations/{conversation_id}/notes
PATCH /v1/conversations/{conversation_id}/notes/{note_id}
DELETE /v1/conversations/{conversation_id}/notes/{note_id}
POST /v1/conversations/{conversation_id}/tags
DELETE /v1/conversations/{conversation_id}/tags
GET /v1/conversations/statistics
GET /v1/statistics
POST /v1/conversations
PATCH /v1/conversations/{conversation_id}
DELETE /v1/conversations/{conversation_id}
POST /v1/conversations/{conversation_id}/restore
POST /v1/conversations:search
POST /v1/conversations:count
GET /v1/conversations/{conversation_id}/assignments
GET /v1/conversations/{conversation_id}/assignment-preview
GET /v1/messages/{message_id}/status-updates
GET /v1/inbox/watch
GET /v1/inbox/events
GET /v1/webhooks/meta/{app_id}
POST /v1/webhooks/meta/{app_id}
""".strip().splitlines()
ROW = {
    "id",
    "channelId",
    "contact",
    "status",
    "tags",
    "unreadCount",
    "lastMessagePreview",
    "lastMessageTime",
    "replyWindow",
    "version",
}
HELLO = "hub.mode=subscribe&hub.challenge=123&hub.verify_token="


def test_every_fixed_path_has_its_verb() -> None:
    known = {f"{verb} {path}" for method in methods().values() for verb, path, _ in bindings(method)}
    assert [path for path in FIXED if path not in known] == []


def test_no_two_methods_share_a_path() -> None:
    used = [f"{verb} {path}" for method in methods().values() for verb, path, _ in bindings(method)]
    assert len(used) == len(set(used))


def test_every_rpc_can_be_called_over_rest() -> None:
    assert [name for name, method in methods().items() if not bindings(method)] == []


def ok(rest: Rest, world: World, verb: str, path: str, body: Any = None) -> Any:
    status, told = rest.get(verb, path, body, world.key)
    assert status == 200, told
    return told


def test_a_list_row_has_the_fixed_names(rest: Rest, world: World) -> None:
    told = ok(rest, world, "GET", "/v1/conversations?filter.tags=sample&pageSize=1")
    assert {"conversations", "nextPageToken"} <= set(told)
    (row,) = told["conversations"]
    assert set(row) >= {*ROW, "assigneeId"}
    assert set(row["replyWindow"]) >= {"state", "expireTime"}
    assert (row["status"], row["replyWindow"]["state"]) == ("CONVERSATION_STATUS_OPEN", "REPLY_WINDOW_STATE_OPEN")
    assert isinstance(row["version"], str)
    assert isinstance(row["unreadCount"], int)


def test_what_a_request_has_no_field_for_is_not_set(rest: Rest, world: World) -> None:
    """OWASP API3:2023: the edge drops unknown members; resources go out, never in."""
    path = f"/v1/conversations/{world.conversation().id}"
    body = {"subject": "A subject", "status": "CONVERSATION_STATUS_ARCHIVED", "version": "99", "unreadCount": 7}
    row = ok(rest, world, "PATCH", path, body)["conversation"]
    assert (row["subject"], row["status"], row["unreadCount"]) == ("A subject", "CONVERSATION_STATUS_NEW", 1)


def test_a_page_continues_with_page_size_and_page_token(rest: Rest, world: World) -> None:
    first = ok(rest, world, "GET", "/v1/conversations?pageSize=1")
    second = ok(rest, world, "GET", f"/v1/conversations?pageSize=1&pageToken={first['nextPageToken']}")
    assert first["conversations"][0]["id"] != second["conversations"][0]["id"]


def test_a_detail_has_notes_assignment_and_identities(rest: Rest, world: World) -> None:
    row = ok(rest, world, "GET", f"/v1/conversations/{world.sample.id}")["conversation"]
    assert set(row) >= {*ROW, "notes", "assignment"}
    assert row["notes"][0]["text"] == "A note"
    assert (row["assignment"]["agentId"], row["assignment"]["type"]) == (
        world.agents["agent"],
        "ASSIGNMENT_TYPE_MANUAL",
    )
    assert row["assignment"]["startTime"]
    assert row["contact"]["identities"][0]["channelId"] == world.channel_id
    assert row["attributes"]["nested"] == {"ä": "ö"}


def test_a_team_s_assignment_has_the_teams_id(rest: Rest, world: World) -> None:
    path = f"/v1/conversations/{world.conversation().id}"
    ok(rest, world, "POST", f"{path}/assign", {"teamId": world.team_id})
    row = ok(rest, world, "GET", path)["conversation"]
    assert (row["assignment"]["teamId"], row["teamId"]) == (world.team_id, world.team_id)
    assert "agentId" not in row["assignment"]


def test_a_history_has_the_fixed_names(rest: Rest, world: World) -> None:
    told = ok(rest, world, "GET", f"/v1/conversations/{world.sample.id}/messages")
    outbound, inbound = told["messages"]
    names = {"id", "conversationId", "direction", "type", "status", "sequence", "text", "attachments", "createTime"}
    assert set(inbound) >= {*names, "externalId"}
    assert set(outbound) >= {*names, "externalId", "requestId"}
    assert (inbound["direction"], inbound["type"]) == ("MESSAGE_DIRECTION_INBOUND", "MESSAGE_TYPE_TEXT")
    assert (inbound["text"]["body"], inbound["attachments"]) == ("Hello", [])
    assert (outbound["direction"], outbound["status"]) == ("MESSAGE_DIRECTION_OUTBOUND", "MESSAGE_STATUS_READ")
    assert inbound["externalId"].startswith("wamid.")
    assert int(outbound["sequence"]) > int(inbound["sequence"])


def test_the_whole_main_job_by_curl_alone(rest: Rest, world: World) -> None:
    conversation_id = world.conversation().id
    path, agent_id = f"/v1/conversations/{conversation_id}", world.agents["agent"]
    sent = ok(rest, world, "POST", f"{path}/messages", {"text": {"body": "Good day"}, "requestId": nonce()})
    assert sent["message"]["status"] == "MESSAGE_STATUS_PENDING"
    assigned = ok(rest, world, "POST", f"{path}/assign", {"agentId": agent_id})
    assert assigned["conversation"]["assigneeId"] == agent_id
    unassigned = ok(rest, world, "POST", f"{path}/unassign", {})
    assert "assigneeId" not in unassigned["conversation"]
    moved = ok(rest, world, "PATCH", f"{path}/status", {"status": "CONVERSATION_STATUS_PENDING"})
    assert moved["conversation"]["status"] == "CONVERSATION_STATUS_PENDING"
    read = ok(rest, world, "POST", f"{path}/mark-read", {})
    assert read["conversation"]["unreadCount"] == 0
    tagged = ok(rest, world, "POST", f"{path}/tags", {"tags": ["vip", "late", "kept"]})
    assert tagged["conversation"]["tags"] == ["kept", "late", "vip"]
    untagged = ok(rest, world, "DELETE", f"{path}/tags?tags=vip&tags=late&requestId={nonce()}")
    assert untagged["conversation"]["tags"] == ["kept"]
    note = ok(rest, world, "POST", f"{path}/notes", {"text": "A note"})["note"]
    pinned = ok(rest, world, "PATCH", f"{path}/notes/{note['id']}", {"pinned": True})
    assert pinned["note"]["pinned"] is True
    assert ok(rest, world, "DELETE", f"{path}/notes/{note['id']}?requestId={nonce()}") == {}
    assert [row["agentId"] for row in ok(rest, world, "GET", f"{path}/assignments")["assignments"]] == [agent_id]
    deleted = ok(rest, world, "DELETE", f"{path}?requestId={nonce()}")
    assert deleted["conversation"]["deleteTime"]
    assert "deleteTime" not in ok(rest, world, "POST", f"{path}/restore", {})["conversation"]


@pytest.mark.parametrize(
    "query",
    [
        "filter.status=CONVERSATION_STATUS_OPEN&filter.status=CONVERSATION_STATUS_NEW",
        "filter.provider=PROVIDER_WHATSAPP",
        "filter.channelId={channel}",
        "filter.assigneeId={agent}&filter.assigneeId=nobody",
        "filter.teamId=none",
        "filter.tags=sample&filter.tags=nothing",
        "filter.unread=UNREAD_TEAM",
        "filter.tagsAll=sample&filter.tagsAll=SAMPLE",
        "filter.tagsNone=nothing",
        "filter.priority=CONVERSATION_PRIORITY_NONE",
        "filter.replyWindow=REPLY_WINDOW_STATE_OPEN",
        "filter.createTime.startTime=2020-01-01T00:00:00Z&filter.createTime.endTime=2120-01-01T00:00:00Z",
        "filter.lastMessageTime.startTime=2020-01-01T00:00:00Z",
        "order=CONVERSATION_ORDER_OLDEST&withCounts=true",
    ],
)
def test_a_list_takes_the_fixed_filters(rest: Rest, world: World, query: str) -> None:
    wanted = query.format(channel=world.channel_id, agent=world.agents["agent"])
    world.conversation()
    assert ok(rest, world, "GET", f"/v1/conversations?{wanted}&pageSize=1")["conversations"]


def test_a_conversation_is_found_by_what_was_said_about_it(rest: Rest, world: World) -> None:
    conversation_id, word = world.conversation().id, nonce()
    ok(rest, world, "POST", f"/v1/conversations/{conversation_id}/notes", {"text": f"Kürbis {word}, bitte"})

    def found() -> Any:
        return ok(rest, world, "GET", f"/v1/conversations?filter.text={word.upper()}%20kurb")["conversations"]

    assert [row["id"] for row in eventually(found)] == [conversation_id]
    counted = ok(rest, world, "POST", "/v1/conversations:count", {"filter": {"text": word, "not": {"text": "bitte"}}})
    assert (counted["count"], counted["more"]) == (0, False)


def test_search_takes_and_or_and_not(rest: Rest, world: World) -> None:
    asked = {"and": [{"tags": ["sample"]}, {"or": [{"tags": ["vip"]}, {"unread": "UNREAD_TEAM"}]}]}
    found = ok(rest, world, "POST", "/v1/conversations:search", {"filter": asked, "pageSize": 5})
    assert [row["id"] for row in found["conversations"]] == [world.sample.id]
    refused = {**asked, "not": {"assigneeId": [world.agents["agent"]]}}
    assert ok(rest, world, "POST", "/v1/conversations:search", {"filter": refused})["conversations"] == []
    counted = ok(rest, world, "POST", "/v1/conversations:count", {"filter": asked})
    assert (counted["count"], counted["more"]) == (1, False)


def test_contacts_are_searched_by_attribute_and_listed_by_the_other_filters(rest: Rest, world: World) -> None:
    contact_id, plan = world.conversation().contact.id, nonce()
    ok(rest, world, "PATCH", f"/v1/contacts/{contact_id}", {"attributes": {"plan": plan}})
    asked = {"attributes": [{"name": "plan", "stringValue": plan}], "order": "CONTACT_ORDER_NAME"}
    found = ok(rest, world, "POST", "/v1/contacts:search", asked)
    assert [row["id"] for row in found["contacts"]] == [contact_id]
    query = f"channelId={world.channel_id}&provider=PROVIDER_WHATSAPP&blocked=false&order=CONTACT_ORDER_UPDATED"
    since = found["contacts"][0]["updateTime"]
    found = ok(rest, world, "GET", f"/v1/contacts?{query}&updateTime.startTime={since}&pageSize=200")
    assert contact_id in [row["id"] for row in found["contacts"]]
    assert ok(rest, world, "GET", f"/v1/contacts?{query}&updateTime.endTime=2001-01-01T00:00:00Z")["contacts"] == []


def test_statistics_count_by_status_and_channel(rest: Rest, world: World) -> None:
    told = ok(rest, world, "GET", f"/v1/conversations/statistics?filter.channelId={world.channel_id}")
    assert {"byStatus", "byChannel", "unassignedCount", "unreadCount", "asOf"} <= set(told)
    assert {"CONVERSATION_STATUS_NEW", "CONVERSATION_STATUS_ARCHIVED"} <= {each["status"] for each in told["byStatus"]}
    assert [each["channelId"] for each in told["byChannel"]] == [world.channel_id]
    assert {"byPriority", "byTag", "byTeam", "byAgent", "unattendedCount"} <= set(told)


def test_events_carry_seq_cursor_and_the_fixed_payloads(rest: Rest, world: World) -> None:
    start = ok(rest, world, "GET", "/v1/conversations?pageSize=1")["asOf"]
    (conversation,) = world.customers_write(1)
    path = f"/v1/conversations/{conversation.id}"
    ok(rest, world, "POST", f"{path}/assign", {"agentId": world.agents["agent"]})
    ok(rest, world, "PATCH", f"{path}/status", {"status": "CONVERSATION_STATUS_OPEN"})
    events = ok(rest, world, "GET", f"/v1/inbox/events?cursor={start}&pageSize=200")["events"]
    assert all(event["seq"] and event["cursor"] for event in events)
    mine = [event for event in events if event.get("conversationId") == conversation.id]
    bodies = {name for event in mine for name in event}
    assert {"messageReceived", "conversationAssigned", "conversationStatusChanged"} <= bodies
    later = ok(rest, world, "GET", f"/v1/inbox/events?cursor={events[0]['cursor']}&pageSize=200")["events"]
    assert [event["id"] for event in later][: len(events) - 1] == [event["id"] for event in events[1:]]


def handshake(rest: Rest, world: World, query: str, app_id: str = "") -> tuple[int, bytes]:
    """Status and body; of a refusal without the id of the call, by which each differs."""
    answer = rest.send("GET", f"/v1/webhooks/meta/{app_id or world.meta_app['id']}?{query}")
    body: bytes = answer.read()
    if answer.status != 200:
        told = json.loads(body)
        assert told["details"].pop()["requestId"] == answer.headers["x-request-id"]
        body = json.dumps(told).encode()
    return answer.status, body


def test_the_handshake_answers_the_bare_challenge(rest: Rest, world: World) -> None:
    query = HELLO + world.meta_app["verify_token"]
    assert handshake(rest, world, query) == (200, b"123")
    assert handshake(rest, world, query.replace("123", "a-Z_0.9")) == (200, b"a-Z_0.9")
    # Meta may add parameters at any time.
    assert handshake(rest, world, query + "&hub.foo=bar&other=1") == (200, b"123")


@pytest.mark.parametrize(
    "query", [HELLO + "another", "hub.mode=unsubscribe&hub.challenge=123&hub.verify_token={token}"]
)
def test_a_handshake_with_a_wrong_mode_or_token_is_refused(rest: Rest, world: World, query: str) -> None:
    status, body = handshake(rest, world, query.format(token=world.meta_app["verify_token"]))
    (info,) = json.loads(body)["details"]
    assert (status, info["reason"], info["domain"]) == (403, "HANDSHAKE_REFUSED", "switchboard")


@pytest.mark.parametrize(
    ("query", "fields"),
    [
        ("hub.mode=subscribe&hub.verify_token={token}", ["hub.challenge"]),
        ("hub.mode=subscribe&hub.challenge=123", ["hub.verify_token"]),
        ("hub.challenge=123&hub.verify_token={token}", ["hub.mode"]),
        ("", ["hub.mode", "hub.verify_token", "hub.challenge"]),
        ("hub.mode=subscribe&hub.verify_token={token}&hub.challenge=%3Cscript%3E", ["hub.challenge"]),
        ("hub.mode=subscribe&hub.verify_token={token}&hub.challenge=" + "1" * 129, ["hub.challenge"]),
    ],
)
def test_a_handshake_that_lacks_something_says_what(rest: Rest, world: World, query: str, fields: list[str]) -> None:
    status, body = handshake(rest, world, query.format(token=world.meta_app["verify_token"]))
    info, bad = json.loads(body)["details"]
    assert (status, info["reason"], info["domain"]) == (400, "INVALID_FIELDS", "switchboard")
    assert [each["field"] for each in bad["fieldViolations"]] == fields


def test_the_handshake_of_an_unknown_app_is_refused_like_a_wrong_token(rest: Rest, world: World) -> None:
    query = HELLO + world.meta_app["verify_token"]
    assert handshake(rest, world, query, "nobody") == handshake(rest, world, HELLO + "another")
