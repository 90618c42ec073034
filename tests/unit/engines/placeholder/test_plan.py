from __future__ import annotations

import json
from typing import Any

import pytest
from PIL import Image

from graycat.engines.placeholder import bodies, plan
from graycat.engines.placeholder.errors import OutOfMemoryError
from graycat.engines.placeholder.init_images import InitImage
from graycat.engines.placeholder.options import Options
from graycat.engines.placeholder.plan import Plan
from graycat.engines.placeholder.schema import model


def planned(**given: Any) -> Plan:
    return Plan(model(bodies.TXT2IMG)(given), Options())


def from_image(**given: Any) -> Plan:
    fields = model(bodies.IMG2IMG)(given)
    return Plan(fields, Options(), [InitImage(Image.new("RGB", (8, 8)), None, fields["denoising_strength"])])


def test_seeds_count_up_over_all_batches() -> None:
    plan_ = planned(seed=4, subseed=9, batch_size=2, n_iter=2)
    assert (plan_.all_seeds, plan_.all_subseeds) == ([4, 5, 6, 7], [9, 10, 11, 12])
    assert planned(seed=4, n_iter=2, subseed_strength=0.1).all_seeds == [4, 4]


@pytest.mark.parametrize("seed", [-1, None])
def test_a_random_seed_is_in_upstreams_range(seed: int | None) -> None:
    assert 0 <= planned(seed=seed).all_seeds[0] < plan.MAX_RANDOM_SEED
    assert plan.choose_seed(0) == 0


@pytest.mark.parametrize(
    ("given", "size"),
    [
        ({"width": 100, "height": 64}, (96, 64)),
        ({"enable_hr": True}, (1024, 1024)),
        ({"enable_hr": True, "hr_scale": 1.5, "width": 64, "height": 32}, (96, 48)),
        ({"enable_hr": True, "hr_resize_x": 768}, (768, 768)),
        ({"enable_hr": True, "hr_resize_y": 256, "width": 1024}, (512, 256)),
        ({"enable_hr": True, "hr_resize_x": 100, "hr_resize_y": 900}, (96, 896)),
    ],
)
def test_the_final_size(given: dict[str, Any], size: tuple[int, int]) -> None:
    assert planned(**given).final_size == size


@pytest.mark.parametrize(
    ("given", "steps"),
    [({}, [50]), ({"enable_hr": True}, [50, 50]), ({"enable_hr": True, "hr_second_pass_steps": 7}, [50, 7])],
)
def test_the_steps_of_each_pass(given: dict[str, Any], steps: list[int]) -> None:
    assert planned(**given).steps() == steps


@pytest.mark.parametrize(("strength", "steps"), [(0.5, 6), (1.0, 10), (0.0, 1)])
def test_a_weaker_change_takes_fewer_steps(strength: float, steps: int) -> None:
    assert from_image(steps=10, denoising_strength=strength).steps() == [steps]


@pytest.mark.parametrize(
    ("given", "error"),
    [
        ({"width": None}, TypeError),
        ({"width": 7}, IndexError),
        ({"batch_size": -1, "n_iter": -1}, IndexError),
        ({"prompt": None}, AssertionError),
        ({"batch_size": None}, TypeError),
        ({"width": 2**14, "height": 2**14}, OutOfMemoryError),
        ({"n_iter": 10**12}, OutOfMemoryError),
        ({"prompt": "w" * 10**6, "n_iter": 100, "width": 64, "height": 64}, OutOfMemoryError),
        ({"enable_hr": True, "hr_scale": 0.0}, IndexError),
    ],
)
def test_what_cannot_be_made(given: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        planned(**given)


def test_a_second_pass_needs_a_strength() -> None:
    with pytest.raises(TypeError):
        planned(enable_hr=True).check_second_pass()
    planned(enable_hr=True, denoising_strength=0.5).check_second_pass()


def test_the_infotext_has_what_differs_from_the_usual() -> None:
    hires = planned(prompt="p", seed=1, enable_hr=True, denoising_strength=0.5, hr_resize_x=64, hr_second_pass_steps=3)
    assert "Denoising strength: 0.5, Hires resize: 64x0, Hires steps: 3, Hires upscaler: Latent" in hires.infotext(0)
    plain = planned(seed_resize_from_w=64, seed_resize_from_h=32, tiling=True, restore_faces=True)
    for pair in ("Seed resize from: 64x32", "Tiling: True", "Face restoration: CodeFormer"):
        assert pair in plain.infotext(0)
    masked = from_image(mask="x", mask_blur=4, image_cfg_scale=1.5)
    for pair in ("Mask blur: 4", "Image CFG scale: 1.5", "Denoising strength: 0.75"):
        assert pair in masked.infotext(0)


def test_info_is_json_of_everything() -> None:
    info = json.loads(planned(seed=3, n_iter=2).info(["a", "b"], 0, "20260101000000"))
    assert (info["all_seeds"], info["infotexts"], info["job_timestamp"]) == ([3, 4], ["a", "b"], "20260101000000")
    assert len(info) == 32


def test_sources_go_round_within_a_batch() -> None:
    images = [InitImage(Image.new("RGB", (8, 8)), None, 0.5) for _ in range(2)]
    fields = model(bodies.IMG2IMG)({"batch_size": 2, "n_iter": 2})
    assert [Plan(fields, Options(), images).init_image(index) for index in range(4)] == images * 2
    assert planned().init_image(0) is None
