"""The operator's nodes of the double (``tests/fakes/comfyui/operator_nodes.py``) for a real ComfyUI server.

Copy it into ``custom_nodes/`` of a server before the rows of ``tests/wire`` are run against that by hand. It needs
nothing of the tests; ``torch`` and ``comfy`` are the server's.
"""

from __future__ import annotations

import importlib
import threading
from typing import Any

FUNCTION = "run"
IMAGE: tuple[Any, dict[str, Any]] = ("IMAGE", {})


class Tint:
    """Change the look of pictures, in ways that each kind of widget can set."""

    RETURN_TYPES = ("IMAGE",)
    FUNCTION = FUNCTION
    CATEGORY = "operator"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:  # noqa: N802 (the server's name)
        """Return what the node takes."""
        return {
            "required": {
                "image": IMAGE,
                "gain": ("FLOAT", {"default": 1.0, "min": 0.0, "max": 4.0, "step": 0.1, "tooltip": "How bright"}),
                "bits": ("INT", {"default": 4, "min": 1, "max": 8}),
                "inverted": ("BOOLEAN", {"default": False}),
                "style": ("COMBO", {"multiselect": False, "options": ["plain", "poster"]}),
            },
            "optional": {"note": ("STRING", {"default": ""})},
        }

    def run(self, image: Any, gain: float, bits: int, *, inverted: bool, style: str, note: str = "") -> tuple[Any]:
        """Change them; ``note`` does nothing."""
        del note
        levels = 2**bits
        changed = image * gain
        if style == "poster":
            changed = (changed * levels).floor() / levels
        if inverted:
            changed = 1.0 - changed
        return (changed.clamp(0.0, 1.0),)


class Pause:
    """Take time and tell nothing: no interrupt ends it."""

    RETURN_TYPES = ("IMAGE",)
    FUNCTION = FUNCTION
    CATEGORY = "operator"
    OUTPUT_NODE = True

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:  # noqa: N802 (the server's name)
        """Return what the node takes."""
        return {"required": {"image": IMAGE, "seconds": ("FLOAT", {"default": 1.0, "min": 0.0, "max": 60.0})}}

    def run(self, image: Any, seconds: float) -> tuple[Any]:
        """Wait."""
        pause(seconds)
        return (image,)


class Steps:
    """Take time step by step, as a sampler does: an interrupt ends it."""

    RETURN_TYPES = ("IMAGE",)
    FUNCTION = FUNCTION
    CATEGORY = "operator"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:  # noqa: N802 (the server's name)
        """Return what the node takes."""
        number = ("INT", {"default": 4, "min": 1, "max": 100_000})
        return {"required": {"image": IMAGE, "steps": number, "step_s": ("FLOAT", {"default": 0.02, "max": 60.0})}}

    def run(self, image: Any, steps: int, step_s: float) -> tuple[Any]:
        """Wait step by step."""
        bar = importlib.import_module("comfy.utils").ProgressBar(steps)
        for step in range(1, steps + 1):
            pause(step_s)
            bar.update_absolute(step, steps)
        return (image,)


class Fail:
    """Raise."""

    RETURN_TYPES = ("IMAGE",)
    FUNCTION = FUNCTION
    CATEGORY = "operator"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:  # noqa: N802 (the server's name)
        """Return what the node takes."""
        return {"required": {"image": IMAGE, "how": (["error", "oom"], {})}}

    def run(self, image: Any, how: str) -> tuple[Any]:
        """Raise."""
        if how == "oom":
            raise importlib.import_module("torch").OutOfMemoryError("Allocation on device 0 (out of memory)")
        msg = f"mat1 and mat2 shapes cannot be multiplied {image.shape}"
        raise RuntimeError(msg)


class Text:
    """Give a text."""

    RETURN_TYPES = ("STRING",)
    FUNCTION = FUNCTION
    CATEGORY = "operator"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:  # noqa: N802 (the server's name)
        """Return what the node takes."""
        return {"required": {"text": ("STRING", {"default": "", "multiline": True})}}

    def run(self, text: str) -> tuple[str]:
        """Give it."""
        return (text,)


def pause(seconds: float) -> None:
    """Wait as a node does that computes: the server's thread is busy."""
    threading.Event().wait(seconds)


NODE_CLASS_MAPPINGS: dict[str, type] = {
    "OperatorTint": Tint,
    "OperatorPause": Pause,
    "OperatorSteps": Steps,
    "OperatorFail": Fail,
    "OperatorText": Text,
}
NODE_DISPLAY_NAME_MAPPINGS: dict[str, str] = {"OperatorTint": "Tint (operator)"}
