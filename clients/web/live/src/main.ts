import { App } from "./app";
import { composerView } from "./view/composer";
import { frameView } from "./view/frame";
import { listView } from "./view/list";
import { threadView } from "./view/thread";

/** How often times and reply windows are drawn anew although nothing happened, in milliseconds. */
const REFRESH = 30_000;

let pending = false;

const app = new App(() => {
  if (pending) return;
  pending = true;
  // A page in the background is given no frames, but its title still counts what is unread.
  if (document.visibilityState === "visible") requestAnimationFrame(draw);
  else setTimeout(draw, 250);
});

const views = [frameView(app), listView(app), threadView(app), composerView(app)];

function draw(): void {
  pending = false;
  for (const view of views) view();
}

/** Takes a token out of the address (`#token=…`) at once, so that it stays neither in the history nor in a bookmark. */
function takeToken(): void {
  const token = new URLSearchParams(location.hash.slice(1)).get("token");
  if (!token) return;
  history.replaceState(null, "", location.pathname + location.search);
  void app.signIn(token);
}

window.addEventListener("hashchange", takeToken);
window.addEventListener("online", () => app.wake());
document.addEventListener("visibilitychange", () => {
  if (document.visibilityState !== "visible") return;
  // The timers of a page in the background are slowed down, the one before the next attempt too.
  app.wake();
  app.update();
});
setInterval(draw, REFRESH);
draw();
takeToken();
