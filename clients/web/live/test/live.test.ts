import assert from "node:assert/strict";
import { test } from "node:test";
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { Code, ConnectError } from "@connectrpc/connect";
import { ErrorInfoSchema } from "@contract/google/rpc/error_details_pb";
import {
  CaughtUpSchema,
  EndReason,
  EndSchema,
  HelloSchema,
  ScopeChangedSchema,
  type WatchInboxResponse,
} from "@contract/switchboard/v1/inbox_service_pb";
import { ConversationCreatedSchema, type InboxEvent } from "@contract/switchboard/v1/event_pb";
import { type Connection, Live, type Ports } from "../src/live";
import { event, item } from "./build";

/** What one call of watch gives: items, then a failure, a silent end, or nothing more for ever. */
interface Script {
  readonly items?: WatchInboxResponse[];
  readonly failure?: ConnectError;
  readonly hangs?: boolean;
}

const hello = item({ case: "hello", value: create(HelloSchema, { cursor: "c0", bookmarkInterval: { nanos: 20_000_000 } }) });
const caughtUp = item({ case: "caughtUp", value: create(CaughtUpSchema, { cursor: "c1" }) });

function end(fields: MessageInitShape<typeof EndSchema>): WatchInboxResponse {
  return item({ case: "end", value: create(EndSchema, fields) });
}

function happening(cursor: string): InboxEvent {
  return event({ case: "conversationCreated", value: create(ConversationCreatedSchema) }, { cursor });
}

function refusal(code: Code, reason: string): ConnectError {
  return new ConnectError("refused", code, undefined, [{ desc: ErrorInfoSchema, value: { reason, domain: "switchboard" } }]);
}

/** Runs the loop over the scripts, one per call of watch, and notes what it did. Ends when the scripts are used up. */
async function play(scripts: Script[]) {
  const stop = new AbortController();
  const seen = { cursors: [] as string[], states: [] as Connection[], waits: [] as number[], events: 0, lists: 0, tokens: 0 };
  const ports: Ports = {
    list: () => Promise.resolve(`list${++seen.lists}`),
    async *watch(cursor, signal) {
      const script = scripts.shift();
      if (!script) return stop.abort();
      seen.cursors.push(cursor);
      yield* script.items ?? [];
      if (script.failure) throw script.failure;
      if (script.hangs) await new Promise((_, reject) => signal.addEventListener("abort", () => reject(new Error("cut"))));
    },
    events: (events) => void (seen.events += events.length),
    connection: (state) => void (seen.states.at(-1) === state || seen.states.push(state)),
    expiring: () => undefined,
    credential: () => Promise.resolve(void seen.tokens++),
    failed: () => undefined,
    sleep: (wait) => Promise.resolve(void seen.waits.push(wait)),
    random: () => 1,
  };
  await new Live(ports).run(stop.signal);
  return seen;
}

test("lists, watches from there, and resumes from the last cursor after a broken connection", async () => {
  const seen = await play([
    { items: [hello, caughtUp, item({ case: undefined }, [happening("c7")])], failure: new ConnectError("gone") },
    { items: [hello, caughtUp] },
  ]);
  assert.deepEqual(seen.cursors, ["list1", "c7"]);
  assert.deepEqual(seen.states.slice(0, 5), ["catching up", "live", "offline", "catching up", "live"]);
  assert.equal(seen.events, 1);
  assert.equal(seen.lists, 1);
});

test("waits twice as long after every failure, at most 30 seconds, and starts anew once it caught up", async () => {
  const failure = new ConnectError("no route", Code.Unavailable);
  const seen = await play([...Array.from({ length: 9 }, () => ({ failure })), { items: [caughtUp], failure }]);
  assert.deepEqual(seen.waits.slice(0, 10), [250, 500, 1000, 2000, 4000, 8000, 16000, 30000, 30000, 250]);
});

test("an orderly end is resumed at once and is not called offline", async () => {
  const seen = await play([{ items: [caughtUp, end({ reason: EndReason.DRAIN, cursor: "c9" })] }, { items: [caughtUp], hangs: false }]);
  assert.deepEqual(seen.cursors, ["list1", "c9"]);
  assert.deepEqual(seen.states.slice(0, 4), ["catching up", "live", "catching up", "live"]);
});

test("lists anew when the cursor is no longer good, told as an error or as an end", async () => {
  const seen = await play([
    { failure: refusal(Code.OutOfRange, "CURSOR_EXPIRED") },
    { items: [caughtUp, end({ reason: EndReason.CURSOR_DIVERGED })] },
    { items: [caughtUp, item({ case: "scopeChanged", value: create(ScopeChangedSchema, { cursor: "c5" }) })] },
    { items: [caughtUp] },
  ]);
  assert.deepEqual(seen.cursors, ["list1", "list2", "list3", "list4"]);
});

test("asks for a token when the credential ended, and goes on from the same place", async () => {
  const seen = await play([
    { items: [caughtUp, end({ reason: EndReason.CREDENTIAL_EXPIRED, cursor: "c3" })] },
    { failure: refusal(Code.Unauthenticated, "CREDENTIAL_REVOKED") },
    { items: [caughtUp] },
  ]);
  assert.equal(seen.tokens, 2);
  assert.deepEqual(seen.cursors, ["list1", "c3", "c3"]);
});

test("a stream that falls silent is cut after 2.5 bookmark intervals and resumed", async () => {
  const before = performance.now();
  const seen = await play([{ items: [hello, caughtUp], hangs: true }, { items: [caughtUp] }]);
  assert.ok(performance.now() - before >= 45);
  assert.deepEqual(seen.cursors, ["list1", "c1"]);
  assert.deepEqual(seen.states.slice(0, 3), ["catching up", "live", "offline"]);
});
