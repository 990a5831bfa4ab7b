"""Unary commands: options to request, answer to table or JSON, refusal to exit code."""

import json
from datetime import UTC, datetime, timedelta

import grpc
import pytest
from cli_server import Cli, Seen, page, refusal, row
from google.protobuf import json_format
from switchboard.v1 import conversation_pb2, conversation_service_pb2


async def test_a_list_is_a_table(cli: Cli, seen: Seen):
    seen.pages[""] = page(
        row("k1", tags=["vip", "de"], unread_count=2, last_message_preview="a\nb"), row("k2"), token="t2"
    )
    done = await cli("conversations", "list")
    assert done.code == 0, done.err
    header, first, second = (line for line in done.out.splitlines() if line.startswith(("id", "k")))
    assert header.split()[:4] == ["id", "contact", "status", "tags"]
    for word in ("k1", "Ada", "open", "vip, de", "a b", "2020-02-03 04:05:06"):
        assert word in first
    assert second.startswith("k2")
    assert "t2" in done.out


async def test_people_read_names_where_the_answer_has_ids(cli: Cli, seen: Seen):
    seen.agents = {"a1": "Ana"}
    seen.pages[""] = page(row("k1", assignee_id="a1"), row("k2", assignee_id="a2"))
    done = await cli("conversations", "list")
    header, first, second = (line.split() for line in done.out.splitlines() if line.startswith(("id", "k")))
    column = header.index("assignee")
    assert (first[column], second[column]) == ("Ana", "a2")
    assert (await cli("conversations", "list", "-o", "json")).json["conversations"][0]["assigneeId"] == "a1"


async def test_counts_stand_below_the_list_in_one_word_each(cli: Cli, seen: Seen):
    seen.pages[""] = page(row("k1"))
    seen.pages[""].counts.all.count = 1000
    seen.pages[""].counts.all.more = True
    done = await cli("conversations", "list", "--with-counts")
    lines = [line.split() for line in done.out.splitlines()]
    assert lines[0][0] == "id"
    assert ["counts,", "all", "1000", "and", "more"] in lines


async def test_an_empty_list_says_so(cli: Cli, seen: Seen):
    seen.pages[""] = page()
    assert "none" in (await cli("conversations", "list")).out


async def test_json_is_what_rest_answers(cli: Cli, seen: Seen):
    seen.pages[""] = page(row("k1"))
    done = await cli("conversations", "list", "-o", "json")
    assert done.json == json_format.MessageToDict(seen.pages[""], always_print_fields_with_no_presence=True)
    conversation = done.json["conversations"][0]
    assert conversation["status"] == "CONVERSATION_STATUS_OPEN"
    assert conversation["version"] == str(1 << 53)
    assert conversation["lastMessageTime"] == "2020-02-03T04:05:06Z"
    assert conversation["unreadCount"] == 0
    assert conversation["tags"] == []
    assert "assigneeId" not in conversation
    assert "replyWindow" not in conversation


async def test_a_single_answer_is_pairs_and_tables_of_what_it_holds(cli: Cli):
    done = await cli("conversations", "get", "k9")
    assert done.code == 0, done.err
    assert ["id", "k9"] in [line.split() for line in done.out.splitlines()]
    assert ["contact,", "name", "Ada"] in [line.split() for line in done.out.splitlines()]
    assert "identities" not in done.out
    assert ["n1", "likes", "cake", "no"] in [line.split() for line in done.out.split("\nnotes\n")[1].splitlines()]


async def test_statistics_have_a_table_for_each_list(cli: Cli):
    done = await cli("conversations", "get-statistics")
    assert "by status" in done.out
    assert ["open", "3"] in [line.split() for line in done.out.splitlines()]
    assert "unread count" in done.out


