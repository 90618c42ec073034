from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from graycat.engines.client import Call, StopReason
from graycat.engines.llama import LlamaEngine
from graycat.errors import EngineError, EngineLost, EngineProtocolError
from graycat.params import gatherable
from graycat.queue.kinds import LLM_KINDS, Kind
from graycat.tasks.llm import LlmTask
from tests.fakes.llama_router import Router
from tests.support.helpers import PATIENCE_S, Valkey, chunks, eventually, sse
from tests.support.scripted import respond_in_turn, respond_with
from tests.support.servers import Answer, drop, hold, reply, stream
from tests.support.workers import Worker, worker_on

#: What a real engine answered, streamed and whole, to the same requests.
RECORDED: dict[str, Any] = json.loads((Path(__file__).parent / "recorded" / "completions.json").read_text())
COMPLETION = "POST /completion"


def stopping() -> Answer:
    """Return how an engine answers that stops."""
    return reply(503, {"error": {"code": 503, "message": "Loading model", "type": "unavailable_error"}})


def json_error(status: int, error: Any) -> Answer:
    """Return an error in JSON with a status that may not fit it."""
    return respond_with(status, {"error": error}, Content_Type="application/json")


def html(status: int) -> Answer:
    """Return a page such as proxies have."""
    return respond_with(status, b"<html><body>Bad Gateway</body></html>", Content_Type="text/html")


#: What an engine, or something before it, may answer to any chat, with the status that the caller gets.
ANSWERS = {
    "a page": (html(200), 502),
    "a page with an error's status": (html(502), 502),
    "a page that is not found": (html(404), 502),
    "a redirect": (respond_with(302, b"", Location="/login"), 502),
    "nothing": (respond_with(200, b"", Content_Type="application/json"), 502),
    "no content": (respond_with(204), 502),
    "an error as if all were well": (json_error(200, {"code": 400, "message": "no", "type": "invalid"}), 400),
    "an error with a word as its code": (json_error(200, {"code": "too_long", "message": "no"}), 500),
    "an error with a code that is no status": (json_error(200, {"code": 200, "message": "no", "type": "x"}), 500),
    "an error that is a text": (json_error(200, "no"), 500),
    "half of an object": (respond_with(200, b'{"choices": [', Content_Type="application/json"), 502),
    "an error in the stream": (stream(b'data: { "error": {"code": 503, "message": "x", "type": "y"}}\n\n'), 503),
    "an error by its name": (stream(b'event: error\ndata: {"message": "x"}\n\n'), 500),
    "an error in a field of its own": (stream(b'error: {"code": 501, "message": "x", "type": "y"}\n\n'), 501),
    "no JSON": (stream(b"data: hello\n\n"), 502),
    "JSON that is cut": (stream(b'data: {"choices": [}\n\n'), 502),
    "two values": (stream(b'data: {} {"choices": []}\n\n'), 502),
    "a number that is none": (stream(b'data: {"a": NaN}\n\n'), 502),
    "a list": (stream(b"data: []\n\n"), 502),
    "bytes that are no text": (stream(b'data: {"a": "\xff"}\n\n'), 502),
    "brackets without end": (stream(b"data: " + b"[" * 100_000 + b"\n\n"), 502),
}


