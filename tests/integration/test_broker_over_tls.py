"""A broker behind TLS, its certificate signed by a CA of its own: everything works, and a stranger is refused."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.boxes import Home, answers, certificates, fake_engine
from tests.support.processes import SLACK_S, eventually
from tests.support.stack import START_S, Stack
from tests.support.tlsproxy import tls_proxy

#: Seconds in which a process that was refused has ended.
REFUSED_S = 20.0


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tls")


@pytest.fixture(scope="module")
def ca(folder: Path) -> tuple[Path, Path]:
    """Return the CA's certificate, and the broker's with its key."""
    return certificates(folder / "ours")


@pytest.fixture(scope="module")
def home(folder: Path, ca: tuple[Path, Path]) -> Iterator[Home]:
    """Yield a home whose web server reaches its broker over TLS, too."""
    found = Home(folder / "home")
    with ExitStack() as running:
        found.broker.start()
        running.callback(found.broker.stop)
        found.tls_port = running.enter_context(tls_proxy(ca[1], found.broker.port))
        running.callback(found.kill_all)
        url = f"rediss://127.0.0.1:{found.tls_port}/0"
        found.web.set_env({"REDIS_URL": url, "GRAYCAT_REDIS_CA_FILE": str(ca[0])})
        found.web.launch("web")
        eventually(lambda: answers(found.web.url), START_S)
        yield found


def box_over_tls(home: Home, name: str, ca_file: Path | str) -> Stack:
    url = home.broker.add_box(name, "llm", port=home.tls_port, scheme="rediss")
    return home.box(name, url, REMOTE="true", GRAYCAT_REDIS_CA_FILE=str(ca_file))


def test_a_web_server_and_a_worker_meet_over_tls(home: Home, ca: tuple[Path, Path]) -> None:
    box = box_over_tls(home, "box7", ca[0])
    box.set_env({"LLAMA_SERVER_URL": fake_engine(box, "--interval 0.01")})
    box.launch("llm")
    home.wait_until_consuming("llm@box7")
    client = home.client()
    streamed = client.post("/completion", {"prompt": "x", "n_predict": 30, "stream": True})
    assert streamed.text.count("data: ") == 31
    task_id = client.post("/tasks", {"kind": "llm.completion", "input": {"prompt": "x", "n_predict": 9999}}).json()[
        "id"
    ]
    eventually(lambda: client.get(f"/tasks/{task_id}").json()["state"] == "running", SLACK_S)
    client.post(f"/tasks/{task_id}/cancel")
    assert client.get(f"/tasks/{task_id}?wait=10").json()["state"] == "cancelled"
    assert home.broker.refusals() == []


@pytest.mark.parametrize("ca_file", ["another", "none"])
@pytest.mark.parametrize("process", ["llm", "web", "up"])
def test_a_broker_that_another_ca_has_signed_is_refused_in_one_line(
    home: Home, folder: Path, process: str, ca_file: str
) -> None:
    name = f"{process}-{ca_file}"
    another = certificates(folder / name / "ca")[0] if ca_file == "another" else ""
    box = box_over_tls(home, name, another)
    output = box.launch(process, "graycat up" if process == "up" else "")
    assert box.wait(process, REFUSED_S) in (2, 4)
    output.close(REFUSED_S)
    told = [line for line in output.text.splitlines() if line.startswith("graycat: ")]
    assert len(told) == 1
    assert "certificate is not trusted" in told[0]
    assert "GRAYCAT_REDIS_CA_FILE" in told[0]
    assert "Traceback" not in output.text


def test_a_password_that_is_wrong_is_said_so_in_one_line(home: Home, ca: tuple[Path, Path]) -> None:
    box = home.box("nobody", f"rediss://nobody:wrong@127.0.0.1:{home.tls_port}/0", GRAYCAT_REDIS_CA_FILE=str(ca[0]))
    output = box.launch("llm")
    assert box.wait("llm", REFUSED_S) == 2
    output.close(REFUSED_S)
    assert [line for line in output.text.splitlines() if "does not take the user" in line] == [output.text.strip()]
    assert "wrong" not in output.text