async def test_options_fill_the_request(cli: Cli, seen: Seen):
    seen.pages[""] = page()
    words = [
        "--filter-text",
        "late parcel",
        "--filter-status",
        "open",
        "--filter-status",
        "CONVERSATION_STATUS_NEW",
        "--filter-tags",
        "vip",
    ]
    done = await cli(
        "conversations", "list", *words, "--filter-unread", "mine", "--order", "longest-waiting", "--page-size", "3"
    )
    assert done.code == 0, done.err
    wanted = conversation_service_pb2.ListConversationsRequest(order="CONVERSATION_ORDER_LONGEST_WAITING", page_size=3)
    wanted.filter.status.extend([conversation_pb2.CONVERSATION_STATUS_OPEN, conversation_pb2.CONVERSATION_STATUS_NEW])
    wanted.filter.tags.append("vip")
    wanted.filter.unread = 2
    wanted.filter.text = "late parcel"
    assert seen.requests == [wanted]


async def test_what_contains_itself_is_json(cli: Cli, seen: Seen):
    seen.pages[""] = page()
    await cli(
        "conversations",
        "list",
        "--filter-or",
        '{"tags": ["a"]}',
        "--filter-or",
        '{"tags": ["b"]}',
        "--filter-not",
        '{"tags": ["c"]}',
    )
    found = seen.requests[0].filter
    assert [list(each.tags) for each in getattr(found, "or")] == [["a"], ["b"]]
    assert list(getattr(found, "not").tags) == ["c"]


async def test_options_go_over_the_json_body(cli: Cli, seen: Seen):
    seen.pages[""] = page()
    body = {"filter": {"tags": ["a"], "assigneeId": ["me"]}, "pageSize": 7}
    await cli("conversations", "list", "--json", "-", "--filter-tags", "b", "--page-size", "8", stdin=json.dumps(body))
    request = seen.requests[0]
    assert (list(request.filter.tags), list(request.filter.assignee_id), request.page_size) == (["b"], ["me"], 8)


async def test_a_body_may_be_a_file(cli: Cli, seen: Seen, tmp_path):
    (tmp_path / "body.json").write_text('{"text": {"body": "from a file"}}')
    await cli("messages", "send", "k1", "--json", f"@{tmp_path / 'body.json'}")
    assert seen.requests[0].text.body == "from a file"


async def test_a_send_gets_a_request_id_and_prints_the_message(cli: Cli, seen: Seen):
    done = await cli("messages", "send", "k1", "--text-body", "hi there", "-o", "json")
    assert seen.requests[0].conversation_id == "k1"
    assert len(seen.requests[0].request_id) == 36
    assert done.json["message"]["text"] == {"body": "hi there"}
    assert done.json["message"]["sequence"] == str(1 << 60)
    await cli("messages", "send", "k1", "--text-body", "hi", "--request-id", "mine")
    assert seen.requests[1].request_id == "mine"


async def test_times_are_absolute_or_relative(cli: Cli, seen: Seen):
    update = ("conversations", "update-status", "k1", "--status", "snoozed", "--snooze-until-time")
    await cli(*update, "+2h")
    await cli(*update, "2030-01-02T03:04:05+01:00")
    relative, absolute = (each.snooze_until_time.ToDatetime(tzinfo=UTC) for each in seen.requests)
    assert abs(relative - datetime.now(UTC) - timedelta(hours=2)) < timedelta(minutes=1)
    assert absolute == datetime(2030, 1, 2, 2, 4, 5, tzinfo=UTC)


async def test_absent_and_empty_and_false_are_told_apart(cli: Cli, seen: Seen):
    await cli("conversations", "update", "k1", "--subject", "", "--attributes", '{"plan": "gold"}')
    request = seen.requests[0]
    assert request.HasField("subject")
    assert request.attributes["plan"] == "gold"
    assert not request.HasField("priority")
    await cli(
        "conversations", "update-status", "k1", "--status", "open", "--no-snooze-until-reply", "--expected-version", "0"
    )
    assert seen.requests[1].snooze_until_reply is False
    assert seen.requests[1].HasField("expected_version")


