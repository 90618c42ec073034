"""Progress, interrupt, skip and the queue, watched while jobs run."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest

from tests.support.processes import eventually
from tests.support.webui_wire import PATIENCE_S, WebUI, image_of, png_of, red

SMALL = {"width": 64, "height": 64, "seed": 1}
STATE = {
    "skipped": bool, "interrupted": bool, "stopping_generation": bool, "job": str, "job_count": int,
    "job_timestamp": str, "job_no": int, "sampling_step": int, "sampling_steps": int,
}  # fmt: skip


@pytest.fixture
def clients(slow_webui: WebUI) -> Iterator[ThreadPoolExecutor]:
    """Yield threads for requests that wait; a job that a test has left is ended."""
    with ThreadPoolExecutor(50) as pool:
        yield pool
        while state(slow_webui)["job_count"] != 0:
            slow_webui.post("interrupt")


def state(webui: WebUI) -> dict[str, Any]:
    known: dict[str, Any] = webui.progress()["state"]
    return known


def start(webui: WebUI, clients: ThreadPoolExecutor, **fields: Any) -> Future[Any]:
    """Start a generation; returns when it is sampling."""
    running = clients.submit(webui.post, "txt2img", SMALL | fields)
    eventually(lambda: state(webui)["sampling_step"] > 0 or running.done(), PATIENCE_S, 0.005)
    return running


def test_the_state_has_its_keys_whether_or_not_a_job_runs(slow_webui: WebUI, clients: ThreadPoolExecutor) -> None:
    idle = slow_webui.get("progress")
    running = start(slow_webui, clients, steps=50)
    busy = slow_webui.get("progress")
    slow_webui.post("interrupt")
    running.result()
    for answer in (idle, busy):
        assert list(answer) == ["progress", "eta_relative", "state", "current_image", "textinfo"]
        assert list(answer["state"]) == list(STATE)
        assert all(type(answer["state"][key]) is kind for key, kind in STATE.items())
    assert (idle["progress"], idle["eta_relative"], idle["current_image"], idle["textinfo"]) == (0.0, 0.0, None, None)
    assert (idle["state"]["job"], idle["state"]["job_count"]) == ("", 0)


def test_progress_counts_steps_and_batches(slow_webui: WebUI, clients: ThreadPoolExecutor) -> None:
    running = start(slow_webui, clients, steps=10, n_iter=2, batch_size=2)
    seen = []
    while not running.done():
        answer = slow_webui.progress()
        if answer["state"]["job_count"] > 0:
            seen.append(answer)
    for answer in seen:
        s = answer["state"]
        share = 0.01 + s["job_no"] / 2 + s["sampling_step"] / 10 / 2
        assert answer["progress"] == pytest.approx(min(share, 1))
        assert (s["job_count"], s["sampling_steps"]) == (2, 10)
        assert s["job"] == f"Batch {s['job_no'] + 1} out of 2"
    assert {answer["state"]["job_no"] for answer in seen} == {0, 1}
    shares = [answer["progress"] for answer in seen]
    assert shares == sorted(shares)
    assert seen[0]["eta_relative"] > seen[-1]["eta_relative"]


def test_a_job_that_has_just_begun_counts_minus_one(slow_webui: WebUI, clients: ThreadPoolExecutor) -> None:
    def just_begun() -> bool:
        answer = slow_webui.progress()
        running.append(clients.submit(slow_webui.post, "txt2img", SMALL | {"steps": 1}))
        return answer["state"]["job_count"] == -1 and answer["progress"] == 0.01

    running: list[Future[Any]] = []
    eventually(just_begun, PATIENCE_S, 0.0)
    for future in running:
        future.result()


def test_an_idle_state_keeps_its_last_values(slow_webui: WebUI) -> None:
    slow_webui.post("txt2img", SMALL | {"steps": 3, "n_iter": 2})
    last = state(slow_webui)
    assert (last["job"], last["job_count"], last["job_no"], last["sampling_steps"]) == ("", 0, 2, 3)
    assert last["job_timestamp"].isdecimal()


def test_a_second_pass_doubles_the_count(slow_webui: WebUI, clients: ThreadPoolExecutor) -> None:
    running = start(slow_webui, clients, steps=20, n_iter=2, enable_hr=True, denoising_strength=0.5)
    assert state(slow_webui)["job_count"] == 4
    slow_webui.post("interrupt")
    (image,) = map(image_of, running.result()["images"])
    # The second pass is left out: small, and half done at most.
    assert image.size == (64, 64)


def test_a_preview_comes_after_ten_steps(slow_webui: WebUI, clients: ThreadPoolExecutor) -> None:
    running = start(slow_webui, clients, steps=40, batch_size=2)
    first = slow_webui.get("progress")
    if first["state"]["sampling_step"] < 10:
        assert first["current_image"] is None
    eventually(lambda: state(slow_webui)["sampling_step"] >= 11, PATIENCE_S, 0.01)
    shown = slow_webui.get("progress")
    # A grid of the batch, smaller than the images.
    assert image_of(shown["current_image"]).size == (32, 16)
    assert slow_webui.progress()["current_image"] is None
    slow_webui.post("interrupt")
    running.result()
    assert slow_webui.get("progress")["current_image"] is None


def test_a_short_job_has_no_preview(slow_webui: WebUI, clients: ThreadPoolExecutor) -> None:
    running = start(slow_webui, clients, steps=9)
    while not running.done():
        assert slow_webui.get("progress")["current_image"] is None


def test_an_interrupt_is_answered_with_what_there_is(slow_webui: WebUI, clients: ThreadPoolExecutor) -> None:
    running = start(slow_webui, clients, steps=40, n_iter=3, batch_size=2)
    eventually(lambda: state(slow_webui)["job_no"] == 1, PATIENCE_S, 0.01)
    assert slow_webui.post("interrupt") == {}
    answer = running.result()
    info = json.loads(answer["info"])
    assert (len(answer["images"]), len(info["all_seeds"]), len(info["infotexts"])) == (4, 6, 4)
    whole = slow_webui.post("txt2img", SMALL | {"steps": 40, "seed": 3})["images"][0]
    unfinished = image_of(answer["images"][2])
    # The text claims every step; the pixels do not.
    assert "Steps: 40" in unfinished.info["parameters"]
    assert unfinished.tobytes() != image_of(whole).tobytes()


def test_the_flag_lingers_and_is_wiped_at_the_next_start(slow_webui: WebUI, clients: ThreadPoolExecutor) -> None:
    running = start(slow_webui, clients, steps=40)
    slow_webui.post("interrupt")
    running.result()
    assert state(slow_webui)["interrupted"] is True
    slow_webui.post("interrupt")
    assert len(slow_webui.post("txt2img", SMALL | {"steps": 2, "n_iter": 2})["images"]) == 2
    assert state(slow_webui)["interrupted"] is False


def test_a_queued_job_is_not_interrupted(slow_webui: WebUI, clients: ThreadPoolExecutor) -> None:
    running = start(slow_webui, clients, steps=40, n_iter=2)
    queued = clients.submit(slow_webui.post, "txt2img", SMALL | {"steps": 2, "n_iter": 2})
    slow_webui.post("interrupt")
    assert len(running.result()["images"]) == 1
    assert len(queued.result()["images"]) == 2


def test_a_skip_ends_one_batch_only(slow_webui: WebUI, clients: ThreadPoolExecutor) -> None:
    running = start(slow_webui, clients, steps=30, n_iter=2, seed=5)
    assert slow_webui.post("skip") is None
    images = running.result()["images"]
    whole = slow_webui.post("txt2img", SMALL | {"steps": 30, "n_iter": 2, "seed": 5})["images"]
    assert len(images) == 2
    assert images[0] != whole[0]
    assert images[1] == whole[1]


def test_jobs_run_one_at_a_time_in_the_order_they_came(slow_webui: WebUI, clients: ThreadPoolExecutor) -> None:
    done: list[int] = []

    def generate(number: int) -> None:
        slow_webui.call("POST", "txt2img", SMALL | {"steps": 2, "prompt": str(number), "send_images": False})
        done.append(number)

    running = start(slow_webui, clients, steps=60)
    queued = []
    for number in range(5):
        queued.append(clients.submit(generate, number))
        # Each has arrived before the next is sent: an answer on a later connection says so.
        for _ in range(3):
            state(slow_webui)
    slow_webui.post("interrupt")
    running.result()
    for future in queued:
        future.result()
    assert done == [0, 1, 2, 3, 4]


def test_everything_else_is_answered_meanwhile(slow_webui: WebUI, clients: ThreadPoolExecutor) -> None:
    running = start(slow_webui, clients, steps=60)
    waiting = [clients.submit(slow_webui.post, "txt2img", SMALL | {"steps": 0}) for _ in range(45)]
    for name in ("samplers", "sd-models", "options", "memory", "progress"):
        slow_webui.get(name)
    slow_webui.post("png-info", image=red())
    slow_webui.post("options", jpeg_quality=80)
    assert not running.done()
    assert not any(future.done() for future in waiting)
    slow_webui.post("interrupt")
    running.result()
    assert all(len(future.result()["images"]) == 1 for future in waiting)


@pytest.mark.parametrize("name", ["extra-single-image", "interrogate", "refresh-checkpoints"])
def test_other_work_waits_for_the_running_job(slow_webui: WebUI, clients: ThreadPoolExecutor, name: str) -> None:
    running = start(slow_webui, clients, steps=60)
    waiting = clients.submit(slow_webui.post, name, {"image": red()})
    assert state(slow_webui)["job"] == "scripts_txt2img"
    assert not waiting.done()
    slow_webui.post("interrupt")
    running.result()
    waiting.result()


def test_a_job_outlives_the_client_that_left(slow_webui: WebUI) -> None:
    body = json.dumps(SMALL | {"steps": 15}).encode()
    head = (
        f"POST /sdapi/v1/txt2img HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
    )
    with socket.create_connection(("127.0.0.1", slow_webui.port)) as connection:
        connection.sendall(head.encode() + b"\r\n\r\n" + body)
        eventually(lambda: state(slow_webui)["job"] == "scripts_txt2img", PATIENCE_S, 0.005)
    # It goes on to its last step, and its end disturbs nobody.
    assert state(slow_webui)["job"] == "scripts_txt2img"
    eventually(lambda: state(slow_webui)["job_count"] == 0, PATIENCE_S, 0.01)
    assert (state(slow_webui)["job_no"], state(slow_webui)["sampling_steps"]) == (1, 15)
    assert "Traceback" not in slow_webui.output.text


def test_img2img_and_large_images_do_not_stop_progress(slow_webui: WebUI, clients: ThreadPoolExecutor) -> None:
    first = png_of(image_of(red(256, 256)))
    running = clients.submit(
        slow_webui.post, "img2img", {"init_images": [first], "width": 2048, "height": 2048, "steps": 4}
    )
    eventually(lambda: state(slow_webui)["job"] == "scripts_img2img", PATIENCE_S, 0.005)
    answers = 0
    while not running.done():
        state(slow_webui)
        answers += 1
    assert answers > 3
    assert image_of(running.result()["images"][0]).size == (2048, 2048)
