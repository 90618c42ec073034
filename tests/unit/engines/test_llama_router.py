from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from graycat.engines import llama_router
from graycat.engines.base import EngineUnusable
from graycat.engines.client import Call, StopReason
from graycat.engines.llama import LlamaEngine
from graycat.engines.process.supervisor import Supervisor
from graycat.errors import EngineError, EngineLost
from tests.fakes.llama_router import SECRET, Router

Begin = Callable[..., tuple[LlamaEngine, Router]]


@pytest.fixture
def begin(monkeypatch: pytest.MonkeyPatch) -> Iterator[Begin]:
    """Return how to start a router with these models."""
    monkeypatch.setattr(llama_router, "LOOK_INTERVAL_S", 0.01)
    running: list[Router] = []

    def start(*models: str, wanted: str = "", timeout_s: float = 20.0, autoload: bool = True) -> Any:
        server = Router(0, list(models), autoload=autoload)
        running.append(server)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_address[1]}"
        engine = LlamaEngine("llama-server", url, None, router_model=wanted, router_load_timeout_s=timeout_s)
        return engine, server

    yield start
    for server in running:
        server.shutdown()
        server.server_close()


def describe(engine: LlamaEngine) -> Any:
    """Have a router load its default model, and return what it tells."""
    with pytest.raises(EngineUnusable, match="loads the model"):
        engine.describe()
    return engine.describe()


def address(engine: LlamaEngine, body: Any, method: str = "POST", path: str = "/completion") -> tuple[str, Any]:
    """Return path and body of a request, as the router gets them."""
    path, sent = engine.router.address(method, path, json.dumps(body).encode(), Call())
    return path, json.loads(sent)


def test_a_router_is_ready_with_its_default_model_and_tells_that_one_s_context(begin: Begin) -> None:
    engine, _ = begin("a", "bb")
    info = describe(engine)
    assert (info.slots, info.models) == (3, ("a", "bb"))
    assert json.loads(info.props)["default_generation_settings"] == {"n_ctx": 1025, "params": {"top_k": 40}}


def test_a_supervisor_tells_that_the_model_loads(begin: Begin) -> None:
    engine, _ = begin("slow")
    supervisor = Supervisor(engine, None)
    for now in (0.0, 1.0):
        supervisor.step(now)
    assert (supervisor.ready.is_set(), supervisor.trouble) == (False, "llama.cpp's router loads the model 'slow'")


@pytest.mark.parametrize("autoload", [True, False])
@pytest.mark.parametrize("wanted", ["bb", "bb-alias", "/srv/m/bb.gguf"])
def test_an_operator_chooses_the_default_model_by_any_of_its_names(begin: Begin, wanted: str, autoload: bool) -> None:
    engine, _ = begin("a", "bb", wanted=wanted, autoload=autoload)
    info = describe(engine)
    assert (info.models, json.loads(info.props)["default_generation_settings"]["n_ctx"]) == (("bb", "a"), 1026)
    assert address(engine, {"prompt": "Hi"}) == ("/completion", {"model": "bb", "prompt": "Hi"})


@pytest.mark.parametrize(
    ("models", "wanted", "reason"),
    [
        ((), "", "no model"),
        (("a",), "c", "GRAYCAT_ROUTER_MODEL names 'c'; llama.cpp's router has a"),
    ],
)
def test_a_router_that_cannot_be_used_says_why(begin: Begin, models: tuple[str, ...], wanted: str, reason: str) -> None:
    engine, _ = begin(*models, wanted=wanted)
    with pytest.raises(EngineUnusable, match=reason):
        engine.describe()


def test_a_default_model_that_cannot_be_loaded_is_tried_once(begin: Begin) -> None:
    engine, server = begin("bad")
    with pytest.raises(EngineUnusable, match="loads the model"):
        engine.describe()
    with pytest.raises(EngineUnusable, match="cannot load"):
        engine.describe()
    assert server.failed == {"bad"}


def test_nothing_of_a_router_s_command_lines_is_told(begin: Begin) -> None:
    info = describe(begin("a", "bb")[0])
    told = info.props + info.model_list
    for secret in (SECRET.encode(), b"args", b"preset", b"cmdline", b"api-key"):
        assert secret not in told.replace(b'"model_path":"/srv/secret/a.gguf"', b"")
    data = json.loads(info.model_list)["data"]
    assert [entry["status"] for entry in data] == [{"value": "loaded"}, {"value": "unloaded"}]


@pytest.mark.parametrize("body", [{}, {"prompt": "Hi"}, {"model": "", "a": 1}, {"model": None}, {"prompt": '"model"'}])
def test_a_request_without_a_model_goes_to_the_default_one(begin: Begin, body: dict[str, Any]) -> None:
    engine, _ = begin("a", "bb")
    describe(engine)
    assert address(engine, body)[1] == body | {"model": "a"}


@pytest.mark.parametrize("name", ["bb", "bb-alias", "/srv/m/bb.gguf"])
def test_a_model_is_loaded_when_it_is_asked_for(begin: Begin, name: str) -> None:
    engine, server = begin("a", "bb", autoload=False)
    describe(engine)
    assert address(engine, {"model": name})[1] == {"model": "bb"}
    assert server.states == {"a": "loaded", "bb": "loaded"}


def test_a_question_names_its_model_in_the_query(begin: Begin) -> None:
    engine, _ = begin("a/b c:Q4")
    describe(engine)
    path, _ = address(engine, {}, "GET", "/slots")
    assert path == "/slots?model=a%2Fb%20c%3AQ4&autoload=false"


@pytest.mark.parametrize(
    ("model", "status", "kind"),
    [("c", 404, "model_not_found"), ("bad", 503, "model_load_failed"), ("slow", 503, "model_loading")],
)
def test_a_model_that_cannot_be_had_is_an_error_in_time(begin: Begin, model: str, status: int, kind: str) -> None:
    engine, _ = begin("a", "bad", "slow", timeout_s=0.05 if model == "slow" else 20.0)
    describe(engine)
    with pytest.raises(EngineError) as caught:
        address(engine, {"model": model})
    assert (caught.value.status, json.loads(caught.value.reply)["error"]["type"]) == (status, kind)


def test_a_call_that_is_cancelled_does_not_wait_for_its_model(begin: Begin) -> None:
    engine, _ = begin("a", "slow")
    describe(engine)
    call = Call()
    call.stop(StopReason.CANCELLED)
    with pytest.raises(EngineLost):
        engine.router.address("POST", "/completion", b'{"model": "slow"}', call)


def test_a_default_model_that_was_unloaded_for_another_stays_described(begin: Begin) -> None:
    engine, server = begin("a", "bb")
    props = describe(engine).props
    server.states["a"] = "unloaded"
    assert engine.describe().props == props
    assert server.states["a"] == "unloaded"


def test_of_a_thousand_models_some_are_served(begin: Begin) -> None:
    engine, _ = begin(*(f"m{number:04}" for number in range(1000)), wanted="m0999")
    info = describe(engine)
    assert (len(info.models), info.models[0]) == (llama_router.MAX_MODELS, "m0999")


@pytest.mark.parametrize("told", [[], {}, {"data": 1}, {"data": [1]}, {"data": [{"status": {}}]}])
def test_a_router_that_lists_nonsense_is_not_ready(begin: Begin, told: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    engine, _ = begin("a")
    monkeypatch.setattr(engine.router, "_get", lambda _path: json.dumps(told).encode())
    with pytest.raises(EngineLost):
        engine.describe()
