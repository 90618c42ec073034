"""Image tasks on running engines, and attempts that follow one another."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from celery.exceptions import Reject
from PIL import Image

from graycat.engines.client import StopReason
from graycat.queue.models import Verdict
from tests.support.helpers import Valkey, claimed, eventually, kinds, outcome_of
from tests.support.servers import Handler, drop, reply
from tests.support.webui_wire import DOUBLE, WebUI, running
from tests.support.webuis import (
    INTERRUPT,
    TXT2IMG,
    accept,
    answer_of,
    encoded,
    image_worker_at,
    image_worker_on,
    picture,
    rendered,
    stored,
)
from tests.support.workers import Worker

pytestmark = pytest.mark.usefixtures("impatient")

RED, BLUE = picture("red"), picture("blue")


@pytest.fixture(scope="module")
def a1111() -> Iterator[WebUI]:
    with running(DOUBLE, "--step-s", "0.01") as started:
        yield started


@pytest.fixture(scope="module")
def sd_server() -> Iterator[WebUI]:
    with running(DOUBLE, "--personality", "sd-server", "--step-s", "0.01") as started:
        yield started


def fox(**fields: Any) -> bytes:
    return json.dumps({"prompt": "a fox", "width": 64, "height": 64, "steps": 5} | fields).encode()


def begin(worker: Worker, engine: WebUI, task_id: str) -> Callable[[], None]:
    """Run a task in a thread until its engine is at it; return how to wait for its end."""
    end = outcome_of(lambda: worker.run(task_id))

    def at_it() -> bool:
        # The step alone is the last render's while none runs.
        state = engine.progress()["state"]
        return bool(state["job_count"] > 0 and state["sampling_step"] > 0)

    eventually(at_it)
    return end


def test_a_render_s_answer_is_small_and_its_images_are_whole(broker: Valkey, a1111: WebUI) -> None:
    with image_worker_at(broker, a1111.url) as worker:
        task_id = accept(worker, body=fox(width=256, height=128, n_iter=2, seed=7))
        worker.run(task_id)
        assert worker.ended(task_id) == ("succeeded", "200")
        status, answer = answer_of(worker, task_id)
        assert (status, answer["images"]) == (200, [{"artifact": 0}, {"artifact": 1}])
        assert json.loads(answer["info"])["all_seeds"] == [7, 8]
        images = stored(worker, task_id)
        assert len(worker.records.events(task_id)[-1].data) < 5000 < sum(map(len, images))
        for image in images:
            with Image.open(io.BytesIO(image)) as opened:
                opened.load()
                assert opened.size == (256, 128)


def test_a_render_tells_how_far_it_is_and_shows_a_preview(broker: Valkey, a1111: WebUI) -> None:
    with image_worker_at(broker, a1111.url) as worker:
        task_id = accept(worker, body=fox(steps=140))
        end = begin(worker, a1111, task_id)
        eventually(lambda: worker.records.preview(task_id))
        worker.runtime.running.stop(task_id, StopReason.INTERRUPTED)
        end()
        reported = [json.loads(e.data) for e in worker.records.events(task_id) if e.kind == "progress"]
        assert [t["progress"] for t in reported] == sorted(t["progress"] for t in reported)
        assert {t["steps"] for t in reported if t["step"]} == {140}
        assert any(t["preview"] for t in reported)
        preview = worker.records.preview(task_id)
        assert preview is not None
        with Image.open(io.BytesIO(preview)) as opened:
            opened.load()


def test_an_interrupted_render_has_the_images_that_were_made(broker: Valkey, a1111: WebUI) -> None:
    with image_worker_at(broker, a1111.url) as worker:
        task_id = accept(worker, body=fox(steps=60, n_iter=3))
        end = begin(worker, a1111, task_id)
        worker.runtime.running.stop(task_id, StopReason.INTERRUPTED)
        end()
        assert worker.ended(task_id) == ("cancelled", "499")
        answer = answer_of(worker, task_id)[1]
        assert 1 <= len(answer["images"]) == len(stored(worker, task_id)) < 3
        info = json.loads(answer["info"])
        assert (info["partial"], len(info["all_seeds"])) == (True, 3)
        assert a1111.progress()["state"]["job_count"] == 0


@pytest.mark.parametrize(
    ("reason", "ended"), [(StopReason.CANCELLED, ("cancelled", "499")), (StopReason.TIMED_OUT, ("failed", "504"))]
)
def test_the_state_changes_once_the_engine_is_free(
    broker: Valkey, a1111: WebUI, reason: StopReason, ended: tuple[str, str]
) -> None:
    with image_worker_at(broker, a1111.url) as worker:
        task_id = accept(worker, body=fox(steps=140))
        end = begin(worker, a1111, task_id)
        worker.runtime.running.stop(task_id, reason)
        end()
        assert a1111.progress()["state"]["job_count"] == 0
        assert (worker.ended(task_id), stored(worker, task_id)) == (ended, [])


def test_an_engine_without_progress_and_interrupt_renders_all_the_same(broker: Valkey, sd_server: WebUI) -> None:
    with image_worker_at(broker, sd_server.url) as worker:
        task_id = accept(worker, body=fox())
        worker.run(task_id)
        assert (worker.ended(task_id), len(stored(worker, task_id))) == (("succeeded", "200"), 1)
        assert kinds(worker.records, task_id) == ["started", "result"]


def test_an_engine_without_interrupt_ends_when_it_is_done(broker: Valkey, sd_server: WebUI) -> None:
    with image_worker_at(broker, sd_server.url) as worker:
        task_id = accept(worker, body=fox(steps=30))
        end = outcome_of(lambda: worker.run(task_id))
        eventually(lambda: worker.runtime.running.stop(task_id, StopReason.CANCELLED))
        end()
        assert (worker.ended(task_id), stored(worker, task_id)) == (("cancelled", "499"), [])


def test_every_image_of_sd_server_can_be_made_again(broker: Valkey, sd_server: WebUI) -> None:
    with image_worker_at(broker, sd_server.url) as worker:
        pictures = []
        for seed in (3_000_000_000, 3_000_000_000, 852_516_352):
            task_id = accept(worker, body=fox(seed=seed, steps=2))
            worker.run(task_id)
            answer = answer_of(worker, task_id)[1]
            assert json.loads(answer["info"])["seed"] == 852_516_352
            pictures.append((stored(worker, task_id), [warning["field"] for warning in answer.get("warnings", [])]))
        assert pictures[0] == pictures[1]
        assert (pictures[2][0], pictures[2][1], pictures[1][1]) == (pictures[0][0], [], ["seed"])


def test_what_sd_server_cuts_down_is_told(broker: Valkey, sd_server: WebUI) -> None:
    with image_worker_at(broker, sd_server.url) as worker:
        task_id = accept(worker, body=fox(seed=1, steps=120, batch_size=9, sampler_name="Heun"))
        worker.run(task_id)
        told = [(w["field"], w["asked"], w["made"]) for w in answer_of(worker, task_id)[1]["warnings"]]
        assert told == [("steps", 120, 100), ("batch_size", 9, 8)]


def test_the_request_that_sd_server_repeats_is_not_stored(broker: Valkey, sd_server: WebUI) -> None:
    source = encoded(picture(size=(64, 64)))
    with image_worker_at(broker, sd_server.url) as worker:
        task_id = accept(worker, "sd.img2img", body=fox(init_images=[source], mask=source))
        worker.run(task_id)
        parameters = answer_of(worker, task_id)[1]["parameters"]
        assert (parameters["prompt"], parameters["init_images"], parameters["mask"]) == ("a fox", None, None)


def test_an_engine_that_dies_hands_its_render_back(broker: Valkey) -> None:
    with running(DOUBLE, "--step-s", "0.01") as mortal, image_worker_at(broker, mortal.url) as worker:
        task_id = accept(worker, body=fox(steps=140))
        end = begin(worker, mortal, task_id)
        eventually(lambda: "progress" in kinds(worker.records, task_id))
        mortal.process.kill()
        with pytest.raises(Reject):
            end()
        assert (worker.ended(task_id), worker.runtime.ready) == (("queued", ""), False)
        second = claimed(worker.records, task_id)
        # Its client has seen no part of an answer, whatever it has seen of its progress.
        assert (second.number, second.resumed) == (2, False)


def test_a_connection_that_breaks_hands_the_render_back(broker: Valkey) -> None:
    with image_worker_on(broker, {TXT2IMG: drop}) as worker:
        task_id = accept(worker)
        with pytest.raises(Reject):
            worker.run(task_id)
        assert worker.ended(task_id) == ("queued", "")


def test_a_second_attempt_begins_without_the_first_one_s_images(broker: Valkey) -> None:
    with image_worker_on(broker, {TXT2IMG: reply(200, rendered(BLUE))}) as worker:
        first = worker.claim(kind="sd.txt2img", mode="plain", queue="sd")
        for number in range(3):
            worker.runtime.artifacts.put(first.task_id, number, RED, "image/png", first.owner)
        worker.records.release(first)
        worker.run(first.task_id)
        assert (worker.ended(first.task_id), stored(worker, first.task_id)) == (("succeeded", "200"), [BLUE])


def test_an_attempt_that_was_taken_over_leaves_the_newer_one_s_images_alone(broker: Valkey) -> None:
    with image_worker_on(broker, {}) as worker:
        task_id = accept(worker)

        def answer(handler: Handler) -> None:
            worker.client.hset(f"graycat:task:{task_id}", "attempt", 2)
            worker.runtime.artifacts.put(task_id, 0, BLUE, "image/png", "tests")
            reply(200, rendered(RED))(handler)

        worker.seen.answers[TXT2IMG] = answer
        worker.run(task_id)
        assert (worker.ended(task_id), stored(worker, task_id)) == (("running", ""), [BLUE])


@pytest.mark.parametrize(
    ("how", "ended", "left"),
    [(Verdict.CANCEL, ("cancelled", "499"), []), (Verdict.INTERRUPT, ("succeeded", "200"), [RED])],
)
def test_a_wish_is_heeded_until_the_images_are_stored(
    broker: Valkey, how: Verdict, ended: tuple[str, str], left: list[bytes]
) -> None:
    with image_worker_on(broker, {INTERRUPT: reply(404, {})}) as worker:
        task_id = accept(worker)

        def answer(handler: Handler) -> None:
            worker.records.cancel(task_id, how)
            reply(200, rendered(RED))(handler)

        worker.seen.answers[TXT2IMG] = answer
        worker.run(task_id)
        # An image whose engine took no interrupt is a whole image.
        assert (worker.ended(task_id), stored(worker, task_id)) == (ended, left)


def test_a_render_that_was_stopped_before_it_began_never_reaches_the_engine(broker: Valkey) -> None:
    with image_worker_on(broker, {}) as worker:
        attempt = worker.claim(kind="sd.txt2img", mode="plain", queue="sd")
        task = worker.task("sd.txt2img")
        call = task.new_call()
        call.stop(StopReason.CANCELLED)
        assert task._run_attempt(worker.runtime, attempt, call) == "cancelled"
        assert worker.seen.requests == []
