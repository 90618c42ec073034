from __future__ import annotations

import json
from contextlib import closing
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import redis

from graycat.batches.output import Output, Outputs
from graycat.batches.runner import runner
from graycat.batches.runner.runner import BatchRunner
from graycat.batches.spec.windows import Window
from graycat.broker.client import connect
from graycat.broker.keys import BATCH_RUNNER_LOCK, LIVE_BATCHES
from graycat.errors import EngineError, TaskLost
from graycat.queue.records import TaskRecords
from graycat.worker.broker_acl import setuser, worker_rules
from tests.support.batching import TWO, Batching
from tests.support.helpers import Valkey, changed
from tests.support.workers import celery_app

TWENTY: dict[str, Any] = {"name": "twenty", "items": [f"number {n}" for n in range(20)]}


@pytest.fixture
def batching(broker: Valkey, tmp_path: Path) -> Batching:
    return Batching(broker, tmp_path / "out")


def test_a_batch_becomes_files_and_a_manifest_from_which_each_can_be_made_again(batching: Batching) -> None:
    batch_id = batching.submit(count=2)
    assert batching.run_to_end(batch_id) == "succeeded"
    lines = batching.manifest(batch_id)
    assert [line["item"] for line in lines] == [1, 2, 3, 4]
    assert [path.name for path in batching.files(batch_id)] == sorted(line["file"] for line in lines)
    for line in lines:
        data = (batching.folder(batch_id) / line["file"]).read_bytes()
        assert sha256(data).hexdigest() == line["sha256"]
        assert line["request"] in batching.requests
        assert (line["model_hash"], line["attempts"], line["engine"]) == ("abc", 1, "a fake")
    assert len(batching.requests) == 4
    assert len({line["seed"] for line in lines}) == 4


def test_the_queue_holds_a_window_and_never_more(batching: Batching) -> None:
    batching.submit(TWENTY)
    for _ in range(8):
        batching.runner.step()
        assert batching.client.zcard("graycat:live.sd") <= 2
    batching.report_engines(3)
    batching.run_steps(1)
    assert batching.client.zcard("graycat:live.sd") == 6


def test_nothing_is_queued_if_no_engine_takes_batch_work(batching: Batching) -> None:
    batching.report_engines(1, engine_state="loading")
    batching.submit(TWENTY)
    batching.run_steps()
    assert batching.client.zcard("graycat:live.sd") == 0


def test_quick_images_have_more_in_the_queue(batching: Batching) -> None:
    batching.client.hset("graycat:means.sd", "sd.txt2img", 200)
    batching.submit(TWENTY)
    batching.run_steps()
    assert batching.client.zcard("graycat:live.sd") == 6


def test_batches_take_turns(batching: Batching) -> None:
    for name in ("one", "other"):
        batching.submit({"name": name, "items": [name] * 6})
    for _ in range(40):
        batching.runner.step()
        batching.render()
    names = [body["prompt"] for body in batching.requests]
    assert names.count("one") == names.count("other") == 6
    assert all({"one", "other"} == set(names[start : start + 2]) for start in range(2, 10, 2))


def test_a_cap_of_gpus_holds_for_its_batch_alone(batching: Batching) -> None:
    batching.report_engines(4)
    capped = batching.submit({"name": "capped", "items": ["a"] * 9, "max_gpus": 1})
    free = batching.submit({"name": "free", "items": ["b"] * 9})
    batching.run_steps()
    assert (batching.progress(capped)["queued"], batching.progress(free)["queued"]) == (1, 7)


def test_outside_of_its_window_nothing_waits_in_the_queue(batching: Batching, monkeypatch: pytest.MonkeyPatch) -> None:
    batch_id = batching.submit(window="01:00-06:00")
    monkeypatch.setattr(Window, "is_open", lambda *_: True)
    batching.run_steps()
    under_way = batching.claim_next()
    assert under_way is not None
    monkeypatch.setattr(Window, "is_open", lambda *_: False)
    batching.run_steps(2)
    assert batching.progress(batch_id) == {"running": 1, "waiting": 1}
    assert batching.batches.get(batch_id)["reason"] == "outside of its window, 01:00-06:00 UTC"
    # What was rendered when the window closed is finished, and nothing else is begun.
    batching.finish(under_way)
    batching.run_steps(2)
    assert batching.progress(batch_id) == {"done": 1, "waiting": 1}
    assert batching.claim_next() is None
    monkeypatch.setattr(Window, "is_open", lambda *_: True)
    assert batching.run_to_end(batch_id) == "succeeded"
    assert len(batching.requests) == 2


