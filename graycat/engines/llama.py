"""The llama.cpp family of text engines: llama-server, undreamai_server and the embedded xllamacpp.

They differ in how they are started and in which methods their health and properties take
(undreamai_server has POST routes only); everything else is one wire.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from graycat.engines.base import UNAUTHORIZED_STATUSES, EngineInfo, Health, health_from_error
from graycat.engines.client import EngineClient
from graycat.engines.models.checkpoints import TEXT, main_checkpoint
from graycat.engines.process.command import StartCommand, build_arguments, check_url
from graycat.errors import EngineLost, EngineUnauthorized
from graycat.settings import Settings

PROBE_TIMEOUT_S = 2.0
#: More layers than any model has.
ALL_LAYERS = 999

Ways = Sequence[tuple[str, bytes | None]]
GET_ONLY: Ways = (("GET", None),)
GET_OR_POST: Ways = (*GET_ONLY, ("POST", b"{}"))


@dataclass
class LlamaEngine:
    """A llama.cpp-compatible server. ``start``: the command or what returns it, None for one that runs already."""

    name: str
    url: str
    start: StartCommand
    #: What it wants of whoever calls it; '' for nothing.
    api_key: str = field(default="", repr=False)
    #: Its HTTP threads answer whatever its slots are at.
    busy_timeout_s: float = 0.0

    def __post_init__(self) -> None:
        headers = {"Authorization": f"Bearer {self.api_key}"} if self.api_key else {}
        self.client = EngineClient(self.url, headers)

    def command(self) -> Sequence[str] | None:
        """Return the command that starts it."""
        return self.start() if callable(self.start) else self.start

    def health(self) -> Health:
        """Look whether its model is loaded: ``/health`` answers 503 until then."""
        try:
            status, _ = self._reply("/health")
        except EngineLost as error:
            return health_from_error(error)
        return Health.HEALTHY if status == 200 else Health.LOADING

    def describe(self) -> EngineInfo:
        """Return its slots, its ``/props`` and its models.

        undreamai_server has no list of models, and old servers do not tell their slots: then one slot, and the model
        that the properties name.
        """
        raw = self._ask("/props")
        try:
            props = json.loads(raw)
            slots = int(props.get("total_slots", 1))
            try:
                model_list = self._ask("/v1/models", GET_ONLY)
            except EngineLost:
                model_list = json.dumps(_model_list(props)).encode()
            models = tuple(str(model["id"]) for model in json.loads(model_list)["data"])
        except (ValueError, AttributeError, KeyError, TypeError) as error:
            raise EngineLost from error
        return EngineInfo(max(slots, 1), raw, models, model_list)

    def _ask(self, path: str, ways: Ways = GET_OR_POST) -> bytes:
        status, reply = self._reply(path, ways)
        if status != 200:
            raise EngineLost
        return reply

    def _reply(self, path: str, ways: Ways = GET_OR_POST) -> tuple[int, bytes]:
        """Return status and body of the reply to GET, or to POST where there is no such GET route (undreamai_server).

        Raises EngineLost, EngineUnauthorized.
        """
        status, reply = 0, b""
        for method, body in ways:
            with self.client.open(method, path, body, timeout_s=PROBE_TIMEOUT_S) as response:
                reply = response.read()
            status = response.status
            if status in UNAUTHORIZED_STATUSES:
                raise EngineUnauthorized
            if status not in (404, 405):
                break
        return status, reply


def _model_list(props: dict[str, Any]) -> dict[str, Any]:
    name = props.get("model_alias") or Path(props.get("model_path") or "").stem
    return {"object": "list", "data": [{"id": name, "object": "model", "owned_by": "llamacpp"}] if name else []}


def build_text_engine(settings: Settings, *, own: bool, gpu: int | None = None) -> LlamaEngine:
    """Return the text engine that the settings describe.

    ``own``: the caller starts it; else it is adopted where it listens. Raises SettingsError.
    """
    if not own:
        url = check_url(settings.llm_url, "LLAMA_SERVER_URL")
        return LlamaEngine("llama-server", url, start=None, api_key=settings.engine_api_key)
    make = partial(_custom if settings.startup_command else _embedded, settings, gpu)
    # Now, for its complaints; and again when its checkpoint is here, under the name that it came with.
    command = make()
    name = Path(command[0]).name if settings.startup_command else "xllamacpp"
    return LlamaEngine(name, settings.llm_url, start=make, api_key=settings.engine_api_key)


def _embedded(settings: Settings, gpu: int | None) -> list[str]:
    """Return the command of the embedded engine."""
    command = [sys.executable, "-m", "graycat.engines.embedded", "--port", str(settings.llm_port)]
    command += ["--host", settings.engine_host]
    command += ["--slots", str(settings.llm_slots), "--context", str(settings.llm_context)]
    command += ["--gpu-layers", str(gpu_layers(settings, gpu)), "--models", str(settings.home / "models" / "text")]
    if settings.llm_embeddings:
        command.append("--embeddings")
    if model := main_checkpoint(settings, TEXT):
        command += ["--model", str(model)]
    return command


def gpu_layers(settings: Settings, gpu: int | None) -> int:
    """Return how many layers go to the GPU."""
    if settings.gpu_layers >= 0:
        return settings.gpu_layers
    return ALL_LAYERS if gpu is not None else 0


def _custom(settings: Settings, gpu: int | None) -> list[str]:
    """Return ``STARTUP_COMMAND`` as an argument list; it never meets a shell."""
    values = {
        "model": str(main_checkpoint(settings, TEXT) or ""),
        "host": settings.engine_host,
        "port": settings.llm_port,
        "api_key": settings.engine_api_key,
        "slots": settings.llm_slots,
        "gpu_layers": gpu_layers(settings, gpu),
    }
    return build_arguments(settings.startup_command, values, "STARTUP_COMMAND", require_key=settings.remote is False)
