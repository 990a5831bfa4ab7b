import { timestampDate } from "@bufbuild/protobuf/wkt";
import { type Attachment, type Message, MessageDirection, MessageStatus } from "@contract/switchboard/v1/message_pb";
import type { App } from "../app";
import { inOrder } from "../state";
import { clock, dayName, fileText, isPicture, messageNote, messageText, tickWord } from "../words";
import { byId, drawing, keyed, make, say, sayOrHide } from "./dom";
import { drawChips } from "./list";

const CHECK = "M2 6.5 5.5 10 13 2";
const SECOND_CHECK = "M9 9.2 10 10 17.5 2";
const TICKS: Record<number, readonly string[]> = {
  [MessageStatus.PENDING]: ["M10 1a5 5 0 1 0 .01 0Z", "M10 3.5V6l1.8 1.4"],
  [MessageStatus.SENT]: [CHECK],
  [MessageStatus.DELIVERED]: [CHECK, SECOND_CHECK],
  [MessageStatus.READ]: [CHECK, SECOND_CHECK],
};
/** Closer to the end than this many pixels counts as reading the newest message. */
const NEAR_END = 80;

/** The messages of the chosen conversation. Returns what draws them. */
export function threadView(app: App): () => void {
  const title = byId("thread-title", HTMLHeadingElement);
  const facts = byId("thread-facts", HTMLParagraphElement);
  const history = byId("history", HTMLDivElement);
  const list = byId("messages", HTMLOListElement);
  const empty = byId("thread-empty", HTMLParagraphElement);
  const earlier = byId("earlier", HTMLButtonElement);
  earlier.addEventListener("click", () => void app.showEarlier());
  const back = byId("back", HTMLButtonElement);
  back.addEventListener("click", () => leave(app));
  let shown = "";
  return () => {
    const row = app.inbox.rows.get(app.selected);
    const thread = app.inbox.threads.get(app.selected);
    const messages = row && thread ? inOrder(thread) : [];
    const follow = shown !== app.selected || isAtEnd(history);
    const anchor = history.scrollHeight - history.scrollTop;
    const first = list.firstElementChild;
    showPane(app.selected ? "thread" : "list", back);
    say(title, row ? row.contact?.name || "Unknown" : "No conversation chosen");
    if (row) drawChips(facts, row, app, new Date());
    facts.hidden = !row;
    keyed(list, messages, (message) => message.id, createMessage, (element, message) => drawMessage(element, message, app));
    markDays(list, messages);
    sayOrHide(empty, emptyText(app));
    earlier.hidden = !thread?.earlier;
    if (follow) history.scrollTop = history.scrollHeight;
    // Older messages were put above: what was in view stays in view.
    else if (list.firstElementChild !== first) history.scrollTop = history.scrollHeight - anchor;
    shown = messages.length > 0 || !app.selected ? app.selected : "";
  };
}

/** On a narrow page list and thread take turns; the focus goes along, because the button that was pressed is hidden now. */
function showPane(pane: string, back: HTMLElement): void {
  if (document.body.dataset["pane"] === pane) return;
  document.body.dataset["pane"] = pane;
  if (pane === "thread" && back.checkVisibility()) back.focus();
}

function leave(app: App): void {
  const left = app.selected;
  app.select("");
  // Before the next frame: what is hidden takes no focus.
  document.body.dataset["pane"] = "list";
  const rows = [...document.querySelectorAll<HTMLElement>("#conversations > li")];
  rows.find((row) => row.dataset["key"] === left)?.querySelector("button")?.focus();
}

function isAtEnd(history: HTMLElement): boolean {
  return history.scrollHeight - history.scrollTop - history.clientHeight < NEAR_END;
}

function emptyText(app: App): string {
  if (!app.selected) return "Choose a conversation to read it.";
  if (app.threadProblem) return `The messages could not be read yet. ${app.threadProblem.text}`;
  if (!app.inbox.rows.has(app.selected)) return app.inbox.listed ? "This conversation is no longer visible to you." : "";
  const thread = app.inbox.threads.get(app.selected);
  if (!thread?.loaded) return thread?.messages.size ? "" : "Reading the messages …";
  return thread.messages.size > 0 ? "" : "No messages yet.";
}

function createMessage(message: Message): HTMLElement {
  const inbound = message.direction === MessageDirection.INBOUND;
  const item = make("li", `message ${inbound ? "in" : "out"}`);
  const bubble = make("div", "bubble");
  const foot = make("span", "foot");
  const time = make("time", "", message.createTime ? clock(timestampDate(message.createTime)) : "");
  foot.append(time);
  if (!inbound) foot.append(make("span", "tick"));
  bubble.append(make("span", "unseen", inbound ? "Customer: " : "We: "), make("span", "body"), make("span", "files"), make("span", "note"), foot);
  item.append(bubble, make("p", "reason"));
  return item;
}

function drawMessage(element: HTMLElement, message: Message, app: App): void {
  say(element.querySelector(".body") as Element, messageText(message));
  const files = element.querySelector(".files") as HTMLElement;
  files.hidden = message.attachments.length === 0;
  keyed(files, message.attachments, (file) => file.id, createFile, (place, file) => drawFile(place, file, app.linkOf(message, file)));
  sayOrHide(element.querySelector(".note") as HTMLElement, messageNote(message));
  sayOrHide(element.querySelector(".reason") as HTMLElement, reason(message));
  const tick = element.querySelector<HTMLElement>(".tick");
  const status = tickWord(message.status);
  if (!tick || tick.dataset["status"] === status) return;
  tick.dataset["status"] = status;
  const strokes = TICKS[message.status];
  const sign = strokes ? drawing(strokes) : make("span", "sign", message.status === MessageStatus.FAILED ? "!" : "?");
  sign.setAttribute("aria-hidden", "true");
  tick.title = status;
  tick.replaceChildren(sign, make("span", "unseen", status));
}

function createFile(): HTMLElement {
  const file = make("a", "file");
  file.setAttribute("target", "_blank");
  file.setAttribute("rel", "noopener noreferrer");
  file.append(make("span", "file-name"));
  return file;
}

/** A link with name and size, and the picture above them where it is one. Without a link the name stands there alone. */
function drawFile(element: HTMLElement, file: Attachment, link: string): void {
  say(element.querySelector(".file-name") as Element, fileText(file));
  if (!link || element.getAttribute("href") === link) return;
  element.setAttribute("href", link);
  if (!isPicture(file) || element.querySelector("img")) return;
  const picture = document.createElement("img");
  picture.alt = "";
  picture.loading = "lazy";
  picture.src = link;
  picture.addEventListener("error", () => picture.remove());
  element.prepend(picture);
}

function reason(message: Message): string {
  if (message.direction === MessageDirection.INBOUND) return "";
  if (message.status === MessageStatus.UNKNOWN) return "The provider did not answer: it may or may not have arrived.";
  if (message.status !== MessageStatus.FAILED) return "";
  const error = message.error;
  return error ? `Not delivered: ${error.message}${error.code ? ` (${error.code})` : ""}` : "Not delivered.";
}

/** The first message of a day carries its name. */
function markDays(list: HTMLElement, messages: readonly Message[]): void {
  const now = new Date();
  let day = "";
  messages.forEach((message, index) => {
    const name = message.createTime ? dayName(timestampDate(message.createTime), now) : day;
    const element = list.children[index] as HTMLElement;
    const mark = element.querySelector(":scope > .day");
    if (name === day) mark?.remove();
    else if (mark) say(mark, name);
    else element.prepend(make("p", "day", name));
    day = name;
  });
}