def test_a_paused_batch_starts_nothing_and_goes_on_where_it_was(batching: Batching) -> None:
    batch_id = batching.submit(count=2)
    batching.run_steps(3)
    batching.render()
    batching.batches.pause(batch_id)
    batching.run_steps()
    assert batching.progress(batch_id) == {"done": 1, "waiting": 3}
    assert batching.claim_next() is None
    assert batching.batches.resume(batch_id)["state"] == "queued"
    assert batching.run_to_end(batch_id) == "succeeded"
    assert len(batching.requests) == 4
    assert {item["attempts"] for item in batching.batches.list_items(batch_id)} == {1}


def test_a_batch_goes_on_whose_place_among_the_live_ones_is_lost(
    batching: Batching, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "RELIST_INTERVAL_S", 0.0)
    batch_id = batching.submit()
    batching.runner.step()
    batching.client.delete(LIVE_BATCHES)
    assert batching.run_to_end(batch_id) == "succeeded"


def test_a_cancelled_batch_keeps_what_it_has_made(batching: Batching) -> None:
    batch_id = batching.submit(count=2)
    batching.run_steps(3)
    batching.render()
    under_way = batching.claim_next()
    assert under_way is not None
    batching.batches.cancel(batch_id)
    batching.run_steps(2)
    assert batching.records.get(under_way.task_id)["cancel"] == "cancel"
    batching.records.finish_cancelled(under_way)
    batching.run_steps()
    assert batching.progress(batch_id) == {"done": 1, "cancelled": 3}
    assert len(batching.manifest(batch_id)) == 1
    assert batching.client.zcard(LIVE_BATCHES) == 0


def test_an_image_whose_task_was_revoked_is_made_in_another_task(batching: Batching) -> None:
    batch_id = batching.submit()
    batching.run_steps(3)
    revoked = {item["task_id"] for item in batching.batches.list_items(batch_id)}
    for task_id in revoked:
        # What graycat.worker.revocation does.
        assert batching.records.cancel_queued(task_id)
    assert batching.run_to_end(batch_id) == "succeeded"
    assert revoked.isdisjoint(item["task_id"] for item in batching.batches.list_items(batch_id))


def test_an_item_that_the_engine_refuses_fails_and_the_others_go_on(batching: Batching) -> None:
    batch_id = batching.submit()
    batching.run_steps(3)
    refused = batching.claim_next()
    assert refused is not None
    batching.fail(refused, EngineError(422, b'{"error": "Unprocessable", "detail": "no"}'))
    assert batching.run_to_end(batch_id) == "failed"
    assert batching.progress(batch_id) == {"done": 1, "failed": 1}
    (item,) = batching.batches.list_items(batch_id, state="failed")
    assert (item["error"]["status"], item["error"]["type"], item["attempts"]) == (422, "engine_error", 1)
    batching.batches.retry_failed(batch_id)
    assert batching.run_to_end(batch_id) == "succeeded"
    assert len(batching.requests) == 3
    assert {line["attempts"] for line in batching.manifest(batch_id)} == {1, 2}


def test_an_item_that_was_lost_is_made_again_and_not_for_ever(batching: Batching) -> None:
    batch_id = batching.submit({"name": "one", "items": ["a"]})
    for _ in range(3):
        batching.run_steps(4)
        attempt = batching.claim_next()
        assert attempt is not None
        batching.fail(attempt, TaskLost())
    assert batching.run_to_end(batch_id) == "failed"
    (item,) = batching.batches.list_items(batch_id)
    assert (item["state"], item["attempts"], item["error"]["type"]) == ("failed", 3, "task_lost")


