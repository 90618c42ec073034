// Signing in with an API token, and the tabs.
import { $, announce, h, repeat, write } from "./dom.js";
import { base, json, session, setToken, signedIn } from "./api.js";
import * as batches from "./batches.js";
import * as chat from "./chat.js";
import * as operator from "./console.js";
import * as images from "./images.js";
import * as tasks from "./tasks.js";

const PANELS = { chat, images, tasks, batches, console: operator };
const tabs = [...document.querySelectorAll("[role=tab]")];
let token = null;
let leave = () => {};

// Seconds between two looks at whether the server is ready.
const STATE_EVERY_S = 10;

const nameOf = (tab) => tab.id.replace("tab-", "");
const offered = () => tabs.filter((tab) => !tab.hidden);

function choose(tab) {
  leave();
  for (const other of tabs) {
    const chosen = other === tab;
    other.setAttribute("aria-selected", String(chosen));
    other.tabIndex = chosen ? 0 : -1;
    $(other.getAttribute("aria-controls")).hidden = !chosen;
  }
  leave = PANELS[nameOf(tab)].open?.(token) ?? (() => {});
}

function moveFocus(event) {
  const found = offered();
  const at = found.indexOf(event.target);
  const next = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: found.length - 1 }[event.key];
  if (at < 0 || next === undefined) return;
  event.preventDefault();
  const tab = found[(next + found.length) % found.length];
  choose(tab);
  tab.focus();
}

/** Offer the tabs that the API token can use. */
function offer(scopes) {
  for (const tab of tabs) {
    const wanted = tab.dataset.scope?.split(" ");
    tab.hidden = Boolean(wanted) && !wanted.some((scope) => scopes.includes(scope));
  }
}

async function signIn(value) {
  setToken(value);
  try {
    token = await json("GET", "tokens/me");
  } catch (error) {
    setToken("");
    write($("token-error"), error.message);
    return;
  }
  $("token").value = "";
  write($("token-error"), "");
  write($("who"), `API token ${token.name}`);
  offer(token.scopes);
  $("signed-out").hidden = true;
  $("signed-in").hidden = false;
  const [first] = offered();
  choose(first);
  first.focus();
  announce(`The API token ${token.name} is accepted.`);
}

function signOut(reason) {
  leave();
  leave = () => {};
  setToken("");
  token = null;
  Object.values(PANELS).forEach((panel) => panel.reset());
  $("signed-in").hidden = true;
  $("signed-out").hidden = false;
  write($("token-error"), reason);
  $("token").focus();
}

/** Keep the first lines true while the page is open. */
async function showState() {
  let state;
  try {
    state = await (await fetch(new URL("page/state", base), { credentials: "omit", cache: "no-store" })).json();
  } catch {
    state = { ready: false, reason: "the server does not answer", parts: [] };
  }
  if ($("state-mark").classList.toggle("good", state.ready) !== ($("state-text").textContent === "Ready")) {
    announce(state.ready ? "The server is ready." : "The server is not ready.");
  }
  write($("state-text"), state.ready ? "Ready" : "Not ready");
  write($("state-reason"), state.reason);
  $("parts").replaceChildren(...state.parts.map((part) =>
    h("div", {}, h("dt", {}, part.title), h("dd", { class: part.ready ? null : "problem" }, part.state))));
}

for (const panel of Object.values(PANELS)) panel.start();
$("token-form").hidden = false;
$("token-form").addEventListener("submit", (event) => {
  event.preventDefault();
  signIn($("token").value.trim());
});
$("sign-out").addEventListener("click", () => signOut(""));
document.querySelector("[role=tablist]").addEventListener("keydown", moveFocus);
for (const tab of tabs) tab.addEventListener("click", () => choose(tab));
session.addEventListener("refused", (event) => token && signedIn() && signOut(event.detail));
setTimeout(() => repeat(STATE_EVERY_S, showState), STATE_EVERY_S * 1000);
