"""Random weights in the shape of a small Stable Diffusion 1.x: pictures of noise, but each seed has its own.

No package carries weights of an image model that are small enough. What an engine does with a request does not depend
on what its model has learnt. The shapes are those of the "tiny" UNet (one residual block a level, no middle block), of
CLIP ViT-L/14's text encoder, and of the tiny autoencoder (TAESD): 0.9 GB in half precision.
"""

from __future__ import annotations

import json
import random
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path

Shape = tuple[int, ...]
Shapes = dict[str, Shape]

#: Channels of the UNet's first level, of its time embedding, of the text encoder.
BASE, TIME, TEXT = 320, 1280, 768
#: Values that are drawn; tensors repeat them, each from another place.
DRAWN = 1 << 20
#: Their standard deviation: small enough for half precision after every layer.
SPREAD = 0.03


def write_checkpoint(path: Path) -> None:
    """Write the UNet and the text encoder, as one checkpoint of SD 1.x."""
    _write(path, {**_unet(), **_text_encoder()})


def write_autoencoder(path: Path) -> None:
    """Write the tiny autoencoder."""
    _write(path, _autoencoder())


def _write(path: Path, shapes: Mapping[str, Shape]) -> None:
    """Write a safetensors file: the length of a JSON header (8 bytes), the header, the tensors."""
    header: dict[str, object] = {}
    offset = 0
    for name, shape in shapes.items():
        end = offset + 2 * _count(shape)
        header[name] = {"dtype": "F16", "shape": list(shape), "data_offsets": [offset, end]}
        offset = end
    encoded = json.dumps(header).encode()
    encoded += b" " * (-len(encoded) % 8)
    part = path.with_suffix(".part")
    with part.open("wb") as file:
        file.write(struct.pack("<Q", len(encoded)) + encoded)
        for data in _tensors(shapes):
            file.write(data)
    part.replace(path)


