from __future__ import annotations

import threading

import gevent
import pytest

from graycat.engines.placeholder.jobs import FifoLock, Jobs, JobState, run_in_thread


def test_waiters_get_a_lock_in_order() -> None:
    lock, order = FifoLock(), []

    def use(number: int) -> None:
        with lock.hold():
            order.append(number)
            gevent.sleep(0)

    gevent.joinall([gevent.spawn(use, number) for number in range(6)], timeout=5, raise_error=True)
    assert order == list(range(6))


def test_a_lock_is_passed_on_by_who_fails_and_skips_who_gave_up() -> None:
    lock, order = FifoLock(), []

    def use(number: int) -> None:
        with lock.hold():
            gevent.sleep(0)
            order.append(number)

    def fail() -> None:
        with pytest.raises(ValueError, match="x"), lock.hold():
            raise ValueError("x")

    first, failing, impatient, last = (
        gevent.spawn(use, 1),
        gevent.spawn(fail),
        gevent.spawn(use, 2),
        gevent.spawn(use, 3),
    )
    gevent.sleep(0)
    impatient.kill()
    for greenlet in (first, failing, last):
        greenlet.get(timeout=5)
    assert order == [1, 3]


def test_work_in_a_thread_gives_its_result_or_raises(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_in_thread(threading.get_ident) != threading.get_ident()
    with pytest.raises(ZeroDivisionError):
        run_in_thread(divmod, 1, 0)
    assert capsys.readouterr().err == ""


def test_a_state_has_the_progress_of_a_job() -> None:
    state = JobState()
    assert state.progress() == (0.0, 0.0)
    state.begin("job")
    assert state.progress()[0] == 0.01
    state.job_count, state.sampling_steps = 2, 10
    state.sampling_step = 5
    assert state.progress()[0] == pytest.approx(0.26)
    state.next_batch()
    assert state.progress()[0] == pytest.approx(0.51)
    state.sampling_step = 10
    assert state.progress()[0] == 1.0
    assert state.progress()[1] < 0
    state.end()
    assert state.progress() == (0.0, 0.0)
    assert (state.job_no, state.sampling_steps) == (1, 10)


def test_flags_are_wiped_at_the_start_and_stay_at_the_end() -> None:
    jobs = Jobs(0)
    jobs.state.interrupted = jobs.state.skipped = True
    with jobs.run("job") as state:
        assert not state.stopped
        assert state.to_dict()["job"] == "job"
        state.interrupted = True
    assert jobs.state.to_dict() | {"job_timestamp": ""} == {
        "skipped": False,
        "interrupted": True,
        "stopping_generation": False,
        "job": "",
        "job_count": 0,
        "job_timestamp": "",
        "job_no": 0,
        "sampling_step": 0,
        "sampling_steps": 0,
    }


def test_a_job_that_fails_leaves_an_idle_state() -> None:
    jobs = Jobs(0)
    with pytest.raises(ValueError, match="x"), jobs.run("job"):
        raise ValueError("x")
    assert jobs.state.job_count == 0


def test_sampling_ends_at_the_step_at_which_it_is_stopped() -> None:
    assert Jobs(0).sample(5) == 5
    jobs = Jobs(0)
    sampling = gevent.spawn(jobs.sample, 10**9)
    while jobs.state.sampling_step < 3:
        gevent.sleep(0)
    jobs.state.skipped = True
    assert 3 <= sampling.get(timeout=5) < 10**9


def test_a_preview_is_drawn_when_the_last_one_is_old_enough() -> None:
    jobs, drawn = Jobs(0), []

    def preview() -> str:
        drawn.append(jobs.state.sampling_step)
        return str(len(drawn))

    jobs.state.begin("job")
    jobs.state.preview = preview
    seen = []
    for step in (0, 9, 10, 15, 20):
        jobs.state.sampling_step = step
        seen.append(jobs.current_image(10))
    assert seen == [None, None, "1", "1", "2"]
    assert drawn == [10, 20]
    jobs.state.sampling_step = 90
    assert jobs.current_image(-1) == "2"
