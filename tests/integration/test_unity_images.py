"""Images of examples/unity, made by a running graycat."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image

from tests.support import mono
from tests.support.images import ImageStack


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the console program of the example."""
    return mono.compiled(tmp_path_factory.mktemp("unity"), mono.SOURCES / "Program.cs")


@pytest.mark.parametrize("one_call", ["", "yes"], ids=["task", "generate-image"])
def test_an_image_becomes_a_png(studio: ImageStack, example: Path, tmp_path: Path, one_call: str) -> None:
    env = {"GRAYCAT": studio.url, "TOKEN": studio.token, "ONE_CALL": one_call}
    status, printed, errors = mono.run(example, "image", "an inn by the road", str(tmp_path / "inn.png"), **env)
    assert (status, errors) == (0, "")
    picture = (tmp_path / "inn.png").read_bytes()
    with Image.open(BytesIO(picture)) as image:
        assert (image.format, image.size) == ("PNG", (64, 64))
    *progress, last = printed.splitlines()
    assert last == f"{len(picture)} bytes"
    assert all(0 <= float(line) <= 1 for line in progress)
