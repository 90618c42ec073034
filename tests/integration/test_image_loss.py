"""Image engines and workers die, hang up and stop for nobody: an image is made again or ends clearly, and kept once."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.support.images import ANNA, BERT, QUICK, STEP_S, ImageStack, Order, Picture
from tests.support.processes import SLACK_S, eventually
from tests.support.stack import running

#: Seconds until a new engine or worker has taken over what the old one held.
BACK_S = 180.0
#: Long enough to be killed after its first report of progress.
STORY: dict[str, Any] = QUICK | {"steps": 60, "batch_size": 2}


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ImageStack]:
    """Yield a stack of separate processes, whose dead workers are noticed within two seconds."""
    home = tmp_path_factory.mktemp("parts")
    with running(ImageStack(home, separately=True, env={"GRAYCAT_LEASE_S": "2"})) as started:
        yield started


@pytest.fixture(scope="module")
def forgetful(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ImageStack]:
    """Yield a stack whose images live a second, and whose engine breaks off its first two calls."""
    home = tmp_path_factory.mktemp("forgetful")
    with running(ImageStack(home, env={"GRAYCAT_ARTIFACT_TTL_S": "1"}, fail="drop", fails=2)) as started:
        yield started


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ImageStack]:
    """Yield a stack with sd-server, which knows no progress and no interrupt; its images lie in a folder."""
    home = tmp_path_factory.mktemp("plain")
    env = {"GRAYCAT_ARTIFACTS_URL": f"file://{home}/images"}
    with running(ImageStack(home, env=env, personality="sd-server")) as started:
        yield started


def assert_made_once(stack: ImageStack, order: Order, reply: Any, attempts: int) -> None:
    """Check an answer: its images are the task's, none is kept twice, and it took so many attempts."""
    pictures = [Picture.of(image) for image in reply["images"]]
    assert len(pictures) == 2
    assert {picture.prompt for picture in pictures} == {json.loads(reply["info"])["prompt"]}
    assert "partial" not in json.loads(reply["info"])
    assert (order.record["state"], order.record["attempt"]) == ("succeeded", str(attempts))
    expected = [f"graycat:artifact:{order.task_id}:{n}" for n in (0, 1)] + [f"graycat:artifacts:{order.task_id}"]
    assert stack.stored(order.task_id) == expected
    for number, picture in enumerate(pictures):
        assert stack.caller(ANNA).get(f"/tasks/{order.task_id}/images/{number}").content == picture.data


def test_an_engine_killed_in_an_image_makes_it_again(parts: ImageStack) -> None:
    with Order(parts, ANNA, STORY | {"prompt": "twice begun"}) as order:
        order.wait_for_progress()
        pid = parts.engine_pid()
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        assert_made_once(parts, order, order.read(), attempts=2)
    assert parts.asked().count("twice begun") == 2


def test_a_worker_killed_in_an_image_leaves_it_to_the_next(parts: ImageStack) -> None:
    with Order(parts, ANNA, STORY | {"prompt": "left behind"}) as order:
        order.wait_for_progress()
        parts.kill("sd")
        eventually(lambda: parts.engine_pid() is None, SLACK_S)
        parts.launch("sd")
        assert_made_once(parts, order, order.read(), attempts=2)
    assert parts.asked().count("left behind") == 2


def test_an_image_that_kills_its_engine_each_time_fails_clearly(parts: ImageStack) -> None:
    seen: set[int] = set()

    def kill_a_new_one() -> bool:
        pid = parts.engine_pid()
        if pid is not None and pid not in seen and parts.asked().count("a killer") > len(seen):
            seen.add(pid)
            os.kill(pid, signal.SIGKILL)
        return len(seen) == 2

    with Order(parts, ANNA, STORY | {"prompt": "a killer"}) as order:
        eventually(kill_a_new_one, BACK_S, 0.02)
        response = order.connection.getresponse()
        body = json.loads(response.read())
    assert (response.status, body["type"], body["error"]) == (502, "engine_killed", "HTTPException")
    assert parts.stored(order.task_id) == []


def test_an_engine_that_breaks_off_is_asked_again(forgetful: ImageStack) -> None:
    with Order(forgetful, ANNA, QUICK | {"prompt": "third time lucky"}) as order:
        reply = order.read()
    assert Picture.of(reply["images"][0]).prompt == "third time lucky"
    assert order.record["attempt"] == "3"
    assert forgetful.asked() == ["third time lucky"] * 3


