from __future__ import annotations

import base64
import io
import random
import struct
import sys
import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import pytest
from PIL import Image

from graycat.errors import RequestError
from graycat.images.decoding import MAX_PARTS, MAX_SCANS, CheckedImage, decode, decode_file
from graycat.images.errors import ImageTooLarge, InvalidImage
from graycat.settings import Settings

SETTINGS = Settings()


def encoded(image: Image.Image, file_format: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, file_format, **options)
    return file.getvalue()


def picture(mode: str = "RGB", size: tuple[int, int] = (24, 16)) -> Image.Image:
    return Image.effect_noise(size, 60).convert(mode)


def exif() -> bytes:
    """Return what a camera held on its side writes."""
    tags = Image.Exif()
    tags[0x0112] = 6
    return tags.tobytes()


def text_of(data: bytes) -> str:
    return base64.b64encode(data).decode()


def chunk(name: bytes, content: bytes = b"") -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def header(width: int, height: int) -> bytes:
    """Return a PNG that says how large it is and holds next to nothing."""
    size = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return PNG[:8] + chunk(b"IHDR", size) + chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND")


#: No file should take more calls of functions; reading MAX_PARTS parts takes about half of them.
MAX_CALLS = 200_000


@dataclass
class Work:
    """What an action has taken, on a machine of any speed: calls of functions, and bytes at its largest."""

    calls: int = 0
    peak_bytes: int = 0


@contextmanager
def counted_work() -> Iterator[Work]:
    """Count the work of this thread in a block."""
    work = Work()

    def count(_frame: Any, event: str, _argument: Any) -> None:
        if event in ("call", "c_call"):
            work.calls += 1
        if work.calls >= MAX_CALLS:
            raise RuntimeError("it goes on for too long")

    tracemalloc.start()
    sys.setprofile(count)
    try:
        yield work
    finally:
        sys.setprofile(None)
        work.peak_bytes = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()


def behind_header(*chunks: bytes) -> bytes:
    """Return a PNG with chunks between its header and its pixels."""
    return PNG[:33] + b"".join(chunks) + PNG[33:]


def segment(marker: int, content: bytes = b"") -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(content) + 2) + content


def behind_start(content: bytes) -> bytes:
    """Return a JPEG with bytes between its start and its first segment."""
    return JPEG[:2] + content + JPEG[2:]


PNG, JPEG, WEBP = encoded(picture()), encoded(picture(), "JPEG"), encoded(picture(), "WEBP")
FRAMES = {"save_all": True, "append_images": [picture() for _ in range(2)], "duration": 100}

#: Files that cameras, editors and WebUIs write.
USABLE = {
    "png": (PNG, "png"),
    "png of 16 bits": (encoded(picture("I;16")), "png"),
    "png of one bit": (encoded(picture("1")), "png"),
    "png with a palette": (encoded(picture("P")), "png"),
    "png with alpha": (encoded(picture("RGBA"), icc_profile=b"profile" * 50), "png"),
    "png with a WebUI's text": (behind_header(chunk(b"tEXt", b"parameters\0a cat\nSteps: 20")), "png"),
    "png with bytes behind its end": (PNG + b"more", "png"),
    "jpeg": (JPEG, "jpeg"),
    "jpeg, progressive": (encoded(picture(), "JPEG", progressive=True), "jpeg"),
    "jpeg, grey": (encoded(picture("L"), "JPEG"), "jpeg"),
    "jpeg, CMYK": (encoded(picture("CMYK"), "JPEG"), "jpeg"),
    "jpeg with Exif": (encoded(picture(), "JPEG", exif=exif()), "jpeg"),
    "jpeg with a film behind it": (JPEG + b"\xff\xda" * 500, "jpeg"),
    "jpeg with fill bytes": (behind_start(b"\xff\xff"), "jpeg"),
    "webp": (WEBP, "webp"),
    "webp, lossless, alpha": (encoded(picture("RGBA"), "WEBP", lossless=True), "webp"),
}

