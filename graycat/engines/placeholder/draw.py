"""Draws a picture that depends on the request only, and that says what it is."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cache

from PIL import Image, ImageDraw, ImageFont

from graycat.engines.placeholder.imagefiles import Size
from graycat.engines.placeholder.init_images import InitImage

LABEL = "PLACEHOLDER - not a diffusion model"
#: Colours along each side of the background. A few bytes determine a whole picture.
CELLS = 5
SHAPES = 7
#: Bytes of the digest that determine one shape.
BYTES_PER_SHAPE = 8
#: Side in pixels of the blocks that a picture of 512 pixels begins with.
MAX_BLOCK_PIXELS = 64
#: Characters of the prompt that the picture shows.
MAX_PROMPT_CHARS = 120
MIN_FONT_SIZE, MAX_FONT_SIZE = 8, 34


@dataclass(frozen=True)
class Picture:
    """What determines a picture: equal fields make equal pixels. ``size``: the requested width and height."""

    prompt: str
    negative_prompt: str
    seed: int
    subseed: int
    subseed_strength: float
    size: Size
    sampler: str
    scheduler: str
    steps: int
    cfg_scale: float

    def digest(self, length: int) -> bytes:
        """Return bytes that differ for every other picture."""
        return hashlib.shake_256(repr(self).encode("utf-8", "surrogatepass")).digest(length)

    def caption(self) -> list[str]:
        """Return the lines that are written into the picture."""
        lines = [LABEL]
        prompt = " ".join(self.prompt.split())
        if len(prompt) > MAX_PROMPT_CHARS:
            prompt = f"{prompt[:MAX_PROMPT_CHARS]}..."
        if prompt:
            lines.append(prompt)
        width, height = self.size
        lines.append(f"seed {self.seed}, {width}x{height}, {self.steps} steps, {self.sampler}")
        return lines


def paint(picture: Picture, size: Size) -> Image.Image:
    """Return the picture without its label, at any size."""
    background_bytes = CELLS * CELLS * 3
    digest = picture.digest(background_bytes + SHAPES * BYTES_PER_SHAPE)
    cells = Image.frombytes("RGB", (CELLS, CELLS), digest[:background_bytes])
    image = cells.resize(size, Image.Resampling.BICUBIC)
    canvas = ImageDraw.Draw(image)
    width, height = size
    for start in range(background_bytes, len(digest), BYTES_PER_SHAPE):
        x, y, r, kind, red, green, blue, stretch = digest[start : start + BYTES_PER_SHAPE]
        x0, y0 = x * width // 256, y * height // 256
        radius = (16 + r // 4) * min(size) // 256
        box = (x0 - radius, y0 - radius, x0 + radius + stretch * radius // 256, y0 + radius)
        if kind & 1:
            canvas.ellipse(box, fill=(red, green, blue))
        else:
            canvas.rectangle(box, fill=(red, green, blue))
    return image


def pixelate(image: Image.Image, progress: float) -> Image.Image:
    """Return a picture as it looks before its last step: in blocks that get smaller. ``progress``: 0 to 1."""
    block = round(MAX_BLOCK_PIXELS * (1 - progress) * min(image.size) / 512)
    if progress >= 1 or block < 2:
        return image
    small = image.reduce(block)
    enlarged = small.resize((small.width * block, small.height * block), Image.Resampling.NEAREST)
    return enlarged.crop((0, 0, image.width, image.height))


def draw_label(image: Image.Image, lines: list[str]) -> None:
    """Write lines onto a dark band at the bottom of a picture; long lines are wrapped.

    The first line is always complete. The others fill at most the lower half of the picture.
    """
    size = max(MIN_FONT_SIZE, min(MAX_FONT_SIZE, image.width // 22))
    font = _load_font(size)
    margin = size // 2
    line_height = size * 5 // 4
    text_width = image.width - 2 * margin

    first_line, *other_lines = lines
    shown = wrap_line(first_line, font, text_width)
    room = max(0, (image.height // 2 - margin) // line_height - len(shown))
    others: list[str] = []
    for line in other_lines:
        others += wrap_line(line, font, text_width)
    shown += others[:room]

    top = max(0, image.height - line_height * len(shown) - margin)
    canvas = ImageDraw.Draw(image)
    canvas.rectangle((0, top, image.width, image.height), fill=(24, 24, 24))
    for number, line in enumerate(shown):
        position = (margin, top + margin // 2 + number * line_height)
        canvas.text(position, line, font=font, fill=(240, 240, 240))


def wrap_line(line: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> list[str]:
    """Return a line as lines of at most ``width`` pixels; a single word may be longer."""
    lines = [""]
    for word in line.split():
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and font.getlength(longer) > width:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines


@cache
def _load_font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


def draw(picture: Picture, size: Size, progress: float = 1.0, init_image: InitImage | None = None) -> Image.Image:
    """Return the picture. ``size``: in pixels. ``progress``: 0 to 1, below 1 it looks unfinished."""
    image = paint(picture, size)
    if init_image is not None:
        image = init_image.blend(image)
    lines = picture.caption()
    if progress < 1:
        image = pixelate(image, progress)
        lines.insert(1, f"unfinished: {progress:.0%}")
    draw_label(image, lines)
    return image


def make_grid(images: list[Image.Image], rows: int | None = None) -> Image.Image:
    """Return one picture of all images, as square as possible, or with the given number of ``rows``."""
    rows = min(rows or round(len(images) ** 0.5), len(images))
    columns = -(-len(images) // rows)
    width, height = images[0].size
    sheet = Image.new("RGB", (columns * width, rows * height))
    for number, image in enumerate(images):
        sheet.paste(image, (number % columns * width, number // columns * height))
    return sheet
