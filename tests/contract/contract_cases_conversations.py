"""One success and one refusal of every method about conversations and what is in them."""

from contract_case import Case
from contract_requests import (
    deleted,
    nested,
    note_of,
    of_now,
    of_sample,
    of_yesterday,
    participant,
    sample_update,
    snooze,
    tagged,
)
from contract_world import PNG, digits, nonce, unknown
from google.protobuf import duration_pb2
from switchboard.v1 import conversation_filter_pb2 as filters
from switchboard.v1 import conversation_pb2, delivery_pb2, event_pb2
from switchboard.v1 import conversation_service_pb2 as conversations
from switchboard.v1 import delivery_service_pb2 as deliveries
from switchboard.v1 import inbox_service_pb2 as inbox
from switchboard.v1 import media_service_pb2 as media
from switchboard.v1 import message_service_pb2 as messages
from switchboard.v1 import tag_service_pb2 as tags

CONVERSATIONS: dict[str, Case] = {
    "ListConversations": Case(
        ask=lambda w: conversations.ListConversationsRequest(filter=of_sample(w), page_size=10),
        refuse=lambda w: conversations.ListConversationsRequest(page_size=-1),
        reason="INVALID_FIELDS",
    ),
    "CountConversations": Case(
        ask=lambda w: conversations.CountConversationsRequest(filter=nested(3)),
        refuse=lambda w: conversations.CountConversationsRequest(filter=nested(4)),
        reason="INVALID_FIELDS",
    ),
    "GetConversation": Case(
        ask=lambda w: conversations.GetConversationRequest(conversation_id=w.sample.id),
        refuse=lambda w: conversations.GetConversationRequest(conversation_id=w.foreign_sample.id),
        reason="RESOURCE_NOT_FOUND",
        caller="agent",
    ),
    "CreateConversation": Case(
        ask=lambda w: conversations.CreateConversationRequest(
            channel_id=w.channel_id, phone_number=f"+49151{digits(8)}", subject="A subject"
        ),
        refuse=lambda w: conversations.CreateConversationRequest(channel_id=w.channel_id, identity_id=unknown()),
        reason="RESOURCE_NOT_FOUND",
        caller="supervisor",
    ),
    "UpdateConversation": Case(
        ask=sample_update,
        refuse=lambda w: conversations.UpdateConversationRequest(conversation_id=w.archived.id, subject="A subject"),
        reason="CONVERSATION_ARCHIVED",
    ),
    "DeleteConversation": Case(
        ask=lambda w: conversations.DeleteConversationRequest(conversation_id=w.conversation().id),
        refuse=lambda w: conversations.DeleteConversationRequest(conversation_id=w.sample.id),
        reason="PERMISSION_MISSING",
        caller="owner",
        refused="agent",
    ),
    "RestoreConversation": Case(
        ask=lambda w: conversations.RestoreConversationRequest(conversation_id=deleted(w)),
        refuse=lambda w: conversations.RestoreConversationRequest(conversation_id=unknown()),
        reason="RESOURCE_NOT_FOUND",
        caller="admin",
    ),
    "UpdateConversationStatus": Case(
        ask=snooze,
        refuse=lambda w: conversations.UpdateConversationStatusRequest(
            conversation_id=w.archived.id, status=conversation_pb2.CONVERSATION_STATUS_PENDING
        ),
        reason="ILLEGAL_STATUS_MOVE",
        caller="supervisor",
    ),
    "MarkConversationRead": Case(
        ask=lambda w: conversations.MarkConversationReadRequest(conversation_id=w.conversation().id),
        refuse=lambda w: conversations.MarkConversationReadRequest(
            conversation_id=w.sample.id, message_id=w.archived.last_message_id
        ),
        reason="RESOURCE_NOT_FOUND",
        caller="owner",
    ),
    "GetConversationParticipants": Case(
        ask=lambda w: conversations.GetConversationParticipantsRequest(conversation_id=w.sample.id),
        refuse=lambda w: conversations.GetConversationParticipantsRequest(conversation_id=w.foreign_sample.id),
        reason="RESOURCE_NOT_FOUND",
        caller="agent",
    ),
    "AddConversationParticipant": Case(
        ask=lambda w: conversations.AddConversationParticipantRequest(
            conversation_id=w.conversation().id, agent_id=w.agents["agent"]
        ),
        refuse=lambda w: conversations.AddConversationParticipantRequest(
            conversation_id=w.sample.id, agent_id=unknown()
        ),
        reason="RESOURCE_NOT_FOUND",
        caller="supervisor",
    ),
    "RemoveConversationParticipant": Case(
        ask=participant,
        refuse=lambda w: conversations.RemoveConversationParticipantRequest(
            conversation_id=w.archived.id, agent_id=w.agents["agent"]
        ),
        reason="CONVERSATION_ARCHIVED",
    ),
    "GetConversationThread": Case(
        ask=lambda w: conversations.GetConversationThreadRequest(conversation_id=w.sample.id),
        refuse=lambda w: conversations.GetConversationThreadRequest(conversation_id=unknown()),
        reason="RESOURCE_NOT_FOUND",
        caller="agent",
    ),
    "AddConversationNote": Case(
        ask=lambda w: conversations.AddConversationNoteRequest(
            conversation_id=w.conversation().id, text="A note with ümlauts, 漢字 and \u202e", pinned=True
        ),
        refuse=lambda w: conversations.AddConversationNoteRequest(conversation_id=w.sample.id, text=""),
        reason="INVALID_FIELDS",
        caller="owner",
    ),
    "ListConversationNotes": Case(
        ask=lambda w: conversations.ListConversationNotesRequest(conversation_id=w.sample.id),
        refuse=lambda w: conversations.ListConversationNotesRequest(conversation_id=w.sample.id, page_token="x"),
        reason="PAGE_TOKEN_INVALID",
    ),
    "UpdateConversationNote": Case(
        ask=lambda w: conversations.UpdateConversationNoteRequest(**note_of(w), text="Another text", pinned=True),
        refuse=lambda w: conversations.UpdateConversationNoteRequest(
            conversation_id=w.sample.id, note_id=unknown(), pinned=True
        ),
        reason="RESOURCE_NOT_FOUND",
    ),
    "DeleteConversationNote": Case(
        ask=lambda w: conversations.DeleteConversationNoteRequest(**note_of(w)),
        refuse=lambda w: conversations.DeleteConversationNoteRequest(
            conversation_id=w.archived.id, note_id=w.sample_note
        ),
        reason="CONVERSATION_ARCHIVED",
    ),
    "AddConversationTags": Case(
        ask=lambda w: conversations.AddConversationTagsRequest(
            conversation_id=w.conversation().id, tags=["vip", "a tag", "Ü"]
        ),
        refuse=lambda w: conversations.AddConversationTagsRequest(conversation_id=w.sample.id),
        reason="INVALID_FIELDS",
    ),
    "RemoveConversationTags": Case(
        ask=lambda w: conversations.RemoveConversationTagsRequest(
            conversation_id=tagged(w), tags=["vip", "late & new"]
        ),
        refuse=lambda w: conversations.RemoveConversationTagsRequest(conversation_id=w.archived.id, tags=["vip"]),
        reason="CONVERSATION_ARCHIVED",
    ),
    "GetConversationStatistics": Case(
        ask=lambda w: conversations.GetConversationStatisticsRequest(
            filter=filters.ConversationFilter(channel_id=[w.channel_id])
        ),
        refuse=lambda w: conversations.GetConversationStatisticsRequest(),
        reason="PERMISSION_MISSING",
        refused="read_only",
    ),
}
MEDIA: dict[str, Case] = {
    "UploadMedia": Case(
        ask=lambda w: media.UploadMediaRequest(content=PNG, file_name=f"{nonce()}.png", request_id=nonce()),
        refuse=lambda w: media.UploadMediaRequest(mime_type="image/png"),
        reason="INVALID_FIELDS",
        caller="agent",
    ),
    "CreateMediaUpload": Case(
        ask=lambda w: media.CreateMediaUploadRequest(file_name=f"{nonce()}.mp4", request_id=nonce()),
        refuse=lambda w: media.CreateMediaUploadRequest(),
        reason="PERMISSION_MISSING",
        caller="agent",
        refused="read_only",
    ),
    "GetMedia": Case(
        ask=lambda w: media.GetMediaRequest(media_id=w.media()),
        refuse=lambda w: media.GetMediaRequest(media_id=w.foreign_media),
        reason="RESOURCE_NOT_FOUND",
    ),
}
MESSAGES: dict[str, Case] = {
    "SendMessage": Case(
        ask=lambda w: messages.SendMessageRequest(
            conversation_id=w.conversation().id, text=messages.SendText(body="Good day"), request_id=nonce()
        ),
        refuse=lambda w: messages.SendMessageRequest(
            conversation_id=w.sample.id, text=messages.SendText(body="x" * 4097), request_id=nonce()
        ),
        reason="PROVIDER_LIMIT",
        caller="owner",
    ),
    "GetMessage": Case(
        ask=lambda w: messages.GetMessageRequest(message_id=w.sent),
        refuse=lambda w: messages.GetMessageRequest(message_id=w.foreign_sample.last_message_id),
        reason="RESOURCE_NOT_FOUND",
    ),
    "RetryAttachment": Case(
        ask=lambda w: messages.RetryAttachmentRequest(message_id=w.lost_file(), request_id=nonce()),
        refuse=lambda w: messages.RetryAttachmentRequest(message_id=w.sent),
        reason="ATTACHMENT_NOT_RETRYABLE",
    ),
    "ListMessages": Case(
        ask=lambda w: messages.ListMessagesRequest(conversation_id=w.sample.id),
        refuse=lambda w: messages.ListMessagesRequest(conversation_id=unknown()),
        reason="RESOURCE_NOT_FOUND",
    ),
    "ReactToMessage": Case(
        ask=lambda w: messages.ReactToMessageRequest(message_id=w.conversation().last_message_id, emoji="👍"),
        refuse=lambda w: messages.ReactToMessageRequest(message_id=w.sample.last_message_id, emoji="yes"),
        reason="INVALID_FIELDS",
    ),
    "SendTypingIndicator": Case(
        ask=lambda w: messages.SendTypingIndicatorRequest(conversation_id=w.conversation().id),
        refuse=lambda w: messages.SendTypingIndicatorRequest(conversation_id=w.archived.id),
        reason="CONVERSATION_ARCHIVED",
    ),
    "ListMessageStatusUpdates": Case(
        ask=lambda w: messages.ListMessageStatusUpdatesRequest(message_id=w.sent),
        refuse=lambda w: messages.ListMessageStatusUpdatesRequest(message_id="not an id"),
        reason="INVALID_FIELDS",
    ),
}
TAGS: dict[str, Case] = {
    "ListTags": Case(
        ask=lambda w: tags.ListTagsRequest(page_size=2),
        refuse=lambda w: tags.ListTagsRequest(page_token="AAAA"),
        reason="PAGE_TOKEN_INVALID",
        caller="read_only",
    ),
    "CreateTag": Case(
        ask=lambda w: tags.CreateTagRequest(name=f"Tag {nonce()}", color="#00FFaa", description="What it is for"),
        refuse=lambda w: tags.CreateTagRequest(name="SAMPLE"),
        reason="RESOURCE_EXISTS",
        caller="supervisor",
    ),
    "UpdateTag": Case(
        ask=lambda w: tags.UpdateTagRequest(tag_id=w.tag(), name=f"Tag {nonce()}", color=""),
        refuse=lambda w: tags.UpdateTagRequest(tag_id=w.tag(), name="sample"),
        reason="RESOURCE_EXISTS",
    ),
    "DeleteTag": Case(
        ask=lambda w: tags.DeleteTagRequest(tag_id=w.tag()),
        refuse=lambda w: tags.DeleteTagRequest(tag_id=w.tag()),
        reason="PERMISSION_MISSING",
        refused="agent",
    ),
}
DELIVERIES: dict[str, Case] = {
    "GetDelivery": Case(
        ask=lambda w: deliveries.GetDeliveryRequest(delivery_id=w.sample_delivery),
        refuse=lambda w: deliveries.GetDeliveryRequest(delivery_id=unknown()),
        reason="RESOURCE_NOT_FOUND",
        caller="agent",
    ),
    "ListDeliveries": Case(
        ask=lambda w: deliveries.ListDeliveriesRequest(
            conversation_id=w.sample.id, state=[delivery_pb2.DELIVERY_STATE_ACCEPTED], page_size=2
        ),
        refuse=lambda w: deliveries.ListDeliveriesRequest(state=[delivery_pb2.DELIVERY_STATE_UNSPECIFIED]),
        reason="INVALID_FIELDS",
    ),
    "RetryDelivery": Case(
        ask=lambda w: deliveries.RetryDeliveryRequest(delivery_id=w.dead_letter()),
        refuse=lambda w: deliveries.RetryDeliveryRequest(delivery_id=w.sample_delivery),
        reason="DELIVERY_NOT_POSSIBLE",
        caller="supervisor",
    ),
    "GiveUpDelivery": Case(
        ask=lambda w: deliveries.GiveUpDeliveryRequest(delivery_id=w.stuck_delivery(), reason="Too late"),
        refuse=lambda w: deliveries.GiveUpDeliveryRequest(delivery_id=w.sample_delivery),
        reason="DELIVERY_NOT_POSSIBLE",
    ),
}
INBOX: dict[str, Case] = {
    "WatchInbox": Case(
        ask=lambda w: inbox.WatchInboxRequest(
            start=inbox.WATCH_START_EARLIEST,
            event_types=[event_pb2.EVENT_TYPE_NOTE_ADDED, event_pb2.EVENT_TYPE_CONVERSATION_STATUS_CHANGED],
            bookmark_interval=duration_pb2.Duration(seconds=20),
        ),
        refuse=lambda w: inbox.WatchInboxRequest(filter=filters.ConversationFilter(tags=["vip"])),
        reason="FILTER_NOT_STREAMABLE",
    ),
    "ListInboxEvents": Case(
        ask=lambda w: inbox.ListInboxEventsRequest(
            start=inbox.WATCH_START_EARLIEST, event_types=[event_pb2.EVENT_TYPE_MESSAGE_STATUS_UPDATED], page_size=2
        ),
        refuse=lambda w: inbox.ListInboxEventsRequest(cursor="not a cursor"),
        reason="CURSOR_INVALID",
    ),
}
STATISTICS: dict[str, Case] = {
    "GetStatistics": Case(
        ask=lambda w: of_yesterday(dimensions=["STATISTICS_DIMENSION_AGENT"], time_zone="Asia/Kathmandu"),
        shown=lambda w: of_now(dimensions=["STATISTICS_DIMENSION_CHANNEL"], time_zone="Europe/Berlin"),
        refuse=lambda w: of_yesterday(dimensions=["STATISTICS_DIMENSION_AGENT", "STATISTICS_DIMENSION_TAG"]),
        reason="EXPORT_NEEDED",
    ),
}