def test_too_many_failures_end_a_batch_at_once(batching: Batching) -> None:
    batch_id = batching.submit(TWENTY, max_failures=1)
    for _ in range(2):
        batching.run_steps(4)
        attempt = batching.claim_next()
        assert attempt is not None
        batching.fail(attempt, EngineError(422, b'{"detail": "no"}'))
    batching.run_steps()
    view = batching.batches.get(batch_id)
    assert (view["state"], view["reason"]) == ("failed", "2 items failed; max_failures is 1")
    assert batching.progress(batch_id) == {"failed": 2, "cancelled": 18}
    assert batching.claim_next() is None


def test_a_deadline_ends_a_batch(batching: Batching) -> None:
    batch_id = batching.submit(deadline=0.001)
    batching.run_steps()
    view = batching.batches.get(batch_id)
    assert (view["state"], view["reason"]) == ("failed", "its deadline has passed")
    assert batching.client.zcard(LIVE_BATCHES) == 0


def test_a_task_that_is_forgotten_before_it_was_collected_runs_again(batching: Batching) -> None:
    batch_id = batching.submit({"name": "one", "items": ["a"]})
    batching.run_steps(3)
    attempt = batching.claim_next()
    assert attempt is not None
    batching.runner.step()
    batching.finish(attempt)
    batching.client.delete(f"graycat:task:{attempt.task_id}")
    batching.artifacts.delete(attempt.task_id)
    assert batching.run_to_end(batch_id) == "succeeded"
    assert (len(batching.requests), batching.batches.list_items(batch_id)[0]["attempts"]) == (2, 2)


def test_an_image_that_is_forgotten_before_it_was_collected_is_made_again(batching: Batching) -> None:
    batch_id = batching.submit({"name": "one", "items": ["a"]})
    batching.run_steps(3)
    attempt = batching.claim_next()
    assert attempt is not None
    batching.finish(attempt)
    batching.artifacts.delete(attempt.task_id)
    assert batching.run_to_end(batch_id) == "succeeded"
    assert (len(batching.requests), batching.batches.list_items(batch_id)[0]["attempts"]) == (2, 2)


def test_another_runner_takes_over_when_the_first_one_stops(batching: Batching) -> None:
    other = batching.new_runner()
    batching.runner.step()
    batch_id = batching.submit()
    for _ in range(4):
        other.step()
    assert batching.state(batch_id) == "queued"
    batching.runner.stop()
    for _ in range(4):
        other.step()
    assert batching.state(batch_id) == "running"


class Killed(BaseException):
    """What kill -9 is to the code that it meets."""


class Killer:
    """Kills the process (raises Killed) at one call of some methods: before the call, or right after it."""

    def __init__(self, patch: pytest.MonkeyPatch, calls: int, *, behind: bool) -> None:
        self._left = calls
        self._behind = behind
        for owner, name in (
            (redis.Redis, "execute_command"),
            (redis.client.Pipeline, "execute"),
            (TaskRecords, "_run"),
            (Output, "_write_bytes"),
            (Output, "_append_to_manifest"),
        ):
            patch.setattr(owner, name, self._deadly(getattr(owner, name)))

    def _deadly(self, method: Any) -> Any:
        def call(*words: Any, **options: Any) -> Any:
            self._left -= 1
            if self._left < 0 and not self._behind:
                raise Killed
            result = method(*words, **options)
            if self._left < 0:
                raise Killed
            return result

        return call


@pytest.mark.parametrize("behind", [False, True])
def test_a_runner_that_is_killed_anywhere_makes_no_image_twice(
    batching: Batching, monkeypatch: pytest.MonkeyPatch, behind: bool
) -> None:
    batch_id = batching.submit(count=3)
    deaths = 0
    for calls in [*range(40), *range(40)]:
        batching.report_engines(1)
        with monkeypatch.context() as patch:
            Killer(patch, calls, behind=behind)
            try:
                batching.runner.step()
            except Killed:
                deaths += 1
                batching.runner = batching.new_runner()
        # A test does not wait until the dead runner's lock expires.
        batching.client.delete(BATCH_RUNNER_LOCK)
        batching.render()
    assert deaths > 20
    assert batching.run_to_end(batch_id) == "succeeded"
    assert len(batching.requests) == sum(line["attempts"] for line in batching.manifest(batch_id)) == 6
    assert len(batching.files(batch_id)) == len(batching.manifest(batch_id)) == 6


