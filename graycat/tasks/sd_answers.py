"""Answers of image engines: their images are stored, and what the pictures tell is held against what was asked."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from graycat.bounds.stored import parse_json
from graycat.errors import EngineProtocolError
from graycat.images.made import Difference, compare, complete_info, read_made
from graycat.images.output import OutputFormat, convert
from graycat.images.replies import content_type, extract_images
from graycat.metrics import worker
from graycat.queue.models import Attempt
from graycat.worker.runtime import EngineRuntime


@dataclass(frozen=True)
class Request:
    """What an engine was sent. ``warnings``: what it does otherwise than the caller asked, as far as was known before.

    ``body`` is empty for a call that makes no picture by a prompt. ``partial``: it was interrupted. ``wish``: the
    format that the caller wants; None for the engine's own.
    """

    body: dict[str, Any] = field(default_factory=dict)
    warnings: list[Difference] = field(default_factory=list)
    partial: bool = False
    wish: OutputFormat | None = None


def store_images(runtime: EngineRuntime, attempt: Attempt, reply: bytes, took_s: float, request: Request) -> bytes:
    """Store a reply's images, as their caller wants them, and return the reply without them.

    ``took_s``: seconds that the engine rendered.

    ``info`` is a string of JSON, also of engines that write none. ``warnings`` is there if a picture is not what was
    asked for. Raises EngineProtocolError, ArtifactsUnavailable.
    """
    if not reply:
        # SD.Next answers control calls with 204 and no body.
        return b"null"
    try:
        parsed: Any = parse_json(reply)
    except ValueError:
        raise EngineProtocolError from None
    if not isinstance(parsed, dict):
        return reply
    answer, images = extract_images(parsed)
    # First: another format may hold no text.
    _tell_what_was_made(answer, images, request)
    for number, image in enumerate(images):
        wanted = image
        if request.wish is not None:
            wanted = convert(image, request.wish)
        runtime.artifacts.put(attempt.task_id, number, wanted, content_type(wanted), attempt.owner)
    attempt.made.images = len(images)
    if images:
        worker.observe_images(attempt.kind, took_s, len(images), _read_steps(parsed))
    if request.partial:
        answer["info"] = _mark_partial(answer.get("info"))
    return json.dumps(answer).encode()


def _tell_what_was_made(answer: dict[str, Any], images: list[bytes], request: Request) -> None:
    """Add ``warnings`` to an answer, and its ``info`` if the engine wrote none."""
    if not request.body:
        return
    pictures = [read_made(image) for image in images]
    if "info" in answer:
        answer["info"] = complete_info(answer["info"], pictures)
    warnings = list(request.warnings)
    if not request.partial:
        warnings += compare(request.body, pictures)
    if warnings:
        answer["warnings"] = warnings


def _read_steps(reply: dict[str, Any]) -> int:
    """Return the number of steps of an image; 0 if the reply does not tell."""
    parameters = reply.get("parameters")
    if isinstance(parameters, dict) and isinstance(parameters.get("steps"), int):
        return int(parameters["steps"])
    return 0


def _mark_partial(info: Any) -> str:
    """Return an ``info`` that tells what the engine does not: these images are not finished."""
    try:
        return json.dumps(parse_json(info) | {"partial": True})
    except (ValueError, TypeError):
        return json.dumps({"partial": True})
