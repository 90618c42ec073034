"""Flower as ``graycat flower`` runs it, without workers; with them: tests/integration/test_flower.py."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import flower as flower_package
import pytest
import requests
from flower.events import EventsState
from tornado.httputil import HTTPHeaders

from graycat.flower import app
from graycat.flower.app import POST_PATHS, USER, ReconnectingEvents, ScriptInjector
from graycat.queue.kinds import FIRE_SCHEDULES
from tests.support.helpers import PATIENCE_S, ROOT, Valkey, eventually, free_port

PASSWORD = "a-password-of-the-tests"
#: What Flower offers, as far as somebody without the password may wish for it.
PATHS = ["/", "/workers", "/tasks", "/broker", "/metrics", "/healthcheck", "/api/workers", "/api/tasks"]
PATHS += ["/static/js/flower.js", "/graycat/flower.js", "/login", "/no-such-page"]
#: What would run a task, take one away, or change a worker behind its gate.
CLOSED = [
    *("task/apply/x", "task/async-apply/llm.completion", "task/send-task/llm.completion", "task/abort/x"),
    *("task/revoke/x?terminate=true", "task/timeout/x", "task/rate-limit/x"),
    *("worker/pool/restart/w", "worker/pool/grow/w", "worker/pool/shrink/w", "worker/pool/autoscale/w"),
    *("worker/queue/add-consumer/w?queue=q", "worker/queue/cancel-consumer/w?queue=q", "worker/shutdown/", "other"),
]


@pytest.fixture(scope="module")
def flower(valkey: Valkey, bare_environment: dict[str, str]) -> Iterator[str]:
    """Yield the address of a Flower on the shared broker."""
    port = free_port()
    env = bare_environment | {"GRAYCAT_HOME": str(valkey.settings.home), "FLOWER_PORT": str(port)}
    env |= {"GRAYCAT_FLOWER_PASSWORD": PASSWORD}
    command = [str(Path(sys.executable).parent / "graycat"), "flower"]
    process = subprocess.Popen(command, cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    url = f"http://127.0.0.1:{port}"

    def answers() -> bool:
        assert process.poll() is None, process.communicate()[0]
        try:
            return requests.get(f"{url}/healthcheck", timeout=PATIENCE_S).status_code == 401
        except requests.ConnectionError:
            return False

    try:
        eventually(answers, 30)
        yield url
        process.send_signal(signal.SIGTERM)
        output, _ = process.communicate(timeout=PATIENCE_S)
        assert (process.returncode, PASSWORD in output) == (0, False), output
        assert list((valkey.settings.home / "flower").iterdir()), "it has not written down what it knows"
        assert (valkey.settings.home / "flower").stat().st_mode & 0o077 == 0
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("path", PATHS)
def test_without_the_password_nothing_is_shown(flower: str, path: str) -> None:
    for auth in (None, (USER, "wrong"), ("admin", PASSWORD), ("Üser", PASSWORD), ("", "")):
        response = requests.get(flower + path, auth=auth, timeout=PATIENCE_S)
        assert (response.status_code, response.text) == (401, "Access denied")
        assert response.headers["WWW-Authenticate"].startswith("Basic ")


@pytest.mark.parametrize("path", PATHS[:-2])
def test_with_the_password_it_is_flower(flower: str, path: str) -> None:
    assert requests.get(flower + path, auth=(USER, PASSWORD), timeout=PATIENCE_S).status_code == 200


@pytest.mark.parametrize("path", CLOSED)
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
def test_with_the_password_no_task_is_run_and_no_worker_is_reconfigured(flower: str, path: str, method: str) -> None:
    response = requests.request(method, f"{flower}/api/{path}", auth=(USER, PASSWORD), timeout=PATIENCE_S)
    assert response.status_code == 403
    assert "does not do this" in response.text


@pytest.mark.parametrize("verb", ["pause", "resume", "drain", "shutdown"])
def test_an_unknown_worker_gets_no_command(flower: str, verb: str) -> None:
    url = f"{flower}/api/worker/{verb}/llm@nowhere"
    assert requests.post(url, auth=(USER, PASSWORD), timeout=PATIENCE_S).status_code == 404


@pytest.mark.parametrize("headers", [{"Sec-Fetch-Site": "cross-site"}, {"Origin": "https://elsewhere.example"}])
def test_another_site_s_page_sends_no_command(flower: str, headers: dict[str, str]) -> None:
    url = f"{flower}/api/worker/pause/llm@nowhere"
    response = requests.post(url, auth=(USER, PASSWORD), headers=headers, timeout=PATIENCE_S)
    assert response.status_code == 403


def test_only_pages_have_graycat_s_buttons(flower: str) -> None:
    page = requests.get(f"{flower}/workers", auth=(USER, PASSWORD), timeout=PATIENCE_S)
    assert page.text.count("/graycat/flower.js") == 1
    assert page.text.rstrip().endswith("</html>")
    script = requests.get(f"{flower}/graycat/flower.js", auth=(USER, PASSWORD), timeout=PATIENCE_S)
    assert "worker-shutdown" in script.text
    assert "</body>" not in requests.get(f"{flower}/api/workers", auth=(USER, PASSWORD), timeout=PATIENCE_S).text


def test_buttons_of_what_is_refused_are_taken_from_the_pages() -> None:
    script = (Path(app.__file__).parent / "static" / "flower.js").read_text()
    removed = tuple(re.findall(r'"((?:worker|task)-[a-z-]+)"', script.partition("const UNSAFE")[2].partition("];")[0]))
    templates = Path(flower_package.__file__).parent / "templates"
    buttons: set[str] = set()
    for name in ("worker.html", "task.html"):
        buttons |= set(re.findall(r'<button\s[^>]*?id="([a-z-]+)', (templates / name).read_text()))
    # What is left shows something, or is one of graycat's own commands.
    assert {name for name in buttons if not name.startswith(removed)} == {
        *("worker-group", "worker-refresh", "worker-refresh-all", "worker-shutdown")
    }
    # Each of them is one that Flower has.
    for prefix in removed:
        assert [name for name in buttons if name.startswith(prefix)], prefix


def test_a_page_in_several_chunks_is_unchanged() -> None:
    html = HTTPHeaders({"Content-Type": "text/html; charset=UTF-8"})
    transform = ScriptInjector(None)  # type: ignore[arg-type]
    assert transform.transform_first_chunk(200, html, b"<body></body>", False)[2] == b"<body></body>"
    other = HTTPHeaders({"Content-Type": "application/json"})
    assert transform.transform_first_chunk(200, other, b'"</body>"', True)[2] == b'"</body>"'


def test_only_allowed_posts_pass() -> None:
    assert POST_PATHS.fullmatch("/api/worker/drain/llm@box-gpu0")
    assert not POST_PATHS.fullmatch("/api/worker/drain/")
    assert not POST_PATHS.fullmatch("/x/api/worker/drain/llm@box")


def test_events_are_received_again_soon_after_an_outage(monkeypatch: pytest.MonkeyPatch) -> None:
    class Enough(BaseException):
        """Ends the thread's loop."""

    waited: list[float] = []

    def wait(seconds: float) -> None:
        waited.append(seconds)
        if len(waited) == 9:
            raise Enough

    class Away:
        def connection(self) -> None:
            raise ConnectionRefusedError

    monkeypatch.setattr("graycat.flower.app.time", type("Clock", (), {"sleep": staticmethod(wait)}))
    events = ReconnectingEvents.__new__(ReconnectingEvents)
    events.capp = Away()
    with pytest.raises(Enough):
        events.run()
    assert waited == [1.0] * 9


