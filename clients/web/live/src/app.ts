import type { GetCallerResponse } from "@contract/switchboard/v1/auth_service_pb";
import { type Attachment, AttachmentState, type Message } from "@contract/switchboard/v1/message_pb";
import { type Api, connect, endless } from "./api";
import { attemptOf, type Draft, emptyDraft, randomId } from "./draft";
import { type Connection, Live } from "./live";
import { type Problem, problemOf } from "./problems";
import * as state from "./state";

const PAGE = 100;
/** Links are good for 10 minutes at least. */
const LINK_LASTS = 9 * 60_000;
const LINK_AGAIN = 30_000;

interface Link {
  readonly url: string;
  readonly until: number;
}

/** Why the page asks for a token although somebody is signed in. */
export interface Renewal {
  readonly text: string;
  /** Whether the stream has ended already. */
  readonly ended: boolean;
}

/** The page without its looks: what is known, and what an agent can do. `changed` is called after every change. */
export class App {
  inbox = state.emptyInbox();
  caller: GetCallerResponse | undefined;
  connection: Connection = "offline";
  selected = "";
  renewal: Renewal | undefined;
  signInProblem: Problem | undefined;
  listProblem: Problem | undefined;
  threadProblem: Problem | undefined;
  readonly agents = new Map<string, string>();
  readonly drafts = new Map<string, Draft>();

  private token = "";
  private readonly api: Api = connect(() => this.token);
  private session: AbortController | undefined;
  private live: Live | undefined;
  private renewed: (() => void) | undefined;
  /** Newest message marked read per conversation, so that each is told once. */
  private readonly marked = new Map<string, string>();

  /** Links to files by the attachment, which end by themselves, and the messages whose links are being asked for. */
  private readonly links = new Map<string, Link>();
  private readonly asked = new Set<string>();

  constructor(private readonly changed: () => void) {}

  /** Tries the token and starts; with the same caller as before it goes on where the stream stood. */
  async signIn(token: string): Promise<void> {
    this.signInProblem = undefined;
    try {
      const headers = { authorization: `Bearer ${token}` };
      const caller = await this.api.auth.getCaller({}, { headers });
      const same = sameCaller(caller, this.caller);
      this.token = token;
      this.renewal = undefined;
      if (same) this.goOn();
      else this.start(caller);
    } catch (failure) {
      this.signInProblem = problemOf(failure);
    }
    this.changed();
  }

  signOut(): void {
    this.session?.abort();
    this.token = "";
    this.caller = this.renewal = this.live = this.session = undefined;
    this.forgetAll();
    this.changed();
  }

  /** Shows a conversation; empty: none. */
  select(conversationId: string): void {
    this.selected = conversationId;
    this.threadProblem = undefined;
    this.update();
  }

  draft(conversationId: string): Draft {
    const draft = this.drafts.get(conversationId) ?? emptyDraft();
    this.drafts.set(conversationId, draft);
    return draft;
  }

  /** Sends the draft of the chosen conversation. A second call while the first is on its way does nothing. */
  async send(): Promise<void> {
    const conversationId = this.selected;
    const draft = this.draft(conversationId);
    if (draft.sending || draft.text.trim() === "") return;
    const text = draft.text;
    draft.sending = true;
    draft.problem = undefined;
    this.changed();
    try {
      const content = { case: "text", value: { body: text } } as const;
      const requestId = attemptOf(draft, randomId);
      const { message } = await this.api.messages.sendMessage({ conversationId, content, requestId });
      if (message) state.applyMessage(this.inbox, message);
      // What was typed while the call was under way stays.
      if (draft.text === text) draft.text = "";
      draft.attempt = undefined;
    } catch (failure) {
      draft.problem = problemOf(failure);
    }
    draft.sending = false;
    this.update();
  }

  async showMore(): Promise<void> {
    await this.guarded(async (signal) => {
      const request = { pageSize: PAGE, pageToken: this.inbox.more };
      const page = await this.api.conversations.listConversations(request, { signal });
      state.applyPage(this.inbox, page.conversations, page.nextPageToken);
    });
  }

  async showEarlier(): Promise<void> {
    const thread = this.inbox.threads.get(this.selected);
    if (thread) await this.readHistory(this.selected, thread);
  }

  /** Where a stored file can be fetched now; "" while that is being asked. */
  linkOf(message: Message, file: Attachment): string {
    if (file.state !== AttachmentState.STORED) return "";
    const known = this.links.get(file.id);
    if (known && known.until > Date.now()) return known.url;
    void this.readLinks(message.id);
    return "";
  }

  /** The network is back. */
  wake(): void {
    this.live?.wake();
  }

  /** After any change: opens the thread on show if it is not, marks it read when somebody looks at it, and shows it all. */
  update(): void {
    if (this.inbox.rows.has(this.selected)) {
      if (!this.inbox.threads.has(this.selected)) {
        void this.readHistory(this.selected, state.openThread(this.inbox, this.selected));
      }
      void this.markRead(this.selected);
    }
    this.changed();
  }

  private start(caller: GetCallerResponse): void {
    this.session?.abort();
    this.forgetAll();
    this.caller = caller;
    this.session = new AbortController();
    this.live = this.makeLive();
    void this.live.run(this.session.signal);
    void this.readAgents(this.session.signal);
  }

  private goOn(): void {
    const waiting = this.renewed;
    this.renewed = undefined;
    if (waiting) waiting();
    else this.live?.renew();
  }

  private forgetAll(): void {
    this.inbox = state.emptyInbox();
    this.selected = "";
    this.connection = "offline";
    this.listProblem = this.threadProblem = this.renewed = undefined;
    for (const held of [this.agents, this.drafts, this.marked, this.links, this.asked]) held.clear();
  }

