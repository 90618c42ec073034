"""Two API tokens share one image engine: each sees, stops and loses nothing but its own."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import pytest

from tests.support.images import ADMIN, ANNA, BERT, PATIENCE_S, QUICK, SLOW, ImageStack, Order, Picture
from tests.support.processes import eventually
from tests.support.stack import Client


@pytest.fixture(scope="module")
def anna(studio: ImageStack) -> Client:
    return studio.caller(ANNA)


@pytest.fixture(scope="module")
def bert(studio: ImageStack) -> Client:
    return studio.caller(BERT)


@pytest.fixture
def story(studio: ImageStack, anna: Client) -> Iterator[Order]:
    """Yield an order of Anna's that would take half a minute, once its engine has told how far it is."""
    with Order(studio, ANNA, SLOW | {"prompt": "a long story"}) as order:
        order.wait_for_progress()
        yield order
        anna.post("/sdapi/v1/interrupt")
        eventually(lambda: not studio.live(), PATIENCE_S)


def progress(caller: Client) -> Any:
    """Return what a caller sees of its renders."""
    return caller.get("/sdapi/v1/progress").json()


def test_of_ten_tasks_each_every_caller_gets_its_own_and_sees_no_other(
    studio: ImageStack, anna: Client, bert: Client
) -> None:
    # Whose progress it is shows in its steps; two of the ten run long enough to tell any.
    steps = {ANNA: 31, BERT: 37}
    orders = [
        (owner, QUICK | {"prompt": f"{owner}'s number {number}", "steps": steps[owner] if number < 2 else 1})
        for number in range(10)
        for owner in steps
    ]
    seen: dict[str, set[int]] = {ANNA: set(), BERT: set()}

    def ended() -> bool:
        for owner, caller in ((ANNA, anna), (BERT, bert)):
            seen[owner].add(progress(caller)["state"]["sampling_steps"])
        return not studio.live()

    with ThreadPoolExecutor(len(orders)) as pool, ExitStack() as stack:
        placed = [(body, stack.enter_context(Order(studio, owner, body))) for owner, body in orders]
        replies = [(body, pool.submit(order.read)) for body, order in placed]
        eventually(ended, PATIENCE_S, 0.02)
        for body, reply in replies:
            (image,) = reply.result(PATIENCE_S)["images"]
            assert Picture.of(image).prompt == body["prompt"]
    assert steps[ANNA] in seen[ANNA] <= {0, 1, steps[ANNA]}
    assert steps[BERT] in seen[BERT] <= {0, 1, steps[BERT]}
    assert sorted(studio.asked()[-20:]) == sorted(body["prompt"] for _, body in orders)


def test_who_waits_sees_a_render_that_has_just_begun(studio: ImageStack, bert: Client, story: Order) -> None:
    with Order(studio, BERT, QUICK | {"prompt": "a short one"}) as waiting:
        waiting.wait_for("queued")
        seen = progress(bert)
        assert (seen["progress"], seen["state"]["job_count"], seen["current_image"]) == (0, -1, None)
        assert seen["textinfo"] == "Waiting: 1 in the queue, the next is number 1"


def test_an_interrupt_of_who_has_nothing_running_stops_nobody(studio: ImageStack, bert: Client) -> None:
    body = QUICK | {"prompt": "not to be stopped", "steps": 60}
    with Order(studio, ANNA, body) as order, Order(studio, BERT, QUICK | {"prompt": "next"}) as waiting:
        order.wait_for_progress()
        for call in ("interrupt", "skip"):
            assert bert.post(f"/sdapi/v1/{call}").status_code == 200
        state = studio.engine().get("/sdapi/v1/progress").json()["state"]
        assert (state["interrupted"], state["skipped"], state["job_count"]) == (False, False, 1)
        assert "partial" not in json.loads(order.read()["info"])
        assert "partial" not in json.loads(waiting.read()["info"])
    assert "cancel" not in order.record | waiting.record


