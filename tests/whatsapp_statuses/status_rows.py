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
PRICING = {"billable": False, "pricing_model": "PMP", "type": "free_customer_service", "category": "service"}


def status(word: str, at: int = 0, **more: Any) -> dict[str, Any]:
    """One status; `at` in seconds after the send."""
    return {"status": word, "at": at, **more}


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
