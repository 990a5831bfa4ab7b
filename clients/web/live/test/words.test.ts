import assert from "node:assert/strict";
import { test } from "node:test";
import { create } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { ChannelSchema, ChannelState } from "@contract/switchboard/v1/channel_pb";
import { ReplyWindowSchema, ReplyWindowState } from "@contract/switchboard/v1/conversation_pb";
import { AttachmentKind, AttachmentSchema, AttachmentState, Forwarding, MessageSchema, MessageType } from "@contract/switchboard/v1/message_pb";
import { channelSentence, fileText, hue, initials, isPicture, messageNote, messageText, sizeText, windowState } from "../src/words";

test("what a message carries beside text is read as text, and nothing of it as markup", () => {
  const place = create(MessageSchema, { type: MessageType.LOCATION, location: { latitude: 52.52, longitude: 13, name: "Park" } });
  assert.equal(messageText(place), "[place] Park (52.52000, 13.00000)");
  const card = create(MessageSchema, { contacts: { contacts: [{ name: { formattedName: "Ana" }, phones: [{ phone: "+55 1" }] }] } });
  assert.equal(messageText(card), "[card] Ana, +55 1");
  const order = create(MessageSchema, { text: { body: "soon please" }, order: { items: [{ productRetailerId: "p1", quantity: 2n, unitPrice: "3.5", currency: "EUR" }] } });
  assert.equal(messageText(order), "soon please\n[order] 2 × p1 3.5 EUR");
  assert.equal(messageText(create(MessageSchema, { unsupported: { reason: "Open the phone." } })), "Open the phone.");
  assert.equal(messageText(create(MessageSchema, { type: MessageType.AUDIO })), "[audio]");
  assert.match(messageText(create(MessageSchema, { deleteTime: timestampFromMs(1), type: MessageType.TEXT })), /took this message back/);
});

test("a file says what it is called, how large it is, and why it is not here", () => {
  assert.deepEqual([0n, 1023n, 1434n, 10_240n, 24_117_248n].map(sizeText), ["0 B", "1023 B", "1.4 KB", "10 KB", "23 MB"]);
  const file = { kind: AttachmentKind.IMAGE, sizeBytes: 1434n, storedMimeType: "image/png", state: AttachmentState.STORED };
  const stored = create(AttachmentSchema, file);
  assert.equal(fileText(stored), "image · 1.4 KB");
  assert.equal(fileText(create(AttachmentSchema, { ...file, fileName: "a.png", state: AttachmentState.FETCHING })), "a.png · 1.4 KB · on its way");
  const failed = create(AttachmentSchema, { kind: AttachmentKind.VIDEO, state: AttachmentState.FAILED, error: "131052" });
  assert.equal(fileText(failed), "video · did not come (131052)");
  assert.equal(isPicture(stored), true);
  assert.equal(isPicture(create(AttachmentSchema, { mimeType: "image/png", storedMimeType: "image/svg+xml" })), false);
});

test("reactions and what became of a message stand below it", () => {
  const message = create(MessageSchema, {
    reactions: [{ emoji: "👍" }, { emoji: "❤️" }],
    forwarding: Forwarding.OFTEN,
    replyToMessageId: "x",
    editTime: timestampFromMs(1),
    referral: { sourceType: "ad", headline: "Chat" },
  });
  assert.equal(messageNote(message), "👍 ❤️ · forwarded many times · quotes another message · came by ad: Chat · edited");
  assert.equal(messageNote(create(MessageSchema, {})), "");
});

test("a channel that sends nothing says why, and one that sends says nothing", () => {
  const paused = create(ChannelSchema, { state: ChannelState.PAUSED, stateReason: "190: the token ended" });
  assert.match(channelSentence(paused), /paused \(190: the token ended\): nothing can be sent/);
  assert.match(channelSentence(create(ChannelSchema, { state: ChannelState.BLOCKED })), /is blocked: nothing can be sent/);
  assert.match(channelSentence(create(ChannelSchema, { state: ChannelState.DISCONNECTED })), /was disconnected/);
  assert.equal(channelSentence(create(ChannelSchema, { state: ChannelState.ACTIVE })), "");
  assert.equal(channelSentence(undefined), "");
});

test("initials are those of the first and last word, and # for a number", () => {
  assert.equal(initials("Ada King Lovelace"), "AL");
  assert.equal(initials("élodie"), "É");
  assert.equal(initials("+49 170 1234567"), "#");
  assert.equal(initials(""), "#");
});

test("the colour of a picture stays with the id", () => {
  assert.equal(hue("0192f0c1"), hue("0192f0c1"));
  assert.ok(hue("anything") < 6);
});

test("the reply window closes by the clock, not by the row", () => {
  const expires = 10_000_000;
  const window = create(ReplyWindowSchema, { state: ReplyWindowState.OPEN, expireTime: timestampFromMs(expires) });
  assert.equal(windowState(window, new Date(expires - 7_200_001)), ReplyWindowState.OPEN);
  assert.equal(windowState(window, new Date(expires - 7_200_000)), ReplyWindowState.CLOSING);
  assert.equal(windowState(window, new Date(expires)), ReplyWindowState.CLOSED);
  assert.equal(windowState(undefined, new Date(0)), ReplyWindowState.NONE);
});