def test_an_interrupt_stops_the_caller_s_own_image_and_the_next_is_whole(
    studio: ImageStack, anna: Client, story: Order
) -> None:
    with Order(studio, BERT, QUICK | {"prompt": "whole", "steps": 3}) as waiting:
        waiting.wait_for("queued")
        assert anna.post("/sdapi/v1/interrupt").json() == {}
        reply, whole = story.read(), waiting.read()
    assert json.loads(reply["info"])["partial"] is True
    assert 1 <= len(reply["images"]) < SLOW["n_iter"]
    assert story.record["state"] == "cancelled"
    assert Picture.of(whole["images"][0]).prompt == "whole"
    assert "partial" not in json.loads(whole["info"])
    assert waiting.record["state"] == "succeeded"


def test_who_hangs_up_while_it_waits_costs_the_engine_nothing(studio: ImageStack, anna: Client, story: Order) -> None:
    prompt = f"never drawn {random.random()}"  # noqa: S311 (a name)
    with Order(studio, BERT, QUICK | {"prompt": prompt}) as queued:
        queued.wait_for("queued")
    queued.wait_for("cancelled")
    anna.post("/sdapi/v1/interrupt")
    # Whatever is queued runs before this.
    anna.post("/sdapi/v1/txt2img", QUICK | {"prompt": "the last one"})
    assert (queued.record["attempt"], queued.record["status"]) == ("0", "499")
    assert prompt not in studio.asked()
    assert studio.asked()[-2:] == ["a long story", "the last one"]


def test_who_hangs_up_while_it_renders_frees_the_engine_and_leaves_nothing(
    studio: ImageStack, bert: Client, story: Order
) -> None:
    task_id = story.task_id
    story.connection.close()
    assert bert.post("/sdapi/v1/txt2img", QUICK).status_code == 200
    assert story.record["state"] == "cancelled"
    assert studio.stored(task_id) == []


def test_a_caller_s_tasks_and_images_are_its_own(studio: ImageStack, anna: Client, bert: Client) -> None:
    accepted = anna.post("/sdapi/v1/txt2img", QUICK, headers={"Prefer": "respond-async"})
    assert accepted.status_code == 202
    task = accepted.headers["Location"]
    eventually(lambda: anna.get(task).json()["state"] == "succeeded", PATIENCE_S)
    assert anna.get(f"{task}/images/0").status_code == 200
    for path in (task, f"{task}/images/0", f"{task}/preview"):
        assert (bert.get(path).status_code, bert.get(path).json()["error"]["type"]) == (404, "task_not_found")


def test_a_preview_is_seen_by_its_owner_alone(bert: Client, anna: Client, story: Order) -> None:
    shown = eventually(lambda: progress(anna)["current_image"], PATIENCE_S)
    assert Picture.of(shown).image.width < SLOW["width"]
    preview = anna.get(f"/tasks/{story.task_id}/preview")
    assert (preview.status_code, preview.headers["Content-Type"]) == (200, "image/png")
    assert bert.get(f"/tasks/{story.task_id}/preview").status_code == 404
    assert progress(bert)["current_image"] is None


def test_settings_are_changed_by_admins_alone_and_for_all(studio: ImageStack, anna: Client, bert: Client) -> None:
    admin = studio.caller(ADMIN)
    before = bert.get("/sdapi/v1/options").json()["jpeg_quality"]
    refused = anna.post("/sdapi/v1/options", {"jpeg_quality": 11})
    assert (refused.status_code, refused.json()["type"]) == (403, "permission_error")
    assert studio.engine().get("/sdapi/v1/options").json()["jpeg_quality"] == before
    assert admin.post("/sdapi/v1/options", {"jpeg_quality": 77}).json() is None
    assert bert.get("/sdapi/v1/options").json()["jpeg_quality"] == 77
    wrong = admin.post("/sdapi/v1/options", {"no such setting": 1})
    assert (wrong.status_code, wrong.json()["type"]) == (400, "unsupported_parameter")
    assert admin.post("/sdapi/v1/options", {"jpeg_quality": before}).status_code == 200


def test_a_change_of_settings_waits_for_the_render_under_way(studio: ImageStack, anna: Client) -> None:
    with Order(studio, BERT, QUICK | {"prompt": "under way", "steps": 40}) as order:
        order.wait_for_progress()
        assert studio.caller(ADMIN).post("/sdapi/v1/refresh-checkpoints").json() is None
        assert order.record["state"] == "succeeded"
        assert Picture.of(order.read()["images"][0]).prompt == "under way"
