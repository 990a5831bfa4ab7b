import { type Conversation, ReplyWindowState } from "@contract/switchboard/v1/conversation_pb";
import type { App } from "../app";
import { ordered } from "../state";
import { hue, initials, shortTime, statusWord, windowState } from "../words";
import { byId, keyed, make, say, sayOrHide } from "./dom";

/** The list of conversations. Returns what draws it. */
export function listView(app: App): () => void {
  const rows = byId("conversations", HTMLUListElement);
  const problem = byId("list-problem", HTMLParagraphElement);
  const empty = byId("list-empty", HTMLParagraphElement);
  const more = byId("list-more", HTMLButtonElement);
  more.addEventListener("click", () => void app.showMore());
  rows.addEventListener("click", (event) => {
    const row = (event.target as Element).closest("[data-key]");
    if (row) app.select(row.getAttribute("data-key") ?? "");
  });
  return () => {
    const now = new Date();
    keyed(rows, ordered(app.inbox), (row) => row.id, createRow, (element, row) => drawRow(element, row, app, now));
    sayOrHide(problem, app.listProblem ? `The list could not be read yet. ${app.listProblem.text}` : "");
    sayOrHide(empty, emptyText(app));
    more.hidden = app.inbox.more === "";
  };
}

function emptyText(app: App): string {
  if (app.inbox.rows.size > 0 || app.listProblem) return "";
  return app.inbox.listed
    ? "No conversations yet. When a customer writes, the message appears here by itself."
    : "Reading the list …";
}

function createRow(row: Conversation): HTMLElement {
  const item = make("li", "row");
  const button = make("button", "row-button");
  button.setAttribute("type", "button");
  const picture = make("span", `picture hue-${hue(row.contact?.id ?? row.id)}`);
  picture.setAttribute("aria-hidden", "true");
  const texts = make("span", "row-texts");
  const top = make("span", "row-line");
  top.append(make("span", "row-name"), make("time", "row-time"));
  const bottom = make("span", "row-line");
  bottom.append(make("span", "row-preview"), make("span", "badge"));
  texts.append(top, bottom, make("span", "chips"));
  button.append(picture, texts);
  item.append(button);
  return item;
}

function drawRow(element: HTMLElement, row: Conversation, app: App, now: Date): void {
  const part = (name: string): HTMLElement => element.querySelector(`.${name}`) as HTMLElement;
  const name = row.contact?.name || "Unknown";
  say(part("picture"), initials(name));
  say(part("row-name"), name);
  say(part("row-time"), shortTime(row.lastMessageTime, now));
  say(part("row-preview"), row.lastMessagePreview || "No messages yet");
  drawBadge(part("badge"), row.unreadCount);
  drawChips(part("chips"), row, app, now);
  element.classList.toggle("unread", row.unreadCount > 0);
  const button = part("row-button");
  if (row.id === app.selected) button.setAttribute("aria-current", "true");
  else button.removeAttribute("aria-current");
}

function drawBadge(badge: HTMLElement, unread: number): void {
  badge.hidden = unread === 0;
  if (badge.dataset["count"] === String(unread)) return;
  badge.dataset["count"] = String(unread);
  badge.replaceChildren(unread > 99 ? "99+" : String(unread), make("span", "unseen", " unread"));
}

/** Status, assignee, tags and the reply window, as far as there is something to say. */
export function drawChips(place: HTMLElement, row: Conversation, app: App, now: Date): void {
  const chips: [string, string][] = [[`status-${statusWord(row.status)}`, statusWord(row.status)]];
  chips.push(row.assigneeId ? ["assignee", assignee(row.assigneeId, app)] : ["nobody", "unassigned"]);
  const state = windowState(row.replyWindow, now);
  if (state === ReplyWindowState.CLOSING) chips.push(["closing", "window closing"]);
  if (state === ReplyWindowState.CLOSED) chips.push(["closed", "window closed"]);
  for (const tag of row.tags) chips.push(["tag", tag]);
  const drawn = JSON.stringify(chips);
  if (place.dataset["drawn"] === drawn) return;
  place.dataset["drawn"] = drawn;
  place.replaceChildren(...chips.map(([kind, text]) => make("span", `chip ${kind}`, text)));
}

function assignee(agentId: string, app: App): string {
  if (agentId === app.caller?.agentId) return "you";
  return app.agents.get(agentId) ?? "assigned";
}
