import { type CallOptions, type Client, createClient, type Interceptor } from "@connectrpc/connect";
import { createGrpcWebTransport } from "@connectrpc/connect-web";
import { AgentService } from "@contract/switchboard/v1/agent_service_pb";
import { AuthService } from "@contract/switchboard/v1/auth_service_pb";
import { ChannelService } from "@contract/switchboard/v1/channel_service_pb";
import { ConversationService } from "@contract/switchboard/v1/conversation_service_pb";
import { InboxService } from "@contract/switchboard/v1/inbox_service_pb";
import { MessageService } from "@contract/switchboard/v1/message_service_pb";

/** The services this page calls. */
export interface Api {
  readonly agents: Client<typeof AgentService>;
  readonly auth: Client<typeof AuthService>;
  readonly channels: Client<typeof ChannelService>;
  readonly conversations: Client<typeof ConversationService>;
  readonly inbox: Client<typeof InboxService>;
  readonly messages: Client<typeof MessageService>;
}

/** Binary grpc-web on the origin the page came from. `token` is asked anew for every call. */
export function connect(token: () => string): Api {
  const authorize: Interceptor = (next) => (request) => {
    if (!request.header.has("authorization")) request.header.set("authorization", `Bearer ${token()}`);
    return next(request);
  };
  const transport = createGrpcWebTransport({
    baseUrl: window.location.origin,
    useBinaryFormat: true,
    defaultTimeoutMs: 15_000,
    interceptors: [authorize],
  });
  return {
    agents: createClient(AgentService, transport),
    auth: createClient(AuthService, transport),
    channels: createClient(ChannelService, transport),
    conversations: createClient(ConversationService, transport),
    inbox: createClient(InboxService, transport),
    messages: createClient(MessageService, transport),
  };
}

/** A stream has no time limit of its own: the watchdog ends it when it falls silent. */
export function endless(signal: AbortSignal): CallOptions {
  return { signal, timeoutMs: 0 };
}
