"""Each mode of a box in a network of its own: who reaches what over the cable, and what happens when it is pulled."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import requests

from tests.conftest import NewHome
from tests.support.boxes import FAKE, Home, answers, certificates
from tests.support.networks import Network, network
from tests.support.processes import eventually
from tests.support.stack import START_S, STOP_S, Stack
from tests.support.tlsproxy import tls_proxy

KEY = "a-key-of-the-engines"
#: Ports as they are by default: in its own network a box has them for itself.
PORTS = {"LLM_PORT": "1337", "SD_PORT": "7860", "PORT": "8000"}
FOX = {"prompt": "a fox", "width": 64, "height": 64, "steps": 2}
#: Seconds until a box that was cut off is missed, and until it is back.
MISSED_S, BACK_S = 30.0, 60.0


@pytest.fixture
def net() -> Iterator[Network]:
    with network() as made:
        yield made


def status(net: Network, port: int, path: str, **options: object) -> int:
    """Return the status that somebody at the other end of the cable gets; 0 where nobody listens for him."""
    try:
        return requests.get(f"http://{net.box}:{port}{path}", timeout=10, **options).status_code  # type: ignore[arg-type]
    except requests.ConnectionError:
        return 0


def test_unset_everything_is_for_the_box_itself(net: Network, tmp_path: Path) -> None:
    box = Stack(tmp_path / "box", env=PORTS | {"STARTUP_COMMAND": f"{FAKE} --port {{port}}"})
    box.prefix = net.prefix
    try:
        box.launch("up", "graycat up").wait_for("graycat is ready at", START_S)
        assert set(net.listeners().items()) >= {(8000, "127.0.0.1"), (1337, "127.0.0.1")}
        assert set(net.listeners().values()) == {"127.0.0.1"}
        assert [status(net, port, "/health") for port in (8000, 1337, 7860, 6379)] == [0, 0, 0, 0]
        assert box.interrupt() == 0
    finally:
        box.kill_all()


def test_remote_a_box_dials_out_over_tls_opens_nothing_and_outlives_a_pulled_cable(
    net: Network, tmp_path: Path
) -> None:
    ca, certificate = certificates(tmp_path / "ca", net.home)
    home = Home(tmp_path / "home")
    with ExitStack() as running:
        home.broker.start()
        running.callback(home.broker.stop)
        running.callback(home.kill_all)
        port = running.enter_context(tls_proxy(certificate, home.broker.port, net.home))
        home.web.launch("web")
        eventually(lambda: answers(home.web.url), START_S)
        url = home.broker.add_box("box7", "llm", "quick", port=port, scheme="rediss", host=net.home)
        env = {"REMOTE": "true", "STARTUP_COMMAND": f"{FAKE} --port {{port}}", "GRAYCAT_REDIS_CA_FILE": str(ca)}
        box = home.box("box7", url, **PORTS, **env)
        box.prefix = net.prefix
        box.launch("up", "graycat up")
        for worker in ("llm@box7", "quick@box7"):
            home.wait_until_consuming(worker)
        assert net.listeners() == {1337: "127.0.0.1"}
        assert [status(net, port, "/health") for port in (1337, 8000)] == [0, 0]
        client = home.client()
        assert client.post("/completion", {"prompt": "x", "n_predict": 3}).json()["tokens_predicted"] == 3
        net.cable("down")
        eventually(lambda: home.row("llm@box7") == {}, MISSED_S)
        net.cable("up")
        eventually(lambda: home.row("llm@box7").get("consuming"), BACK_S)
        assert client.post("/completion", {"prompt": "x", "n_predict": 3}).json()["tokens_predicted"] == 3
        assert home.broker.refusals() == []
        os.kill(box.processes()["up"], signal.SIGINT)
        assert box.wait("up", STOP_S) == 0
        client.session.close()


def test_alone_the_embedded_engine_and_an_image_engine_are_open_to_who_has_their_key(
    net: Network, new_home: NewHome, tmp_path: Path
) -> None:
    images = f"{sys.executable} -m tests.fakes.webui --host {{host}} --port {{port}} --auth graycat:{{api_key}}"
    env = {"REMOTE": "false", "GRAYCAT_ENGINE_API_KEY": KEY, "RUN_SD": "true", "SD_STARTUP_COMMAND": images}
    box = Stack(new_home(), env=PORTS | env)
    box.prefix = net.prefix
    try:
        output = box.launch("up", "graycat up")
        for kind in ("llm", "sd"):
            output.wait_for(f"{kind:3} | ready", START_S)
        assert net.listeners() == {1337: "0.0.0.0", 7860: "0.0.0.0"}  # noqa: S104 (that is what is asserted)
        keys = [{}, {"Authorization": "Bearer wrong"}, {"Authorization": f"Bearer {KEY}"}]
        assert [status(net, 1337, "/props", headers=headers) for headers in keys] == [401, 401, 200]
        logins = [None, ("graycat", "wrong"), ("graycat", KEY)]
        assert [status(net, 7860, "/sdapi/v1/options", auth=auth) for auth in logins] == [401, 401, 200]
        assert status(net, 8000, "/health") == 0
        assert KEY not in output.text
        lines = [line for line in box.command_lines().values() if "graycat.engines.embedded" in line]
        assert (len(lines), any(KEY in line for line in lines)) == (1, False)
        serve_with_the_box_s_engines(net, tmp_path)
        os.kill(box.processes()["up"], signal.SIGINT)
        assert box.wait("up", STOP_S) == 0
        eventually(lambda: not box.command_lines(), STOP_S)
    finally:
        box.kill_all()


def serve_with_the_box_s_engines(net: Network, tmp_path: Path) -> None:
    """Check that a graycat elsewhere serves with a box's engines, and says so of a key that is wrong."""
    engines = {"LLAMA_SERVER_URL": f"http://{net.box}:1337", "A1111_URL": f"http://{net.box}:7860", "RUN_SD": "true"}
    home = Stack(tmp_path / "home", env=engines | {"GRAYCAT_ENGINE_API_KEY": KEY, "GRAYCAT_BOX": "home"})
    try:
        home.start()
        client = home.client()
        text = client.post("/completion", {"prompt": "1, 2, 3, 4,", "n_predict": 4, "temperature": 0}).json()
        assert text["content"] == " 5, "
        assert len(client.post("/sdapi/v1/txt2img", FOX).json()["images"]) == 1
        home.stop()
        home.set_env({"GRAYCAT_ENGINE_API_KEY": "another-key-than-theirs"})
        home.launch("up", "graycat up")
        eventually(lambda: troubles(home) == {"llm@home", "quick@home", "sd@home"}, START_S)
    finally:
        home.kill_all()


def troubles(stack: Stack) -> set[str]:
    """Return the workers of which /ready says that their engine refuses the key."""
    if not answers(stack.url):
        return set()
    body = requests.get(f"{stack.url}/ready", timeout=5).json()
    told = {row["name"] for row in body["workers"] if "refuses the key or password" in row["trouble"]}
    return {name for name in told if f"{name}: engine refuses the key or password" in body["reason"]}
