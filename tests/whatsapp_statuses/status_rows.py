"""What becomes of a message that was sent, as Meta's statuses tell it: for each row of what is documented, the items in their order.

A step is a list of statuses of one webhook, or "answer": Meta's answer to the send is stored then. Without one it was stored before.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

ANSWER = "answer"
CLOSED = {
    "code": 131047,
    "title": "Re-engagement message",
    "message": "Re-engagement message",
    "error_data": {"details": "More than 24 hours have passed."},
    "href": "https://developers.facebook.com/docs/whatsapp/cloud-api/support/error-codes/",
}
UNDELIVERABLE = {"code": 131026, "title": "Message undeliverable"}
BLOCKED = {"code": 131050, "title": "User has stopped marketing messages"}
MEMBERS = ("4915100000009", "4915100000008", "DE.77")
PRICING = {"billable": False, "pricing_model": "PMP", "type": "free_customer_service", "category": "service"}


def status(word: str, at: int = 0, **more: Any) -> dict[str, Any]:
    """One status; `at` in seconds after the send."""
    return {"status": word, "at": at, **more}


def of_member(word: str, at: int = 0, **more: Any) -> dict[str, Any]:
    """One of a member of a group."""
    return status(word, at, recipient_type="group", conversation={"id": "c1", "pricing": PRICING}, **more)


Step = str | Sequence[dict[str, Any]]
ROWS: Mapping[str, Sequence[Step]] = {
    "sent": [[status("sent")]],
    "delivered": [[status("sent"), status("delivered", 1)]],
    "delivered_is_skipped": [[status("sent"), status("read", 1)]],
    "read": [[status("sent"), status("delivered", 1), status("read", 2)]],
    "played": [[status("sent"), status("delivered", 1), status("read", 2), status("played", 3)]],
    "failed": [[status("failed", errors=[UNDELIVERABLE])]],
    "failed_without_errors": [[status("failed")]],
    "failed_with_empty_errors": [[status("failed", errors=[])]],
    "failed_with_several_errors": [[status("failed", errors=[UNDELIVERABLE, CLOSED])]],
    "failed_for_the_window": [[status("failed", errors=[CLOSED])]],
    "deleted": [[status("sent"), status("deleted", 1)]],
    "word_of_tomorrow": [[status("sent"), status("teleported", 1)]],
    "payment": [[status("captured", type="payment", payment={"reference_id": "r-1"})]],
    "with_conversation_and_pricing": [
        [status("sent", pricing=PRICING, conversation={"id": "c1", "origin": {"type": "service"}})]
    ],
    "of_one_member_of_a_group": [
        [status("delivered", recipient_type="group", recipient_participant_id="4915100000009")]
    ],
    "of_members_of_a_group": [
        [status("sent", recipient_type="group")],
        [
            of_member("delivered", 1, recipient_participant_id=MEMBERS[0]),
            of_member("delivered", 1, participant_recipient_id=MEMBERS[1]),
            of_member(
                "delivered", 1, recipient_participant_user_id=MEMBERS[2], recipient_participant_id="4915100000007"
            ),
        ],
        [of_member("read", 2, recipient_participant_id=MEMBERS[0])],
    ],
    "of_members_of_a_group_twice": [
        [
            of_member("delivered", 1, recipient_participant_id=MEMBERS[0]),
            of_member("delivered", 1, recipient_participant_id=MEMBERS[0]),
        ],
        [of_member("delivered", 1, recipient_participant_id=MEMBERS[0])],
    ],
    "of_members_of_a_group_before_the_answer": [
        [of_member("delivered", 1, recipient_participant_id=MEMBERS[0])],
        [of_member("delivered", 1, recipient_participant_id=MEMBERS[1])],
        ANSWER,
    ],
    "failed_for_members_of_a_group": [
        [status("sent", recipient_type="group")],
        [
            of_member("failed", 1, recipient_participant_id=MEMBERS[0], errors=[CLOSED]),
            of_member("failed", 1, recipient_participant_id=MEMBERS[1], errors=[BLOCKED]),
        ],
        [of_member("delivered", 2, recipient_participant_id=MEMBERS[0])],
    ],
    "pricing_in_the_conversation": [
        [status("sent", recipient_type="group", conversation={"id": "c1", "pricing": PRICING})]
    ],
    "pricing_of_tomorrow": [
        [status("sent", pricing={"billable": "perhaps", "category": 7}, conversation="c1", pricing_model=None)]
    ],
    "failed_with_errors_of_no_kind": [[status("failed", errors=[{"title": "x"}, 7, None])]],
    "failed_with_errors_that_are_none": [[status("failed", errors="x")]],
    "payment_of_every_state": [
        [
            status(word, at, type="payment", payment={"reference_id": "r-1"})
            for at, word in enumerate(("pending", "captured", "failed"))
        ]
    ],
    "before_the_answer": [[status("sent")], ANSWER],
    "all_before_the_answer": [[status("read", 2)], [status("delivered", 1)], [status("sent")], ANSWER],
    "before_the_answer_by_callback_data": [[status("delivered", 1, ours=True)], ANSWER],
    "in_reverse": [[status("read", 2)], [status("delivered", 1)], [status("sent")]],
    "sent_after_failed": [[status("failed", 1, errors=[UNDELIVERABLE])], [status("sent")]],
    "delivered_after_failed": [[status("failed", 1, errors=[UNDELIVERABLE])], [status("delivered", 2)]],
    "failed_after_read": [[status("read", 1)], [status("failed", 2, errors=[UNDELIVERABLE])]],
    "twice": [[status("sent"), status("sent")], [status("sent"), status("delivered", 1)], [status("delivered", 1)]],
    "of_an_unknown_message": [[status("delivered", wamid="wamid.of-somebody-else")]],
}
