"""A worker is killed between the last token of an answer and its terminal state: every answer ends as it should."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import requests

from tests.support.boxes import fake_engine
from tests.support.processes import SLACK_S, eventually
from tests.support.stack import REQUEST_S
from tests.support.supervised import Supervised
from tests.support.unity import V2Reader, V3Reader, send_post

TOKENS = 5
#: Seconds until a new worker has run what the old one held.
BACK_S = 180.0
CHAT = "/v1/chat/completions"
#: What the engine is asked, by name: it holds back the final event of an answer, or the end of its HTTP body.
PROMPTS = [f"{held} {name}" for held in ("unfinished", "unclosed") for name in ("game", "chat", "task", "read along")]


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Supervised, dict[str, Any]]]:
    """Yield a stack whose worker was killed at that moment and started again, and what callers got."""
    stack = Supervised(tmp_path_factory.mktemp("last"))
    with ThreadPoolExecutor(len(PROMPTS) + 1) as callers:
        try:
            # The engine is another's: it outlives the worker, and counts how often each prompt came.
            stack.set_env({"LLAMA_SERVER_URL": fake_engine(stack, "--slots 16")})
            stack.begin()
            stack.start_worker()
            answers = {prompt: callers.submit(ask, stack, prompt) for prompt in PROMPTS}
            body = {"prompt": "unfinished whole", "n_predict": TOKENS}
            answers["unfinished whole"] = callers.submit(stack.client().post, "/completion", body)
            eventually(lambda: all_tokens_are_out(stack), SLACK_S)
            stack.kill("llm")
            stack.start_worker()
            yield stack, {prompt: answer.result(BACK_S) for prompt, answer in answers.items()}
            stack.stop()
        finally:
            stack.kill_all()


def all_tokens_are_out(stack: Supervised) -> bool:
    """Return whether every stream has published all that the engine lets out."""
    counts = [stack.redis().xlen(f"graycat:events:{name}") for name in stack.redis().zrange("graycat:live.llm", 0, -1)]
    # `started` is one; a chat ends in two events, and nothing is published of a whole answer.
    ends = [0, 0, 0, 0, 1, 1, 2, 2]
    return sorted(counts) == [1, *[1 + TOKENS + end for end in ends]]


def ask(stack: Supervised, prompt: str) -> Any:
    """Return what a caller gets who wants a prompt answered."""
    askers = {"game": game, "chat": chat, "task": task, "read along": read_along}
    return askers[prompt.partition(" ")[2]](stack, prompt)


def game(stack: Supervised, prompt: str) -> Any:
    """Return the answer that a game reads."""
    body = {"prompt": prompt, "n_predict": TOKENS, "stream": True}
    reader = V3Reader() if "unfinished" in prompt else V2Reader()
    with send_post(stack.url, "/completion", body, stack.token) as connection:
        return reader.read(connection)


def conversation(prompt: str) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": prompt}], "max_tokens": TOKENS, "stream": True}


def chat(stack: Supervised, prompt: str) -> list[str]:
    """Return the lines of a chat's stream."""
    headers = {"Authorization": f"Bearer {stack.token}"}
    answer = requests.post(stack.url + CHAT, json=conversation(prompt), headers=headers, timeout=REQUEST_S)
    return [line for line in answer.text.split("\n") if line]


def submit(stack: Supervised, kind: str, body: dict[str, Any]) -> str:
    answer = stack.client().post("/tasks", {"kind": kind, "input": body})
    assert answer.status_code == 202
    return str(answer.headers["Location"])


def result(stack: Supervised, path: str) -> dict[str, Any]:
    """Return a task that has ended, by asking for it alone."""
    view: dict[str, Any] = stack.client().get(path, params={"wait": "50"}).json()
    assert "finished_ms" in view
    return view


def task(stack: Supervised, prompt: str) -> dict[str, Any]:
    """Return a task that nobody reads along, and that no engine can continue because of its stop word."""
    body = {"prompt": prompt, "n_predict": TOKENS, "stop": ["~~~"], "stream": True}
    return result(stack, submit(stack, "llm.completion", body))


def read_along(stack: Supervised, prompt: str) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Return all events that a reader gets of a chat, and the task at its end."""
    path = submit(stack, "llm.chat", conversation(prompt))
    with stack.client().get(f"{path}/events?format=ndjson", stream=True) as answer:
        events = [json.loads(line) for line in answer.iter_lines() if line]
    return events, result(stack, path)


Killed = tuple[Supervised, dict[str, Any]]
HELD = pytest.mark.parametrize("held", ["unfinished", "unclosed"])


def calls(stack: Supervised, prompt: str) -> int:
    """Return how often the engine was asked to answer a prompt from its beginning."""
    count: int = stack.engine().get("/stats").json()["prompts"].get(prompt, 0)
    return count


def error_of(line: str) -> str:
    """Return the type of the error in a line of a stream; '' if it is none."""
    event = json.loads(line.removeprefix("data: ")) if "error" in line else {}
    return str(event.get("error", {}).get("type", ""))


@HELD
def test_a_game_gets_the_end_of_its_answer(killed: Killed, held: str) -> None:
    stack, answers = killed
    answer = answers[f"{held} game"]
    assert len(answer.tokens) == answer.events[-1]["tokens_predicted"] == TOKENS
    assert answer.events[-1]["stop_type"] == "limit"
    assert calls(stack, f"{held} game") == 1


def test_a_chat_that_is_whole_ends_without_another_call(killed: Killed) -> None:
    stack, answers = killed
    lines = answers["unclosed chat"]
    assert (len(lines), lines[-1]) == (TOKENS + 2, "data: [DONE]")
    assert calls(stack, "unclosed chat") == 1


def test_a_chat_that_was_read_in_part_is_not_begun_anew(killed: Killed) -> None:
    stack, answers = killed
    lines = answers["unfinished chat"]
    assert (len(lines), error_of(lines[-1])) == (TOKENS + 1, "engine_lost")
    assert calls(stack, "unfinished chat") == 1


def test_a_blocking_call_is_answered_by_the_next_attempt(killed: Killed) -> None:
    stack, answers = killed
    assert answers["unfinished whole"].json()["tokens_predicted"] == TOKENS
    assert calls(stack, "unfinished whole") == 2


@HELD
def test_a_task_that_nobody_reads_along_succeeds(killed: Killed, held: str) -> None:
    stack, answers = killed
    view = answers[f"{held} task"]
    assert (view["state"], view["attempt"], len(view["events"])) == ("succeeded", 2, TOKENS + 1)
    assert calls(stack, f"{held} task") == {"unfinished": 2, "unclosed": 1}[held]


def test_who_reads_a_task_along_is_told_that_it_begins_anew(killed: Killed) -> None:
    stack, answers = killed
    events, view = answers["unfinished read along"]
    kinds = [event["event"] for event in events]
    whole = ["chunk"] * (TOKENS + 2)
    assert kinds == ["started", *["chunk"] * TOKENS, "started", "restarted", *whole, "result"]
    assert (view["state"], len(view["events"])) == ("succeeded", TOKENS + 2)
    assert calls(stack, "unfinished read along") == 2


def test_who_reads_a_whole_task_along_is_told_of_its_end(killed: Killed) -> None:
    stack, answers = killed
    events, view = answers["unclosed read along"]
    assert [event["event"] for event in events if event["event"] != "chunk"] == ["started", "started", "result"]
    assert (view["state"], len(view["events"])) == ("succeeded", TOKENS + 2)
    assert calls(stack, "unclosed read along") == 1
