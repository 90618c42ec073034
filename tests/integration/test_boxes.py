"""Workers on somebody else's machine: they do their work with a user of the broker that can do nothing else."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import redis

from graycat.broker import keys
from tests.support.boxes import Home, at_home, fake_engine, refused
from tests.support.processes import SLACK_S, eventually
from tests.support.servers import http_server, reply
from tests.support.stack import Stack, free_ports

BODY: dict[str, Any] = {"prompt": "x", "n_predict": 20}
#: Seconds until a dead worker's task has begun again, and ended.
BACK_S = 120.0
FOREVER = {"prompt": "x", "n_predict": 100_000}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    with at_home(tmp_path_factory.mktemp("boxes") / "home") as started:
        yield started


@pytest.fixture(autouse=True)
def nothing_refused_yet(home: Home) -> None:
    """Begin with nothing that a user was refused."""
    home.broker.client.acl_log_reset()


@pytest.fixture(scope="module")
def url(home: Home) -> str:
    """Return the address that the box was given."""
    return home.broker.add_box("box7", "llm", "quick")


@pytest.fixture(scope="module")
def box(home: Home, url: str) -> Stack:
    """Return a box whose workers run."""
    stack = home.box("box7", url, REMOTE="true")
    stack.set_env({"LLAMA_SERVER_URL": fake_engine(stack, "--interval 0.02")})
    for name in ("llm", "quick"):
        stack.launch(name)
        home.wait_until_consuming(f"{name}@box7")
    return stack


def test_a_box_serves_streams_whole_answers_and_quick_calls(home: Home, box: Stack) -> None:
    client = home.client()
    answer = client.post("/completion", BODY)
    assert (answer.status_code, answer.json()["tokens_predicted"]) == (200, 20)
    events = [line for line in client.post("/completion", BODY | {"stream": True}).text.split("\n\n") if line]
    assert (len(events), json.loads(events[-1].removeprefix("data: "))["stop"]) == (21, True)
    assert client.post("/tokenize", {"content": "Hi"}).json() == {"tokens": [72, 105]}
    assert home.broker.refusals() == []


def test_tasks_take_turns_and_batches_wait(home: Home, box: Stack) -> None:
    client = home.client()
    ids = []
    for priority in ("interactive", "batch") * 6:
        task = {"kind": "llm.completion", "input": BODY, "priority": priority}
        ids.append(client.post("/tasks", task).json()["id"])
    states = [client.get(f"/tasks/{task_id}?wait=20").json()["state"] for task_id in ids]
    assert states == ["succeeded"] * 12
    assert home.broker.refusals() == []


def test_a_task_is_cancelled_from_afar(home: Home, box: Stack) -> None:
    client = home.client()
    task_id = client.post("/tasks", {"kind": "llm.completion", "input": FOREVER}).json()["id"]
    eventually(lambda: client.get(f"/tasks/{task_id}").json()["state"] == "running", SLACK_S)
    client.post(f"/tasks/{task_id}/cancel")
    assert client.get(f"/tasks/{task_id}?wait=10").json()["state"] == "cancelled"
    assert home.broker.refusals() == []


def test_a_box_is_paused_and_resumed_from_afar(home: Home, box: Stack) -> None:
    for command, paused in (("pause", True), ("resume", False)):
        home.web.launch(command, f"graycat worker {command} llm@box7").wait_for("llm@box7 takes", 60)
        eventually(lambda paused=paused: home.row("llm@box7").get("paused") is paused, SLACK_S)  # type: ignore[misc]
    home.wait_until_consuming("llm@box7")
    assert home.broker.refusals() == []


def test_a_killed_worker_s_task_runs_again(home: Home, box: Stack) -> None:
    client = home.client()
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(client.post, "/completion", BODY | {"n_predict": 100})
        eventually(lambda: home.row("llm@box7").get("busy") == 1, SLACK_S)
        box.kill("llm")
        box.launch("llm")
        assert answer.result(BACK_S).json()["tokens_predicted"] == 100
    home.wait_until_consuming("llm@box7")
    assert home.broker.refusals() == []


def test_what_the_broker_has_lost_is_put_back_by_the_box(home: Home, box: Stack) -> None:
    client = home.client()
    home.web.launch("pause", "graycat worker pause llm@box7").wait_for("llm@box7 takes", 60)
    task_id = client.post("/tasks", {"kind": "llm.completion", "input": BODY}).json()["id"]
    home.broker.client.delete("llm")
    home.web.launch("resume", "graycat worker resume llm@box7").wait_for("llm@box7 takes", 60)
    assert client.get(f"/tasks/{task_id}?wait=20").json()["state"] == "succeeded"
    assert home.broker.refusals() == []


#: What the users of boxes are refused: a command of its arguments.
FORBIDDEN = [
    # API tokens, and what others are allowed.
    *(("HGETALL", keys.API_TOKENS), ("HSET", keys.API_TOKENS, "gc_x", "y"), ("HGETALL", keys.API_TOKENS_USED)),
    *(("ZRANGE", keys.listed_key("tests"), 0, -1), ("ZRANGE", keys.rate_key("tests"), 0, -1)),
    # Other queues, what is in hand there, and other workers.
    *(("BRPOP", "sd", 1), ("LRANGE", "sd.batch", 0, -1), ("LPUSH", "control", "x"), ("DEL", "sd:a-model")),
    *(("LPUSH", "sd:@sd@studio", "x"), ("HVALS", "unacked:sd"), ("HVALS", "unacked"), ("DEL", "unacked_index:control")),
    *(
        ("SET", keys.worker_key("llm@box8"), "x"),
        ("GET", keys.worker_key("llm@home")),
        ("ZRANGE", keys.fleet_key("llm"), 0, -1),
    ),
    *(
        ("GET", keys.preview_key("t")),
        ("GET", keys.artifact_key("t", 0)),
        ("HGETALL", keys.delivery_key("t", "started")),
    ),
    *(("SADD", keys.PAUSED_QUEUES, "sd"), ("DEL", "anything"), ("SET", "anything", "x"), ("GET", "anything")),
    # What images are made of: its own tasks' ids begin with other digits.
    *(("HGETALL", keys.record_key("8" * 32)), ("HGET", keys.record_key("f" * 32), "body")),
    *(("XRANGE", keys.events_key("a" * 32), "-", "+"), ("HSET", keys.record_key("9" * 32), "state", "failed")),
    # Telling workers what to do, and listening to answers that are not its own.
    ("PUBLISH", keys.web_channel("sd", "x"), "x"),
    *(("PUBLISH", "/0.celery.pidbox", "x"), ("SUBSCRIBE", f"{keys.PREFIX}web:x"), ("PSUBSCRIBE", "*")),
    # The broker itself.
    *(
        ("CONFIG", "GET", "*"),
        ("FLUSHALL",),
        ("FLUSHDB",),
        ("KEYS", "*"),
        ("SCAN", 0),
        ("DEBUG", "SLEEP", 0),
        ("MONITOR",),
    ),
    *(
        ("ACL", "LIST"),
        ("ACL", "WHOAMI"),
        ("SCRIPT", "FLUSH"),
        ("SCRIPT", "LOAD", "return 1"),
        ("SCRIPT", "KILL"),
        ("FUNCTION", "LIST"),
        ("SHUTDOWN",),
    ),
    *(
        ("EVAL", "return 1", 0),
        ("CLIENT", "LIST"),
        ("CLIENT", "KILL", "ID", 1),
        ("INFO",),
        ("DBSIZE",),
        ("SWAPDB", 0, 1),
    ),
    *(
        ("REPLICAOF", "NO", "ONE"),
        ("SAVE",),
        ("MODULE", "LIST"),
        ("RANDOMKEY",),
        ("DUMP", "llm"),
        ("RENAME", "llm", "x"),
    ),
]


@pytest.mark.parametrize("command", FORBIDDEN, ids=lambda command: " ".join(map(str, command)))
def test_a_box_s_user_can_do_nothing_else(url: str, command: tuple[str | int, ...]) -> None:
    assert refused(url, *command)


def test_a_box_runs_no_script_of_its_own(url: str, home: Home) -> None:
    text = "return redis.call('HGETALL', 'graycat:tokens')"
    assert refused(url, "SCRIPT", "LOAD", text)
    with redis.Redis.from_url(url) as client:
        assert client.script_exists(home.broker.client.script_load(text)) == [True]
        # What home has loaded does no more than its caller may.
        with pytest.raises(redis.ResponseError, match="ACL"):
            client.evalsha(home.broker.client.script_load(text), 0)


def test_a_box_goes_on_when_home_has_loaded_lost_scripts_again(home: Home, box: Stack) -> None:
    client = home.client()
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(client.post, "/completion", BODY | {"n_predict": 100})
        eventually(lambda: home.row("llm@box7").get("busy") == 1, SLACK_S)
        home.broker.client.script_flush()
        # Any request of home's that needs a script brings all of them back.
        assert client.post("/tokenize", {"content": "Hi"}).json() == {"tokens": [72, 105]}
        assert answer.result(BACK_S).json()["tokens_predicted"] == 100


def test_an_image_box_renders_and_its_user_knows_no_text(home: Home) -> None:
    url = home.broker.add_box("studio", "sd")
    box = home.box("studio", url, REMOTE="true", RUN_SD="true", A1111_URL=f"http://127.0.0.1:{free_ports(1)[0]}")
    box.launch("engine", f"{sys.executable} -m tests.fakes.webui --port {box.env['A1111_URL'].rpartition(':')[2]}")
    box.launch("sd")
    home.wait_until_consuming("sd@studio")
    client = home.client()
    for body in ({"prompt": "x"}, {"prompt": "y", "steps": 8}):
        assert client.post("/sdapi/v1/txt2img", body).status_code == 200
    task_id = client.post("/tasks", {"kind": "sd.txt2img", "input": {"prompt": "x"}}).json()["id"]
    assert client.get(f"/tasks/{task_id}?wait=20").json()["state"] == "succeeded"
    assert client.get(f"/tasks/{task_id}/images/0").status_code == 200
    assert client.post("/sdapi/v1/refresh-loras").status_code in (200, 403)
    assert home.broker.refusals() == []
    # The record of a text task that lives, which its own user could read.
    text_id = client.post("/tasks", {"kind": "llm.completion", "input": {"prompt": "for your eyes only"}}).json()["id"]
    assert home.broker.client.hexists(keys.record_key(text_id), "body")
    text: tuple[tuple[str | int, ...], ...] = (
        *(("HGETALL", keys.record_key(text_id)), ("XRANGE", keys.events_key(text_id), "-", "+")),
        *(("BRPOP", "llm", 1), ("LRANGE", "llm.quick", 0, -1), ("SET", keys.worker_key("llm@studio"), "x")),
    )
    assert all(refused(url, *command) for command in (*text, *FORBIDDEN[:4]))
    box.kill("sd")


def test_a_control_worker_tells_webhooks_and_puts_back_what_others_lost(home: Home, box: Stack) -> None:
    url = home.broker.add_box("desk", "control")
    with http_server({"POST /hook": reply(200, {})}) as seen:
        host = seen.url.removeprefix("http://")
        desk = home.box("desk", url, GRAYCAT_WEBHOOK_KEY="k" * 32, GRAYCAT_WEBHOOK_ALLOW="127.0.0.0/8")
        desk.launch("control", "graycat worker control")
        home.wait_until_consuming("control@desk")
        client = home.client()
        hook = {"url": f"http://{host}/hook", "events": ["started", "succeeded"]}
        accepted = client.post("/tasks", {"kind": "llm.completion", "input": BODY, "webhook": hook})
        assert accepted.status_code == 202, accepted.text
        eventually(lambda: len(seen.requests) == 2, SLACK_S)
    # An image that nobody renders: its message is lost, and it is put back.
    task_id = client.post("/tasks", {"kind": "sd.txt2img", "input": {"prompt": "x"}}).json()["id"]
    home.broker.client.delete("sd")
    eventually(lambda: home.broker.client.llen("sd") == 1, SLACK_S)
    assert client.get(f"/tasks/{task_id}").json()["state"] == "queued"
    assert home.broker.refusals() == []
    others = (("BRPOP", "llm", 1), ("RPOP", "sd"), ("DEL", "llm"), *FORBIDDEN[:2])
    assert all(refused(url, *command) for command in others)
