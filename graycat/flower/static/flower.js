// Adds graycat's commands (pause, resume, drain) to Flower's page of a worker.
"use strict";

// Shows the outcome of an action in the way in which Flower shows those of its own.
function say(text, good) {
  const toast = document.createElement("div");
  toast.className = `toast text-bg-${good ? "success" : "danger"} border-0`;
  toast.setAttribute("role", good ? "status" : "alert");
  const body = document.createElement("div");
  body.className = "toast-body";
  body.textContent = text;
  toast.append(body);
  document.getElementById("toast-container").append(toast);
  new bootstrap.Toast(toast).show();
}

// Buttons of commands that graycat's Flower answers with 403: they would act on tasks and workers behind its back.
const UNSAFE = [
  ...["task-revoke", "task-terminate", "worker-pool-grow", "worker-pool-shrink", "worker-pool-autoscale"],
  ...["worker-pool-restart", "worker-cancel-consumer-", "worker-add-consumer", "task-rate-limit-", "task-timeout-"],
];

function removeUnsafe() {
  for (const id of UNSAFE) {
    for (const button of document.querySelectorAll(`button[id^="${id}"]`)) button.remove();
  }
}

document.addEventListener("DOMContentLoaded", () => {
  removeUnsafe();
  const shutdown = document.getElementById("worker-shutdown");
  const name = document.getElementById("workername");
  if (!shutdown || !name) return;
  shutdown.textContent = "Drain and end";
  const prefix = document.getElementById("url_prefix").value;
  for (const [verb, label] of [["resume", "Resume"], ["pause", "Pause"]]) {
    const button = document.createElement("button");
    button.id = `worker-${verb}`;
    button.type = "button";
    button.className = "dropdown-item";
    button.textContent = label;
    button.addEventListener("click", async () => {
      const path = `${prefix ? "/" + prefix : ""}/api/worker/${verb}/${encodeURIComponent(name.textContent.trim())}`;
      const response = await fetch(path, {method: "POST"});
      const text = await response.text();
      say(response.ok ? JSON.parse(text).message : text, response.ok);
    });
    const item = document.createElement("li");
    item.append(button);
    shutdown.closest("ul").prepend(item);
  }
});
