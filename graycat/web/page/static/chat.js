// A conversation with a text model, as it is written.
import { $, announce, duration, h } from "./dom.js";
import { ApiError, call, events, json } from "./api.js";
import { showSamples } from "./samples.js";

const PATH = "v1/chat/completions";
const MAX_SPOKEN = 500;
let conversation = [];
let running = null;
let refreshSample = () => {};

function body(messages) {
  const system = $("chat-system").value.trim();
  const made = { messages: system ? [{ role: "system", content: system }, ...messages] : messages };
  if ($("chat-model").value) made.model = $("chat-model").value;
  if ($("chat-temperature").value) made.temperature = Number($("chat-temperature").value);
  if ($("chat-tokens").value) made.max_tokens = Number($("chat-tokens").value);
  return { ...made, stream: true };
}

function bubble(role, text) {
  const content = h("p", { class: "text" }, text);
  const thoughts = h("p", { class: "thoughts" });
  const thinking = h("details", { hidden: true }, h("summary", {}, "Thinking"), thoughts);
  const name = h("p", { class: "role" }, role === "user" ? "You" : "Model");
  const item = h("li", { class: role }, name, thinking, content);
  $("messages").append(item);
  item.scrollIntoView({ block: "nearest" });
  return { content, thinking, thoughts, item };
}

/** Read an answer into a place as it comes; return its text and how many tokens it has, if the server says so. */
async function read(response, place, signal) {
  const found = { text: "", tokens: null };
  try {
    for await (const { data } of events(response)) {
      if (data === "[DONE]") break;
      const chunk = JSON.parse(data);
      if (chunk.error) throw new ApiError(chunk.error.code, chunk.error.type, chunk.error.message);
      const { content, reasoning_content: thought } = chunk.choices?.[0]?.delta ?? {};
      if (thought) {
        place.thinking.hidden = false;
        place.thoughts.append(thought);
      }
      if (content) {
        found.text += content;
        place.content.append(content);
      }
      found.tokens = chunk.usage?.completion_tokens ?? chunk.timings?.predicted_n ?? found.tokens;
    }
  } catch (error) {
    if (!signal.aborted) throw Object.assign(error, { found });
  }
  return found;
}

async function ask(text) {
  running = new AbortController();
  const { signal } = running;
  const startedAt = performance.now();
  const question = bubble("user", text);
  const place = bubble("assistant", "");
  let answer = { text: "", tokens: null };
  let said = "";
  setBusy(true, "The model is answering …");
  try {
    const response = await call("POST", PATH, { body: body([...conversation, { role: "user", content: text }]), signal });
    answer = await read(response, place, signal);
    const tokens = answer.tokens === null ? "" : `${answer.tokens} tokens in `;
    said = `Complete: ${tokens}${duration(performance.now() - startedAt)}.`;
  } catch (error) {
    answer = error.found ?? answer;
    said = error.message;
  }
  if (signal.aborted) said = "Stopped. The server has been told, and its slot is free.";
  if (answer.text) {
    conversation.push({ role: "user", content: text }, { role: "assistant", content: answer.text });
    announce(`The model: ${answer.text.slice(0, MAX_SPOKEN)}`);
  } else {
    // Nothing was said: the question goes back to where it can be changed and sent again.
    place.item.remove();
    question.item.remove();
    $("chat-input").value ||= text;
  }
  running = null;
  setBusy(false, said);
}

function setBusy(busy, text) {
  if (!busy && document.activeElement === $("chat-stop")) $("chat-input").focus();
  $("chat-send").disabled = busy;
  $("chat-stop").disabled = !busy;
  $("messages").setAttribute("aria-busy", String(busy));
  $("chat-status").textContent = text;
  refreshSample();
}

function clear() {
  running?.abort();
  conversation = [];
  $("messages").replaceChildren();
  $("chat-status").textContent = "";
  $("chat-input").focus();
}

async function loadModels() {
  try {
    const { data } = await json("GET", "v1/models");
    const known = data.filter((model) => model.type !== "image").map((model) => h("option", { value: model.id }, model.id));
    $("chat-model").replaceChildren($("chat-model").options[0], ...known);
  } catch {
    // The server's own model is there without the list.
  }
}

export function start() {
  refreshSample = showSamples(document.querySelector("[data-sample=chat]"), () => ({
    path: PATH,
    body: body([...conversation, { role: "user", content: $("chat-input").value || "Hello!" }]),
    stream: true,
  }));
  $("chat-form").addEventListener("input", () => refreshSample());
  $("chat-form").addEventListener("submit", (event) => {
    event.preventDefault();
    const text = $("chat-input").value.trim();
    if (running || !text) return;
    $("chat-input").value = "";
    $("chat-stop").disabled = false;
    $("chat-stop").focus();
    ask(text);
  });
  $("chat-input").addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    $("chat-form").requestSubmit();
  });
  $("chat-stop").addEventListener("click", () => {
    running?.abort();
    $("chat-input").focus();
  });
  $("chat-clear").addEventListener("click", clear);
}

export function open() {
  if ($("chat-model").options.length === 1) loadModels();
}

export function reset() {
  clear();
  $("chat-model").replaceChildren($("chat-model").options[0]);
}
