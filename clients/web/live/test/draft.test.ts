import assert from "node:assert/strict";
import { test } from "node:test";
import { attemptOf, emptyDraft, randomId } from "../src/draft";

test("the same text keeps its request id until it is through, another text gets another", () => {
  const draft = emptyDraft();
  let made = 0;
  const newId = (): string => `id${++made}`;
  draft.text = "hello";
  assert.equal(attemptOf(draft, newId), "id1");
  assert.equal(attemptOf(draft, newId), "id1");
  draft.text = "hello!";
  assert.equal(attemptOf(draft, newId), "id2");
  draft.attempt = undefined;
  assert.equal(attemptOf(draft, newId), "id3");
});

test("random ids are 32 hexadecimal digits and differ", () => {
  assert.match(randomId(), /^[0-9a-f]{32}$/);
  assert.notEqual(randomId(), randomId());
});
