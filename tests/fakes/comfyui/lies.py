"""What no well server says: names that are paths, another prompt's history, pictures that are none, endless JSON."""

from __future__ import annotations

import copy
import itertools
import json
import struct
import zlib
from collections.abc import Iterator
from typing import Any

from tests.fakes.comfyui import hub as frames
from tests.fakes.comfyui.values import Picture


def chunk(name: bytes, content: bytes = b"") -> bytes:
    """Return a part of a PNG."""
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


HTML = b"<!DOCTYPE html><html><body><script>alert(1)</script></body></html>"
HUGE = 100 * 1024 * 1024
DEEP = 100_000
#: Socket messages of no known shape.
BROKEN_MESSAGES = (
    *("", "{", "null", "[]", "7", '"text"', '{"type": 5}', '{"type": "progress"}', '{"type": "progress", "data": []}'),
    '{"type": "status", "data": null}',
    '{"type": "\\ud800", "data": {"\\ud800": NaN}}',
    "[" * DEEP,
)
#: A picture of 60,000 x 60,000 pixels, in a few bytes.
BOMB = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)) + chunk(b"IEND")
#: So many messages come with each step.
FLOOD = 2000
#: Values that no message has.
WRONG: tuple[Any, ...] = (None, True, -1, 0, 10**400, 1e308, "x", "\ud800", [], ["5"], {}, {"a": 1})
NAMES = {
    "progress": ("node", "value", "max"),
    "progress_state": ("nodes",),
    "executing": ("display_node", "prompt_id"),
    "executed": ("node", "output"),
    "execution_cached": ("nodes",),
    "execution_start": ("timestamp",),
    "no_such_kind": ("node",),
}
#: Entries of the history that none is like.
BROKEN_ENTRIES: tuple[Any, ...] = (
    *(None, 7, "x", [], {}, {"status": None, "outputs": {}}, {"status": {}, "outputs": {}}),
    {"status": {"status_str": "success", "messages": None}, "outputs": {}},
    {"status": {"status_str": "success", "messages": [7, [], ["a"], ["a", 7]]}, "outputs": {}},
    {"status": {"status_str": 7, "messages": []}, "outputs": {}},
    {"status": {"status_str": [], "messages": []}, "outputs": {}},
    {"status": {"status_str": "success", "messages": [[[], {}]]}, "outputs": {}},
    {"status": {"status_str": "success", "messages": []}, "outputs": []},
    {"status": {"status_str": "success", "messages": []}, "outputs": {"9": 7}},
    {"status": {"status_str": "success", "messages": []}, "outputs": {"9": {"images": 7}}},
    {"status": {"status_str": "success", "messages": []}, "outputs": {"9": {"images": [7, None, []]}}},
    {"status": {"status_str": "success", "messages": []}, "outputs": {"9": {"images": [{"filename": "\ud800"}]}}},
    {"status": {"status_str": "success", "messages": []}, "outputs": {"9": {"images": [{"filename": "a" * 9999}]}}},
    {"status": {"status_str": "error", "messages": [["execution_error", 7]]}, "outputs": {}},
    {"status": {"status_str": "error", "messages": [["execution_error", {"node_id": []}]]}, "outputs": {}},
)
BROKEN_FRAMES = (b"", b"\0", b"\0\0\0\1", b"\0\0\0\4\xff\xff\xff\xff{}", b"\0\0\0\4\0\0\0\2[]no", b"\xff" * 9)


class Lies:
    """The lie that the server tells now, or None; it can be changed while the server runs."""

    def __init__(self, lie: str | None) -> None:
        self.lie = lie
        self._entries = itertools.cycle(BROKEN_ENTRIES)

    def messages(self, prompt_id: str) -> Iterator[str]:
        """Yield messages about a prompt that have wrong values."""
        if self.lie == "flood":
            said = {"prompt_id": prompt_id, "node": "5", "value": 1, "max": 4}
            yield from itertools.repeat(json.dumps({"type": "progress", "data": said}), FLOOD)
        if self.lie != "broken_messages":
            return
        for kind, names in NAMES.items():
            for name in names:
                for wrong in WRONG:
                    data = {"prompt_id": prompt_id, "node": "5", "value": 1, "max": 4} | {name: wrong}
                    yield json.dumps({"type": kind, "data": data})

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
        if self.lie == "broken_history":
            return {prompt_id: next(self._entries)}
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
        return self.image() if path == "/view" else None

    def image(self) -> bytes | None:
        """Return what is told in place of a picture, or None."""
        if self.lie == "huge_image":
            return b"\x89PNG\r\n\x1a\n" + b"\0" * 2 * HUGE
        return {"no_image": b"this is no image", "html_image": HTML, "bomb": BOMB}.get(self.lie or "")
