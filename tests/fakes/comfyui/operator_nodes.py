"""Nodes as an operator installs them beside the server's own."""

from __future__ import annotations

import asyncio
from typing import Any

from PIL import ImageOps

from tests.fakes.comfyui.builtin_nodes import link, number, whole
from tests.fakes.comfyui.failures import fail
from tests.fakes.comfyui.nodes import NODES, Context, Inputs, Node
from tests.fakes.comfyui.values import Result

MODULE = "custom_nodes.operator"


async def tint(_: Context, inputs: Inputs) -> Result:
    """Change the look of pictures, in ways that each kind of widget can set."""
    result = []
    for picture in inputs["image"]:
        changed = ImageOps.posterize(picture, inputs["bits"]) if inputs["style"] == "poster" else picture
        changed = ImageOps.invert(changed) if inputs["inverted"] else changed
        result.append(changed.point(lambda value: min(255, int(value * inputs["gain"]))))
    return Result((tuple(result),))


async def pause(_: Context, inputs: Inputs) -> Result:
    """Take time and tell nothing: no interrupt ends it."""
    await asyncio.sleep(inputs["seconds"])
    return Result((inputs["image"],))


async def steps(context: Context, inputs: Inputs) -> Result:
    """Take time step by step, as a sampler does: an interrupt ends it."""
    for step in range(1, inputs["steps"] + 1):
        await asyncio.sleep(inputs["step_s"])
        await context.progress(step, inputs["steps"])
    return Result((inputs["image"],))


async def break_down(_: Context, inputs: Inputs) -> Result:
    """Raise."""
    await fail(inputs["how"])
    return Result((inputs["image"],))


async def show_text(_: Context, inputs: Inputs) -> Result:
    """Show a text, as PreviewAny does."""
    return Result(ui={"text": [str(inputs["source"])]})


async def write_text(_: Context, inputs: Inputs) -> Result:
    """Give a text."""
    return Result((inputs["text"],))


ANY: tuple[Any, dict[str, Any]] = ("*", {})

NODES |= {
    "OperatorTint": Node(
        tint,
        {
            "image": link("IMAGE"),
            "gain": number(1.0, 0.0, 4.0, step=0.1, tooltip="How bright"),
            "bits": whole(4, 1, 8),
            "inverted": ("BOOLEAN", {"default": False}),
            # As nodes of the newer kind tell their choices.
            "style": ("COMBO", {"multiselect": False, "options": ["plain", "poster"]}),
        },
        ("IMAGE",),
        optional={"note": ("STRING", {"default": ""})},
        title="Tint (operator)",
        category="operator",
        module=MODULE,
    ),
    "OperatorPause": Node(
        pause,
        {"image": link("IMAGE"), "seconds": number(1.0, 0.0, 60.0)},
        ("IMAGE",),
        output_node=True,
        category="operator",
        module=MODULE,
    ),
    "OperatorSteps": Node(
        steps,
        {"image": link("IMAGE"), "steps": whole(4, 1, 100_000), "step_s": number(0.02, 0.0, 60.0)},
        ("IMAGE",),
        category="operator",
        module=MODULE,
    ),
    "OperatorFail": Node(
        break_down,
        {"image": link("IMAGE"), "how": (["error", "oom"], {})},
        ("IMAGE",),
        category="operator",
        module=MODULE,
    ),
    "OperatorText": Node(
        write_text,
        {"text": ("STRING", {"default": "", "multiline": True})},
        ("STRING",),
        category="operator",
        module=MODULE,
    ),
    "PreviewAny": Node(
        show_text,
        {"source": ANY},
        output_node=True,
        title="Preview as Text",
        category="utils",
        module="comfy_extras.nodes_preview_any",
    ),
}
