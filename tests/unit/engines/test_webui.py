from __future__ import annotations

import json
import sys
from base64 import b64encode
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from graycat.engines import webui
from graycat.engines.base import EngineInfo, Health
from graycat.engines.webui import WebuiEngine
from graycat.errors import EngineLost, SettingsError
from graycat.images.webui_lists import WEBUI_LISTS
from graycat.settings import Settings
from tests.support.helpers import AT_ONCE_S, Stopwatch, eventually, free_port
from tests.support.servers import Answer, drop, hold, http_server, reply
from tests.support.webui_wire import DOUBLE, WebUI, running
from tests.support.webuis import PROBE, WELL, let_go

IDLE = WELL[PROBE]
OPTIONS = "GET /sdapi/v1/options"


@pytest.fixture
def engine_at() -> Iterator[Callable[[str], WebuiEngine]]:
    """Return how to adopt the engine at an address."""
    adopted: list[WebuiEngine] = []

    def adopt(url: str) -> WebuiEngine:
        adopted.append(WebuiEngine("webui", url, start=None))
        return adopted[-1]

    yield adopt
    for engine in adopted:
        let_go(engine)


def props_of(info: EngineInfo) -> Any:
    return json.loads(info.props)


@pytest.fixture(scope="module", params=["a1111", "forge", "sdnext", "sd-server"])
def family(request: pytest.FixtureRequest) -> Iterator[tuple[str, WebUI]]:
    """Return each kind of image engine, running."""
    with running(DOUBLE, "--personality", request.param) as started:
        yield request.param, started


def test_every_family_has_a_health_check_and_renders_one_at_a_time(engine_at, family: tuple[str, WebUI]) -> None:
    name, started = family
    engine = engine_at(started.url)
    assert engine.health() is Health.HEALTHY
    info = engine.describe()
    assert (info.slots, info.models, info.model_list) == (1, (), b"")
    props: dict[str, Any] = {"placeholder": False, "interruptible": name != "sd-server"}
    if name == "sd-server":
        props["engine"] = name
    assert props_of(info) == props


def test_every_family_s_lists_come_as_the_engine_wrote_them(engine_at, family: tuple[str, WebUI]) -> None:
    name, started = family
    catalog = engine_at(started.url).describe().catalog
    for entry, raw in catalog.items():
        assert json.loads(raw) == started.get(entry)
    assert {"samplers", "sd-models", "options"} <= set(catalog) <= set(WEBUI_LISTS)
    assert ("sd-modules" in catalog, "sd-vae" in catalog) == (name == "forge", name in ("a1111", "sdnext"))


def test_an_engine_that_did_not_change_has_the_same_version(engine_at, family: tuple[str, WebUI]) -> None:
    engine = engine_at(family[1].url)
    version = engine.describe().version
    assert version
    assert engine.describe().version == version


def test_an_engine_that_asks_for_a_password_gets_it(engine_at) -> None:
    with running(DOUBLE, "--auth", "me:s@cret") as started:
        login = started.url.replace("://", "://me:s%40cret@")
        assert engine_at(login).health() is Health.HEALTHY
        assert "samplers" in engine_at(login).describe().catalog
        for url in (started.url, started.url.replace("://", "://me:wrong@")):
            assert engine_at(url).health() is not Health.HEALTHY


def test_a_port_that_is_open_before_its_routes_are_there_is_not_healthy_yet(engine_at) -> None:
    with running(DOUBLE, "--loading", "0.5") as started:
        engine = engine_at(started.url)
        assert engine.health() is not Health.HEALTHY
        eventually(lambda: engine.health() is Health.HEALTHY)


