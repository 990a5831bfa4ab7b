"""What numbers tell that are used in the app on a phone as well: for each row of what is documented, the changes in their order.

A step is the field of a change and its value, or the name of something done here in between.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

BUSINESS, CUSTOMER, USER_ID = "15550783881", "4915100000001", "DE.13491208655302741918"
BEGAN = int(time.time()) - 600
DAYS = 86_400
# After the channel was made.
SINCE = 630
Step = tuple[str, dict[str, Any]] | str


def item(wamid: str, at: int = 0, text: str | None = "hi", **more: Any) -> dict[str, Any]:
    """A message of somebody; `at` in seconds after the beginning."""
    content = {} if text is None else {"type": "text", "text": {"body": text}}
    return {"id": f"wamid.{wamid}", "timestamp": str(BEGAN + at), **content, **more}


def echo(*items: dict[str, Any], to: Mapping[str, str] | None = None, **value: Any) -> Step:
    """What the business did on its phone."""
    whom = {"to": CUSTOMER} if to is None else to
    return "smb_message_echoes", {"message_echoes": [{"from": BUSINESS, **whom, **each} for each in items], **value}


def wrote(*items: dict[str, Any]) -> Step:
    """What the customer wrote."""
    contacts = [{"profile": {"name": "Ana"}, "wa_id": CUSTOMER}]
    return "messages", {"messages": [{"from": CUSTOMER, **each} for each in items], "contacts": contacts}


def status(wamid: str, word: str, at: int = 0, **more: str) -> Step:
    """A receipt."""
    told = {"id": f"wamid.{wamid}", "status": word, "timestamp": str(BEGAN + at), "recipient_id": CUSTOMER}
    return "messages", {"statuses": [{**told, **more}]}


def past(wamid: str, at: int = 0, text: str | None = "then", *, ours: bool = False, **more: Any) -> dict[str, Any]:
    """A message of a history: so many seconds after a day that is long gone."""
    sides = {"from": BUSINESS, "to": CUSTOMER} if ours else {"from": CUSTOMER}
    return {**item(wamid, at - 30 * DAYS, text), **sides, **more}


def history(*items: dict[str, Any], chunk: int = 1, talk: str = CUSTOMER) -> Step:
    """A chunk of the history of one thread."""
    metadata = {"phase": 0, "chunk_order": chunk, "progress": 55}
    return "history", {"history": [{"metadata": metadata, "threads": [{"id": talk, "messages": list(items)}]}]}


def read(word: str) -> dict[str, Any]:
    return {"history_context": {"status": word}}


def handover(word: str, at: int = 0, sender: Mapping[str, str] | None = None, **more: Any) -> Step:
    """Who answers the customer is another one."""
    told = {"previous_owner_role": "meta_agent", "new_owner_role": "business"}
    value = {
        "sender": {"phone_number": CUSTOMER} if sender is None else sender,
        "type": word,
        "timestamp": str(BEGAN + at),
        word: told if word == "control_passed" else {"new_owner": "meta_agent"},
    }
    return "messaging_handovers", {**value, **more}


SUMMARY = {"conversation_context": {"type": "summary", "summary": {"text": "Wants a *table* for {{two}}."}}}
PICTURE = {"id": "1234567890", "mime_type": "image/jpeg", "sha256": "aGFzaA==", "caption": "look"}
ROWS: Mapping[str, Sequence[Step]] = {
    "handover_to_us": [wrote(item("a")), "resolve", handover("control_passed", **SUMMARY)],
    "handover_to_us_with_metadata": [
        wrote(item("a")),
        handover("control_passed", control_passed={"metadata": "asked for a person"}),
    ],
    "handover_to_us_of_a_stranger": [handover("control_passed", sender={"phone_number": f"+{CUSTOMER}"}, **SUMMARY)],
    "handover_to_us_of_a_user_id": [handover("control_passed", sender={"user_id": USER_ID})],
    "handover_to_us_of_who_is_blocked": [wrote(item("a")), "block", handover("control_passed")],
    "handover_to_us_after_it_was_deleted": [wrote(item("a")), "delete", handover("control_passed")],
    "handover_twice": [wrote(item("a")), handover("control_passed"), handover("control_passed")],
    "handover_taken": [wrote(item("a")), handover("control_taken", 5)],
    "handover_taken_of_a_stranger": [handover("control_taken")],
    "handover_of_next_year": [wrote(item("a")), handover("control_lost")],
    "handover_without_anybody": [wrote(item("a")), handover("control_passed", sender={"name": "Ana"})],
    "summary_beside_a_message": [
        ("messages", {**wrote(item("a"))[1], **SUMMARY}),
    ],
    "echo_of_a_stranger": [echo(item("1"), contacts=[{"profile": {"name": "Ana"}, "wa_id": CUSTOMER}])],
    "echo_to_a_user_id": [echo(item("1"), to={"to_user_id": USER_ID})],
    "echo_into_an_open_conversation": [wrote(item("0")), echo(item("1", 5))],
    "echo_before_the_customers_message": [wrote(item("0", 9)), echo(item("1", 5))],
    "echo_twice": [echo(item("1")), echo(item("1"), item("1"))],
    "echo_of_a_picture": [echo(item("1", text=None, type="image", image=PICTURE))],
    "echo_of_a_type_of_tomorrow": [echo(item("1", text=None, type="hologram"))],
    "echo_that_quotes": [wrote(item("0")), echo(item("1", 5, context={"from": CUSTOMER, "id": "wamid.0"}))],
    "echo_edited": [
        echo(item("1")),
        echo(
            item(
                "2",
                5,
                None,
                type="edit",
                edit={"original_message_id": "wamid.1", "message": {"type": "text", "text": {"body": "ho"}}},
            )
        ),
    ],
    "echo_taken_back": [
        echo(item("1")),
        echo(item("2", 5, None, type="revoke", revoke={"original_message_id": "wamid.1"})),
    ],
    "echo_takes_nothing_of_the_customers_back": [
        wrote(item("0")),
        echo(item("2", 5, None, type="revoke", revoke={"original_message_id": "wamid.0"})),
    ],
    "customer_takes_nothing_of_the_business_back": [
        echo(item("1")),
        wrote(item("2", 5, None, type="revoke", revoke={"original_message_id": "wamid.1"})),
    ],
    "echo_of_a_reaction": [
        wrote(item("0")),
        echo(item("2", 5, None, type="reaction", reaction={"message_id": "wamid.0", "emoji": "👍"})),
        wrote(item("3", 6, None, type="reaction", reaction={"message_id": "wamid.0", "emoji": "🎉"})),
    ],
    "echo_delivered_and_read": [echo(item("1")), status("1", "read", 9), status("1", "delivered", 8)],
    "echo_after_its_receipts": [status("1", "read", 9), status("1", "delivered", 8), echo(item("1"))],
    "echo_of_our_own_send": ["send", echo(item("ours"))],
    "echo_before_the_answer_to_our_send": ["queue", echo(item("ours")), "answer"],
    "echo_before_a_receipt_of_our_send_whose_answer_was_lost": ["queue", echo(item("ours")), "receipt_of_ours"],
    "echo_before_the_answer_that_was_seen_and_quoted": [
        "queue",
        echo(item("ours")),
        status("ours", "delivered", 6),
        wrote(item("2", 20, None, type="reaction", reaction={"message_id": "wamid.ours", "emoji": "🎉"})),
        wrote(item("3", 21, "yes", context={"from": BUSINESS, "id": "wamid.ours"})),
        "answer",
    ],
    "echo_before_the_answer_that_one_member_has": [
        "queue",
        echo(item("ours")),
        status("ours", "delivered", 6, recipient_type="group", recipient_participant_id="4915199999999"),
        "answer",
    ],
    "echo_of_a_picture_before_the_answer": [
        "queue",
        echo(item("ours", SINCE, None, type="image", image=PICTURE)),
        "answer",
    ],
    "history_has_our_own_send_before_the_answer": [
        "queue",
        history({**item("ours"), "from": BUSINESS, "to": CUSTOMER, **read("READ")}),
        "answer",
    ],
    "echo_with_our_own_id_whose_answer_was_lost": ["queue", "echo_of_ours", "echo_of_ours"],
    "echo_without_a_customer": [echo(item("1"), item("2", 1), to={})],
    "answer_after_an_echo": [wrote(item("0")), echo(item("1", 5)), wrote(item("2", 9))],
    "echo_into_a_resolved_conversation": [wrote(item("0")), "resolve", echo(item("1", 5))],
    "echo_of_a_deleted_conversation": [wrote(item("0")), "delete", echo(item("1", 5))],
    "echo_to_a_blocked_contact": [wrote(item("0")), "block", echo(item("1", 5))],
    "history": [history(past("a", 0), past("b", 1, "yes?", ours=True, **read("READ")), past("c", 2))],
    "history_out_of_order": [
        history(past("c", 2), past("b", 1, ours=True, **read("DELIVERED")), chunk=2),
        history(past("a", 0), chunk=1),
    ],
    "history_twice": [history(past("a")), history(past("a"), past("b", 1))],
    "history_of_every_status": [
        history(
            *(
                past(word, index, word, ours=True, **read(word))
                for index, word in enumerate(("PENDING", "SENT", "DELIVERED", "READ", "PLAYED", "ERROR", "LATER"))
            )
        )
    ],
    "history_and_live_overlap": [
        wrote(item("0")),
        history(past("a"), {**item("0"), "from": CUSTOMER}),
        wrote(item("0"), item("1", 5)),
    ],
    "history_tells_news_before_the_live_message": [
        history(past("a"), {**item("0", SINCE), "from": CUSTOMER}),
        wrote(item("0", SINCE)),
    ],
    "history_tells_the_past_before_the_live_message": [history({**item("0"), "from": CUSTOMER}), wrote(item("0"))],
    "history_has_our_own_send": ["send", history({**item("ours"), "from": BUSINESS, "to": CUSTOMER})],
    "history_then_the_customer_writes": [history(past("a")), wrote(item("1", 5))],
    "history_with_a_file_to_come": [
        history(past("a", text=None, type="media_placeholder")),
        ("history", {"messages": [past("a", text=None, type="image", image=PICTURE)]}),
        ("history", {"messages": [past("a", text=None, type="image", image=PICTURE)]}),
    ],
    "history_whose_file_comes_first": [
        ("history", {"messages": [past("a", text=None, type="image", image=PICTURE)]}),
        history(past("a", text=None, type="media_placeholder")),
    ],
    "history_of_a_user_id": [history({**item("a"), "from_user_id": USER_ID}, talk=USER_ID)],
    "history_with_something_broken": [
        history(past("a"), {"id": "wamid.b"}, past("c", 2)),
        ("history", {"history": [7, {"threads": "none"}, {"threads": [{"id": CUSTOMER, "messages": {}}]}]}),
    ],
}