def test_a_defect_pauses_one_batch_and_no_other(batching: Batching) -> None:
    broken, good = batching.submit(), batching.submit()
    batching.client.hset(f"graycat:batch:{broken}", "document", '{"name": 1}')
    assert batching.run_to_end(good) == "succeeded"
    view = batching.batches.get(broken)
    assert view["state"] == "failed"
    assert view["reason"].startswith("the spec is refused here")
    batching.client.hset(f"graycat:batch:{(odd := batching.submit())}", "document", "no JSON")
    batching.run_steps(2)
    assert batching.batches.get(odd)["reason"] == "graycat cannot work on it: JSONDecodeError; it is tried again"


def test_what_an_ended_batch_tells_its_webhook(batching: Batching) -> None:
    hook = {"url": "https://a.example/", "secret": None}
    batch_id = batching.submit(TWO | {"webhook": hook})
    batching.run_to_end(batch_id)
    (member,) = batching.client.zrange("graycat:deliveries", 0, -1)
    assert member.decode() == f"{batch_id} succeeded"
    told = batching.client.hgetall(f"graycat:delivery:{batch_id}:succeeded")
    assert (told[b"kind"], told[b"task_state"], json.loads(told[b"progress"])["done"]) == (b"batch", b"succeeded", 2)


def test_a_store_without_append_gets_its_manifest_at_intervals(broker: Valkey, monkeypatch: pytest.MonkeyPatch) -> None:
    batching = Batching(broker, Path("memory://batches"))
    batching.settings = changed(batching.settings, batch_dir="memory://batches")
    batching.runner = batching.new_runner()
    writes: list[str] = []
    write = Output._write

    def counted(self: Output, file: str, data: bytes, **options: Any) -> None:
        writes.append(file)
        write(self, file, data, **options)

    monkeypatch.setattr(Output, "_write", counted)
    # Every step takes a second of this clock, however long it takes.
    seconds = 1000.0
    step = batching.runner.step

    def step_for_a_second() -> Any:
        nonlocal seconds
        seconds += 1
        return step()

    monkeypatch.setattr(runner, "time", SimpleNamespace(monotonic=lambda: seconds))
    monkeypatch.setattr(batching.runner, "step", step_for_a_second)
    batch_id = batching.submit(TWENTY)
    # The queue is refilled between two collections as well.
    assert batching.run_to_end(batch_id) == "succeeded"
    assert len(batching.requests) == 20
    output = Outputs(batching.settings).open("", str(batching.batches.get(batch_id)["folder"]))
    assert len(output.entries) == 20
    assert all(output.is_intact(line) for line in output.entries.values())
    assert writes.count("manifest.jsonl") <= (seconds - 1000) / runner.COLLECT_INTERVAL_S + 1
    assert writes.count("manifest.jsonl") < 20


def test_a_control_worker_on_another_machine_may_run_batches(batching: Batching) -> None:
    password = "a-password-of-the-tests"
    batching.client.execute_command(*setuser("desk", password, worker_rules("desk", ["control"])).split())
    batching.client.acl_log_reset()
    batch_id = batching.submit(TWENTY | {"webhook": {"url": "https://a.example/"}})
    try:
        path = str(batching.settings.broker_socket)
        # It does not introduce itself: the user may not send that.
        with closing(connect(changed(batching.settings, redis_url=f"unix://desk:{password}@{path}"))) as client:
            batching.runner = BatchRunner(client, batching.settings, celery_app(batching.broker.settings.home))
            batching.run_steps(3)
            batching.batches.pause(batch_id)
            batching.run_steps(3)
            batching.batches.resume(batch_id)
            assert batching.run_to_end(batch_id) == "succeeded"
            batching.runner.stop()
        assert [(row["reason"], row["object"]) for row in batching.client.acl_log()] == []
    finally:
        batching.client.acl_deluser("desk")


def test_constants_fit_each_other() -> None:
    assert runner.STEP_INTERVAL_S * 5 <= runner.WORK_AHEAD_S
    assert runner.LOCK_TIMEOUT_S > runner.COLLECT_INTERVAL_S
