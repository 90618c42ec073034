"""Stable Diffusion engines: AUTOMATIC1111's WebUI, Forge, SD.Next, sd-server, and the embedded placeholder.

They have the WebUI's API ``/sdapi/v1``. stable-diffusion.cpp's sd-server has a part of it only, without progress and
interrupt. All of them render one image at a time, and continue to render after their client has disconnected.
"""

from __future__ import annotations

import json
import sys
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from graycat.bounds.stored import parse_json
from graycat.engines.base import PROBE_TIMEOUT_S, UNAUTHORIZED_STATUSES, EngineInfo, Health, health_from_error
from graycat.engines.client import Call, EngineClient
from graycat.engines.models.checkpoints import IMAGE, image_models_folder, list_required, main_checkpoint
from graycat.engines.process.command import StartCommand, build_arguments, check_url, resolve_command
from graycat.engines.renders import RenderJob
from graycat.errors import EngineLost, SettingsError
from graycat.images import habits
from graycat.images.webui_lists import WEBUI_LISTS
from graycat.settings import Settings

if TYPE_CHECKING:
    from graycat.engines.comfyui import ComfyEngine

#: Lists may be long, and some engines scan folders for them.
LIST_TIMEOUT_S = 15.0

#: The user name that belongs to an engine's API key, as in ``--api-auth graycat:{api_key}``.
API_USER = "graycat"
API = "/sdapi/v1/"
PROGRESS = API + "progress"
#: Reads the progress without the cost of a preview image.
PROBE = PROGRESS + "?skip_current_image=true"
#: Statuses of a route that an engine does not have.
NO_ROUTE_STATUSES = (404, 405, 501)
#: What xinference answers to a question for the progress of no request in particular.
UNPROCESSABLE = 422
#: Lists that show that an engine answers, for those without a progress of their own; one is enough.
READY_LISTS = ("options", "samplers", "sd-models")
#: The name of the embedded engine.
PLACEHOLDER = "placeholder"


@dataclass
class WebuiEngine:
    """A server with the WebUI's API. ``start``: how it is started; None for one that runs already."""

    name: str
    url: str
    start: StartCommand
    #: The API key that it requires, if its URL contains no user and password; '' for none.
    api_key: str = field(default="", repr=False)
    #: Some engines answer nothing while they render.
    busy_timeout_s: float = 900.0

    def __post_init__(self) -> None:
        address = urlsplit(self.url)
        login = ""
        if address.username:
            login = f"{unquote(address.username)}:{unquote(address.password or '')}"
        elif self.api_key:
            login = f"{API_USER}:{self.api_key}"
        headers = {}
        if login:
            headers["Authorization"] = "Basic " + b64encode(login.encode()).decode()
        self.client = EngineClient(self.url, headers)
        #: How it is unlike A1111; known once it has described itself.
        self.habits = habits.A1111
        #: What it answered to the requests of its last health check.
        self._answers: list[str] = []

    def command(self) -> Sequence[str] | None:
        """Return the command that starts it; None for one that runs already."""
        return resolve_command(self.start)

    def health(self, timeout_s: float = PROBE_TIMEOUT_S) -> Health:
        """Check whether it answers. No WebUI tells whether its model is loaded.

        Not every engine has the same routes, so any list will do: sd-server has no progress, xinference has one for
        each request only and no options to read, manga-readme has neither progress nor samplers.
        """
        self._answers = []
        try:
            status, reply = self._probe(PROBE, timeout_s)
            if status == 200 and _is_json(reply):
                return Health.HEALTHY
            if status in (*NO_ROUTE_STATUSES, UNPROCESSABLE):
                for name in READY_LISTS:
                    status, reply = self._probe(API + name, timeout_s)
                    if status == 200 and _is_json(reply):
                        return Health.HEALTHY
                    if status not in NO_ROUTE_STATUSES:
                        break
        except EngineLost as error:
            return health_from_error(error)
        if status in UNAUTHORIZED_STATUSES:
            return Health.UNAUTHORIZED
        return Health.LOADING

    def explain(self) -> str:
        """Return what it answered to its last health check, if that made no sense."""
        if not self._answers:
            return ""
        return "engine answers, but not as a Stable Diffusion WebUI does: " + ", ".join(self._answers)

    def _probe(self, path: str, timeout_s: float) -> tuple[int, bytes]:
        status, reply = self._get(path, timeout_s)
        meaning = ""
        if status == 200:
            meaning = " (no JSON)"
        self._answers.append(f"GET {path.partition('?')[0]} {status}{meaning}")
        return status, reply

    def describe(self) -> EngineInfo:
        """Return those of the catalog's lists that it has. Raises EngineLost."""
        catalog = {}
        for name in WEBUI_LISTS:
            status, reply = self._get(API + name, LIST_TIMEOUT_S)
            # An engine renders even if one of its lists fails (`options` does while a setting has a wrong type).
            if status == 200 and _is_json(reply):
                catalog[name] = reply
        # Nothing else distinguishes an engine that can be interrupted from one that cannot (sd-server).
        status, _ = self._get(PROBE, PROBE_TIMEOUT_S)
        interruptible = status not in (*NO_ROUTE_STATUSES, UNPROCESSABLE)
        models = None
        if "sd-models" in catalog:
            models = parse_json(catalog["sd-models"])
        self.habits = habits.recognise(models, status)
        props: dict[str, object] = {"placeholder": self.name == PLACEHOLDER, "interruptible": interruptible}
        if self.habits.engine:
            props["engine"] = self.habits.engine
        return EngineInfo(slots=1, props=json.dumps(props).encode(), models=(), catalog=catalog)

    def start_render(self, job: RenderJob, call: Call) -> WebuiRender:
        """Return a render that has not begun."""
        return WebuiRender(self, job, call)

    def post(self, path: str, timeout_s: float = PROBE_TIMEOUT_S) -> bool:
        """Send a control call (``interrupt``, ``skip``); return whether it took it. Raises EngineLost."""
        with self.client.open("POST", API + path, b"{}", timeout_s=timeout_s) as response:
            response.read()
        return response.status < 400

    def _get(self, path: str, timeout_s: float) -> tuple[int, bytes]:
        """Return status and body of the reply to a GET request. Raises EngineLost."""
        with self.client.open("GET", path, timeout_s=timeout_s) as response:
            reply = response.read()
        return response.status, reply


