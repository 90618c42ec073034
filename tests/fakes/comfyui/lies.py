"""What no well server says: names that are paths, another prompt's history, pictures that are none, endless JSON."""

from __future__ import annotations

import copy
from typing import Any

from tests.fakes.comfyui import hub as frames
from tests.fakes.comfyui.values import Picture

HTML = b"<!DOCTYPE html><html><body><script>alert(1)</script></body></html>"
HUGE = 100 * 1024 * 1024
DEEP = 100_000
#: Socket messages of no known shape, and of known shapes with wrong values.
BROKEN_MESSAGES = (
    *("", "{", "null", "[]", "7", '"text"', '{"type": 5}', '{"type": "progress"}', '{"type": "progress", "data": []}'),
    '{"type": "progress", "data": {"value": "x", "max": null, "node": {}, "prompt_id": 7}}',
    '{"type": "progress", "data": {"value": 5, "max": 0, "node": "3"}}',
    '{"type": "progress_state", "data": {"nodes": []}}',
    '{"type": "executing", "data": {"node": []}}',
    '{"type": "executed", "data": {"node": "9", "output": "text"}}',
    '{"type": "status", "data": null}',
    '{"type": "\\ud800", "data": {"\\ud800": NaN}}',
)
BROKEN_FRAMES = (b"", b"\0", b"\0\0\0\1", b"\0\0\0\4\xff\xff\xff\xff{}", b"\0\0\0\4\0\0\0\2[]no", b"\xff" * 9)


class Lies:
    """The lie that the server tells now, or None; it can be changed while the server runs."""

    def __init__(self, lie: str | None) -> None:
        self.lie = lie

    def preview(self, picture: Picture, size: int) -> bytes:
        """Return a preview's bytes."""
        if self.lie == "big_preview":
            return frames.encoded(picture, size) + b"\0" * HUGE
        if self.lie == "broken_preview":
            return HTML
        return frames.encoded(picture, size)

    def outputs(self, outputs: dict[str, Any]) -> dict[str, Any]:
        """Return the outputs of a run as they are told."""
        if self.lie == "no_outputs":
            return {}
        if self.lie != "path_in_filename":
            return outputs
        told = copy.deepcopy(outputs)
        for output in told.values():
            for image in output.get("images", []):
                image |= {"filename": "../../../../etc/passwd", "subfolder": "../.."}
        return told

    def history(self, prompt_id: str, entry: dict[str, Any] | None) -> Any:
        """Return the answer to a question about one prompt."""
        if entry is None:
            return {}
        if self.lie == "other_history":
            return {f"not-{prompt_id}": entry}
        return {prompt_id: entry}

    def raw(self, path: str) -> bytes | None:
        """Return a body in place of the answer of a route, or None if that is told as it is."""
        of_history = path.startswith(("/history/", "/jobs/"))
        if self.lie == "huge_history" and of_history:
            return b'{"a": "' + b"a" * HUGE + b'"}'
        if self.lie == "deep_json" and of_history:
            return b"[" * DEEP + b"]" * DEEP
        if self.lie == "html" and (of_history or path == "/queue"):
            return HTML
        if self.lie == "no_image" and path == "/view":
            return b"this is no image"
        if self.lie == "html_image" and path == "/view":
            return HTML
        return None
