"""Image tasks on scripted engines; those on running ones are in test_sd_engines.py."""

from __future__ import annotations

import json
import threading
from typing import Any

import pytest
from celery.exceptions import Reject

from graycat.engines.client import StopReason
from graycat.queue.kinds import SD_KINDS, Kind
from graycat.storage.errors import ArtifactsUnavailable
from graycat.tasks import sd
from graycat.tasks.sd import SdTask
from tests.support.helpers import PATIENCE_S, Valkey, eventually, outcome_of
from tests.support.servers import Answer, Handler, after, hold, reply
from tests.support.webuis import (
    API,
    FOX,
    INTERRUPT,
    PROBE,
    SKIP,
    TXT2IMG,
    accept,
    answer_of,
    image_worker_on,
    picture,
    rendered,
    sent,
    stored,
    until_interrupted,
)
from tests.support.workers import Worker, worker_on

pytestmark = pytest.mark.usefixtures("impatient")

RED, BLUE = picture("red"), picture("blue", "JPEG")


def begin(worker: Worker, task_id: str) -> Any:
    """Run a task in a thread until its engine has it; return how to wait for its end."""
    end = outcome_of(lambda: worker.run(task_id))
    eventually(lambda: sent(worker, TXT2IMG))
    return end


def test_images_are_stored_once_and_named_in_the_answer(broker: Valkey) -> None:
    with image_worker_on(broker, {TXT2IMG: reply(200, rendered(RED, BLUE, info={"seed": 1}))}) as worker:
        task_id = accept(worker, owner="game")
        worker.run(task_id)
        assert worker.ended(task_id) == ("succeeded", "200")
        assert ("POST", "/sdapi/v1/txt2img", FOX) in worker.seen.requests
        refs = [{"artifact": 0}, {"artifact": 1}]
        assert answer_of(worker, task_id) == (200, {"images": refs, "parameters": {}, "info": '{"seed": 1}'})
        assert stored(worker, task_id) == [RED, BLUE]
        known = worker.runtime.artifacts.describe(task_id)
        assert [(a.content_type, a.owner) for a in known] == [("image/png", "game"), ("image/jpeg", "game")]
        assert worker.records.get(task_id)["images"] == "2"


def test_images_are_stored_in_the_format_that_the_caller_wants(broker: Valkey) -> None:
    with image_worker_on(broker, {TXT2IMG: reply(200, rendered(RED, BLUE, b"no image"))}) as worker:
        body = json.dumps(json.loads(FOX) | {"graycat_output": {"format": "webp", "quality": 80}}).encode()
        task_id = accept(worker, body=body)
        worker.run(task_id)
        assert worker.ended(task_id) == ("succeeded", "200")
        # The engine never hears of it.
        assert [sent for _, path, sent in worker.seen.requests if path == "/sdapi/v1/txt2img"] == [FOX]
        known = worker.runtime.artifacts.describe(task_id)
        assert [a.content_type for a in known] == ["image/webp", "image/webp", "application/octet-stream"]


@pytest.mark.parametrize("kind", SD_KINDS.values(), ids=lambda kind: kind.name)
def test_every_kind_is_a_task_on_its_own_route(broker: Valkey, kind: Kind) -> None:
    with image_worker_on(broker, {f"{kind.method} {kind.path}": reply(200, {"image": ""})}) as worker:
        task_id = accept(worker, kind.name)
        assert isinstance(worker.task(kind.name), SdTask)
        worker.task(kind.name)(task_id)
        assert answer_of(worker, task_id) == (200, {"image": ""})


@pytest.mark.parametrize(("raw", "answer"), [(b"null", None), (b"", None), (b'{"updated": []}', {"updated": []})])
def test_a_call_that_makes_no_images_is_answered_all_the_same(broker: Valkey, raw: bytes, answer: Any) -> None:
    with image_worker_on(broker, {f"POST {API}refresh-loras": reply(200, raw)}) as worker:
        task_id = accept(worker, "sd.refresh_loras", body=b"{}")
        worker.run(task_id)
        assert answer_of(worker, task_id) == (200, answer)


def test_a_change_of_the_engine_is_described_and_reported_at_once(broker: Valkey) -> None:
    with image_worker_on(broker, {f"POST {API}options": reply(200, b"null")}) as worker:
        reported: list[bytes] = []
        info = worker.supervisor.info
        assert info is not None

        def note() -> None:
            assert worker.supervisor.info is not None
            reported.append(worker.supervisor.info.catalog["options"])

        worker.runtime.report = note
        worker.seen.answers[f"GET {API}options"] = reply(200, b'{"samples_format": "webp"}')
        task_id = accept(worker, "sd.set_options", body=b'{"samples_format": "webp"}')
        worker.run(task_id)
        assert (worker.ended(task_id), reported) == (("succeeded", "200"), [b'{"samples_format": "webp"}'])
        assert worker.supervisor.info is not None
        assert worker.supervisor.info.version != info.version


