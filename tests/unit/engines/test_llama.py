from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from graycat.engines import llama
from graycat.engines.base import Health
from graycat.engines.llama import LlamaEngine
from graycat.errors import EngineLost, SettingsError
from graycat.settings import Settings
from tests.support.helpers import AT_ONCE_S, Stopwatch, free_port
from tests.support.servers import Answer, drop, hold, http_server, reply

KEY = "a-key-of-the-engines"
#: The two families: llama-server has GET routes; undreamai_server has POST routes only.
STOCK = {"GET /health": reply(200, {"status": "ok"}), "GET /props": reply(200, {"total_slots": 4, "model": "süß"})}
POST_ONLY = {
    "POST /health": reply(200, {"status": "ok"}),
    "POST /props": reply(200, {"default_generation_settings": {}}),
}
POST_405 = {
    "GET /health": reply(405, {}),
    "GET /props": reply(405, {}),
    "POST /health": reply(200, {}),
    "POST /props": reply(200, {"total_slots": 2}),
}


def engine_at(url: str) -> LlamaEngine:
    return LlamaEngine("llama-server", url, start=None)


@pytest.mark.parametrize(("answers", "slots"), [(STOCK, 4), (POST_ONLY, 1), (POST_405, 2)])
def test_every_family_has_a_health_check_and_slots(answers: dict[str, Answer], slots: int) -> None:
    with http_server(answers) as seen:
        engine = engine_at(seen.url)
        assert engine.health() is Health.HEALTHY
        assert engine.describe().slots == slots


def test_properties_come_as_the_engine_wrote_them() -> None:
    raw = b'{ "total_slots":2,\n"chat_template" : "{{ x }}" }'
    with http_server({"GET /props": reply(200, raw)}) as seen:
        assert engine_at(seen.url).describe().props == raw


def test_a_model_without_a_name_is_called_by_its_file_s() -> None:
    models = {"data": [{"id": "/srv/m/süß.gguf"}, {"id": "ggml-org/gemma:Q4"}]}
    with http_server({**STOCK, "GET /v1/models": reply(200, models)}) as seen:
        info = engine_at(seen.url).describe()
    assert info.models == ("süß", "ggml-org/gemma:Q4")
    assert [entry["id"] for entry in json.loads(info.model_list)["data"]] == ["süß", "ggml-org/gemma:Q4"]
    for text in ("/srv/m/süß.gguf", "/srv/m/s\\u00fc\\u00df.gguf", "\\/srv\\/m\\/süß.gguf"):
        assert info.hide_model_paths(f'{{"model":"{text}"}}'.encode()) == '{"model":"süß"}'.encode()
    # In a text its quotes are escaped.
    said = '{"content":"\\"/srv/m/süß.gguf\\""}'.encode()
    assert info.hide_model_paths(said) == said


def test_a_stock_server_s_settings_are_not_changed_by_asking() -> None:
    with http_server(STOCK) as seen:
        engine = engine_at(seen.url)
        engine.health()
        engine.describe()
    asked = [(method, path) for method, path, _ in seen.requests]
    assert asked == [("GET", "/health"), ("GET", "/props"), ("GET", "/v1/models")]


@pytest.mark.parametrize(
    "answers",
    [
        {"GET /health": reply(503, {"error": {"message": "Loading model"}})},
        {"POST /health": reply(503, {})},
        {"GET /health": reply(500, {}), "POST /health": reply(200, {})},
        {"GET /health": reply(401, {}), "POST /health": reply(200, {})},
        {"GET /health": drop},
        {},
    ],
)
def test_anything_but_a_good_answer_is_not_healthy(answers: dict[str, Answer]) -> None:
    with http_server(answers) as seen:
        assert engine_at(seen.url).health() is not Health.HEALTHY


def test_an_unreachable_engine_is_not_healthy() -> None:
    assert engine_at(f"http://127.0.0.1:{free_port()}").health() is not Health.HEALTHY


