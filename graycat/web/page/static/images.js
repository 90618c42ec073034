// One image: a task that is followed by its events, with progress and preview.
import { $, announce, duration, h } from "./dom.js";
import { call, follow, imageUrl, json } from "./api.js";
import { showSamples } from "./samples.js";

const KIND = "sd.txt2img";
const MAX_ALT = 300;
let running = null;
let addresses = [];

function body() {
  const input = { prompt: $("image-prompt").value.trim() || "a lighthouse" };
  if ($("image-negative").value.trim()) input.negative_prompt = $("image-negative").value.trim();
  for (const name of ["width", "height", "steps", "seed"]) {
    if ($(`image-${name}`).value) input[name] = Number($(`image-${name}`).value);
  }
  return { kind: KIND, input };
}

/** Show an image in the place of the one before. */
function picture(url, alt, caption) {
  addresses.push(url);
  const image = h("img", { src: url, alt: alt.slice(0, MAX_ALT) });
  return h("figure", {}, image, h("figcaption", {}, caption));
}

function dropPictures() {
  $("image-result").replaceChildren();
  addresses.forEach((url) => URL.revokeObjectURL(url));
  addresses = [];
}

async function showPreview(id) {
  try {
    const url = await imageUrl(`tasks/${encodeURIComponent(id)}/preview`);
    if (running?.id !== id) return URL.revokeObjectURL(url);
    dropPictures();
    $("image-result").append(picture(url, "Preview of the image that is being made", "Preview"));
  } catch {
    // It may be over already; the image itself comes with the result.
  }
}

function tell(id, event, data) {
  if (event === "started") say("The engine works on it.");
  if (event !== "progress") return;
  $("image-progress").value = data.progress ?? 0;
  const left = data.eta_s ? `, about ${duration(data.eta_s * 1000)} left` : "";
  say(`${Math.round((data.progress ?? 0) * 100)} %${left}`);
  if (data.preview) showPreview(id);
}

function say(text, aloud = false) {
  // Not each step of it: only the beginning and the end are said aloud.
  $("image-status").textContent = text;
  if (aloud) announce(text);
}

export async function resultPictures(id, result, prompt) {
  const count = Array.isArray(result?.images) ? result.images.length : 0;
  const path = `tasks/${encodeURIComponent(id)}/images`;
  const urls = await Promise.all(Array.from({ length: count }, (_, index) => imageUrl(`${path}/${index}`)));
  return urls.map((url, index) => picture(url, prompt ? `Image of: ${prompt}` : `Image ${index + 1} of the task`, `Image ${index + 1} of task ${id}`));
}

async function make() {
  const request = body();
  const startedAt = performance.now();
  running = { id: "", controller: new AbortController() };
  const { signal } = running.controller;
  setBusy(true);
  dropPictures();
  say("Submitted; it waits for an engine.", true);
  try {
    const task = await json("POST", "tasks", { body: request, signal });
    running.id = task.id;
    const last = await follow(task.id, (event, data) => tell(task.id, event, data), signal);
    running.id = "";
    if (last.data.result && last.event !== "error") {
      const made = await resultPictures(task.id, last.data.result, request.input.prompt);
      dropPicturesBut(made);
      const warnings = (last.data.result.warnings ?? []).map((warning) => ` ${warning.message}`).join("");
      say(`Done in ${duration(performance.now() - startedAt)}.${warnings}`, true);
    } else {
      dropPictures();
      say(last.data.error?.message ?? "Cancelled.", true);
    }
  } catch (error) {
    dropPictures();
    say(signal.aborted ? "Cancelled." : error.message, true);
  }
  running = null;
  setBusy(false);
}

function dropPicturesBut(made) {
  const kept = made.map((figure) => figure.querySelector("img").src);
  addresses.filter((url) => !kept.includes(url)).forEach((url) => URL.revokeObjectURL(url));
  addresses = kept;
  $("image-result").replaceChildren(...made);
}

function setBusy(busy) {
  if (!busy && document.activeElement === $("image-stop")) $("image-prompt").focus();
  $("image-make").disabled = busy;
  $("image-stop").disabled = !busy;
  $("image-progress").hidden = !busy;
  $("image-progress").value = 0;
}

async function cancel() {
  const id = running?.id;
  say("Cancelling …");
  try {
    if (id) await call("DELETE", `tasks/${encodeURIComponent(id)}`);
    else running?.controller.abort();
  } catch (error) {
    say(error.message, true);
  }
}

export function start() {
  const refresh = showSamples(document.querySelector("[data-sample=image]"), () => ({ path: "tasks", body: body() }));
  $("image-form").addEventListener("input", refresh);
  $("image-form").addEventListener("submit", (event) => {
    event.preventDefault();
    if (running) return;
    make();
    $("image-stop").focus();
  });
  $("image-stop").addEventListener("click", cancel);
}

export function reset() {
  running?.controller.abort();
  running = null;
  dropPictures();
  setBusy(false);
  say("");
}
