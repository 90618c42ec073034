"""Drawing: a picture that follows from the request alone, and says what it is."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cache

from PIL import Image, ImageDraw, ImageFont

from graycat.engines.placeholder.sources import Size, Source

LABEL = "PLACEHOLDER - not a diffusion model"
#: Colours along a side of the background; a few bytes make a whole picture.
CELLS = 5
SHAPES = 7
#: Side in pixels of the blocks that an unfinished picture begins with, on one of 512 pixels.
COARSEST = 64
#: Characters of the prompt that the picture shows.
PROMPT_SHOWN = 120
FONT_SIZES = (8, 34)


@dataclass(frozen=True)
class Picture:
    """What a picture follows from: the same fields make the same pixels. ``size``: as requested, width and height."""

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
        """Return what the picture says of itself."""
        width, height = self.size
        prompt = " ".join(self.prompt.split())
        shown = prompt if len(prompt) <= PROMPT_SHOWN else f"{prompt[:PROMPT_SHOWN]}..."
        facts = f"seed {self.seed}, {width}x{height}, {self.steps} steps, {self.sampler}"
        return [LABEL, *([shown] if shown else []), facts]


def painted(picture: Picture, size: Size) -> Image.Image:
    """Return the picture without its label, at any size."""
    colours = CELLS * CELLS * 3
    bytes_ = picture.digest(colours + SHAPES * 8)
    image = Image.frombytes("RGB", (CELLS, CELLS), bytes_[:colours]).resize(size, Image.Resampling.BICUBIC)
    canvas = ImageDraw.Draw(image)
    width, height = size
    for start in range(colours, len(bytes_), 8):
        x, y, r, kind, *colour, stretch = bytes_[start : start + 8]
        x0, y0 = x * width // 256, y * height // 256
        radius = (16 + r // 4) * min(size) // 256
        box = (x0 - radius, y0 - radius, x0 + radius + stretch * radius // 256, y0 + radius)
        (canvas.ellipse if kind & 1 else canvas.rectangle)(box, fill=tuple(colour))
    return image


def unfinished(image: Image.Image, share: float) -> Image.Image:
    """Return a picture as it looks before its last step: in blocks that get smaller. ``share``: 0 to 1."""
    block = round(COARSEST * (1 - share) * min(image.size) / 512)
    if share >= 1 or block < 2:
        return image
    small = image.reduce(block)
    grown = small.resize((small.width * block, small.height * block), Image.Resampling.NEAREST)
    return grown.crop((0, 0, *image.size))


def label(image: Image.Image, lines: list[str]) -> None:
    """Write the lines onto a dark band at the foot of a picture; long ones are wrapped.

    The first is always whole; the others fill at most the lower half.
    """
    smallest, largest = FONT_SIZES
    size = max(smallest, min(largest, image.width // 22))
    font, margin = _font(size), size // 2
    first, *others = (wrap(line, font, image.width - 2 * margin) for line in lines)
    height = size * 5 // 4
    room = max(0, (image.height // 2 - margin) // height - len(first))
    shown = first + [part for line in others for part in line][:room]
    top = max(0, image.height - height * len(shown) - margin)
    canvas = ImageDraw.Draw(image)
    canvas.rectangle((0, top, image.width, image.height), fill=(24, 24, 24))
    for number, line in enumerate(shown):
        canvas.text((margin, top + margin // 2 + number * height), line, font=font, fill=(240, 240, 240))


def wrap(line: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> list[str]:
    """Return a line as lines that are at most ``width`` pixels wide, where words allow it."""
    lines = [""]
    for word in line.split():
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and font.getlength(longer) > width:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines


@cache
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


def draw(picture: Picture, size: Size, share: float = 1.0, source: Source | None = None) -> Image.Image:
    """Return the picture. ``size``: in pixels; ``share``: of its steps done, 0 to 1, below 1 it looks unfinished."""
    image = painted(picture, size)
    if source is not None:
        image = source.painted_over(image)
    lines = picture.caption()
    if share < 1:
        image = unfinished(image, share)
        lines.insert(1, f"unfinished: {share:.0%}")
    label(image, lines)
    return image


def grid(images: list[Image.Image], rows: int | None = None) -> Image.Image:
    """Return one picture of them all, as square as it gets; ``rows``: that many instead."""
    rows = min(rows or round(len(images) ** 0.5), len(images))
    columns = -(-len(images) // rows)
    width, height = images[0].size
    sheet = Image.new("RGB", (columns * width, rows * height))
    for number, image in enumerate(images):
        sheet.paste(image, (number % columns * width, number // columns * height))
    return sheet