def test_an_engine_that_never_answers_is_not_healthy() -> None:
    with http_server({"GET /health": hold}) as seen:
        watch = Stopwatch()
        assert engine_at(seen.url).health(0.1) is Health.UNRESPONSIVE
        assert watch.seconds < AT_ONCE_S


@pytest.mark.parametrize(
    "props", [b"<html>", b"", b"[]", b"null", b'{"total_slots": "many"}', b'{"total_slots": null}']
)
def test_properties_that_make_no_sense_are_no_description(props: bytes) -> None:
    with http_server({"GET /props": reply(200, props)}) as seen, pytest.raises(EngineLost):
        engine_at(seen.url).describe()


@pytest.mark.parametrize("told", [0, -1])
def test_an_engine_has_one_slot_at_least(told: int) -> None:
    with http_server({"GET /props": reply(200, {"total_slots": told})}) as seen:
        assert engine_at(seen.url).describe().slots == 1


def test_the_default_is_the_embedded_engine() -> None:
    engine = llama.build_text_engine(Settings(home=Path("/srv"), llm_port=1338, llm_slots=2, llm_context=512), own=True)
    assert (engine.name, engine.url) == ("xllamacpp", "http://127.0.0.1:1338")
    command = list(engine.command() or [])
    assert command[:3] == [sys.executable, "-m", "graycat.engines.embedded"]
    options = dict(zip(command[3::2], command[4::2], strict=True))
    assert options == {
        "--host": "127.0.0.1",
        "--port": "1338",
        "--slots": "2",
        "--context": "512",
        "--threads": "0",
        "--prompt-cache-mib": "512",
        "--gpu-layers": "0",
        "--models": "/srv/models/text",
    }


def test_a_model_file_is_served_by_the_embedded_engine(tmp_path: Path) -> None:
    model = tmp_path / "a model.gguf"
    model.touch()
    for url in (str(model), f"file://{model}"):
        command = list(llama.build_text_engine(Settings(model_url=url), own=True).command() or [])
        assert command[-2:] == ["--model", str(model)]


def test_an_engine_that_runs_already_is_adopted() -> None:
    engine = llama.build_text_engine(Settings(llama_server_url="http://box:1/"), own=False)
    assert (engine.url, engine.command()) == ("http://box:1", None)


def test_a_command_is_filled_in_and_never_meets_a_shell(tmp_path: Path) -> None:
    model = tmp_path / "m.gguf"
    model.touch()
    settings = Settings(
        startup_command="/opt/llama-server -m {model} --port {port} -np {slots} -ngl {gpu_layers} --alias 'a b; $HOME'",
        model_url=str(model),
        llm_port=1338,
        llm_slots=3,
        gpu_layers=99,
    )
    engine = llama.build_text_engine(settings, own=True)
    assert (engine.name, engine.url) == ("llama-server", "http://127.0.0.1:1338")
    words = ["/opt/llama-server", "-m", str(model), "--port", "1338", "-np", "3", "-ngl", "99", "--alias", "a b; $HOME"]
    assert engine.command() == words


#: Settings that describe no engine, and the variable that is to blame.
UNUSABLE: list[tuple[dict[str, Any], str]] = [
    ({"startup_command": "llama-server 'unclosed"}, "STARTUP_COMMAND"),
    ({"startup_command": "llama-server --port {prt}"}, "STARTUP_COMMAND"),
    ({"startup_command": "llama-server --port {}"}, "STARTUP_COMMAND"),
    ({"startup_command": "llama-server --port {port"}, "STARTUP_COMMAND"),
    ({"startup_command": "llama-server -m {model.name}"}, "STARTUP_COMMAND"),
    ({"startup_command": "''"}, "STARTUP_COMMAND"),
    ({"startup_command": "llama-server -m {model}", "model_url": "/no/such.gguf"}, "MODEL_URL"),
    ({"model_url": "/no/such/model.gguf"}, "MODEL_URL"),
    ({"model_url": "/tmp"}, "MODEL_URL"),  # noqa: S108
    ({"model_url": "http://8.8.8.8/model.gguf"}, "MODEL_URL"),
    ({"model_url": "https://example.org/model.bin"}, "MODEL_URL"),
    ({"model_url": "file://https://example.org/model.gguf"}, "MODEL_URL"),
]


