"""The llama.cpp family of text engines: llama-server, undreamai_server and the embedded xllamacpp.

They differ in their start commands and in the HTTP methods of their health and properties routes (undreamai_server
accepts POST only). Everything else is the same API.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from graycat.bounds.stored import parse_json
from graycat.engines.base import PROBE_TIMEOUT_S, UNAUTHORIZED_STATUSES, EngineInfo, Health, health_from_error
from graycat.engines.client import EngineClient
from graycat.engines.llama_info import encode_known, known_models, known_props, replaced_names
from graycat.engines.llama_router import ROLE, LlamaRouter
from graycat.engines.models.checkpoints import TEXT, main_checkpoint
from graycat.engines.process import libraries
from graycat.engines.process.command import StartCommand, build_arguments, check_url, resolve_command
from graycat.errors import EngineLost, EngineUnauthorized, SettingsError
from graycat.redaction.paths import model_name
from graycat.settings import Settings, extras

#: More layers than any model has.
ALL_LAYERS = 999
#: Statuses of a route that does not exist, or not with this method.
NO_ROUTE_STATUSES = (404, 405)

#: HTTP methods with their bodies, in the order in which they are tried.
Methods = Sequence[tuple[str, bytes | None]]
GET_ONLY: Methods = [("GET", None)]
GET_OR_POST: Methods = [("GET", None), ("POST", b"{}")]


@dataclass
class LlamaEngine:
    """A server with llama.cpp's API. ``start``: how it is started; None for one that runs already."""

    name: str
    url: str
    start: StartCommand
    #: The API key that it requires; '' for none.
    api_key: str = field(default="", repr=False)
    #: Its HTTP threads answer at once, however busy its slots are.
    busy_timeout_s: float = 0.0
    #: If it is a router: the model of requests that name none, and the seconds that a model may take to load.
    router_model: str = ""
    router_load_timeout_s: float = 300.0

    def __post_init__(self) -> None:
        headers = {}
        if self.api_key:
            headers["Authorization"] = f"Bearer {self.api_key}"
        self.client = EngineClient(self.url, headers)
        #: What serves several models, if it is one: only ``/props`` tells.
        self.router = LlamaRouter(self.client, self.router_model, self.router_load_timeout_s)

    def command(self) -> Sequence[str] | None:
        """Return the command that starts it; None for one that runs already."""
        return resolve_command(self.start)

    def health(self, timeout_s: float = PROBE_TIMEOUT_S) -> Health:
        """Check whether its model is loaded: until then ``/health`` answers 503."""
        try:
            status, _ = self._request("/health", timeout_s=timeout_s)
        except EngineLost as error:
            return health_from_error(error)
        if status == 200:
            return Health.HEALTHY
        return Health.LOADING

    def explain(self) -> str:
        """Return nothing: a server that says that it is not ready loads its model."""
        return ""

    def describe(self) -> EngineInfo:
        """Return its slots, its ``/props`` and its models. Raises EngineLost.

        undreamai_server has no list of models, and old servers do not tell the number of their slots. The defaults are
        the model that the properties name, and one slot.
        """
        raw_props = self._read("/props", GET_OR_POST)
        try:
            props = parse_json(raw_props)
            if props.get("role") == ROLE:
                return self._describe_router()
            slots = int(props.get("total_slots", 1))
            try:
                raw_models = self._read("/v1/models", GET_ONLY)
            except EngineLost:
                raw_models = json.dumps(_build_model_list(props)).encode()
            model_list = parse_json(raw_models)
            ids = tuple(str(model["id"]) for model in model_list["data"])
            known = known_models(model_list)
            known_properties = known_props(props)
        except (ValueError, AttributeError, KeyError, TypeError) as error:
            raise EngineLost from error
        return EngineInfo(
            max(slots, 1),
            encode_known(known_properties, props, raw_props),
            tuple(map(model_name, ids)),
            encode_known(known, model_list, raw_models),
            names=replaced_names([*ids, props.get("model_alias"), props.get("model_path")]),
        )

    def _describe_router(self) -> EngineInfo:
        """Return what the default model of a router tells, and all models. Raises EngineUnusable, EngineLost."""
        props, model_list = self.router.refresh()
        known = known_models(model_list)
        ids = [str(model["id"]) for model in model_list["data"]]
        return EngineInfo(
            max(int(props.get("total_slots", 1)), 1),
            encode_known(known_props(props), {}, b"{}"),
            tuple(dict.fromkeys(map(model_name, ids))),
            encode_known(known, {}, b"{}"),
            names=replaced_names([*ids, props.get("model_path")]),
            router=self.router,
        )

    def _read(self, path: str, methods: Methods) -> bytes:
        """Return the reply of a route. Raises EngineLost if its status is not 200."""
        status, reply = self._request(path, methods)
        if status != 200:
            raise EngineLost
        return reply

    def _request(
        self, path: str, methods: Methods = GET_OR_POST, timeout_s: float = PROBE_TIMEOUT_S
    ) -> tuple[int, bytes]:
        """Return status and body of the reply to the first method that the route has.

        Raises EngineLost and EngineUnauthorized.
        """
        status, reply = 0, b""
        for method, body in methods:
            with self.client.open(method, path, body, timeout_s=timeout_s) as response:
                reply = response.read()
            status = response.status
            if status in UNAUTHORIZED_STATUSES:
                raise EngineUnauthorized
            if status not in NO_ROUTE_STATUSES:
                break
        return status, reply


