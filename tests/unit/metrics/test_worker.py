from __future__ import annotations

import time

import pytest

from graycat.broker import keys
from graycat.metrics import worker
from graycat.queue.records import TaskRecords
from tests.support.broker import BrokerClient
from tests.support.helpers import accepted, claimed
from tests.support.metered import value

KIND = "llm.completion"


def test_a_claim_tells_how_long_the_task_has_waited(records: TaskRecords, client: BrokerClient) -> None:
    task_id = accepted(records, queue="llm:a-model")
    client.hincrby(keys.record_key(task_id), "submitted_ms", -3000)
    attempt = claimed(records, task_id)
    assert (attempt.queue, 3.0 <= attempt.waited_s < 30) == ("llm:a-model", True)
    before = value(worker, "graycat_task_queue_wait_seconds_sum", queue="llm")
    worker.observe_claim(attempt)
    assert value(worker, "graycat_task_queue_wait_seconds_sum", queue="llm") == before + attempt.waited_s


def test_a_task_that_was_handed_back_waits_anew(records: TaskRecords, client: BrokerClient) -> None:
    task_id = accepted(records)
    client.hincrby(keys.record_key(task_id), "submitted_ms", -60_000)
    assert records.release(claimed(records, task_id))
    again = claimed(records, task_id)
    assert (again.number, again.waited_s < 30) == (2, True)
    before = value(worker, "graycat_task_attempts_total", kind=KIND, nth="again")
    worker.observe_claim(again)
    assert value(worker, "graycat_task_attempts_total", kind=KIND, nth="again") == before + 1


@pytest.mark.parametrize(
    ("reason", "outcome"),
    [("cancelled", "cancelled"), ("expired", "expired"), ("lost", "failed"), ("yield", "yielded"), ("gone", "dropped")]
    + [("finished", "dropped"), ("running here", "dropped")],
)
def test_a_refused_claim_is_one_of_a_few_outcomes(reason: str, outcome: str) -> None:
    before = value(worker, "graycat_tasks_total", kind=KIND, outcome=outcome)
    worker.count_refusal(KIND, reason)
    assert value(worker, "graycat_tasks_total", kind=KIND, outcome=outcome) == before + 1


def test_a_stale_attempt_was_fenced_off() -> None:
    before = value(worker, "graycat_task_fenced_total", kind=KIND)
    worker.count_attempt(KIND, "stale", 0.0)
    worker.count_attempt(KIND, "succeeded", 0.0)
    assert value(worker, "graycat_task_fenced_total", kind=KIND) == before + 1


def test_a_cancelled_task_tells_how_long_its_engine_was_held() -> None:
    count, total = "graycat_cancel_to_free_seconds_count", "graycat_cancel_to_free_seconds_sum"
    before, spent = value(worker, count, kind=KIND), value(worker, total, kind=KIND)
    worker.count_attempt(KIND, "cancelled", time.monotonic() - 2)
    # One whose claim found it cancelled was never told to stop.
    worker.count_attempt(KIND, "cancelled", 0.0)
    assert value(worker, count, kind=KIND) == before + 1
    assert 2 <= value(worker, total, kind=KIND) - spent < 30


def test_a_stream_is_observed_once() -> None:
    # No other test has streams of it.
    kind = "llm.observed"
    names = ("time_to_first_token_seconds", "time_per_output_token_seconds", "tokens_per_second")
    before = [value(worker, f"graycat_{name}_count", kind=kind) for name in names]
    now = time.monotonic()
    worker.observe_stream(kind, now - 3, now - 2, 101)
    assert [value(worker, f"graycat_{name}_count", kind=kind) for name in names] == [n + 1 for n in before]
    assert value(worker, "graycat_tokens_total", kind=kind) == 101
    assert value(worker, "graycat_time_to_first_token_seconds_sum", kind=kind) == pytest.approx(1.0)
    assert 0.02 <= value(worker, "graycat_time_per_output_token_seconds_sum", kind=kind) < 0.3
    assert 3 < value(worker, "graycat_tokens_per_second_sum", kind=kind) <= 50


@pytest.mark.parametrize(("first_at", "tokens"), [(0.0, 0), (1.0, 1)])
def test_a_stream_of_nothing_or_of_one_token_has_no_rate(first_at: float, tokens: int) -> None:
    before = value(worker, "graycat_tokens_per_second_count", kind="llm.infill")
    worker.observe_stream("llm.infill", 0.5, first_at, tokens)
    assert value(worker, "graycat_tokens_per_second_count", kind="llm.infill") == before


def test_images_count_with_their_steps() -> None:
    worker.observe_images("sd.img2img", 2.0, 4, 10)
    worker.observe_images("sd.img2img", 1.0, 1, 0)
    assert value(worker, "graycat_images_total", kind="sd.img2img") == 5
    assert value(worker, "graycat_image_seconds_sum", kind="sd.img2img") == 3.0
    assert value(worker, "graycat_image_steps_per_second_sum", kind="sd.img2img") == 20.0
    assert value(worker, "graycat_image_steps_per_second_count", kind="sd.img2img") == 1


def test_an_engine_s_counts_are_its_supervisor_s() -> None:
    starts, load = worker.EngineCounts(lambda: 3, lambda: 1.5).collect()
    assert (starts.samples[0].name, starts.samples[0].value) == ("graycat_engine_starts_total", 3)
    assert (load.samples[0].name, load.samples[0].value) == ("graycat_engine_load_seconds", 1.5)
