import { timestampMs } from "@bufbuild/protobuf/wkt";
import type { Channel } from "@contract/switchboard/v1/channel_pb";
import type { Conversation } from "@contract/switchboard/v1/conversation_pb";
import { type InboxEvent, type MessageStatusUpdated, Transition } from "@contract/switchboard/v1/event_pb";
import { type Message, MessageStatus } from "@contract/switchboard/v1/message_pb";

/** The messages of one conversation, as far as they were asked for. */
export interface Thread {
  readonly messages: Map<string, Message>;
  /** Furthest step told for a message by the stream, also when the message itself has not come yet. */
  readonly steps: Map<string, MessageStatusUpdated>;
  /** Token of the page before the oldest message held; empty: there is none. */
  earlier: string;
  /** Whether the newest page of the history is in. */
  loaded: boolean;
}

/** Everything the page knows of the inbox. Changed in place by the functions below and by nothing else. */
export interface Inbox {
  readonly rows: Map<string, Conversation>;
  readonly threads: Map<string, Thread>;
  /** Channels by id, as far as the caller may see them. */
  readonly channels: Map<string, Channel>;
  /** Versions at which conversations went away, so that an answer on its way cannot bring them back. */
  readonly gone: Map<string, bigint>;
  /** Token of the next page of the list; empty: the list is whole. */
  more: string;
  /** Whether the list was read at least once. */
  listed: boolean;
}

export function emptyInbox(): Inbox {
  return { rows: new Map(), threads: new Map(), channels: new Map(), gone: new Map(), more: "", listed: false };
}

/** The list read anew: what was held before is forgotten, threads too, because the log behind them may be another one. */
export function applySnapshot(inbox: Inbox, rows: readonly Conversation[], more: string): void {
  inbox.rows.clear();
  inbox.threads.clear();
  inbox.channels.clear();
  inbox.gone.clear();
  applyPage(inbox, rows, more);
  inbox.listed = true;
}

/** A further page of the list. It may be older or newer than what the stream told meanwhile. */
export function applyPage(inbox: Inbox, rows: readonly Conversation[], more: string): void {
  for (const row of rows) applyRow(inbox, row);
  inbox.more = more;
}

/** Takes a list row unless a later version is held. The same version is taken: notices and new names do not raise it. */
export function applyRow(inbox: Inbox, row: Conversation): void {
  const held = inbox.rows.get(row.id)?.version ?? inbox.gone.get(row.id) ?? -1n;
  if (held > row.version || inbox.gone.get(row.id) === row.version) return;
  if (row.deleteTime) forget(inbox, row.id, row.version);
  else {
    inbox.gone.delete(row.id);
    inbox.rows.set(row.id, row);
  }
}

/** Applies one event of the stream. Applying an event twice, or one that the list already shows, changes nothing. */
export function applyEvent(inbox: Inbox, event: InboxEvent): void {
  const body = event.body;
  if (event.transition === Transition.LEFT || body.case === "conversationLeft") {
    return forget(inbox, event.conversationId ?? "", event.conversationVersion);
  }
  if (body.case === "messageStatusUpdated") return applyStep(inbox, body.value);
  if (body.case === "contactUpdated" && body.value.contact) return rename(inbox, body.value.contact);
  if (body.value && "channel" in body.value && body.value.channel) inbox.channels.set(body.value.channel.id, body.value.channel);
  if (event.transition === Transition.ENTERED) inbox.threads.delete(event.conversationId ?? "");
  const tells = body.case === "messageReceived" || body.case === "messageCreated" || body.case === "messageUpdated";
  if (tells && body.value.message) applyMessage(inbox, body.value.message);
  if (body.value && "conversation" in body.value && body.value.conversation) applyRow(inbox, body.value.conversation);
}

/** A thread that is being opened: from now on the stream fills it, and its history is merged when it comes. */
export function openThread(inbox: Inbox, conversationId: string): Thread {
  const thread: Thread = { messages: new Map(), steps: new Map(), earlier: "", loaded: false };
  inbox.threads.set(conversationId, thread);
  return thread;
}

/** A page of the history. */
export function applyHistory(thread: Thread, messages: readonly Message[], earlier: string): void {
  for (const message of messages) merge(thread, message);
  thread.earlier = earlier;
  thread.loaded = true;
}

/** Adds a message to its thread; a thread that was never opened is read when it is. */
export function applyMessage(inbox: Inbox, message: Message): void {
  const thread = inbox.threads.get(message.conversationId);
  if (thread) merge(thread, message);
}

/** Conversations, newest message first: the order of the list. */
export function ordered(inbox: Inbox): Conversation[] {
  return [...inbox.rows.values()].sort((a, b) => lastTime(b) - lastTime(a) || (a.id < b.id ? 1 : -1));
}

/** Messages of a thread, oldest first. */
export function inOrder(thread: Thread): Message[] {
  return [...thread.messages.values()].sort((a, b) => (a.sequence < b.sequence ? -1 : 1));
}

function lastTime(row: Conversation): number {
  const time = row.lastMessageTime ?? row.createTime;
  return time ? timestampMs(time) : 0;
}

function forget(inbox: Inbox, conversationId: string, version: bigint): void {
  inbox.gone.set(conversationId, version);
  inbox.rows.delete(conversationId);
  inbox.threads.delete(conversationId);
}

function rename(inbox: Inbox, contact: { id: string; name: string }): void {
  for (const row of inbox.rows.values()) {
    if (row.contact?.id === contact.id) row.contact.name = contact.name;
  }
}

/** Steps do not raise the conversation's version, so they go by rank: an answer that was read earlier cannot take a tick back. */
function applyStep(inbox: Inbox, step: MessageStatusUpdated): void {
  const thread = inbox.threads.get(step.conversationId);
  if (!thread) return;
  const before = thread.steps.get(step.messageId);
  if (before && rank(before.status) > rank(step.status)) return;
  thread.steps.set(step.messageId, step);
  const message = thread.messages.get(step.messageId);
  if (message) advance(message, step);
}

function merge(thread: Thread, message: Message): void {
  const held = thread.messages.get(message.id);
  const step = thread.steps.get(message.id);
  // It was told of twice: the other one is shown.
  if (message.sameAsMessageId) return void thread.messages.delete(message.id);
  if (held && rank(held.status) > rank(message.status)) return;
  thread.messages.set(message.id, message);
  if (step) advance(message, step);
}

function advance(message: Message, step: MessageStatusUpdated): void {
  if (rank(step.status) < rank(message.status)) return;
  message.status = step.status;
  const error = step.status === MessageStatus.FAILED ? (step.statusUpdate?.error ?? message.error) : undefined;
  if (error) message.error = error;
  else delete message.error;
}

/** Failed stands below delivered: it gives way to delivered and read, and to nothing else. */
const RANKS = [
  MessageStatus.UNSPECIFIED,
  MessageStatus.PENDING,
  MessageStatus.UNKNOWN,
  MessageStatus.SENT,
  MessageStatus.FAILED,
  MessageStatus.DELIVERED,
  MessageStatus.READ,
];

function rank(status: MessageStatus): number {
  return RANKS.indexOf(status);
}