#: Text that is a thousand times as large as it comes.
BOMB, SMALL_BOMB = zlib.compress(b"x" * 50_000_000), zlib.compress(b"x" * 1_000_000)
#: Files that no engine should see, most of them made to keep a server busy.
UNUSABLE = {
    "nothing much": b"GIF",
    "gif": encoded(picture("P"), "GIF"),
    "bmp": encoded(picture(), "BMP"),
    "tiff": encoded(picture(), "TIFF"),
    "ppm": encoded(picture(), "PPM"),
    "eps": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 1 1\n",
    "svg": b"<svg xmlns='http://www.w3.org/2000/svg'/>",
    "text": b"no image at all" * 100,
    "png, animated": encoded(picture(), "PNG", **FRAMES),
    "webp, animated": encoded(picture(), "WEBP", **FRAMES),
    "jpeg of several pictures": encoded(picture(), "MPO", save_all=True, append_images=FRAMES["append_images"]),
    "png without pixels": header(0, 0),
    "png without height": header(64, 0),
    "png of too few bytes": header(64, 64),
    "png of a wrong checksum": PNG[:40] + bytes([PNG[40] ^ 1]) + PNG[41:],
    "png with a bomb of text": behind_header(chunk(b"zTXt", b"k\0\0" + BOMB)),
    "png with a bomb of Unicode": behind_header(chunk(b"iTXt", b"k\0\1\0\0\0" + BOMB)),
    "png with a bomb of a profile": behind_header(chunk(b"iCCP", b"k\0\0" + BOMB)),
    "png with many bombs of text": behind_header(*(chunk(b"zTXt", b"k%d\0\0" % i + SMALL_BOMB) for i in range(100))),
    "png of a million chunks": behind_header(chunk(b"aaAa") * 1_000_000),
    "jpeg of a million segments": behind_start(segment(0xFE) * 1_000_000),
    "jpeg of a million Exifs": behind_start(segment(0xE1, b"Exif\0\0x") * 1_000_000),
    "jpeg with stray bytes": behind_start(segment(0xFE) + b"\0" * 10_000_000),
    "jpeg with stray fill bytes": behind_start(b"\xff" * 10_000_000),
    "jpeg with markers of no length": behind_start(b"\xff\xd8" * 100),
}


@pytest.mark.parametrize("name", USABLE)
def test_an_image_s_format_follows_from_its_content(name: str) -> None:
    data, file_format = USABLE[name]
    assert decode(text_of(data), SETTINGS) == CheckedImage(data, file_format, 24, 16)


@pytest.mark.parametrize(
    "start", ["", "data:image/png;base64,", "data:image/jpeg;base64,", "DATA:image/x-icon;name=a.png;base64,"]
)
def test_what_stands_before_the_base64_says_nothing(start: str) -> None:
    assert decode(start + text_of(PNG), SETTINGS).format == "png"


def test_base64_may_be_broken_into_lines() -> None:
    text = base64.encodebytes(PNG).decode()
    assert "\n" in text.strip()
    image = decode(text, SETTINGS)
    assert (image.data, image.base64) == (PNG, text_of(PNG))


@pytest.mark.parametrize(
    "text",
    [
        *(None, 17, True, [], {}, "", " \n", "data:", "data:image/png;base64", "data:image/png;base64,"),
        *("data:text/html;base64," + text_of(PNG), "data:image/png," + text_of(PNG), "data:;base64," + text_of(PNG)),
        *(text_of(PNG)[:-1], text_of(PNG) + "=", "=" + text_of(PNG), "a", "ab=c", "-_-_", "ÄÖÜß", "\ud800", "\0\0\0\0"),
        *("data:image/png;base64,data:image/png;base64," + text_of(PNG), text_of(PNG) + "," + text_of(PNG)),
    ],
    ids=lambda text: repr(text)[:40],
)
def test_what_is_no_base64_is_refused(text: object) -> None:
    with pytest.raises(InvalidImage):
        decode(text, SETTINGS)


@pytest.mark.parametrize(
    "address",
    [
        *("http://169.254.169.254/latest/meta-data", "https://example.com/cat.png", "HTTP://example.com", " http://a"),
        *("file:///etc/passwd", "ftp://host/cat.png", "s3://bucket/cat.png", "javascript:alert(1)", "C:\\cat.png"),
    ],
)
def test_a_url_is_refused_with_a_sentence(address: str) -> None:
    with pytest.raises(InvalidImage, match="fetches no URLs"):
        decode(address, SETTINGS)


@pytest.mark.parametrize("name", UNUSABLE)
def test_a_file_that_no_engine_should_see_is_refused_at_once(name: str) -> None:
    with counted_work() as work, pytest.raises(InvalidImage):
        decode_file(UNUSABLE[name], SETTINGS)
    # Left to themselves the worst of these take millions of calls, or write a bomb's text out.
    assert work.calls < MAX_CALLS
    assert work.peak_bytes < 80_000_000


def test_a_jpeg_of_many_scans_is_refused() -> None:
    data = encoded(picture("L", (512, 512)), "JPEG", progressive=True)
    scan, end = data.rindex(b"\xff\xda"), data.rindex(b"\xff\xd9")
    longer = [data[:end] + data[scan:end] * n + data[end:] for n in (10, MAX_SCANS)]
    assert decode_file(longer[0], SETTINGS).format == "jpeg"
    with pytest.raises(InvalidImage, match="scans"):
        decode_file(longer[1], SETTINGS)