def test_ticks_that_an_earlier_release_saved_go(tmp_path: Path) -> None:
    state = EventsState(max_tasks_in_memory=10)
    for number, name in enumerate(("llm.chat", FIRE_SCHEDULES.name, "sd.txt2img")):
        event = {"hostname": "w@box", "timestamp": 1.0, "local_received": 1.0, "clock": number, "uuid": f"id{number}"}
        state.event(event | {"type": "task-received", "name": name, "args": "", "kwargs": ""})
    saving = ReconnectingEvents.__new__(ReconnectingEvents)
    saving.db, saving.state, saving.state_save_interval, saving.state_save_timer = str(tmp_path / "f"), state, 1, None
    saving.save_state()

    loading = ReconnectingEvents.__new__(ReconnectingEvents)
    loading.db = saving.db
    loaded = loading.load_state()
    assert {task.name for task in loaded.tasks.values()} == {"llm.chat", "sd.txt2img"}
    assert {task_id for task_id, _ in loaded.tasks_by_time()} == {"id0", "id2"}
    assert set(loaded.search_engine.documents) == {"id0", "id2"}
    loading.db = str(tmp_path / "none")
    assert loading.load_state() is None


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("password", [PASSWORD, "wrong"])
def test_every_answer_has_security_headers(flower: str, path: str, password: str) -> None:
    answer = requests.get(f"{flower}{path}", auth=(USER, password), timeout=PATIENCE_S)
    assert "frame-ancestors 'none'" in answer.headers["Content-Security-Policy"]
    assert (
        "'unsafe-inline'" not in answer.headers["Content-Security-Policy"].partition("script-src")[2].partition(";")[0]
    )
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Referrer-Policy"] == "no-referrer"
