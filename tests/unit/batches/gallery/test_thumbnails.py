from __future__ import annotations

from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image

from graycat.batches.errors import OutputUnavailable
from graycat.batches.gallery.thumbnails import MAX_SIDE, load_or_create_thumbnail, shrink, thumbnail_file
from graycat.batches.output import Output
from graycat.storage import filesystems

SHA = "ab" * 32


def encoded(image: Image.Image, kind: str) -> bytes:
    file = BytesIO()
    image.save(file, kind)
    return file.getvalue()


@pytest.fixture
def output(tmp_path: Path) -> Output:
    return Output(filesystems.open_url(str(tmp_path), "X"), "batch")


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
@pytest.mark.parametrize("size", [(2000, 1000), (100, 300), (8, 8)])
def test_a_picture_becomes_small_and_keeps_its_shape(kind, size) -> None:
    data = shrink(encoded(Image.new("RGB", size, "red"), kind))
    assert data is not None
    small = Image.open(BytesIO(data))
    assert small.format == "WEBP"
    assert max(small.size) == min(max(size), MAX_SIDE)
    assert small.size[0] * size[1] == pytest.approx(small.size[1] * size[0], rel=0.02)


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "LA", "1", "I;16", "CMYK"])
def test_any_kind_of_colours_will_do(mode) -> None:
    kind = "JPEG" if mode == "CMYK" else "PNG"
    assert shrink(encoded(Image.new(mode, (600, 600)), kind))


def test_what_shines_through_still_does() -> None:
    data = shrink(encoded(Image.new("RGBA", (10, 10), (255, 0, 0, 0)), "PNG"))
    assert data is not None
    assert Image.open(BytesIO(data)).mode == "RGBA"


@pytest.mark.parametrize("data", [b"", b"no picture", encoded(Image.new("RGB", (50, 50)), "PNG")[:60]])
def test_what_is_no_picture_has_no_thumbnail(data) -> None:
    assert shrink(data) is None


def test_it_is_created_once_and_stored_beside_the_images(output: Output, tmp_path: Path) -> None:
    output.write("a.png", encoded(Image.new("RGB", (900, 900)), "PNG"))
    first = load_or_create_thumbnail(output, "a.png", SHA)
    assert (tmp_path / "batch" / thumbnail_file(SHA)).read_bytes() == first
    (tmp_path / "batch" / "a.png").unlink()
    assert load_or_create_thumbnail(output, "a.png", SHA) == first
    assert load_or_create_thumbnail(output, "a.png", "cd" * 32) is None


def test_without_space_it_is_returned_but_not_stored(output: Output, monkeypatch: pytest.MonkeyPatch) -> None:
    output.write("a.png", encoded(Image.new("RGB", (900, 900)), "PNG"))

    def full(*_: object) -> None:
        raise OutputUnavailable("there is no space left")

    monkeypatch.setattr(Output, "write", full)
    assert load_or_create_thumbnail(output, "a.png", SHA)
    assert output.read(thumbnail_file(SHA)) is None
