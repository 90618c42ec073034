// What an operator sees and does: the state of everything, and the levers. Needs the scope admin; metrics alone sees some.
import { $, age, duration, h, number, repeat, size, Table, write } from "./dom.js";
import { call, json, signedIn } from "./api.js";
import { path, stateOf, times } from "./tasks.js";

const EVERY_S = 3;
const REPORTED_MS = [600, 1200, 1800];
const USAGE_DAYS = 7;
const tables = {};
let admin = false;
let me = "";

const say = (text) => write($("console-status"), text);

function lever(label, name, address, question) {
  const run = async () => {
    if (question && !confirm(question)) return;
    try {
      const answer = await json("POST", address);
      say(answer.message ?? "Done.");
    } catch (error) {
      say(error.message);
    }
    await look();
    // A worker reports every second.
    for (const pause of REPORTED_MS) setTimeout(look, pause);
  };
  return { label, name: `${label} ${name}`, run };
}

function queueRow(queue) {
  const state = [queue.paused && "paused", queue.depth > 0 && !queue.consumers && "no worker takes from it"];
  const address = `queues/${encodeURIComponent(queue.name)}`;
  const isWhole = !/[:@]/.test(queue.name);
  const label = queue.paused ? "Resume" : "Pause";
  return {
    key: queue.name,
    cells: [queue.name, number(queue.depth), queue.depth ? duration(queue.oldest_s * 1000) : "", number(queue.consumers),
      state.filter(Boolean).join(", ")],
    actions: admin && isWhole ? [lever(label, `the queue ${queue.name}`, `${address}/${label.toLowerCase()}`)] : [],
  };
}

function workerNotes(worker) {
  const notes = [];
  if (worker.paused) notes.push("paused");
  else if (!worker.consuming) notes.push("takes no tasks");
  if (worker.left.length) notes.push(`has left ${worker.left.join(", ")}`);
  if (worker.stuck.length) notes.push(`stuck: ${worker.stuck.join(", ")}`);
  if (worker.crash_loop) notes.push("crash loop");
  if (worker.failures) notes.push(`${worker.failures} failures in a row`);
  notes.push(worker.trouble || (worker.failures ? worker.last_failure : ""));
  return notes.filter(Boolean).join("; ");
}

function gpu(worker) {
  if (worker.gpu === null) return "";
  const state = worker.gpu_state;
  if (!state) return String(worker.gpu);
  return `${worker.gpu}: ${state.utilization} %, ${size(state.memory_used)} of ${size(state.memory_total)}, ${state.temperature} °C`;
}

function workerRow(worker) {
  const address = `workers/${encodeURIComponent(worker.name)}`;
  const levers = [];
  if (admin && worker.engine) {
    const label = worker.paused ? "Resume" : "Pause";
    levers.push(lever(label, worker.name, `${address}/${label.toLowerCase()}`));
  }
  const question = `Drain ${worker.name}? It finishes what runs, hands back the rest, and ends. It does not come back by itself.`;
  if (admin) levers.push(lever("Drain", worker.name, `${address}/drain`, question));
  return {
    key: worker.name,
    cells: [worker.name, [worker.engine, worker.engine_state].filter(Boolean).join(", "), worker.models.join(", "),
      worker.engine ? `${worker.busy} of ${worker.slots}` : "", gpu(worker), workerNotes(worker)],
    actions: levers,
  };
}

function failureRow(failure) {
  return {
    key: `${failure.task_id} ${failure.at_ms}`,
    cells: [age(failure.at_ms), failure.kind, `${failure.state}, ${failure.type || failure.status}`, failure.worker, failure.task_id],
  };
}

function verdict(status) {
  const memory = status.held?.used
    ? ` The broker takes ${size(status.held.used)}${status.held.most ? ` of ${size(status.held.most)}` : ""}.`
    : "";
  const more = Object.entries(status.scale).filter(([, hint]) => hint.hint > hint.serving + hint.starting)
    .map(([family, hint]) => ` ${family} needs ${hint.hint} worker${hint.hint === 1 ? "" : "s"}.`).join("");
  return `${status.served ? "Everything that should serve does." : `Not served: ${status.reason}.`}${memory}${more}`;
}

