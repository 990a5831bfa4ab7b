"""What an erasure does, in order; the number of a step is stored."""

from __future__ import annotations

# Webhooks come before messages, whose ids tell of what a webhook is; the log after whoever counts it; rows last, with what says that it
# is done.
STEPS = ("sends", "webhooks", "items", "messages", "quarantine", "followers", "events", "rows")
