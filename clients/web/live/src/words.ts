import { timestampDate } from "@bufbuild/protobuf/wkt";
import type { Timestamp } from "@bufbuild/protobuf/wkt";
import { type Channel, ChannelState } from "@contract/switchboard/v1/channel_pb";
import { type Conversation, ConversationStatus, type ReplyWindow, ReplyWindowState } from "@contract/switchboard/v1/conversation_pb";
import { type Attachment, AttachmentKind, AttachmentState, Forwarding, type Message, MessageStatus, MessageType } from "@contract/switchboard/v1/message_pb";

const CLOSING = 2 * 60 * 60 * 1000;
const DAY = 24 * 60 * 60 * 1000;

/** The lower-case word of an enum value, such as "round robin". */
export function word(names: Record<number, string>, value: number): string {
  return (names[value] ?? "unknown").toLowerCase().replaceAll("_", " ");
}

export function statusWord(status: ConversationStatus): string {
  return word(ConversationStatus, status);
}

export function tickWord(status: MessageStatus): string {
  return word(MessageStatus, status);
}

/** First letters of the first and last word; "#" for a name without letters, such as a phone number. */
export function initials(name: string): string {
  const words = name.split(/\s+/u).filter((part) => /^\p{L}/u.test(part));
  const first = words[0]?.match(/\p{L}/u)?.[0] ?? "#";
  const last = words.length > 1 ? (words.at(-1)?.match(/\p{L}/u)?.[0] ?? "") : "";
  return (first + last).toLocaleUpperCase();
}

/** A number from 0 to 5 that stays with the id: the colour of its picture. */
export function hue(id: string): number {
  let sum = 0;
  for (const character of id) sum = (sum * 31 + character.charCodeAt(0)) % 6007;
  return sum % 6;
}

const UNITS = ["B", "KB", "MB", "GB"];

/** A number of bytes for people: 17 B, 1.4 KB, 23 MB. */
export function sizeText(bytes: bigint): string {
  let value = Number(bytes);
  let unit = 0;
  while (value >= 1024 && unit < UNITS.length - 1) {
    value /= 1024;
    unit += 1;
  }
  return `${unit > 0 && value < 10 ? value.toFixed(1) : Math.floor(value)} ${UNITS[unit]}`;
}

/** What a file is called, and how large it is or why it is not here. */
export function fileText(file: Attachment): string {
  const name = file.fileName ?? word(AttachmentKind, file.kind);
  const size = file.sizeBytes === undefined ? "" : ` · ${sizeText(file.sizeBytes)}`;
  if (file.state === AttachmentState.STORED) return name + size;
  if (file.state === AttachmentState.FETCHING) return `${name}${size} · on its way`;
  return `${name}${size} · did not come${file.error ? ` (${file.error})` : ""}`;
}

/** Whether a browser shows it as a picture: by its content, whatever was told. */
export function isPicture(file: Attachment): boolean {
  return PICTURES.has(file.storedMimeType ?? "");
}

const PICTURES = new Set(["image/jpeg", "image/png", "image/gif", "image/webp"]);

/** What a message says; for other types than text what it is. */
export function messageText(message: Message): string {
  if (message.deleteTime) return "The customer took this message back.";
  const carried = carriedText(message);
  if (message.text) return carried ? `${message.text.body}\n${carried}` : message.text.body;
  if (carried) return carried;
  const file = message.attachments[0]?.fileName;
  return `[${word(MessageType, message.type)}]${file ? ` ${file}` : ""}`;
}

function carriedText(message: Message): string {
  const { location, contacts, order, unsupported } = message;
  if (location) {
    const place = [location.name, location.address].filter(Boolean).join(", ");
    const degrees = `${location.latitude.toFixed(5)}, ${location.longitude.toFixed(5)}`;
    return place ? `[place] ${place} (${degrees})` : `[place] ${degrees}`;
  }
  if (contacts) return contacts.contacts.map((card) => `[card] ${[card.name?.formattedName, ...card.phones.map((each) => each.phone)].join(", ")}`).join("\n");
  if (order) return order.items.map((item) => `[order] ${item.quantity} × ${item.productRetailerId} ${item.unitPrice ?? ""} ${item.currency ?? ""}`.trim()).join("\n");
  if (unsupported) return unsupported.reason;
  return message.interactive?.formResponse ? `[form] ${message.interactive.formResponse}` : "";
}

/** What stands below a message: what people put on it, and what became of it. */
export function messageNote(message: Message): string {
  const reactions = message.reactions.map((each) => each.emoji).join(" ");
  const passed = message.forwarding === Forwarding.OFTEN ? "forwarded many times" : "forwarded";
  const notes = [
    reactions,
    message.forwarding ? passed : "",
    message.replyToMessageId ? "quotes another message" : "",
    message.referral ? `came by ${message.referral.sourceType ?? "a link"}: ${message.referral.headline ?? message.referral.sourceId ?? ""}` : "",
    message.editTime ? "edited" : "",
  ];
  return notes.filter(Boolean).join(" · ");
}

/** Time today, else the date: for the list. */
export function shortTime(time: Timestamp | undefined, now: Date): string {
  if (!time) return "";
  const date = timestampDate(time);
  if (date.toDateString() === now.toDateString()) return clock(date);
  if (now.getTime() - date.getTime() < 6 * DAY) return date.toLocaleDateString([], { weekday: "short" });
  return date.toLocaleDateString([], { day: "numeric", month: "short" });
}

export function clock(date: Date): string {
  return date.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
}

/** Heading of a day in a thread. */
export function dayName(date: Date, now: Date): string {
  if (date.toDateString() === now.toDateString()) return "Today";
  if (new Date(now.getTime() - DAY).toDateString() === date.toDateString()) return "Yesterday";
  return date.toLocaleDateString([], { weekday: "long", day: "numeric", month: "long", year: "numeric" });
}

/** The state of a reply window now: the one in the row is as old as the row. */
export function windowState(window: ReplyWindow | undefined, now: Date): ReplyWindowState {
  if (!window?.expireTime) return window?.state ?? ReplyWindowState.NONE;
  const left = timestampDate(window.expireTime).getTime() - now.getTime();
  if (left <= 0) return ReplyWindowState.CLOSED;
  return left <= CLOSING ? ReplyWindowState.CLOSING : ReplyWindowState.OPEN;
}

/** Why nothing is sent on a channel; empty while it sends, and where nobody told. */
export function channelSentence(channel: Channel | undefined): string {
  if (channel?.state === ChannelState.DISCONNECTED) return "This channel was disconnected: nothing can be sent any more.";
  if (channel?.state !== ChannelState.PAUSED && channel?.state !== ChannelState.BLOCKED) return "";
  const word = channel.state === ChannelState.PAUSED ? "paused" : "blocked";
  const reason = channel.stateReason ? ` (${channel.stateReason})` : "";
  return `This channel is ${word}${reason}: nothing can be sent until an administrator has put it right.`;
}

/** One sentence on the reply window; empty when there is nothing to mind. */
export function windowSentence(row: Conversation, now: Date): string {
  const state = windowState(row.replyWindow, now);
  if (state === ReplyWindowState.CLOSED) {
    return "The reply window is closed: free text cannot be sent until the customer writes again.";
  }
  if (state !== ReplyWindowState.CLOSING || !row.replyWindow?.expireTime) return "";
  return `The reply window closes at ${clock(timestampDate(row.replyWindow.expireTime))}.`;
}
