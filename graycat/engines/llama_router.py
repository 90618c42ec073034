"""llama.cpp's router: ``llama-server`` without a model, which starts a server for each model that is asked for.

Its wire (``tools/server/server-models.cpp``, build 11434): ``/props`` tells ``"role": "router"`` and a context of 0;
``/props?model=ID`` is the model's own, and loads it unless ``autoload=false``; POST routes find the model in the body's
``model``, GET routes in the query, and answer 400 without one; ``GET /models`` lists each with its ``status.value``
(unloaded, downloading, downloaded, loading, loaded, sleeping; ``failed`` beside unloaded); ``POST /models/load`` loads
one; the least recently used is unloaded for another.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from graycat.bounds.stored import parse_json
from graycat.engines.base import PROBE_TIMEOUT_S, EngineUnusable
from graycat.engines.client import Call, EngineClient
from graycat.errors import EngineError, EngineLost, ModelNotFound
from graycat.redaction.paths import model_name

#: What ``/props`` tells of a router.
ROLE = "router"
#: States in which a model answers; one that sleeps wakes up first.
LOADED_STATES = ("loaded", "sleeping")
#: States in which a model is on its way.
LOADING_STATES = ("loading", "downloading")
#: The most models of a router that are served: each has queues of its own.
MAX_MODELS = 64
#: Seconds between two looks at a model that loads, and for which one that was seen loaded is taken to be so.
LOOK_INTERVAL_S = 0.5
SEEN_LOADED_S = 5.0

Json = dict[str, Any]


@dataclass(frozen=True)
class RoutedModel:
    """One model of a router: its id there, the names that callers may use, and its state."""

    id: str
    names: frozenset[str]
    state: str
    failed: bool

    @classmethod
    def from_json(cls, entry: Json) -> RoutedModel:
        """Return the model of an entry of ``/models``. Raises AttributeError, KeyError, TypeError."""
        status = entry.get("status") or {}
        ident = str(entry["id"])
        aliases = filter(lambda alias: isinstance(alias, str), entry.get("aliases") or [])
        names = {ident, model_name(ident), *aliases}
        return cls(ident, frozenset(names), str(status.get("value")), bool(status.get("failed")))


class LlamaRouter:
    """A router: which model is the default, and how requests are addressed."""

    def __init__(self, client: EngineClient, wanted: str, load_timeout_s: float) -> None:
        """``wanted``: the name of the model for requests that name none; '' for the first in the router's list."""
        self._client = client
        self._wanted = wanted
        self._load_timeout_s = load_timeout_s
        #: The id of the default model.
        self.default = ""
        self._ids: Mapping[str, str] = {}
        #: The default model's last ``/props``.
        self._props = b""
        self._seen_loaded_at: dict[str, float] = {}
        self._lock = threading.Lock()

    def refresh(self) -> tuple[Json, Json]:
        """Return the default model's ``/props`` and the router's list of models, the default one first.

        The first time the default model is loaded. Raises EngineUnusable, which says why it is not ready, EngineLost.
        """
        model_list = self._read_list()
        models = _parse_models(model_list)
        default = self._choose_default(models)
        if default.state in LOADED_STATES:
            self._props = self._get(f"/props?model={quote(default.id, safe='')}&autoload=false")
        elif not self._props or default.id != self.default:
            self._begin_load(default)
            raise EngineUnusable(f"llama.cpp's router loads the model {default.id!r}")
        self.default = default.id
        served = [default, *(model for model in models if model is not default)][:MAX_MODELS]
        # The first in the list goes before others of the same name.
        self._ids = {name: model.id for model in reversed(served) for name in model.names}
        by_id = {str(entry["id"]): entry for entry in model_list["data"]}
        return parse_json(self._props), {"object": "list", "data": [by_id[model.id] for model in served]}

    def _choose_default(self, models: list[RoutedModel]) -> RoutedModel:
        if not models:
            raise EngineUnusable("llama.cpp's router has no model: start it with --models-dir or --models-preset")
        if not self._wanted:
            return models[0]
        for model in models:
            if self._wanted in model.names or model_name(self._wanted) in model.names:
                return model
        listed = ", ".join(model_name(model.id) for model in models[:10])
        raise EngineUnusable(f"GRAYCAT_ROUTER_MODEL names {self._wanted!r}; llama.cpp's router has {listed}")

    def _begin_load(self, model: RoutedModel) -> None:
        if model.failed:
            raise EngineUnusable(f"llama.cpp's router cannot load the model {model.id!r}: its log says why")
        if model.state not in LOADING_STATES:
            self._post("/models/load", {"model": model.id})

    def address(self, method: str, path: str, body: bytes, call: Call) -> tuple[str, bytes]:
        """Return path and body of a request as the router takes them, once their model is loaded.

        Raises EngineError for a model that it has not, or that is not loaded in time, and EngineLost.
        """
        if method == "GET":
            return f"{path}?model={quote(self.default, safe='')}&autoload=false", body
        model, body = self._name_model(body)
        self._wait_loaded(model, call)
        return path, body

    def _name_model(self, body: bytes) -> tuple[str, bytes]:
        """Return the id of a request's model, and the body with it."""
        if b'"model"' not in body and body.startswith(b"{"):
            rest = body[1:].lstrip()
            comma = b"" if rest.startswith(b"}") else b","
            return self.default, b'{"model":' + json.dumps(self.default).encode() + comma + rest
        value = parse_json(body)
        if not isinstance(value, dict):
            return self.default, body
        name = value.get("model") or self.default
        model = self._ids.get(str(name)) or self._ids.get(model_name(str(name)))
        if model is None:
            raise EngineError(ModelNotFound.status, ModelNotFound(str(name)).encoded())
        if model == value.get("model"):
            return model, body
        return model, json.dumps(value | {"model": model}).encode()

    def _wait_loaded(self, model: str, call: Call) -> None:
        """Return when a model is loaded; have it loaded if it is not."""
        with self._lock:
            if time.monotonic() - self._seen_loaded_at.get(model, -SEEN_LOADED_S) < SEEN_LOADED_S:
                return
        deadline = time.monotonic() + self._load_timeout_s
        asked = False
        while not self._is_loaded(model, asked=asked):
            asked = True
            if call.stopped is not None:
                raise EngineLost
            if time.monotonic() >= deadline:
                reason = f"was not loaded within {self._load_timeout_s:.0f} s (GRAYCAT_ROUTER_LOAD_TIMEOUT_S)"
                raise _refused(model, "model_loading", reason)
            time.sleep(LOOK_INTERVAL_S)
        with self._lock:
            self._seen_loaded_at[model] = time.monotonic()

    def _is_loaded(self, model: str, *, asked: bool) -> bool:
        """Return whether a model is loaded; have it loaded the first time. Raises EngineError if it cannot be."""
        found = next((each for each in _parse_models(self._read_list()) if each.id == model), None)
        if found is None:
            raise EngineError(ModelNotFound.status, ModelNotFound(model_name(model)).encoded())
        if found.state in LOADED_STATES:
            return True
        if found.state not in LOADING_STATES:
            if asked and found.failed:
                raise _refused(model, "model_load_failed", "cannot be loaded: the router's log says why")
            if not asked:
                self._post("/models/load", {"model": model})
        return False

    def _read_list(self) -> Json:
        try:
            model_list = parse_json(self._get("/models"))
            _parse_models(model_list)
        except (ValueError, AttributeError, KeyError, TypeError) as error:
            raise EngineLost from error
        return dict(model_list)

    def _get(self, path: str) -> bytes:
        with self._client.open("GET", path, timeout_s=PROBE_TIMEOUT_S) as response:
            reply = response.read()
        if response.status != 200:
            raise EngineLost
        return reply

    def _post(self, path: str, body: Json) -> None:
        # An error means that it is loading already, or tells nothing that the list of models does not.
        with self._client.open("POST", path, json.dumps(body).encode(), timeout_s=PROBE_TIMEOUT_S) as response:
            response.read()


def _parse_models(model_list: Json) -> list[RoutedModel]:
    return [RoutedModel.from_json(entry) for entry in model_list["data"]]


def _refused(model: str, kind: str, reason: str) -> EngineError:
    message = f"the model {model_name(model)[:100]!r} {reason}"
    return EngineError(503, json.dumps({"error": {"code": 503, "message": message, "type": kind}}).encode())
