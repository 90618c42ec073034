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

document.addEventListener("DOMContentLoaded", () => {
  const shutdown = document.getElementById("worker-shutdown");
  const name = document.getElementById("workername");
  if (!shutdown || !name) return;
  shutdown.textContent = "Drain and end";
  document.getElementById("worker-pool-restart")?.closest("li").remove();
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
