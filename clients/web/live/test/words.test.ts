import assert from "node:assert/strict";
import { test } from "node:test";
import { create } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { ReplyWindowSchema, ReplyWindowState } from "@contract/switchboard/v1/conversation_pb";
import { hue, initials, windowState } from "../src/words";

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
