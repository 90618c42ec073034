"""ComfyUI as an image engine: the WebUI's API over workflow templates, and an operator's own workflows.

Facts about its wire: measured on 0.24.0 and 0.3.64. It has no authentication at all, so it must be reachable by graycat
alone. It runs one prompt at a time; prompts of others in its queue are left alone.
"""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit, urlunsplit

from graycat.bounds.stored import parse_json
from graycat.engines.base import PROBE_TIMEOUT_S, UNAUTHORIZED_STATUSES, EngineInfo, Health, health_from_error
from graycat.engines.client import Call, EngineClient
from graycat.engines.comfy import pictures
from graycat.engines.comfy.catalog import ComfyCatalog, match_file
from graycat.engines.comfy.generation import read_generation
from graycat.engines.comfy.plans import GenerationPlan, Plan, WorkflowPlan
from graycat.engines.comfy.render import ComfyRender
from graycat.engines.comfy.socket import ComfySocket
from graycat.engines.comfy.upscaling import read_upscaling
from graycat.engines.comfy.wire import FIRST_INTERRUPT_BY_ID, ComfyWire
from graycat.engines.comfy.workflows import NamedWorkflow, load_folder, to_catalog
from graycat.engines.models.checkpoints import IMAGE, list_required, main_checkpoint
from graycat.engines.process.command import StartCommand, build_arguments, check_url, resolve_command
from graycat.engines.renders import Render, RenderJob
from graycat.errors import (
    EngineLost,
    EngineProtocolError,
    ModelNotFound,
    RequestError,
    SettingsError,
    UnsupportedParameter,
)
from graycat.images.comfyui_fields import COMFYUI, ENGINE_LIST, UPSCALING, check_call
from graycat.images.habits import A1111, Habits
from graycat.images.workflow_inputs import check_input
from graycat.settings import Settings

#: Seconds that a health check may wait: it loads models while it holds Python's lock.
BUSY_TIMEOUT_S = 120.0
API = "/sdapi/v1/"


@dataclass
class ComfyEngine:
    """A ComfyUI. ``start``: how it is started; None for one that runs already."""

    name: str
    url: str
    start: StartCommand
    settings: Settings
    busy_timeout_s: float = BUSY_TIMEOUT_S
    habits: Habits = A1111

    def __post_init__(self) -> None:
        address = urlsplit(self.url)
        self._headers = {}
        if address.username:
            # A proxy in front of it may ask for a password.
            login = f"{unquote(address.username)}:{unquote(address.password or '')}"
            self._headers["Authorization"] = "Basic " + b64encode(login.encode()).decode()
        self._bare_url = urlunsplit(address._replace(netloc=address.netloc.rpartition("@")[2]))
        self.client = EngineClient(self.url, self._headers)
        self.wire = ComfyWire(self.client)
        self._catalog = ComfyCatalog.read({}, [])
        self._workflows: dict[str, NamedWorkflow] = {}
        #: The checkpoint of requests that name none; '' for the first that it lists.
        self._checkpoint = ""
        self._interruptible = False
        self._explanation = ""

    def command(self) -> Sequence[str] | None:
        """Return the command that starts it; None for one that runs already."""
        return resolve_command(self.start)

    def health(self, timeout_s: float = PROBE_TIMEOUT_S) -> Health:
        """Check whether a ComfyUI answers. It loads models only when it needs them."""
        try:
            status, version = self.wire.version(timeout_s)
        except EngineLost as error:
            return health_from_error(error)
        except EngineProtocolError:
            self._explanation = "engine answers, but not as ComfyUI does: GET /system_stats (no JSON)"
            return Health.LOADING
        if status in UNAUTHORIZED_STATUSES:
            return Health.UNAUTHORIZED
        if status == 200 and version is not None:
            self._explanation = ""
            return Health.HEALTHY
        self._explanation = f"engine answers, but not as ComfyUI does: GET /system_stats {status}"
        return Health.LOADING

    def explain(self) -> str:
        """Return what it answered to its last health check, if that was not what ComfyUI answers."""
        return self._explanation

    def describe(self) -> EngineInfo:
        """Return what it has, as the WebUI's lists, and the operator's workflows. Raises EngineLost."""
        try:
            _, version = self.wire.version(PROBE_TIMEOUT_S)
            info = self.wire.object_info()
            catalog = ComfyCatalog.read(info, self.wire.embeddings())
        except EngineProtocolError as error:
            raise EngineLost from error
        self._catalog = catalog
        if self.settings.comfyui_workflows:
            self._workflows = load_folder(Path(self.settings.comfyui_workflows), info, self.settings)
        # One that does not tell its version counts as old: it is never interrupted.
        self._interruptible = (version or (0, 0, 0)) >= FIRST_INTERRUPT_BY_ID
        props = {
            "placeholder": False,
            "interruptible": self._interruptible,
            "api": COMFYUI,
            "version": ".".join(map(str, version or ())),
        }
        lists = {name: json.dumps(value).encode() for name, value in catalog.webui_lists(self.checkpoint).items()}
        # By this, web knows what requests it refuses.
        lists[ENGINE_LIST] = json.dumps({"api": COMFYUI}).encode()
        if self._workflows:
            lists["workflows"] = to_catalog(self._workflows)
        return EngineInfo(slots=1, props=json.dumps(props).encode(), catalog=lists)

    @property
    def checkpoint(self) -> str:
        """Return the checkpoint of requests that name none; '' if it has none."""
        names = self._catalog.checkpoints
        downloaded = main_checkpoint(self.settings, IMAGE)
        for wanted in (self._checkpoint, downloaded.name if downloaded else ""):
            found = match_file(wanted, names) if wanted else None
            if found:
                return found
        return names[0] if names else ""

    def start_render(self, job: RenderJob, call: Call) -> Render:
        """Return a render: of a prompt, or of a control call, which is one without progress."""
        path = job.path.removeprefix(API)
        if path in _CONTROLS:
            return _Control(partial(_CONTROLS[path], self, job.body))
        return ComfyRender(
            self.wire,
            self._connect,
            job,
            call,
            partial(self._read, path, job),
            interruptible=self._interruptible,
        )

    def _connect(self, client_id: str) -> ComfySocket:
        return ComfySocket(self._bare_url, client_id, self._headers)

    def _read(self, path: str, job: RenderJob) -> Plan:
        """Return the plan of a task. Raises RequestError, LimitExceeded."""
        body = parse_json(job.body)
        if path == "workflow":
            return self._read_workflow(body, job.task_id)
        check_call(path)
        if path == UPSCALING:
            return read_upscaling(body, self._catalog, self.settings)
        generation = read_generation(body, self._catalog, self.checkpoint, job.task_id)
        size = (generation.width, generation.height)
        uploads = {}
        if body.get("init_images"):
            mode = pictures.resize_mode(body)
            uploads["image"] = pictures.prepare_image(body["init_images"][0], size, mode, self.settings)
            if body.get("mask"):
                uploads["mask"] = pictures.prepare_mask(body, size, self.settings)
        return GenerationPlan(generation, body, uploads, self.settings.comfyui_strip_workflow)

    def _read_workflow(self, body: Mapping[str, Any], task_id: str) -> Plan:
        named = self._workflows.get(str(body.get("workflow")))
        if named is None:
            raise ModelNotFound(str(body.get("workflow")))
        values = check_input(named.schema, body.get("input"), self.settings)
        return WorkflowPlan(named, values, task_id, self.settings.comfyui_strip_workflow)

    def set_options(self, body: bytes) -> bytes:
        """Choose the checkpoint of requests that name none. Raises RequestError for any other option."""
        options = parse_json(body)
        for name, value in options.items():
            if name != "sd_model_checkpoint":
                raise UnsupportedParameter(name[:100], "no option of ComfyUI; 'sd_model_checkpoint' is the only one")
            found = match_file(str(value), self._catalog.checkpoints)
            if found is None:
                raise ModelNotFound(str(value))
            self._checkpoint = found
        return b"null"

    def free(self, _: bytes) -> bytes:
        """Unload models."""
        self.wire.free()
        return b"null"

    def nothing(self, _: bytes) -> bytes:
        """Do nothing: its lists are read again after each such call, and models are loaded when they are needed."""
        return b"null"