@pytest.mark.parametrize(
    "answers",
    [
        {},
        {PROBE: reply(401, {"detail": "Not authenticated"}), OPTIONS: reply(401, {})},
        {PROBE: reply(500, {"error": "RuntimeError"}), OPTIONS: reply(200, {})},
        {PROBE: reply(503, b"<html>Bad Gateway</html>")},
        {PROBE: reply(200, b"<html>another program</html>")},
        {PROBE: reply(404, {}), OPTIONS: reply(200, b"<html>another program</html>")},
        {PROBE: drop},
    ],
)
def test_what_does_not_answer_as_an_image_engine_is_not_healthy(engine_at, answers: dict[str, Answer]) -> None:
    with http_server(answers) as seen:
        assert engine_at(seen.url).health() is not Health.HEALTHY


def test_an_engine_without_progress_is_asked_for_its_options(engine_at) -> None:
    with http_server({OPTIONS: reply(200, {})}) as seen:
        assert engine_at(seen.url).health() is Health.HEALTHY


SAMPLERS, MODELS = "GET /sdapi/v1/samplers", "GET /sdapi/v1/sd-models"


@pytest.mark.parametrize(
    "answers",
    [
        # xinference 4.1: its progress is one request's, its options can be set but not read.
        {PROBE: reply(422, {"detail": []}), OPTIONS: reply(405, {}), SAMPLERS: reply(200, [])},
        # manga-readme 0.1: neither progress nor samplers.
        {PROBE: reply(404, {}), OPTIONS: reply(200, {"sd_model_checkpoint": ""})},
        {PROBE: reply(404, {}), OPTIONS: reply(404, {}), SAMPLERS: reply(404, {}), MODELS: reply(200, [])},
    ],
)
def test_an_engine_with_any_readable_list_is_healthy(engine_at, answers: dict[str, Answer]) -> None:
    with http_server(answers) as seen:
        engine = engine_at(seen.url)
        assert engine.health() is Health.HEALTHY


def test_an_engine_that_is_not_understood_is_explained_by_its_answers(engine_at) -> None:
    with http_server({PROBE: reply(422, {}), OPTIONS: reply(405, {}), SAMPLERS: reply(500, {})}) as seen:
        engine = engine_at(seen.url)
        assert engine.explain() == ""
        assert engine.health() is Health.LOADING
        for part in ("not as a Stable Diffusion WebUI", "progress 422", "options 405", "samplers 500"):
            assert part in engine.explain()
    with http_server({PROBE: reply(200, b"<html>")}) as seen:
        engine = engine_at(seen.url)
        assert engine.health() is Health.LOADING
        assert "progress 200 (no JSON)" in engine.explain()


@pytest.mark.parametrize(
    ("answers", "engine_name", "interruptible"),
    [
        ({PROBE: reply(422, {}), MODELS: reply(200, [{"model_name": "dreams"}])}, "xinference", False),
        ({PROBE: reply(404, {}), MODELS: reply(200, [{"title": "tiny", "hash": "8888888888"}])}, "sd-server", False),
        ({PROBE: IDLE, MODELS: reply(200, [{"title": "a", "hash": None}])}, None, True),
    ],
)
def test_an_engine_is_recognised_by_its_lists(
    engine_at, answers: dict[str, Answer], engine_name: str | None, interruptible: bool
) -> None:
    with http_server(answers) as seen:
        engine = engine_at(seen.url)
        props = props_of(engine.describe())
        assert (props.get("engine"), props["interruptible"]) == (engine_name, interruptible)
        assert engine.habits.engine == (engine_name or "")


def test_an_engine_that_is_not_there_is_not_healthy(engine_at) -> None:
    assert engine_at(f"http://127.0.0.1:{free_port()}").health() is not Health.HEALTHY


def test_the_check_of_an_engine_that_says_nothing_times_out(engine_at) -> None:
    with http_server({PROBE: hold}) as seen:
        watch = Stopwatch()
        assert engine_at(seen.url).health(0.1) is Health.UNRESPONSIVE
        assert watch.seconds < AT_ONCE_S


@pytest.mark.parametrize("broken", [reply(500, {"error": "ValidationError"}), reply(429, {}), reply(200, b"<html>")])
def test_one_list_that_fails_keeps_no_engine_from_rendering(engine_at, broken: Answer) -> None:
    with http_server({PROBE: IDLE, OPTIONS: broken, "GET /sdapi/v1/samplers": reply(200, [])}) as seen:
        info = engine_at(seen.url).describe()
    assert (info.catalog, props_of(info)["interruptible"]) == ({"samplers": b"[]"}, True)


