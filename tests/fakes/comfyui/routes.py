"""The routes for JSON: sections 2 to 5 and 9 of the reference."""

from __future__ import annotations

import asyncio
import json
import sys
import uuid
from typing import Any
from urllib.parse import urlsplit

from tornado.web import RequestHandler

from tests.fakes.comfyui import jobs
from tests.fakes.comfyui.files import MODEL_FOLDERS
from tests.fakes.comfyui.nodes import NODES, describe
from tests.fakes.comfyui.prompts import now_ms, without_secrets
from tests.fakes.comfyui.server import Server
from tests.fakes.comfyui.validation import Refused, problem

LOOPBACK = ("localhost", "127.0.0.1", "::1")
CRASH = "500 Internal Server Error\n\nServer got itself in trouble"


class Route(RequestHandler):
    """What all routes have in common: the bound of bodies, the check of origins, errors as text or as nothing."""

    server: Server

    def initialize(self, server: Server) -> None:
        """Remember the server."""
        self.server = server

    def set_default_headers(self) -> None:
        """Name the server as aiohttp does."""
        self.set_header("Server", "Python/3.12 aiohttp/3.13.5")

    def prepare(self) -> None:
        """Refuse what no route is asked."""
        path = self.request.path.removeprefix("/api")
        self.server.seen[f"{self.request.method} {path}"] += 1
        limit = round(self.server.options.max_upload_size * 1024 * 1024)
        if len(self.request.body) > limit:
            self.end(413, f"Maximum request body size {limit} exceeded.")
        elif self.is_foreign():
            self.end(403)
        elif (raw := self.server.lies.raw(path)) is not None:
            self.set_header("Content-Type", "image/png" if path == "/view" else "application/json")
            self.finish(raw)

    def is_foreign(self) -> bool:
        """Return whether a page of another origin asks; that is only looked at if the host is this machine."""
        headers = self.request.headers
        if self.server.habits.fetch_site and headers.get("Sec-Fetch-Site") == "cross-site":
            return True
        host = urlsplit(f"//{headers.get('Host', '')}")
        origin = urlsplit(headers.get("Origin", ""))
        if not origin.hostname or host.hostname not in LOOPBACK:
            return False
        return (host.hostname, host.port) != (origin.hostname, origin.port)

    def end(self, status: int, text: str = "") -> None:
        """Answer with a text, or with nothing."""
        self.set_status(status)
        self.set_header("Content-Type", "text/plain; charset=utf-8" if text else "application/octet-stream")
        self.finish(text)

    def reply(self, body: Any, status: int = 200) -> None:
        """Answer with JSON."""
        self.set_status(status)
        self.set_header("Content-Type", "application/json; charset=utf-8")
        self.finish(json.dumps(body))

    def write_error(self, status_code: int, **_: Any) -> None:
        """Answer as aiohttp does when a view raises."""
        self.end(status_code, CRASH if status_code >= 500 else "")

    def log_exception(self, *_: Any) -> None:
        """Say nothing: a body that is wrong is an exception here, as upstream."""

    def compute_etag(self) -> str | None:
        """JSON has none."""
        return None


class Missing(Route):
    """Any other path."""

    def prepare(self) -> None:
        """Answer with nothing."""
        self.end(404)


