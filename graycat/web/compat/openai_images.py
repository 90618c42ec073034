"""Image APIs other than the WebUI's: graycat's ``/generate-image``, and OpenAI's ``/v1/images``."""

from __future__ import annotations

import time
from base64 import b64encode
from functools import partial
from typing import Any

from flask import Blueprint, Response, g, jsonify, request
from flask.typing import ResponseReturnValue
from werkzeug.datastructures import FileStorage

from graycat.auth.tokens import SD
from graycat.bounds.stored import parse_json
from graycat.errors import EngineProtocolError, RequestError, TaskCancelled
from graycat.images import openai_requests, webui_requests
from graycat.queue.kinds import IMG2IMG, TXT2IMG, Kind
from graycat.settings import Settings
from graycat.web.auth import scope_required, token_auth
from graycat.web.compat.image_tasks import Body, allow_large_body, run_image_task, run_in_thread
from graycat.web.compat.route import read_object
from graycat.web.limits import pixel_limit
from graycat.web.services import services

bp = Blueprint("images", __name__)
bp.before_request(allow_large_body)

#: Steps of a request that names none. The WebUI's own default of 50 takes too long for such simple requests.
DEFAULT_STEPS = 20


def _run_generation(kind: Kind, body: Body) -> tuple[Response, dict[str, Any]]:
    """Run a generation; return its response and its reply. The reply is empty unless the status is 200."""
    settings = services().settings
    max_pixels = pixel_limit()

    def check(unchecked: Body) -> Body:
        return webui_requests.check_generation(unchecked, settings, max_pixels)

    response = run_image_task(kind, body, check)
    if response.status_code != 200:
        return response, {}
    return response, parse_json(response.get_data())


@bp.post("/generate-image")
@token_auth.login_required
@scope_required(SD)
def generate_image() -> ResponseReturnValue:
    """Make one image: ``{"prompt": ..., ...}`` with any field of txt2img, answered by the image and its info."""
    body = read_object()
    if not isinstance(body.get("prompt"), str):
        raise RequestError("'prompt' is required: a string")
    generation = {"steps": DEFAULT_STEPS} | body | {"batch_size": 1, "n_iter": 1, "send_images": True}
    response, reply = _run_generation(TXT2IMG, generation)
    if not reply:
        return response
    info = _parse_info(reply.get("info"))
    if not reply.get("images"):
        if info.get("partial"):
            # It was interrupted before there was an image.
            raise TaskCancelled
        raise EngineProtocolError
    return jsonify(image_base64=reply["images"][0], info=info, task_id=g.task_id)


def _parse_info(info: Any) -> dict[str, Any]:
    try:
        return dict(parse_json(info))
    except (ValueError, TypeError):
        return {}


@bp.post("/v1/images/generations")
@token_auth.login_required
@scope_required(SD)
def generations() -> ResponseReturnValue:
    """Make images in OpenAI's form."""
    body = read_object()
    generation = openai_requests.to_txt2img(body, DEFAULT_STEPS)
    response_format = body.get("response_format")
    if response_format is None:
        response_format = "b64_json"
    return _openai_response(TXT2IMG, generation, response_format)


@bp.post("/v1/images/edits")
@token_auth.login_required
@scope_required(SD)
def edits() -> ResponseReturnValue:
    """Change an image in OpenAI's form: multipart with ``image``, ``prompt``, and ``mask`` (clear where to paint)."""
    fields = request.form.to_dict()
    files = {name.removesuffix("[]"): file for name, file in request.files.items()}
    if "image" not in files:
        raise RequestError("'image' is required: a file of multipart/form-data")
    settings = services().settings
    image = _read_base64(files["image"], settings)
    mask = None
    if "mask" in files:
        mask = _read_base64(files["mask"], settings)
    generation = run_in_thread(partial(openai_requests.to_img2img, fields, image, mask, settings, DEFAULT_STEPS))
    return _openai_response(IMG2IMG, generation, fields.get("response_format") or "b64_json")


def _read_base64(file: FileStorage, settings: Settings) -> str:
    # One byte over the limit, so that a file that is too large is refused when it is decoded.
    return b64encode(file.stream.read(settings.max_image_bytes + 1)).decode()


def _openai_response(kind: Kind, body: Body, response_format: object) -> ResponseReturnValue:
    if response_format not in ("b64_json", "url"):
        raise RequestError("'response_format' must be 'b64_json' or 'url'")
    response, reply = _run_generation(kind, body)
    if not reply:
        return response

    data = []
    # The URLs need the API token, as all other routes do.
    base_url = services().settings.public_base or request.host_url.removesuffix("/")
    for number, image in enumerate(reply.get("images", [])):
        if response_format == "url":
            data.append({"url": f"{base_url}/tasks/{g.task_id}/images/{number}"})
        else:
            data.append({"b64_json": image})
    return jsonify(created=int(time.time()), data=data, output_format="png")