  private makeLive(): Live {
    return new Live({
      list: (signal) => this.readList(signal),
      watch: (cursor, signal) => this.api.inbox.watchInbox({ cursor }, endless(signal)),
      events: (events) => {
        for (const event of events) state.applyEvent(this.inbox, event);
        this.update();
      },
      connection: (connection) => {
        this.connection = connection;
        if (connection === "live") this.listProblem = undefined;
        // What failed while there was no connection is asked for again.
        this.update();
      },
      expiring: (deadline) => {
        const time = deadline?.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" }) ?? "soon";
        this.renewal = { text: `Your access ends at ${time}. Paste a new token to stay connected.`, ended: false };
        this.changed();
      },
      credential: (problem, signal) => this.waitForToken(problem, signal),
      failed: (problem) => {
        if (!this.inbox.listed) this.listProblem = problem;
        this.changed();
      },
      sleep,
      random: Math.random,
    });
  }

  private async readList(signal: AbortSignal): Promise<string> {
    const answer = await this.api.conversations.listConversations({ pageSize: PAGE }, { signal });
    state.applySnapshot(this.inbox, answer.conversations, answer.nextPageToken);
    void this.readChannels(signal);
    this.listProblem = undefined;
    this.update();
    return answer.asOf;
  }

  private waitForToken(problem: Problem, signal: AbortSignal): Promise<void> {
    this.renewal = { text: problem.text, ended: true };
    this.changed();
    return new Promise((resolve) => {
      this.renewed = resolve;
      signal.addEventListener("abort", () => resolve(), { once: true });
    });
  }

  private async readHistory(conversationId: string, thread: state.Thread): Promise<void> {
    this.threadProblem = undefined;
    try {
      const request = { conversationId, pageToken: thread.earlier };
      const page = await this.api.messages.listMessages(request, this.callOptions());
      this.keepLinks(page.messages);
      state.applyHistory(thread, page.messages, page.nextPageToken);
    } catch (failure) {
      // A thread that could not be opened is closed again, so that choosing it anew tries anew.
      if (!thread.loaded) this.inbox.threads.delete(conversationId);
      if (this.selected === conversationId) this.threadProblem = problemOf(failure);
      return this.changed();
    }
    this.update();
  }

  /** Events have no links: they would have ended before most are read. */
  private async readLinks(messageId: string): Promise<void> {
    if (this.asked.has(messageId)) return;
    this.asked.add(messageId);
    try {
      const { message } = await this.api.messages.getMessage({ messageId }, this.callOptions());
      if (message) this.keepLinks([message]);
      this.asked.delete(messageId);
      this.changed();
    } catch {
      // Without a link the file's name stands there alone; a while later it is asked for again.
      setTimeout(() => this.asked.delete(messageId), LINK_AGAIN);
    }
  }

  private keepLinks(messages: readonly Message[]): void {
    const until = Date.now() + LINK_LASTS;
    for (const file of messages.flatMap((message) => message.attachments)) {
      if (file.downloadUrl) this.links.set(file.id, { url: file.downloadUrl, until });
    }
  }

  private async markRead(conversationId: string): Promise<void> {
    const row = this.inbox.rows.get(conversationId);
    const newest = row?.lastMessageId;
    if (!row || !newest || row.unreadCount === 0 || document.visibilityState !== "visible") return;
    if (!this.inbox.threads.get(conversationId)?.loaded || this.marked.get(conversationId) === newest) return;
    this.marked.set(conversationId, newest);
    try {
      const request = { conversationId, messageId: newest };
      const { conversation } = await this.api.conversations.markConversationRead(request, this.callOptions());
      if (conversation) state.applyRow(this.inbox, conversation);
      this.changed();
    } catch (failure) {
      // Somebody who may only look keeps the badge; any other failure is tried again with the next change.
      if (problemOf(failure).reason !== "PERMISSION_MISSING") this.marked.delete(conversationId);
    }
  }

  /** Names of colleagues. Without them the page says "assigned". */
  private async readAgents(signal: AbortSignal): Promise<void> {
    try {
      const { agents } = await this.api.agents.listAgents({ pageSize: 200 }, { signal });
      for (const agent of agents) this.agents.set(agent.id, agent.name);
      this.changed();
    } catch (failure) {
      if (!signal.aborted) console.info("agents cannot be listed:", problemOf(failure).text);
    }
  }

  /** How channels do. Without them a refusal says it. What the stream told meanwhile is newer. */
  private async readChannels(signal: AbortSignal): Promise<void> {
    try {
      const { channels } = await this.api.channels.listChannels({ pageSize: 200 }, { signal });
      for (const channel of channels) {
        if (!this.inbox.channels.has(channel.id)) this.inbox.channels.set(channel.id, channel);
      }
      this.changed();
    } catch (failure) {
      if (!signal.aborted) console.info("channels cannot be listed:", problemOf(failure).text);
    }
  }

  private async guarded(work: (signal: AbortSignal) => Promise<void>): Promise<void> {
    this.listProblem = undefined;
    try {
      await work(this.session?.signal ?? AbortSignal.abort());
    } catch (failure) {
      this.listProblem = problemOf(failure);
    }
    this.update();
  }

  private callOptions(): { signal: AbortSignal } {
    return { signal: this.session?.signal ?? AbortSignal.abort() };
  }
}

function sameCaller(one: GetCallerResponse, other: GetCallerResponse | undefined): boolean {
  return (
    one.tenantId === other?.tenantId && one.agentId === other?.agentId && one.apiKeyId === other?.apiKeyId
  );
}

function sleep(milliseconds: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const timer = setTimeout(done, milliseconds);
    signal.addEventListener("abort", done, { once: true });
    function done(): void {
      clearTimeout(timer);
      signal.removeEventListener("abort", done);
      resolve();
    }
  });
}