async function showStatus() {
  const status = await json("GET", "status");
  write($("console-verdict"), verdict(status));
  const notes = [...(status.notes ?? [])];
  for (const name of status.missed) notes.push(`${name} fell silent`);
  if (status.schedules && !status.beat) notes.push("Schedules do not fire: start graycat beat");
  for (const process of status.processes ?? []) {
    if (!["running", "stopped"].includes(process.state)) notes.push(`${process.name} on ${process.machine}: ${process.state}, ${process.last_end}`);
  }
  $("console-notes").replaceChildren(...notes.map((note) => h("li", {}, note)));
  tables.queues.show(status.queues.map(queueRow));
  tables.workers.show(status.workers.map(workerRow));
  tables.failures.show(status.failures.map(failureRow));
}

async function cancel(id) {
  try {
    const { confirmed } = await (await call("DELETE", path(id))).json();
    say(confirmed ? "Cancelled; its engine is free." : "Its engine has been told to stop.");
  } catch (error) {
    say(error.message);
  }
  await look();
}

async function showTasks() {
  const { tasks, next_cursor: more } = await json("GET", "tasks?owner=*&limit=100");
  const owners = new Map();
  for (const task of tasks) {
    // Of this API token's own tasks the server does not say whose they are.
    task.owner ??= me;
    const counts = owners.get(task.owner) ?? { running: 0, queued: 0 };
    counts[task.state] = (counts[task.state] ?? 0) + 1;
    owners.set(task.owner, counts);
  }
  tables.owners.show([...owners].map(([owner, { running, queued }]) =>
    ({ key: owner, cells: [owner, String(running), `${queued}${more ? " or more" : ""}`] })));
  tables.tasks.show(tasks.map((task) => ({
    key: task.id,
    cells: [task.id, task.owner, task.kind ?? "", stateOf(task), task.worker ?? "", age(task.submitted_ms), times(task)],
    actions: [{ label: "Cancel", name: `Cancel the task ${task.id}`, run: () => cancel(task.id) }],
  })));
}

function expiry(token) {
  if (!token) return "";
  return token.expires_at ? new Date(token.expires_at * 1000).toISOString().slice(0, 10) : "never";
}

/** Add up the usage of each API token; those that have used nothing are listed as well. */
async function showUsage() {
  const from = new Date(Date.now() - (USAGE_DAYS - 1) * 86_400_000).toISOString().slice(0, 10);
  const [{ rows }, { tokens }] = await Promise.all([json("GET", `usage?from=${from}`), json("GET", "tokens")]);
  const totals = new Map(tokens.map((token) => [token.name, { token }]));
  for (const row of rows) {
    const sums = totals.get(row.owner) ?? {};
    for (const [name, value] of Object.entries(row)) {
      if (typeof value === "number") sums[name] = (sums[name] ?? 0) + value;
    }
    totals.set(row.owner, sums);
  }
  tables.usage.show([...totals].map(([owner, sums]) => ({
    key: owner,
    cells: [owner, sums.token ? sums.token.scopes.join(" ") : "configured", expiry(sums.token), number(sums.requests ?? 0), number(sums.failed ?? 0),
      number((sums.prompt_tokens ?? 0) + (sums.completion_tokens ?? 0)), number(sums.images ?? 0), duration((sums.gpu_seconds ?? 0) * 1000)],
  })));
}

async function look() {
  if (!signedIn()) return;
  const parts = admin ? [showStatus, showTasks, showUsage] : [showStatus];
  for (const result of await Promise.allSettled(parts.map((part) => part()))) {
    if (result.status === "rejected") say(result.reason.message);
  }
}

export function start() {
  const make = (name, caption, columns, empty) => { tables[name] = new Table($(`console-${name}`), caption, columns, empty); };
  make("queues", "Queues", ["Queue", "Waiting", "Oldest", "Workers", "State", "Actions"], "There are none.");
  make("workers", "Workers", ["Worker", "Engine", "Models", "Busy", "GPU", "Notes", "Actions"], "No worker has reported itself.");
  make("owners", "Tasks by API token", ["API token", "Running", "Waiting"], "Nothing runs, and nothing waits.");
  make("tasks", "Tasks that are not over", ["Task", "API token", "Kind", "State", "Worker", "Submitted", "Time", "Actions"], "");
  make("usage", "Usage by API token", ["API token", "Scopes", "Expires", "Requests", "Failed", "Tokens", "Images", "Engine time"], "Nothing yet.");
  make("failures", "Last failures", ["When", "Kind", "End", "Worker", "Task"], "There are none.");
}

export function open(token) {
  admin = token.scopes.includes("admin");
  me = token.name;
  return repeat(EVERY_S, look);
}

export function reset() {
  Object.values(tables).forEach((table) => table.show([]));
  $("console-notes").replaceChildren();
  write($("console-verdict"), "");
  say("");
}