async def test_all_follows_the_pages(cli: Cli, seen: Seen):
    seen.pages = {"": page(row("k1"), token="2"), "2": page(token="3"), "3": page(row("k2"))}
    done = await cli("conversations", "list", "--all", "-o", "json")
    assert [each["id"] for each in done.json["conversations"]] == ["k1", "k2"]
    assert done.json["nextPageToken"] == ""


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["conversations", "update-status", "k1", "--status", "opened"], "'opened' is not one of new, open, pending"),
        (["conversations", "update-status", "k1", "--snooze-until-time", "soon"], "'soon' is not a time such as"),
        (["conversations", "get"], "Missing argument 'CONVERSATION_ID'"),
        (["conversations", "list", "--page-size", "many"], "'many' is not a valid integer"),
        (["conversations", "list", "--filter-not", "{"], "not JSON"),
        (["conversations", "list", "--json", "[]"], "--json must be a JSON object"),
        (["conversations", "list", "--json", '{"filter": 3}', "--filter-tags", "a"], "filter must be an object"),
        (["conversations", "update-status", "k1", "--snooze-until-time", "+9999999w"], "leads out of the calendar"),
        (["conversations", "update-status", "k1", "--expected-version", str(1 << 64)], "out of range"),
        (["conversations", "list", "--json", '{"pagesize": 3}'], "pagesize"),
        (["conversations", "list", "--json", "@/nowhere"], "/nowhere: No such file"),
        (["conversations", "create", "--identity-id", "i", "--phone-number", "+49"], "recipient"),
        (["inbox", "watch", "--bookmark-interval", "long"], "'long' is not a duration such as"),
        (["conversations", "fetch"], "No such command 'fetch'"),
        (["conversation"], "No such command 'conversation'"),
    ],
)
async def test_what_is_typed_wrong_is_told_without_a_call(cli: Cli, seen: Seen, words, complaint):
    done = await cli(*words)
    assert done.code == 2
    assert complaint in done.err
    assert seen.requests == []


async def test_a_refusal_is_one_line_with_reason_fields_and_metadata(cli: Cli, seen: Seen):
    seen.refusal = refusal(
        grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELDS", violation=("text.body", "must not be empty"), limit="4096"
    )
    done = await cli("messages", "send", "k1", "--text-body", "")
    assert done.code == 1
    assert done.out == ""
    assert done.err.splitlines() == [
        "INVALID_ARGUMENT INVALID_FIELDS: this is why",
        "  text.body: must not be empty",
        "  limit = 4096",
    ]


async def test_a_refusal_as_json_is_the_status_that_rest_answers(cli: Cli, seen: Seen):
    seen.refusal = refusal(grpc.StatusCode.NOT_FOUND, "RESOURCE_NOT_FOUND", resource="conversation")
    done = await cli("conversations", "get", "k1", "-o", "json")
    assert done.code == 1
    answer = json.loads(done.err)
    assert answer["code"] == 5
    assert answer["details"] == [
        {
            "@type": "type.googleapis.com/google.rpc.ErrorInfo",
            "reason": "RESOURCE_NOT_FOUND",
            "domain": "switchboard",
            "metadata": {"resource": "conversation"},
        }
    ]


async def test_its_fields_are_those_of_rest_too(cli: Cli, seen: Seen):
    seen.refusal = refusal(grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELDS", violation=("status", "must be known"))
    done = await cli("conversations", "get", "k1", "-o", "json")
    info, bad = json.loads(done.err)["details"]
    assert info["metadata"] == {}
    assert bad["fieldViolations"] == [{"field": "status", "description": "must be known", "reason": ""}]


async def test_nobody_there_is_exit_code_3(cli: Cli):
    done = await cli("--url", "http://127.0.0.1:1", "conversations", "get", "k1")
    assert done.code == 3
    assert done.err.startswith("UNAVAILABLE: ")
