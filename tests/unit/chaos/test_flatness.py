"""Growth is told from noise."""

from __future__ import annotations

import random

import pytest

from chaos.flatness import Growth, measure, slope_of

#: No line of graycat runs here.
pytestmark = pytest.mark.not_covered


def samples_of(name: str, amounts: list[float]) -> list[tuple[float, dict[str, float]]]:
    return [(float(second), {name: amount}) for second, amount in enumerate(amounts)]


def grown(name: str, amounts: list[float]) -> Growth:
    (growth,) = measure(samples_of(name, amounts), warm_up=0.3)
    return growth


def noisy(slope: float, noise: float, spikes: int = 0) -> list[float]:
    chance = random.Random(3)  # noqa: S311 (the same noise each time)
    amounts = [100 + slope * second + chance.uniform(-noise, noise) for second in range(200)]
    for _ in range(spikes):
        amounts[chance.randrange(len(amounts))] += 500
    return amounts


@pytest.mark.parametrize(("slope", "is_flat"), [(0.0, True), (0.02, True), (0.5, False), (-0.5, True)])
def test_a_line_in_noise_is_found(slope: float, is_flat: bool) -> None:
    growth = grown("memory of web (MB)", noisy(slope, 3.0))
    assert growth.is_flat == is_flat, growth
    assert growth.grown == pytest.approx(slope * 139, abs=3)


def test_spikes_hide_no_growth_and_make_none() -> None:
    assert not grown("memory of web (MB)", noisy(0.5, 3.0, spikes=20)).is_flat
    assert grown("memory of web (MB)", noisy(0.0, 3.0, spikes=20)).is_flat


def test_what_grows_in_the_warm_up_alone_is_flat() -> None:
    assert grown("files open in web", [*range(60), *[60.0] * 140]).is_flat


def test_a_file_a_minute_is_a_leak() -> None:
    assert not grown("files open in web", [20 + second // 20 for second in range(200)]).is_flat


def test_too_few_looks_tell_nothing() -> None:
    assert measure([], 0.3) == []
    assert slope_of([(0.0, 1.0), (1.0, 9.0)]) == 0.0


def test_many_looks_are_thinned() -> None:
    assert slope_of([(float(second), 2.0 * second) for second in range(5000)]) == 2.0
