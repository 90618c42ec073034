from __future__ import annotations

import json
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from graycat.engines.client import Call, StopReason
from graycat.errors import EngineError, EngineLost
from graycat.params import gatherable
from graycat.queue.kinds import LLM_KINDS, Kind
from graycat.tasks.llm import LlmTask
from tests.support.helpers import PATIENCE_S, Valkey, chunks, eventually, sse
from tests.support.servers import Answer, drop, hold, reply, stream
from tests.support.workers import Worker, worker_on

#: What a real engine answered, streamed and whole, to the same requests.
RECORDED: dict[str, Any] = json.loads((Path(__file__).parent / "recorded" / "completions.json").read_text())
COMPLETION = "POST /completion"


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


@pytest.mark.parametrize("events", [[], sse("Hel", "lo", stop=False)])
def test_events_without_the_final_one_are_no_answer(broker: Valkey, events: list[bytes]) -> None:
    with worker_on(broker, {COMPLETION: stream(*events)}) as worker, pytest.raises(EngineLost):
        perform(worker, mode="gather")


def test_a_stream_is_published_as_it_came(broker: Valkey) -> None:
    events = sse("Gr", "üße", " — data: ", "")
    with worker_on(broker, {COMPLETION: stream(events[0], events[1] + events[2], events[3])}) as worker:
        attempt = worker.claim(body=b'{"prompt": "Hi", "stream": true, "tfs_z": 1.0}')
        assert worker.task().perform(worker.runtime, attempt, Call()) == (200, b"")
        assert chunks(worker.records, attempt.task_id) == events
        assert worker.seen.requests == [("POST", "/completion", attempt.body)]


@pytest.mark.parametrize("mode", ["stream", "gather"])
@pytest.mark.parametrize("events", [[], sse("Hel", "lo", stop=False)])
def test_a_stream_that_ends_early_is_a_lost_engine(broker: Valkey, mode: str, events: list[bytes]) -> None:
    with worker_on(broker, {COMPLETION: stream(*events)}) as worker, pytest.raises(EngineLost):
        perform(worker, mode=mode)


def test_text_that_looks_like_the_end_is_not_the_end(broker: Valkey) -> None:
    liar = b'data: {"content":"\\"stop\\":true","stop":false}\n\n'
    with worker_on(broker, {COMPLETION: stream(liar)}) as worker, pytest.raises(EngineLost):
        perform(worker)


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
    with worker_on(broker, {COMPLETION: reply(200, b"yes")}) as worker:
        task_id = worker.accept(mode="plain")
        worker.task()(task_id)
        assert worker.ended(task_id) == ("succeeded", "200")


def test_a_model_that_has_no_name_is_called_by_the_last_part_of_its_path(broker: Valkey) -> None:
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
        assert chunks(worker.records, attempt.task_id) == [event.replace(b"/srv/m/", b"") for event in events]
        assert perform(worker, "llm.tokenize", mode="plain", body=b"{}") == (200, b'{"model":"x.gguf"}')


def test_an_error_among_named_events_names_no_path(broker: Valkey) -> None:
    event = b'event: error\ndata: {"type": "error", "error": {"message": "no /srv/m/x.gguf"}}\n\n'
    end = b'event: message_stop\ndata: {"type":"message_stop"}\n\n'
    with worker_on(broker, {"POST /v1/messages": stream(event, end)}) as worker:
        attempt = worker.claim(kind="llm.messages")
        worker.task("llm.messages").perform(worker.runtime, attempt, Call())
        assert chunks(worker.records, attempt.task_id) == [event.replace(b"/srv/m/", b""), end]


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