def test_a_part_of_a_title_is_set_as_the_whole_title(broker: Valkey) -> None:
    models = reply(200, b'[{"title": "dreamy_v8.safetensors [01]"}]')
    with image_worker_on(broker, {f"POST {API}options": reply(200, b"null"), f"GET {API}sd-models": models}) as worker:
        worker.run(accept(worker, "sd.set_options", body=b'{"sd_model_checkpoint": "dreamy"}'))
        expected = b'{"sd_model_checkpoint": "dreamy_v8.safetensors [01]"}'
        assert ("POST", f"{API}options", expected) in worker.seen.requests


def test_a_render_does_not_describe_the_engine_again(broker: Valkey) -> None:
    with image_worker_on(broker, {TXT2IMG: reply(200, rendered(RED))}) as worker:
        worker.run(accept(worker))
        assert sent(worker, f"GET {API}options") == 0


@pytest.mark.parametrize(
    ("status", "body"), [(422, b'{"detail": []}'), (500, b'{"error":"OutOfMemoryError"}'), (500, b"plain words")]
)
def test_an_engine_s_error_is_the_answer(broker: Valkey, status: int, body: bytes) -> None:
    with image_worker_on(broker, {TXT2IMG: reply(status, body)}) as worker:
        task_id = accept(worker)
        worker.run(task_id)
        assert worker.ended(task_id) == ("failed", str(status))
        assert worker.records.events(task_id)[-1].answer() == (status, body)
        assert worker.runtime.ready


@pytest.mark.parametrize("raw", [b"<html>", b'{"images": [5]}', b'{"images": ["AAAAA"]}'])
def test_an_answer_that_makes_no_sense_ends_the_task_at_once(broker: Valkey, raw: bytes) -> None:
    with image_worker_on(broker, {TXT2IMG: reply(200, raw)}) as worker:
        task_id = accept(worker)
        worker.run(task_id)
        assert worker.ended(task_id) == ("failed", "502")


def test_a_text_engine_makes_no_images(broker: Valkey) -> None:
    with worker_on(broker, {}) as worker:
        task_id = accept(worker)
        worker.run(task_id)
        # It waits for a worker that has an engine for images.
        assert worker.ended(task_id) == ("queued", "")


