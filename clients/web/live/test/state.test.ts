import assert from "node:assert/strict";
import { test } from "node:test";
import { create } from "@bufbuild/protobuf";
import { ChannelSchema, ChannelState } from "@contract/switchboard/v1/channel_pb";
import {
  ChannelHealthChangedSchema,
  ConversationLeftSchema,
  ConversationUpdatedSchema,
  ContactUpdatedSchema,
  type InboxEvent,
  MessageCreatedSchema,
  MessageStatusUpdatedSchema,
  MessageUpdatedSchema,
  Transition,
} from "@contract/switchboard/v1/event_pb";
import { MessageStatus, TextContentSchema } from "@contract/switchboard/v1/message_pb";
import { applyEvent, applyHistory, applyPage, applyRow, applySnapshot, emptyInbox, inOrder, openThread, ordered } from "../src/state";
import { event, message, row } from "./build";

function updated(version: number, subject: string, minute = 0): InboxEvent {
  const value = create(ConversationUpdatedSchema, { conversation: row("a", version, minute, { subject }) });
  return event({ case: "conversationUpdated", value }, { conversationVersion: BigInt(version) });
}

function created(id: string, sequence: number): InboxEvent {
  const value = create(MessageCreatedSchema, { message: message(id, sequence), conversation: row("a", sequence) });
  return event({ case: "messageCreated", value }, { conversationVersion: BigInt(sequence) });
}

function step(messageId: string, status: MessageStatus, error?: string): InboxEvent {
  const statusUpdate = error ? { error: { code: "131047", message: error } } : {};
  const value = create(MessageStatusUpdatedSchema, { messageId, conversationId: "a", status, statusUpdate });
  return event({ case: "messageStatusUpdated", value });
}

function left(version: number): InboxEvent {
  const value = create(ConversationLeftSchema, { conversationId: "a" });
  return event({ case: "conversationLeft", value }, { conversationVersion: BigInt(version), transition: Transition.LEFT });
}

test("the list is ordered by the newest message, and an event moves a row up", () => {
  const inbox = emptyInbox();
  applySnapshot(inbox, [row("a", 1, 1), row("b", 1, 2)], "");
  assert.deepEqual(ordered(inbox).map((each) => each.id), ["b", "a"]);
  applyEvent(inbox, updated(2, "", 3));
  assert.deepEqual(ordered(inbox).map((each) => each.id), ["a", "b"]);
});

test("how a channel does is as its newest event says, until all is read anew", () => {
  const inbox = emptyInbox();
  const channel = create(ChannelSchema, { id: "c", state: ChannelState.PAUSED });
  applyEvent(inbox, event({ case: "channelHealthChanged", value: create(ChannelHealthChangedSchema, { channel }) }));
  assert.equal(inbox.channels.get("c")?.state, ChannelState.PAUSED);
  applySnapshot(inbox, [], "");
  assert.equal(inbox.channels.size, 0);
});

test("an event older than the row that is held changes nothing", () => {
  const inbox = emptyInbox();
  applySnapshot(inbox, [row("a", 5, 0, { subject: "new" })], "");
  applyEvent(inbox, updated(4, "old"));
  assert.equal(inbox.rows.get("a")?.subject, "new");
  applyEvent(inbox, updated(6, "newest"));
  assert.equal(inbox.rows.get("a")?.subject, "newest");
});

test("a message that was read anew says what it says now, where it stood", () => {
  const inbox = emptyInbox();
  const thread = openThread(inbox, "a");
  applyEvent(inbox, created("m1", 1));
  applyEvent(inbox, created("m2", 2));
  const anew = message("m1", 1);
  anew.text = create(TextContentSchema, { body: "read anew" });
  const value = create(MessageUpdatedSchema, { message: anew, conversation: row("a", 3), changedFields: ["text"] });
  applyEvent(inbox, event({ case: "messageUpdated", value }, { conversationVersion: 3n }));
  assert.deepEqual(inOrder(thread).map((each) => each.id), ["m1", "m2"]);
  assert.equal(inOrder(thread)[0]?.text?.body, "read anew");
});

