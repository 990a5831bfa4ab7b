"""Nobody adds a table without saying what becomes of it when a contact is erased."""

from __future__ import annotations

from server.models.base import TenantBase
from server.models.tenant import Contact

GONE = "rows of the contact are deleted"
CASCADE = "goes with the row that it belongs to"
OURS = "tells nothing of customers"
# What happens to the rows of each table; the canary of test_erasures_stack.py is looked for in all of them.
BECOMES = {
    **dict.fromkeys(
        (
            *(
                "contacts",
                "identities",
                "identity_aliases",
                "identity_conflicts",
                "marketing_consents",
                "contact_merges",
                "recipient_buckets",
            ),
            *("conversations", "conversation_notes", "conversation_words", "conversation_assignments"),
            *("messages", "message_parts", "message_attachments", "message_status_updates", "deliveries"),
            *("journal_items", "parked_receipts", "idempotent_requests", "timers"),
        ),
        GONE,
    ),
    **dict.fromkeys(
        (
            *("contact_keys", "conversation_attribute_keys", "conversation_participants", "conversation_tags"),
            *("marks", "sent_reactions", "read_positions", "media_fetches", "provider_media"),
        ),
        CASCADE,
    ),
    **dict.fromkeys(
        (
            *("agents", "agent_loads", "roles", "teams", "team_members", "channel_members", "invites", "channels"),
            *(
                "assignment_policies",
                "assignment_queue",
                "assignment_turns",
                "attribute_definitions",
                "tenant_settings",
            ),
            *("audit_entries", "audit_head", "audit_pending", "consumers", "stream_head", "tags", "templates"),
            *("statistics_buckets", "statistics_starts", "conversation_counts", "traces", "unread_texts"),
        ),
        OURS,
    ),
    "media": "goes with the last message that has it, and a day after it was brought where none has",
    "counted_conversations": "forgotten with conversation_purged",
    "erasures": "says that it was done; its addresses are emptied",
    "erased_keys": "hashes, for 30 days",
    "media_leavings": "the files of what was deleted, until they are deleted from the store",
    "journal": "what is about the contact is taken out of the body",
    "stream_event": "what is about the contact is replaced by a mark",
}


def test_every_table_says_what_becomes_of_it() -> None:
    assert Contact.metadata is TenantBase.metadata
    assert set(TenantBase.metadata.tables) == set(BECOMES)