def _tensors(shapes: Mapping[str, Shape]) -> Iterator[bytes]:
    source = random.Random(1)  # noqa: S311 (no secret is drawn)
    drawn = struct.pack(f"<{DRAWN}e", *(source.gauss(0.0, SPREAD) for _ in range(DRAWN)))
    one, zero = struct.pack("<e", 1.0), b"\0\0"
    for name, shape in shapes.items():
        count = _count(shape)
        if len(shape) == 1:
            # Norms begin with ones; every bias is nothing.
            yield (one if name.endswith("weight") else zero) * count
            continue
        start = 2 * source.randrange(DRAWN)
        repeated = drawn[start:] + drawn * (2 * count // len(drawn) + 1)
        yield repeated[: 2 * count]


def _count(shape: Shape) -> int:
    count = 1
    for length in shape:
        count *= length
    return count


def _layer(name: str, *shape: int) -> Shapes:
    """Return a layer's weight and its bias."""
    return {f"{name}.weight": shape, f"{name}.bias": shape[:1]}


def _residual(name: str, before: int, after: int) -> Shapes:
    shapes = {
        **_layer(f"{name}.in_layers.0", before),
        **_layer(f"{name}.in_layers.2", after, before, 3, 3),
        **_layer(f"{name}.emb_layers.1", after, TIME),
        **_layer(f"{name}.out_layers.0", after),
        **_layer(f"{name}.out_layers.3", after, after, 3, 3),
    }
    if before != after:
        shapes |= _layer(f"{name}.skip_connection", after, before, 1, 1)
    return shapes


def _attention(name: str, channels: int) -> Shapes:
    block = f"{name}.transformer_blocks.0"
    shapes = {**_layer(f"{name}.norm", channels), **_layer(f"{name}.proj_in", channels, channels, 1, 1)}
    for attention, source in (("attn1", channels), ("attn2", TEXT)):
        shapes[f"{block}.{attention}.to_q.weight"] = (channels, channels)
        shapes[f"{block}.{attention}.to_k.weight"] = (channels, source)
        shapes[f"{block}.{attention}.to_v.weight"] = (channels, source)
        shapes |= _layer(f"{block}.{attention}.to_out.0", channels, channels)
    shapes |= _layer(f"{block}.ff.net.0.proj", 8 * channels, channels)
    shapes |= _layer(f"{block}.ff.net.2", channels, 4 * channels)
    for number in (1, 2, 3):
        shapes |= _layer(f"{block}.norm{number}", channels)
    return shapes | _layer(f"{name}.proj_out", channels, channels, 1, 1)


def _unet() -> Shapes:
    shapes = {
        **_layer("time_embed.0", TIME, BASE),
        **_layer("time_embed.2", TIME, TIME),
        **_layer("input_blocks.0.0", BASE, 4, 3, 3),
        **_layer("out.0", BASE),
        **_layer("out.2", 4, BASE, 3, 3),
    }
    # Number of the block, channels before and after.
    for number, before, after in ((1, BASE, BASE), (4, BASE, 2 * BASE), (7, 2 * BASE, 4 * BASE)):
        shapes |= _residual(f"input_blocks.{number}.0", before, after)
        shapes |= _attention(f"input_blocks.{number}.1", after)
    for number, channels in ((3, BASE), (6, 2 * BASE)):
        shapes |= _layer(f"input_blocks.{number}.0.op", channels, channels, 3, 3)
    for number, before, after in (
        *((0, 8 * BASE, 4 * BASE), (1, 6 * BASE, 4 * BASE), (3, 6 * BASE, 2 * BASE)),
        *((4, 3 * BASE, 2 * BASE), (6, 3 * BASE, BASE), (7, 2 * BASE, BASE)),
    ):
        shapes |= _residual(f"output_blocks.{number}.0", before, after)
        shapes |= _attention(f"output_blocks.{number}.1", after)
    for name, channels in (("output_blocks.2.1", 4 * BASE), ("output_blocks.5.2", 2 * BASE)):
        shapes |= _layer(f"{name}.conv", channels, channels, 3, 3)
    return {f"model.diffusion_model.{name}": shape for name, shape in shapes.items()}


def _text_encoder() -> Shapes:
    shapes: Shapes = {
        "embeddings.token_embedding.weight": (49408, TEXT),
        "embeddings.position_embedding.weight": (77, TEXT),
        **_layer("final_layer_norm", TEXT),
    }
    for number in range(12):
        layer = f"encoder.layers.{number}"
        for part in ("q_proj", "k_proj", "v_proj", "out_proj"):
            shapes |= _layer(f"{layer}.self_attn.{part}", TEXT, TEXT)
        shapes |= _layer(f"{layer}.layer_norm1", TEXT)
        shapes |= _layer(f"{layer}.layer_norm2", TEXT)
        shapes |= _layer(f"{layer}.mlp.fc1", 4 * TEXT, TEXT)
        shapes |= _layer(f"{layer}.mlp.fc2", TEXT, 4 * TEXT)
    return {f"cond_stage_model.transformer.text_model.{name}": shape for name, shape in shapes.items()}


def _autoencoder() -> Shapes:
    shapes: Shapes = {}
    # Of each half: its first and last convolution, its blocks, its convolutions that change the size.
    halves = {
        "encoder": ((0, 64, 3), (14, 4, 64), (1, 3, 4, 5, 7, 8, 9, 11, 12, 13), (2, 6, 10)),
        "decoder": ((0, 64, 4), (18, 3, 64), (2, 3, 4, 7, 8, 9, 12, 13, 14, 17), (6, 11, 16)),
    }
    for half, (first, last, blocks, between) in halves.items():
        for number, after, before in (first, last):
            shapes |= _layer(f"{half}.layers.{number}", after, before, 3, 3)
        for number in blocks:
            for part in (0, 2, 4):
                shapes |= _layer(f"{half}.layers.{number}.conv.{part}", 64, 64, 3, 3)
        for number in between:
            shapes[f"{half}.layers.{number}.weight"] = (64, 64, 3, 3)
    return shapes
