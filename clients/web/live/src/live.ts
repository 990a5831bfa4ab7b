import { Code } from "@connectrpc/connect";
import { durationMs, timestampDate } from "@bufbuild/protobuf/wkt";
import type { InboxEvent } from "@contract/switchboard/v1/event_pb";
import { type End, EndReason, type Hello, type WatchInboxResponse } from "@contract/switchboard/v1/inbox_service_pb";
import { type Problem, problemOf } from "./problems";

/** What the page says about its stream. */
export type Connection = "live" | "catching up" | "offline";

/** What the loop needs of the world; tests give it another one. */
export interface Ports {
  /** Reads the list into the state and returns its position in the log. */
  list(signal: AbortSignal): Promise<string>;
  watch(cursor: string, signal: AbortSignal): AsyncIterable<WatchInboxResponse>;
  events(events: readonly InboxEvent[]): void;
  connection(state: Connection): void;
  /** The credential ends soon; the stream goes on until then. */
  expiring(deadline: Date | undefined): void;
  /** The credential is not accepted; resolves when there is another one. */
  credential(problem: Problem, signal: AbortSignal): Promise<void>;
  /** An attempt failed; another one follows. */
  failed(problem: Problem): void;
  /** Resolves after the time, or at once when the signal is aborted. */
  sleep(milliseconds: number, signal: AbortSignal): Promise<void>;
  /** From 0 up to 1. */
  random(): number;
}

/** What to do after a stream ended. `wait` in milliseconds. */
type Next =
  | { readonly do: "resume" | "relist"; readonly wait: number; readonly broken: boolean }
  | { readonly do: "credential"; readonly problem: Problem };

const FIRST_ITEM_WITHIN = 10_000;
const LONGEST_WAIT = 30_000;
const RELIST = new Set(["CURSOR_EXPIRED", "CURSOR_DIVERGED", "CURSOR_INVALID", "CURSOR_FOREIGN"]);

/** One stream of the inbox, kept up: list, watch from there, and after whatever ends it resume from the last cursor. */
export class Live {
  private cursor = "";
  private failures = 0;
  private stream: AbortController | undefined;
  private nap: AbortController | undefined;
  private deadline = FIRST_ITEM_WITHIN;

  constructor(private readonly ports: Ports) {}

  /** Runs until the signal is aborted. */
  async run(signal: AbortSignal): Promise<void> {
    this.ports.connection("catching up");
    while (!signal.aborted) {
      const next = await this.once(signal);
      if (!signal.aborted) await this.prepare(next, signal);
    }
  }

  /** There is a new credential: go on with it from the same place. */
  renew(): void {
    this.stream?.abort();
    this.nap?.abort();
  }

  /** The network is back: do not wait for the next attempt. */
  wake(): void {
    this.nap?.abort();
  }

  private async once(signal: AbortSignal): Promise<Next> {
    const stream = new AbortController();
    const stop = (): void => stream.abort();
    signal.addEventListener("abort", stop);
    this.stream = stream;
    const silence = new Watchdog(() => stream.abort(SILENT));
    try {
      if (!this.cursor) this.cursor = await this.ports.list(stream.signal);
      return await this.follow(stream.signal, silence);
    } catch (failure) {
      return this.afterFailure(failure, stream.signal);
    } finally {
      silence.stop();
      signal.removeEventListener("abort", stop);
      // Whatever made us leave: a stream that nobody reads must not stay open.
      stream.abort();
    }
  }

  private async follow(signal: AbortSignal, silence: Watchdog): Promise<Next> {
    this.deadline = FIRST_ITEM_WITHIN;
    silence.expect(this.deadline);
    for await (const item of this.ports.watch(this.cursor, signal)) {
      const next = this.take(item);
      if (next) return next;
      silence.expect(this.deadline);
    }
    // A stream never ends by its status alone: without "end" the connection broke.
    return { do: "resume", wait: 0, broken: true };
  }

