"""OpenAI's events of an image that is being made: its previews, then the image itself.

The events are ``image_generation.partial_image`` and ``image_generation.completed``, for an edit those of
``image_edit`` (OpenAI's API reference, October 2026). Previews are those that the worker asks its engine for; of an
engine that shows none there are none, and the last event alone is a valid stream.
"""

from __future__ import annotations

import json
import time
from base64 import b64encode
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from graycat.bounds.stored import parse_json
from graycat.errors import EngineProtocolError, GraycatError
from graycat.images.replies import content_type
from graycat.queue.events import PROGRESS, TaskEvent
from graycat.queue.records import TaskRecords
from graycat.storage.artifacts import ArtifactStore
from graycat.storage.errors import ArtifactsUnavailable
from graycat.web.streaming.formats import OPENAI
from graycat.web.streaming.requests import ClientDisconnected, PendingTask

#: Tokens are no measure of these engines.
_USAGE = {
    "total_tokens": 0,
    "input_tokens": 0,
    "output_tokens": 0,
    "input_tokens_details": {"text_tokens": 0, "image_tokens": 0},
}


@dataclass
class ImageStream:
    """Writes the events of one task. It runs when the request's context is gone.

    ``kind``: ``image_generation`` or ``image_edit``. ``partial_images``: the most previews that the caller wants.
    """

    pending: PendingTask
    records: TaskRecords
    artifacts: ArtifactStore
    kind: str
    size: str
    quality: str
    partial_images: int
    keepalive_s: float

    def __post_init__(self) -> None:
        self.pending.with_progress = self.partial_images > 0
        self._sent = 0
        self._last_preview = b""

    def encode(self, event: TaskEvent | None) -> Iterator[bytes]:
        """Yield the events from the first one of the task on; a keep-alive where there is none for long."""
        try:
            while event is None or event.kind == PROGRESS:
                if event is None:
                    yield OPENAI.keepalive
                else:
                    yield from self._encode_preview(event)
                event = self.pending.next_event(self.keepalive_s)
            yield from self._encode_images(event)
        except ClientDisconnected:
            return
        except GraycatError as error:
            yield OPENAI.encode_error(error)

    def _encode_preview(self, event: TaskEvent) -> Iterator[bytes]:
        """Yield a partial image if the task is far enough for the next one, and has a new preview."""
        report = _parse_object(event.data)
        progress = report.get("progress")
        if self._sent >= self.partial_images or not report.get("preview") or not isinstance(progress, int | float):
            return
        if progress < self._sent / (self.partial_images + 1):
            return
        preview = self.records.preview(self.pending.task_id)
        if not preview or preview == self._last_preview:
            return
        self._last_preview = preview
        yield self._encode("partial_image", preview, partial_image_index=self._sent)
        self._sent += 1

    def _encode_images(self, event: TaskEvent) -> Iterator[bytes]:
        """Yield each image that is finished."""
        _, body = event.answer()
        images = _parse_object(body).get("images")
        if not isinstance(images, list):
            raise EngineProtocolError
        for number in range(len(images)):
            found = self.artifacts.get(self.pending.task_id, number)
            if found is None:
                raise ArtifactsUnavailable
            yield self._encode("completed", found[1], usage=_USAGE)

    def _encode(self, name: str, image: bytes, **more: Any) -> bytes:
        event_type = f"{self.kind}.{name}"
        event = {
            "type": event_type,
            "b64_json": b64encode(image).decode(),
            "created_at": int(time.time()),
            "size": self.size,
            "quality": self.quality,
            "background": "opaque",
            "output_format": image_format(image),
            **more,
        }
        return f"event: {event_type}\ndata: {json.dumps(event)}\n\n".encode()


def image_format(image: bytes) -> str:
    """Return the name that OpenAI's API has for an image's format, told by its first bytes."""
    return content_type(image).rpartition("/")[2]


def _parse_object(data: bytes) -> dict[str, Any]:
    """Return a JSON object; an empty one for anything else, which a box may have written."""
    try:
        value = parse_json(data)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}
