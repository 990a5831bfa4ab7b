import { Code, ConnectError } from "@connectrpc/connect";
import { durationMs } from "@bufbuild/protobuf/wkt";
import { BadRequestSchema, ErrorInfoSchema, RetryInfoSchema } from "@contract/google/rpc/error_details_pb";

/** What went wrong, ready to be shown. `reason` is the contract's, or empty when the server was not reached. */
export interface Problem {
  readonly reason: string;
  readonly text: string;
  readonly code: Code;
  /** Milliseconds the server asked to wait before the next attempt; 0 when it asked for none. */
  readonly retryAfter: number;
}

/** Sentences for the reasons an agent can do something about; for the rest the server's own words are shown. */
const SENTENCES: Record<string, string> = {
  CREDENTIAL_EXPIRED: "Your access has expired. Paste a new token to go on.",
  CREDENTIAL_REVOKED: "Your access was withdrawn.",
  CREDENTIAL_INVALID: "This token is not valid.",
  CREDENTIAL_MISSING: "A token is needed.",
  PERMISSION_MISSING: "You may not do this.",
  RESOURCE_NOT_FOUND: "This conversation is no longer visible to you.",
  CONVERSATION_ARCHIVED: "This conversation is archived: open it before you answer.",
  CONVERSATION_SUPERSEDED: "The customer has a newer conversation: answer there.",
  REPLY_WINDOW_CLOSED: "The reply window is closed: free text cannot be sent until the customer writes again.",
  REPLY_OUTDATED: "Somebody wrote in the meantime: look again before you send.",
  CHANNEL_NOT_SENDING: "The channel does not send at the moment.",
  SERVER_UNAVAILABLE: "No server answers at the moment.",
  DATABASE_UNAVAILABLE: "The server cannot reach its database at the moment.",
  DRAINING: "The server is restarting.",
  TIMEOUT: "The server did not answer in time.",
  RATE_LIMITED: "Too many calls in a short time.",
};

/** Reads any failure of a call: the ErrorInfo of the contract, field violations, or a connection that never stood. */
export function problemOf(failure: unknown): Problem {
  const error = ConnectError.from(failure);
  const info = error.findDetails(ErrorInfoSchema)[0];
  const retry = error.findDetails(RetryInfoSchema)[0]?.retryDelay;
  return {
    reason: info?.reason ?? "",
    text: info ? sentence(error, info.reason) : unreached(error),
    code: error.code,
    retryAfter: retry ? durationMs(retry) : 0,
  };
}

function sentence(error: ConnectError, reason: string): string {
  const fields = error.findDetails(BadRequestSchema).flatMap((request) => request.fieldViolations);
  if (fields.length > 0) return fields.map((field) => `${field.field}: ${field.description}`).join("; ");
  return SENTENCES[reason] ?? error.rawMessage;
}

function unreached(error: ConnectError): string {
  if (error.code === Code.DeadlineExceeded) return "The server did not answer in time.";
  if (error.code === Code.Unauthenticated) return "This token is not valid.";
  return "The server cannot be reached.";
}
