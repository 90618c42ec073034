// The tasks of this API token, as they go.
import { $, age, button, duration, h, repeat, Table } from "./dom.js";
import { call, json } from "./api.js";
import { resultPictures } from "./images.js";

const EVERY_S = 2;
const LIVE = ["queued", "running"];
let table = null;
let shown = "";

export const path = (id, rest = "") => `tasks/${encodeURIComponent(id)}${rest}`;

export function times(task) {
  const { queued_ms: waited, run_ms: ran } = task.timings ?? {};
  if (ran !== undefined) return `waited ${duration(waited)}, ran ${duration(ran)}`;
  if (task.state === "running" && task.started_ms) return `runs for ${duration(Math.max(Date.now() - task.started_ms, 0))}`;
  return "";
}

export function stateOf(task) {
  const progress = task.state === "running" ? task.progress?.progress : undefined;
  return progress === undefined ? task.state : `${task.state}, ${Math.round(progress * 100)} %`;
}

async function act(method, address, said) {
  try {
    await call(method, address);
    $("tasks-status").textContent = said;
  } catch (error) {
    $("tasks-status").textContent = error.message;
  }
  await refresh();
}

function actions(task) {
  const found = [{ label: "Show", name: `Show the task ${task.id}`, run: () => show(task.id) }];
  if (LIVE.includes(task.state)) {
    found.push({ label: "Cancel", name: `Cancel the task ${task.id}`, run: () => act("DELETE", path(task.id), "Cancelled.") });
  } else if (task.state !== "succeeded") {
    found.push({ label: "Retry", name: `Retry the task ${task.id}`, run: () => act("POST", path(task.id, "/retry"), "Submitted once more.") });
  }
  return found;
}

async function refresh() {
  const state = $("tasks-state").value;
  const { tasks } = await json("GET", `tasks?limit=50${state ? `&state=${state}` : ""}`);
  table.show(tasks.map((task) => ({
    key: task.id,
    cells: [task.id, task.kind ?? "", stateOf(task), age(task.submitted_ms), times(task)],
    actions: actions(task),
  })));
}

async function show(id) {
  shown = id;
  const place = $("task-details");
  try {
    const task = await json("GET", path(id));
    const title = h("h3", { tabindex: "-1" }, `Task ${id}`);
    const pictures = h("div", { class: "pictures" });
    const close = button("Close", "Close the task's details", () => {
      shown = "";
      place.replaceChildren();
      $("tasks-state").focus();
    });
    place.replaceChildren(title, close, pictures,
      h("pre", { tabindex: "0", role: "region", "aria-label": "The task as JSON" }, JSON.stringify(task, null, 2)));
    title.focus();
    const images = task.kind?.startsWith("sd.") ? await resultPictures(id, task.result, "") : [];
    if (shown === id) pictures.replaceChildren(...images);
  } catch (error) {
    $("tasks-status").textContent = error.message;
  }
}

async function look() {
  try {
    await refresh();
  } catch (error) {
    $("tasks-status").textContent = error.message;
  }
}

export function start() {
  const columns = ["Task", "Kind", "State", "Submitted", "Time", "Actions"];
  table = new Table($("tasks-table"), "My tasks", columns, "There are none. An image of this page is one, and so is what POST /tasks submits.");
  $("tasks-state").addEventListener("change", look);
}

export function open() {
  return repeat(EVERY_S, look);
}

export function reset() {
  shown = "";
  table.show([]);
  $("task-details").replaceChildren();
  $("tasks-status").textContent = "";
}
