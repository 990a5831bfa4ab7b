import type { App } from "../app";
import { channelSentence, windowSentence } from "../words";
import { byId, sayOrHide } from "./dom";

/** The reply box. Returns what draws it. */
export function composerView(app: App): () => void {
  const form = byId("composer", HTMLFormElement);
  const text = byId("reply", HTMLTextAreaElement);
  const send = byId("send", HTMLButtonElement);
  const problem = byId("send-problem", HTMLParagraphElement);
  const window = byId("window", HTMLParagraphElement);
  text.addEventListener("input", () => {
    app.draft(app.selected).text = text.value;
  });
  text.addEventListener("keydown", (event) => {
    // A word being put together by an input method is confirmed with Enter too.
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    form.requestSubmit();
  });
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    void app.send();
  });
  return () => {
    const row = app.inbox.rows.get(app.selected);
    form.hidden = !row;
    if (!row) return;
    const draft = app.draft(app.selected);
    if (text.value !== draft.text) text.value = draft.text;
    // Not "disabled": that would take the focus away from whoever pressed it.
    send.setAttribute("aria-disabled", String(draft.sending));
    send.textContent = draft.sending ? "Sending …" : "Send";
    problem.dataset["reason"] = draft.problem?.reason ?? "";
    sayOrHide(problem, draft.problem ? `Not sent, your text is kept. ${draft.problem.text}` : "");
    const stopped = channelSentence(app.inbox.channels.get(row.channelId));
    sayOrHide(window, draft.problem ? "" : stopped || windowSentence(row, new Date()));
  };
}