def test_an_engine_that_goes_away_while_it_is_asked_is_lost(engine_at) -> None:
    with http_server({PROBE: IDLE, "GET /sdapi/v1/loras": drop}) as seen, pytest.raises(EngineLost):
        engine_at(seen.url).describe()


@pytest.mark.parametrize("answer", [reply(200, {}), reply(200, b""), reply(204, b""), reply(404, {})])
def test_a_control_call_needs_no_answer(engine_at, answer: Answer) -> None:
    with http_server({"POST /sdapi/v1/interrupt": answer}) as seen:
        engine_at(seen.url).post("interrupt")
    assert seen.requests == [("POST", "/sdapi/v1/interrupt", b"{}")]


def test_a_control_call_that_does_not_arrive_is_an_error(engine_at) -> None:
    with http_server({"POST /sdapi/v1/interrupt": drop}) as seen, pytest.raises(EngineLost):
        engine_at(seen.url).post("interrupt")


def test_without_settings_images_are_drawn_by_the_placeholder() -> None:
    engine = webui.build_image_engine(Settings(sd_port=7999))
    assert (engine.name, engine.url) == ("placeholder", "http://127.0.0.1:7999")
    assert engine.command() == [sys.executable, "-m", "graycat.engines.placeholder", "--port", "7999"]


def test_the_placeholder_says_what_it_is() -> None:
    with running("graycat.engines.placeholder") as started:
        engine = webui.build_image_engine(Settings(sd_port=started.port))
        assert engine.health() is Health.HEALTHY
        assert props_of(engine.describe()) == {"placeholder": True, "interruptible": True}
        let_go(engine)


def test_an_operator_s_command_is_called_by_its_program() -> None:
    settings = Settings(sd_startup_command="/srv/forge/webui.sh --api --port {port}", sd_port=7999)
    engine = webui.build_image_engine(settings)
    assert (engine.name, engine.url) == ("webui.sh", "http://127.0.0.1:7999")
    assert engine.command() == ["/srv/forge/webui.sh", "--api", "--port", "7999"]


def test_an_engine_that_runs_already_wins_and_is_not_started() -> None:
    engine = webui.build_image_engine(Settings(a1111_url="http://box:7861/", sd_startup_command="webui.sh"))
    assert (engine.name, engine.url, engine.command()) == ("webui", "http://box:7861", None)


@pytest.mark.parametrize(
    ("changes", "variable"),
    [({"a1111_url": "https://box"}, "A1111_URL"), ({"sd_startup_command": "webui.sh {modle}"}, "SD_STARTUP_COMMAND")],
)
def test_a_setting_that_starts_nothing_names_its_variable(changes: dict[str, Any], variable: str) -> None:
    with pytest.raises(SettingsError, match=variable):
        webui.build_image_engine(Settings(**changes))


def test_an_engine_with_a_key_is_called_by_a_user_of_ours() -> None:
    key = "a-key-of-the-engines"
    with http_server({"GET /sdapi/v1/progress?skip_current_image=true": reply(200, {})}) as seen:
        assert webui.build_image_engine(Settings(a1111_url=seen.url, engine_api_key=key)).health() is Health.HEALTHY
        login = b64encode(f"graycat:{key}".encode()).decode()
        assert seen.headers[-1]["authorization"] == f"Basic {login}"
    command = "webui --listen --api-auth graycat:{api_key}"
    alone = webui.build_image_engine(Settings(remote=False, engine_api_key=key, sd_startup_command=command))
    assert alone.command() == ["webui", "--listen", "--api-auth", f"graycat:{key}"]
    with pytest.raises(SettingsError, match="SD_STARTUP_COMMAND must pass {api_key}"):
        webui.build_image_engine(Settings(remote=False, engine_api_key=key, sd_startup_command="webui"))