class WebuiRender:
    """A render of a WebUI: one call, which goes on if its connection is closed."""

    def __init__(self, engine: WebuiEngine, job: RenderJob, call: Call) -> None:
        self._engine = engine
        self._job = job
        self._call = call

    def run(self) -> tuple[int, bytes]:
        """Return status and body of the engine's reply. Raises EngineLost."""
        client, job = self._engine.client, self._job
        # once: a request that is sent again would make its images twice, and the second time without a count.
        with client.open("POST", job.path, job.body, call=self._call, timeout_s=None, once=True) as response:
            reply = response.read()
        return response.status, reply

    def progress(self) -> dict[str, Any] | None:
        """Return the progress that the engine tells. Raises EngineLost, NotImplementedError if it has no such route."""
        with self._engine.client.open("GET", PROGRESS, timeout_s=2.0) as response:
            reply = response.read()
        if response.status != 200:
            raise NotImplementedError
        try:
            return parse_progress(parse_json(reply))
        except (ValueError, KeyError, TypeError, OverflowError) as error:
            raise EngineLost from error

    def interrupt(self) -> bool:
        """Have it stop at its next step; return whether it took that. Raises EngineLost."""
        return self._engine.post("interrupt")

    def is_whole(self) -> bool:
        """Return False: its answer does not tell."""
        return False

    def skip(self) -> None:
        """Have it leave out the rest of its current batch. Raises EngineLost."""
        self._engine.post("skip")

    def give_up(self) -> None:
        """Do nothing: the call is closed by who gives it up."""


def parse_progress(reply: Any) -> dict[str, Any] | None:
    """Return the progress that a WebUI's reply tells; None if it has not begun. Raises ValueError, KeyError and others.

    A WebUI that has not begun repeats the progress of its last render.
    """
    state = reply["state"]
    if state["job_count"] == 0:
        return None
    return {
        "progress": round(min(max(float(reply["progress"]), 0.0), 1.0), 3),
        "eta_s": round(max(float(reply["eta_relative"]), 0.0), 1),
        "step": int(state["sampling_step"]),
        "steps": int(state["sampling_steps"]),
        "job": int(state["job_no"]),
        "jobs": max(int(state["job_count"]), 0),
        "current_image": reply.get("current_image"),
    }


def _is_json(reply: bytes) -> bool:
    try:
        parse_json(reply)
    except ValueError:
        return False
    return True


def build_image_engine(settings: Settings, *, own: bool = True, gpu: int | None = None) -> WebuiEngine | ComfyEngine:
    """Return the image engine that the settings describe. Raises SettingsError.

    If they contain a URL, it runs already; else graycat starts it. ``own`` and ``gpu`` do not change its command.
    """
    if settings.comfyui_url or settings.comfyui_startup_command:
        _check_one_engine(settings)
        # It needs Tornado, which takes a fifth of a worker's start.
        from graycat.engines.comfyui import build_comfyui

        return build_comfyui(settings)
    api_key = settings.engine_api_key
    busy_timeout_s = settings.sd_exec_timeout_s
    if settings.a1111_url:
        url = check_url(settings.a1111_url, "A1111_URL")
        return WebuiEngine("webui", url, None, api_key, busy_timeout_s)

    url = f"http://127.0.0.1:{settings.sd_port}"
    # Called for the SettingsError that it may raise.
    list_required(settings, IMAGE)
    if settings.sd_startup_command:
        start = partial(_custom_command, settings)
        name = Path(start()[0]).name
        return WebuiEngine(name, url, start, api_key, busy_timeout_s)

    command = [sys.executable, "-m", "graycat.engines.placeholder", "--port", str(settings.sd_port)]
    return WebuiEngine(PLACEHOLDER, url, command, busy_timeout_s=busy_timeout_s)


def _check_one_engine(settings: Settings) -> None:
    """Raise SettingsError if a WebUI is named beside ComfyUI: a worker has one engine."""
    for name, value in (("A1111_URL", settings.a1111_url), ("SD_STARTUP_COMMAND", settings.sd_startup_command)):
        if value:
            raise SettingsError(f"{name} and COMFYUI_URL or COMFYUI_STARTUP_COMMAND are set: choose one image engine")


def _custom_command(settings: Settings) -> list[str]:
    """Return ``SD_STARTUP_COMMAND`` as an argument list; no shell is involved."""
    values = {
        "host": settings.engine_host,
        "port": settings.sd_port,
        "api_key": settings.engine_api_key,
        "models": str(image_models_folder(settings)),
        "model": str(main_checkpoint(settings, IMAGE) or ""),
    }
    is_public = settings.remote is False
    return build_arguments(settings.sd_startup_command, values, "SD_STARTUP_COMMAND", require_key=is_public)
