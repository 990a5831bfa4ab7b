import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { type Conversation, ConversationSchema, ConversationStatus } from "@contract/switchboard/v1/conversation_pb";
import { type InboxEvent, InboxEventSchema } from "@contract/switchboard/v1/event_pb";
import { type WatchInboxResponse, WatchInboxResponseSchema } from "@contract/switchboard/v1/inbox_service_pb";
import { type Message, MessageDirection, MessageSchema, MessageStatus } from "@contract/switchboard/v1/message_pb";

/** A list row. `minute` is when its newest message was written. */
export function row(id: string, version: number, minute = 0, more: MessageInitShape<typeof ConversationSchema> = {}): Conversation {
  return create(ConversationSchema, {
    id,
    version: BigInt(version),
    status: ConversationStatus.OPEN,
    lastMessageTime: timestampFromMs(minute * 60_000),
    ...more,
  });
}

/** An outbound message of conversation "a". */
export function message(id: string, sequence: number, status = MessageStatus.PENDING): Message {
  const direction = MessageDirection.OUTBOUND;
  return create(MessageSchema, { id, conversationId: "a", sequence: BigInt(sequence), status, direction, text: { body: id } });
}

export function event(body: InboxEvent["body"], more: MessageInitShape<typeof InboxEventSchema> = {}): InboxEvent {
  return create(InboxEventSchema, { conversationId: "a", body, ...more });
}

/** One item of a stream. */
export function item(control: WatchInboxResponse["control"], events: InboxEvent[] = []): WatchInboxResponse {
  return create(WatchInboxResponseSchema, { control, events });
}