_CONTROLS: dict[str, Callable[[ComfyEngine, bytes], bytes]] = {
    "options": ComfyEngine.set_options,
    "unload-checkpoint": ComfyEngine.free,
    "reload-checkpoint": ComfyEngine.nothing,
    "refresh-checkpoints": ComfyEngine.nothing,
    "refresh-vae": ComfyEngine.nothing,
    "refresh-loras": ComfyEngine.nothing,
    "refresh-embeddings": ComfyEngine.nothing,
}


@dataclass
class _Control:
    """A control call as a render: over at once."""

    act: Callable[[], bytes]

    def run(self) -> tuple[int, bytes]:
        try:
            return 200, self.act()
        except RequestError as error:
            return error.status, error.encoded()

    def progress(self) -> None:
        return None

    def interrupt(self) -> bool:
        return False

    def is_whole(self) -> bool:
        return True

    def skip(self) -> None:
        pass

    def give_up(self) -> None:
        pass


def build_comfyui(settings: Settings) -> ComfyEngine:
    """Return the ComfyUI that the settings describe. Raises SettingsError."""
    if settings.comfyui_url:
        return ComfyEngine("comfyui", check_url(settings.comfyui_url, "COMFYUI_URL"), None, settings)
    if settings.remote is False:
        raise SettingsError("COMFYUI_STARTUP_COMMAND: ComfyUI has no API key, and with REMOTE=false its port is public")
    # Called for the SettingsError that it may raise.
    list_required(settings, IMAGE)
    start = partial(_start_command, settings)
    start()
    return ComfyEngine("comfyui", f"http://127.0.0.1:{settings.sd_port}", start, settings)


def _start_command(settings: Settings) -> list[str]:
    """Return ``COMFYUI_STARTUP_COMMAND`` as an argument list; no shell is involved."""
    values = {"host": "127.0.0.1", "port": settings.sd_port, "models": str(settings.home / "models" / "image")}
    return build_arguments(settings.comfyui_startup_command, values, "COMFYUI_STARTUP_COMMAND")