def test_after_their_time_no_image_is_left_in_the_broker(forgetful: ImageStack) -> None:
    anna = forgetful.caller(ANNA)
    body = QUICK | {"init_images": [Picture.of(anna.post("/sdapi/v1/txt2img", QUICK).json()["images"][0]).base64]}
    made = [anna.post("/sdapi/v1/img2img", body | {"batch_size": 3}).json() for _ in range(3)]
    assert [len(reply["images"]) for reply in made] == [3, 3, 3]
    eventually(lambda: forgetful.stored() == [], SLACK_S)
    broker = forgetful.redis()
    sizes = {key: broker.memory_usage(key, samples=0) for key in broker.scan_iter("graycat:*")}
    # Neither do records and events hold one: a task's are a few kilobytes, an image of theirs would be as many more.
    large = {key: size for key, size in sizes.items() if size > 6000 and not key.startswith("graycat:catalog:")}
    assert not large


def test_an_image_in_a_folder_is_whole_and_has_one_place(plain: ImageStack) -> None:
    with Order(plain, ANNA, QUICK | {"prompt": "on disk", "batch_size": 2}) as order:
        reply = order.read()
    files = sorted(folder_of(plain, order).iterdir())
    assert [file.suffix for file in files] == [".data", ".json", ".data", ".json"]
    assert [file.read_bytes() for file in files if file.suffix == ".data"] == [
        Picture.of(image).data for image in reply["images"]
    ]
    assert plain.stored() == []
    fetched = plain.caller(ANNA).get(f"/tasks/{order.task_id}/images/1")
    assert fetched.content == Picture.of(reply["images"][1]).data


def test_an_engine_that_cannot_be_interrupted_is_waited_for(plain: ImageStack) -> None:
    steps = 80
    with Order(plain, ANNA, QUICK | {"prompt": "unstoppable", "steps": steps}) as order:
        eventually(lambda: "unstoppable" in plain.asked(), SLACK_S)
    with Order(plain, BERT, QUICK | {"prompt": "the next"}) as waiting:
        eventually(lambda: "cancel" in order.record, SLACK_S)
        assert order.record["state"] == "running"
        reply = waiting.read()
    assert Picture.of(reply["images"][0]).prompt == "the next"
    assert order.record["state"] == "cancelled"
    busy_ms = int(order.record["finished_ms"]) - int(order.record["started_ms"])
    assert busy_ms >= steps * STEP_S * 1000
    assert int(waiting.record["started_ms"]) >= int(order.record["finished_ms"])
    assert not folder_of(plain, order).exists()


def test_an_interrupt_that_finds_no_ear_changes_nothing(plain: ImageStack) -> None:
    anna = plain.caller(ANNA)
    with Order(plain, ANNA, QUICK | {"prompt": "to its end", "steps": 30}) as order, ThreadPoolExecutor(1) as pool:
        eventually(lambda: "to its end" in plain.asked(), SLACK_S)
        reply = pool.submit(order.read)
        assert anna.get("/sdapi/v1/progress").json()["state"]["job_count"] == -1
        assert anna.post("/sdapi/v1/interrupt").json() == {}
        assert Picture.of(reply.result(BACK_S)["images"][0]).prompt == "to its end"


def test_images_of_an_engine_without_info_are_found_by_their_task(plain: ImageStack) -> None:
    anna = plain.caller(ANNA)
    body = QUICK | {"prompt": "in its own time"}
    accepted = anna.post("/sdapi/v1/txt2img", body, headers={"Prefer": "respond-async"})
    path = accepted.headers["Location"]
    task = eventually(lambda: ended(anna.get(path).json()), SLACK_S)
    # What it lacks is read from the pictures' own text.
    assert (task["state"], json.loads(task["result"]["info"])["prompt"]) == ("succeeded", "in its own time")
    (image,) = task["result"]["images"]
    assert Picture.of(anna.get(image["url"]).content).prompt == "in its own time"
    simple = anna.post("/generate-image", body).json()
    assert Picture.of(simple["image_base64"]).prompt == simple["info"]["prompt"] == "in its own time"


def ended(task: Any) -> Any:
    """Return a task that has ended; nothing while it has not."""
    return task if "finished_ms" in task else None


def folder_of(stack: ImageStack, order: Order) -> Path:
    """Return where a task's images would lie."""
    return stack.home / "images" / f"task-{order.task_id}"
