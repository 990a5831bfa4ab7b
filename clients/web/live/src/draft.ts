import type { Problem } from "./problems";

/** What an agent is about to send in one conversation. */
export interface Draft {
  text: string;
  /** Id of the last attempt and the text it carried. */
  attempt: { readonly requestId: string; readonly text: string } | undefined;
  sending: boolean;
  problem: Problem | undefined;
}

export function emptyDraft(): Draft {
  return { text: "", attempt: undefined, sending: false, problem: undefined };
}

/**
 * The request id to send the draft with. The same text keeps its id until it is through: after an answer that never came,
 * the repeat gets the message that was made the first time. Another text is another message.
 */
export function attemptOf(draft: Draft, newId: () => string): string {
  if (draft.attempt?.text !== draft.text) draft.attempt = { requestId: newId(), text: draft.text };
  return draft.attempt.requestId;
}

/** A random id. `crypto.randomUUID` is missing on pages that came over plain HTTP from another machine. */
export function randomId(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}