@pytest.mark.parametrize("name", USABLE)
def test_a_file_that_is_cut_short_is_refused(name: str) -> None:
    whole, _ = USABLE[name]
    whole = whole.removesuffix(b"more").removesuffix(b"\xff\xda" * 500)
    for length in (*range(0, len(whole), 7), *range(len(whole) - 20, len(whole))):
        with pytest.raises(InvalidImage):
            decode_file(whole[:length], SETTINGS)


@pytest.mark.parametrize("seed", range(8))
def test_damage_never_fails_otherwise_than_by_a_sentence(seed: int) -> None:
    dice = random.Random(seed)  # noqa: S311 (the same damage in each run)
    for _ in range(250):
        data = bytearray(dice.choice(list(USABLE.values()))[0])
        for _ in range(dice.choice((1, 2, 8))):
            at = dice.randrange(len(data))
            data[at : at + dice.choice((0, 1, 1, 9))] = dice.randbytes(dice.choice((0, 1, 1, 9)))
        try:
            assert decode_file(bytes(data), SETTINGS).data == bytes(data)
        except (InvalidImage, ImageTooLarge) as error:
            assert error.status in (400, 413)  # noqa: PT017 (either outcome will do)


@pytest.mark.parametrize("start", [b"", PNG[:8], JPEG[:2], WEBP[:12]], ids=["none", "png", "jpeg", "webp"])
def test_random_bytes_are_refused(start: bytes) -> None:
    dice = random.Random(4)  # noqa: S311
    for length in (*range(40), 1000, 100_000):
        with pytest.raises(RequestError):
            decode_file(start + dice.randbytes(length), SETTINGS)


def huge_webp(side: int) -> bytes:
    """Return a WebP whose canvas is far larger than its only frame."""
    corner, size = bytes(3), (side - 1).to_bytes(3, "little")
    frame = corner * 2 + (23).to_bytes(3, "little") + (15).to_bytes(3, "little") + bytes(4) + WEBP[12:]
    parts = [(b"VP8X", b"\2\0\0\0" + size * 2), (b"ANIM", bytes(6)), (b"ANMF", frame)]
    body = b"WEBP" + b"".join(name + struct.pack("<I", len(content)) + content for name, content in parts)
    return b"RIFF" + struct.pack("<I", len(body)) + body


@pytest.mark.parametrize("side", [8193, 9500, 20_000, 65_535, 2**31 - 1])
def test_pixels_are_counted_before_they_are_decoded(side: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image.Image, "load", lambda image: pytest.fail("the pixels were decoded"))
    files = [header(side, 1), header(side, side), *([huge_webp(side)] if side < 2**16 else [])]
    for data in files:
        with pytest.raises(ImageTooLarge) as caught:
            decode_file(data, replace(SETTINGS, max_image_pixels=4096 * 4096))
        assert caught.value.status == 413


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_pillow_s_own_warning_changes_nothing() -> None:
    with pytest.raises(ImageTooLarge, match="9500 x 9500"):
        decode_file(header(9500, 9500), replace(SETTINGS, max_side=10_000))


@pytest.mark.parametrize(
    ("settings", "fits"),
    [
        (replace(SETTINGS, max_image_pixels=24 * 16), True),
        (replace(SETTINGS, max_image_pixels=24 * 16 - 1), False),
        (replace(SETTINGS, max_side=24), True),
        (replace(SETTINGS, max_side=23), False),
        (replace(SETTINGS, max_image_bytes=len(PNG)), True),
        (replace(SETTINGS, max_image_bytes=len(PNG) - 1), False),
    ],
)
def test_the_operator_s_limits_hold(settings: Settings, fits: bool) -> None:
    def image() -> CheckedImage:
        return decode(text_of(PNG), settings)

    if fits:
        assert image().data == PNG
    else:
        with pytest.raises(ImageTooLarge):
            image()


def test_base64_that_is_too_long_is_not_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base64, "b64decode", lambda *_, **__: pytest.fail("it was decoded"))
    with pytest.raises(ImageTooLarge):
        decode("A" * 5000, replace(SETTINGS, max_image_bytes=3000))


@pytest.mark.parametrize(
    "make", [lambda n: behind_header(chunk(b"aaAa") * n), lambda n: behind_start(segment(0xFE) * n)]
)
def test_a_file_of_many_parts_that_an_encoder_might_write_is_taken(make: Callable[[int], bytes]) -> None:
    assert decode_file(make(MAX_PARTS // 2), SETTINGS).width == 24
