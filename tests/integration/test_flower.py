"""Flower beside a running graycat: in its API, and in a browser as an operator sees it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
import requests

from tests.conftest import NewHome
from tests.support.browser import Window, chromium
from tests.support.processes import eventually
from tests.support.stack import REQUEST_S, START_S, Stack, free_ports, running

#: What was asked with, and must be nowhere; in several shapes, so that none hides it.
MARK = "zebra-4711"
PASSWORD = "a-password-of-the-tests"
AUTH = ("graycat", PASSWORD)


class Scene:
    """A stack with Flower, on which all kinds of tasks have run."""

    def __init__(self, stack: Stack, port: int) -> None:
        self.stack = stack
        self.url = f"http://127.0.0.1:{port}"
        self.hook = f"https://hooks.invalid/{MARK}"

    def get(self, path: str) -> requests.Response:
        return requests.get(self.url + path, auth=AUTH, timeout=REQUEST_S)

    def tasks(self) -> dict[str, dict[str, Any]]:
        found: dict[str, dict[str, Any]] = self.get("/api/tasks").json()
        return found

    def run_tasks(self) -> None:
        """Run one task of each way that a task can go, all with the mark."""
        api = self.stack.client()
        short = {"n_predict": 2}
        # Whole, streamed, chatted, refused by the engine, and an image.
        assert api.post("/completion", {"prompt": MARK, **short}).ok
        assert api.post("/completion", {"prompt": MARK, "stream": True, **short}).ok
        assert api.post("/v1/chat/completions", {"messages": [{"role": "user", "content": MARK}], "max_tokens": 2}).ok
        assert not api.post("/completion", {"prompt": MARK, "grammar": f"root ::= {MARK}", **short}).ok
        assert api.post("/tokenize", {"content": MARK}).ok
        assert api.post("/sdapi/v1/txt2img", {"prompt": MARK, "negative_prompt": MARK, "steps": 1}).ok
        webhook = {"url": self.hook, "secret": f"whsec_{'Q' * 32}"}
        task = {"kind": "llm.completion", "input": {"prompt": MARK, **short}, "metadata": {"note": MARK}}
        assert api.post("/tasks", task | {"webhook": webhook}).ok


@pytest.fixture(scope="module")
def scene(new_home: NewHome) -> Iterator[Scene]:
    """Yield a stack with Flower, on which tasks have run that Flower has seen."""
    (port,) = free_ports(1)
    env = {"RUN_SD": "true", "GRAYCAT_FLOWER": "true", "FLOWER_PORT": str(port), "GRAYCAT_FLOWER_PASSWORD": PASSWORD}
    with running(Stack(new_home(), env=env)) as stack:
        scene = Scene(stack, port)
        eventually(lambda: len(scene.get("/api/workers?refresh=1").json()) == 4, START_S)
        scene.run_tasks()
        wanted = {"llm.completion", "llm.chat", "llm.tokenize", "sd.txt2img", "control.deliver"}
        eventually(lambda: wanted <= {task["name"] for task in scene.tasks().values()}, START_S)
        yield scene
    # It has written down what it knows.
    kept = b"".join(path.read_bytes() for path in (stack.home / "flower").iterdir())
    assert b"llm.completion" in kept
    assert MARK.encode() not in kept


def paths(scene: Scene) -> list[str]:
    """Return every page and every part of the API that shows something."""
    workers = list(scene.get("/api/workers").json())
    tasks = list(scene.tasks())
    found = ["/", "/workers", "/workers?json=1", "/tasks", "/broker", "/metrics", "/api/workers?refresh=1"]
    found += ["/api/tasks", "/api/task/types", "/api/queues/length"]
    found += [f"/worker/{name}" for name in workers] + [f"/task/{task}" for task in tasks]
    found += [f"/api/task/info/{task}" for task in tasks]
    columns = "".join(f"&columns[{n}][data]={name}" for n, name in enumerate(("name", "args", "result")))
    return [*found, f"/tasks/datatable?draw=1&start=0&length=100&order[0][column]=0&order[0][dir]=asc{columns}"]


def test_nothing_that_was_asked_with_is_in_its_pages_or_its_api(scene: Scene) -> None:
    # Not even where somebody looks for it.
    assert scene.get(f"/api/tasks?search={MARK}").json() == {}
    secrets = (MARK, PASSWORD, scene.stack.token, "Q" * 32, "hooks.invalid")
    for path in paths(scene):
        response = scene.get(path)
        assert response.ok, path
        assert not [secret for secret in secrets if secret in response.text], path


def test_arguments_are_ids_and_results_nothing(scene: Scene) -> None:
    for task in scene.tasks().values():
        argument = re.fullmatch(r"\['([0-9a-f-]+)(?: \w+)?'\]|\('([0-9a-f-]+)(?: \w+)?',\)", task["args"])
        assert argument, task
        assert (task["kwargs"], task["result"] or "None") == ("{}", "None")
        assert not task["exception"], task


def test_ticks_of_the_schedules_are_on_no_list(scene: Scene) -> None:
    fired_at = scene.stack.redis().get("graycat:schedules:fired")
    eventually(lambda: scene.stack.redis().get("graycat:schedules:fired") != fired_at, START_S)
    names = {task["name"] for task in scene.tasks().values()}
    assert "control.deliver" in names
    assert "control.fire_schedules" not in names


def test_an_operator_sees_workers_and_tasks_and_pauses_one(scene: Scene) -> None:
    name = next(worker for worker in scene.get("/api/workers").json() if worker.startswith("llm@"))
    user, secret = AUTH
    assert requests.get(scene.url, timeout=REQUEST_S).status_code == 401
    with chromium() as browser:
        window = Window(browser, http_credentials={"username": user, "password": secret})
        assert window.open(scene.url) == 200
        page = window.page
        page.wait_for_selector(f"text={name}")
        # The pages' own script runs under their policy.
        assert page.evaluate("typeof autorefresh") == "number"
        assert {"llm", "quick", "sd", "control"} == set(re.findall(r"\b(llm|quick|sd|control)@", page.content()))
        page.click("nav >> text=Tasks")
        page.wait_for_selector("text=sd.txt2img")
        assert MARK not in page.content()
        window.open(f"{scene.url}/task/{next(iter(scene.tasks()))}")
        assert MARK not in page.content()

        window.open(f"{scene.url}/worker/{name}")
        for verb, paused in (("pause", True), ("resume", False)):
            page.click("#worker-group")
            page.click(f"#worker-{verb}")
            page.wait_for_selector(f"text={name} takes {'nothing until' if paused else 'tasks again'}")
            eventually(partial(paused_is, scene.stack, name, paused), START_S)
        page.click("#worker-group")
        assert page.inner_text("#worker-shutdown") == "Drain and end"
        assert window.errors == []
        assert all(address.startswith(scene.url) for address in window.addresses)
        window.close()


def paused_is(stack: Stack, name: str, wanted: bool) -> bool:
    workers = requests.get(f"{stack.url}/ready", timeout=REQUEST_S).json()["workers"]
    return next(worker for worker in workers if worker["name"] == name)["paused"] is wanted


def test_its_button_drains_a_worker_and_the_others_go_on(scene: Scene) -> None:
    name = next(worker for worker in scene.get("/api/workers").json() if worker.startswith("sd@"))
    response = requests.post(f"{scene.url}/api/worker/shutdown/{name}", auth=AUTH, timeout=REQUEST_S)
    assert json.loads(response.text)["message"]
    eventually(lambda: "sd" not in scene.stack.processes(), START_S)
    assert scene.stack.client().post("/completion", {"prompt": "Hi", "n_predict": 1}).ok
