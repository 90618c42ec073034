// Batches of images, and the links to their galleries.
import { $, age, duration, h, repeat, Table } from "./dom.js";
import { base, json } from "./api.js";
import { showSamples } from "./samples.js";

const EVERY_S = 3;
// Seconds for which a gallery's link opens it.
const LINK_S = 3600;
const VERBS = { running: ["Pause", "Cancel"], queued: ["Pause", "Cancel"], paused: ["Resume", "Cancel"] };
let table = null;

const path = (id, rest = "") => `batches/${encodeURIComponent(id)}${rest}`;

function spec() {
  const defaults = {};
  for (const name of ["width", "height", "steps"]) {
    if ($(`batch-${name}`).value) defaults[name] = Number($(`batch-${name}`).value);
  }
  const items = $("batch-prompts").value.split("\n").map((line) => line.trim()).filter(Boolean);
  return {
    name: $("batch-name").value.trim(),
    count: Number($("batch-count").value) || 1,
    defaults,
    items: items.length ? items : ["a lighthouse"],
  };
}

const say = (...parts) => $("batches-status").replaceChildren(...parts);

async function attempt(run) {
  try {
    await run();
  } catch (error) {
    say(error.message);
  }
}

function act(batch, verb) {
  return attempt(async () => {
    const after = await json("POST", path(batch.id, `/${verb}`));
    say(`${batch.name}: ${after.state}`);
    await refresh();
  });
}

/** Make a link to the gallery: a page of its own, which needs no API token while the link lives. */
function gallery(batch) {
  return attempt(async () => {
    const { url } = await json("POST", path(batch.id, "/gallery/link"), { body: { ttl_s: LINK_S } });
    const address = new URL(url, base);
    if (!["http:", "https:"].includes(address.protocol)) throw new Error("The server's link is no web address.");
    const link = h("a", { href: address.href, target: "_blank", rel: "noopener noreferrer" }, `Gallery of ${batch.name}`);
    say(link, ` (a new tab; whoever has the link can open it for ${duration(LINK_S * 1000)})`);
    link.focus();
  });
}

function actions(batch) {
  const found = [{ label: "Gallery", name: `Gallery of ${batch.name}`, run: () => gallery(batch) }];
  for (const label of VERBS[batch.state] ?? []) {
    found.push({ label, name: `${label} ${batch.name}`, run: () => act(batch, label.toLowerCase()) });
  }
  const bad = (batch.progress.failed ?? 0) + (batch.progress.cancelled ?? 0);
  if (!VERBS[batch.state] && bad) {
    found.push({ label: "Retry failed", name: `Retry what failed of ${batch.name}`, run: () => act(batch, "retry-failed") });
  }
  return found;
}

function describe(batch) {
  const { done = 0, failed = 0 } = batch.progress;
  const parts = [`${done} of ${batch.total}`];
  if (failed) parts.push(`${failed} failed`);
  if (batch.eta_s) parts.push(`${duration(batch.eta_s * 1000)} left`);
  return parts.join(", ");
}

async function refresh() {
  const { batches } = await json("GET", "batches?limit=50");
  table.show(batches.map((batch) => ({
    key: batch.id,
    cells: [batch.name, [batch.state, batch.reason].filter(Boolean).join(": "), describe(batch), age(batch.submitted_ms)],
    actions: actions(batch),
  })));
}

export function start() {
  const columns = ["Batch", "State", "Images", "Submitted", "Actions"];
  table = new Table($("batches-table"), "Batches", columns, "There are none yet.");
  const refreshSample = showSamples(document.querySelector("[data-sample=batch]"), () => ({ path: "batches", body: spec() }));
  $("batch-form").addEventListener("input", refreshSample);
  $("batch-form").addEventListener("submit", (event) => {
    event.preventDefault();
    attempt(async () => {
      const made = await json("POST", "batches", { body: spec() });
      say(`Submitted: ${made.total} images.`);
      await refresh();
    });
  });
  $("batch-try").addEventListener("click", () => attempt(async () => {
    const plan = await json("POST", "batches?dry_run=true", { body: spec() });
    const time = plan.gpu_s == null ? "" : `, about ${duration(plan.gpu_s * 1000)} of an engine's time`;
    say(`A dry run: ${plan.total} images${time}. Nothing was submitted.`);
  }));
}

export function open() {
  return repeat(EVERY_S, () => attempt(refresh));
}

export function reset() {
  table.show([]);
  say();
}