test("a message that turns out to be another one is not shown twice", () => {
  const inbox = emptyInbox();
  const thread = openThread(inbox, "a");
  applyEvent(inbox, created("m1", 1));
  applyEvent(inbox, created("m2", 2));
  const same = message("m2", 2);
  same.sameAsMessageId = "m1";
  const value = create(MessageUpdatedSchema, { message: same, conversation: row("a", 3), changedFields: ["same_as_message_id"] });
  applyEvent(inbox, event({ case: "messageUpdated", value }, { conversationVersion: 3n }));
  assert.deepEqual(inOrder(thread).map((each) => each.id), ["m1"]);
});

test("a page of the list that is older than the stream changes nothing", () => {
  const inbox = emptyInbox();
  applySnapshot(inbox, [], "more");
  applyEvent(inbox, updated(7, "live"));
  applyPage(inbox, [row("a", 6, 0, { subject: "stale" }), row("b", 1)], "");
  assert.equal(inbox.rows.get("a")?.subject, "live");
  assert.equal(inbox.rows.size, 2);
});

test("a conversation that left is gone with its thread and comes back only with a later version", () => {
  const inbox = emptyInbox();
  applySnapshot(inbox, [row("a", 3)], "");
  openThread(inbox, "a");
  applyEvent(inbox, left(4));
  applyRow(inbox, row("a", 4));
  assert.equal(inbox.rows.size + inbox.threads.size, 0);
  applyEvent(inbox, event(updated(5, "back").body, { transition: Transition.ENTERED, conversationVersion: 5n }));
  assert.equal(inbox.rows.get("a")?.subject, "back");
});

test("a message that comes by stream, by answer and by history is there once", () => {
  const inbox = emptyInbox();
  const thread = openThread(inbox, "a");
  applyEvent(inbox, created("two", 2));
  applyEvent(inbox, created("two", 2));
  applyHistory(thread, [message("two", 2), message("one", 1)], "");
  assert.deepEqual(inOrder(thread).map((each) => each.id), ["one", "two"]);
});

test("ticks move forward only, whatever order they come in", () => {
  const inbox = emptyInbox();
  const thread = openThread(inbox, "a");
  applyEvent(inbox, created("m", 1));
  for (const status of [MessageStatus.DELIVERED, MessageStatus.SENT, MessageStatus.READ, MessageStatus.FAILED]) {
    applyEvent(inbox, step("m", status));
  }
  assert.equal(thread.messages.get("m")?.status, MessageStatus.READ);
});

test("failed takes the place of sent and gives way to delivered, with its reason", () => {
  const inbox = emptyInbox();
  const thread = openThread(inbox, "a");
  applyHistory(thread, [message("m", 1, MessageStatus.SENT)], "");
  applyEvent(inbox, step("m", MessageStatus.FAILED, "window closed"));
  assert.equal(thread.messages.get("m")?.error?.message, "window closed");
  applyEvent(inbox, step("m", MessageStatus.DELIVERED));
  assert.equal(thread.messages.get("m")?.status, MessageStatus.DELIVERED);
  assert.equal(thread.messages.get("m")?.error, undefined);
});

test("a step that overtakes the history that carries its message is not lost", () => {
  const inbox = emptyInbox();
  const thread = openThread(inbox, "a");
  applyEvent(inbox, step("m", MessageStatus.READ));
  applyHistory(thread, [message("m", 1, MessageStatus.SENT)], "");
  assert.equal(thread.messages.get("m")?.status, MessageStatus.READ);
});

test("a contact's new name reaches every row of the contact", () => {
  const inbox = emptyInbox();
  applySnapshot(inbox, [row("a", 1, 0, { contact: { id: "c", name: "4917" } })], "");
  const value = create(ContactUpdatedSchema, { contact: { id: "c", name: "Ada" } });
  applyEvent(inbox, event({ case: "contactUpdated", value }));
  assert.equal(inbox.rows.get("a")?.contact?.name, "Ada");
});