class PromptRoute(Route):
    """``/prompt``."""

    def get(self) -> None:
        """Tell how much is to do."""
        self.reply(self.server.status())

    async def post(self) -> None:
        """Queue a prompt, or say what is wrong with it."""
        body = json.loads(self.request.body)
        number = self.take_number(body)
        if "prompt" not in body:
            refusal = problem("no_prompt", "No prompt provided", "No prompt provided")
            self.reply({"error": refusal, "node_errors": {}}, 400)
            return
        try:
            prompt_id = self.prompt_id(body)
            outputs, node_errors = self.server.validate(body["prompt"], body.get("partial_execution_targets"))
        except Refused as refused:
            self.reply({"error": refused.error, "node_errors": refused.node_errors}, 400)
            return
        extra_data = dict(body.get("extra_data", {}))
        if "client_id" in body:
            extra_data["client_id"] = body["client_id"]
        if self.server.habits.create_time:
            extra_data["create_time"] = now_ms()
        self.server.prompts.put((number, prompt_id, body["prompt"], extra_data, outputs))
        if self.server.lies.lie == "wrong_id":
            prompt_id = str(uuid.uuid4())
        if self.server.lies.lie == "mute_submit":
            # The prompt is queued, and the connection stays open without an answer.
            await asyncio.Event().wait()
        self.reply({"prompt_id": prompt_id, "number": number, "node_errors": node_errors})

    def take_number(self, body: Any) -> float:
        """Return the priority of a prompt."""
        if "number" in body:
            return float(body["number"])
        number = self.server.number
        self.server.number += 1
        return -number if "front" in body and body["front"] else number

    def prompt_id(self, body: dict[str, Any]) -> str:
        """Return the id of a prompt. Raises Refused if the caller's own is none."""
        habits = self.server.habits
        if "prompt_id" not in body or not habits.client_ids:
            return str(uuid.uuid4())
        chosen = body["prompt_id"]
        if not habits.only_uuids:
            return str(chosen)
        try:
            known = str(uuid.UUID(chosen))
        except (AttributeError, TypeError, ValueError):
            known = ""
        if not known or known != chosen:
            message = "prompt_id must be a canonical lower-case UUID"
            raise Refused(problem("invalid_prompt_id", message, message))
        return known


class QueueRoute(Route):
    """``/queue``."""

    def get(self) -> None:
        """Tell what runs and what waits, with the whole workflows; what waits is in the heap's order."""
        prompts = self.server.prompts
        running = [] if prompts.running is None else [prompts.running]
        self.reply({"queue_running": self.told(running), "queue_pending": self.told(prompts.pending)})

    def told(self, items: list[Any]) -> list[Any]:
        """Return items as they are told; releases differ in whether they hide keys of accounts."""
        if not self.server.habits.hides_keys:
            return items
        return [[*item[:3], without_secrets(item[3]), item[4]] for item in items]

    def post(self) -> None:
        """Remove what waits."""
        body = json.loads(self.request.body)
        if "clear" in body and body["clear"]:
            self.server.prompts.clear()
        for prompt_id in body.get("delete", []):
            self.server.prompts.delete(prompt_id)
        self.end(200)


class InterruptRoute(Route):
    """``/interrupt``."""

    def post(self) -> None:
        """End the prompt that is named if it runs; without a name, whatever runs."""
        try:
            body = json.loads(self.request.body)
        except ValueError:
            body = {}
        self.server.interrupt(body.get("prompt_id"))
        self.end(200)


class FreeRoute(Route):
    """``/free``."""

    def post(self) -> None:
        """Remember what to free after the running prompt."""
        body = json.loads(self.request.body)
        if body.get("free_memory", False) and self.server.prompts.running is None:
            self.server.cache.clear()
        self.server.flags |= {name: True for name in ("unload_models", "free_memory") if body.get(name, False)}
        self.end(200)


class HistoryRoute(Route):
    """``/history`` and ``/history/ID``."""

    def get(self, prompt_id: str | None = None) -> None:
        """Tell what is over."""
        prompts = self.server.prompts
        if prompt_id is None:
            most = self.get_query_argument("max_items", None)
            offset = int(self.get_query_argument("offset", "-1"))
            self.reply(prompts.told_history(None if most is None else int(most), offset))
            return
        entry = prompts.history.get(prompt_id)
        if entry is not None:
            entry = entry | {"outputs": self.server.lies.outputs(entry["outputs"])}
        self.reply(self.server.lies.history(prompt_id, entry))

    def post(self) -> None:
        """Forget."""
        body = json.loads(self.request.body)
        if "clear" in body and body["clear"]:
            self.server.prompts.history.clear()
        for prompt_id in body.get("delete", []):
            self.server.prompts.history.pop(prompt_id, None)
        self.end(200)