def _build_model_list(props: dict[str, Any]) -> dict[str, Any]:
    """Return a list of models in OpenAI's format, with the one model that the properties name."""
    name = model_name(props.get("model_alias") or "") or Path(props.get("model_path") or "").stem
    models = []
    if name:
        models.append({"id": name, "object": "model", "owned_by": "llamacpp"})
    return {"object": "list", "data": models}


def build_text_engine(settings: Settings, *, own: bool, gpu: int | None = None) -> LlamaEngine:
    """Return the text engine that the settings describe. Raises SettingsError.

    ``own``: True if graycat starts it, False if it runs already.
    """
    router: dict[str, Any] = {
        "router_model": settings.router_model,
        "router_load_timeout_s": settings.router_load_timeout_s,
    }
    if not own:
        url = check_url(settings.llm_url, "LLAMA_SERVER_URL")
        return LlamaEngine("llama-server", url, start=None, api_key=settings.engine_api_key, **router)

    # The command is built now to raise SettingsError at once. It is built again at each start: when its checkpoint is
    # downloaded, the final file name is known.
    if settings.startup_command:
        start = partial(_custom_command, settings, gpu)
        name = Path(start()[0]).name
    else:
        _check_embedded(settings)
        start = partial(_embedded_command, settings, gpu)
        start()
        name = "xllamacpp"
    return LlamaEngine(name, settings.llm_url, start=start, api_key=settings.engine_api_key, **router)


def _check_embedded(settings: Settings) -> None:
    """Raise SettingsError if the embedded engine, its model or a library of the system is not installed."""
    modules = [extras.ENGINE]
    if not settings.model_url and not extras.are_installed(extras.CHAT_MODEL):
        modules.append(extras.MODEL)
    otherwise = ", or name another one with LLAMA_SERVER_URL or STARTUP_COMMAND, or RUN_LLM=false"
    extras.require("embedded", modules, "the embedded text engine", otherwise)
    missing = libraries.missing()
    if missing:
        raise SettingsError(f"the embedded text engine needs {missing}")


def _embedded_command(settings: Settings, gpu: int | None) -> list[str]:
    """Return the command of the embedded engine."""
    command = [sys.executable, "-m", "graycat.engines.embedded", "--port", str(settings.llm_port)]
    command += ["--host", settings.engine_host]
    command += ["--slots", str(settings.llm_slots), "--context", str(settings.llm_context)]
    command += ["--threads", str(settings.llm_threads)]
    command += ["--prompt-cache-mib", str(settings.llm_prompt_cache_mib)]
    command += ["--gpu-layers", str(count_gpu_layers(settings, gpu))]
    command += ["--models", str(settings.home / "models" / "text")]
    if settings.llm_embeddings:
        command.append("--embeddings")
    model = main_checkpoint(settings, TEXT)
    if model is not None:
        command += ["--model", str(model)]
    return command


def count_gpu_layers(settings: Settings, gpu: int | None) -> int:
    """Return how many layers of the model run on the GPU."""
    if settings.gpu_layers >= 0:
        return settings.gpu_layers
    if gpu is None:
        return 0
    return ALL_LAYERS


def _custom_command(settings: Settings, gpu: int | None) -> list[str]:
    """Return ``STARTUP_COMMAND`` as an argument list; no shell is involved."""
    values = {
        "model": str(main_checkpoint(settings, TEXT) or ""),
        "host": settings.engine_host,
        "port": settings.llm_port,
        "api_key": settings.engine_api_key,
        "slots": settings.llm_slots,
        "gpu_layers": count_gpu_layers(settings, gpu),
    }
    is_public = settings.remote is False
    return build_arguments(settings.startup_command, values, "STARTUP_COMMAND", require_key=is_public)