@pytest.mark.parametrize(("changes", "variable"), UNUSABLE)
def test_settings_that_describe_no_engine_name_their_variable(changes: dict[str, Any], variable: str) -> None:
    with pytest.raises(SettingsError, match=variable) as caught:
        llama.build_text_engine(Settings(**changes), own=True)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "url", ["box:1337", "https://box:1337", "ftp://box", "/run/llama.sock", "http://", "http://box:a"]
)
def test_an_address_that_no_request_would_reach_is_refused(url: str) -> None:
    with pytest.raises(SettingsError, match="LLAMA_SERVER_URL"):
        llama.build_text_engine(Settings.from_env({"LLAMA_SERVER_URL": url}), own=False)


def test_an_engine_with_a_key_is_called_with_it_and_never_shows_it() -> None:
    with http_server(STOCK) as seen:
        engine = llama.build_text_engine(Settings(llama_server_url=seen.url, engine_api_key=KEY), own=False)
        assert engine.health() is Health.HEALTHY
        assert seen.headers[-1]["authorization"] == f"Bearer {KEY}"
    assert KEY not in repr(engine)
    own = llama.build_text_engine(Settings(engine_api_key=KEY), own=True)
    assert KEY not in " ".join(own.command() or [])


def test_an_open_engine_must_be_given_its_key() -> None:
    alone = Settings(remote=False, engine_api_key=KEY, startup_command="server --host {host} --key {api_key}")
    assert llama.build_text_engine(alone, own=True).command() == ["server", "--host", "0.0.0.0", "--key", KEY]  # noqa: S104
    with pytest.raises(SettingsError, match="STARTUP_COMMAND must pass {api_key}"):
        llama.build_text_engine(Settings(remote=False, engine_api_key=KEY, startup_command="server"), own=True)


@pytest.mark.parametrize("missing", ["ENGINE", "MODEL"])
def test_without_the_embedded_engine_it_says_what_to_install(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"graycat.settings.extras.{missing}", "not_there_at_all")
    monkeypatch.setattr("graycat.settings.extras.CHAT_MODEL", "not_there_at_all")
    with pytest.raises(SettingsError, match=r"text engine needs more packages: pip install 'graycat\[embedded\]', or"):
        llama.build_text_engine(Settings(), own=True)
    # Neither is needed for an engine of the operator's own.
    assert llama.build_text_engine(Settings(startup_command="server"), own=True).name == "server"


def test_the_packaged_model_is_not_needed_beside_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("graycat.settings.extras.MODEL", "not_there_at_all")
    monkeypatch.setattr("graycat.settings.extras.CHAT_MODEL", "not_there_at_all")
    model = tmp_path / "mine.gguf"
    model.touch()
    assert llama.build_text_engine(Settings(model_url=str(model)), own=True).name == "xllamacpp"


def test_one_of_the_packaged_models_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MODEL", "CHAT_MODEL"):
        with monkeypatch.context() as patch:
            patch.setattr(f"graycat.settings.extras.{name}", "not_there_at_all")
            assert llama.build_text_engine(Settings(), own=True).name == "xllamacpp"


def test_a_library_that_the_embedded_engine_lacks_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("graycat.engines.process.libraries.LIBRARIES", {"libnone.so.1": ("libnone1", "none")})
    with pytest.raises(SettingsError, match=r"the embedded text engine needs libnone\.so\.1: apt-get install libnone1"):
        llama.build_text_engine(Settings(), own=True)