class JobsRoute(Route):
    """``/api/jobs`` and ``/api/jobs/ID``."""

    def get(self, prompt_id: str | None = None) -> None:
        """Tell one job or all."""
        if not self.server.habits.jobs:
            self.end(404)
        elif prompt_id is not None:
            job = jobs.find(self.server.prompts, prompt_id)
            if job is not None:
                job = job | {"outputs": self.server.lies.outputs(job.get("outputs", {}))}
            self.reply({"error": "Job not found"} if job is None else job, 404 if job is None else 200)
        else:
            self.list()

    def list(self) -> None:
        """Tell a page of jobs."""
        wanted = self.get_query_argument("status", "")
        found = [job for job in jobs.all_of(self.server.prompts) if not wanted or job["status"] in wanted.split(",")]
        limit = self.get_query_argument("limit", None)
        offset = int(self.get_query_argument("offset", "0"))
        end = None if limit is None else offset + int(limit)
        page = {"offset": offset, "limit": None if limit is None else int(limit), "total": len(found)}
        shown = [{key: value for key, value in job.items() if key != "workflow"} for job in found[offset:end]]
        self.reply({"jobs": shown, "pagination": page | {"has_more": end is not None and end < len(found)}})


class CancelRoute(Route):
    """``/api/jobs/ID/cancel`` and ``/api/jobs/cancel``."""

    def post(self, prompt_id: str | None = None) -> None:
        """Remove prompts that wait, and interrupt one that runs."""
        if not self.server.habits.cancels_jobs:
            self.end(405 if self.server.habits.jobs else 404)
            return
        ids = [prompt_id] if prompt_id is not None else json.loads(self.request.body)["job_ids"]
        try:
            canonical = [str(uuid.UUID(one)) for one in ids]
        except ValueError:
            self.reply({"error": "job ids must be UUIDs"}, 400)
            return
        self.reply({"cancelled": any([self.cancel(one) for one in canonical])})

    def cancel(self, prompt_id: str) -> bool:
        """Cancel one prompt; return whether it was to be done."""
        prompts = self.server.prompts
        known = any(item[1] == prompt_id for item in prompts.pending)
        running = prompts.running is not None and prompts.running[1] == prompt_id
        prompts.delete(prompt_id)
        if running:
            self.server.interrupted = True
        return known or running


class ListRoute(Route):
    """Lists that do not change: nodes, models, features, statistics."""

    def get(self, name: str, which: str | None = None) -> None:
        """Tell a list, or one of it."""
        folders = self.server.folders
        if name == "object_info":
            names = list(NODES) if which is None else [which]
            self.reply({known: describe(known, folders) for known in names if known in NODES})
        elif name == "models" and which is not None and which not in MODEL_FOLDERS:
            self.end(404)
        elif name == "models":
            self.reply(list(MODEL_FOLDERS) if which is None else folders.models(which))
        elif which is not None:
            self.end(404)
        elif name == "embeddings":
            self.reply([])
        elif name == "features" and self.server.habits.client_ids:
            self.reply(self.server.features())
        elif name == "system_stats":
            self.reply(self.statistics())
        else:
            self.end(404)

    def statistics(self) -> dict[str, Any]:
        """Return what the machine is; all of it is made up but the version."""
        system = {"os": "posix", "ram_total": 2**34, "ram_free": 2**33, "embedded_python": False}
        system |= {"comfyui_version": self.server.options.comfyui_version, "argv": sys.argv}
        system |= {"python_version": sys.version, "pytorch_version": "2.8.0+cpu"}
        memory = dict.fromkeys(("vram_total", "vram_free", "torch_vram_total", "torch_vram_free"), 2**34)
        return {"system": system, "devices": [{"name": "cpu", "type": "cpu", "index": None} | memory]}


class DoubleRoute(Route):
    """``/double``: how a test steers the double. No real server has it."""

    def get(self) -> None:
        """Tell how often each route was called."""
        self.reply(self.server.seen)

    def post(self) -> None:
        """Change options (by their names in the code) while the server runs."""
        for name, value in json.loads(self.request.body).items():
            setattr(self.server.options, name, value)
        self.server.lies.lie = self.server.options.lie
        self.server.hub.mode = self.server.options.socket
        self.end(200)
