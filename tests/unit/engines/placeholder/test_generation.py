from __future__ import annotations

from typing import Any

import gevent
import pytest

from graycat.engines.placeholder import bodies
from graycat.engines.placeholder.generation import Generation, Processed
from graycat.engines.placeholder.jobs import Jobs
from graycat.engines.placeholder.options import Options
from graycat.engines.placeholder.plan import Plan
from graycat.engines.placeholder.schema import model

SMALL = {"width": 64, "height": 64, "steps": 4, "seed": 1}


@pytest.fixture
def jobs() -> Jobs:
    return Jobs(0)


def started(jobs: Jobs, **given: Any) -> gevent.Greenlet[[], Processed]:
    def run() -> Processed:
        with jobs.run("job"):
            return Generation(Plan(model(bodies.TXT2IMG)(SMALL | given), Options()), jobs).run()

    return gevent.spawn(run)


def until_step(jobs: Jobs, step: int) -> None:
    while jobs.state.sampling_step < step:
        gevent.sleep(0)


def test_every_image_has_its_infotext(jobs: Jobs) -> None:
    processed = started(jobs, batch_size=2, n_iter=2).get(timeout=5)
    assert [text for _, text in processed.images] == processed.infotexts
    assert len(processed.infotexts) == 4
    assert jobs.state.job_no == 2


def test_a_grid_is_put_in_front(jobs: Jobs) -> None:
    processed = started(jobs, n_iter=2, save_images=True).get(timeout=5)
    assert (len(processed.images), len(processed.infotexts), processed.index_of_first_image) == (3, 3, 1)


def test_an_interrupt_before_the_first_batch_leaves_nothing(jobs: Jobs) -> None:
    running = started(jobs)
    while jobs.state.job_count != -1:
        gevent.sleep(0)
    jobs.state.interrupted = True
    processed = running.get(timeout=5)
    assert (processed.images, processed.infotexts, jobs.state.job_no) == ([], [], 0)


def test_an_interrupt_leaves_an_unfinished_image(jobs: Jobs) -> None:
    running = started(jobs, steps=10**6, n_iter=2)
    until_step(jobs, 5)
    jobs.state.interrupted = True
    (unfinished, _), *others = running.get(timeout=5).images
    assert others == []
    assert len(unfinished.getcolors(2**16) or []) < 2000


def test_a_skip_leaves_the_count_whole(jobs: Jobs) -> None:
    running = started(jobs, steps=1000, n_iter=2)
    until_step(jobs, 5)
    jobs.state.skipped = True
    images = [image.tobytes() for image, _ in running.get(timeout=5).images]
    whole = [image.tobytes() for image, _ in started(jobs, steps=1000, n_iter=2).get(timeout=5).images]
    assert images[0] != whole[0]
    assert images[1:] == whole[1:]


def test_a_second_pass_is_left_out_after_an_interrupt(jobs: Jobs) -> None:
    hires = {"enable_hr": True, "denoising_strength": 0.5}
    assert started(jobs, **hires).get(timeout=5).images[0][0].size == (128, 128)
    running = started(jobs, **hires, steps=10**6)
    until_step(jobs, 5)
    jobs.state.interrupted = True
    assert running.get(timeout=5).images[0][0].size == (64, 64)


def test_a_preview_shows_the_batch_while_it_runs(jobs: Jobs) -> None:
    running = started(jobs, steps=10**6, batch_size=2)
    until_step(jobs, 20)
    assert jobs.current_image(10)
    jobs.state.interrupted = True
    running.get(timeout=5)
    assert jobs.state.preview is None
