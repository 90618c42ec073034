"""The client, while the web process that it talks to is killed."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from graycat.client import Client
from tests.conftest import NewStack
from tests.support.stack import REQUEST_S

INPUT = {"prompt": "Once upon a time", "n_predict": 80, "ignore_eos": True, "temperature": 0}


def test_nothing_is_lost_or_doubled_where_the_web_process_dies(own_stack: NewStack) -> None:
    stack = own_stack(separately=True)
    with Client(stack.url, stack.token, patience_s=30) as client, ThreadPoolExecutor() as threads:
        task = client.submit("llm.completion", INPUT)
        events = task.events()
        seen = [next(events) for _ in range(10)]
        stack.kill("web")
        with Client(stack.url, stack.token, patience_s=30) as other:
            second = threads.submit(other.submit, "llm.tokenize", {"content": "Hello"})
            stack.launch("web")
            seen += events
            assert second.result(REQUEST_S).answer(REQUEST_S)["tokens"]
        assert [event.kind for event in seen if event.kind != "chunk"] == ["started", "result"]
        assert len({event.id for event in seen}) == len(seen)
        assert "".join(event.text for event in seen) == task.answer(30)["content"]
        assert [listed.view.kind for listed in client.tasks()] == ["llm.tokenize", "llm.completion"]