  private take(item: WatchInboxResponse): Next | undefined {
    if (item.events.length > 0) {
      this.ports.events(item.events);
      this.cursor = item.events.at(-1)?.cursor || this.cursor;
    }
    const control = item.control;
    if (control.value && "cursor" in control.value) this.cursor = control.value.cursor || this.cursor;
    switch (control.case) {
      case "hello":
        return this.greet(control.value);
      case "caughtUp":
        this.failures = 0;
        this.ports.connection("live");
        return undefined;
      case "reauthRequired":
        this.ports.expiring(control.value.deadline && timestampDate(control.value.deadline));
        return undefined;
      case "scopeChanged":
        // What was lost must go and what was gained must come: the list says both.
        return { do: "relist", wait: 0, broken: false };
      case "goodbye":
        return { do: "resume", wait: milliseconds(control.value.reconnectAfter), broken: false };
      case "end":
        return afterEnd(control.value);
      default:
        return undefined;
    }
  }

  private greet(hello: Hello): undefined {
    this.deadline = 2.5 * (milliseconds(hello.bookmarkInterval) || 10_000);
    this.ports.connection("catching up");
  }

  private afterFailure(failure: unknown, signal: AbortSignal): Next {
    if (signal.aborted && signal.reason !== SILENT) return { do: "resume", wait: 0, broken: false };
    const problem = problemOf(failure);
    if (problem.code === Code.Unauthenticated || problem.code === Code.PermissionDenied) return { do: "credential", problem };
    this.ports.failed(problem);
    const relist = RELIST.has(problem.reason);
    return { do: relist ? "relist" : "resume", wait: problem.retryAfter, broken: !relist };
  }

  private async prepare(next: Next, signal: AbortSignal): Promise<void> {
    this.nap = new AbortController();
    if (next.do === "credential") {
      this.ports.connection("offline");
      return this.ports.credential(next.problem, signal);
    }
    if (next.do === "relist") this.cursor = "";
    this.ports.connection(next.broken ? "offline" : "catching up");
    // An orderly end is resumed at once, but not again and again by a server that never gets as far as "caught up".
    const wait = next.broken || this.failures > 0 ? Math.max(next.wait, this.backoff()) : next.wait;
    this.failures += 1;
    if (wait > 0) await this.ports.sleep(wait, AbortSignal.any([signal, this.nap.signal]));
  }

  /** Full jitter: a thousand pages that lost the same server do not come back in the same moment. */
  private backoff(): number {
    const ceiling = Math.min(LONGEST_WAIT, 250 * 2 ** this.failures);
    return Math.max(50, this.ports.random() * ceiling);
  }
}

const SILENT = new Error("nothing came for 2.5 bookmark intervals");

/** Fires when nothing was heard for longer than expected: a connection can be dead without anybody saying so. */
class Watchdog {
  private timer: ReturnType<typeof setTimeout> | undefined;

  constructor(private readonly bark: () => void) {}

  expect(within: number): void {
    this.stop();
    this.timer = setTimeout(this.bark, within);
  }

  stop(): void {
    clearTimeout(this.timer);
  }
}

function afterEnd(end: End): Next {
  const wait = milliseconds(end.retryAfter);
  switch (end.reason) {
    case EndReason.DRAIN:
    case EndReason.LIFETIME:
    case EndReason.SLOW_CONSUMER:
      return { do: "resume", wait, broken: false };
    case EndReason.CREDENTIAL_EXPIRED:
      return { do: "credential", problem: ended("CREDENTIAL_EXPIRED", "Your access has expired. Paste a new token to go on.") };
    case EndReason.CREDENTIAL_REVOKED:
      return { do: "credential", problem: ended("CREDENTIAL_REVOKED", "Your access was withdrawn.") };
    case EndReason.CURSOR_EXPIRED:
    case EndReason.CURSOR_DIVERGED:
    case EndReason.REFUSED:
      return { do: "relist", wait, broken: end.reason === EndReason.REFUSED };
    default:
      return { do: end.cursor ? "resume" : "relist", wait, broken: true };
  }
}

function ended(reason: string, text: string): Problem {
  return { reason, text, code: Code.Unauthenticated, retryAfter: 0 };
}

function milliseconds(duration: Parameters<typeof durationMs>[0] | undefined): number {
  return duration ? durationMs(duration) : 0;
}