def test_images_that_cannot_be_stored_fail_the_task(broker: Valkey, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise ArtifactsUnavailable

    with image_worker_on(broker, {TXT2IMG: reply(200, rendered(RED))}) as worker:
        monkeypatch.setattr(worker.runtime.artifacts, "put", full)
        task_id = accept(worker)
        worker.run(task_id)
        assert worker.ended(task_id) == ("failed", "503")


def test_an_interrupted_render_ends_with_what_it_has(broker: Valkey) -> None:
    render, interrupt = until_interrupted(RED)
    with image_worker_on(broker, {TXT2IMG: render, INTERRUPT: interrupt}) as worker:
        task_id = accept(worker)
        end = begin(worker, task_id)
        worker.runtime.running.stop(task_id, StopReason.INTERRUPTED)
        end()
        assert worker.ended(task_id) == ("cancelled", "499")
        status, answer = answer_of(worker, task_id)
        assert (status, answer["images"], json.loads(answer["info"])) == (200, [{"artifact": 0}], {"partial": True})
        assert stored(worker, task_id) == [RED]


@pytest.mark.parametrize(
    ("info", "marked"),
    [('{"seed": 1}', {"seed": 1, "partial": True}), ("", {"partial": True}), ("5", {"partial": True})],
)
def test_unfinished_images_are_marked_whatever_their_engine_tells(
    broker: Valkey, info: str, marked: dict[str, Any]
) -> None:
    with image_worker_on(broker, {}) as worker:
        task_id = accept(worker)

        def answer(handler: Handler) -> None:
            worker.runtime.running.stop(task_id, StopReason.INTERRUPTED)
            eventually(lambda: sent(worker, INTERRUPT))
            reply(200, rendered(RED) | {"info": info})(handler)

        worker.seen.answers[TXT2IMG] = answer
        worker.run(task_id)
        assert json.loads(answer_of(worker, task_id)[1]["info"]) == marked


@pytest.mark.parametrize("answer", [reply(404, {}), reply(405, {}), reply(422, {"detail": []})])
def test_an_image_whose_engine_takes_no_interrupt_is_whole(broker: Valkey, answer: Answer) -> None:
    with image_worker_on(broker, {INTERRUPT: answer}) as worker:
        task_id = accept(worker)

        def render(handler: Handler) -> None:
            worker.runtime.running.stop(task_id, StopReason.INTERRUPTED)
            eventually(lambda: sent(worker, INTERRUPT))
            reply(200, rendered(RED, info={"seed": 1}))(handler)

        worker.seen.answers[TXT2IMG] = render
        worker.run(task_id)
        assert worker.ended(task_id) == ("succeeded", "200")
        assert (answer_of(worker, task_id)[1]["info"], stored(worker, task_id)) == ('{"seed": 1}', [RED])


@pytest.mark.parametrize(
    ("reason", "ended"),
    [
        (StopReason.CANCELLED, ("cancelled", "499")),
        (StopReason.TIMED_OUT, ("failed", "504")),
        (StopReason.STALE, ("running", "")),
    ],
)
def test_a_render_that_is_stopped_leaves_nothing(broker: Valkey, reason: StopReason, ended: tuple[str, str]) -> None:
    render, interrupt = until_interrupted(RED)
    with image_worker_on(broker, {TXT2IMG: render, INTERRUPT: interrupt}) as worker:
        task_id = accept(worker)
        end = begin(worker, task_id)
        worker.runtime.running.stop(task_id, reason)
        end()
        assert (worker.ended(task_id), stored(worker, task_id)) == (ended, [])
        assert not worker.seen.hung_up.is_set()
        assert worker.runtime.ready


def test_a_worker_that_stops_hands_its_render_back(broker: Valkey) -> None:
    render, interrupt = until_interrupted(RED)
    with image_worker_on(broker, {TXT2IMG: render, INTERRUPT: interrupt}) as worker:
        task_id = accept(worker)
        end = begin(worker, task_id)
        worker.runtime.running.stop(task_id, StopReason.SHUTDOWN)
        with pytest.raises(Reject):
            end()
        assert (worker.ended(task_id), stored(worker, task_id)) == (("queued", ""), [])


def test_an_interrupt_that_came_too_early_is_sent_again(broker: Valkey) -> None:
    third = threading.Event()

    def interrupt(handler: Handler) -> None:
        reply(200, {})(handler)
        if sent(worker, INTERRUPT) >= 3:
            third.set()

    with image_worker_on(broker, {INTERRUPT: interrupt, TXT2IMG: after(third, reply(200, rendered()))}) as worker:
        task_id = accept(worker)
        end = begin(worker, task_id)
        worker.runtime.running.stop(task_id, StopReason.CANCELLED)
        end()
        assert worker.ended(task_id) == ("cancelled", "499")
        assert sent(worker, INTERRUPT) >= 3


@pytest.mark.parametrize("reason", [StopReason.CANCELLED, StopReason.INTERRUPTED])
def test_an_engine_that_ignores_its_interrupt_is_given_up(
    broker: Valkey, monkeypatch: pytest.MonkeyPatch, reason: StopReason
) -> None:
    monkeypatch.setattr(sd, "INTERRUPT_TIMEOUT_S", 0.1)
    with image_worker_on(broker, {TXT2IMG: hold}) as worker:
        task_id = accept(worker)
        end = begin(worker, task_id)
        worker.runtime.running.stop(task_id, reason)
        end()
        assert worker.ended(task_id) == ("cancelled", "499")
        assert worker.seen.hung_up.wait(PATIENCE_S)


def test_an_engine_that_cannot_be_interrupted_is_waited_for_as_long_as_a_task_may_take(
    broker: Valkey, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sd, "INTERRUPT_TIMEOUT_S", 0.01)
    done = threading.Event()
    with image_worker_on(broker, {PROBE: reply(404, {}), TXT2IMG: after(done, reply(200, rendered(RED)))}) as worker:
        task_id = accept(worker)
        end = begin(worker, task_id)
        worker.runtime.running.stop(task_id, StopReason.CANCELLED)
        eventually(lambda: sent(worker, INTERRUPT) >= 5)
        done.set()
        end()
        assert worker.ended(task_id) == ("cancelled", "499")
        assert not worker.seen.hung_up.is_set()


def test_the_rest_of_a_batch_is_skipped_once(broker: Valkey) -> None:
    skipped = threading.Event()

    def skip(handler: Handler) -> None:
        reply(200, b"null")(handler)
        skipped.set()

    with image_worker_on(broker, {SKIP: skip, TXT2IMG: after(skipped, reply(200, rendered(RED)))}) as worker:
        task_id = accept(worker)
        end = begin(worker, task_id)
        assert worker.runtime.running.skip(task_id)
        end()
        assert (worker.ended(task_id), sent(worker, SKIP)) == (("succeeded", "200"), 1)


def test_a_render_is_not_interrupted_without_a_request(broker: Valkey) -> None:
    with image_worker_on(broker, {TXT2IMG: reply(200, rendered(RED))}) as worker:
        worker.run(accept(worker))
        assert (sent(worker, INTERRUPT), sent(worker, SKIP)) == (0, 0)