@contextmanager
def router_running(*models: str) -> Iterator[tuple[str, Router]]:
    """Run a router of llama.cpp's; yield its URL and what it has seen."""
    router = Router(0, list(models), autoload=True)
    thread = threading.Thread(target=router.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{router.server_address[1]}", router
    finally:
        router.shutdown()
        thread.join()
        router.server_close()


@contextmanager
def worker_at(broker: Valkey, url: str) -> Iterator[Worker]:
    """Yield a worker of an engine that runs elsewhere."""
    with worker_on(broker, {}) as worker:
        engine = LlamaEngine("llama-server", url, start=None)
        yield Worker(broker, engine, worker.seen)


def perform(worker: Worker, kind: str = "llm.completion", **changes: Any) -> tuple[int, bytes]:
    """Have the engine asked for a task of a kind."""
    return worker.task(kind).perform(worker.runtime, worker.claim(kind=kind, **changes), Call())


@pytest.mark.parametrize("name", [name for name in RECORDED if gatherable(RECORDED[name]["request"])])
def test_a_gathered_answer_is_the_one_the_engine_gives_whole(broker: Valkey, name: str) -> None:
    recorded = RECORDED[name]
    body = json.dumps(recorded["request"] | {"stream": True}).encode()
    events = [f"{event}\n\n".encode() for event in recorded["events"]]
    with worker_on(broker, {COMPLETION: stream(*events)}) as worker:
        status, answer = perform(worker, mode="gather", body=body)
    gathered = json.loads(answer)
    # They were measured, and differ from run to run.
    gathered["timings"] = recorded["reply"]["timings"]
    assert (status, gathered) == (200, recorded["reply"])


def test_a_gathered_answer_publishes_nothing_on_its_way(broker: Valkey) -> None:
    events = [f"{event}\n\n".encode() for event in RECORDED["plain"]["events"]]
    with worker_on(broker, {COMPLETION: stream(*events)}) as worker:
        attempt = worker.claim(mode="gather")
        worker.task().perform(worker.runtime, attempt, Call())
        assert chunks(worker.records, attempt.task_id) == []


def test_a_stream_is_published_as_it_came(broker: Valkey) -> None:
    events = sse("Gr", "üße", " — data: ", "")
    with worker_on(broker, {COMPLETION: stream(events[0], events[1] + events[2], events[3])}) as worker:
        attempt = worker.claim(body=b'{"prompt": "Hi", "stream": true, "tfs_z": 1.0}')
        assert worker.task().perform(worker.runtime, attempt, Call()) == (200, b"")
        assert chunks(worker.records, attempt.task_id) == events
        assert worker.seen.requests == [("POST", "/completion", attempt.body)]


@pytest.mark.parametrize("mode", ["stream", "gather"])
@pytest.mark.parametrize("events", [[], sse("Hel", "lo", stop=False)])
def test_a_stream_that_ends_early_is_a_lost_engine_if_the_engine_stops(
    broker: Valkey, mode: str, events: list[bytes]
) -> None:
    answers = {COMPLETION: stream(*events), "GET /health": respond_in_turn(reply(200, {}), stopping())}
    with worker_on(broker, answers) as worker, pytest.raises(EngineLost):
        perform(worker, mode=mode)


@pytest.mark.parametrize("mode", ["stream", "gather", "live"])
@pytest.mark.parametrize("events", [[], sse("Hel", "lo", stop=False)])
@pytest.mark.usefixtures("impatient")
def test_a_stream_that_ends_early_and_would_do_so_again_makes_no_sense(
    broker: Valkey, mode: str, events: list[bytes]
) -> None:
    with ExitStack() as stack:
        worker = stack.enter_context(worker_on(broker, {COMPLETION: stream(*events)}))
        stack.enter_context(pytest.raises(EngineProtocolError, match="without its last event"))
        perform(worker, mode=mode)


@pytest.mark.usefixtures("impatient")
def test_text_that_looks_like_the_end_is_not_the_end(broker: Valkey) -> None:
    liar = b'data: {"content":"\\"stop\\":true","stop":false}\n\n'
    with worker_on(broker, {COMPLETION: stream(liar)}) as worker, pytest.raises(EngineProtocolError):
        perform(worker)


@pytest.mark.parametrize("mode", ["stream", "gather", "live", "plain"])
@pytest.mark.parametrize("name", ANSWERS)
def test_an_answer_that_is_none_fails_once_and_at_once(broker: Valkey, name: str, mode: str) -> None:
    answer, wanted = ANSWERS[name]
    with worker_on(broker, {"POST /v1/chat/completions": answer}) as worker:
        task_id = worker.accept(kind="llm.chat", mode=mode, body=b'{"messages": [], "n": 1}')
        worker.run(task_id)
        state, status = worker.ended(task_id)
        event = worker.records.last_event(task_id)
        assert event is not None
        body = json.loads(event.answer()[1])
        assert (state, status, body["error"]["code"]) == ("failed", str(wanted), wanted)
        assert "<" not in body["error"]["message"]
        assert len([each for each in worker.seen.requests if each[0] == "POST"]) == 1


@pytest.mark.parametrize("mode", ["gather", "live", "plain"])
def test_a_whole_answer_to_a_streamed_call_is_one_for_who_wants_the_whole(broker: Valkey, mode: str) -> None:
    answer = b'{"choices": [], "error": null}'
    whole = respond_with(200, answer, Content_Type="application/json")
    with worker_on(broker, {"POST /v1/chat/completions": whole}) as worker:
        assert perform(worker, "llm.chat", mode=mode, body=b'{"messages": []}') == (200, answer)


def test_a_whole_answer_to_a_caller_that_reads_events_is_no_stream(broker: Valkey) -> None:
    whole = respond_with(200, {"choices": []}, Content_Type="application/json")
    with ExitStack() as stack:
        worker = stack.enter_context(worker_on(broker, {"POST /v1/chat/completions": whole}))
        stack.enter_context(pytest.raises(EngineProtocolError, match="a whole answer"))
        perform(worker, "llm.chat", mode="stream")


CHAT_TEXT = b'data: {"choices":[{"index":0,"delta":{"content":"a"},"finish_reason":null}]}\n\n'
CHAT_END = b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'
DONE = b"data: [DONE]\n\n"


@pytest.mark.parametrize("end", [b"", DONE, DONE + CHAT_TEXT, DONE + DONE, b"data:[DONE]\r\n\r\n"])
def test_a_chat_ends_with_one_done(broker: Valkey, end: bytes) -> None:
    with worker_on(broker, {"POST /v1/chat/completions": stream(CHAT_TEXT, CHAT_END + end)}) as worker:
        attempt = worker.claim(kind="llm.chat", mode="stream", body=b'{"messages": [], "stream": true}')
        assert worker.task("llm.chat").perform(worker.runtime, attempt, Call()) == (200, b"")
        assert chunks(worker.records, attempt.task_id) == [CHAT_TEXT, CHAT_END, DONE]


@pytest.mark.parametrize("mode", ["stream", "gather"])
def test_a_chat_that_is_done_ends_although_its_response_does_not(broker: Valkey, mode: str) -> None:
    endless = stream(CHAT_TEXT, CHAT_END, DONE, then=hold)
    with worker_on(broker, {"POST /v1/chat/completions": endless}) as worker:
        assert perform(worker, "llm.chat", mode=mode, body=b'{"messages": []}')[0] == 200


@pytest.mark.parametrize("mode", ["stream", "gather"])
def test_an_error_in_the_middle_of_a_stream_is_the_engine_s_own(broker: Valkey, mode: str) -> None:
    error = b'{"error":{"code":500,"message":"context shift is off","type":"server_error"}}'
    events = [*sse("Hel", stop=False), b"data: " + error + b"\n\n"]
    with worker_on(broker, {COMPLETION: stream(*events)}) as worker, pytest.raises(EngineError) as caught:
        perform(worker, mode=mode)
    assert (caught.value.status, caught.value.encoded()) == (500, error)


@pytest.mark.parametrize("mode", ["stream", "gather", "plain"])
def test_an_error_before_the_answer_keeps_status_and_bytes(broker: Valkey, mode: str) -> None:
    error = b'{"error": {"code": 400, "type": "exceed_context_size_error", "n_ctx": 512}}'
    with worker_on(broker, {COMPLETION: reply(400, error)}) as worker, pytest.raises(EngineError) as caught:
        perform(worker, mode=mode)
    assert (caught.value.status, caught.value.encoded()) == (400, error)


def test_a_plain_answer_is_passed_on_byte_for_byte(broker: Valkey) -> None:
    answer = b'[ {"content" : "one"},\n{"content" : "two"} ]'
    body = b'{"prompt": ["one", "two"], "return_tokens": true}'
    with worker_on(broker, {COMPLETION: reply(200, answer)}) as worker:
        assert perform(worker, mode="plain", body=body) == (200, answer)
        assert worker.seen.requests == [("POST", "/completion", body)]


@pytest.mark.parametrize("kind", LLM_KINDS.values(), ids=lambda kind: kind.name)
def test_every_kind_is_a_task_on_its_own_route(broker: Valkey, kind: Kind) -> None:
    with worker_on(broker, {f"{kind.method} {kind.path}": reply(200, b'[{"id":1}]')}) as worker:
        assert isinstance(worker.task(kind.name), LlmTask)
        assert perform(worker, kind.name, mode="plain", body=b"{}") == (200, b'[{"id":1}]')


@pytest.mark.parametrize("mode", ["stream", "gather", "plain"])
def test_an_engine_that_goes_away_is_lost(broker: Valkey, mode: str) -> None:
    with worker_on(broker, {COMPLETION: drop}) as worker, pytest.raises(EngineLost):
        perform(worker, mode=mode)


def test_a_stream_is_stopped_on_request(broker: Valkey) -> None:
    with worker_on(broker, {COMPLETION: stream(*sse("Hel", stop=False), then=hold)}) as worker:
        attempt, call = worker.claim(), Call()
        worker.records.cancel(attempt.task_id)
        with pytest.raises(EngineLost):
            worker.task().perform(worker.runtime, attempt, call)
        assert call.stopped == "cancelled"
        assert worker.seen.hung_up.wait(PATIENCE_S)


def slots(*busy: bool) -> Answer:
    """Return the engine's answer while some of its slots work."""
    return reply(200, [{"id": number, "is_processing": working} for number, working in enumerate(busy)])


@pytest.mark.parametrize("mode", ["stream", "gather", "plain"])
def test_a_worker_takes_no_other_task_until_the_slot_of_a_cut_call_is_free(broker: Valkey, mode: str) -> None:
    with worker_on(broker, {COMPLETION: hold, "GET /slots": slots(True, True, False)}) as worker:
        # One slot is another task's.
        other = worker.claim()
        with worker.runtime.running.track(other):
            task_id = worker.accept(mode=mode)
            end = worker.begin(task_id)
            worker.runtime.running.stop(task_id, StopReason.CANCELLED)
            eventually(lambda: worker.ended(task_id) == ("cancelled", "499"))
            eventually(lambda: worker.seen.requests.count(("GET", "/slots", b"")) > 1)
            assert task_id not in worker.runtime.running
            worker.seen.answers["GET /slots"] = slots(True, False, False)
            end()


def test_a_call_of_several_answers_may_have_as_many_slots(broker: Valkey) -> None:
    with worker_on(broker, {COMPLETION: hold, "GET /slots": slots(True, True, True)}) as worker:
        bodies = (b'{"prompt": ["a", "b"]}', b'{"prompt": "a"}', b"no JSON")
        with ExitStack() as running:
            for body in bodies[:1] + bodies[2:]:
                running.enter_context(worker.runtime.running.track(worker.claim(body=body)))
            task_id = worker.accept(body=bodies[1])
            end = worker.begin(task_id)
            worker.runtime.running.stop(task_id, StopReason.TIMED_OUT)
            end()
        assert worker.seen.requests.count(("GET", "/slots", b"")) == 1


def test_a_call_that_takes_no_slot_is_not_waited_for(broker: Valkey) -> None:
    with worker_on(broker, {"POST /tokenize": hold, "GET /slots": slots(True)}, queues=("llm.quick",)) as worker:
        task_id = worker.accept(kind="llm.tokenize", queue="llm.quick", mode="plain")
        end = worker.begin(task_id)
        worker.runtime.running.stop(task_id, StopReason.CANCELLED)
        end()
        assert ("GET", "/slots", b"") not in worker.seen.requests


def test_a_task_runs_by_its_id_alone(broker: Valkey) -> None:
    with worker_on(broker, {COMPLETION: reply(200, b"{}")}) as worker:
        task_id = worker.accept(mode="plain")
        worker.task()(task_id)
        assert worker.ended(task_id) == ("succeeded", "200")


def test_a_model_that_has_no_name_is_called_by_its_file_s(broker: Valkey) -> None:
    events = [b'data: {"content":"a","model":"/srv/m/x.gguf"}\n\n', b'data: {"stop":true,"model":"/srv/m/x.gguf"}\n\n']
    answers = {
        COMPLETION: stream(*events),
        "POST /tokenize": reply(200, b'{"model":"/srv/m/x.gguf"}'),
        "GET /health": reply(200, {}),
        "GET /props": reply(200, {"model_alias": "/srv/m/x.gguf", "model_path": "/srv/m/x.gguf"}),
    }
    with worker_on(broker, answers) as worker:
        worker.runtime.supervisor.describe()
        attempt = worker.claim()
        worker.task().perform(worker.runtime, attempt, Call())
        assert chunks(worker.records, attempt.task_id) == [event.replace(b"/srv/m/x.gguf", b"x") for event in events]
        assert perform(worker, "llm.tokenize", mode="plain", body=b"{}") == (200, b'{"model":"x"}')


def test_an_error_among_named_events_is_the_task_s_and_names_no_path(broker: Valkey) -> None:
    event = b'event: error\ndata: {"type": "error", "error": {"message": "no /srv/m/x.gguf"}}\n\n'
    end = b'event: message_stop\ndata: {"type":"message_stop"}\n\n'
    with worker_on(broker, {"POST /v1/messages": stream(event, end)}) as worker:
        task_id = worker.accept(kind="llm.messages")
        worker.run(task_id)
        assert (worker.ended(task_id), chunks(worker.records, task_id)) == (("failed", "500"), [])
        told = worker.records.last_event(task_id)
        assert told is not None
        assert json.loads(told.answer()[1])["error"]["message"] == "no x.gguf"


@pytest.mark.parametrize(
    ("kind", "told", "shown"),
    [
        ("llm.slots", {"id": 0, "is_processing": True, "prompt": "p", "params": {}}, {"id": 0, "is_processing": True}),
        ("llm.lora_adapters", {"id": 0, "path": "/srv/l.gguf", "scale": 1}, {"id": 0, "path": "l.gguf", "scale": 1}),
    ],
)
def test_what_an_engine_tells_of_itself_is_answered_without_secrets(broker: Valkey, kind: str, told, shown) -> None:
    with worker_on(broker, {f"GET {LLM_KINDS[kind].path}": reply(200, [told])}) as worker:
        assert json.loads(perform(worker, kind, mode="plain", body=b"{}")[1]) == [shown]


@pytest.mark.parametrize(("mode", "body"), [("stream", b'{"stream": true}'), ("gather", b"{}"), ("plain", b"{}")])
def test_a_router_s_model_is_named_in_each_call(broker: Valkey, mode: str, body: bytes) -> None:
    with router_running("a", "b") as (url, router), worker_at(broker, url) as worker:
        for _ in range(2):
            # The first time its default model is loaded.
            with suppress(EngineLost):
                worker.runtime.supervisor.describe()
        assert perform(worker, mode=mode, body=body)[0] == 200
        perform(worker, "llm.tokenize", mode="plain", body=b'{"model": "b-alias"}')
        perform(worker, "llm.slots", mode="plain", body=b"{}")
        asked = [(path, told if isinstance(told, str) else told["model"]) for path, told in router.asked]
    assert asked == [("/props", "a"), ("/completion", "a"), ("/tokenize", "b"), ("/slots", "a")]
