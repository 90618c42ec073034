"""Stable Diffusion engines: AUTOMATIC1111's WebUI, Forge, SD.Next, sd-server, and the embedded placeholder.

They speak the WebUI's ``/sdapi/v1``; stable-diffusion.cpp's sd-server only a part of it, without progress and
interrupt. All of them render one image at a time, and go on for a client that hangs up.
"""

from __future__ import annotations

import json
import sys
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from urllib.parse import unquote, urlsplit

from graycat.engines.base import UNAUTHORIZED_STATUSES, EngineInfo, Health, health_from_error
from graycat.engines.client import EngineClient
from graycat.engines.models.checkpoints import IMAGE, image_models_folder, list_required, main_checkpoint
from graycat.engines.process.command import StartCommand, build_arguments, check_url
from graycat.errors import EngineLost
from graycat.settings import Settings

PROBE_TIMEOUT_S = 2.0
#: Lists may be long, and some engines scan folders for them.
LIST_TIMEOUT_S = 15.0

#: The user of an engine's key, in ``--api-auth graycat:{api_key}``.
USER = "graycat"
API = "/sdapi/v1/"
PROGRESS = API + "progress"
#: A look at the progress that costs no preview.
PROBE = PROGRESS + "?skip_current_image=true"
#: How an engine answers for a route that it does not have.
ABSENT = (404, 405, 501)
#: What an engine answers without work, and what every caller may read: served from the fleet's record.
CATALOG = (
    *("samplers", "schedulers", "upscalers", "latent-upscale-modes", "sd-models", "sd-vae", "sd-modules"),
    *("hypernetworks", "face-restorers", "realesrgan-models", "prompt-styles", "embeddings", "loras", "scripts"),
    *("script-info", "options"),
)


@dataclass
class WebuiEngine:
    """A server of the WebUI's API. ``start``: the command or what returns it, None for one that runs already."""

    name: str
    url: str
    start: StartCommand
    #: What it wants of whoever calls it where its address does not say; '' for nothing.
    api_key: str = field(default="", repr=False)
    #: Some answer nothing while they render.
    busy_timeout_s: float = 900.0

    def __post_init__(self) -> None:
        address = urlsplit(self.url)
        headers = {}
        login = f"{USER}:{self.api_key}" if self.api_key else ""
        if address.username:
            login = f"{unquote(address.username)}:{unquote(address.password or '')}"
        if login:
            headers["Authorization"] = "Basic " + b64encode(login.encode()).decode()
        self.client = EngineClient(self.url, headers)

    def command(self) -> Sequence[str] | None:
        """Return the command that starts it."""
        return self.start() if callable(self.start) else self.start

    def health(self) -> Health:
        """Look whether it answers; whether its model is loaded no WebUI tells."""
        try:
            status, reply = self._ask(PROBE, PROBE_TIMEOUT_S)
            if status in ABSENT:
                status, reply = self._ask(API + "options", PROBE_TIMEOUT_S)
        except EngineLost as error:
            return health_from_error(error)
        if status in UNAUTHORIZED_STATUSES:
            return Health.UNAUTHORIZED
        return Health.HEALTHY if status == 200 and _is_json(reply) else Health.LOADING

    def describe(self) -> EngineInfo:
        """Return its lists and options, those that it has. Raises EngineLost."""
        catalog = {}
        for name in CATALOG:
            status, reply = self._ask(API + name, LIST_TIMEOUT_S)
            # One list that fails (`options` does while a setting has a wrong type) keeps no engine from rendering.
            if status == 200 and _is_json(reply):
                catalog[name] = reply
        # Nothing else tells an engine that can be interrupted from one that cannot (sd-server).
        interruptible = self._ask(PROBE, PROBE_TIMEOUT_S)[0] not in ABSENT
        props = {"placeholder": self.name == PLACEHOLDER, "interruptible": interruptible}
        return EngineInfo(slots=1, props=json.dumps(props).encode(), models=(), catalog=catalog)

    def post(self, path: str, timeout_s: float = PROBE_TIMEOUT_S) -> None:
        """Send a control call (``interrupt``, ``skip``). Raises EngineLost where it does not arrive."""
        with self.client.open("POST", API + path, b"{}", timeout_s=timeout_s) as response:
            response.read()

    def _ask(self, path: str, timeout_s: float) -> tuple[int, bytes]:
        """Return status and body of the reply to a GET. Raises EngineLost."""
        with self.client.open("GET", path, timeout_s=timeout_s) as response:
            reply = response.read()
        return response.status, reply


PLACEHOLDER = "placeholder"


def _is_json(reply: bytes) -> bool:
    try:
        json.loads(reply)
    except ValueError:
        return False
    return True


def build_image_engine(settings: Settings, *, own: bool = True, gpu: int | None = None) -> WebuiEngine:
    """Return the image engine that the settings describe. Raises SettingsError.

    It is adopted if they name an address, else started: ``own`` and ``gpu`` change nothing about its command.
    """
    if settings.a1111_url:
        url = check_url(settings.a1111_url, "A1111_URL")
        return WebuiEngine("webui", url, None, settings.engine_api_key, settings.sd_exec_timeout_s)
    url = f"http://127.0.0.1:{settings.sd_port}"
    # For its complaints.
    list_required(settings, IMAGE)
    if settings.sd_startup_command:
        make = partial(_custom, settings)
        return WebuiEngine(Path(make()[0]).name, url, make, settings.engine_api_key, settings.sd_exec_timeout_s)
    command = [sys.executable, "-m", "graycat.engines.placeholder", "--port", str(settings.sd_port)]
    return WebuiEngine(PLACEHOLDER, url, command, busy_timeout_s=settings.sd_exec_timeout_s)


def _custom(settings: Settings) -> list[str]:
    """Return ``SD_STARTUP_COMMAND`` as an argument list; it never meets a shell."""
    values = {
        "host": settings.engine_host,
        "port": settings.sd_port,
        "api_key": settings.engine_api_key,
        "models": str(image_models_folder(settings)),
        "model": str(main_checkpoint(settings, IMAGE) or ""),
    }
    return build_arguments(
        settings.sd_startup_command, values, "SD_STARTUP_COMMAND", require_key=settings.remote is False
    )
