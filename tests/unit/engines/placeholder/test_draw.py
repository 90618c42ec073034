from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from PIL import Image

from graycat.engines.placeholder import draw
from graycat.engines.placeholder.draw import Picture
from graycat.engines.placeholder.init_images import InitImage

FOX = Picture("a fox", "rain", 1, 0, 0.0, (128, 128), "Euler", "Automatic", 20, 7.0)


def test_a_picture_follows_from_its_fields() -> None:
    first = draw.draw(FOX, FOX.size).tobytes()
    assert draw.draw(replace(FOX), FOX.size).tobytes() == first


@pytest.mark.parametrize(
    "change",
    [{"prompt": "a cat"}, {"negative_prompt": ""}, {"seed": 2}, {"size": (64, 64)}, {"sampler": "Heun"}, {"steps": 9}],
)
def test_every_field_makes_another_picture(change: dict[str, Any]) -> None:
    assert draw.paint(replace(FOX, **change), (64, 64)) != draw.paint(FOX, (64, 64))


@pytest.mark.parametrize("size", [(8, 8), (64, 64), (512, 64), (64, 1024), (1024, 768)])
@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_it_has_any_size_at_any_time(size: tuple[int, int], share: float) -> None:
    image = draw.draw(replace(FOX, size=size), size, share)
    assert (image.size, image.mode) == (size, "RGB")


@pytest.mark.parametrize("prompt", ["", "\0\n\t", "一只狐狸", "w" * 100_000, "\ud800"])
def test_any_prompt_can_be_drawn(prompt: str) -> None:
    draw.paint(replace(FOX, prompt=prompt), (64, 64))
    if prompt != "\ud800":  # half a character, which no font can take
        draw.draw(replace(FOX, prompt=prompt), (64, 64))


def test_it_says_what_it_is_before_anything_else() -> None:
    lines = FOX.caption()
    assert lines[0] == "PLACEHOLDER - not a diffusion model"
    assert lines[1] == "a fox"
    assert FOX.caption()[-1] == "seed 1, 128x128, 20 steps, Euler"
    assert len(replace(FOX, prompt="w" * 500).caption()[1]) < 130


def test_the_label_is_whole_on_the_smallest_usual_image(monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[str] = []
    monkeypatch.setattr("PIL.ImageDraw.ImageDraw.text", lambda _self, _xy, text, **_: written.append(text))
    draw.draw_label(Image.new("RGB", (64, 64)), FOX.caption())
    assert " ".join(written).startswith(draw.LABEL)


def test_it_gets_finer_until_it_is_done() -> None:
    def colours(share: float) -> int:
        return len(draw.pixelate(draw.paint(FOX, (512, 512)), share).getcolors(2**20) or [])

    assert colours(0.0) < colours(0.5) < colours(0.9) < colours(1.0)


def test_a_source_shows() -> None:
    red = Image.new("RGB", (128, 128), "red")
    with_source = draw.draw(FOX, (128, 128), init_image=InitImage(red, None, 0.0))
    assert with_source.tobytes() != draw.draw(FOX, (128, 128)).tobytes()


@pytest.mark.parametrize(("count", "rows", "size"), [(1, None, (8, 8)), (3, None, (16, 16)), (4, 1, (32, 8))])
def test_a_grid_is_as_square_as_it_gets(count: int, rows: int | None, size: tuple[int, int]) -> None:
    assert draw.make_grid([Image.new("RGB", (8, 8))] * count, rows).size == size


def test_words_that_are_too_long_stay_whole() -> None:
    image = Image.new("RGB", (64, 64))
    draw.draw_label(image, ["w" * 1000])
    assert image.getpixel((63, 63)) == (24, 24, 24)
