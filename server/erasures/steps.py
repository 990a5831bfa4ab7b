"""What an erasure does, in order; the number of a step is stored."""

from __future__ import annotations

# Webhooks come before messages, whose ids tell of what a webhook is; the log after the conversations, of which nothing can be told any
# more by then, and after whoever counts it; the contact last, with what says that it is done.
STEPS = (
    "sends",
    "webhooks",
    "items",
    "messages",
    "files",
    "conversations",
    "quarantine",
    "followers",
    "events",
    "contact",
)
