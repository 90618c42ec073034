"""Random weights in the shape of a very small Ovis-Image: pictures of noise, but each seed and each prompt has its own.

No package carries weights of an image model that are small enough. What an engine does with a request does not depend
on what its model has learnt. sd-server takes widths and numbers of blocks of this model (a transformer like Flux's, a
text encoder like Qwen3) from the weights; those of Stable Diffusion 1.x are fixed, and slow. One head of 128 channels,
one block of each kind and one layer of the text encoder are the least that it takes: 28 MB, a quarter of a second.
"""

from __future__ import annotations

import json
import random
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path

Shape = tuple[int, ...]
Shapes = dict[str, Shape]

#: Channels of the transformer and of its one head, of patches of 2 x 2 latents, of the time, of latents.
WIDTH, PATCH, TIME, LATENT = 128, 64, 256, 16
#: Of the text encoder: words, channels, those of its hidden layer, of 32 heads that ask, of 8 that answer, of one head.
WORDS, TOKEN, HIDDEN, QUERIES, KEYS, HEAD = 151936, 64, 128, 4096, 1024, 128

#: Values that are drawn; tensors repeat them, each from another place.
DRAWN = 1 << 20
#: Their standard deviation: small enough for half precision after every layer.
SPREAD = 0.03


def write_checkpoint(path: Path) -> None:
    """Write the transformer and the text encoder, as one checkpoint."""
    _write(path, {**_transformer(), **_text_encoder()})


def write_autoencoder(path: Path) -> None:
    """Write the tiny autoencoder for latents of 16 channels."""
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
            yield (one if name.endswith(("weight", "scale")) else zero) * count
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


def _transformer() -> Shapes:
    shapes = {
        **_layer("img_in", WIDTH, PATCH),
        **_layer("txt_in", WIDTH, TOKEN),
        "txt_norm.scale": (TOKEN,),
        **_layer("time_in.in_layer", WIDTH, TIME),
        **_layer("time_in.out_layer", WIDTH, WIDTH),
        **_layer("final_layer.linear", PATCH, WIDTH),
        **_layer("final_layer.adaLN_modulation.1", 2 * WIDTH, WIDTH),
        **_layer("single_blocks.0.linear1", 11 * WIDTH, WIDTH),
        **_layer("single_blocks.0.linear2", WIDTH, 5 * WIDTH),
        **_layer("single_blocks.0.modulation.lin", 3 * WIDTH, WIDTH),
        **_norms("single_blocks.0.norm"),
    }
    for stream in ("img", "txt"):
        block = f"double_blocks.0.{stream}"
        shapes |= _layer(f"{block}_mod.lin", 6 * WIDTH, WIDTH)
        shapes |= _layer(f"{block}_attn.qkv", 3 * WIDTH, WIDTH)
        shapes |= _layer(f"{block}_attn.proj", WIDTH, WIDTH)
        shapes |= _layer(f"{block}_mlp.gate_proj", 4 * WIDTH, WIDTH)
        shapes |= _layer(f"{block}_mlp.up_proj", 4 * WIDTH, WIDTH)
        shapes |= _layer(f"{block}_mlp.down_proj", WIDTH, 4 * WIDTH)
        shapes |= _norms(f"{block}_attn.norm")
    return {f"model.diffusion_model.{name}": shape for name, shape in shapes.items()}


def _norms(name: str) -> Shapes:
    return {f"{name}.query_norm.scale": (WIDTH,), f"{name}.key_norm.scale": (WIDTH,)}


def _text_encoder() -> Shapes:
    shapes: Shapes = {
        "embed_tokens.weight": (WORDS, TOKEN),
        "norm.weight": (TOKEN,),
        "layers.0.input_layernorm.weight": (TOKEN,),
        "layers.0.post_attention_layernorm.weight": (TOKEN,),
        "layers.0.self_attn.q_proj.weight": (QUERIES, TOKEN),
        "layers.0.self_attn.k_proj.weight": (KEYS, TOKEN),
        "layers.0.self_attn.v_proj.weight": (KEYS, TOKEN),
        "layers.0.self_attn.o_proj.weight": (TOKEN, QUERIES),
        "layers.0.self_attn.q_norm.weight": (HEAD,),
        "layers.0.self_attn.k_norm.weight": (HEAD,),
        "layers.0.mlp.gate_proj.weight": (HIDDEN, TOKEN),
        "layers.0.mlp.up_proj.weight": (HIDDEN, TOKEN),
        "layers.0.mlp.down_proj.weight": (TOKEN, HIDDEN),
    }
    return {f"text_encoders.llm.model.{name}": shape for name, shape in shapes.items()}


def _autoencoder() -> Shapes:
    shapes: Shapes = {}
    # Of each half: its first and last convolution, its blocks, its convolutions that change the size.
    halves = {
        "encoder": ((0, 64, 3), (14, LATENT, 64), (1, 3, 4, 5, 7, 8, 9, 11, 12, 13), (2, 6, 10)),
        "decoder": ((0, 64, LATENT), (18, 3, 64), (2, 3, 4, 7, 8, 9, 12, 13, 14, 17), (6, 11, 16)),
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
