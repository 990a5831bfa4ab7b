import type { App } from "../app";
import { byId, say, sayOrHide } from "./dom";

/** The bar at the top and the box that asks for a token. Returns what draws them. */
export function frameView(app: App): () => void {
  const connection = byId("connection", HTMLParagraphElement);
  const who = byId("who", HTMLParagraphElement);
  const inbox = byId("inbox", HTMLDivElement);
  const signOut = byId("sign-out", HTMLButtonElement);
  const drawSignIn = signInView(app);
  signOut.addEventListener("click", () => app.signOut());
  return () => {
    const caller = app.caller;
    say(connection, caller ? app.connection : "");
    connection.dataset["state"] = caller ? app.connection : "";
    say(who, caller ? (app.agents.get(caller.agentId ?? "") ?? "") : "");
    signOut.hidden = inbox.hidden = !caller;
    document.title = title(app);
    drawSignIn();
  };
}

function signInView(app: App): () => void {
  const box = byId("sign-in", HTMLElement);
  const form = byId("sign-in-form", HTMLFormElement);
  const token = byId("token", HTMLInputElement);
  const text = byId("sign-in-text", HTMLParagraphElement);
  const problem = byId("sign-in-problem", HTMLParagraphElement);
  const welcome = text.textContent;
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const given = token.value.trim();
    token.value = "";
    if (given) void app.signIn(given);
  });
  return () => {
    box.hidden = app.caller !== undefined && app.renewal === undefined;
    box.classList.toggle("renewal", app.caller !== undefined);
    say(text, app.renewal ? app.renewal.text : welcome);
    sayOrHide(problem, app.signInProblem?.text ?? "");
    problem.dataset["reason"] = app.signInProblem?.reason ?? "";
  };
}

/** How many conversations wait unread, for those who look at another tab. */
function title(app: App): string {
  const unread = [...app.inbox.rows.values()].filter((row) => row.unreadCount > 0).length;
  return unread > 0 ? `(${unread}) Switchboard` : "Switchboard";
}
